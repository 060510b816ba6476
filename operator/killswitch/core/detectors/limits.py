"""Detectors that compare with a number a person has chosen: threshold, rate of change, absence.

They need no history to be right, and can be read aloud: "more than 0 violations", "more than 500
tokens a second more each second", "nothing for 30 seconds".
"""

from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

from killswitch.core.detectors.order import Place, interrupted
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
from killswitch.core.detectors.streams import YEAR, Memory, Stream, newest
from killswitch.core.readings import Blindness, Threshold, Verdict


@dataclass(slots=True, kw_only=True)
class HardLimit(Memory):
    """Tripped while the value is beyond a limit: the only detector that may stop a model alone.

    Measures the newest value; the score is that value, in the unit of the series. Source: Shewhart
    (1931), and every safety instrumented function since (IEC 61511: a trip has a set point).
    Warm-up: none. `threshold` has no default: it is the policy.

    A value beyond the limit is believed late, twice, infinite and after any gap; all-is-well is
    believed only in order. Gaps do not matter: it has no memory.

    Not for: quantities whose normal height changes with load (tokens/s, latency, power) unless the
    limit is one of physics or budget; there it is either deaf or a false alarm each Monday.
    """

    kind: ClassVar[Kind] = Kind.THRESHOLD

    threshold: Threshold
    _last: Finding | None = field(init=False, repr=False, compare=False, default=None)

    def feed(self, at: float, value: float | None) -> Finding:
        """The finding after this sample."""
        fault = unusable(at, value)
        if fault is not None and (value is None or fault.reason is not Blindness.NOT_A_NUMBER):
            return fault
        if value is None or at - at != 0:  # a value without a time is nobody's evidence
            return fault or unknown(Blindness.ABSENT, at, "there is no sample")
        before = self._order.newest
        place = self._order.place(at, self.gap) if fault is None else Place.NEXT
        if self.threshold.crossed(value):
            found = self._found(Verdict.TRIPPED, at, value, "{:g} is " + str(self.threshold))
        elif fault is not None:
            return fault
        elif place is Place.LATE and self._last is not None:
            return self._last
        elif place is Place.BEHIND:
            return interrupted(at, before or 0.0, self.gap)
        else:
            found = self._found(Verdict.CLEAR, at, value, "{:g} is not " + str(self.threshold))
        self._last = found
        return found

    @property
    def numbers(self) -> int:
        """None: only the newest finding is kept."""
        return 0

    def past(self, every: float) -> Past:
        """Nothing."""
        return Past(0.0, every)

    def __str__(self) -> str:
        """`> 5000`: what trips it."""
        return str(self.threshold)

    def _check(self) -> None:
        limits = [each for each in (self.threshold.above, self.threshold.below) if each is not None]
        cure = "keep the one you mean"
        require(len(limits) == 1, "threshold", "needs exactly one of above and below", cure)
        require_within("threshold", limits[0], -LARGEST, LARGEST)

    def _found(self, verdict: Verdict, at: float, value: float, sentence: str) -> Finding:
        return Finding(verdict, at, value, value, None, sentence, (value,))


_POINTS = 32
"""Samples remembered for a span: closer ones are skipped, so memory does not grow."""


@dataclass(slots=True, kw_only=True)
class Rate(Stream):
    """Tripped while the value changes faster than a limit, measured across one span.

    Measures (newest - oldest in the span) / seconds between them; the score is that, in units of
    the series per second, positive in the direction of `side`. Source: Prometheus `delta`/`rate`
    (two ends, here without extrapolation). Warm-up: one `span`; an interruption starts it anew.

    `limit` (required, per second); `span` 60 s: a longer one is calmer and later; `side` Above;
    `counter` for cumulative series: a fall is a restart of the process and counts from 0, as
    in Prometheus.

    Not for: noisy gauges with a short span (each spike is a rate), slow drift (that is `Cusum`),
    nor for stopping a model alone: a deployment, a failover and a cache flush are all fast.
    """

    kind: ClassVar[Kind] = Kind.RATE

    limit: float
    span: float = 60.0
    counter: bool = False
    _points: deque[tuple[float, float]] = field(
        init=False, repr=False, compare=False, default_factory=deque
    )
    _lift: float = field(init=False, repr=False, compare=False, default=0.0)
    """What a counter had reached before its restarts."""
    _newest: float = field(init=False, repr=False, compare=False, default=0.0)

    @property
    def numbers(self) -> int:
        """The points of one span, with their times."""
        return 2 * (_POINTS + 4)

    def past(self, every: float) -> Past:
        """One span."""
        return newest(self.span / every, every)

    def __str__(self) -> str:
        """`rate above 5/s`: what trips it."""
        return f"{super(Rate, self).__str__()}/s"

    def _check(self) -> None:
        require_within("limit", self.limit, 0.0, LARGEST)
        require_within("span", self.span, 0.001, 7 * 86400.0)
        cure = "write side: Above, or a threshold on the counter's absence"
        require(
            not (self.counter and self.side is Side.BELOW), "side", "a counter cannot fall", cure
        )

    def _anchor(self, at: float, value: float) -> None:
        self._lift, self._newest = 0.0, value
        self._points = deque([(at, value)])

    def _step(self, at: float, value: float, step: float) -> Finding:
        del step
        if not self._points:
            self._anchor(at, value)
        if self.counter and value < self._newest:
            self._lift = min(self._lift + self._newest, LARGEST)
        self._newest = value
        points, total = self._points, value + self._lift
        while len(points) > 1 and at - points[1][0] >= self.span:
            points.popleft()
        began, before = points[0]
        if at - points[-1][0] >= self.span / _POINTS:
            points.append((at, total))
        covered = at - began
        if covered < self.span:
            sentence = "{:.0f} of {:g} s seen"
            return unknown(Blindness.WARMING_UP, at, sentence, covered, self.span)
        rate = (total - before) / covered
        score = self.side.part(rate)
        sentence = "changed by {:.4g}/s over {:.0f} s, allowed {:g}/s"
        return self._found(
            score > self.limit, at, value, score, sentence, rate, covered, self.limit
        )

    def _interrupt(self) -> None:
        self._points.clear()

    def _forget(self) -> None:
        self._points.clear()


@dataclass(slots=True, kw_only=True)
class Absence(Memory):
    """Tripped when a series that was there has given nothing usable for too long: a dead man.

    Measures seconds of silence during which somebody looked; that is the score. Feed it each look:
    the sample, or None with the time of the look. Source: dead man's switch; Prometheus `absent`
    and `time() - x`. Warm-up: until the first sample, as a series that never was cannot go missing
    (its name may be misspelt). Silence up to `after` is Clear.

    `after` (required, seconds): at least three scrape intervals. `gap` 10 s: silence while
    nobody looked is not counted, so neither a restart nor a clock step fires it.

    Not for: "the value is 0" (a threshold), or for concluding that the model is down: the exporter,
    the network and the scraper fall silent more often than the model does.
    """

    kind: ClassVar[Kind] = Kind.ABSENCE

    after: float
    gap: float = 10.0
    """Seconds between two looks above which nobody looked in between."""
    _seen: bool = field(init=False, repr=False, compare=False, default=False)
    _silent: float = field(init=False, repr=False, compare=False, default=0.0)
    _doubted_seen: bool = field(init=False, repr=False, compare=False, default=False)
    """Whether something was there at the time that is doubted."""

    def feed(self, at: float, value: float | None) -> Finding:
        """The finding after this look."""
        fault = unusable(at, value)
        if at - at != 0:
            return fault or unknown(Blindness.NOT_A_NUMBER, at, "the sample has no usable time")
        order, present = self._order, fault is None
        before = order.newest
        match order.place(at, self.gap):
            case Place.AHEAD | Place.BEHIND:
                self._doubted_seen = present
                return interrupted(at, before or 0.0, self.gap)
            case Place.LATE:
                if present and before is not None:
                    since = before - at
                    self._silent = min(self._silent, since) if self._seen else since
                    self._seen = True
            case Place.NEXT:
                self._silent += order.step
            case Place.RESUMED:
                before_doubt = 0.0 if self._doubted_seen else self._silent
                self._silent, self._seen = (
                    before_doubt + order.step,
                    self._seen or self._doubted_seen,
                )
        if present and order.newest == at:
            self._seen, self._silent = True, 0.0
        return self._judged(order.newest or 0.0)

    @property
    def numbers(self) -> int:
        """How long it has been silent, and whether it was ever seen."""
        return 3

    def past(self, every: float) -> Past:
        """Twice the silence that trips it: whether it was there before."""
        return newest(2 * self.after / every, every)

    def __str__(self) -> str:
        """`absence of 30 s`: what trips it."""
        return f"absence of {self.after:g} s"

    def _check(self) -> None:
        require_within("after", self.after, 0.001, YEAR)

    def _judged(self, at: float) -> Finding:
        if not self._seen:
            return unknown(Blindness.WARMING_UP, at, "the series has never been seen")
        tripped = self._silent > self.after
        verdict = Verdict.TRIPPED if tripped else Verdict.CLEAR
        sentence = "silent for {:.1f} s, allowed {:g} s"
        numbers = (self._silent, self.after)
        return Finding(verdict, at, self._silent, self._silent, None, sentence, numbers)
