"""Where a sample stands in time: in order, late, or parted from the others by a gap or clock step.

A time that is more than `gap` away from the newest one is doubted until a second sample continues
from it. So one bogus timestamp (0, milliseconds for seconds) costs one Unknown and no memory, while
a clock that has really stepped, or a series that has really paused, is followed from the second
sample on. Memory is two numbers.

=======================  ==========================================================================
same time again          the first to arrive wins; the finding stands
late, within `gap`       dropped; the finding stands, and so does its time, so `maxAge` makes it
                         stale. A clock stepped back by less than `gap` looks like this
gap, or clock stepped    Unknown, Interrupted, for one sample; then sums and rates start anew, what
by more than `gap`       is known of levels is kept unless the step exceeds `forget`
clock stepped forward    not noticed; a rate is too low for one span
by less than `gap`
samples always further   Unknown, Interrupted, every time: the sentence says what to do
apart than `gap`
=======================  ==========================================================================

A hard limit needs no order to trip: a value beyond it is believed late, twice and after any gap.
"""

from dataclasses import dataclass
from enum import Enum, auto

from killswitch.core.detectors.shape import Finding, unknown
from killswitch.core.readings import Blindness


class Place(Enum):
    """Where one sample stands among those before it."""

    FIRST = auto()
    NEXT = auto()
    LATE = auto()  # or the same time again
    AHEAD = auto()  # doubted: too far in the future
    BEHIND = auto()  # doubted: too far in the past
    RESUMED = auto()  # continues from the doubted one, which is thereby believed


@dataclass(slots=True)
class Order:
    """The newest believed time of a series, and one that is doubted."""

    newest: float | None = None
    doubted: float | None = None
    step: float = 0.0
    """Seconds between the last two believed samples: after NEXT and RESUMED."""
    jump: float = 0.0
    """Seconds by which time jumped, in either direction, before RESUMED."""

    def place(self, at: float, gap: float) -> Place:
        """Where this time stands, which is remembered."""
        if self.newest is None:
            self.newest = at
            return Place.FIRST
        step = at - self.newest
        if 0 < step <= gap:
            self.newest, self.doubted, self.step = at, None, step
            return Place.NEXT
        if self.doubted is not None and 0 < at - self.doubted <= gap:
            self.jump = abs(self.doubted - self.newest)
            self.newest, self.step, self.doubted = at, at - self.doubted, None
            return Place.RESUMED
        if -gap <= step <= 0:
            return Place.LATE
        self.doubted = at
        return Place.AHEAD if step > 0 else Place.BEHIND


def interrupted(at: float, newest: float, gap: float) -> Finding:
    """The finding of a sample whose time is doubted."""
    if at > newest:
        sentence = (
            "{:.0f} s since the sample before, allowed {:g} s;"
            " if samples are always so far apart, raise gap"
        )
        return unknown(Blindness.INTERRUPTED, at, sentence, at - newest, gap)
    sentence = "the clock went back by {:.0f} s, allowed {:g} s"
    return unknown(Blindness.INTERRUPTED, at, sentence, newest - at, gap)
