"""The drain of a graceful stop, second by second: what ends it, and what does not prolong it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from killswitch.core import times
from killswitch.core.grace import Grace
from killswitch.core.readings import Answer, Blindness, NoAnswer
from killswitch.core.resources import PODS, Resource
from killswitch.core.stops import Stop
from killswitch.ports import Cluster, Json, Page, SignalSource
from killswitch.reactor import draining
from killswitch.reactor.draining import Draining
from killswitch.reactor.engine import Engine
from killswitch.reactor.shared import SharedLists
from killswitch.reactor.stop import Outcome, Run
from tests.fakes.clock import FakeClock
from tests.reactor.harness import EveryQuery, policy
from tests.reactor.test_events import IDENTITY

SHUTDOWN: Json = {"kind": "Shutdown", "metadata": {"name": "s", "uid": "0123456789"}, "spec": {}}
POD = {"metadata": {"name": "p", "namespace": "prod", "uid": "p"}, "spec": {}}
FRESH = 0.1
TERMS = Grace(60.0, 30.0, "running")


@dataclass
class Place:
    """An API server with one pod, no Service and no InferencePool."""

    pods: list[Json] = field(default_factory=lambda: [POD])

    async def list(self, resource: Resource, namespace: str = "", **_: Any) -> Page:
        """What there is of it."""
        return Page(self.pods if resource == PODS else [], "1")


@dataclass
class Scripted:
    """A signal source that gives one answer after the other; the last one for ever."""

    answers: list[Answer | NoAnswer]
    asked: int = 0

    async def measure(self, query: str) -> Answer | NoAnswer:
        """The next."""
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def recall(self, query: str, span: float, step: float) -> Sequence[Answer]:
        """Nothing."""
        return ()


class Hanging(Scripted):
    """A signal source that never answers."""

    async def measure(self, query: str) -> Answer | NoAnswer:
        """Never."""
        await asyncio.Event().wait()
        raise AssertionError


@dataclass
class Scene:
    """One graceful stop of prod, engaged until the test says otherwise."""

    source: SignalSource | None = None
    terms: Grace = TERMS
    clock: FakeClock = field(default_factory=FakeClock)
    place: Place = field(default_factory=Place)
    engaged: bool = True
    told: list[float] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)

    def start(self, within: float = 1000.0) -> "asyncio.Task[bool]":
        """Begin to drain."""
        lists = SharedLists(cast("Cluster", self.place))
        drain = Draining(lists, self.clock, self.source, self._holds)
        run = Run(
            SHUTDOWN,
            [Stop("prod", whole_namespace=True)],
            self.outcome,
            self.clock.monotonic() + within,
            self.clock,
            told=self._tell,
        )
        return asyncio.create_task(drain.drain(run, self.terms))

    async def _holds(self, shutdown: Json, outcome: Outcome) -> bool:
        return self.engaged

    async def _tell(self) -> None:
        self.told.append(self.clock.now())

    @property
    def took(self) -> float:
        """Seconds from the cut to the end of the drain."""
        return self.outcome.stages["drained"] - self.outcome.stages["cut"]


async def ended(scene: Scene, task: "asyncio.Task[bool]", seconds: float) -> bool:
    """Whether it is over after so many seconds."""
    for _ in range(round(seconds * 2)):
        await scene.clock.advance(0.5)
    return task.done()


async def test_two_looks_in_a_row_must_see_nothing() -> None:
    """One 0 between two requests is the gap between them."""
    zero, one = Answer((0.0,), FRESH), Answer((1.0,), FRESH)
    late = NoAnswer(Blindness.TIMEOUT, "late")
    scene = Scene(Scripted([one, zero, one, zero, late, zero, zero]))
    task = scene.start()
    assert not await ended(scene, task, 5)
    assert await ended(scene, task, 3)
    assert task.result()
    assert scene.took < 10


async def test_without_an_answer_it_lasts_its_time_and_no_longer() -> None:
    """Whether nobody asks, or nobody answers."""
    for source in (None, Scripted([NoAnswer(Blindness.ABSENT, "none")])):
        scene = Scene(source)
        task = scene.start()
        assert not await ended(scene, task, 59)
        assert await ended(scene, task, 2)
        assert scene.outcome.in_flight.startswith("unknown: ")
        assert scene.took == pytest.approx(60.0, abs=1.0)


async def test_a_query_that_hangs_prolongs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is cut off."""
    monkeypatch.setattr(draining, "_ASKED", 0.01)
    scene = Scene(Hanging([]), Grace(3.0, 30.0, "running"))
    task = scene.start()
    deadline = time.monotonic() + 10
    while not task.done() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
        await scene.clock.advance(1.0)
    assert task.result()
    assert scene.outcome.in_flight == "unknown: Timeout"


async def test_a_wall_clock_that_is_set_back_prolongs_nothing() -> None:
    """It is waited for in elapsed time."""
    scene = Scene()
    task = scene.start()
    assert not await ended(scene, task, 30)
    scene.clock.set_back(3600)
    assert await ended(scene, task, 32)


async def test_the_cut_is_stored_before_anything_is_waited_for() -> None:
    """Or the next reactor would begin the wait anew."""
    scene = Scene()
    task = scene.start()
    await scene.clock.advance(0.0)
    assert scene.told == [scene.outcome.stages["cut"]]
    assert not task.done()
    task.cancel()


async def test_who_comes_later_waits_for_what_is_left() -> None:
    """From the moments that are stored, whoever stored them."""
    scene = Scene()
    stored = times.text(scene.clock.now() - 50)
    draining.recall({**SHUTDOWN, "status": {"stages": {"cut": stored}}}, scene.outcome)
    task = scene.start()
    assert not await ended(scene, task, 9)
    assert await ended(scene, task, 2)
    assert scene.told == [scene.outcome.stages["drained"]]
    again = Scene(outcome=scene.outcome)
    assert await again.start()


async def test_it_ends_with_the_last_pod() -> None:
    """Somebody else has ended them."""
    scene = Scene()
    task = scene.start()
    assert not await ended(scene, task, 5)
    scene.place.pods = []
    assert await ended(scene, task, 2)
    assert task.result()


async def test_what_is_released_is_not_drained_to_its_end() -> None:
    """Nothing may be deleted after it."""
    scene = Scene()
    task = scene.start()
    scene.engaged = False
    assert await ended(scene, task, 2)
    assert not task.result()
    assert "drained" not in scene.outcome.stages


async def test_a_round_that_is_over_goes_on_in_the_next_one() -> None:
    """So that what is left is reported meanwhile."""
    scene = Scene()
    task = scene.start(within=5)
    assert await ended(scene, task, 6)
    assert not task.result()
    task = scene.start()
    assert not await ended(scene, task, 50)
    assert await ended(scene, task, 6)


def test_the_kinds_that_policies_name_are_counted_when_one_changes() -> None:
    """With ten thousand of them, between two changes they are only handed out."""
    engine = Engine(cast("Cluster", object()), FakeClock(), EveryQuery(), IDENTITY)
    body = policy("p", targets=[{"kind": "Job", "name": "a"}])
    body["metadata"] |= {"uid": "u", "namespace": "prod", "generation": 1}
    engine.policy_changed(body)
    first = engine.kinds
    assert first == {"Job"}
    assert engine.kinds is first
    engine.policy_removed(body)
    assert engine.kinds == frozenset()
