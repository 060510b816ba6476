from pathlib import Path

import pytest

from bench.detectors import COOLDOWN, TOLERANCE, Outcome, Series, judge, load, measure, tripped
from bench.figures import Figure
from bench.setting import Setting
from killswitch.core.detectors import Ewma, RobustZ
from tests.cluster.control_plane import ControlPlane

HOUR = 3600.0
SUBSET = Path(__file__).resolve().parents[1] / "data/cloud-monitoring"


def flags(text: str) -> list[bool]:
    """`..x.` with x for True."""
    return [each == "x" for each in text]


@pytest.mark.parametrize(
    ("labels", "alarms", "found", "false_alarms", "delays"),
    [
        ("...xxx....", "...x......", 1, 0, [0.0]),
        ("...xxx....", ".....x....", 1, 0, [2 * HOUR]),
        ("...xxx....", ".......x..", 1, 0, [4 * HOUR]),  # within the tolerance after it
        ("...xxx....", "........x.", 0, 1, []),
        ("...xxx....", ".x........", 0, 0, []),  # just before it: neither found nor false
        ("...xxx....", "x.........", 0, 1, []),
        ("x...x.....", "x...x.....", 2, 0, [0.0, 0.0]),
        ("..........", "xxxxxxxxxx", 0, 1, []),  # one cooldown
        (".........x", ".........x", 1, 0, [0.0]),
        ("...xxx....", "..........", 0, 0, []),
    ],
)
def test_the_rule(
    labels: str, alarms: str, found: int, false_alarms: int, delays: list[float]
) -> None:
    """Event-wise, with two intervals of tolerance, as the module's docstring says."""
    assert TOLERANCE == 2
    outcome = judge(flags(labels), flags(alarms), HOUR)
    assert (found, false_alarms, delays) == (outcome.found, outcome.false_alarms, outcome.delays)


def test_always_tripped_is_not_rewarded() -> None:
    """It finds everything, and is charged for each cooldown of it."""
    count = 100 * COOLDOWN
    labels = [number == 600 for number in range(count)]
    outcome = judge(labels, [True] * count, HOUR)
    assert (outcome.recall, outcome.false_alarms) == (1.0, 100)
    assert outcome.per_day == pytest.approx(2.0)
    assert outcome.f_half < 0.02


def test_outcomes_add_up() -> None:
    """Counts are pooled, not averaged: a series without events still has its false alarms."""
    total = Outcome()
    total.add(judge(flags("x....."), flags("x....."), HOUR))
    total.add(judge(flags("......"), flags("..x..."), HOUR))
    assert (total.recall, total.precision, total.days) == (1.0, 0.5, 0.5)


@pytest.fixture(scope="module")
def series() -> list[Series]:
    """The five files that are committed."""
    return list(load(SUBSET))


def test_what_was_not_measured_is_none(series: list[Series]) -> None:
    """An empty value is no zero."""
    assert [one.values.count(None) for one in series] == [5, 11, 0, 0, 0]
    assert {HOUR} == {one.interval for one in series}


def test_real_crashes_are_found_with_default_limits(series: list[Series]) -> None:
    """Robust z and EWMA on two real series: most events, hardly a false alarm in a month."""
    robust, smooth = Outcome(), Outcome()
    for one in series[:2]:
        least = one.quantile(0.95) / 5
        for total, rule in (
            (robust, RobustZ(least=least, gap=3.5 * HOUR)),
            (smooth, Ewma(least=least, gap=3.5 * HOUR, half_life=120 * HOUR)),
        ):
            total.add(judge(one.labels[one.half :], tripped(rule, one)[one.half :], HOUR))
    for total in (robust, smooth):
        assert total.events == 22
        assert total.recall > 0.7
        assert total.false_alarms <= 2


def test_every_detector_is_printed_beside_the_threshold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One figure for each group and detector, whatever folder was named."""
    monkeypatch.setenv("KILLSWITCH_SERIES", str(SUBSET))
    setting = Setting(ControlPlane(tmp_path))
    found: dict[str, Figure] = {each["name"]: each for each in measure(setting)}
    assert len(found) == 7 + (1 + 6 * 2 + 1) + 4 * 7
    assert found["detector_hourly_threshold"]["ratio"] == 1.0
    assert {"precision", "recall", "delay_p50_min", "false_alarms_per_day", "untuned"} <= set(
        found["detector_crashes_robustZ"]
    )
