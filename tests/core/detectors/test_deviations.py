import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.core.detectors import Cusum, Detector, Ewma, RobustZ, Seasonal, Side
from killswitch.core.readings import Verdict

TRIPPED, CLEAR, UNKNOWN = Verdict.TRIPPED, Verdict.CLEAR, Verdict.UNKNOWN


def verdicts(one: Detector, series: list[float], step: float = 15.0) -> list[Verdict]:
    """What it says of each sample of a regular series."""
    return [one.feed(number * step, value).verdict for number, value in enumerate(series)]


def noise(count: int, level: float = 100.0, seed: int = 1) -> list[float]:
    """Independent normal noise of deviation 5."""
    source = random.Random(seed)
    return [source.gauss(level, 5.0) for _ in range(count)]


@pytest.mark.parametrize("one", [RobustZ(least=1.0), Ewma(least=1.0)], ids=lambda e: e.kind)
def test_a_spike_trips_and_noise_does_not(one: Detector) -> None:
    """Ten deviations in one sample, in two thousand calm ones."""
    series = noise(2000)
    series[1500] += 50
    found = verdicts(one, series)
    assert [number for number, each in enumerate(found) if each is TRIPPED] == [1500]


@pytest.mark.parametrize("side", Side)
def test_only_the_side_that_was_asked_for_trips(side: Side) -> None:
    """A guardrail's block rate that falls to 0 is Below."""
    for sign, wanted in [(1, {Side.ABOVE, Side.BOTH}), (-1, {Side.BELOW, Side.BOTH})]:
        for rule in (RobustZ(least=1.0, side=side), Ewma(least=1.0, side=side)):
            found = verdicts(rule.fresh(), [*noise(200), 100.0 + sign * 80])
            assert (side in wanted) == (found[-1] is TRIPPED)


@pytest.mark.parametrize("one", [RobustZ(least=5.0), Ewma(least=5.0), Cusum(least=5.0)])
def test_a_flat_series_does_not_trip_on_less_than_least(one: Detector) -> None:
    """The spread is 0 there, so a rounding error would be infinitely unusual."""
    assert TRIPPED not in verdicts(one, [7.0] * 200 + [11.9] * 50)


def test_a_flat_series_trips_on_more_than_least() -> None:
    """At once, in the detectors that look at single samples."""
    for one in (RobustZ(least=5.0), Ewma(least=5.0)):
        assert verdicts(one, [7.0] * 200 + [12.1])[-1] is TRIPPED


@given(st.lists(st.integers(-1000, 1000), min_size=20, max_size=200))
@settings(max_examples=40)
def test_robust_z_is_the_textbooks(series: list[int]) -> None:
    """The score is that of a median and MAD computed plainly over the same window."""
    one = RobustZ(least=0.001, window=30, warm_up=10)
    for number, value in enumerate(series):
        found = one.feed(number, value)
        if found.score is None:
            continue
        window = [float(each) for each in series[max(1, number - 30) : number]]
        median = statistics.median(window)
        mad = statistics.median(abs(each - median) for each in window)
        expected = (value - median) / max(1.4826 * mad, 0.001 / 6)
        assert found.score == pytest.approx(expected)


def test_half_a_window_of_outliers_does_not_move_robust_z() -> None:
    """Up to half; after that they are the normal case, as its docstring says."""
    found = verdicts(RobustZ(least=1.0), noise(200) + noise(100, level=1000.0))
    assert set(found[200:259]) == {TRIPPED}
    assert set(found[290:]) == {CLEAR}


def test_a_spike_does_not_blind_ewma() -> None:
    """It teaches as three deviations, so the next one is seen as well."""
    series = [*noise(200), 1e9, *noise(20, seed=2), 200.0]
    assert verdicts(Ewma(least=1.0), series)[-1] is TRIPPED


def test_cusum_finds_a_shift_that_no_single_sample_shows() -> None:
    """Two deviations up, for ever: others stay clear."""
    series = noise(500) + noise(60, level=110.0, seed=2)
    found = verdicts(Cusum(least=1.0), series)
    assert TRIPPED not in found[:500]
    assert TRIPPED in found[500:520]
    assert TRIPPED not in verdicts(RobustZ(least=1.0), series)


def test_cusum_ignores_a_lone_spike_and_ends_after_a_shift() -> None:
    """One sample adds at most 4 of 8; the sum is bounded, so it comes down again."""
    series = noise(300)
    series[200] = 1e6
    assert TRIPPED not in verdicts(Cusum(least=1.0), series)
    found = verdicts(Cusum(least=1.0), noise(300) + noise(50, 130.0) + noise(60, seed=3))
    assert found[349] is TRIPPED
    assert found[-1] is CLEAR


def test_seasonal_knows_the_hour() -> None:
    """The midday height at night trips, at midday it does not."""
    source = random.Random(4)
    day = [100.0 + (400 if 9 <= hour < 17 else 0) for hour in range(24)]
    series = [value + source.gauss(0, 5) for _ in range(10) for value in day]
    one = Seasonal(least=40.0, gap=7200.0)
    found = verdicts(one, series, step=3600.0)
    assert set(found[: 3 * 24]) == {UNKNOWN}
    assert set(found[3 * 24 + 1 :]) == {CLEAR}
    assert one.feed(240 * 3600.0, 500.0).verdict is TRIPPED
    for hour in range(241, 252):
        one.feed(hour * 3600.0, series[hour - 240])
    assert one.feed(252 * 3600.0, 500.0).verdict is CLEAR


@given(scale=st.sampled_from([0.001, 1.0, 1e6]), offset=st.floats(-1e3, 1e3))
@settings(max_examples=20)
def test_verdicts_do_not_depend_on_the_unit(scale: float, offset: float) -> None:
    """Tokens or kilotokens, with `least` in the same unit: the same verdicts."""
    series = noise(150) + noise(50, level=150.0)
    scaled = [(value + offset) * scale for value in series]
    for plain, other in [
        (RobustZ(least=1.0), RobustZ(least=scale)),
        (Ewma(least=1.0), Ewma(least=scale)),
        (Cusum(least=1.0), Cusum(least=scale)),
    ]:
        assert verdicts(plain, series) == verdicts(other, scaled)
