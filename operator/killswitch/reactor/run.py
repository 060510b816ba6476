"""The reactor process: reflectors, poller, engine and reports in one event loop."""

import asyncio
import gc
from collections import deque

import structlog

from killswitch.core.inventory import Inventory
from killswitch.core.projections import PROJECTIONS
from killswitch.core.reaction import TICK
from killswitch.core.readings import Answer, NoAnswer
from killswitch.core.resources import (
    BYPASSES,
    CLUSTER_POLICIES,
    CLUSTER_SHUTDOWNS,
    FREEZES,
    NAMESPACES,
    POLICIES,
    SHUTDOWNS,
    Resource,
)
from killswitch.ports import Clock, Cluster, QueryChecker, Scraper, SignalSource
from killswitch.reactor import garbage, policy_status
from killswitch.reactor import numbers as own
from killswitch.reactor.engine import Engine
from killswitch.reactor.finisher import Progress
from killswitch.reactor.mirrors import ALWAYS, Mirrors
from killswitch.reactor.numbers import Numbers
from killswitch.reactor.poller import Poller
from killswitch.reactor.recalling import Recaller
from killswitch.reactor.restless import Restless
from killswitch.reactor.scraping import Bounds, Scraping
from killswitch.reactor.view import InventorySink, NamespaceSink
from killswitch.reactor.watched import Identity
from killswitch.reflector import Reflector, Sink
from killswitch.telemetry.traces import Traces

_LOG = structlog.get_logger(__name__)
_KINDS = 1.0
"""Seconds between looks at which kinds policies name, and at what is served if that is old."""
_LISTED = 0.1
"""Seconds between looks while a kind is being listed."""
_TRACES = 5
"""Stops that are traced in one look: each takes a fifth of a millisecond."""


class Reactor:
    """Everything of one reactor replica; `run` returns only when cancelled."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        source: SignalSource,
        checker: QueryChecker,
        identity: Identity,
        *,
        poll_interval: float,
        hears_events: bool = False,
        scraper: Scraper | None = None,
        scrapes: Bounds | None = None,
        numbers: Numbers | None = None,
        traces: Traces | None = None,
    ) -> None:
        """Nothing is asked before `run`. Without a scraper, what is to be scraped is never read."""
        self._cluster = cluster
        self._clock = clock
        self._traces = traces
        self._untraced: deque[Progress] = deque()
        self.numbers = numbers or Numbers(clock)
        self.engine = Engine(
            cluster,
            clock,
            checker,
            identity,
            progressed=self._progressed,
            hears_events=hears_events,
            source=source,
        )
        self._poller = Poller(source, clock, self._deliver, interval=poll_interval)
        self.scraping: Scraping | None = None
        if scraper is not None:
            self.scraping = Scraping(
                scraper,
                cluster,
                clock,
                self.engine.intake.scraped,
                self.engine.view.inventory,
                paths=self.engine.intake.paths,
                bounds=scrapes,
            )
        self._recaller = Recaller(source, clock)
        self._asked = -1
        self.needed = self._make_reflectors()
        """Nothing is judged before these have listed everything."""
        self.mirrors = Mirrors(cluster, clock, self.engine.view.inventory)
        self._restless = Restless(cluster, clock, self.engine.view)
        self._freezes = Reflector(cluster, clock, FREEZES, self.engine.freezes.stored)
        self.ready = asyncio.Event()
        """Set once everything is listed and every policy judged."""
        self.numbers.reactor = self

    async def run(self) -> None:
        """Mirror, poll, judge and act until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for reflector in self.reflectors:
                    group.create_task(reflector.run())
                group.create_task(self._mirror())
                with garbage.put_off():
                    for reflector in self.needed:
                        await reflector.synced.wait()
                # What is alive now stays: a full collection would stop the loop for its scan.
                gc.collect()
                gc.freeze()
                self.engine.start()
                self.ready.set()
                group.create_task(self._learn_freezes())
                group.create_task(self._poller.run())
                group.create_task(self._name_restless())
                group.create_task(policy_status.report(self.engine, self._cluster, self._clock))
                await self._tick()
        finally:
            if self.scraping is not None:
                self.scraping.stop()
            self._recaller.stop()
            await self.mirrors.close()
            # Whatever this replica had under way, another one finds in the API server.
            await self.engine.close()
            self._trace(len(self._untraced))

    @property
    def reflectors(self) -> list[Reflector]:
        """All of them."""
        return [*self.needed, self._freezes]

    @property
    def poll_pace(self) -> float:
        """Seconds between two polls of the same query."""
        return self._poller.pace

    async def _learn_freezes(self) -> None:
        """Stops do not wait for it: whoever upgrades may lack the kind, or the right, for a while."""
        await self._freezes.synced.wait()
        self.engine.freezes_listed()

    async def _mirror(self) -> None:
        """Follow which kinds there are, and which of them policies name."""
        while True:
            try:
                await self.mirrors.look(self.engine.kinds, self.engine.held)
            except Exception:
                _LOG.exception("the kinds of the cluster could not be followed")
            await self._clock.sleep(_LISTED if self.mirrors.listing else _KINDS)

    async def _name_restless(self) -> None:
        """Say what a release would start; a defect there must not end the reactor."""
        while True:
            try:
                await self._restless.run()
            except Exception:
                _LOG.exception("what a release would start could not be told")

    def _deliver(self, query: str, answer: Answer | NoAnswer) -> None:
        self.engine.intake.deliver(query, answer)
        self.numbers.polled(answer)

    def _progressed(self, progress: Progress) -> None:
        self.numbers.progressed(progress)
        if self._traces is not None and progress.outcome.finished:
            self._untraced.append(progress)

    def _trace(self, most: int) -> None:
        """Write the traces of finished stops, few at a time: others may still be under way."""
        for _ in range(min(most, len(self._untraced))):
            traced = own.traced(self._untraced.popleft())
            if self._traces is not None:
                self._traces.stop(*traced)

    async def _tick(self) -> None:
        """Whatever fails in one of the steps, the others go on, and so does the next tick."""
        steps = (self.engine.due, self._ask, self._look, lambda: self._trace(_TRACES))
        while True:
            for step in steps:
                try:
                    step()
                except Exception:
                    _LOG.exception("a step of a tick failed")
            await self._clock.sleep(TICK)

    def _ask(self) -> None:
        """Follow which queries policies ask, and which detectors want to know the past."""
        self._recaller.ask(self.engine.intake.beginning)
        if self._asked != self.engine.intake.revision:
            self._asked = self.engine.intake.revision
            self._poller.ask(self.engine.intake.queries)

    def _look(self) -> None:
        if self.scraping is not None:
            self.scraping.look()

    def _make_reflectors(self) -> list[Reflector]:
        view = self.engine.view
        inventory: Inventory = view.inventory
        # Policies last among equals: when they are judged, what they aim at should be known.
        sinks: list[tuple[Resource, Sink]] = [
            (NAMESPACES, NamespaceSink(inventory)),
            *(
                (resource, InventorySink(inventory, PROJECTIONS[resource.key]))
                for resource in ALWAYS
            ),
            (SHUTDOWNS, view.shutdowns),
            (CLUSTER_SHUTDOWNS, view.shutdowns),
            (BYPASSES, view.bypasses),
            (POLICIES, view.policies),
            (CLUSTER_POLICIES, view.policies),
        ]
        return [Reflector(self._cluster, self._clock, resource, sink) for resource, sink in sinks]
