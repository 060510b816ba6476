"""Which policy signals are tripped by alerts now: each episode counted once, whoever repeats it.

Prometheus repeats a firing alert, several Prometheis and Alertmanager send the same one, replies
get lost. The first arrival of an episode counts; later ones only keep it alive. What one alert
says is known by its labels and its start; a signal is tripped while any of its alerts lives: an
alert that one Prometheus resolved may still fire in another, and firing is believed of either.

Alerts for a policy, generation or signal that is not expected are counted, never acted upon: an
old generation's threshold is not what its author wants now, and a newer one is repeated within
the resend delay, by when its policy has been read.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from killswitch.signals.alerts import Alert, PolicyReference

LONGEST = 4.5 * 3600
"""Longest belief in an alert that is not repeated: Alertmanager repeats every four hours."""

SOURCES = 64
"""Alerts (series, Prometheus replicas) that one signal's episode keeps apart."""


class Arrival(StrEnum):
    """What an alert's arrival amounts to."""

    BEGAN = "Began"  # the signal is tripped now and was not before: act
    REPEATED = "Repeated"  # it was tripped and still is
    RESUMED = "Resumed"  # tripped again by a start that was acted upon before it was lost
    ENDED = "Ended"  # the last alert that tripped it is resolved
    RESOLVED = "Resolved"  # resolved; others still fire, or none was known
    CROWDED = "Crowded"  # tripped by SOURCES others already; this one is not kept
    NOT_OURS = "NotOurs"  # of a rule that names no policy
    UNKNOWN_POLICY = "UnknownPolicy"
    UNKNOWN_SIGNAL = "UnknownSignal"
    OLDER_GENERATION = "OlderGeneration"
    NEWER_GENERATION = "NewerGeneration"
    OVERTAKEN = "Overtaken"  # later samples, or its own value, say otherwise


Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """One live alert."""

    until: float
    endless: bool
    """Sent without an end, by Alertmanager: it may give the same alert another start later."""


@dataclass(slots=True)
class _Signal:
    sources: dict[tuple[Labels, float], _Source] = field(default_factory=dict)
    acted: deque[float] = field(default_factory=lambda: deque(maxlen=SOURCES))
    """Starts of the latest episodes that were told as Began."""


class Episodes:
    """Tripped signals by alerts. Times are wall time: an alert's end is the sender's wall time."""

    def __init__(self, *, longest: float = LONGEST) -> None:
        """`longest` bounds how long an alert without repetition is believed, in seconds."""
        self._longest = longest
        self._signals: dict[PolicyReference, _Signal] = {}
        self._generations: dict[str, int] = {}
        self.counts: Counter[Arrival] = Counter()
        """Arrivals so far, by what they amounted to."""

    def expect(self, references: Iterable[PolicyReference]) -> None:
        """From now on exactly these count; what was known of those that stay is kept."""
        wanted = set(references)
        self._signals = {each: self._signals.get(each, _Signal()) for each in wanted}
        self._generations = {}
        for each in wanted:
            newest = max(each.generation, self._generations.get(each.policy, 0))
            self._generations[each.policy] = newest

    def arrive(self, alert: Alert, now: float) -> Arrival:
        """What this alert changes."""
        arrival = self._arrive(alert, now)
        self.counts[arrival] += 1
        return arrival

    @property
    def tripped(self) -> frozenset[PolicyReference]:
        """Signals with at least one live alert, as of the last `arrive` or `gone`."""
        return frozenset(each for each, signal in self._signals.items() if signal.sources)

    def gone(self, now: float) -> tuple[PolicyReference, ...]:
        """Signals that ended now because nobody repeated their alerts; each is told once.

        Nobody said that it is over: that is Unknown, not Clear.
        """
        ended = []
        for reference, signal in self._signals.items():
            late = [key for key, source in signal.sources.items() if source.until <= now]
            for key in late:
                del signal.sources[key]
            if late and not signal.sources:
                ended.append(reference)
        return tuple(sorted(ended))

    def _arrive(self, alert: Alert, now: float) -> Arrival:
        if alert.reference is None:
            return Arrival.NOT_OURS
        signal = self._signals.get(alert.reference)
        if signal is None:
            return self._unexpected(alert.reference)
        if alert.firing(now):
            return self._fires(signal, alert, now)
        return _resolves(signal, alert)

    def _unexpected(self, reference: PolicyReference) -> Arrival:
        expected = self._generations.get(reference.policy)
        if expected is None:
            return Arrival.UNKNOWN_POLICY
        if reference.generation < expected:
            return Arrival.OLDER_GENERATION
        if reference.generation > expected:
            return Arrival.NEWER_GENERATION
        return Arrival.UNKNOWN_SIGNAL

    def _fires(self, signal: _Signal, alert: Alert, now: float) -> Arrival:
        key = (alert.labels, alert.starts_at)
        known, was_tripped = signal.sources.get(key), bool(signal.sources)
        if known is None and len(signal.sources) >= SOURCES:
            return Arrival.CROWDED
        latest = now + self._longest
        until = latest if alert.ends_at is None else min(alert.ends_at, latest)
        # Overtaken repetitions must not shorten what a later one said.
        until = until if known is None else max(until, known.until)
        signal.sources[key] = _Source(until, alert.ends_at is None)
        if was_tripped:
            arrival = Arrival.REPEATED
        elif alert.starts_at in signal.acted:
            arrival = Arrival.RESUMED
        else:
            arrival = Arrival.BEGAN
        if alert.starts_at not in signal.acted:
            signal.acted.append(alert.starts_at)
        return arrival


def _resolves(signal: _Signal, alert: Alert) -> Arrival:
    over = [
        (labels, start)
        for (labels, start), source in signal.sources.items()
        if labels == alert.labels and (start == alert.starts_at or source.endless)
    ]
    for key in over:
        del signal.sources[key]
    return Arrival.ENDED if over and not signal.sources else Arrival.RESOLVED
