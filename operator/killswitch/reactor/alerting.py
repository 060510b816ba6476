"""Alerts that Prometheus or Alertmanager posts, handed to the signals that they speak of.

    of killswitch's own rules   trips the polled signal that it refers to; the poll goes on beside it
    of other rules              trips the signals that name it; Clear while their heartbeat arrives
    a heartbeat                 keeps its path alive

A signal is tripped while one of its alerts fires: a poll that says otherwise may have asked another
Prometheus, or seen older samples. It ends when the last alert is resolved, or is not repeated until
the end that it gave itself. Then the poll decides, or, without one, the heartbeat.
"""

from collections import Counter, defaultdict
from collections.abc import Callable

from killswitch.api.compiled import CompiledPolicy
from killswitch.core.readings import Blindness, Path, Reading, Verdict
from killswitch.ports import Clock, QueryChecker
from killswitch.reactor.paths import Paths
from killswitch.reactor.routes import Routes, Taker
from killswitch.reactor.watched import Watched
from killswitch.signals import alerts, rules
from killswitch.signals.alerts import Alert
from killswitch.signals.episodes import Arrival, Episode

_LOOK = 0.5
"""Seconds between two looks at alerts that nobody repeats and heartbeats that do not come."""
_LONGEST_BEAT = 600.0
"""Longest silence, in seconds, that a heartbeat may allow its path."""

_Key = tuple[str, str]
"""A policy's uid and a signal's name."""


class Alerting:
    """The signals of all policies under watch that alerts speak of."""

    def __init__(
        self, clock: Clock, checker: QueryChecker, judge: Callable[[Watched], None], paths: Paths
    ) -> None:
        """`judge` is called for each policy with something new."""
        self._clock = clock
        self._checker = checker
        self._judge = judge
        self._paths = paths
        self._policies: dict[str, Watched] = {}
        self._waiting: dict[_Key, Taker] = {}
        """Signals that wait for alerts of other rules."""
        self._routes = Routes(lambda signal: signal.alert.alert if signal.alert else None)
        self._beats: dict[str, Counter[float]] = defaultdict(Counter)
        """Name of a heartbeat of other rules → how long it may fail to come → how many signals."""
        self._firing: dict[_Key, Taker] = {}
        self._look_at = 0.0

    def watch(self, watched: Watched) -> None:
        """From now on this policy hears of its alerts."""
        uid = watched.policy.uid
        self._policies[uid] = watched
        for signal in watched.policy.signals:
            taker = Taker(watched, signal)
            if signal.alert is not None:
                path = _beat(signal.alert.heartbeat, signal.max_age)
                self._paths.serve(uid, signal.name, path, Path.ALERT, tolerance=signal.max_age)
                self._beats[signal.alert.heartbeat][signal.max_age] += 1
                self._routes.add(taker)
                self._waiting[uid, signal.name] = taker
                if watched.episodes.setdefault(signal.name, Episode()).live:
                    self._firing[uid, signal.name] = taker
                self._read(taker)
            elif (found := rules.measurement(signal, self._checker)) is not None:
                self._paths.serve(uid, signal.name, rules.path(found), Path.ALERT)

    def forget(self, watched: Watched) -> None:
        """Nothing more for this policy."""
        uid = watched.policy.uid
        self._policies.pop(uid, None)
        self._routes.remove(watched)
        for signal in watched.policy.signals:
            self._firing.pop((uid, signal.name), None)
            if self._waiting.pop((uid, signal.name), None) is not None and signal.alert:
                self._leave(signal.alert.heartbeat, signal.max_age)

    def take(self, alert: Alert) -> Arrival:
        """What this alert amounted to; signals that it trips or clears are judged at once."""
        if alert.reference is not None:
            return self._own(alert, alert.reference)
        if alert.name == alerts.HEARTBEAT:
            return self._own_beat(alert)
        if alert.name == alerts.BLIND:
            return Arrival.BLIND
        return self._other(alert)

    def due(self) -> None:
        """Look at what ends by time alone."""
        monotonic = self._clock.monotonic()
        if monotonic < self._look_at:
            return
        self._look_at = monotonic + _LOOK
        for key, taker in tuple(self._firing.items()):
            if taker.watched.episodes[key[1]].expire(monotonic):
                self._end(taker)
        for taker in tuple(self._waiting.values()):
            if self._read(taker):
                self._judge(taker.watched)

    def _own(self, alert: Alert, reference: alerts.PolicyReference) -> Arrival:
        """An alert of a rule that was generated for policies."""
        watched = self._policies.get(reference.policy)
        if watched is None:
            return Arrival.UNKNOWN_POLICY
        if reference.generation != watched.policy.generation:
            older = reference.generation < watched.policy.generation
            return Arrival.OLDER_GENERATION if older else Arrival.NEWER_GENERATION
        signal = next((s for s in watched.policy.signals if s.name == reference.signal), None)
        if signal is None or not signal.query or signal.detector is not None:
            return Arrival.UNKNOWN_SIGNAL
        now = self._clock.now()
        beyond = alert.value is None or signal.threshold.crossed(alert.value)
        if alert.firing(now) and not beyond:
            return Arrival.CONTRADICTED
        taker = Taker(watched, signal)
        arrival = self._arrive(taker, alert)
        if arrival in {Arrival.BEGAN, Arrival.REPEATED}:
            reading = alerts.tripped(alert, signal.name, now)
            elapsed = self._clock.monotonic()
            if watched.take(reading, max_age=signal.max_age, now=now, elapsed=elapsed):
                self._judge(watched)
        return arrival

    def _own_beat(self, alert: Alert) -> Arrival:
        """The heartbeat of a rule group; its own end says how often it must come.

        One that sees no thresholds shows that nothing would be told. One without an end comes from
        Alertmanager, hours apart, and shows nothing.
        """
        now, path = self._clock.now(), rules.path_of(alert.metric)
        if alert.ends_at is not None and alert.firing(now):
            if alert.value:
                self._paths.heard(path, min(alert.ends_at - now, _LONGEST_BEAT))
            else:
                self._paths.complained(path, "Prometheus sees no thresholds")
        return Arrival.HEARTBEAT

    def _other(self, alert: Alert) -> Arrival:
        """An alert of somebody else's rules."""
        arrival = Arrival.NOT_OURS
        if (beats := self._beats.get(alert.name)) and alert.firing(self._clock.now()):
            arrival = Arrival.HEARTBEAT
            for tolerance in beats:
                self._paths.heard(_beat(alert.name, tolerance), tolerance)
        for taker in self._routes.takers(alert.name, dict(alert.labels)):
            arrival = self._arrive(taker, alert)
            if self._read(taker):
                self._judge(taker.watched)
        return arrival

    def _arrive(self, taker: Taker, alert: Alert) -> Arrival:
        """Keep what it says; who fires is looked after until it ends."""
        key = taker.watched.policy.uid, taker.signal.name
        episode = taker.watched.episodes.setdefault(taker.signal.name, Episode())
        arrival = episode.arrive(alert, now=self._clock.now(), monotonic=self._clock.monotonic())
        if arrival is Arrival.BEGAN:
            self._firing[key] = taker
        elif arrival is Arrival.ENDED:
            self._end(taker)
        return arrival

    def _end(self, taker: Taker) -> None:
        """No alert of this signal fires any more: another path, or the heartbeat, decides."""
        watched, signal = taker.watched, taker.signal
        self._firing.pop((watched.policy.uid, signal.name), None)
        if signal.alert is not None:
            changed = self._read(taker)
        else:
            changed = watched.withdraw(
                signal.name,
                Path.ALERT,
                max_age=signal.max_age,
                now=self._clock.now(),
                elapsed=self._clock.monotonic(),
            )
        if changed:
            self._judge(watched)

    def _read(self, taker: Taker) -> bool:
        """Read a signal that waits for alerts; whether it says something else than before."""
        watched, name = taker.watched, taker.signal.name
        before, reading = watched.readings[name], self._reading(taker)
        watched.readings[name] = reading
        return reading.differs(before)

    def _reading(self, taker: Taker) -> Reading:
        """Firing is believed of whoever says so, Clear only while the heartbeat arrives."""
        watched, signal, now = taker.watched, taker.signal, self._clock.now()
        count, what = watched.episodes[signal.name].live, signal.alert.alert if signal.alert else ""

        def read(verdict: Verdict, message: str, reason: Blindness | None = None) -> Reading:
            value = None if reason else float(count)
            return Reading(signal.name, verdict, message, now, reason, value, path=Path.ALERT)

        if count:
            return read(Verdict.TRIPPED, f"{what} fires ({count})")
        for state in self._paths.of(watched.policy.uid, signal.name):
            if state.silent:
                return read(Verdict.UNKNOWN, state.message, Blindness.SILENT)
            if not state.ever:
                return read(Verdict.UNKNOWN, state.message, Blindness.NEVER_READ)
        return read(Verdict.CLEAR, f"{what} does not fire")

    def _leave(self, heartbeat: str, tolerance: float) -> None:
        self._beats[heartbeat] -= Counter((tolerance,))  # which drops what is not above zero
        if not self._beats[heartbeat]:
            del self._beats[heartbeat]


def episodes(policy: CompiledPolicy, before: Watched | None) -> dict[str, Episode]:
    """The alerts that an edited policy still knows of: those of other rules that it waits for as before.

    An alert that Alertmanager sent without an end comes again after hours. Alerts of generated rules
    are of the old generation, whose threshold is not what the author wants now.
    """
    if before is None:
        return {}
    asked = {signal.name: signal.alert for signal in before.policy.signals}
    return {
        signal.name: before.episodes[signal.name]
        for signal in policy.signals
        if signal.alert is not None
        and asked.get(signal.name) == signal.alert
        and signal.name in before.episodes
    }


def _beat(heartbeat: str, tolerance: float) -> str:
    """Name of the path of a heartbeat of other rules, for signals with this patience."""
    return f"{heartbeat} within {tolerance:g} s"
