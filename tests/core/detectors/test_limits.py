import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.core.detectors import Absence, HardLimit, Rate, Side
from killswitch.core.errors import InvalidPolicyError
from killswitch.core.readings import Blindness, Threshold, Verdict

TRIPPED, CLEAR, UNKNOWN = Verdict.TRIPPED, Verdict.CLEAR, Verdict.UNKNOWN
ABOVE = Threshold(above=0.0)


@given(
    samples=st.lists(st.tuples(st.floats(0, 1e9), st.floats(allow_nan=False)), min_size=1),
    limit=st.floats(-1e6, 1e6),
)
def test_a_value_beyond_a_hard_limit_always_trips(
    samples: list[tuple[float, float]], limit: float
) -> None:
    """Late, twice, infinite or after a clock step: a violation is a violation."""
    one = HardLimit(threshold=Threshold(above=limit))
    for at, value in samples:
        found = one.feed(at, value)
        if value > limit:
            assert (TRIPPED, value) == (found.verdict, found.score)


def test_a_conflicting_repetition_cannot_clear_a_trip() -> None:
    """All-is-well is believed only in order."""
    one = HardLimit(threshold=ABOVE)
    assert one.feed(10, 1).verdict is TRIPPED
    assert one.feed(10, 0).verdict is TRIPPED
    assert one.feed(9, 0).verdict is TRIPPED
    assert one.feed(11, 0).verdict is CLEAR
    assert one.feed(9, 1).verdict is TRIPPED


def test_a_step_back_of_the_clock_is_doubted_once() -> None:
    """And then followed, so that it cannot freeze a verdict."""
    one = HardLimit(threshold=ABOVE)
    found = [one.feed(at, 0) for at in (10_000, 5000, 5015)]
    assert [each.verdict for each in found] == [CLEAR, UNKNOWN, CLEAR]
    assert found[1].message == "the clock went back by 5000 s, allowed 300 s"


def test_a_value_without_a_time_is_no_evidence() -> None:
    """Even beyond the limit: nobody can say when."""
    assert HardLimit(threshold=ABOVE).feed(math.nan, 5).reason is Blindness.NOT_A_NUMBER


def test_a_limit_reads_aloud() -> None:
    """The sentence holds the value and the limit."""
    one = HardLimit(threshold=Threshold(below=1.0))
    assert one.feed(0, 0.5).message == "0.5 is < 1"
    assert one.feed(1, 2).message == "2 is not < 1"


@pytest.mark.parametrize(
    ("side", "slope", "verdict"),
    [
        (Side.ABOVE, 2.0, TRIPPED),
        (Side.ABOVE, 0.9, CLEAR),
        (Side.ABOVE, -2.0, CLEAR),
        (Side.BELOW, -2.0, TRIPPED),
        (Side.BELOW, 2.0, CLEAR),
        (Side.BOTH, -2.0, TRIPPED),
    ],
)
def test_rate_has_a_side(side: Side, slope: float, verdict: Verdict) -> None:
    """Units per second over the span, in the direction that was asked for."""
    one = Rate(limit=1.0, span=60.0, side=side)
    for at in range(0, 91, 15):
        found = one.feed(at, slope * at)
    assert verdict is found.verdict
    assert found.message == f"changed by {slope:g}/s over 60 s, allowed 1/s"


@given(st.lists(st.floats(0.01, 5), min_size=2, max_size=200))
def test_rate_of_a_straight_line_is_its_slope(steps: list[float]) -> None:
    """However irregular the samples."""
    one, at = Rate(limit=100.0, span=2.0), 0.0
    for step in steps:
        at += step
        found = one.feed(at, 3 * at)
        if found.score is not None:
            assert found.score == pytest.approx(3)


def test_a_counter_survives_its_restart() -> None:
    """A fall to 3 after 1000 is three more, not a thousand less."""
    one = Rate(limit=100.0, span=60.0, counter=True)
    for at, value in [(0, 900), (30, 1000), (60, 3), (90, 33)]:
        found = one.feed(at, value)
    assert found.score == pytest.approx((33 + 1000 - 1000) / 60)


def test_a_counter_has_no_fall() -> None:
    """Asking for it is a mistake, told at admission."""
    with pytest.raises(InvalidPolicyError, match="a counter cannot fall"):
        Rate(limit=1.0, counter=True, side=Side.BELOW)


def test_silence_trips_after_its_time_and_ends_with_a_sample() -> None:
    """The score is the silence in seconds."""
    one = Absence(after=30.0, gap=300.0)
    one.feed(0, 1)
    found = [one.feed(at, None) for at in (15, 30, 45)]
    assert [(e.verdict, e.score) for e in found] == [(CLEAR, 15), (CLEAR, 30), (TRIPPED, 45)]
    assert found[-1].message == "silent for 45.0 s, allowed 30 s"
    assert one.feed(46, 1).verdict is CLEAR


def test_what_never_was_cannot_go_missing() -> None:
    """A misspelt series is Unknown for ever, and onNoData says what that means."""
    one = Absence(after=30.0, gap=300.0)
    assert {UNKNOWN} == {one.feed(at, None).verdict for at in range(0, 900, 15)}


def test_silence_counts_only_while_somebody_looked() -> None:
    """A reactor that was down for an hour does not come back and fire."""
    one = Absence(after=30.0, gap=300.0)
    one.feed(0, 1)
    found = [one.feed(at, None) for at in (15, 3600, 3610, 3620)]
    assert [each.verdict for each in found] == [CLEAR, UNKNOWN, CLEAR, TRIPPED]
    assert found[-1].score == 15 + 10 + 10


def test_a_sample_that_arrives_after_a_later_look_is_a_sign_of_life() -> None:
    """Samples carry the time of the scrape, looks that of the looker."""
    one = Absence(after=30.0, gap=300.0)
    one.feed(0, 1)
    assert one.feed(31, None).verdict is TRIPPED
    assert one.feed(29, 1).verdict is CLEAR
    assert one.feed(32, None).score == 3
