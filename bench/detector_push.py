"""What a detector costs on the way from a sender to a decision: `Intake.push`, and its memory.

One policy with one signal of each kind, a thousand series, one sample of each every 15 s, none of
which trips; beside the same with a plain threshold that no sample crosses, and beside samples that
come faster than `every`, so that most are not taken.
"""

import time
import tracemalloc
from collections.abc import Iterator
from typing import Any, cast

from bench.figures import Figure, figure, median
from killswitch.adapters.promql import PromqlChecker
from killswitch.core.readings import Path, Verdict
from killswitch.core.resources import POLICIES
from killswitch.core.stops import Boundaries
from killswitch.ports import Cluster, Json
from killswitch.reactor.engine import Engine
from killswitch.reactor.watched import Identity
from killswitch.signals.series import Samples, Series

SERIES, ROUNDS, _WARM = 1000, 40, 150
_EVERY = 15.0
_THRESHOLD: Json = {"above": "1e9"}
_DETECTORS: dict[str, Json] = {
    "rate": {"limit": "1e9"},
    "absence": {"after": "5m"},
    "robustZ": {"least": "1000", "window": 60},
    "ewma": {"least": "1000"},
    "cusum": {"least": "1000"},
    "seasonal": {"least": "1000", "period": "30m", "phases": 24, "cycles": 2},
}


class _Time:
    """A clock that is set."""

    at = 1_800_000_000.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.at

    def monotonic(self) -> float:
        """The same."""
        return self.at

    async def sleep(self, seconds: float) -> None:
        """Nobody sleeps here."""


def costs() -> Iterator[Figure]:
    """Nanoseconds of one pushed sample, and bytes of one series, for each kind."""
    baseline, _ = _cost(_THRESHOLD)
    yield figure("detector_push_threshold", baseline, "ns", series=SERIES)
    for kind, parameters in _DETECTORS.items():
        judged = {"detector": {kind: parameters}}
        cost, memory = _cost(judged)
        yield figure(f"detector_push_{kind}", cost, "ns", baseline=baseline, series=SERIES)
        yield figure(f"detector_memory_{kind}", memory, "B per series", series=SERIES)
    thinned, _ = _cost({"detector": {"ewma": _DETECTORS["ewma"]}}, step=0.01)
    yield figure("detector_push_not_taken", thinned, "ns", baseline=baseline, series=SERIES)


def _cost(judged: Json, step: float = _EVERY) -> tuple[float, float]:
    """Of one warm signal that is judged like that."""
    clock = _Time()
    identity = Identity("r", "r-0", "killswitch-system", Boundaries(frozenset(), "governed"))
    engine = Engine(cast("Cluster", object()), clock, PromqlChecker(), identity)
    series = [
        Series("m", (("instance", f"10.0.0.{n}:8000"), ("pod", f"p-{n}"))) for n in range(SERIES)
    ]
    tracemalloc.start()
    engine.policy_changed(_policy(judged))
    engine.start()
    [watched] = engine.watched.values()
    for each in watched.detecting.values():
        each.begin(clock.monotonic())
    before = tracemalloc.get_traced_memory()[0]

    def push(number: int, passed: float) -> float:
        clock.at += passed
        values = [100.0 + (number * 7 + n) % 13 for n in range(SERIES)]
        samples = Samples(series, values, [round(clock.at * 1000)] * SERIES)
        started = time.perf_counter()
        engine.intake.push(samples, Path.REMOTE_WRITE)
        return time.perf_counter() - started

    for number in range(_WARM):
        push(number, _EVERY)
    memory = (tracemalloc.get_traced_memory()[0] - before) / SERIES
    tracemalloc.stop()
    seconds = median([push(number, step) for number in range(ROUNDS)])
    assert watched.readings["s"].verdict is not Verdict.TRIPPED
    return seconds / SERIES * 1e9, memory


def _policy(judged: dict[str, Any]) -> Json:
    return {
        "apiVersion": POLICIES.api_version,
        "kind": POLICIES.kind,
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {
            "mode": "DryRun",
            "owner": "bench",
            "backup": "bench",
            "targets": [{"kind": "Deployment", "name": "vllm"}],
            "signals": [{"name": "s", "metric": {"name": "m", **judged}, "onNoData": "Hold"}],
        },
    }
