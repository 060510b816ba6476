"""Signals with a detector: what is learned, from which path, and what the worst series decides."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.core.readings import Answer, Blindness, Labels, NoAnswer, Path, Reading, Verdict
from killswitch.ports import Json
from killswitch.reactor import detecting
from killswitch.reactor.detecting import Detecting
from killswitch.reactor.recalling import Recaller
from killswitch.signals.alerts import FIRE, Alert, PolicyReference
from killswitch.signals.episodes import Arrival
from killswitch.signals.series import ENDED, Samples, Series
from tests.fakes.clock import FakeClock
from tests.fakes.signal_source import FakeSignalSource
from tests.reactor.test_push import NAME, Desk, signal, stored

TRIPPED, CLEAR, UNKNOWN = Verdict.TRIPPED, Verdict.CLEAR, Verdict.UNKNOWN
EWMA = {"ewma": {"least": "10", "warmUp": 10}, "every": "1s"}
A: Labels = (("model", "a"), ("pod", "p-1"))
B: Labels = (("model", "a"), ("pod", "p-2"))


def watched(detector: Json = EWMA, **more: Any) -> Json:
    """A signal of the metric of model=a with a detector."""
    source = {"name": NAME, "labels": {"model": "a"}, "detector": detector}
    return signal(metric=source, **more)


def answer(values: dict[Labels, float], at: float, age: float = 0.0, *warnings: str) -> Answer:
    """What Prometheus answers at a moment, of samples of that age."""
    series = tuple((("__name__", NAME), *labels) for labels in values)
    return Answer((*values.values(),), age, warnings, series, at)


class Watch(Desk):
    """A started engine with one policy, whose signal has a detector that has begun."""

    def __init__(self, *signals: Json, begun: bool = True, **spec: Any) -> None:
        super().__init__(*(signals or (watched(),)), **spec)
        if begun:
            for each in self.policy.detecting.values():
                each.begin(self.clock.monotonic())

    @property
    def reading(self) -> Reading:
        """What the first signal says."""
        return next(iter(self.policy.readings.values()))

    @property
    def detecting(self) -> Detecting:
        """The detectors of the first signal."""
        return next(iter(self.policy.detecting.values()))

    def says(self) -> tuple[Verdict, Blindness | None]:
        """Verdict and reason of the first signal."""
        return self.reading.verdict, self.reading.reason

    def polled(self, values: dict[Labels, float], *, age: float = 0.0) -> None:
        """Prometheus answers these series."""
        found = answer(values, self.clock.now(), age)
        self.engine.intake.deliver(f'{NAME}{{model="a"}}', found)

    def pushed(self, value: float, labels: Labels = A, *, age: float = 0.0) -> None:
        """A sample of a series arrives by remote write."""
        timestamp = round((self.clock.now() - age) * 1000)
        samples = Samples([Series(NAME, labels)], [value], [timestamp], ends=value is ENDED)
        self.engine.intake.push(samples, Path.REMOTE_WRITE)

    async def calm(self, count: int = 12, *labels: Labels) -> None:
        """So many seconds with a poll of about 100 in each."""
        for number in range(count):
            await self.clock.advance(1)
            self.polled(dict.fromkeys(labels or (A,), 100.0 + number % 3))


async def test_a_jump_trips_and_what_was_usual_does_not() -> None:
    """The reading has the detector's own sentence, the value, and the time of the sample."""
    desk = Watch()
    await desk.calm()
    assert desk.says() == (CLEAR, None)
    await desk.clock.advance(2)
    desk.polled({A: 500.0}, age=0.25)
    assert desk.demanded
    assert desk.reading.value == 500.0
    assert desk.reading.sampled_at == desk.clock.now() - 0.25
    assert "500 is " in desk.reading.message
    assert "deviations from the smoothed 101" in desk.reading.message
    assert 'allowed 6 ({model="a",pod="p-1"})' in desk.reading.message


async def test_a_pushed_jump_trips_before_the_next_poll_and_the_poll_clears() -> None:
    """Push trips, poll clears, as for thresholds."""
    desk = Watch()
    await desk.calm()
    await desk.clock.advance(1)
    desk.pushed(500.0)
    assert desk.demanded
    assert desk.reading.path is Path.REMOTE_WRITE
    await desk.clock.advance(1)
    desk.pushed(100.0)
    assert desk.demanded
    desk.polled({A: 100.0})
    assert not desk.demanded


async def test_what_is_seen_twice_is_learned_once() -> None:
    """Polled again, or pushed and polled: one sample of each series in each stretch of time."""
    desk = Watch()
    for _ in range(9):
        await desk.clock.advance(1)
        desk.pushed(100.0)
        for _ in range(5):
            desk.polled({A: 100.0})
    assert desk.says() == (UNKNOWN, Blindness.WARMING_UP)
    assert desk.reading.message.startswith("8 of 10 samples seen")


async def test_a_poll_of_the_same_sample_is_not_learned_again() -> None:
    """Its own time counts, not that of the poll."""
    desk = Watch()
    desk.polled({A: 100.0})
    for age in range(1, 25):
        await desk.clock.advance(1)
        desk.polled({A: 100.0}, age=age)
    assert desk.reading.message.startswith("the first sample")


@pytest.mark.parametrize("on_no_data", ["Hold", "Fire", "Alert"])
async def test_warming_up_never_votes(on_no_data: str) -> None:
    """Not even where no data means fire, whatever the values do; and it says how much is missing."""
    desk = Watch(watched(onNoData=on_no_data))
    for number in range(10):
        await desk.clock.advance(1)
        desk.polled({A: 10.0 ** (number % 5)})
        desk.pushed(1e9, A)
        assert desk.says() == (UNKNOWN, Blindness.WARMING_UP)
        assert not desk.demanded


async def test_the_worst_series_decides() -> None:
    """One of two is unusual: Tripped, and the sentence names it; one warms up: Unknown."""
    desk = Watch()
    await desk.calm(12, A, B)
    await desk.clock.advance(1)
    desk.polled({A: 100.0, B: 500.0})
    assert desk.demanded
    assert desk.reading.message.endswith('({model="a",pod="p-2"}), 1 of 2 series')
    await desk.clock.advance(1)
    new: Labels = (("model", "a"), ("pod", "p-3"))
    desk.polled({A: 100.0, B: 100.0, new: 100.0})
    assert desk.says() == (UNKNOWN, Blindness.WARMING_UP)
    assert desk.reading.message.endswith('({model="a",pod="p-3"}), 1 of 3 series')


async def test_a_series_that_has_ended_decides_nothing() -> None:
    """Its pod is gone: neither its trip nor its silence counts."""
    desk = Watch()
    await desk.calm(12, A, B)
    await desk.clock.advance(1)
    desk.polled({A: 100.0, B: 500.0})
    assert desk.demanded
    await desk.clock.advance(1)
    desk.polled({A: 100.0})
    assert desk.says() == (CLEAR, None)
    desk.pushed(500.0, B)
    await desk.clock.advance(1)
    desk.pushed(500.0, B)
    desk.pushed(ENDED, B)
    desk.polled({A: 100.0})
    assert desk.says() == (CLEAR, None)


async def test_a_series_that_comes_back_is_still_known() -> None:
    """One failed scrape ends every series of its target; that costs no warm-up."""
    desk = Watch()
    await desk.calm()
    desk.pushed(ENDED)
    await desk.clock.advance(2)
    desk.polled({A: 100.0})
    assert desk.says() == (CLEAR, None)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (NoAnswer(Blindness.TIMEOUT, "no answer"), Blindness.TIMEOUT),
        (Answer((), None, (f"no series of {NAME}",)), Blindness.ABSENT),
        (answer({A: 500.0}, 0.0, 31.0), Blindness.STALE),
        (answer({A: 500.0}, 0.0, 0.0, "store a is down"), Blindness.PARTIAL),
        (answer({A: math.nan}, 1_800_000_013.0), Blindness.NOT_A_NUMBER),
    ],
    ids=["no answer", "no series", "old", "partial", "NaN"],
)
async def test_faults_are_unknown_and_teach_nothing(
    found: Answer | NoAnswer, reason: Blindness
) -> None:
    """Each with its reason; the next good poll knows what is usual."""
    desk = Watch()
    await desk.calm()
    await desk.clock.advance(1)
    desk.engine.intake.deliver(f'{NAME}{{model="a"}}', found)
    assert desk.says() == (UNKNOWN, reason)
    await desk.calm(1)
    assert desk.says() == (CLEAR, None)


async def test_a_failed_poll_does_not_take_a_pushed_trip_back() -> None:
    """What arrives by itself counts while it is fresh."""
    desk = Watch()
    await desk.calm()
    await desk.clock.advance(1)
    desk.pushed(500.0)
    failed = NoAnswer(Blindness.TIMEOUT, "no answer")
    desk.engine.intake.deliver(f'{NAME}{{model="a"}}', failed)
    assert desk.demanded
    await desk.clock.advance(31)
    desk.engine.intake.deliver(f'{NAME}{{model="a"}}', failed)
    assert desk.says() == (UNKNOWN, Blindness.TIMEOUT)


@pytest.mark.parametrize("age", [30.1, 400.0, -1.1])
async def test_replays_and_samples_of_the_future_are_not_learned(age: float) -> None:
    """A sender that catches up would look like time running backwards."""
    desk = Watch()
    await desk.calm()
    for _ in range(3):
        desk.pushed(1e6, age=age)
        await desk.clock.advance(1)
        desk.polled({A: 100.0})
        assert desk.says() == (CLEAR, None)


async def test_hold_down_and_kept_votes_apply() -> None:
    """`for` and `keepFiringFor` are the quorum's, for every kind of signal."""
    times: dict[str, Any] = {"for": "2s", "keepFiringFor": "5s"}
    desk = Watch(watched(**times))
    await desk.calm()
    for _ in range(3):
        assert not desk.demanded
        await desk.clock.advance(1)
        desk.polled({A: 900.0})
    assert desk.demanded
    await desk.calm(1)
    assert (desk.reading.verdict, desk.demanded) == (CLEAR, True)


async def test_more_series_than_can_be_remembered_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told in words; those that are known may still trip, and those that ended make room."""
    monkeypatch.setattr(detecting, "MOST_SERIES", 10)
    desk = Watch()
    many: list[Labels] = [(("model", "a"), ("pod", f"p-{number}")) for number in range(11)]
    await desk.calm(12, *many[:10])
    assert desk.says() == (CLEAR, None)
    await desk.calm(1, *many)
    assert desk.says() == (UNKNOWN, Blindness.FAILED)
    assert desk.reading.message == "more than the 10 series that it can remember; aggregate"
    await desk.clock.advance(1)
    desk.polled({**dict.fromkeys(many, 100.0), many[3]: 500.0})
    assert desk.demanded
    for _ in range(75):
        await desk.calm(1, *many[1:])
    assert desk.says() == (CLEAR, None)


async def test_a_detector_that_remembers_much_has_fewer_series() -> None:
    """A week of hours for each of a thousand series would be 70 MB for one signal."""
    seasonal = {"seasonal": {"least": "1", "period": "168h", "phases": 168}, "every": "1s"}
    desk = Watch(watched(seasonal))
    await desk.calm(1, *((("pod", str(number)),) for number in range(103)))
    assert desk.reading.message.startswith("more than the 102 series")


async def test_an_alert_does_not_decide_for_a_detector() -> None:
    """Rules compare with thresholds; there is none here."""
    desk = Watch()
    now = desk.clock.now()
    reference = PolicyReference("u", 1, "load")
    found = Alert(FIRE, (("alertname", FIRE),), 500.0, now, now + 4, reference)
    assert desk.engine.intake.alerts.take(found) is Arrival.UNKNOWN_SIGNAL
    assert not desk.demanded


async def test_an_edit_keeps_what_the_same_signal_has_learned() -> None:
    """And forgets it with the rule."""
    desk = Watch()
    await desk.calm()
    known = desk.detecting
    desk.engine.policy_changed(stored(watched(), generation=2))
    assert desk.detecting is known
    assert desk.says() == (CLEAR, None)
    other = watched({**EWMA, "every": "2s"})
    desk.engine.policy_changed(stored(other, generation=3))
    assert desk.detecting is not known
    assert desk.engine.intake.beginning == {desk.detecting}
    desk.engine.policy_removed(stored(other))
    assert desk.engine.intake.beginning == set()


async def test_a_threshold_on_the_same_series_trips_as_ever() -> None:
    """That a detector learns from every sample changes nothing for who only compares."""
    desk = Watch(watched(), signal("limit"))
    desk.pushed(math.nan)
    desk.pushed(500.0)
    assert desk.says() == (UNKNOWN, Blindness.NEVER_READ)
    assert desk.policy.readings["limit"].verdict is TRIPPED
    assert desk.demanded


# Silence.

ABSENCE = {"absence": {"after": "5s"}}


async def test_silence_trips_by_itself() -> None:
    """Each poll is a look; the message says for how long nothing came."""
    desk = Watch(watched(ABSENCE))
    await desk.calm(3)
    assert desk.says() == (CLEAR, None)
    for _ in range(5):
        await desk.clock.advance(1)
        desk.polled({})
        assert desk.says() == (CLEAR, None)
    await desk.clock.advance(1)
    desk.polled({})
    assert desk.demanded
    assert desk.reading.message == "silent for 6.0 s, allowed 5 s"
    await desk.calm(1)
    assert not desk.demanded


async def test_the_same_sample_again_is_silence() -> None:
    """Prometheus goes on answering the last sample for five minutes."""
    desk = Watch(watched(ABSENCE))
    await desk.calm(1)
    for age in range(1, 7):
        await desk.clock.advance(1)
        desk.polled({A: 100.0}, age=age)
    assert desk.demanded


async def test_series_that_come_and_go_are_no_silence() -> None:
    """A rollout replaces every pod; the signal as a whole goes on."""
    desk = Watch(watched(ABSENCE))
    for number in range(20):
        await desk.calm(1, (("pod", str(number)),))
    assert desk.says() == (CLEAR, None)


async def test_a_pushed_sample_is_a_sign_of_life() -> None:
    """On whichever path."""
    desk = Watch(watched(ABSENCE))
    await desk.calm(1)
    for _ in range(10):
        await desk.clock.advance(1)
        desk.pushed(1.0)
        desk.polled({})
    assert desk.says() == (CLEAR, None)


async def test_silence_while_nobody_looked_is_not_counted() -> None:
    """A Prometheus that is down is Unknown by its own reason, and so is the first look after it."""
    desk = Watch(watched(ABSENCE))
    await desk.calm(3)
    for _ in range(30):
        await desk.clock.advance(1)
        failed = NoAnswer(Blindness.UNREACHABLE, "refused")
        desk.engine.intake.deliver(f'{NAME}{{model="a"}}', failed)
        assert desk.says() == (UNKNOWN, Blindness.UNREACHABLE)
    desk.polled({})
    assert desk.says() == (UNKNOWN, Blindness.INTERRUPTED)
    await desk.clock.advance(1)
    desk.polled({})
    assert desk.says() == (CLEAR, None)


async def test_what_never_was_cannot_fall_silent() -> None:
    """Its name may be misspelt."""
    desk = Watch(watched(ABSENCE, onNoData="Fire"))
    for _ in range(10):
        await desk.clock.advance(1)
        desk.polled({})
    assert desk.says() == (UNKNOWN, Blindness.WARMING_UP)
    assert not desk.demanded


async def test_a_partial_answer_is_no_silence() -> None:
    """The store that is down may be the one that has it."""
    desk = Watch(watched(ABSENCE))
    await desk.calm(1)
    for _ in range(8):
        await desk.clock.advance(1)
        partial = Answer((), None, (f"no series of {NAME}", "store a is down"))
        desk.engine.intake.deliver(f'{NAME}{{model="a"}}', partial)
        assert desk.says() == (UNKNOWN, Blindness.PARTIAL)


async def test_a_clock_that_is_set_makes_no_silence_and_forgets_nothing() -> None:
    """Silence is counted in elapsed time; samples keep their own."""
    desk = Watch(watched(ABSENCE))
    await desk.calm(3)
    for step in (-3600.0, 7200.0):
        desk.clock.set_back(step)
        await desk.calm(8)  # longer than silence may last
        assert desk.says() == (CLEAR, None)
    other = Watch()
    await other.calm()
    other.clock.set_back(-7200.0)
    await other.calm(1)
    assert other.says() == (UNKNOWN, Blindness.INTERRUPTED)
    await other.calm(1)
    assert other.says() == (CLEAR, None)


async def test_samples_dated_ahead_are_no_sign_of_life_and_no_silence() -> None:
    """One answer of a server whose clock is ahead must not hide all that come after it."""
    desk = Watch(watched(ABSENCE))
    await desk.calm(3)
    desk.polled({A: 100.0}, age=-86400.0)
    assert desk.says() == (UNKNOWN, Blindness.INTERRUPTED)
    await desk.calm(8)
    assert desk.says() == (CLEAR, None)


# The past.


async def recalled(desk: Watch, source: FakeSignalSource) -> Recaller:
    """Someone who reads the past of what waits for it, as a tick does."""
    recaller = Recaller(source, desk.clock)
    recaller.ask(desk.engine.intake.beginning)
    await desk.clock.advance(0)
    return recaller


def past(values: dict[Labels, float], clock: FakeClock, count: int) -> tuple[Answer, ...]:
    """So many answers, one each second until now."""
    now = clock.now()
    return tuple(answer(values, now - number) for number in reversed(range(count)))


async def test_a_restart_costs_no_warm_up() -> None:
    """The past is read before anything is learned; then the first sample is judged."""
    desk, source = Watch(begun=False), FakeSignalSource()
    desk.polled({A: 1e9})
    assert desk.says() == (UNKNOWN, Blindness.WARMING_UP)
    assert desk.reading.message == "its past is being read"
    source.past[f'{NAME}{{model="a"}}'] = past({A: 100.0}, desk.clock, 20)
    await recalled(desk, source)
    assert desk.engine.intake.beginning == set()
    await desk.clock.advance(1)
    desk.pushed(500.0)
    assert desk.demanded


async def test_a_past_that_cannot_be_read_is_told() -> None:
    """The detector warms up live."""
    desk, source = Watch(begun=False), FakeSignalSource()
    source.past[f'{NAME}{{model="a"}}'] = NoAnswer(Blindness.TIMEOUT, "no answer within 10 s")
    desk.polled({A: 100.0})
    await recalled(desk, source)
    await desk.clock.advance(1)
    desk.polled({A: 100.0})
    assert desk.reading.message.startswith("the first sample")
    why = "; its past is not known: Timeout, no answer within 10 s"
    assert desk.reading.message.endswith(why)
    await desk.calm()
    assert desk.says() == (CLEAR, None)


async def test_while_nothing_is_missed_the_past_is_asked_for_again() -> None:
    """Reactor and Prometheus start together; the one that answers first waits for the other."""
    desk, source = Watch(begun=False), FakeSignalSource()
    query = f'{NAME}{{model="a"}}'
    source.past[query] = NoAnswer(Blindness.UNREACHABLE, "refused")
    desk.engine.intake.deliver(query, NoAnswer(Blindness.UNREACHABLE, "refused"))
    recaller = await recalled(desk, source)
    assert desk.says() == (UNKNOWN, Blindness.UNREACHABLE)
    source.past[query] = past({A: 100.0}, desk.clock, 20)
    await desk.clock.advance(2)
    recaller.ask(desk.engine.intake.beginning)
    desk.polled({A: 100.0})
    assert desk.says() == (CLEAR, None)


async def test_a_past_that_takes_too_long_is_given_up() -> None:
    """Samples are turned away for a minute at most."""
    desk = Watch(begun=False)
    desk.polled({A: 100.0})
    await desk.clock.advance(detecting.PATIENCE + 1)
    desk.polled({A: 100.0})
    assert "it was not read within 60 s" in desk.reading.message
    await desk.calm()
    assert desk.says() == (CLEAR, None)


async def test_what_was_there_before_the_restart_can_fall_silent() -> None:
    """Silence counts from the start on: nobody looked before. The start itself is no fault."""
    desk, source = Watch(watched(ABSENCE, onNoData="Fire"), begun=False), FakeSignalSource()
    source.past[f'{NAME}{{model="a"}}'] = past({A: 1.0}, desk.clock, 3)[:2]
    await recalled(desk, source)
    for _ in range(5):
        await desk.clock.advance(1)
        desk.polled({})
        assert desk.says() == (CLEAR, None)
    await desk.clock.advance(1)
    desk.polled({})
    assert desk.demanded


async def test_the_past_of_a_policy_that_is_gone_is_not_asked_for() -> None:
    """Its request is given up."""
    desk, source = Watch(begun=False), FakeSignalSource()
    source.past[f'{NAME}{{model="a"}}'] = NoAnswer(Blindness.UNREACHABLE, "refused")
    recaller = await recalled(desk, source)
    desk.engine.policy_removed(stored(watched()))
    recaller.ask(desk.engine.intake.beginning)
    await desk.clock.advance(10)
    assert desk.clock.sleepers == 0


# Whatever arrives.

KINDS = {
    "robustZ": {"robustZ": {"least": "1", "warmUp": 10, "window": 20}},
    "ewma": {"ewma": {"least": "1", "warmUp": 10}},
    "cusum": {"cusum": {"least": "1", "warmUp": 10}},
}
Step = tuple[float, float, bool, float]


@pytest.mark.parametrize("kind", KINDS)
@given(
    steps=st.lists(
        st.tuples(
            st.floats(0, 3),  # seconds that pass
            st.floats() | st.floats(-1e6, 1e6),
            st.booleans(),  # pushed or polled
            st.floats(-2, 40),  # age
        ),
        max_size=40,
    )
)
@settings(max_examples=80, deadline=None)
def test_never_tripped_before_it_is_warm(kind: str, steps: list[Step]) -> None:
    """Whatever the order, path, age and value: at least `warmUp` samples come before a trip."""
    desk = Watch(watched({**KINDS[kind], "every": "1s"}))
    took: set[float] = set()
    for passed, value, push, age in steps:
        desk.clock._passed += passed
        at = round(desk.clock.now() - age, 3)
        if push:
            desk.pushed(value, age=age)
        else:
            desk.polled({A: value}, age=age)
        if desk.reading.verdict is TRIPPED:
            assert len(took) >= 10
        if math.isfinite(value):
            took.add(at)
