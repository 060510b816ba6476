"""Series and samples as every path of `signals` hands them on.

Samples travel in columns, not as objects: a million a second leave no room for one object each.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

Labels = tuple[tuple[str, str], ...]

ENDED: Final = float("nan")
"""The value that says a series has ended (Prometheus' stale marker). Told from a measured NaN by
`is`, and as a NaN it is beyond no threshold for whoever forgets to look."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One series. Compared by identity: it is the same object for as long as its decoder caches it.

    After a series was evicted it comes back as another object with an equal `key`.
    """

    name: str
    labels: Labels
    """Sorted by name, without `__name__`."""

    @property
    def key(self) -> tuple[str, Labels]:
        """What makes it this series, across decoders and evictions."""
        return self.name, self.labels

    def __str__(self) -> str:
        """As PromQL writes it, for logs and evidence."""
        inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in self.labels)
        return f"{self.name}{{{inner}}}" if inner else self.name


@dataclass(slots=True)
class Samples:
    """Three columns of equal length, in the order of arrival.

    A value may be `ENDED` only where `ends` is set.
    """

    series: list[Series] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    """Milliseconds since the epoch, as the sender stamped them."""
    ends: bool = False
    """Whether any value is `ENDED`."""

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[tuple[Series, float, int]]:
        return zip(self.series, self.values, self.timestamps, strict=True)


def fresh(timestamp: int, now: float, max_age: float) -> bool:
    """Whether a sample of `timestamp` (ms) may be acted upon at `now` (s): at most `max_age` s off.

    Off in either direction: a sample from the future proves a wrong clock, not a fresh value.
    """
    return math.fabs(now - timestamp / 1000) <= max_age


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
