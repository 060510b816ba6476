"""The alerts by which a signal is tripped now: however many repeat them, one episode.

Prometheus repeats a firing alert, several Prometheis and Alertmanager send the same one, answers
get lost. What one alert says is known by its labels and its start. A signal is tripped while any
of its alerts lives: until it is resolved, or until the end that its last repetition gave it. An
alert that one Prometheus resolved may still fire in another, and firing is believed of either.

How long an alert lives is measured by a clock that never goes backwards: when wall time steps, an
alert that lives does not live for hours.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from killswitch.signals.alerts import Alert

LONGEST = 4.5 * 3600
"""Longest belief, in seconds, in an alert that is not repeated: Alertmanager repeats every four
hours unless it is told otherwise."""

SOURCES = 64
"""Alerts (series, Prometheus replicas) that one episode keeps apart."""

Labels = tuple[tuple[str, str], ...]


class Arrival(StrEnum):
    """What an alert's arrival amounts to."""

    BEGAN = "Began"  # the signal is tripped now and was not before: act
    REPEATED = "Repeated"  # it was tripped and still is
    ENDED = "Ended"  # the last alert that tripped it is resolved
    RESOLVED = "Resolved"  # resolved; others still fire, or none was known
    CROWDED = "Crowded"  # tripped by SOURCES others already; this one is not kept
    HEARTBEAT = "Heartbeat"  # shows that its path works
    BLIND = "Blind"  # its path says that it sees no thresholds
    NOT_OURS = "NotOurs"  # no policy wants it
    UNKNOWN_POLICY = "UnknownPolicy"
    UNKNOWN_SIGNAL = "UnknownSignal"
    OLDER_GENERATION = "OlderGeneration"
    NEWER_GENERATION = "NewerGeneration"
    CONTRADICTED = "Contradicted"  # by its own value, which is not beyond the threshold


@dataclass(frozen=True, slots=True)
class _Source:
    """One live alert."""

    until: float
    endless: bool
    """Sent without an end, by Alertmanager: it may give the same alert another start later."""


@dataclass(slots=True)
class Episode:
    """The live alerts of one signal."""

    _sources: dict[tuple[Labels, float], _Source] = field(default_factory=dict)

    @property
    def live(self) -> int:
        """How many alerts live, as of the last `arrive` or `expire`."""
        return len(self._sources)

    def arrive(self, alert: Alert, *, now: float, monotonic: float) -> Arrival:
        """What this alert changes. Its times are compared with `now`, wall time in seconds."""
        if not alert.firing(now):
            return self._resolve(alert)
        known = self._sources.get((alert.labels, alert.starts_at))
        before = self.live
        if known is None and before >= SOURCES:
            return Arrival.CROWDED
        lives = LONGEST if alert.ends_at is None else min(alert.ends_at - now, LONGEST)
        # Overtaken repetitions must not shorten what a later one said.
        until = max(monotonic + lives, known.until if known else 0.0)
        self._sources[alert.labels, alert.starts_at] = _Source(until, alert.ends_at is None)
        return Arrival.REPEATED if before else Arrival.BEGAN

    def expire(self, monotonic: float) -> bool:
        """Whether it ended now because nobody repeated its alerts."""
        late = [key for key, source in self._sources.items() if source.until <= monotonic]
        for key in late:
            del self._sources[key]
        return bool(late) and not self._sources

    def _resolve(self, alert: Alert) -> Arrival:
        over = [
            (labels, start)
            for (labels, start), source in self._sources.items()
            if labels == alert.labels and (start == alert.starts_at or source.endless)
        ]
        for key in over:
            del self._sources[key]
        return Arrival.ENDED if over and not self._sources else Arrival.RESOLVED
