"""Pods that expose metrics: real HTTP on loopback addresses, text by prometheus_client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from killswitch.core.inventory import Pod
from tests.cluster.processes import free_port


class Served:
    """One pod. `prompt` is cleared while it takes requests and answers none."""

    def __init__(self, name: str, address: str) -> None:
        self.pod = Pod("prod", name, f"uid-{name}", "n", "", {}, addresses=(address,))
        self.registry = CollectorRegistry()
        self.running = Gauge("running", "x", ["model"], registry=self.registry)
        for number in range(50):
            Gauge(f"other_{number}", "x", registry=self.registry)
        self.prompt = asyncio.Event()
        self.prompt.set()
        self.asked: list[tuple[str, ...]] = []
        """The names of each request; none for everything."""
        self.at_once = 0
        self.most_at_once = 0
        self.runner: web.AppRunner | None = None

    async def answer(self, request: web.Request) -> web.Response:
        """GET /metrics."""
        names = tuple(request.query.getall("name[]", ()))
        self.asked.append(names)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.prompt.wait()
        finally:
            self.at_once -= 1
        source = self.registry.restricted_registry(names) if names else self.registry
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=generate_latest(source), headers=headers)

    def set(self, value: float, model: str = "a") -> None:
        """Expose this value from now on."""
        self.running.labels(model).set(value)

    async def stop(self) -> None:
        """Nobody listens there any more."""
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None


@dataclass
class Pods:
    """Pods of one Service: all listen at the same port of their own addresses."""

    port: int = field(default_factory=free_port)
    served: dict[str, Served] = field(default_factory=dict)

    async def start(self, name: str, value: float = 1.0) -> Served:
        """One more pod, ready to answer."""
        pod = self.served[name] = Served(
            name, f"127.3.{len(self.served) // 250}.{len(self.served) % 250 + 1}"
        )
        pod.set(value)
        app = web.Application()
        app.router.add_get("/metrics", pod.answer)
        pod.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await pod.runner.setup()
        await web.TCPSite(pod.runner, pod.pod.addresses[0], self.port).start()
        return pod


@contextlib.asynccontextmanager
async def pods() -> AsyncIterator[Pods]:
    """None yet; all are stopped at the end."""
    found = Pods()
    try:
        yield found
    finally:
        for pod in found.served.values():
            await pod.stop()
