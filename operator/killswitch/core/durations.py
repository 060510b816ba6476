"""Durations as Kubernetes users write them (`500ms`, `30s`, `1h30m`)."""

import re

PATTERN = r"^([0-9]+(ms|s|m|h))+$"
"""The schema pattern of every duration field; `seconds` accepts exactly these texts."""

_PART = re.compile(r"([0-9]+)(ms|s|m|h)")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Seconds of a duration text; ValueError for anything outside `PATTERN`."""
    if not re.fullmatch(PATTERN[1:-1], text):
        raise ValueError(f"{text!r} is not a duration such as 500ms, 30s or 1h30m")
    return sum(int(count) * _UNIT[unit] for count, unit in _PART.findall(text))


def text(value: float) -> str:
    """A short human form of a number of seconds: `4 ms`, `2.3 s`, `3 min 12 s`."""
    if value < 0.9995:
        return f"{value * 1000:.1f} ms" if value < 0.01 else f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"
