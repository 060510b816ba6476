import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.core.readings import (
    Answer,
    Blindness,
    NoAnswer,
    Reading,
    Threshold,
    Verdict,
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
        (Answer((), None, missing=no_answer(Blindness.TIMEOUT)), Blindness.TIMEOUT),
        (Answer((10.0,), 1.0, missing=no_answer(Blindness.TIMEOUT)), Blindness.TIMEOUT),
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
