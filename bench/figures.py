"""One measured figure, as the line that `make bench` prints."""

import statistics
from collections.abc import Sequence
from typing import Any

Figure = dict[str, Any]


def figure(
    name: str,
    value: float,
    unit: str,
    *,
    baseline: float | None = None,
    aim: str = "",
    met: bool | None = None,
    **more: Any,
) -> Figure:
    """The figure with its ratio to the baseline; `met` is None where there is no aim."""
    ratio = None if not baseline else round(value / baseline, 3)
    rounded = None if baseline is None else round(baseline, 4)
    return {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "baseline": rounded,
        "ratio": ratio,
        "aim": aim,
        "met": met,
        **more,
    }


def at_most(
    name: str, value: float, unit: str, *, baseline: float, times: float, **more: Any
) -> Figure:
    """A figure that should be at most `times` its baseline."""
    met = value <= times * baseline
    return figure(name, value, unit, baseline=baseline, aim=f"<= {times} x", met=met, **more)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share (0 to 1) of the values lies, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)
