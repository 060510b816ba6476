"""Ask the pods behind Services for their metrics, each at its own steady pace.

Only what some policy wants to be scraped is known here: EndpointSlices of its namespace, one task
for each pod. A pod that is slow or dead keeps nobody but itself waiting, and is never asked twice
at once, so the bound on pods is the bound on what is under way. When the event loop is busy,
scrapes become rarer: whatever has to be stopped comes first.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from killswitch.api.compiled import Exporter
from killswitch.core.errors import UnacceptableError
from killswitch.core.inventory import Inventory, Pod
from killswitch.core.pacing import scrape_deadline
from killswitch.core.readings import Blindness, NoAnswer
from killswitch.core.resources import ENDPOINT_SLICES
from killswitch.ports import Clock, Cluster, Json, Place, Scraper
from killswitch.reactor.paths import Paths
from killswitch.reactor.scraped import SILENCE, Endpoint, Scraped, Source, tolerance
from killswitch.reflector import Reflector
from killswitch.signals import scrape
from killswitch.signals.scrape import Reader, Slice

_LOOK = 0.5
"""Seconds between two looks at which pods there are; a changed EndpointSlice is looked at at once."""
_VIEW = 150.0
"""Seconds without a word about EndpointSlices after which new pods may have been missed."""
_BUSY, _IDLE = 0.7, 0.35
"""Shares of a core: above the one, scrapes become rarer by half; below the other, more frequent."""
_RAREST = 64.0
ANSWERED = "Answered"
_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is scraped at most, and whether loopback addresses are (for tests alone)."""

    targets: int = 256
    per_service: int = 64
    loopback: bool = False


@dataclass(slots=True, eq=False)
class _Slices:
    """The EndpointSlices of one namespace, by Service."""

    changed: Callable[[], None]
    by_service: dict[str, dict[str, Slice]] = field(default_factory=lambda: defaultdict(dict))
    _services: dict[str, str] = field(default_factory=dict)

    def put(self, body: Json) -> None:
        """Keep what is needed of it."""
        uid = body["metadata"]["uid"]
        self.remove(uid)
        found = scrape.slice_of(body)
        if found is not None:
            self.by_service[found.service][uid] = found
            self._services[uid] = found.service

    def remove(self, uid: str) -> None:
        """Forget."""
        service = self._services.pop(uid, None)
        if service is not None:
            del self.by_service[service][uid]
            if not self.by_service[service]:
                del self.by_service[service]
        self.changed()


@dataclass(slots=True)
class _Mirror:
    """A namespace whose EndpointSlices are watched."""

    slices: _Slices
    reflector: Reflector
    task: asyncio.Task[None]


@dataclass(slots=True)
class _Asking:
    """A pod that is asked again and again."""

    place: Place
    endpoint: Endpoint
    task: asyncio.Task[None]


class Scraping:
    """All scrapes of one reactor."""

    def __init__(
        self,
        scraper: Scraper,
        cluster: Cluster,
        clock: Clock,
        scraped: Scraped,
        inventory: Inventory,
        *,
        paths: Paths,
        bounds: Bounds | None = None,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        """Nothing is asked before `look`. `cpu` tells the seconds that this thread has computed."""
        self._scraper = scraper
        self._cluster = cluster
        self._clock = clock
        self._scraped = scraped
        self._inventory = inventory
        self._bounds = bounds or Bounds()
        self._mirrors: dict[str, _Mirror] = {}
        self._asking: dict[Source, dict[str, _Asking]] = {}
        self._version, self._look_at = -1, 0.0
        self._pace = _Pace(cpu)
        self._paths = paths
        self.counts: Counter[str] = Counter()
        """Scrapes by what came of them: `Answered`, or the reason."""
        self.heard_at: float | None = None
        """When the last good scrape began (seconds since the epoch)."""

    @property
    def targets(self) -> int:
        """How many pods are scraped, each once for every port and path."""
        return sum(len(each) for each in self._asking.values())

    @property
    def stretch(self) -> float:
        """By how much scrapes are rarer than wanted."""
        return self._pace.stretch

    def look(self) -> None:
        """Follow what policies want and which pods there are; called again and again."""
        now = self._clock.monotonic()
        if now < self._look_at and self._version == self._scraped.version:
            return
        self._look_at, self._version = now + _LOOK, self._scraped.version
        self._scraped.prune()
        sources = self._scraped.sources
        self._mirror({exporter.namespace for exporter in sources})
        for source in self._asking.keys() - set(sources.values()):
            self._ask(source, {})
            del self._asking[source]
        room = self._bounds.targets
        for source in sources.values():
            room -= self._follow(source, room, now)
        self._pace.look(now)
        self._watch(now)

    def stop(self) -> None:
        """Ask nothing more."""
        for source in self._asking:
            self._ask(source, {})
        self._asking.clear()
        self._mirror(set())

    def _mirror(self, namespaces: set[str]) -> None:
        """Watch the EndpointSlices of exactly these namespaces."""
        for namespace in self._mirrors.keys() - namespaces:
            self._mirrors.pop(namespace).task.cancel()
        for namespace in namespaces - self._mirrors.keys():
            slices = _Slices(self._changed)
            reflector = Reflector(
                self._cluster, self._clock, ENDPOINT_SLICES, slices, namespace=namespace
            )
            task = asyncio.create_task(reflector.run())
            self._mirrors[namespace] = _Mirror(slices, reflector, task)

    def _changed(self) -> None:
        self._look_at = 0.0

    def _follow(self, source: Source, room: int, now: float) -> int:
        """Ask the pods of one source, as far as there is room; how many they are."""
        found, problem = self._endpoints(source.exporter, now)
        most = min(room, self._bounds.per_service)
        if len(found) > most:
            detail = f"{source.exporter} has {len(found)} pods, {most} of them are scraped"
            problem = NoAnswer(Blindness.PARTIAL, f"{detail}: the limit is reached")
            # Those that are asked stay: a change elsewhere must not take their values away.
            known = self._asking.get(source, {})
            chosen = sorted(found, key=lambda uid: (uid not in known, uid))[:most]
            found = {uid: found[uid] for uid in chosen}
        if problem != source.problem:
            source.problem = problem
            source.look()
        self._ask(source, found)
        return len(found)

    def _endpoints(
        self, exporter: Exporter, now: float
    ) -> tuple[dict[str, scrape.Found], NoAnswer | None]:
        """The pods of an exporter, and why they may not be all of them."""
        mirror = self._mirrors[exporter.namespace]
        if not mirror.reflector.synced.is_set():
            return {}, _unlisted(exporter, now - mirror.reflector.heard)
        slices = mirror.slices.by_service.get(exporter.service, {})
        found, problem = scrape.endpoints(
            exporter, slices.values(), self._inventory, loopback=self._bounds.loopback
        )
        age = now - mirror.reflector.heard
        if age > _VIEW:
            detail = f"its EndpointSlices were last heard of {age:.0f} s ago"
            problem = NoAnswer(Blindness.SILENT, f"{exporter}: {detail}")
        return found, problem

    def _ask(self, source: Source, found: dict[str, scrape.Found]) -> None:
        """Ask exactly these pods from now on; what others said is dropped."""
        asking = self._asking.setdefault(source, {})
        for uid, old in tuple(asking.items()):
            if uid not in found or found[uid].place != old.place:
                old.task.cancel()
                del asking[uid], source.endpoints[uid]
                source.look()
        for uid, each in found.items():
            if uid not in asking:
                endpoint = Endpoint(each.pod.name, _labels(source.exporter, each.pod))
                source.endpoints[uid] = endpoint
                task = asyncio.create_task(self._scrape(source, endpoint, each.place))
                asking[uid] = _Asking(each.place, endpoint, task)
                source.look()
            endpoint = asking[uid].endpoint
            # A pod that is only starting, or already ending, serves nobody and need not answer.
            endpoint.serving = endpoint.serving or each.ready or endpoint.answers
            endpoint.required = endpoint.serving and not each.pod.terminating

    async def _scrape(self, source: Source, endpoint: Endpoint, place: Place) -> None:
        """Scrape one pod until cancelled."""
        start = self._clock.monotonic() + random.random() * source.interval  # noqa: S311  # not a secret
        await self._clock.sleep(start - self._clock.monotonic())
        reader = Reader(frozenset())
        while True:
            try:
                if reader.names != source.names:
                    reader = Reader(source.names)
                await self._once(source, endpoint, place, reader)
            except Exception as error:
                # A defect of ours must not end the scraping: silence would look like health.
                _LOG.exception("a scrape failed", pod=endpoint.pod, exporter=str(source.exporter))
                self._failed(source, endpoint, NoAnswer(Blindness.FAILED, repr(error)[:300]))
            # A slow answer does not stretch the interval; missed rounds are skipped.
            interval = source.interval * self._pace.stretch
            pause = interval - (self._clock.monotonic() - start) % interval
            # Woken a rounding error too early, this round would come twice.
            await self._clock.sleep(pause if pause > interval / 100 else interval)

    async def _once(self, source: Source, endpoint: Endpoint, place: Place, reader: Reader) -> None:
        version, began, at = source.version, self._clock.monotonic(), self._clock.now()
        within = scrape_deadline(source.interval)
        exposed = await self._scraper.scrape(place, reader.ask, within)
        if isinstance(exposed, NoAnswer):
            reader.failed(began)
            self._failed(source, endpoint, exposed)
            return
        stamp = round(at * 1000)
        try:
            samples = reader.read(exposed, stamp, began)
        except UnacceptableError as error:
            reason = Blindness.FAILED if error.status == 413 else Blindness.BAD_ANSWER
            self._failed(source, endpoint, NoAnswer(reason, str(error)[:300]))
            return
        if samples is not None:
            self.counts[ANSWERED] += 1
            self.heard_at = at
            self._scraped.answered(source, endpoint, samples, stamp, began=began, version=version)

    def _failed(self, source: Source, endpoint: Endpoint, fault: NoAnswer) -> None:
        self.counts[fault.reason] += 1
        self._scraped.failed(source, endpoint, fault)

    def _watch(self, now: float) -> None:
        """Each Service all of whose pods have answered lately has been heard of."""
        for exporter, source in self._scraped.sources.items():
            patience = tolerance(source.interval * self.stretch)
            if source.problem is None and not any(
                each.required and now - each.heard > patience for each in source.endpoints.values()
            ):
                self._paths.heard(str(exporter), patience)


@dataclass(slots=True)
class _Pace:
    """By how much scrapes are rarer than wanted, so that the event loop stays free."""

    cpu: Callable[[], float]
    stretch: float = 1.0
    _at: float | None = None
    _used: float = 0.0

    def look(self, now: float) -> None:
        """Judge the last second."""
        if self._at is None:
            self._at, self._used = now, self.cpu()
        if now - self._at < 1.0:
            return
        used = self.cpu()
        share = (used - self._used) / (now - self._at)
        self._at, self._used, before = now, used, self.stretch
        if share > _BUSY:
            self.stretch = min(self.stretch * 2, _RAREST)
        elif share < _IDLE:
            self.stretch = max(self.stretch / 2, 1.0)
        if (before == 1.0) != (self.stretch == 1.0):
            _LOG.warning("the pace of scrapes has changed", stretched=self.stretch, cpu=share)


def _unlisted(exporter: Exporter, age: float) -> NoAnswer:
    """Nothing is known yet: at the start nothing is wrong, later something is."""
    reason = Blindness.NEVER_READ if age < SILENCE else Blindness.SILENT
    return NoAnswer(reason, f"{exporter}: its EndpointSlices are not listed")


def _labels(exporter: Exporter, pod: Pod) -> dict[str, str]:
    """What Prometheus would add to its series, as far as it is known."""
    return {"namespace": exporter.namespace, "pod": pod.name, "service": exporter.service}
