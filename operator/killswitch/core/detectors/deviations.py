"""Detectors that learn what is normal: robust z, EWMA, CUSUM, seasonal baseline.

All are measured in deviations from what the series itself has shown, so one policy fits a small
and a large model; and all share the same weakness: whatever lasts becomes normal, and whatever was
there during warm-up always was. They see the unusual, not the dangerous.

`least` is required everywhere: the smallest deviation worth acting on, in the unit of the series.
Without it a flat series has a spread of 0 and trips on rounding errors.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from killswitch.core.detectors.shape import Finding, Kind, Past, Side, require_within, unknown
from killswitch.core.detectors.streams import (
    YEAR,
    Baseline,
    Stream,
    newest,
    require_limit,
    share_of,
)
from killswitch.core.readings import Blindness

_MAD = 1.4826
"""Standard deviation of a normal distribution whose median absolute deviation is 1."""

_TRUSTED = 3.0
"""Deviations beyond which a sample teaches no more than one this far (Huber 1964)."""


@dataclass(slots=True, kw_only=True)
class RobustZ(Stream):
    """Tripped while a value lies further from the recent median than the recent spread explains.

    Measures (value - median) / (1.4826 MAD) over the last `window` samples before it; the score is
    that, in deviations, positive in the direction of `side`. Source: Iglewicz and Hoaglin (1993),
    "How to detect and handle outliers"; Hampel (1974) for the MAD. Up to half of the window
    may be outliers without moving it. Warm-up: `warm_up` samples.

    `limit` 6 deviations (3.5 in the book is for samples people look at); `window` 120 samples (30
    min at 15 s; a change that lasts half of it is the new normal); `side` Above; `least` required.

    Not for: series with a daily shape longer than the window (each morning is an outlier: that is
    `Seasonal`), mostly-zero counts (the MAD is 0, so `least` alone decides), slow drift.
    """

    kind: ClassVar[Kind] = Kind.ROBUST_Z

    least: float
    limit: float = 6.0
    window: int = 120
    warm_up: int = 30
    _recent: deque[float] = field(init=False, repr=False, compare=False, default_factory=deque)
    _ordered: list[float] = field(init=False, repr=False, compare=False, default_factory=list)

    @property
    def numbers(self) -> int:
        """The window, in order of time and of height."""
        return 2 * self.window

    def past(self, every: float) -> Past:
        """The window."""
        return newest(self.window, every)

    def _check(self) -> None:
        require_limit(self.limit, self.least)
        require_within("window", self.window, 10, 1000)
        require_within("warm_up", self.warm_up, 5, self.window)

    def _step(self, at: float, value: float, step: float) -> Finding:
        del step
        found = self._judge(at, value)
        self._recent.append(value)
        insort(self._ordered, value)
        if len(self._recent) > self.window:
            del self._ordered[bisect_left(self._ordered, self._recent.popleft())]
        return found

    def _judge(self, at: float, value: float) -> Finding:
        ordered = self._ordered
        if len(ordered) < self.warm_up:
            return _few(at, len(ordered), self.warm_up)
        median = _middle(ordered)
        # Falling, then rising: sorting this is one merge, not n log n.
        spread = _MAD * _middle(sorted([abs(each - median) for each in ordered]))
        score = self.side.part((value - median) / max(spread, self.least / self.limit))
        sentence = "{:g} is {:.1f} robust deviations from the median {:g}, allowed {:g}"
        return self._found(
            score > self.limit, at, value, score, sentence, value, score, median, self.limit
        )

    def _forget(self) -> None:
        self._recent.clear()
        self._ordered.clear()


@dataclass(slots=True, kw_only=True)
class Ewma(Stream):
    """Tripped while a value lies further from its smoothed past than its smoothed spread explains.

    Measures (value - level) / deviation, both exponentially weighted by time; the score is that,
    in deviations, positive in the direction of `side`. Source: Roberts (1959), the
    residual form, as in Brutlag (2000) without the season. A sample beyond 3 deviations
    teaches as one of 3, so a spike does not blind it. Warm-up: `warm_up` samples.

    `limit` 6 deviations; `half_life` 1800 s, which is also about how long a step takes to become
    normal; `side` Above; `least` required.

    Not for: daily shapes with a long half-life, a ramp slower than the half-life (an attacker who
    knows it can walk it up: that is `Cusum`, and in the end a hard limit).
    """

    kind: ClassVar[Kind] = Kind.EWMA

    least: float
    limit: float = 6.0
    half_life: float = 1800.0
    warm_up: int = 30
    _baseline: Baseline = field(init=False, repr=False, compare=False, default_factory=Baseline)

    @property
    def numbers(self) -> int:
        """One baseline."""
        return 5

    def past(self, every: float) -> Past:
        """Three half-lives: what is older weighs an eighth."""
        return newest(max(self.warm_up, 3 * self.half_life / every), every)

    def _check(self) -> None:
        require_limit(self.limit, self.least)
        require_within("half_life", self.half_life, 0.001, YEAR)
        require_within("warm_up", self.warm_up, 5, 100_000)

    def _step(self, at: float, value: float, step: float) -> Finding:
        base, share = self._baseline, share_of(step, self.half_life)
        if base.count < self.warm_up:
            base.learn(value, share, math.inf)
            return _few(at, base.count, self.warm_up)
        level, deviation = base.level, base.deviation(self.least / self.limit)
        score = self.side.part((value - level) / deviation)
        base.learn(value, share, _TRUSTED * deviation)
        sentence = "{:g} is {:.1f} deviations from the smoothed {:g}, allowed {:g}"
        return self._found(
            score > self.limit, at, value, score, sentence, value, score, level, self.limit
        )

    def _forget(self) -> None:
        self._baseline = Baseline()


_MOST_AT_ONCE = 4.0
"""Deviations that one sample may add to a sum: a lone spike is not a shift."""


@dataclass(slots=True, kw_only=True)
class Cusum(Stream):
    """Tripped while small deviations to one side add up: for shifts too small to see in one sample.

    Measures S = max(0, S + z - drift), z being the deviation from a slow baseline, at most 4; the
    score is S, in deviations. Source: Page (1954); two-sided and tabular as in Montgomery,
    "Introduction to Statistical Quality Control". With the reference being the running mean, this
    recursion is Page-Hinkley's test (Hinkley 1971). S is kept within twice the limit, so that it
    ends in bounded time. Warm-up: `warm_up` samples; an interruption sets S to 0.

    `limit` 8 and `drift` 0.5 (finds a shift of one deviation in about 16 samples; independent
    normal noise trips it hardly ever, autocorrelated load does); `half_life` 86400 s of
    the baseline; `side` Above; `least` required: a lasting shift below it never trips.

    Not for: daily shapes (the day is a shift), or anything that must be stopped in seconds.
    """

    kind: ClassVar[Kind] = Kind.CUSUM

    least: float
    limit: float = 8.0
    drift: float = 0.5
    half_life: float = 86400.0
    warm_up: int = 60
    _baseline: Baseline = field(init=False, repr=False, compare=False, default_factory=Baseline)
    _above: float = field(init=False, repr=False, compare=False, default=0.0)
    _below: float = field(init=False, repr=False, compare=False, default=0.0)

    @property
    def numbers(self) -> int:
        """One baseline and two sums."""
        return 7

    def past(self, every: float) -> Past:
        """Three half-lives: what is older weighs an eighth."""
        return newest(max(self.warm_up, 3 * self.half_life / every), every)

    def _check(self) -> None:
        require_limit(self.limit, self.least)
        require_within("drift", self.drift, 0.05, _MOST_AT_ONCE / 2)
        require_within("half_life", self.half_life, 0.001, YEAR)
        require_within("warm_up", self.warm_up, 5, 100_000)

    def _step(self, at: float, value: float, step: float) -> Finding:
        base, share = self._baseline, share_of(step, self.half_life)
        if base.count < self.warm_up:
            base.learn(value, share, math.inf)
            return _few(at, base.count, self.warm_up)
        level, deviation = base.level, base.deviation(self.least / self.drift)
        z = max(-_MOST_AT_ONCE, min(_MOST_AT_ONCE, (value - level) / deviation))
        self._above = self._sum(self._above, z)
        self._below = self._sum(self._below, -z)
        base.learn(value, share, _TRUSTED * deviation)
        score = self._score()
        sentence = "deviations from {:g} add up to {:.1f}, allowed {:g}"
        return self._found(score > self.limit, at, value, score, sentence, level, score, self.limit)

    def _sum(self, before: float, z: float) -> float:
        return max(0.0, min(2 * self.limit, before + z - self.drift))

    def _score(self) -> float:
        match self.side:
            case Side.ABOVE:
                return self._above
            case Side.BELOW:
                return self._below
            case Side.BOTH:
                return max(self._above, self._below)

    def _interrupt(self) -> None:
        self._above = self._below = 0.0

    def _forget(self) -> None:
        self._baseline = Baseline()


_MOST_STEPS = 10_000
"""Prometheus answers 11,000 steps of a range at most."""


@dataclass(slots=True)
class _Phase:
    """One part of the period: its baseline, and how many cycles taught it."""

    baseline: Baseline = field(default_factory=Baseline)
    cycles: int = 0
    newest: int = -1
    """The number of the cycle last seen."""


@dataclass(slots=True, kw_only=True)
class Seasonal(Stream):
    """Tripped while a value is unusual for this time of the day.

    Measures (value - level) / deviation against the same phase of earlier periods; the score is
    that, in deviations, positive in the direction of `side`. Source: Brutlag (2000),
    "Aberrant behavior detection in time series" (after Holt and Winters), without trend;
    grafana/promql-anomaly-detection does the same in recording rules. Samples beyond 3 deviations
    teach as 3. Warm-up: each phase is Unknown until it has been seen in `cycles` periods.

    `limit` 6 deviations; `period` 86400 s; `phases` 24; `cycles` 3; `half_life` 7 periods; `side`
    Above; `least` required. For weeks: period 604800, phases 168. Phases are UTC; a change of
    summer time is a wrong hour twice a year.

    Not for: new services (no warm-up, no opinion), weekly shapes under a daily period (each
    Saturday is unusual), batch jobs that move, or anything that has to be caught within a phase of
    being deployed.
    """

    kind: ClassVar[Kind] = Kind.SEASONAL

    least: float
    limit: float = 6.0
    period: float = 86400.0
    phases: int = 24
    cycles: int = 3
    half_life: float = 7.0
    """Periods after which what was learned weighs half."""
    forget: float = 28 * 86400.0
    _phases: list[_Phase] = field(init=False, repr=False, compare=False, default_factory=list)

    @property
    def numbers(self) -> int:
        """One baseline for each phase."""
        return 7 * self.phases

    def past(self, every: float) -> Past:
        """The periods of the warm-up, a few samples in each phase: more would not change much."""
        step = max(every, min(self.gap, self.period / self.phases / 4))
        return Past(min((self.cycles + 1) * self.period, _MOST_STEPS * step), step)

    def _check(self) -> None:
        require_limit(self.limit, self.least)
        require_within("period", self.period, 60.0, YEAR)
        require_within("phases", self.phases, 2, 1000)
        require_within("cycles", self.cycles, 2, 100)
        require_within("half_life", self.half_life, 0.5, 1000.0)
        self._forget()

    def _step(self, at: float, value: float, step: float) -> Finding:
        width = self.period / self.phases
        cycle, within = divmod(at, self.period)  # exact where a rounded share would slip a phase
        phase = self._phases[min(int(within // width), self.phases - 1)]
        base = phase.baseline
        share = share_of(min(step, width), width * self.half_life)
        if phase.newest != cycle:
            phase.newest, phase.cycles = int(cycle), phase.cycles + 1
        if phase.cycles <= self.cycles or base.count < self.cycles:
            base.learn(value, share, math.inf)
            sentence = "this phase was seen in {:.0f} of {:.0f} periods"
            return unknown(Blindness.WARMING_UP, at, sentence, phase.cycles - 1, self.cycles)
        level, deviation = base.level, base.deviation(self.least / self.limit)
        score = self.side.part((value - level) / deviation)
        base.learn(value, share, _TRUSTED * deviation)
        sentence = "{:g} is {:.1f} deviations from {:g}, usual at this time, allowed {:g}"
        return self._found(
            score > self.limit, at, value, score, sentence, value, score, level, self.limit
        )

    def _forget(self) -> None:
        self._phases = [_Phase() for _ in range(self.phases)]


def _few(at: float, seen: int, needed: int) -> Finding:
    return unknown(Blindness.WARMING_UP, at, "{:.0f} of {:.0f} samples seen", seen, needed)


def _middle(ordered: Sequence[float]) -> float:
    """The median of sorted numbers."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
