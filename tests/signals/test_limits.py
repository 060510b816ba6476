import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.signals.limits import Limits, Rate, TokenBucket


def test_a_burst_then_the_rate() -> None:
    """The wait that is told is enough, and no more than needed."""
    bucket = TokenBucket.full(Rate(2.0, 3), 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(0.25) == 0.25
    assert bucket.take(0.5) == 0.0


def test_sources_do_not_share() -> None:
    """One that is used up leaves the others theirs."""
    limits = Limits(Rate(1.0, 1))
    assert [limits.take(each, 0.0) for each in "aab"] == [0.0, 1.0, 0.0]


def test_the_number_of_sources_is_bounded() -> None:
    """Only those that are as good as new are forgotten: forgetting must not refill."""
    limits = Limits(Rate(1.0, 1), most=2)
    assert [limits.take(each, 0.0) for each in "abc"] == [0.0, 0.0, 1.0]
    assert limits.take("c", 1.0) == 0.0


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1), (-1.0, 1), (1.0, 0), (float("nan"), 1)])
def test_a_rate_that_refuses_everything_is_an_error(rate: float, burst: int) -> None:
    """At the start, not at the first event."""
    with pytest.raises(ValueError, match="a rate needs"):
        Rate(rate, burst)


@given(steps=st.lists(st.floats(-2.0, 2.0), max_size=60))
def test_never_more_than_burst_and_rate(steps: list[float]) -> None:
    """However time jumps; steps back count as no time."""
    bucket, now, passed, taken = TokenBucket.full(Rate(3.0, 5), 0.0), 0.0, 0.0, 0
    for step in steps:
        now += step
        passed += max(0.0, step)
        taken += bucket.take(now) == 0.0
    assert taken <= 5 + 3.0 * passed + 1e-6
