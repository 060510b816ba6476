"""The part that learning detectors share: order, interruptions, the past; and their baselines.

A detector is written as four answers: `_anchor` (a first sample, or the first after an
interruption: known, not judged), `_step` (a sample in order), `_interrupt` (drop what assumes
continuity) and `_forget` (drop everything).
"""

import abc
import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from killswitch.core.detectors.order import Order, Place, interrupted
from killswitch.core.detectors.shape import (
    LARGEST,
    Finding,
    Kind,
    Past,
    Side,
    require,
    require_within,
    unknown,
    unusable,
)
from killswitch.core.readings import Blindness, Verdict

YEAR = 366 * 86400.0

_NORMAL = 1.2533
"""Standard deviation of a normal distribution whose mean absolute deviation is 1: sqrt(pi / 2)."""

_TINY = 1e-12

_SMALLEST = 1e-30
"""With LARGEST it keeps every score finite."""


@dataclass(slots=True, kw_only=True)
class Memory(abc.ABC):
    """A detector's newest time; its public fields are the rule's parameters."""

    kind: ClassVar[Kind]

    gap: float = 300.0
    """Seconds between two samples above which what lies between counts as not seen."""
    _order: Order = field(init=False, repr=False, compare=False, default_factory=Order)

    def __post_init__(self) -> None:
        require_within("gap", self.gap, 0.001, YEAR)
        self._check()

    def fresh(self) -> Self:
        """The same rule with an empty memory."""
        return replace(self)

    @property
    @abc.abstractmethod
    def numbers(self) -> int:
        """How many numbers the memory of one series holds at most."""

    @abc.abstractmethod
    def past(self, every: float) -> Past:
        """What of the past makes it warm, if one sample is taken every so many seconds."""

    @abc.abstractmethod
    def _check(self) -> None:
        """InvalidPolicyError for a parameter that cannot work."""


@dataclass(slots=True, kw_only=True)
class Stream(Memory):
    """A detector that learns from samples in order and from nothing else."""

    limit: float
    side: Side = Side.ABOVE
    forget: float = 7 * 86400.0
    """Seconds of interruption after which what was learned no longer describes the series."""
    _last: Finding | None = field(init=False, repr=False, compare=False, default=None)
    _doubted: float = field(init=False, repr=False, compare=False, default=0.0)

    def feed(self, at: float, value: float | None) -> Finding:
        """The finding after this sample."""
        fault = unusable(at, value)
        if fault is not None or value is None:
            return fault or unknown(Blindness.ABSENT, at, "there is no sample")
        order = self._order
        before = order.newest
        match order.place(at, self.gap):
            case Place.NEXT:
                found = self._step(at, value, order.step)
            case Place.LATE:
                sentence = "no sample in order since the start"
                return self._last or unknown(Blindness.WARMING_UP, at, sentence)
            case Place.FIRST:
                self._anchor(at, value)
                found = unknown(Blindness.WARMING_UP, at, "the first sample")
            case Place.AHEAD | Place.BEHIND:
                self._doubted = value
                return interrupted(at, before or 0.0, self.gap)
            case Place.RESUMED:
                if order.jump > self.forget:
                    self._forget()
                self._interrupt()
                self._anchor(at - order.step, self._doubted)
                found = self._step(at, value, order.step)
        self._last = found
        return found

    def __str__(self) -> str:
        """`ewma above 6`: what trips it."""
        return f"{self.kind} {'either way' if self.side is Side.BOTH else self.side.lower()} {self.limit:g}"

    @abc.abstractmethod
    def _step(self, at: float, value: float, step: float) -> Finding:
        """The finding for a sample `step` seconds after the one before; it is learned."""

    def _anchor(self, at: float, value: float) -> None:
        """Know a sample from which the next one continues."""

    def _interrupt(self) -> None:
        """Drop what only holds while no sample is missing."""

    @abc.abstractmethod
    def _forget(self) -> None:
        """Drop everything that was learned."""

    def _found(
        self, tripped: bool, at: float, value: float, score: float, sentence: str, *numbers: float
    ) -> Finding:
        verdict = Verdict.TRIPPED if tripped else Verdict.CLEAR
        return Finding(verdict, at, value, score, None, sentence, numbers)


@dataclass(slots=True)
class Baseline:
    """Level and spread of a series, weighted towards the recent past by time.

    Exponentially weighted mean and mean absolute deviation, corrected for their start (the first
    samples weigh alike, as in a plain mean). Five numbers.
    """

    level: float = 0.0
    level_weight: float = 0.0
    spread: float = 0.0
    spread_weight: float = 0.0
    count: int = 0

    def deviation(self, floor: float) -> float:
        """One standard deviation as a normal series of this spread has it, at least `floor`."""
        return max(_NORMAL * self.spread, floor)

    def learn(self, value: float, share: float, most: float) -> None:
        """Move towards a value by a share (0 to 1); beyond level ± `most` it counts as that far."""
        share = max(share, _TINY)
        difference = max(-most, min(most, value - self.level)) if self.count else value
        if self.count:
            self.spread_weight += share * (1 - self.spread_weight)
            self.spread += share / self.spread_weight * (abs(difference) - self.spread)
        self.level_weight += share * (1 - self.level_weight)
        self.level += share / self.level_weight * difference
        self.count += 1


_MOST_SAMPLES = 1000
"""Samples of the past beyond which a baseline would hardly change, or that cost too much to read."""


def newest(samples: float, every: float) -> Past:
    """So many samples and two more, as one may be missing at each end."""
    return Past((math.ceil(min(samples, _MOST_SAMPLES)) + 2) * every, every)


def share_of(step: float, half_life: float) -> float:
    """How much the newest of these many seconds weighs: half after one half-life."""
    return -math.expm1(-step * math.log(2) / half_life)


def require_limit(limit: float, least: float) -> None:
    """InvalidPolicyError unless the limit is 1 to 1000 deviations and `least` is positive."""
    require_within("limit", limit, 1.0, 1000.0)
    require(
        _SMALLEST <= least <= LARGEST,
        "least",
        f"{least:g} is not a usable positive number",
        "write the smallest deviation that is worth acting on, in the unit of the series",
    )
