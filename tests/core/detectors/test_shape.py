"""What holds for every detector, whatever the series brings."""

import math
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict, fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.core.detectors import (
    Absence,
    Cusum,
    Detector,
    Ewma,
    Finding,
    HardLimit,
    Kind,
    Rate,
    RobustZ,
    Seasonal,
)
from killswitch.core.detectors.shape import STALE_MARKER, is_stale_marker
from killswitch.core.errors import InvalidPolicyError
from killswitch.core.readings import Blindness, Reading, Threshold, Verdict

TRIPPED, CLEAR, UNKNOWN = Verdict.TRIPPED, Verdict.CLEAR, Verdict.UNKNOWN
STEP, START = 15.0, 1_800_000_000.0

RULES: dict[Kind, Detector] = {
    Kind.THRESHOLD: HardLimit(threshold=Threshold(above=1000.0)),
    Kind.RATE: Rate(limit=5.0, span=60.0),
    Kind.ABSENCE: Absence(after=60.0, gap=300.0),
    Kind.ROBUST_Z: RobustZ(least=5.0, warm_up=10, window=40),
    Kind.EWMA: Ewma(least=5.0, warm_up=10),
    Kind.CUSUM: Cusum(least=1.0, warm_up=10),
    Kind.SEASONAL: Seasonal(least=5.0, period=300.0, phases=2, cycles=2),
}
"""One small rule of each kind."""

LEARNING = [kind for kind in Kind if kind not in {Kind.THRESHOLD, Kind.ABSENCE}]
every = pytest.mark.parametrize("kind", Kind)
learning = pytest.mark.parametrize("kind", LEARNING)
values = st.floats() | st.none() | st.sampled_from([STALE_MARKER, 1e308, -1e308, 0.0, 100.0])
times = st.floats(0, 5000) | st.sampled_from([0.0, math.nan, math.inf, 1.8e12])


def warmed(kind: Kind, count: int = 80) -> tuple[Detector, float]:
    """A detector that has seen a calm series around 100, and the time of the newest sample."""
    one = RULES[kind].fresh()
    for number in range(count):
        found = one.feed(START + number * STEP, 100.0 + number % 3)
    assert found.verdict is CLEAR, found
    return one, found.at


def fed(one: Detector, samples: Iterable[tuple[float, float | None]]) -> list[Finding]:
    """All findings of these samples."""
    return [one.feed(at, value) for at, value in samples]


def memory(one: Detector) -> dict[str, Any]:
    """What it has learned, beside its newest finding and the time that it doubts."""
    found = {each.name: getattr(one, each.name) for each in fields(one) if not each.init}  # type: ignore[arg-type]
    kept = {name: value for name, value in found.items() if name not in {"_last", "_doubted"}}
    kept.pop("_doubted_seen", None)
    kept["_order"] = kept["_order"].newest
    return deepcopy(kept)


def _numbers(value: object) -> Iterator[float]:
    """Every number in it."""
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _numbers(each)
    elif isinstance(value, Iterable):
        for each in value:
            yield from _numbers(each)
    elif value is not None:
        yield from _numbers(asdict(value))  # type: ignore[call-overload]


@every
def test_each_kind_has_its_detector(kind: Kind) -> None:
    """The names of policies and the classes are one to one."""
    assert kind is RULES[kind].kind


@every
@given(samples=st.lists(st.tuples(times, values), max_size=60))
@settings(max_examples=60)
def test_nothing_breaks_a_detector(kind: Kind, samples: list[tuple[float, float | None]]) -> None:
    """Any samples in any order: an answer with a sentence, finite numbers, and no opinion on NaN."""
    one = RULES[kind].fresh()
    for (_, value), found in zip(samples, fed(one, samples), strict=True):
        assert found.message
        assert (found.verdict is UNKNOWN) == (found.reason is not None) == (found.score is None)
        if kind is Kind.ABSENCE:
            continue
        if value is None or math.isnan(value):
            assert found.verdict is UNKNOWN
        if found.score is not None and kind is not Kind.THRESHOLD:
            assert math.isfinite(found.score)
    assert all(math.isfinite(each) for each in _numbers(memory(one)))


@every
@given(samples=st.lists(st.tuples(st.floats(1, 60), st.floats(-1e6, 1e6)), max_size=400))
@settings(max_examples=20)
def test_memory_does_not_grow(kind: Kind, samples: list[tuple[float, float]]) -> None:
    """What it remembers stays under the bound that it names."""
    one, at = RULES[kind].fresh(), START
    for step, value in samples:
        at += step
        one.feed(at, value)
    assert len([*_numbers(memory(one))]) <= one.numbers + 1  # and its newest time


@every
def test_the_past_that_it_asks_for_warms_it(kind: Kind) -> None:
    """Read at those steps after a restart, it has an opinion at once."""
    one = RULES[kind].fresh()
    past = one.past(STEP)
    for number in range(round(past.span / past.step)):
        one.feed(START + number * past.step, 100.0 + number % 3)
    assert one.feed(START + past.span, 100.0).verdict is CLEAR


@learning
def test_warm_up_is_unknown(kind: Kind) -> None:
    """No opinion before enough was seen, and the sentence says how much is missing."""
    first, second = fed(RULES[kind].fresh(), [(START, 1e9), (START + STEP, -1e9)])
    assert (first.verdict, first.reason) == (UNKNOWN, Blindness.WARMING_UP)
    assert (second.verdict, second.reason) == (UNKNOWN, Blindness.WARMING_UP)
    assert " of " in second.message


@every
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Blindness.ABSENT),
        (STALE_MARKER, Blindness.STALE),
        (math.nan, Blindness.NOT_A_NUMBER),
        (-math.inf, Blindness.NOT_A_NUMBER),
        (-1e101, Blindness.NOT_A_NUMBER),
    ],
)
def test_no_measurement_is_unknown_and_teaches_nothing(
    kind: Kind, value: float | None, reason: Blindness
) -> None:
    """For absence it is silence; the others neither judge nor learn it."""
    one, at = warmed(kind)
    before = memory(one)
    found = one.feed(at + 1, value)
    if kind is Kind.ABSENCE:
        assert (found.verdict, found.score) == (CLEAR, 1.0)
    else:
        assert (UNKNOWN, reason) == (found.verdict, found.reason)
        assert before == memory(one)


@every
@pytest.mark.parametrize("late", [0.0, 1.0, 200.0])
def test_a_late_or_repeated_sample_changes_nothing(kind: Kind, late: float) -> None:
    """First arrival wins; the finding keeps its time, so that maxAge can make it stale."""
    one, at = warmed(kind)
    before, last = memory(one), one.feed(at, 101.0)
    found = one.feed(at - late, 900.0)
    assert (last, before) == (found, memory(one))


@every
@pytest.mark.parametrize("bogus", [0.0, START * 1000, START - 1e6, START + 1e6])
def test_one_bogus_timestamp_costs_one_unknown(kind: Kind, bogus: float) -> None:
    """Seconds taken for milliseconds, or a zero, do not wipe what was learned."""
    one, at = warmed(kind)
    before = memory(one)
    doubted = one.feed(bogus, 100.0)
    if kind is not Kind.THRESHOLD or bogus < at:
        assert (doubted.verdict, doubted.reason) == (UNKNOWN, Blindness.INTERRUPTED)
    assert before == memory(one)
    assert one.feed(at + STEP, 100.0).verdict is CLEAR


@learning
@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_step_or_gap_is_followed_from_the_second_sample_on(kind: Kind, step: float) -> None:
    """One Unknown, after which levels are still known; a rate must be measured anew."""
    one, at = warmed(kind)
    at += step
    found = fed(one, [(at, 100.0), (at + STEP, 101.0), (at + 2 * STEP, 100.0)])
    assert Blindness.INTERRUPTED is found[0].reason
    expected = Blindness.WARMING_UP if kind is Kind.RATE else None
    assert [expected] * 2 == [each.reason for each in found[1:]]


@learning
@pytest.mark.parametrize("step", [-30, 30])
def test_a_long_interruption_forgets(kind: Kind, step: int) -> None:
    """What was normal a month ago is not what is normal now."""
    one, at = warmed(kind)
    at += step * 86400.0
    found = fed(one, [(at, 5000.0), (at + STEP, 5000.0)])
    assert [each.reason for each in found] == [Blindness.INTERRUPTED, Blindness.WARMING_UP]


@learning
def test_samples_further_apart_than_gap_say_what_to_do(kind: Kind) -> None:
    """A gap that is too short for the scrape interval is told, not silently Clear."""
    found = fed(RULES[kind].fresh(), [(START + 600 * number, 1.0) for number in range(50)])
    assert {Blindness.INTERRUPTED} == {each.reason for each in found[1:]}
    assert found[-1].message.endswith("raise gap")


def test_only_the_marker_is_the_marker() -> None:
    """Prometheus's stale NaN is told from an ordinary one by its bits."""
    assert is_stale_marker(STALE_MARKER)
    assert not is_stale_marker(math.nan)


def test_a_finding_becomes_a_reading() -> None:
    """With its sentence and time; past maxAge it is Unknown, whatever it said."""
    found = warmed(Kind.ABSENCE)[0].feed(START + 79 * STEP, 7.0)
    now = found.at + 5
    message = "silent for 0.0 s, allowed 60 s"
    fresh = Reading("s", CLEAR, message, now, None, 0.0, found.at)
    assert fresh == found.reading("s", max_age=5, now=now)
    for wrong in (now, found.at - 5):
        old = found.reading("s", max_age=4, now=wrong)
        assert (old.verdict, old.reason) == (UNKNOWN, Blindness.STALE)


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: HardLimit(threshold=Threshold()), "threshold"),
        (lambda: HardLimit(threshold=Threshold(above=1.0, below=0.0)), "threshold"),
        (lambda: HardLimit(threshold=Threshold(above=math.nan)), "threshold"),
        (lambda: HardLimit(threshold=Threshold(above=1.0), gap=0.0), "gap"),
        (lambda: Rate(limit=-1.0), "limit"),
        (lambda: Rate(limit=1.0, span=0.0), "span"),
        (lambda: Absence(after=math.inf), "after"),
        (lambda: RobustZ(least=0.0), "least"),
        (lambda: RobustZ(least=1.0, limit=0.5), "limit"),
        (lambda: RobustZ(least=1.0, window=5000), "window"),
        (lambda: RobustZ(least=1.0, window=20, warm_up=30), "warmUp"),
        (lambda: Ewma(least=math.nan), "least"),
        (lambda: Ewma(least=1.0, half_life=0.0), "halfLife"),
        (lambda: Cusum(least=1.0, drift=0.0), "drift"),
        (lambda: Seasonal(least=1.0, phases=1), "phases"),
        (lambda: Seasonal(least=1.0, period=1.0), "period"),
        (lambda: Seasonal(least=1.0, cycles=0), "cycles"),
    ],
)
def test_a_parameter_that_cannot_work_is_refused_by_name(build: object, field: str) -> None:
    """The message names the field as the policy writes it, and the cure."""
    assert callable(build)
    with pytest.raises(InvalidPolicyError) as refused:
        build()
    assert f"detector.{field}" == refused.value.field
    assert refused.value.cure
