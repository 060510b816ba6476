"""GET /metrics, /healthz and /readyz, on an address of their own.

`/healthz` answers while the event loop runs, which is all that a restart could cure: it says nothing
about the API server or Prometheus, whose outage a restart would only make worse. `/readyz` says
whether the process does its work already. Nothing here names a policy, a workload or a threshold.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

Unready = Callable[[], str]
"""Why the process does not do its work yet; empty once it does."""
_SHUTDOWN = 1.0


def application(registry: CollectorRegistry, unready: Unready) -> web.Application:
    """The three paths over this registry."""

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        why = unready()
        return web.Response(text=f"{why}\n", status=503) if why else web.Response(text="ok\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthy)
    app.router.add_get("/readyz", ready)
    return app


@contextlib.asynccontextmanager
async def serving(
    address: tuple[str, int] | None, registry: CollectorRegistry, unready: Unready
) -> AsyncIterator[None]:
    """Answer there meanwhile, or nowhere; OSError where the address cannot be had."""
    if address is None:
        yield
        return
    runner = web.AppRunner(
        application(registry, unready), access_log=None, shutdown_timeout=_SHUTDOWN
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, *address).start()
        yield
    finally:
        await asyncio.shield(runner.cleanup())
