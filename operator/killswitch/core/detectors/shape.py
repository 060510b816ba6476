"""What all detectors have in common: the Protocol, what they answer, and the faults of one sample.

The direction of each fault of a single sample (faults of order are in `order`):

=====================  ============================================================================
nothing there (None)   Unknown, Absent; `Absence` counts it as silence
stale marker           Unknown, Stale; `Absence` counts it as silence
NaN                    Unknown, NotANumber; `Absence` counts it as silence
±infinity, > 1e100     a hard limit that it crosses trips; otherwise Unknown, NotANumber (a division
                       by zero, not a measurement); `Absence` counts it as silence
time is not finite     Unknown, NotANumber
=====================  ============================================================================

None of them is ever learned from.
"""

import math
import re
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol, Self

from killswitch.core.errors import InvalidPolicyError
from killswitch.core.readings import Blindness, Reading, Verdict

LARGEST = 1e100
"""Beyond it squares and sums may overflow; no metric of a model server comes near."""

_STALE_BITS = 0x7FF0000000000002
"""Prometheus's stale marker (model/value/value.go): a NaN that says the series has ended."""

STALE_MARKER: float = struct.unpack(">d", struct.pack(">Q", _STALE_BITS))[0]


class Kind(StrEnum):
    """The detectors by the names that policies use."""

    THRESHOLD = "threshold"
    RATE = "rate"
    ABSENCE = "absence"
    ROBUST_Z = "robustZ"
    EWMA = "ewma"
    CUSUM = "cusum"
    SEASONAL = "seasonal"


class Side(StrEnum):
    """Which way a deviation must go to count."""

    ABOVE = "Above"
    BELOW = "Below"
    BOTH = "Both"

    def part(self, deviation: float) -> float:
        """How much of a signed deviation counts; negative where it goes the other way."""
        match self:
            case Side.ABOVE:
                return deviation
            case Side.BELOW:
                return -deviation
            case Side.BOTH:
                return abs(deviation)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector says of a series: `at` is the time of the sample on which it rests."""

    verdict: Verdict
    at: float
    value: float | None
    score: float | None
    """In the unit that the detector's docstring names; None where the verdict is Unknown."""
    reason: Blindness | None
    sentence: str
    numbers: tuple[float, ...] = ()

    @property
    def message(self) -> str:
        """One sentence with the numbers in it; built only when somebody reads it."""
        return self.sentence.format(*self.numbers)

    def reading(self, signal: str, *, max_age: float, now: float) -> Reading:
        """The same as a signal's reading; Unknown if the sample is older than `max_age`.

        So is one dated further than that into the future: it would stay fresh for ever.
        """
        age = now - self.at
        if self.verdict is not Verdict.UNKNOWN and not -max_age <= age <= max_age:
            message = f"age of the newest sample is {age:.1f} s, allowed {max_age:g} s"
            return Reading(signal, Verdict.UNKNOWN, message, now, Blindness.STALE, self.value)
        return Reading(
            signal, self.verdict, self.message, now, self.reason, self.value, sampled_at=self.at
        )


@dataclass(frozen=True, slots=True)
class Past:
    """A stretch of time that ends now, in seconds."""

    span: float
    step: float
    """Between two samples in it."""


class Detector(Protocol):
    """One series under one rule."""

    kind: ClassVar[Kind]

    @property
    def numbers(self) -> int:
        """How many numbers the memory of one series holds at most; each costs about 40 bytes."""
        ...

    def past(self, every: float) -> "Past":
        """What of the past makes it warm, if one sample is taken every so many seconds."""
        ...

    def fresh(self) -> Self:
        """The same rule with an empty memory: one for each series."""
        ...

    def feed(self, at: float, value: float | None) -> Finding:
        """The finding after this sample; None says that somebody looked and nothing was there.

        `at` is the sample's own time in seconds since the epoch.
        """
        ...


def unknown(reason: Blindness, at: float, sentence: str, *numbers: float) -> Finding:
    """A finding that is no opinion."""
    return Finding(Verdict.UNKNOWN, at, None, None, reason, sentence, numbers)


def is_stale_marker(value: float) -> bool:
    """Whether these are the very bits by which Prometheus ends a series."""
    return bool(struct.unpack(">Q", struct.pack(">d", value))[0] == _STALE_BITS)


def unusable(at: float, value: float | None) -> Finding | None:
    """Why nothing can be learned from this sample; None for a usable one."""
    if value is not None and math.isfinite(at) and -LARGEST <= value <= LARGEST:
        return None
    if not math.isfinite(at):
        return unknown(Blindness.NOT_A_NUMBER, at, "the sample has no usable time")
    if value is None:
        return unknown(Blindness.ABSENT, at, "there is no sample")
    if not math.isnan(value):
        return unknown(Blindness.NOT_A_NUMBER, at, "{:g} is no measurement", value)
    if is_stale_marker(value):
        return unknown(Blindness.STALE, at, "the series has ended (stale marker)")
    return unknown(Blindness.NOT_A_NUMBER, at, "the value is NaN")


def require(holds: bool, parameter: str, problem: str, cure: str) -> None:
    """InvalidPolicyError for this parameter unless the condition holds."""
    if not holds:
        words = re.sub(r"_(\w)", lambda found: found[1].upper(), parameter)
        raise InvalidPolicyError(f"detector.{words}", problem, cure)


def require_within(parameter: str, value: float, least: float, most: float) -> None:
    """InvalidPolicyError unless least <= value <= most; NaN is not."""
    problem = f"{value:g} is not between {least:g} and {most:g}"
    require(least <= value <= most, parameter, problem, "write a number between them")
