"""Events counted over a sliding window: Tripped, Clear or Unknown.

A window lives in one reactor and forgets what can no longer matter: an event is dropped when it is
too old, and when later ones are enough by themselves. So at most `at_least` entries are kept, and the
verdict is exact. Only a source with a heartbeat can be missed; any event of it is its heartbeat.
"""

import bisect
from dataclasses import dataclass, field

from killswitch.core.readings import Blindness, Path, Reading, Verdict


@dataclass(frozen=True, slots=True)
class EventRule:
    """Which events one signal counts, and how many trip it. Durations are seconds."""

    type: str
    source: str | None = None
    """None: whoever has a key."""
    at_least: int = 1
    within: float = 60.0
    heartbeat: float | None = None
    """How long the source may say nothing; None: for ever."""


@dataclass(slots=True)
class Window:
    """The events of one signal that count now."""

    rule: EventRule
    since: float
    """When it began to listen, in seconds that never go backwards, as all times here: a clock that
    is set forgets no event and hides no silence."""
    _entries: list[tuple[float, int]] = field(default_factory=list)
    """(Time, count), oldest first."""
    _last: str = ""
    _heard: float | None = None

    def heard(self, now: float) -> None:
        """The source said something, whatever it was."""
        self._heard = now if self._heard is None else max(self._heard, now)

    def add(self, at: float, count: int, origin: str) -> None:
        """An event that this signal counts; `origin` tells people which one it was."""
        bisect.insort(self._entries, (at, count))
        self._last = origin
        enough = sum(each for _, each in self._entries)
        while enough - self._entries[0][1] >= self.rule.at_least:
            enough -= self._entries.pop(0)[1]

    def due(self, now: float) -> float:
        """The next moment at which its reading may change by time alone; infinite for none."""
        moments = [self._entries[0][0] + self.rule.within] if self._entries else []
        if self.rule.heartbeat is not None:
            last = self.since if self._heard is None else self._heard
            moments.append(last + self.rule.heartbeat)
        return min((each for each in moments if each >= now), default=float("inf"))

    def reading(self, signal: str, now: float, *, read_at: float) -> Reading:
        """What it says now. Enough events trip it even if their source has fallen silent since.

        `read_at` is `now` in seconds since the epoch, which readings speak in.
        """
        self._expire(now)
        rule, count = self.rule, sum(each for _, each in self._entries)
        newest = read_at - (now - self._entries[-1][0]) if self._entries else None
        told = f"{rule.type} within {rule.within:g} s"
        if count >= rule.at_least:
            message = f"at least {count} {told}, {rule.at_least} trip; the last {self._last}"
            verdict = Verdict.TRIPPED
            return Reading(signal, verdict, message, read_at, None, count, newest, Path.EVENT)
        if (blindness := self._blindness(now)) is not None:
            reason, message = blindness
            return Reading(
                signal, Verdict.UNKNOWN, message, read_at, reason, count, newest, Path.EVENT
            )
        message = f"{count} {told}, {rule.at_least} trip"
        return Reading(signal, Verdict.CLEAR, message, read_at, None, count, newest, Path.EVENT)

    def _blindness(self, now: float) -> tuple[Blindness, str] | None:
        """Why nothing is known of the source."""
        if self.rule.heartbeat is None:
            return None
        last = self.since if self._heard is None else self._heard
        if now - last > self.rule.heartbeat:
            words = (
                "last heard of" if self._heard is not None else "never heard of, listening since"
            )
            message = f"{self.rule.source}: {words} more than {self.rule.heartbeat:g} s ago"
            return Blindness.SILENT, message
        if self._heard is None:
            return Blindness.NEVER_READ, f"{self.rule.source}: not heard of yet"
        return None

    def _expire(self, now: float) -> None:
        while self._entries and now - self._entries[0][0] > self.rule.within:
            self._entries.pop(0)
