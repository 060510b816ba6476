"""The only place that constructs adapters. Each function is one process of the chart."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING

from killswitch.adapters import credentials
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.caps import Cap
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.readings import Path
from killswitch.core.stops import Boundaries
from killswitch.ports import Clock
from killswitch.settings import Settings
from killswitch.telemetry import logs
from killswitch.telemetry.traces import Traces, traces

if TYPE_CHECKING:
    from ssl import SSLContext

    from aiohttp.web import Application

    from killswitch.manager.run import Manager
    from killswitch.reactor.run import Reactor

_WARM = 16
_PING = 10.0
_LOOK = 0.1
"""Seconds between looks at which metrics policies name, and at the file of keys."""


async def run_reactor(settings: Settings) -> None:
    """One reactor replica, until SIGTERM or SIGINT."""
    from killswitch.adapters.prometheus import PrometheusSource
    from killswitch.adapters.promql import PromqlChecker
    from killswitch.adapters.scrape_http import ScrapeHttp
    from killswitch.reactor.numbers import Numbers
    from killswitch.reactor.persistence import persistently
    from killswitch.reactor.run import Reactor
    from killswitch.reactor.scraping import Bounds
    from killswitch.reactor.watched import Identity
    from killswitch.telemetry.endpoint import serving

    logs.log_to_stderr()
    clock = SystemClock()
    numbers = Numbers(clock)
    source = PrometheusSource(settings.prometheus_url, timeout=settings.prometheus_timeout)
    scraper = ScrapeHttp(token_file=settings.scrape_token_file, ca_file=settings.scrape_ca_file)
    async with (
        _traced("killswitch-reactor") as tracing,
        serving(settings.metrics_address, numbers.registry, lambda: numbers.unready),
        open_cluster(settings) as cluster,
        scraper,
    ):
        identity = Identity(
            # Started while the API server is away: wait for it, do not fall into a restart loop.
            username=await persistently(clock, cluster.whoami),
            replica=replica_name(),
            namespace=settings.namespace,
            boundaries=Boundaries(settings.protected, GOVERNED_LABEL),
            cap=Cap(settings.cap_targets, settings.cap_percent, settings.cap_window),
        )
        reactor = Reactor(
            cluster,
            clock,
            source,
            PromqlChecker(),
            identity,
            poll_interval=settings.poll_interval,
            hears_events=bool(settings.listen),
            scraper=scraper,
            scrapes=Bounds(
                settings.scrape_targets,
                settings.scrape_targets_per_service,
                settings.scrape_loopback,
            ),
            numbers=numbers,
            traces=tracing,
        )
        work = [reactor.run(), _keep_warm(cluster, clock)]
        if settings.listen:
            work.append(_listen(settings, reactor, clock))
        try:
            await until_signalled(*work)
        finally:
            source.close()


async def run_manager(settings: Settings) -> None:
    """The manager, until SIGTERM or SIGINT."""
    from killswitch.adapters.prometheus_feeds import PrometheusFeeds
    from killswitch.adapters.promql import PromqlChecker
    from killswitch.manager.numbers import Numbers
    from killswitch.manager.run import Manager
    from killswitch.telemetry.endpoint import serving

    logs.log_to_stderr()
    numbers = Numbers()
    async with (
        _traced("killswitch-manager") as tracing,
        serving(settings.metrics_address, numbers.registry, lambda: numbers.unready),
        open_cluster(settings) as cluster,
        PrometheusFeeds(settings.prometheus_url, settings.prometheus_timeout) as feeds,
    ):
        manager = Manager(
            cluster,
            SystemClock(),
            PromqlChecker(),
            feeds,
            settings,
            numbers=numbers,
            traces=tracing,
            reactor=f"system:serviceaccount:{settings.namespace}:killswitch-reactor",
        )
        work = [manager.run()]
        if settings.audit_address is not None:
            work.append(_hear_audit(settings, settings.audit_address, manager))
        await until_signalled(*work)


@contextlib.asynccontextmanager
async def open_cluster(settings: Settings) -> AsyncIterator[KubernetesApi]:
    """The API servers that the environment points at, with an open pool."""
    loaded = replace(credentials.load(), preferred=settings.api_servers)
    async with KubernetesApi(loaded, connections=settings.connections) as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def _traced(service: str) -> AsyncIterator[Traces | None]:
    """Traces where the environment asks for them; what is left of them is sent at the end."""
    found = traces(service, replica_name())
    try:
        yield found
    finally:
        if found is not None:
            await asyncio.to_thread(found.close)


async def until_signalled(*work: Awaitable[None]) -> None:
    """Run all of it until one ends, one fails, or a SIGTERM or SIGINT asks to stop."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    tasks = [asyncio.ensure_future(each) for each in (asked.wait(), *work)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


async def _listen(settings: Settings, reactor: "Reactor", clock: Clock) -> None:
    """Receive what others push, once every policy is known; raises where it cannot."""
    from killswitch.reactor.listening import Listening
    from killswitch.signals.keyfile import KeyFile

    tls = _tls(settings)
    await reactor.ready.wait()
    paths = reactor.engine.intake.paths
    paths.expected = frozenset(map(Path, settings.expected_paths))
    paths.tolerances[Path.REMOTE_WRITE] = settings.remote_write_tolerance
    keys = KeyFile(settings.event_keys_file)
    listening = Listening(reactor.engine, clock, keys, reactor.numbers)
    async with _receiving(listening.application(), settings.listen_address, tls):
        while True:
            listening.look()
            await clock.sleep(_LOOK)


async def _hear_audit(settings: Settings, address: tuple[str, int], manager: "Manager") -> None:
    """Receive the API server's audit events; raises where it cannot."""
    from killswitch.signals import audit
    from killswitch.signals import web as receivers
    from killswitch.signals.keyfile import KeyFile

    keys = KeyFile(settings.event_keys_file)
    hearing = audit.receiver(manager.refused, tokens=keys.auditors)
    app = receivers.application(hearing, counts=manager.numbers.requests)
    async with _receiving(app, address, _tls(settings)):
        await asyncio.Event().wait()


def _tls(settings: Settings) -> "SSLContext | None":
    import ssl

    if not settings.tls_cert_file:
        return None
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    return tls


@contextlib.asynccontextmanager
async def _receiving(
    app: "Application", address: tuple[str, int], tls: "SSLContext | None"
) -> AsyncIterator[None]:
    """Answer there meanwhile; OSError where the address cannot be had."""
    from aiohttp import web

    from killswitch.signals import web as receivers

    runner = receivers.runner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, *address, ssl_context=tls).start()
        yield
    finally:
        await runner.cleanup()


async def _keep_warm(cluster: KubernetesApi, clock: Clock) -> None:
    """Keep connections open and find expired ones before a stop needs them."""
    while True:
        await cluster.warm(_WARM)
        await clock.sleep(_PING)


def replica_name() -> str:
    """Name of this replica in records: the pod's name inside a cluster."""
    return os.environ.get("HOSTNAME") or socket.gethostname()
