"""Signals that count events: whose count where, what time changes, what silence means."""

import time
from typing import Any, cast

import pytest

from killswitch.core.readings import Blindness, Path, Verdict
from killswitch.core.stops import Boundaries
from killswitch.core.switch import State
from killswitch.ports import Cluster, Json
from killswitch.reactor.engine import Engine
from killswitch.reactor.watched import Identity, Watched
from killswitch.signals.events import Event
from tests.fakes.clock import FakeClock
from tests.reactor.harness import Bench, EveryQuery, eventually, policy, reactor

VLLM = {"kind": "Deployment", "name": "vllm"}
IDENTITY = Identity("r", "r-0", "killswitch-system", Boundaries(frozenset(), "governed"))


def signal(name: str = "misuse", **more: Any) -> Json:
    """A signal that counts jailbreaks; `event` changes how."""
    source = {"type": "guardrail.jailbreak", "source": "guard", **more.pop("event", {})}
    return {"name": name, "event": source, "onNoData": "Hold", **more}


class Desk:
    """A started engine with one policy, and no API server: DryRun asks for none."""

    def __init__(self, *signals: Json, hears_events: bool = True) -> None:
        self.clock = FakeClock()
        self.engine = Engine(
            cast("Cluster", object()),
            self.clock,
            EveryQuery(),
            IDENTITY,
            hears_events=hears_events,
        )
        self.change(*(signals or (signal(),)))
        self.engine.start()

    def change(self, *signals: Json, generation: int = 1) -> None:
        """The policy is added, or edited."""
        body = policy("misuse", targets=[VLLM], signals=[*signals], mode="DryRun")
        body["metadata"] |= {"uid": "u", "namespace": "prod", "generation": generation}
        self.engine.policy_changed(body)

    @property
    def policy(self) -> Watched:
        """The policy as it is judged now."""
        return self.engine.watched["u"]

    @property
    def demanded(self) -> bool:
        """Whether its quorum is met."""
        assert self.policy.tally is not None
        return self.policy.tally.demanded

    def post(self, *, age: float = 0.0, **fields: Any) -> None:
        """An event arrives."""
        now = self.clock.now()
        known: dict[str, Any] = {"type": "guardrail.jailbreak", "source": "guard", "id": "n-1"}
        self.engine.intake.hear(Event(**{**known, **fields}, time=now - age, received_at=now))

    async def wait(self, seconds: float) -> None:
        """Time passes, and the reactor looks at what changes by it."""
        await self.clock.advance(seconds)
        self.engine.due()


async def test_an_event_trips_at_once_and_time_clears_it() -> None:
    """No poll, no query; the window is a minute unless it says otherwise."""
    desk = Desk()
    assert desk.engine.intake.queries == set()
    assert desk.policy.readings["misuse"].verdict is Verdict.CLEAR
    desk.post()
    assert desk.demanded
    assert desk.policy.readings["misuse"].path is Path.EVENT
    await desk.wait(59)
    assert desk.demanded
    await desk.wait(2)
    assert not desk.demanded
    assert desk.policy.state is State.ARMED


@pytest.mark.parametrize(
    ("fields", "demanded"),
    [
        ({"type": "other"}, False),
        ({"source": "somebody"}, False),
        ({"namespace": "staging"}, False),
        ({"namespace": "prod"}, True),
        ({"age": 61.0}, False),
        ({"age": 59.0}, True),
        ({"age": -20.0}, True),
    ],
)
def test_which_events_count(fields: dict[str, Any], demanded: bool) -> None:
    """By type, source, namespace where it has one, and age on arrival."""
    desk = Desk()
    desk.post(**fields)
    assert desk.demanded is demanded


async def test_so_many_within_the_window() -> None:
    """Three within ten seconds, sent one by one or as a count."""
    desk = Desk(signal(event={"atLeast": 3, "within": "10s"}))
    desk.post()
    desk.post(count=1)
    await desk.wait(11)
    desk.post()
    desk.post()
    assert not desk.demanded
    desk.post()
    assert desk.demanded


async def test_a_silent_source_is_unknown_and_fires_where_the_policy_says_so() -> None:
    """Not before it could have been heard: a start is no silence."""
    desk = Desk(signal(event={"heartbeat": "30s"}, onNoData="Fire"))
    await desk.wait(29)
    assert not desk.demanded
    desk.post(type="heartbeat")
    await desk.wait(29)
    assert desk.policy.readings["misuse"].verdict is Verdict.CLEAR
    await desk.wait(2)
    assert desk.policy.readings["misuse"].reason is Blindness.SILENT
    assert desk.demanded
    desk.post(type="heartbeat", namespace="staging")
    assert not desk.demanded


async def test_windows_outlive_an_edit_of_something_else() -> None:
    """An edit must not forget what was counted; another rule counts anew."""
    desk = Desk(signal(event={"atLeast": 2}))
    desk.post()
    desk.change(signal(event={"atLeast": 2}, onNoData="Alert"), generation=2)
    desk.post()
    assert desk.demanded
    desk.change(signal(event={"atLeast": 3}), generation=3)
    assert not desk.demanded


async def test_reading_goes_on_while_nothing_is_sent() -> None:
    """Its time in the status shows that somebody listens."""
    desk = Desk()
    await desk.wait(5)
    assert desk.policy.readings["misuse"].read_at == desk.clock.now()


def test_without_a_receiver_nothing_is_known() -> None:
    """That nobody can tell is not that nothing happened."""
    desk = Desk(hears_events=False)
    found = desk.policy.readings["misuse"]
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, Blindness.SILENT)


@pytest.mark.cluster
async def test_events_stop_models(setting: Bench) -> None:
    """The evidence says how many, of what, by which path."""
    await setting.deployment("vllm", 1)
    await setting.policy("misuse", targets=[VLLM], signals=[signal()])
    async with reactor(setting) as running:
        now = time.time()
        running.engine.intake.hear(
            Event("guardrail.jailbreak", "guard", "n-7", now, now, setting.namespace)
        )
        await setting.stopped("misuse-1")
        evidence = await eventually(setting.evidence)
    vote = evidence["signals"][0]
    message = "at least 1 guardrail.jailbreak within 60 s, 1 trip; the last n-7 from guard"
    expected = ("misuse", "Tripped", "1", "> 0", "event", message)
    found = ("name", "verdict", "value", "threshold", "path", "message")
    assert expected == tuple(vote[each] for each in found)


async def test_a_clock_that_is_set_loses_no_event_and_hides_no_silence() -> None:
    """Windows and heartbeats run in elapsed time."""
    desk = Desk(signal(event={"within": "1m", "heartbeat": "30s"}))
    desk.post()
    desk.clock.set_back(-3600)
    await desk.wait(1)
    assert desk.demanded
    desk.clock.set_back(7200)
    await desk.wait(60)
    found = desk.policy.readings["misuse"]
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, Blindness.SILENT)
