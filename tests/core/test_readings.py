import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.core.readings import (
    Answer,
    Blindness,
    NoAnswer,
    Path,
    Reading,
    Threshold,
    Verdict,
    combined,
    judge,
    never_read,
)
from tests.core.builders import NOW, answer, no_answer

ABOVE, BELOW = Threshold(above=10.0), Threshold(below=10.0)
both = pytest.mark.parametrize("threshold", [ABOVE, BELOW], ids=str)


def judged(threshold: Threshold, given_: Answer | NoAnswer) -> Reading:
    """The reading of this answer, a minute being fresh enough."""
    return judge("s", threshold, given_, max_age=60.0, now=NOW)


@both
@pytest.mark.parametrize("reason", Blindness)
def test_no_answer_is_unknown_for_its_own_reason(threshold: Threshold, reason: Blindness) -> None:
    """Whatever the source reports stays the reason, whichever side the threshold has."""
    found = judged(threshold, no_answer(reason))
    assert (Verdict.UNKNOWN, reason, None) == (found.verdict, found.reason, found.value)


@both
@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        (answer(), Blindness.ABSENT),
        (answer(age=None), Blindness.ABSENT),
        (answer(10.0, age=60.1), Blindness.STALE),
        (answer(-math.inf, math.inf, age=60.1), Blindness.STALE),
        (answer(10.0, age=None), Blindness.STALE),
        (answer(10.0, age=math.nan), Blindness.STALE),
        (answer(math.nan), Blindness.NOT_A_NUMBER),
        (answer(math.nan, math.nan), Blindness.NOT_A_NUMBER),
        (answer(math.nan, warnings=("half",)), Blindness.NOT_A_NUMBER),
        (answer(10.0, math.nan), Blindness.NOT_A_NUMBER),
        (answer(10.0, warnings=("half",)), Blindness.PARTIAL),
        (answer(10.0, math.nan, warnings=("half",)), Blindness.PARTIAL),
    ],
)
def test_an_answer_that_proves_nothing_is_unknown(
    threshold: Threshold, given_: Answer, reason: Blindness
) -> None:
    """Empty, old, NaN and partial answers never say that all is well."""
    found = judged(threshold, given_)
    assert (Verdict.UNKNOWN, reason) == (found.verdict, found.reason)


@pytest.mark.parametrize(
    ("threshold", "values", "verdict", "value"),
    [
        (ABOVE, (10.0,), Verdict.CLEAR, 10.0),
        (ABOVE, (10.1,), Verdict.TRIPPED, 10.1),
        (ABOVE, (1.0, 11.0, 2.0), Verdict.TRIPPED, 11.0),
        (ABOVE, (1.0, 2.0), Verdict.CLEAR, 2.0),
        (ABOVE, (math.inf,), Verdict.TRIPPED, math.inf),
        (ABOVE, (-math.inf,), Verdict.CLEAR, -math.inf),
        (BELOW, (10.0,), Verdict.CLEAR, 10.0),
        (BELOW, (9.9,), Verdict.TRIPPED, 9.9),
        (BELOW, (11.0, 9.0, 12.0), Verdict.TRIPPED, 9.0),
        (BELOW, (11.0, 12.0), Verdict.CLEAR, 11.0),
        (BELOW, (math.inf,), Verdict.CLEAR, math.inf),
        (BELOW, (-math.inf,), Verdict.TRIPPED, -math.inf),
    ],
)
def test_the_worst_series_decides(
    threshold: Threshold, values: tuple[float, ...], verdict: Verdict, value: float
) -> None:
    """Strictly beyond the limit trips; the limit itself does not; infinity is a number."""
    found = judged(threshold, answer(*values))
    assert (verdict, value, None) == (found.verdict, found.value, found.reason)
    assert found.sampled_at == NOW - 1.0


@pytest.mark.parametrize(("threshold", "beyond"), [(ABOVE, 11.0), (BELOW, 9.0)])
@pytest.mark.parametrize("rest", [answer(10.0, math.nan), answer(10.0, warnings=("half",))])
def test_a_crossed_threshold_is_believed_in_a_partial_answer(
    threshold: Threshold, beyond: float, rest: Answer
) -> None:
    """More data could not take the crossing back."""
    partial = Answer((*rest.values, beyond), rest.oldest_age, rest.warnings)
    assert judged(threshold, partial).verdict is Verdict.TRIPPED


def test_messages_carry_the_numbers() -> None:
    """People read what was compared with what."""
    assert judged(ABOVE, answer(11.5)).message == "11.5 is > 10"
    assert judged(BELOW, answer(11.5)).message == "11.5 is not < 10"
    assert judged(ABOVE, answer(1.0, age=75.0)).message == (
        "age of the oldest sample is 75.0 s, allowed 60 s"
    )
    assert judged(ABOVE, answer(1.0, age=None)).message == (
        "age of the oldest sample is unknown, allowed 60 s"
    )
    assert len(judged(ABOVE, answer(1.0, warnings=("w" * 900,))).message) == 500


def test_never_read_is_unknown() -> None:
    """Before the first answer nothing is known."""
    expected = Reading("s", Verdict.UNKNOWN, "not read yet", NOW, Blindness.NEVER_READ)
    assert expected == never_read("s", NOW)


numbers = st.floats(allow_nan=True, allow_infinity=True)
answers = st.builds(
    Answer,
    values=st.lists(numbers, max_size=5).map(tuple),
    oldest_age=st.none() | st.floats(min_value=0) | st.just(math.nan),
    warnings=st.lists(st.text(max_size=5), max_size=2).map(tuple),
)
thresholds = st.floats(allow_nan=False, allow_infinity=False).flatmap(
    lambda limit: st.sampled_from([Threshold(above=limit), Threshold(below=limit)])
)


@given(threshold=thresholds, given_=answers)
def test_clear_needs_a_fresh_whole_answer(threshold: Threshold, given_: Answer) -> None:
    """Clear means: there are values, all are numbers, none crosses, none is old, no warning."""
    found = judged(threshold, given_)
    whole = (
        bool(given_.values)
        and not any(math.isnan(value) for value in given_.values)
        and given_.oldest_age is not None
        and given_.oldest_age <= 60.0
        and not given_.warnings
    )
    crossed = any(threshold.crossed(value) for value in given_.values)
    assert (whole and not crossed) == (found.verdict is Verdict.CLEAR)
    assert (found.verdict is Verdict.UNKNOWN) == (found.reason is not None)
    if found.verdict is Verdict.TRIPPED:
        assert crossed


@pytest.mark.parametrize(
    ("threshold", "values"),
    [
        (Threshold(above=10.0, recovers_at=8.0), [11, 9, 8.5, 8]),
        (Threshold(below=10.0, recovers_at=12.0), [9, 11, 11.5, 12]),
    ],
    ids=["above", "below"],
)
def test_hysteresis_holds_until_the_value_is_back(
    threshold: Threshold, values: list[float]
) -> None:
    """Between the threshold and `recoversAt` a signal stays what it was."""
    tripped, seen = False, []
    for value in [values[1], *values]:
        found = judge("s", threshold, answer(value), max_age=60.0, now=NOW, before=tripped)
        tripped = found.verdict is Verdict.TRIPPED
        seen.append(tripped)
    assert seen == [False, True, True, True, False]


def test_hysteresis_says_what_it_waits_for() -> None:
    """The number alone would look like a mistake."""
    threshold = Threshold(above=10.0, recovers_at=8.0)
    found = judge("s", threshold, answer(9.0), max_age=60.0, now=NOW, before=True)
    assert found.message == "9 is not back at 8 yet (> 10)"


def heard(
    path: Path, verdict: Verdict, *, sampled: float | None = 0.0, read: float = 0.0
) -> Reading:
    """What a path last said, in seconds before now."""
    reason = Blindness.TIMEOUT if verdict is Verdict.UNKNOWN else None
    at = None if sampled is None else NOW - sampled
    return Reading("s", verdict, "told", NOW - read, reason, None, at, path)


POLL, PUSH, ALERT = Path.POLL, Path.REMOTE_WRITE, Path.ALERT
TRIPPED, CLEAR, UNKNOWN = Verdict.TRIPPED, Verdict.CLEAR, Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([heard(POLL, UNKNOWN), heard(PUSH, TRIPPED)], TRIPPED),
        ([heard(PUSH, TRIPPED), heard(POLL, UNKNOWN)], TRIPPED),
        ([heard(PUSH, TRIPPED, sampled=1), heard(POLL, CLEAR, sampled=3)], TRIPPED),
        ([heard(PUSH, TRIPPED, sampled=3), heard(POLL, CLEAR, sampled=1)], CLEAR),
        ([heard(PUSH, TRIPPED, sampled=61), heard(POLL, UNKNOWN)], UNKNOWN),
        ([heard(PUSH, TRIPPED, sampled=61), heard(POLL, CLEAR, sampled=61)], UNKNOWN),
        ([heard(PUSH, TRIPPED, read=2), heard(POLL, CLEAR, read=1)], CLEAR),
        ([heard(ALERT, TRIPPED, sampled=None, read=1), heard(POLL, CLEAR, read=2)], TRIPPED),
        ([heard(ALERT, TRIPPED, sampled=None, read=2), heard(POLL, CLEAR, read=1)], CLEAR),
        ([heard(ALERT, TRIPPED, sampled=None, read=2), heard(POLL, UNKNOWN, read=1)], TRIPPED),
        ([heard(ALERT, TRIPPED, sampled=None, read=61), heard(POLL, UNKNOWN, read=1)], UNKNOWN),
    ],
    ids=[
        "a push tells what a poll does not know",
        "a failed poll takes nothing back",
        "a poll of older samples takes nothing back",
        "a poll of newer samples clears",
        "an old push is no evidence",
        "neither is an old poll",
        "of the same sample the later reading counts",
        "an alert after the poll trips",
        "a poll after the alert clears",
        "a failed poll after the alert does not",
        "an alert is believed for maxAge",
    ],
)
def test_the_latest_evidence_counts(told: list[Reading], expected: Verdict) -> None:
    """Whatever the order in which the paths are listed."""
    for order in (told, told[::-1]):
        found = combined(order, max_age=60.0, now=NOW)
        assert (expected, expected is Verdict.UNKNOWN) == (found.verdict, found.reason is not None)


@given(
    told=st.lists(
        st.builds(
            heard,
            st.sampled_from(Path),
            st.sampled_from(Verdict),
            sampled=st.none() | st.floats(0, 100),
            read=st.floats(0, 100),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_clear_is_said_only_by_a_path_that_says_so(told: list[Reading]) -> None:
    """Combining invents nothing: a verdict other than Unknown was told, by fresh evidence."""
    found = combined(told, max_age=60.0, now=NOW)
    if found.verdict is not Verdict.UNKNOWN:
        assert found in told
        assert NOW - (found.read_at if found.sampled_at is None else found.sampled_at) <= 60.0
