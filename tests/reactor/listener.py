"""A reactor that listens on a real socket and decides, without API server: all its policies are dry runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from killswitch.adapters.clock import SystemClock
from killswitch.adapters.promql import PromqlChecker
from killswitch.api.policies import Mode
from killswitch.core.readings import Path as Way
from killswitch.core.readings import Verdict
from killswitch.core.stops import Boundaries
from killswitch.ports import Cluster, Json
from killswitch.reactor.engine import Engine
from killswitch.reactor.listening import Listening
from killswitch.reactor.numbers import Numbers
from killswitch.reactor.watched import Identity, Watched
from killswitch.signals import rules
from killswitch.signals import web as receivers
from killswitch.signals.keyfile import KeyFile
from tests.reactor.harness import policy
from tests.signals.served import KEY, TOKEN, serving

GUARDS = "a-guardrail-has-another-token"
_VLLM = {"kind": "Deployment", "name": "vllm"}
_IDENTITY = Identity("r", "r-0", "killswitch-system", Boundaries(frozenset(), "governed"))


class Listener:
    """A started engine that listens, without API server: its policies are dry runs."""

    def __init__(self, directory: Path) -> None:
        keys = directory / "keys.json"
        keys.write_text(json.dumps({"prometheus": [TOKEN], "guard": [GUARDS, KEY]}))
        clock = SystemClock()
        self.engine = Engine(cast("Cluster", object()), clock, PromqlChecker(), _IDENTITY)
        self.engine.start()
        self.numbers = Numbers(clock)
        self.listening = Listening(self.engine, clock, KeyFile(str(keys)), self.numbers)

    def expect(self, uid: str, *signals: Json, generation: int = 1) -> None:
        """A policy is added, or edited."""
        body = policy(uid, targets=[_VLLM], signals=[*signals], mode=str(Mode.DRY_RUN))
        body["metadata"] |= {"uid": uid, "namespace": "prod", "generation": generation}
        self.engine.policy_changed(body)

    def watched(self, uid: str) -> Watched:
        """One policy as it is judged now."""
        return self.engine.watched[uid]

    def verdict(self, uid: str) -> Verdict:
        """What the first signal of a policy says."""
        return next(iter(self.watched(uid).readings.values())).verdict

    def rule_file(self, interval: str) -> str:
        """The rules of all its policies."""
        found = (
            rules.measurement(signal, PromqlChecker())
            for watched in self.engine.watched.values()
            for signal in watched.policy.signals
        )
        return rules.rule_file([each for each in found if each], interval=interval)

    @property
    def silent(self) -> list[bool]:
        """Whether each expected path is silent."""
        return [each.silent for each in self.engine.intake.paths.states()]

    @property
    def silence(self) -> float | None:
        """For how long alerts have been silent, as the metric says it; None while not expected."""
        return self.engine.intake.paths.silence().get(Way.ALERT)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its address, while time passes for it."""
        ticking = asyncio.create_task(self._tick())
        try:
            async with serving(receivers.runner(self.listening.application())) as (host, port):
                yield f"{host}:{port}"
        finally:
            ticking.cancel()

    async def _tick(self) -> None:
        while True:
            self.engine.due()
            self.listening.look()
            await asyncio.sleep(0.05)


def polled(query: str, **more: Any) -> Json:
    """A polled signal; nobody polls here."""
    limits = {key: more.pop(key) for key in ("above", "below") if key in more}
    return {
        "name": "load",
        "prometheus": {"query": query, **limits},
        "onNoData": "Hold",
        **more,
    }
