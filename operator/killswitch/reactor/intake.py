"""What arrives, handed to the signals that want it; whose reading changed is judged.

    a poll answers       `deliver`   readings of every policy that asks this query
    a pod is scraped     `scraped`   readings of every policy that asks its Service
    samples are pushed   `push`      trip the signals that name their metric, never clear
    an alert arrives     `alerts`    trips signals while it fires (`alerting.py`)
    an event arrives     `hear`      counted over the windows of the signals that want it
    time passes          `due`       windows in which nothing happens, alerts and paths not heard of

The cost of an arrival depends on who wants it, not on how many policies there are.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TypeVar

from killswitch.api.compiled import CompiledSignal
from killswitch.core import readings
from killswitch.core.readings import Answer, Blindness, NoAnswer, Path, Reading, Verdict
from killswitch.ports import Clock, QueryChecker
from killswitch.reactor.alerting import Alerting
from killswitch.reactor.detecting import Detecting
from killswitch.reactor.paths import REMOTE_WRITE, Paths
from killswitch.reactor.routes import Routes, Taker
from killswitch.reactor.scraped import Scraped, tolerance
from killswitch.reactor.watched import Watched
from killswitch.signals import events
from killswitch.signals.series import Samples

_LOOK = 1.0
"""Seconds between two looks at windows in which nothing happens: `observedAt` shows that we listen."""


_K = TypeVar("_K")
_Heard = tuple[str | None, str | None]
"""A source and a type of events; None is any."""


class Intake:
    """The signals of all policies under watch, by what they want to hear of."""

    def __init__(
        self,
        clock: Clock,
        checker: QueryChecker,
        judge: Callable[[Watched], None],
        *,
        hears_events: bool = False,
    ) -> None:
        """`judge` is called for each policy with something new; see `Engine` for `hears_events`."""
        self.hears_events = hears_events
        self.revision = 0
        """Another number whenever `queries` or `metrics` may be others."""
        self._clock = clock
        self._judge = judge
        self.paths = Paths(clock)
        self.alerts = Alerting(clock, checker, judge, self.paths)
        self._asking: dict[str, list[Taker]] = defaultdict(list)
        self._routes = Routes()
        self.scraped = Scraped(clock, trip=self._trip, settle=self._settle)
        self._counting: dict[str, Watched] = {}
        self._listening: dict[_Heard, list[Taker]] = defaultdict(list)
        self._beginning: set[Detecting] = set()

    @property
    def queries(self) -> set[str]:
        """Every query that some policy asks."""
        return set(self._asking)

    @property
    def metrics(self) -> frozenset[str]:
        """Every metric whose pushed samples some policy takes."""
        return self._routes.metrics

    @property
    def beginning(self) -> set[Detecting]:
        """Signals with a detector whose past is to be read before they begin."""
        self._beginning = {each for each in self._beginning if not each.begun}
        return self._beginning

    def watch(self, watched: Watched) -> None:
        """From now on this policy hears of what it names."""
        self.revision += 1
        self.alerts.watch(watched)
        for signal in watched.policy.signals:
            taker = Taker(watched, signal)
            if signal.query:
                self._asking[signal.query].append(taker)
            for heard in _wants(signal):
                self._listening[heard].append(taker)
            self._routes.add(taker)
            self.scraped.add(taker)
            if signal.metric is not None:
                self.paths.serve(watched.policy.uid, signal.name, REMOTE_WRITE, Path.REMOTE_WRITE)
            if signal.exporter is not None:
                self.paths.serve(
                    watched.policy.uid,
                    signal.name,
                    str(signal.exporter),
                    Path.SCRAPE,
                    tolerance=tolerance(signal.scrape_interval),
                )
        self._beginning.update(watched.detecting.values())
        if watched.windows:
            self._counting[watched.policy.uid] = watched
            self._read_windows(watched)

    def forget(self, watched: Watched) -> None:
        """Nothing more for this policy."""
        self.revision += 1
        self.paths.forget(watched.policy.uid)
        self.alerts.forget(watched)
        self._counting.pop(watched.policy.uid, None)
        self._routes.remove(watched)
        self.scraped.remove(watched)
        self._beginning.difference_update(watched.detecting.values())
        for signal in watched.policy.signals:
            _drop(self._asking, signal.query, watched)
            for heard in _wants(signal):
                _drop(self._listening, heard, watched)

    def deliver(self, query: str, answer: Answer | NoAnswer) -> None:
        """A source answered: judge every signal that asks this query."""
        now, elapsed = self._clock.now(), self._clock.monotonic()
        for taker in tuple(self._asking.get(query, ())):
            watched, signal = taker.watched, taker.signal
            if (detecting := watched.detecting.get(signal.name)) is not None:
                polled = detecting.answered(answer, now=now, elapsed=elapsed)
            else:
                polled = readings.judge(
                    signal.name,
                    signal.threshold,
                    answer,
                    max_age=signal.max_age,
                    now=now,
                    before=signal.name in watched.crossed,
                )
            self._settle(taker, polled)

    def push(self, samples: Samples, path: Path) -> None:
        """Samples arrived by themselves: they may trip signals, and clear none.

        NaN, and so the end of a series, is beyond no threshold.
        """
        route_of, now, elapsed = self._routes.of, self._clock.now(), self._clock.monotonic()
        if path is Path.REMOTE_WRITE:
            self._written(samples, now)
        for series, value, timestamp in samples:
            route = route_of(series)
            if route.low <= value <= route.high:
                continue
            for taker in route.takers:
                signal, at = taker.signal, timestamp / 1000
                if (detecting := taker.watched.detecting.get(signal.name)) is not None:
                    trip = detecting.push(
                        series.labels, value, at, path=path, now=now, elapsed=elapsed
                    )
                else:
                    trip = readings.pushed(
                        signal.name,
                        signal.threshold,
                        value,
                        sampled_at=at,
                        path=path,
                        max_age=signal.max_age,
                        now=now,
                    )
                if trip is not None:
                    self._trip(taker, trip)

    def hear(self, event: events.Event) -> None:
        """An event arrived: a heartbeat of its source, and counted by every signal that wants it."""
        now, age = self._clock.monotonic(), max(0.0, self._clock.now() - event.time)
        concerned: dict[int, Watched] = {}
        for source in (None, event.source):
            for taker in self._listening.get((source, None), ()):  # any event is a heartbeat
                taker.watched.windows[taker.signal.name].heard(now)
                concerned[id(taker.watched)] = taker.watched
            for taker in self._listening.get((source, event.type), ()):
                if age <= taker.signal.max_age and _meant(taker.watched, event):
                    window = taker.watched.windows[taker.signal.name]
                    window.add(now - age, event.count, f"{event.id} from {event.source}")
                    concerned[id(taker.watched)] = taker.watched
        for watched in concerned.values():
            self._look(watched)

    def due(self) -> set[str]:
        """Read again what changes by time alone; uids of policies whose paths fell silent or came back."""
        self.scraped.due()
        self.alerts.due()  # first, so that one write tells of a silent path and of what it means
        concerned = self.paths.due()
        elapsed = self._clock.monotonic()
        for watched in tuple(self._counting.values()):
            if elapsed >= watched.look_at:
                self._look(watched)
        return concerned

    def _written(self, samples: Samples, now: float) -> None:
        """The path works while what arrives is recent: after an outage Prometheus replays it."""
        newest = max(samples.timestamps, default=0) / 1000
        if now - newest <= self.paths.tolerances[Path.REMOTE_WRITE]:
            self.paths.heard(REMOTE_WRITE)

    def _settle(self, taker: Taker, reading: Reading) -> None:
        """Take a reading of a complete path; where all is not at rest, time passes too."""
        if self._take(taker, reading) or not taker.watched.quiet:
            self._judge(taker.watched)

    def _trip(self, taker: Taker, trip: Reading) -> None:
        """Take a pushed trip; the hundredth of an anomaly that is known changes no decision."""
        if self._take(taker, trip):
            self._judge(taker.watched)

    def _take(self, taker: Taker, reading: Reading) -> bool:
        """Whether the signal says something else now than before."""
        return taker.watched.take(
            reading,
            max_age=taker.signal.max_age,
            now=self._clock.now(),
            elapsed=self._clock.monotonic(),
        )

    def _look(self, watched: Watched) -> None:
        """Read the windows of a policy; judge it where they say something else than before."""
        if self._read_windows(watched):
            self._judge(watched)

    def _read_windows(self, watched: Watched) -> bool:
        """Whether a verdict, or the reason of an Unknown, has changed."""
        changed, now, read_at = False, self._clock.monotonic(), self._clock.now()
        for name, window in watched.windows.items():
            before, reading = watched.readings[name], window.reading(name, now, read_at=read_at)
            if not self.hears_events:
                message = "nobody can post events: no receiver is set up, or no key"
                reading = Reading(
                    name, Verdict.UNKNOWN, message, read_at, Blindness.SILENT, path=Path.EVENT
                )
            watched.readings[name] = reading
            changed |= reading.differs(before)
        due = min((window.due(now) for window in watched.windows.values()), default=now)
        watched.look_at = min(due, now + _LOOK)
        return changed


def _wants(signal: CompiledSignal) -> Iterator[_Heard]:
    """The events that a signal counts, and those that only show that their source is alive."""
    if (rule := signal.events) is not None:
        yield rule.source, rule.type
        if rule.heartbeat is not None:
            yield rule.source, None


def _meant(watched: Watched, event: events.Event) -> bool:
    """Whether an event concerns a policy: of its namespace, or of none."""
    namespace = watched.policy.namespace
    return not namespace or event.namespace in {None, namespace}


def _drop(takers: dict[_K, list[Taker]], key: _K, watched: Watched) -> None:
    left = [each for each in takers.pop(key, ()) if each.watched is not watched]
    if left:
        takers[key] = left
