"""Push trips, poll clears: what a sample that arrives by itself may decide, and what not."""

import asyncio
import math
import time
from typing import Any, cast

import pytest

from killswitch.core.readings import Answer, Blindness, NoAnswer, Path, Verdict
from killswitch.core.stops import Boundaries
from killswitch.ports import Cluster, Json
from killswitch.reactor.engine import Engine
from killswitch.reactor.watched import Identity, Watched
from killswitch.signals.series import Labels, Samples, Series
from tests.fakes.clock import FakeClock
from tests.reactor.harness import Bench, EveryQuery, eventually, policy, reactor

VLLM = {"kind": "Deployment", "name": "vllm"}
NAME = "tokens_total"
SOURCE = {"name": NAME, "labels": {"model": "a"}, "above": "100"}


def signal(name: str = "load", **more: Any) -> Json:
    """A signal that trips when the metric of model=a is more than 100."""
    return {"name": name, "metric": SOURCE, "onNoData": "Hold", "maxAge": "30s", **more}


def stored(*signals: Json, generation: int = 1, **spec: Any) -> Json:
    """A policy as the API server gives it, which decides and does not act."""
    found = policy("runaway", targets=[VLLM], signals=[*signals], mode="DryRun", **spec)
    found["metadata"] |= {"uid": "u", "namespace": "prod", "generation": generation}
    return found


def sampled(name: str, labels: Labels, value: float, at: float) -> Samples:
    """One sample of one series, as a decoder hands it on."""
    return Samples([Series(name, labels)], [value], [round(at * 1000)])


class Desk:
    """A started engine with one policy, and no API server: DryRun asks for none."""

    def __init__(self, *signals: Json, **spec: Any) -> None:
        self.clock = FakeClock()
        identity = Identity("r", "r-0", "killswitch-system", Boundaries(frozenset(), "governed"))
        self.engine = Engine(cast("Cluster", object()), self.clock, EveryQuery(), identity)
        self.engine.policy_changed(stored(*(signals or (signal(),)), **spec))
        self.engine.start()

    @property
    def policy(self) -> Watched:
        """The policy as it is judged now."""
        return self.engine.watched["u"]

    @property
    def demanded(self) -> bool:
        """Whether its quorum is met."""
        assert self.policy.tally is not None
        return self.policy.tally.demanded

    def push(self, value: float, *, age: float = 0.0, model: str = "a", name: str = NAME) -> None:
        """A sample of that age arrives."""
        labels = (("instance", "i"), ("model", model))
        sample = sampled(name, labels, value, self.clock.now() - age)
        self.engine.intake.push(sample, Path.REMOTE_WRITE)

    def poll(self, value: float, *, age: float = 0.0) -> None:
        """Prometheus answers."""
        self.engine.intake.deliver(f'{NAME}{{model="a"}}', Answer((value,), age))


def test_a_pushed_sample_trips_before_any_poll() -> None:
    """With value, sample time and path; the poll still asks the same series."""
    desk = Desk()
    assert desk.engine.intake.queries == {f'{NAME}{{model="a"}}'}
    assert desk.engine.intake.metrics == {NAME}
    desk.push(500, age=2)
    found = desk.policy.readings["load"]
    assert desk.demanded
    assert (Verdict.TRIPPED, 500.0, desk.clock.now() - 2, Path.REMOTE_WRITE) == (
        found.verdict,
        found.value,
        found.sampled_at,
        found.path,
    )


@pytest.mark.parametrize(
    "sample",
    [
        {"value": 100},
        {"value": math.nan},
        {"value": 500, "age": 30.1},
        {"value": 500, "age": -1.1},
        {"value": 500, "model": "b"},
        {"value": 500, "name": "other"},
    ],
    ids=["not beyond", "NaN or ended", "old", "of the future", "other labels", "other metric"],
)
def test_what_proves_nothing_changes_nothing(sample: dict[str, Any]) -> None:
    """The signal stays as the poll left it."""
    desk = Desk()
    desk.push(**sample)
    assert not desk.demanded
    assert desk.policy.readings["load"].reason is Blindness.NEVER_READ


def test_a_pushed_sample_below_the_threshold_does_not_clear() -> None:
    """One series that is well says nothing about the others."""
    desk = Desk()
    desk.poll(500)
    desk.push(1)
    assert desk.demanded


def test_a_sample_older_than_what_the_poll_has_seen_does_not_fire() -> None:
    """A sender that catches up tells what was, not what is."""
    desk = Desk()
    desk.poll(1, age=1)
    desk.push(500, age=2)
    assert not desk.demanded
    desk.push(500, age=0.5)
    assert desk.demanded


async def test_a_poll_of_older_samples_or_a_failed_one_does_not_take_a_trip_back() -> None:
    """A newer sample does; without one, the trip lasts as long as its sample is fresh."""
    desk = Desk()
    desk.push(500)
    desk.poll(1, age=3)
    assert desk.demanded
    failed = NoAnswer(Blindness.TIMEOUT, "no answer")
    desk.engine.intake.deliver(f'{NAME}{{model="a"}}', failed)
    assert desk.demanded
    await desk.clock.advance(31)
    desk.engine.intake.deliver(f'{NAME}{{model="a"}}', failed)
    assert not desk.demanded
    desk.push(500)
    await desk.clock.advance(1)
    desk.poll(1)
    assert not desk.demanded


async def test_what_nobody_says_again_is_not_believed_for_ever() -> None:
    """Polls that neither answer nor fail are a defect; then nothing is known."""
    desk = Desk(signal(**{"for": "40s"}))
    desk.push(500)
    await desk.clock.advance(29)
    desk.engine.due()
    assert desk.policy.readings["load"].verdict is Verdict.TRIPPED
    await desk.clock.advance(12)
    desk.engine.due()
    found = desk.policy.readings["load"]
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, Blindness.STALE)
    assert not desk.demanded


async def test_a_clock_that_is_set_neither_shortens_nor_stretches_the_hold_down() -> None:
    """It runs in elapsed time, whatever NTP does."""
    for step in (-3600.0, 3600.0):
        desk = Desk(signal(**{"for": "20s"}))
        desk.poll(500)
        desk.clock.set_back(step)
        desk.poll(500)
        desk.engine.due()
        assert not desk.demanded
        await desk.clock.advance(19)
        desk.poll(500)
        assert not desk.demanded
        await desk.clock.advance(1)
        desk.poll(500)
        assert desk.demanded


def test_a_trip_from_before_the_clock_was_set_back_yields_to_the_next_poll() -> None:
    """Its sample seems to be of the future: the newest for an hour, if that were believed."""
    desk = Desk()
    desk.push(500)
    desk.clock.set_back(3600)
    desk.poll(1)
    assert not desk.demanded


async def test_hysteresis_and_keep_firing_reach_the_vote() -> None:
    """`recoversAt` and `keepFiringFor` in a policy do what they say."""
    desk = Desk(signal(metric=SOURCE | {"recoversAt": "50"}, keepFiringFor="10s"))
    said = []
    for value in (60, 500, 60, 50):
        desk.poll(value)
        said.append(desk.policy.readings["load"].verdict)
    assert said == [Verdict.CLEAR, Verdict.TRIPPED, Verdict.TRIPPED, Verdict.CLEAR]
    assert desk.demanded
    await desk.clock.advance(10)
    desk.poll(50)
    assert not desk.demanded


async def test_hold_down_runs_from_the_pushed_sample() -> None:
    """`for` holds for pushed samples as for polled ones."""
    desk = Desk(signal(**{"for": "5s"}))
    desk.push(500)
    assert not desk.demanded
    await desk.clock.advance(5)
    desk.engine.due()
    assert desk.demanded


def test_a_sample_trips_every_signal_that_names_its_metric() -> None:
    """Two of two, by one sample; and nothing of a policy that is gone."""
    low = {"name": NAME, "above": "400"}
    desk = Desk(signal("a"), signal("b", metric=low), quorum=2)
    desk.push(300)
    assert not desk.demanded
    desk.push(500)
    assert desk.demanded
    desk.engine.policy_removed(stored(signal()))
    desk.push(500)
    assert desk.engine.intake.metrics == frozenset()


def test_an_edited_policy_takes_other_samples() -> None:
    """The old form asks for nothing any more."""
    desk = Desk()
    other = {"name": "other", "above": "1"}
    desk.engine.policy_changed(stored(signal(metric=other), generation=2))
    assert desk.engine.intake.metrics == {"other"}
    desk.push(500)
    assert not desk.demanded
    desk.push(500, name="other")
    assert desk.demanded


@pytest.mark.cluster
async def test_a_pushed_sample_stops_models_and_says_how_it_came(setting: Bench) -> None:
    """Prometheus knows nothing yet: the sample alone fires, and the evidence names its path."""
    await setting.deployment("vllm", 1)
    await setting.policy("runaway", targets=[VLLM], signals=[signal()])
    async with reactor(setting) as running:
        await asyncio.sleep(0.3)  # some polls, each of which says Absent
        assert await setting.shutdowns() == []
        sample = sampled(NAME, (("model", "a"),), 500, time.time() - 1)
        running.engine.intake.push(sample, Path.REMOTE_WRITE)
        await setting.stopped("runaway-1")
        evidence = await eventually(setting.evidence)
    vote = evidence["signals"][0]
    expected = ("load", "Tripped", "500", "> 100", f'{NAME}{{model="a"}}', "remote_write")
    found = ("name", "verdict", "value", "threshold", "query", "path")
    assert expected == tuple(vote[each] for each in found)


async def test_one_lost_poll_does_not_end_the_hysteresis() -> None:
    """Otherwise a value between the two limits would be taken for recovery."""
    desk = Desk(signal(metric=SOURCE | {"recoversAt": "50"}))
    desk.poll(500)
    desk.engine.intake.deliver(f'{NAME}{{model="a"}}', NoAnswer(Blindness.TIMEOUT, "no answer"))
    assert desk.policy.readings["load"].verdict is Verdict.UNKNOWN
    desk.poll(80)
    assert desk.demanded
    desk.engine.policy_changed(stored(signal(metric=SOURCE | {"recoversAt": "50"}), generation=2))
    desk.poll(80)
    assert desk.demanded
    desk.poll(50)
    assert not desk.demanded


async def test_what_changes_by_time_is_judged_in_turns_too() -> None:
    """A thousand hold-downs that end at once must not keep the first lock's bytes back."""
    desk = Desk(signal(**{"for": "2s"}))
    engine = desk.engine
    for number in range(100):
        body = stored(signal(**{"for": "2s"}))
        body["metadata"] |= {"uid": str(number), "name": f"p{number}"}
        engine.policy_changed(body)
    desk.push(500)
    await asyncio.sleep(0.05)
    await desk.clock.advance(2)
    engine.due()

    def demanded() -> int:
        return sum(bool(each.tally and each.tally.demanded) for each in engine.watched.values())

    assert 0 < demanded() < 100
    async with asyncio.timeout(5):
        while demanded() < 101:
            await asyncio.sleep(0)
