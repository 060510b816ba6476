"""Runs: series that follow each other in the same order, request after request.

A run knows the bytes between the values of up to 64 successive series (labels, tags, lengths).
Where a body holds exactly those bytes at exactly those places, reading the values is one
`struct` call and one comparison of tuples, about four times faster than a walk from series to
series. Everything between the values is compared, so a run accepts nothing that the walk would
not read alike.

Runs begin and end where the *series* say so (a hash of their labels), not where a request happens
to begin, so that requests cut at other places find the same runs again. A series whose value
leaves and reaches 0 changes its length on the wire; after `_FLAPPING` such breaks it is walked
alone and no longer breaks a run.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from itertools import compress, repeat
from operator import itemgetter
from struct import Struct
from typing import Any, Final

from killswitch.signals.series import Samples, Series

ONE_SAMPLE: Final = b"\x12\x10\x09"
"""How the last 18 bytes of a series begin: a Sample of 16 bytes, its value of 8 follows."""
NO_VALUE: Final = b"\x12\x07\x10"
"""How the last 9 bytes begin where the value is 0, which proto3 leaves out."""
RUN_COST = 150
"""About what a run occupies for each series, beside its bytes."""

LONGEST: Final = 64
_SHORTEST, _FLAPPING = 8, 4
_BOUNDARY = 63  # mask of a hash: one series in 64 begins a run

_Items = tuple[Any, ...]


class Edge(IntEnum):
    """What a series means for the runs around it; 0 for most."""

    NONE = 0
    BEGINS = 1
    ALONE = 2


class Known:
    """What the cache keeps for one series: `series` is None where nobody asked for it."""

    __slots__ = ("edge", "flips", "run", "seen", "series", "trail")

    def __init__(self, raw: bytes, series: Series | None, request: int) -> None:
        self.series = series
        self.run: Run | None = None
        self.seen = request
        self.flips = 0
        self.trail = 0
        """How many bytes the last walk took that began here."""
        self.edge = Edge.BEGINS if hash(raw) & _BOUNDARY == 0 else Edge.NONE


class Stamps(dict[bytes, int | None]):
    """Timestamp fields of 7 bytes → milliseconds; None for what is not one. Bounded."""

    def __missing__(self, raw: bytes) -> int | None:
        if raw[0] != 0x10 or raw[6] >= 0x80 or min(raw[1:6]) < 0x80:
            return None
        if len(self) >= 4096:
            self.clear()
        found = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(raw[1:]))
        self[raw] = found
        return found


class Run:
    """Successive series and the bytes between their values."""

    __slots__ = (
        "_expected",
        "_mask",
        "_prefixes",
        "_series",
        "_stamps",
        "_unpack",
        "_values",
        "cost",
        "entries",
        "seen",
        "size",
        "wanted",
    )

    def __init__(self, body: bytes, frames: Sequence["_Frame"], request: int) -> None:
        layout, expected = ["<"], []
        prefixes, values, stamps, at = [], [], [], 0
        for entry, start, stop, value in frames:
            between = stop - 7 - start - (8 if value else 0)
            layout.append(f"{between}sd7s" if value else f"{between}s7s")
            expected.append(body[start : start + between])
            prefixes.append(at)
            if entry.series is not None:
                values.append(at + 1 if value else -1)
            stamps.append(at + 2 if value else at + 1)
            at = stamps[-1] + 1
        shape = Struct("".join(layout))
        self._unpack = shape.unpack_from
        self._expected = tuple(expected)
        self._prefixes, self._stamps = _pick(prefixes), _pick(stamps)
        self._values = _pick(values)
        self.entries = tuple(frame[0] for frame in frames)
        self._series = tuple(e.series for e in self.entries if e.series is not None)
        self._mask = tuple(entry.series is not None for entry in self.entries)
        self.wanted = len(self._series)
        self.size = shape.size
        self.cost = self.size + RUN_COST * len(self.entries)
        self.seen = request

    def read(self, body: bytes, start: int, end: int, stamps: Stamps, out: Samples) -> int:
        """Where the run at `start` ends, its samples added to `out`; 0 if another thing is there."""
        after = start + self.size
        if after > end:
            return 0
        items = (*self._unpack(body, start), 0.0)
        found = self._prefixes(items)
        if found != self._expected:
            self._blame(found)
            return 0
        raw = self._stamps(items)
        if len(set(raw)) == 1:
            timestamp = stamps[raw[0]]
            if timestamp is None:
                return 0
            out.timestamps.extend(repeat(timestamp, self.wanted))
        else:
            several = [stamp for each in raw if (stamp := stamps[each]) is not None]
            if len(several) < len(raw):
                return 0
            out.timestamps.extend(compress(several, self._mask))
        out.series.extend(self._series)
        out.values.extend(self._values(items))
        return after

    def _blame(self, found: _Items) -> None:
        """Count the break for the series where it happened."""
        pairs = zip(found, self._expected, self.entries, strict=True)
        culprit = next(entry for one, other, entry in pairs if one != other)
        culprit.flips += 1
        if culprit.flips >= _FLAPPING:
            culprit.edge = Edge.ALONE
            culprit.run = None


_Frame = tuple[Known, int, int, bool]
"""A series, where its bytes start and stop, and whether a value is written out."""


class Trail:
    """Series walked one after the other, about to become a run."""

    __slots__ = ("_request", "cost", "frames")

    def __init__(self, request: int) -> None:
        self._request = request
        self.frames: list[_Frame] = []
        """The walk appends here itself, and calls `end` before an edge and at `LONGEST`."""
        self.cost = 0
        """What the runs made here occupy, less those that they replaced."""

    def end(self, body: bytes) -> None:
        """What was walked until here is a run, if it is long enough and was as long last time."""
        frames = self.frames
        if len(frames) >= _SHORTEST:
            first, start = frames[0][:2]
            size = frames[-1][2] - start
            if first.trail == size:
                self.cost -= first.run.cost if first.run is not None else 0
                first.run = Run(body, frames, self._request)
                self.cost += first.run.cost
            first.trail = size
        frames.clear()


def _pick(places: Sequence[int]) -> Callable[[_Items], _Items]:
    """The items at these places, as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda items: tuple(items[place] for place in places)
