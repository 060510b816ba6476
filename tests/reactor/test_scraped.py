"""What the pods behind a Service say together: any may trip, all are needed for all-is-well."""

import math
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.core.readings import Answer, Blindness, NoAnswer, Path, Reading, Verdict
from killswitch.core.stops import Boundaries
from killswitch.ports import Cluster, Json
from killswitch.reactor.engine import Engine
from killswitch.reactor.scraped import Endpoint, Source
from killswitch.reactor.watched import Identity, Watched
from killswitch.signals.series import Samples, Series
from tests.fakes.clock import FakeClock
from tests.reactor.harness import EveryQuery, policy

NAME = "running"
TRIPPED, CLEAR, UNKNOWN = Verdict.TRIPPED, Verdict.CLEAR, Verdict.UNKNOWN
TIMEOUT = NoAnswer(Blindness.TIMEOUT, "no answer within 1 s")


def signal(name: str = "load", *, interval: str = "100ms", **more: Any) -> Json:
    """A signal that trips when the metric of model=a is more than 100 in any pod of the Service."""
    scrape = {"service": "vllm", "port": 8000, "interval": interval}
    metric = {"name": NAME, "labels": {"model": "a"}, "above": "100", "scrape": scrape}
    metric |= more.pop("metric", {})
    return {"name": name, "metric": metric, "onNoData": "Hold", "maxAge": "30s", **more}


def stored(*signals: Json, uid: str = "u", generation: int = 1, **spec: Any) -> Json:
    """A policy as the API server gives it, which decides and does not act."""
    target = {"kind": "Deployment", "name": "vllm"}
    found = policy(f"runaway-{uid}", targets=[target], signals=[*signals], mode="DryRun", **spec)
    found["metadata"] |= {"uid": uid, "namespace": "prod", "generation": generation}
    return found


class Desk:
    """A started engine with one policy, whose Service has these pods. There is no API server."""

    def __init__(self, *signals: Json, pods: int = 2, **spec: Any) -> None:
        self.clock = FakeClock()
        identity = Identity("r", "r-0", "killswitch-system", Boundaries(frozenset(), "governed"))
        self.engine = Engine(cast("Cluster", object()), self.clock, EveryQuery(), identity)
        self.engine.policy_changed(stored(*(signals or (signal(),)), **spec))
        self.engine.start()
        self.source.problem = None
        self.series: dict[Any, Series] = {}
        for number in range(pods):
            self.add(f"p{number}")

    @property
    def source(self) -> Source:
        """What is scraped."""
        (found,) = self.engine.intake.scraped.sources.values()
        return found

    @property
    def policy(self) -> Watched:
        """The policy as it is judged now."""
        return self.engine.watched["u"]

    @property
    def reading(self) -> Reading:
        """What its signal says, without looking again."""
        return self.policy.readings["load"]

    def add(self, pod: str, *, required: bool = True) -> None:
        """The Service has one more pod."""
        place = {"namespace": "prod", "pod": pod, "service": "vllm"}
        self.source.endpoints[pod] = Endpoint(pod, place, required)
        self.source.look()

    def remove(self, pod: str) -> None:
        """The Service has one pod less."""
        del self.source.endpoints[pod]
        self.source.look()

    def answer(
        self, pod: str, *values: float, at: float | None = None, model: str = "a", version: int = -1
    ) -> None:
        """A pod is scraped; `at` is a timestamp of its own (seconds)."""
        source, now = self.source, self.clock.now()
        stamp = round(now * 1000)
        samples = Samples()
        for number, value in enumerate(values):
            key = (pod, number, model)
            labels = (("engine", str(number)), ("model", model))
            samples.series.append(self.series.setdefault(key, Series(NAME, labels)))
            samples.values.append(value)
            samples.timestamps.append(stamp if at is None else round(at * 1000))
        self.engine.intake.scraped.answered(
            source,
            source.endpoints[pod],
            samples,
            stamp,
            began=self.clock.monotonic(),
            version=source.version if version < 0 else version,
        )

    def fail(self, pod: str, fault: NoAnswer = TIMEOUT) -> None:
        """A scrape of it gives nothing."""
        self.engine.intake.scraped.failed(self.source, self.source.endpoints[pod], fault)

    def look(self) -> Reading:
        """What all pods say together now."""
        self.source.look()
        self.engine.due()
        return self.reading

    def poll(self, value: float, *, age: float = 0.0) -> None:
        """Prometheus answers."""
        self.engine.intake.deliver(f'{NAME}{{model="a"}}', Answer((value,), age))


async def test_all_pods_together_are_a_complete_answer() -> None:
    """Clear without any Prometheus, as soon as the last of them has answered."""
    desk = Desk()
    desk.engine.due()
    assert (desk.reading.verdict, desk.reading.reason) == (UNKNOWN, Blindness.NEVER_READ)
    desk.answer("p0", 1)
    await desk.clock.advance(0.2)
    desk.engine.due()
    assert desk.reading.reason is Blindness.NEVER_READ
    desk.answer("p1", 2, 5)
    await desk.clock.advance(0.2)
    desk.engine.due()
    assert (desk.reading.verdict, desk.reading.value, desk.reading.path) == (CLEAR, 5, Path.SCRAPE)


async def test_one_pod_trips_at_once_whatever_the_others_say() -> None:
    """Nobody is waited for; the message names the pod."""
    desk = Desk()
    desk.fail("p0")
    desk.answer("p1", 1, 500)
    assert desk.policy.tally is not None
    assert desk.policy.tally.demanded
    assert (desk.reading.verdict, desk.reading.value) == (TRIPPED, 500)
    assert desk.reading.message == "pod p1: 500 is > 100"
    assert desk.look().verdict is TRIPPED


async def test_a_pod_that_recovers_clears_at_once_unless_another_is_beyond() -> None:
    """No look in between is needed."""
    desk = Desk()
    desk.answer("p0", 500)
    desk.answer("p1", 600)
    desk.answer("p0", 1)
    assert desk.reading.message == "pod p1: 600 is > 100"
    desk.answer("p1", 1)
    assert desk.reading.verdict is CLEAR


async def test_hysteresis_is_that_of_the_poll() -> None:
    """Once tripped it stays so until every pod is back at `recoversAt`."""
    desk = Desk(signal(metric={"recoversAt": "50"}))
    desk.answer("p1", 1)
    desk.answer("p0", 80)
    assert desk.look().verdict is CLEAR
    desk.answer("p0", 101)
    desk.answer("p0", 80)
    assert desk.reading.verdict is TRIPPED
    assert desk.look().message == "pod p0: 80 is not back at 50 yet (> 100)"
    desk.answer("p0", 50)
    assert desk.reading.verdict is CLEAR


async def test_a_failed_scrape_counts_once_the_last_answer_is_old() -> None:
    """Then it is Unknown for the pod's own reason, and the pod is named."""
    desk = Desk()
    desk.answer("p0", 1)
    desk.answer("p1", 1)
    desk.fail("p1")
    assert desk.look().verdict is CLEAR
    await desk.clock.advance(30.5)
    desk.answer("p0", 1)
    found = desk.look()
    assert (found.verdict, found.reason) == (UNKNOWN, Blindness.TIMEOUT)
    assert found.message == "pod p1: no answer within 1 s"
    desk.answer("p1", 1)
    assert desk.look().verdict is CLEAR


async def test_scrapes_that_just_stop_are_stale() -> None:
    """A defect of ours is no health; not even of the value that was tripped."""
    desk = Desk()
    desk.answer("p0", 1)
    desk.answer("p1", 500)
    await desk.clock.advance(31)
    found = desk.look()
    assert (found.verdict, found.reason) == (UNKNOWN, Blindness.STALE)


@pytest.mark.parametrize(
    ("values", "reason"),
    [((), Blindness.ABSENT), ((math.nan,), Blindness.NOT_A_NUMBER), ((1, math.nan), Blindness.NOT_A_NUMBER)],
    ids=["no series", "NaN", "one NaN"],
)  # fmt: skip
async def test_a_pod_that_says_nothing_usable_is_no_health(
    values: tuple[float, ...], reason: Blindness
) -> None:
    """While another that is beyond the threshold is believed."""
    desk = Desk()
    desk.answer("p0", 1)
    desk.answer("p1", *values)
    found = desk.look()
    assert (found.verdict, found.reason) == (UNKNOWN, reason)
    desk.answer("p0", 500)
    assert desk.look().verdict is TRIPPED


@pytest.mark.parametrize("off", [-31.0, 1.5], ids=["old", "of the future"])
async def test_timestamps_of_its_own_that_are_off_neither_fire_nor_clear(off: float) -> None:
    """An exporter that repeats an old value measures nothing now."""
    desk = Desk()
    desk.answer("p1", 1)
    for value in (500, 1):
        desk.answer("p0", value, at=desk.clock.now() + off)
        assert desk.reading.verdict is UNKNOWN
        assert desk.look().reason is Blindness.STALE
    desk.answer("p0", 500, at=desk.clock.now() - 29)
    assert desk.reading.verdict is TRIPPED
    assert desk.reading.sampled_at == desk.clock.now() - 29


async def test_wall_time_that_steps_back_makes_nothing_young() -> None:
    """The age of a scrape is told by a clock that never goes backwards."""
    desk = Desk(pods=1)
    desk.answer("p0", 500)
    desk.clock._start -= 3600
    await desk.clock.advance(31)
    assert desk.look().reason is Blindness.STALE


async def test_other_series_of_the_metric_do_not_count() -> None:
    """Labels are compared as Prometheus would."""
    desk = Desk(pods=1)
    desk.answer("p0", 500, model="b")
    assert desk.look().reason is Blindness.ABSENT


async def test_a_pod_that_is_starting_or_ending_need_not_answer_but_may_trip() -> None:
    """It serves nobody; what it says counts all the same."""
    desk = Desk(pods=1)
    desk.add("starting", required=False)
    desk.answer("p0", 1)
    desk.fail("starting", NoAnswer(Blindness.UNREACHABLE, "refused"))
    assert desk.look().verdict is CLEAR
    desk.answer("starting", 500)
    assert desk.reading.verdict is TRIPPED


async def test_what_a_pod_said_goes_with_it() -> None:
    """Also when it had tripped the signal."""
    desk = Desk()
    desk.answer("p0", 500)
    desk.answer("p1", 1)
    desk.remove("p0")
    assert desk.look().verdict is CLEAR


async def test_no_pod_at_all_is_absent() -> None:
    """Nobody measures nothing: Unknown, and no pod is blamed for it."""
    desk = Desk(pods=0)
    found = desk.look()
    assert (found.verdict, found.reason) == (UNKNOWN, Blindness.ABSENT)
    assert found.message == "Service prod/vllm port 8000 has no pod"


async def test_pods_that_are_not_scraped_are_no_health() -> None:
    """The limit is reached, an address is refused: a trip is believed, all-is-well is not."""
    desk = Desk(pods=1)
    desk.source.problem = NoAnswer(Blindness.PARTIAL, "64 of 100 pods")
    desk.answer("p0", 1)
    assert (desk.look().verdict, desk.reading.reason) == (UNKNOWN, Blindness.PARTIAL)
    desk.answer("p0", 500)
    assert desk.reading.verdict is TRIPPED


async def test_with_prometheus_down_a_scrape_clears_and_without_scrapes_the_poll_does() -> None:
    """What is known outranks what is not, whoever knows it; the reason of both is steady."""
    desk = Desk(pods=1)
    query = f'{NAME}{{model="a"}}'
    down = NoAnswer(Blindness.UNREACHABLE, "Prometheus is down")
    desk.engine.intake.deliver(query, down)
    assert desk.reading.reason is Blindness.UNREACHABLE
    desk.answer("p0", 1)
    assert desk.look().verdict is CLEAR
    desk.fail("p0")
    await desk.clock.advance(31)
    reasons: set[Blindness | None] = set()
    for _ in range(3):
        desk.engine.intake.deliver(query, down)
        reasons.add(desk.reading.reason)
        reasons.add(desk.look().reason)
    assert reasons == {Blindness.UNREACHABLE}
    assert desk.reading.message == "Prometheus is down; pod p0: no answer within 1 s"
    desk.poll(1)
    assert desk.look().verdict is CLEAR


async def test_a_poll_of_older_samples_does_not_take_a_trip_back() -> None:
    """The latest sample counts."""
    desk = Desk(pods=1)
    desk.answer("p0", 500)
    desk.poll(1, age=5)
    assert desk.reading.verdict is TRIPPED


async def test_hold_down_runs_over_scrapes() -> None:
    """`for` means the same here, and a value that recovers before its end does not fire."""
    desk = Desk(signal(**{"for": "5s"}), pods=1)
    for value, demanded in ((500, False), (1, False), (500, False)):
        desk.answer("p0", value)
        desk.engine.due()
        await desk.clock.advance(4)
        desk.engine.due()
        assert desk.policy.tally is not None
        assert desk.policy.tally.demanded is demanded
    await desk.clock.advance(1)
    desk.engine.due()
    assert desk.policy.tally is not None
    assert desk.policy.tally.demanded


async def test_policies_share_what_they_want_and_the_fastest_decides() -> None:
    """One source for the same Service, port and path: all names, the shortest interval."""
    desk = Desk(pods=1)
    other = signal(interval="20ms", metric={"name": "other", "labels": {}, "above": "1"})
    desk.engine.policy_changed(stored(other, uid="v"))
    assert desk.source.names == {NAME, "other"}
    assert desk.source.interval == 0.02
    desk.engine.policy_removed(stored(other, uid="v"))
    assert desk.source.names == {NAME}
    assert desk.source.interval == 0.1
    desk.engine.policy_removed(stored(signal()))
    desk.engine.intake.scraped.prune()
    assert desk.engine.intake.scraped.sources == {}


async def test_what_was_not_asked_for_is_not_absent() -> None:
    """A scrape that was under way when a policy came cannot know; `Fire` must not take it for that."""
    desk = Desk(pods=1)
    before = desk.source.version
    desk.answer("p0", 1)
    late = signal(metric={"labels": {}}, onNoData="Fire")
    desk.engine.policy_changed(stored(late, uid="v"))
    desk.answer("p0", 1, version=before)
    desk.engine.due()
    (found,) = desk.engine.watched["v"].readings.values()
    assert found.reason is Blindness.NEVER_READ
    assert not cast("Any", desk.engine.watched["v"].tally).demanded
    desk.answer("p0", 1)
    desk.look()
    (found,) = desk.engine.watched["v"].readings.values()
    assert found.verdict is CLEAR


async def test_an_edited_policy_keeps_its_pods() -> None:
    """Nothing is asked anew for another threshold."""
    desk = Desk(pods=1)
    desk.answer("p0", 80)
    desk.engine.policy_changed(stored(signal(metric={"above": "50"}), generation=2))
    desk.engine.intake.scraped.prune()
    desk.answer("p0", 80)
    assert desk.look().verdict is TRIPPED


async def test_below_is_the_other_side() -> None:
    """The least of all pods."""
    metric = signal()["metric"]
    del metric["above"]
    low = {**signal(), "metric": {**metric, "below": "1"}}
    desk = Desk(low)
    desk.answer("p0", 5)
    desk.answer("p1", 0.5, 7)
    assert desk.reading.message == "pod p1: 0.5 is < 1"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), st.sampled_from("abc"),
                  st.sampled_from([0.0, 100.0, 100.5, 500.0, math.nan, None])),
        st.tuples(st.just("fail"), st.sampled_from("abc"), st.none()),
        st.tuples(st.just("wait"), st.none(), st.sampled_from([0.2, 10.0, 31.0])),
        st.tuples(st.just("toggle"), st.sampled_from("abc"), st.none()),
    ),
    max_size=25,
)  # fmt: skip


def expected(pods: dict[str, tuple[float, float | None]], now: float) -> Verdict:
    """The rules in four lines: who answered when, and what."""
    fresh = {pod: value for pod, (at, value) in pods.items() if now - at <= 30}
    if any(value is not None and value > 100 for value in fresh.values()):
        return TRIPPED
    sound = all(value is not None and not math.isnan(value) for value in fresh.values())
    return CLEAR if pods and len(fresh) == len(pods) and sound else UNKNOWN


@given(STEPS)
async def test_the_rules_hold_after_whatever_happened(steps: list[Any]) -> None:
    """Against a model that looks at everything each time."""
    desk = Desk(pods=0)
    pods: dict[str, tuple[float, float | None]] = {}
    for what, pod, value in steps:
        now = desk.clock.monotonic()
        match what:
            case "answer" if pod in pods:
                desk.answer(pod, *(() if value is None else (value,)))
                pods[pod] = (now, value)
                if value is not None and value > 100:
                    assert desk.reading.verdict is TRIPPED
            case "fail" if pod in pods:
                desk.fail(pod)
            case "toggle" if pod in pods:
                desk.remove(pod)
                del pods[pod]
            case "toggle":
                desk.add(pod)
                pods[pod] = (-math.inf, None)
            case "wait":
                desk.clock._passed += value
        assert desk.look().verdict is expected(pods, desk.clock.monotonic())
