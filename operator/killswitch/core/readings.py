"""From what a source answered to a reading: Tripped, Clear or Unknown.

The direction of every fault is stated here and nowhere else: a value beyond its threshold is
believed even in a partial answer, all-is-well is believed only in a complete and fresh one, and
everything else is Unknown with a reason. What Unknown *means* is the policy's `onNoData`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Verdict(StrEnum):
    """What a signal says now."""

    TRIPPED = "Tripped"
    CLEAR = "Clear"
    UNKNOWN = "Unknown"


class Blindness(StrEnum):
    """Why a reading is Unknown."""

    NEVER_READ = "NeverRead"  # nothing has been asked yet
    ABSENT = "Absent"  # the query matched no series: dead, misspelt and healthy look the same
    STALE = "Stale"  # the newest trustworthy sample is older than maxAge
    NOT_A_NUMBER = "NotANumber"  # NaN compares false with everything
    PARTIAL = "PartialAnswer"  # the server warned that the answer is incomplete
    TIMEOUT = "Timeout"  # no answer in time; a frozen server looks like this
    UNREACHABLE = "Unreachable"  # no connection
    BAD_ANSWER = "BadAnswer"  # an answer, but not Prometheus's: a proxy's HTML page
    REJECTED = "QueryRejected"  # the server cannot parse the query: it will never work
    FAILED = "QueryFailed"  # the server failed to execute it this time
    WARMING_UP = "WarmingUp"  # a detector has not seen enough yet to have an opinion
    SILENT = "Silent"  # nothing was heard on a path, or from a source, that must say something
    REFUSED = "EndpointRefused"  # an address that is no known pod's own is not asked
    INTERRUPTED = "Interrupted"  # a gap or a clock step parts this sample from those before it


class Path(StrEnum):
    """How an observation arrived. Push trips, poll and scrape also clear; the first arrival wins."""

    POLL = "poll"
    SCRAPE = "scrape"
    REMOTE_WRITE = "remote_write"
    ALERT = "alert"
    EVENT = "event"


NO_SERIES = "no series of "
"""How the warning begins that a selector of a query has no series."""

Labels = tuple[tuple[str, str], ...]
"""What makes a series itself: label names with their values, sorted."""

FUTURE = 1.0
"""Seconds by which a pushed sample may seem to be ahead of our clock; beyond that it is not fresh."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit: exactly one side is set."""

    above: float | None = None
    below: float | None = None
    recovers_at: float | None = None
    """Once crossed, it counts as crossed until the value is back at this one; None: at the limit."""

    def crossed(self, value: float, *, before: bool = False) -> bool:
        """Whether the value is strictly beyond the limit; NaN never is.

        `before`: whether it was; then only `recovers_at` takes that back.
        """
        limit = self.recovers_at if before and self.recovers_at is not None else None
        if self.above is not None:
            return value > (self.above if limit is None else limit)
        return self.below is not None and value < (self.below if limit is None else limit)

    def __str__(self) -> str:
        """`> 5000` or `< 1`."""
        return f"> {self.above:g}" if self.above is not None else f"< {self.below:g}"

    def told(self, value: float) -> str:
        """Why this value counts as crossed, in a sentence."""
        if self.crossed(value):
            return f"{value:g} is {self}"
        return f"{value:g} is not back at {self.recovers_at:g} yet ({self})"

    def worst(self, values: tuple[float, ...]) -> float:
        """The value furthest towards the limit; `values` holds at least one number."""
        return max(values) if self.above is not None else min(values)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a source measured: one value per series, and the age of its oldest input sample."""

    values: tuple[float, ...]
    oldest_age: float | None
    """Seconds; None where nothing was there to have an age."""
    warnings: tuple[str, ...] = ()
    series: tuple[Labels, ...] = field(default=(), compare=False)
    """Whose values they are, in the same order; the source may not say."""
    at: float | None = field(default=None, compare=False)
    """The moment of which it speaks, by the source's clock; None where nothing was there."""
    missing: "NoAnswer | None" = None
    """Why a part of the source did not answer: then a trip is believed, all-is-well is not."""

    @property
    def sampled_at(self) -> float | None:
        """When its oldest input sample was taken, to the millisecond."""
        if self.at is None or self.oldest_age is None:
            return None
        return round(self.at - self.oldest_age, 3)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The source could not be asked, or did not answer usably."""

    reason: Blindness
    detail: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One signal judged at one moment (`read_at`, seconds since the epoch)."""

    signal: str
    verdict: Verdict
    message: str
    read_at: float
    reason: Blindness | None = None
    value: float | None = None
    sampled_at: float | None = None
    path: Path = Path.POLL
    lasting: bool = False
    """Whether it holds until its path takes it back, whatever other paths say."""

    def differs(self, before: "Reading") -> bool:
        """Whether it says something else than the reading before; another value alone does not."""
        return (self.verdict, self.reason) != (before.verdict, before.reason)


def judge(
    signal: str,
    threshold: Threshold,
    answer: Answer | NoAnswer,
    *,
    max_age: float,
    now: float,
    before: bool = False,
    path: Path = Path.POLL,
) -> Reading:
    """The reading that an answer amounts to; `before` says whether the signal was tripped."""

    def unknown(reason: Blindness, message: str, value: float | None = None) -> Reading:
        return Reading(signal, Verdict.UNKNOWN, message, now, reason, value, path=path)

    if isinstance(answer, NoAnswer):
        return unknown(answer.reason, answer.detail)
    if (fault := unusable(answer, max_age)) is not None:
        return unknown(fault.reason, fault.detail)
    numbers = tuple(value for value in answer.values if not math.isnan(value))
    if not numbers:
        return unknown(Blindness.NOT_A_NUMBER, "the value is NaN")
    worst = threshold.worst(numbers)
    sampled_at = now - (answer.oldest_age or 0.0)
    if threshold.crossed(worst, before=before):
        message = threshold.told(worst)
        return Reading(signal, Verdict.TRIPPED, message, now, None, worst, sampled_at, path)
    if (doubt := partial(answer.warnings) or answer.missing) is not None:
        return unknown(doubt.reason, doubt.detail, worst)
    if len(numbers) < len(answer.values):
        return unknown(Blindness.NOT_A_NUMBER, "some series are NaN", worst)
    message = f"{worst:g} is not {threshold}"
    return Reading(signal, Verdict.CLEAR, message, now, None, worst, sampled_at, path)


def unusable(answer: Answer, max_age: float) -> NoAnswer | None:
    """Why an answer tells nothing at all: there is nothing in it, or nothing new enough."""
    if not answer.values:
        return answer.missing or NoAnswer(Blindness.ABSENT, "the query matched no series")
    if answer.oldest_age is None or not answer.oldest_age <= max_age:  # NaN is not fresh
        age = "unknown" if answer.oldest_age is None else f"{answer.oldest_age:.1f} s"
        detail = f"age of the oldest sample is {age}, allowed {max_age:g} s"
        return NoAnswer(Blindness.STALE, detail)
    return None


def partial(warnings: Sequence[str]) -> NoAnswer | None:
    """Why all-is-well is not believed of an answer with these warnings."""
    return NoAnswer(Blindness.PARTIAL, "; ".join(warnings)[:500]) if warnings else None


def pushed(
    signal: str,
    threshold: Threshold,
    value: float,
    *,
    sampled_at: float,
    path: Path,
    max_age: float,
    now: float,
) -> Reading | None:
    """The Tripped reading of a pushed sample; None where it proves nothing.

    A push never clears: one series that is well says nothing about the others. A sample that is too
    old or from the future is a replay or a wrong clock.
    """
    if not threshold.crossed(value) or not -FUTURE <= now - sampled_at <= max_age:
        return None
    message = f"{value:g} is {threshold}"
    return Reading(signal, Verdict.TRIPPED, message, now, None, value, sampled_at, path)


def combined(heard: Sequence[Reading], *, max_age: float, now: float) -> Reading:
    """One reading from the latest one of each path; `heard` holds at least one.

    What is known outranks what is not, and of what is known the evidence of the latest sample
    counts: a poll that was under way during a push, or that failed, does not take the trip back,
    and a push that comes late does not overrule what a poll has seen since. A path that does not
    know when its sample was taken counts by the moment at which it was heard. Knowledge older than
    `max_age`, or of a time that has not come yet (a clock was set), is Unknown. Only a trip that lasts
    (an alert that goes on firing) outranks all this: whoever sent it is believed until he takes it back.
    """
    lasting = [each for each in heard if each.lasting]
    if lasting:
        return lasting[-1]
    known = [each for each in heard if each.verdict is not Verdict.UNKNOWN]
    fresh = [each for each in known if -FUTURE <= now - _known_at(each) <= max_age]
    if fresh:
        timed = [each for each in fresh if each.sampled_at is not None]
        latest = max(timed, key=lambda each: (each.sampled_at, each.read_at), default=None)
        others = [each for each in fresh if each.sampled_at is None]
        later = [each for each in others if latest is None or each.read_at > latest.read_at]
        return later[-1] if later else (latest or fresh[-1])
    unknown = [each for each in heard if each.verdict is Verdict.UNKNOWN]
    if unknown:  # always in the same order: a reason that changes with each arrival would be news
        unknown.sort(key=lambda each: (each.reason is Blindness.NEVER_READ, each.path))
        messages = [each.message for each in unknown if each.reason is not Blindness.NEVER_READ]
        return replace(unknown[0], message="; ".join(messages) or unknown[0].message)
    oldest = heard[0]
    message = f"the newest sample is {now - _known_at(oldest):.1f} s old, allowed {max_age:g} s"
    return replace(oldest, verdict=Verdict.UNKNOWN, reason=Blindness.STALE, message=message)


def _known_at(reading: Reading) -> float:
    return reading.read_at if reading.sampled_at is None else reading.sampled_at


def never_read(signal: str, now: float) -> Reading:
    """The reading of a signal that has not been asked yet."""
    message = "not read yet"
    return Reading(signal, Verdict.UNKNOWN, message, now, Blindness.NEVER_READ)
