"""What pods expose, judged: every endpoint of a Service together is one complete answer.

    a pod answers          `answered`   a value beyond a threshold trips at once, whoever is missing
    a pod does not answer  `failed`     its last answer counts until it is older than maxAge
    time passes            `due`        all-is-well, and what is not known, of all pods together

A scrape costs by the metrics that are asked for, not by the policies that ask: those are looked at
when a value lies beyond the nearest of their thresholds. The rules are those of `readings.judge`.
"""

import bisect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from killswitch.api.compiled import Exporter, Metric
from killswitch.core import readings
from killswitch.core.readings import Answer, Blindness, NoAnswer, Path, Reading, Verdict
from killswitch.core.switch import State
from killswitch.ports import Clock
from killswitch.reactor.routes import Taker
from killswitch.reactor.watched import Watched
from killswitch.signals import scrape
from killswitch.signals.scrape import Part
from killswitch.signals.series import Samples, Series

SILENCE = 10.0
"""Seconds without a good answer of all its pods after which a Service counts as silent."""
_LOOK = 1.0
"""Seconds between two looks at all pods, or a quarter of the shortest maxAge."""
_SOON = 0.2
"""Seconds between two looks for the sake of pods that answer and fail by turns."""
_SLOWEST = 60.0
"""Seconds between two scrapes where nobody wants more."""
_ROUTES = 4000
"""Series of one endpoint whose metrics are remembered."""

_NOT_YET = NoAnswer(Blindness.NEVER_READ, "not scraped yet")
_UNKNOWN_PODS = NoAnswer(Blindness.NEVER_READ, "which pods there are is not known yet")
_OLD = NoAnswer(Blindness.STALE, "its last answer is too old")

Take = Callable[[Taker, Reading], None]


def tolerance(interval: float) -> float:
    """Seconds for which a Service may be silent: one that is asked rarely is heard rarely."""
    return SILENCE + 2 * interval


@dataclass(slots=True, eq=False)
class Endpoint:
    """One pod that is scraped, and what it said."""

    pod: str
    place: Mapping[str, str]
    """Labels that Prometheus would add."""
    required: bool = True
    """Whether all-is-well needs it."""
    serving: bool = False
    """Whether it was ever ready, or has ever answered."""
    version: int = -1
    """Which state of what is wanted its last answer knew."""
    heard: float = -math.inf
    """When its last good scrape began (monotonic)."""
    fault: NoAnswer = _NOT_YET
    """What came of the last scrape, where it failed."""
    parts: dict[Metric, Part] = field(default_factory=dict)
    routes: dict[Series, tuple[Metric, ...]] = field(default_factory=dict)

    @property
    def answers(self) -> bool:
        """Whether it has ever answered."""
        return self.heard != -math.inf


@dataclass(slots=True, eq=False)
class _Watch:
    """A signal that wants scrapes."""

    taker: Taker
    by: Endpoint | None = None
    """Who tripped it, while it is."""

    @property
    def stopped(self) -> bool:
        """Whether its policy holds a stop."""
        return self.taker.watched.stop.state is State.LATCHED


@dataclass(slots=True)
class _Group:
    """The signals that want one metric of one exporter."""

    watches: list[_Watch] = field(default_factory=list)
    rising: list[tuple[float, _Watch]] = field(default_factory=list)
    """Those that trip above a value, by it."""
    falling: list[tuple[float, _Watch]] = field(default_factory=list)
    """Those that trip below a value, the largest first."""
    look_at: float = 0.0
    looked_at: float = -math.inf
    version: int = 0
    """From which state of what is wanted on it is asked for."""

    def add(self, watch: _Watch) -> None:
        """One more, in its place."""
        self.watches.append(watch)
        limit = watch.taker.signal.threshold
        if limit.above is not None:
            bisect.insort(self.rising, (limit.above, watch), key=lambda each: each[0])
        if limit.below is not None:
            bisect.insort(self.falling, (limit.below, watch), key=lambda each: -each[0])

    def drop(self, watched: Watched) -> None:
        """None of this policy any more."""
        self.watches = [each for each in self.watches if each.taker.watched is not watched]
        self.rising = [each for each in self.rising if each[1].taker.watched is not watched]
        self.falling = [each for each in self.falling if each[1].taker.watched is not watched]

    def reached(self, part: Part) -> Iterator[_Watch]:
        """Those whose threshold lies within what a pod says; NaN is beyond none."""
        for above, watch in self.rising:
            if not part.most > above:
                break
            yield watch
        for below, watch in self.falling:
            if not part.least < below:
                break
            yield watch


@dataclass(slots=True, eq=False)
class Source:
    """An exporter that somebody wants: its endpoints, and the signals that depend on it."""

    exporter: Exporter
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    """By uid of the pod."""
    problem: NoAnswer | None = _UNKNOWN_PODS
    """Why its endpoints are not all of them."""
    groups: dict[Metric, _Group] = field(default_factory=dict)
    tripped: dict[_Watch, Metric] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    """The metrics that are wanted."""
    interval: float = _SLOWEST
    """Seconds between two scrapes: the shortest that is wanted."""
    version: int = 0
    """Another number whenever more is wanted."""

    def group(self, metric: Metric) -> _Group:
        """The signals that want this metric."""
        found = self.groups.get(metric)
        if found is None:
            self.version += 1
            found = self.groups[metric] = _Group(version=self.version)
            self.arrange()
        return found

    def arrange(self) -> None:
        """Bring up to date what follows from the metrics that are wanted."""
        self.names = frozenset(metric.name for metric in self.groups)
        for endpoint in self.endpoints.values():
            endpoint.routes.clear()

    def look(self) -> None:
        """There are other pods, or other signals: look at everything at once."""
        for group in self.groups.values():
            group.look_at = 0.0

    def look_soon(self) -> None:
        """A pod changed its tune: look at everything, but not as often as it may do that."""
        for group in self.groups.values():
            group.look_at = min(group.look_at, group.looked_at + _SOON)


class Scraped:
    """The signals of all policies that want scrapes, by what they want to be scraped."""

    def __init__(self, clock: Clock, *, trip: Take, settle: Take) -> None:
        """`trip` takes what one pod alone has tripped, `settle` what all of them say together."""
        self._clock = clock
        self._take_trip, self._settle = trip, settle
        self.sources: dict[Exporter, Source] = {}
        self.version = 0
        """Another number whenever something else is wanted."""

    def add(self, taker: Taker) -> None:
        """From now on this signal hears of the pods that it names."""
        exporter, metric = taker.signal.exporter, taker.signal.metric
        if exporter is None or metric is None:
            return
        source = self.sources.setdefault(exporter, Source(exporter))
        source.group(metric).add(_Watch(taker))
        source.interval = min(source.interval, taker.signal.scrape_interval)
        source.look()
        self.version += 1

    def remove(self, watched: Watched) -> None:
        """Nothing more for this policy. Its sources stay until `prune`: it may only be edited."""
        for exporter in {each.exporter for each in watched.policy.signals if each.exporter}:
            source = self.sources[exporter]
            for metric, group in tuple(source.groups.items()):
                group.drop(watched)
                if not group.watches:
                    del source.groups[metric]
            source.tripped = {
                watch: metric
                for watch, metric in source.tripped.items()
                if watch.taker.watched is not watched
            }
            left = (each for group in source.groups.values() for each in group.watches)
            intervals = (each.taker.signal.scrape_interval for each in left)
            source.interval = min(intervals, default=_SLOWEST)
            source.arrange()
            source.look()
            self.version += 1

    def prune(self) -> None:
        """Forget the sources that nobody wants any more."""
        for exporter in [each for each, source in self.sources.items() if not source.groups]:
            del self.sources[exporter]

    def answered(
        self,
        source: Source,
        endpoint: Endpoint,
        samples: Samples,
        at: int,
        *,
        began: float,
        version: int,
    ) -> None:
        """A pod was scraped at `at` (ms), `began` by the monotonic clock, for `version` of names."""
        now = self._clock.now()
        if endpoint.fault is not _OLD or endpoint.version != version:
            source.look_soon()
        endpoint.heard, endpoint.version, endpoint.fault = began, version, _OLD
        endpoint.parts = parts = _parts(source, endpoint, samples, at)
        for metric, part in parts.items():
            for watch in tuple(source.groups[metric].reached(part)):
                if watch.by is None:
                    self._trip(source, watch, metric, endpoint, now)
        self._look(
            source,
            [
                (watch, metric)
                for watch, metric in source.tripped.items()
                if watch.by is endpoint and not _holds(watch, parts.get(metric))
            ],
            now,
        )

    def failed(self, source: Source, endpoint: Endpoint, fault: NoAnswer) -> None:
        """A scrape of a pod gave nothing."""
        if endpoint.fault.reason is not fault.reason:
            source.look_soon()
        endpoint.fault = fault

    def due(self) -> None:
        """Look at all pods of each source together, where it is time to."""
        now = self._clock.now()
        monotonic = self._clock.monotonic()
        for source in tuple(self.sources.values()):
            for metric, group in tuple(source.groups.items()):
                if monotonic >= group.look_at:
                    ages = {watch.taker.signal.max_age for watch in group.watches}
                    group.looked_at = monotonic
                    group.look_at = monotonic + min(_LOOK, min(ages) / 4)
                    self._look(source, [(watch, metric) for watch in group.watches], now)

    def _look(self, source: Source, watches: Sequence[tuple[_Watch, Metric]], now: float) -> None:
        """All pods together, for each of these signals."""
        found: dict[tuple[Metric, float, bool], _Whole] = {}
        for watch, metric in watches:
            kind = (metric, watch.taker.signal.max_age, watch.stopped)
            if kind not in found:
                found[kind] = self._whole(source, metric, watch, now)
            reading = self._judged(watch, found[kind], now)
            self._settle(watch.taker, self._kept(source, watch, found[kind], reading))

    def _trip(
        self, source: Source, watch: _Watch, metric: Metric, endpoint: Endpoint, now: float
    ) -> None:
        """One pod's value is beyond the threshold: that is enough, unless it is old."""
        whole = self._nothing(source, metric, watch, now)
        whole.add(endpoint)
        reading = self._judged(watch, whole, now)
        if reading.verdict is Verdict.TRIPPED:
            self._take_trip(watch.taker, self._kept(source, watch, whole, reading))

    def _kept(self, source: Source, watch: _Watch, whole: "_Whole", reading: Reading) -> Reading:
        """The reading with the pod that tripped it, which is remembered."""
        if reading.verdict is Verdict.TRIPPED:
            watch.by = whole.worst(watch)
            source.tripped[watch] = whole.metric
            if watch.by is not None:
                reading = replace(reading, message=f"pod {watch.by.pod}: {reading.message}")
        else:
            watch.by = None
            source.tripped.pop(watch, None)
        return reading

    def _whole(self, source: Source, metric: Metric, watch: _Watch, now: float) -> "_Whole":
        """All endpoints together."""
        whole = self._nothing(source, metric, watch, now)
        whole.missing = source.problem
        for endpoint in source.endpoints.values():
            whole.add(endpoint)
        if not source.endpoints and whole.missing is None:
            why = ", while this policy holds what it stopped" if watch.stopped else ""
            whole.missing = NoAnswer(Blindness.ABSENT, f"{source.exporter} has no pod{why}")
        return whole

    def _nothing(self, source: Source, metric: Metric, watch: _Watch, now: float) -> "_Whole":
        group, age = source.groups[metric], watch.taker.signal.max_age
        return _Whole(metric, group.version, age, now, self._clock.monotonic())

    def _judged(self, watch: _Watch, whole: "_Whole", now: float) -> Reading:
        signal = watch.taker.signal
        return readings.judge(
            signal.name,
            signal.threshold,
            whole.answer(),
            max_age=signal.max_age,
            now=now,
            before=signal.name in watch.taker.watched.crossed,
            path=Path.SCRAPE,
        )


class _Whole:
    """What some endpoints say about one metric, as one answer."""

    def __init__(
        self, metric: Metric, version: int, max_age: float, now: float, monotonic: float
    ) -> None:
        self.metric = metric
        self._version = version
        self.missing: NoAnswer | None = None
        self._max_age, self._now, self._monotonic = max_age, now, monotonic
        self._values: list[float] = []
        self._oldest = 0.0
        self._least: tuple[float, Endpoint | None] = (math.inf, None)
        self._most: tuple[float, Endpoint | None] = (-math.inf, None)

    def add(self, endpoint: Endpoint) -> None:
        """Count its last answer, or say why there is none."""
        age = self._monotonic - endpoint.heard
        if not age <= self._max_age:
            self._miss(endpoint, endpoint.fault)
            return
        if endpoint.version < self._version:  # what it was not asked for is not absent
            self._miss(endpoint, _NOT_YET)
            return
        part = endpoint.parts.get(self.metric)
        if part is None:
            if scrape.concerned(self.metric, endpoint.place):
                self._miss(endpoint, NoAnswer(Blindness.ABSENT, f"it has no {self.metric}"))
            return
        found, oldest, others = scrape.values(part, age, self._max_age, self._now)
        if others:
            detail = f"timestamps of its own are off by more than {self._max_age:g} s"
            self._miss(endpoint, NoAnswer(Blindness.STALE, detail))
        for value in found:
            if value < self._least[0]:
                self._least = (value, endpoint)
            if value > self._most[0]:
                self._most = (value, endpoint)
        if found:
            self._values += found
            self._oldest = max(self._oldest, oldest)

    def _miss(self, endpoint: Endpoint, fault: NoAnswer) -> None:
        if endpoint.required and self.missing is None:
            self.missing = NoAnswer(fault.reason, f"pod {endpoint.pod}: {fault.detail}")

    def answer(self) -> Answer:
        """As a source that was asked once would have answered."""
        return Answer(tuple(self._values), self._oldest, missing=self.missing)

    def worst(self, watch: _Watch) -> Endpoint | None:
        """Whose value is furthest towards the limit."""
        above = watch.taker.signal.threshold.above is not None
        return self._most[1] if above else self._least[1]


def _holds(watch: _Watch, part: Part | None) -> bool:
    """Whether a pod's part keeps tripped what it has tripped."""
    if part is None or math.isnan(part.most):
        return False
    threshold = watch.taker.signal.threshold
    return threshold.crossed(threshold.worst((part.least, part.most)), before=True)


def _parts(source: Source, endpoint: Endpoint, samples: Samples, at: int) -> dict[Metric, Part]:
    """A scrape by metrics that are wanted of it."""
    found: dict[Metric, list[tuple[float, int]]] = {}
    routes = endpoint.routes
    for series, value, stamp in samples:
        metrics = routes.get(series)
        if metrics is None:
            if len(routes) >= _ROUTES:
                routes.clear()
            metrics = routes[series] = tuple(
                metric
                for metric in source.groups
                if metric.name == series.name
                and scrape.means(metric, series.labels, endpoint.place)
            )
        for metric in metrics:
            found.setdefault(metric, []).append((value, stamp))
    return {metric: scrape.part_of(each, at) for metric, each in found.items()}
