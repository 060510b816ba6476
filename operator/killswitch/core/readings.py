"""From what a source answered to a reading: Tripped, Clear or Unknown.

The direction of every fault is stated here and nowhere else: a value beyond its threshold is
believed even in a partial answer, all-is-well is believed only in a complete and fresh one, and
everything else is Unknown with a reason. What Unknown *means* is the policy's `onNoData`.
"""

import math
from dataclasses import dataclass
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
    INTERRUPTED = "Interrupted"  # a gap or a clock step parts this sample from those before it


class Path(StrEnum):
    """How an observation arrived. Push trips, poll clears; the first arrival wins."""

    POLL = "poll"
    REMOTE_WRITE = "remote_write"
    ALERT = "alert"
    EVENT = "event"


FUTURE = 1.0
"""Seconds by which a pushed sample may seem to be ahead of our clock; beyond that it is not fresh."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit: exactly one side is set."""

    above: float | None = None
    below: float | None = None

    def crossed(self, value: float) -> bool:
        """Whether the value is strictly beyond the limit; NaN never is."""
        if self.above is not None:
            return value > self.above
        return self.below is not None and value < self.below

    def __str__(self) -> str:
        """`> 5000` or `< 1`."""
        return f"> {self.above:g}" if self.above is not None else f"< {self.below:g}"

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


def judge(
    signal: str, threshold: Threshold, answer: Answer | NoAnswer, *, max_age: float, now: float
) -> Reading:
    """The reading that an answer amounts to."""

    def unknown(reason: Blindness, message: str, value: float | None = None) -> Reading:
        return Reading(signal, Verdict.UNKNOWN, message, now, reason, value)

    if isinstance(answer, NoAnswer):
        return unknown(answer.reason, answer.detail)
    if not answer.values:
        return unknown(Blindness.ABSENT, "the query matched no series")
    if answer.oldest_age is None or not answer.oldest_age <= max_age:  # NaN is not fresh
        age = "unknown" if answer.oldest_age is None else f"{answer.oldest_age:.1f} s"
        return unknown(Blindness.STALE, f"age of the oldest sample is {age}, allowed {max_age:g} s")
    numbers = tuple(value for value in answer.values if not math.isnan(value))
    if not numbers:
        return unknown(Blindness.NOT_A_NUMBER, "the value is NaN")
    worst = threshold.worst(numbers)
    sampled_at = now - answer.oldest_age
    if threshold.crossed(worst):
        message = f"{worst:g} is {threshold}"
        return Reading(signal, Verdict.TRIPPED, message, now, None, worst, sampled_at)
    if answer.warnings:
        return unknown(Blindness.PARTIAL, "; ".join(answer.warnings)[:500], worst)
    if len(numbers) < len(answer.values):
        return unknown(Blindness.NOT_A_NUMBER, "some series are NaN", worst)
    message = f"{worst:g} is not {threshold}"
    return Reading(signal, Verdict.CLEAR, message, now, None, worst, sampled_at)


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


def superseded(trip: Reading, by: Reading) -> bool:
    """Whether a pushed trip tells nothing: what is known already is of later samples."""
    return by.sampled_at is not None and (trip.sampled_at or trip.read_at) < by.sampled_at


def after_poll(before: Reading, polled: Reading, *, max_age: float) -> Reading:
    """The polled reading, unless it is no later evidence than a pushed trip.

    A poll that was under way during the push, or that failed, does not take the trip back; one of
    newer samples does, and so does time: after `max_age` the pushed sample is stale.
    """
    if before.path is Path.POLL or before.verdict is not Verdict.TRIPPED:
        return polled
    if polled.verdict is Verdict.TRIPPED or before.sampled_at is None:
        return polled
    stale = polled.read_at - before.sampled_at > max_age
    newer = polled.sampled_at is not None and polled.sampled_at >= before.sampled_at
    return polled if stale or newer else before


def never_read(signal: str, now: float) -> Reading:
    """The reading of a signal that has not been asked yet."""
    message = "not read yet"
    return Reading(signal, Verdict.UNKNOWN, message, now, Blindness.NEVER_READ)
