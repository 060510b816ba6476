"""The detectors of one signal: one for each series, and one reading for all of them.

Push trips, poll clears, as for thresholds: a pushed sample is judged at once and may trip the
signal; Clear and Unknown come from polls, which see all series. The worst series decides. Of each
series one sample is taken in each stretch of `every` seconds, by its own time, whichever path it
came on: what is polled twice, or arrives on two paths, is learned once.

Before it begins, the past is read (`recalling`), so that a restart costs no warm-up. Until then
nothing is learned, since the past could not be put before it any more.
"""

import abc
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from killswitch.api.compiled import CompiledSignal
from killswitch.core import readings
from killswitch.core.detectors import Detector, Finding, Kind, Past
from killswitch.core.detectors.shape import unknown
from killswitch.core.readings import (
    FUTURE,
    Answer,
    Blindness,
    Labels,
    NoAnswer,
    Path,
    Reading,
    Verdict,
)
from killswitch.signals.series import ENDED

MOST_SERIES: Final = 1000
MOST_NUMBERS: Final = 120_000
"""Numbers that the detectors of one signal remember together: about 5 MB."""
_KEPT = 3600.0
"""Seconds after which a series is forgotten of which nothing is heard."""
_FULL = 1.0
"""Seconds between two searches for a series that could make room."""
PATIENCE: Final = 60.0
"""Seconds for which samples are turned away while the past is read."""


class _Sample(NamedTuple):
    """One that was pushed."""

    labels: Labels
    value: float
    at: float
    path: Path


class Detecting(abc.ABC):
    """What one signal with a detector has learned."""

    def __init__(self, signal: CompiledSignal, detector: Detector) -> None:
        """Nothing yet; the past is to be read first."""
        self.signal = signal
        self._detector = detector
        self._begun = False
        self._turned_away: float | None = None
        self._remark = ""

    @property
    def begun(self) -> bool:
        """Whether the past was read, or given up."""
        return self._begun

    @property
    def missing(self) -> bool:
        """Whether samples have been turned away already."""
        return self._turned_away is not None

    @property
    def past(self) -> Past:
        """What of the past is worth reading."""
        return self._detector.past(self.signal.every)

    @abc.abstractmethod
    def recall(self, answer: Answer, elapsed: float) -> None:
        """Learn one moment of the past, oldest first; of use before it has begun."""

    def begin(self, elapsed: float, failure: str = "") -> None:
        """From now on learn what arrives; `failure` says why the past is not known."""
        del elapsed
        self._begun = True
        self._remark = f"; its past is not known: {failure}" if failure else ""

    def answered(self, answer: Answer | NoAnswer, *, now: float, elapsed: float) -> Reading:
        """What the signal says after a poll.

        `now` is wall time, as that of samples; `elapsed` the same moment in monotonic time.
        """
        if isinstance(answer, NoAnswer) or self._ready(elapsed):
            return self._judged(answer, now, elapsed)
        return self._unknown(Blindness.WARMING_UP, "its past is being read", now)

    def push(
        self, labels: Labels, value: float, at: float, *, path: Path, now: float, elapsed: float
    ) -> Reading | None:
        """The trip that a pushed sample amounts to; None where it changes nothing."""
        if not -FUTURE <= now - at <= self.signal.max_age or not self._ready(elapsed):
            return None  # a replay or a wrong clock: learned, it would look like time running back
        return self._pushed(_Sample(labels, value, at, path), now, elapsed)

    @abc.abstractmethod
    def _judged(self, answer: Answer | NoAnswer, now: float, elapsed: float) -> Reading:
        """Learn an answer, and say what is known then."""

    @abc.abstractmethod
    def _pushed(self, sample: _Sample, now: float, elapsed: float) -> Reading | None:
        """Learn a pushed sample."""

    def _ready(self, elapsed: float) -> bool:
        if not self._begun:
            if self._turned_away is None:
                self._turned_away = elapsed
            if elapsed - self._turned_away > PATIENCE:
                self.begin(elapsed, f"it was not read within {PATIENCE:g} s")
        return self._begun

    def _unknown(self, reason: Blindness, message: str, now: float) -> Reading:
        if reason is Blindness.WARMING_UP:
            message += self._remark
        return Reading(self.signal.name, Verdict.UNKNOWN, message, now, reason)


_ENDED = unknown(Blindness.STALE, -math.inf, "nothing is there now")


@dataclass(slots=True)
class _Series:
    """One series under a detector of its own."""

    labels: Labels
    detector: Detector
    finding: Finding
    stretch: float = math.nan
    """Which one its newest sample was taken in."""
    path: Path = Path.POLL
    """On which that sample came."""
    heard: float = 0.0
    """When (monotonic) anything was last heard of it."""

    def fresh(self, now: float, max_age: float) -> bool:
        """Whether its finding is new enough to count."""
        return abs(now - self.finding.at) <= max_age


class Unusual(Detecting):
    """Detectors that judge the values of each series."""

    def __init__(self, signal: CompiledSignal, detector: Detector) -> None:
        """No series is known yet."""
        super().__init__(signal, detector)
        self._most = max(10, min(MOST_SERIES, MOST_NUMBERS // max(1, detector.numbers)))
        self._series: dict[Labels, _Series] = {}
        self._full_until = -math.inf
        self._crowded = -math.inf
        """When a series was last turned away for want of room."""

    def recall(self, answer: Answer, elapsed: float) -> None:
        """Learn one moment of the past."""
        if self._fault(answer) is None:
            self._learn(answer, answer.at or 0.0, elapsed)

    def _judged(self, answer: Answer | NoAnswer, now: float, elapsed: float) -> Reading:
        self._drop(elapsed, _KEPT)
        fault = answer if isinstance(answer, NoAnswer) else self._fault(answer)
        polled = [] if fault or isinstance(answer, NoAnswer) else self._learn(answer, now, elapsed)
        pushed = [
            one
            for one in self._series.values()
            if one.path is not Path.POLL and one.fresh(now, self.signal.max_age)
        ]
        if (
            tripped := self._tripped({id(one): one for one in (*polled, *pushed)}, now)
        ) is not None:
            return tripped
        if fault is not None:
            return self._unknown(fault.reason, fault.detail, now)
        if elapsed - self._crowded <= self.signal.max_age:
            message = f"more than the {self._most} series that it can remember; aggregate"
            return self._unknown(Blindness.FAILED, message, now)
        count = len(polled)
        return self._doubt(polled, now) or self._said(_worst(polled), now, count, count)

    def _pushed(self, sample: _Sample, now: float, elapsed: float) -> Reading | None:
        one = self._series.get(sample.labels) or self._added(sample.labels, elapsed)
        if one is None:
            return None
        one.heard = elapsed
        if sample.value is ENDED:  # it may come back: a scrape that failed ends all series
            one.stretch, one.finding = math.nan, _ENDED
            return None
        stretch = sample.at // self.signal.every
        if stretch == one.stretch:
            return None
        one.stretch, one.path = stretch, sample.path
        found = one.finding = one.detector.feed(sample.at, sample.value)
        if found.verdict is not Verdict.TRIPPED or not one.fresh(now, self.signal.max_age):
            return None
        return self._said(one, now)

    def _fault(self, answer: Answer) -> NoAnswer | None:
        """Why an answer is not learned from: even one value of a partial sum may be wrong."""
        return readings.unusable(answer, self.signal.max_age) or readings.partial(answer.warnings)

    def _learn(self, answer: Answer, now: float, elapsed: float) -> list[_Series]:
        """The series of the answer, each with the finding that counts."""
        at = answer.sampled_at
        if at is None:
            at = now - (answer.oldest_age or 0.0)
        stretch, found = at // self.signal.every, []
        of = answer.series or [((("series", str(n))),) for n in range(len(answer.values))]
        for labels, value in zip(of, answer.values, strict=True):
            one = self._series.get(named := self._own(labels)) or self._added(named, elapsed)
            if one is None:
                continue
            one.heard = elapsed
            if stretch != one.stretch:
                one.stretch, one.path = stretch, Path.POLL
                one.finding = one.detector.feed(at, value)
            found.append(one)
        return found

    def _own(self, labels: Labels) -> Labels:
        """As a pushed sample has them: without the name where all series have the same."""
        if self.signal.metric is None:
            return labels
        return tuple(each for each in labels if each[0] != "__name__")

    def _added(self, labels: Labels, elapsed: float) -> _Series | None:
        """A new series; None if there is no room even without those that have fallen silent."""
        if len(self._series) >= self._most:
            if elapsed >= self._full_until:
                self._full_until = elapsed + _FULL
                self._drop(elapsed, self.signal.max_age)
            if len(self._series) >= self._most:
                self._crowded = elapsed
                return None
        one = self._series[labels] = _Series(labels, self._detector.fresh(), _ENDED)
        return one

    def _drop(self, elapsed: float, silent: float) -> None:
        """Forget series of which nothing was heard for so many seconds."""
        for labels in [key for key, one in self._series.items() if elapsed - one.heard > silent]:
            del self._series[labels]

    def _tripped(self, among: Mapping[int, _Series], now: float) -> Reading | None:
        found = [
            one
            for one in among.values()
            if one.finding.verdict is Verdict.TRIPPED and one.fresh(now, self.signal.max_age)
        ]
        return self._said(_worst(found), now, len(found), len(among)) if found else None

    def _doubt(self, seen: Sequence[_Series], now: float) -> Reading | None:
        """Unknown if any series is: warming up is told last, as it excuses from voting."""
        told = [
            (one, one.finding.reading("", max_age=self.signal.max_age, now=now)) for one in seen
        ]
        doubts = [(one, each) for one, each in told if each.verdict is Verdict.UNKNOWN]
        if not doubts:
            return None
        one, worst = min(doubts, key=lambda each: each[1].reason is Blindness.WARMING_UP)
        message = worst.message + _place(one, len(doubts), len(seen))
        return self._unknown(worst.reason or Blindness.FAILED, message, now)

    def _said(self, one: _Series, now: float, alike: int = 1, of: int = 1) -> Reading:
        found = one.finding
        message = found.message + _place(one, alike, of)
        return Reading(
            self.signal.name, found.verdict, message, now, None, found.value, found.at, one.path
        )


class Silent(Detecting):
    """The detector of silence, for all series of the signal together: pods come and go.

    Each poll is a look. Something is there if it is newer than what was seen before. Silence is
    counted in elapsed time, so that a clock that is set makes none.
    """

    def __init__(self, signal: CompiledSignal, detector: Detector) -> None:
        """Nothing was ever there."""
        super().__init__(signal, detector)
        self._memory = detector.fresh()
        self._newest = -math.inf
        self._was_there = False

    def recall(self, answer: Answer, elapsed: float) -> None:
        """Whether it was there."""
        del elapsed
        self._was_there |= self._new(answer, answer.at or 0.0)

    def begin(self, elapsed: float, failure: str = "") -> None:
        """What was there counts as silent from now on, since nobody of us looked before."""
        super().begin(elapsed, failure)
        if self._was_there:
            self._memory.feed(elapsed, 1.0)

    def _judged(self, answer: Answer | NoAnswer, now: float, elapsed: float) -> Reading:
        if isinstance(answer, NoAnswer):
            return self._unknown(answer.reason, answer.detail, now)  # nobody looked
        if _time(answer, now) > now + readings.FUTURE:
            words = "samples are dated in the future: the clocks differ"
            return self._unknown(Blindness.INTERRUPTED, words, now)
        new = self._new(answer, now)
        strange = [each for each in answer.warnings if not each.startswith(readings.NO_SERIES)]
        if not new and (doubt := readings.partial(strange)) is not None:
            return self._unknown(doubt.reason, doubt.detail, now)
        found = self._memory.feed(elapsed, 1.0 if new else None)
        if found.verdict is Verdict.UNKNOWN:
            return self._unknown(found.reason or Blindness.FAILED, found.message, now)
        return Reading(self.signal.name, found.verdict, found.message, now, None, found.value)

    def _pushed(self, sample: _Sample, now: float, elapsed: float) -> Reading | None:
        del now
        if self._later(sample.at) and not math.isnan(sample.value):
            self._newest = sample.at
            self._memory.feed(elapsed, 1.0)
        return None

    def _later(self, at: float) -> bool:
        """Whether a sample is another than the newest so far.

        One that is older by more than `maxAge`, and yet fresh, tells that clocks were set back.
        """
        return at > self._newest or at < self._newest - self.signal.max_age

    def _new(self, answer: Answer, now: float) -> bool:
        """Whether something usable is there that was not seen before; it is, from now on."""
        if readings.unusable(answer, self.signal.max_age) is not None:
            return False
        at = _time(answer, now)
        if not self._later(at) or all(math.isnan(each) for each in answer.values):
            return False
        self._newest = at
        return True


def _time(answer: Answer, now: float) -> float:
    """When its oldest sample was taken, in seconds since the epoch."""
    return now - (answer.oldest_age or 0.0) if answer.sampled_at is None else answer.sampled_at


def detecting(signal: CompiledSignal) -> Detecting | None:
    """What a signal needs if it has a detector."""
    if signal.detector is None:
        return None
    kind = Silent if signal.detector.kind is Kind.ABSENCE else Unusual
    return kind(signal, signal.detector)


def _worst(among: Iterable[_Series]) -> _Series:
    return max(among, key=lambda one: one.finding.score or 0.0)


def _place(one: _Series, alike: int, of: int) -> str:
    """Which series a sentence is about, and for how many of them it stands."""
    labels = ",".join(f'{name}="{value}"' for name, value in one.labels)
    where = f" ({{{labels}}})" if labels else ""
    return where if of < 2 else f"{where}, {alike} of {of} series"
