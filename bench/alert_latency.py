"""From a metric that is exposed to the decision, by an alert that Prometheus posts directly.

A real Prometheus 3 scrapes a metric, evaluates the generated rules joined with the reactor's
thresholds, and posts to two listeners at once: the reactor, and a bare one that only notes when the
same alert arrives. What the reactor adds is the difference. Scrape and evaluation have fixed phases
in one Prometheus, so that several are started, and the value flips at random moments: on average, half
of both intervals is waiting.
"""

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from bench.figures import Figure, figure, median, percentile
from bench.setting import Setting
from killswitch.core import times
from killswitch.core.readings import Verdict
from killswitch.reactor.watched import Watched
from killswitch.signals.alerts import FIRE
from tests.cluster.prometheus import Prometheus
from tests.reactor.listener import Listener, polled
from tests.signals.served import TOKEN, serving

_FLIPS, _STARTS = 25, 4
_WITHIN = 20.0
"""Seconds that one flip may take; a run that takes longer is broken, not slow."""
METRIC = "model_load"
HIGH, LOW = 500.0, 1.0
AUTHORIZATION = {"authorization": {"credentials": TOKEN}}


def measure(_setting: Setting) -> Iterator[Figure]:
    """Figures named alert_*. The control plane is not asked."""
    for intervals, aim in (((20, 20), 25.0), ((20, 10), 25.0), ((100, 100), None)):
        decided, arrived = asyncio.run(_all(*intervals))
        yield from _figures(*intervals, decided, arrived, aim)


def _figures(
    scrape: int, evaluation: int, decided: list[float], arrived: list[float], aim: float | None
) -> Iterator[Figure]:
    each = f"alert_{scrape}_{evaluation}"
    more: dict[str, Any] = {
        "baseline_is": "the same alert at a bare listener",
        "scrape_ms": scrape,
        "evaluation_ms": evaluation,
        "half_of_both_ms": (scrape + evaluation) / 2,
        "prometheis": _STARTS,
        "n": len(decided),
    }
    p50 = median(decided)
    aims: dict[str, Any] = {}
    if aim is not None:
        aims = {"aim": f"<= {aim:g} ms", "met": p50 <= aim}
    yield figure(f"{each}_p50", p50, "ms", baseline=median(arrived), **aims, **more)
    ends = percentile(decided, 0.9), percentile(arrived, 0.9)
    yield figure(f"{each}_p90", ends[0], "ms", baseline=ends[1], **more)
    added = [mine - bare for mine, bare in zip(decided, arrived, strict=True)]
    yield figure(f"{each}_added_p50", median(added), "ms", n=len(added))


@dataclass
class Probe:
    """A metric that a Prometheus scrapes from this event loop."""

    value: float = LOW

    async def page(self, _: web.Request) -> web.Response:
        """One sample."""
        return web.Response(text=f"{METRIC} {self.value}\n")


@dataclass
class Moments:
    """When something first happened after `clear`, by wall time."""

    happened: asyncio.Event = field(default_factory=asyncio.Event)
    at: float = 0.0

    def note(self) -> None:
        """It happens now; only the first time counts."""
        if not self.happened.is_set():
            self.at = time.time()
            self.happened.set()

    def clear(self) -> None:
        """Wait for the next time."""
        self.happened.clear()

    async def wait(self) -> float:
        """When it happened."""
        async with asyncio.timeout(_WITHIN):
            await self.happened.wait()
        return self.at


def decisions(listener: Listener) -> Moments:
    """Notes when a quorum is met: what comes next is the plan and the lock."""
    moments, judge = Moments(), listener.engine._judge  # noqa: SLF001  # where decisions are made

    def noting(watched: Watched) -> None:
        judge(watched)
        if watched.tally is not None and watched.tally.demanded:
            moments.note()

    listener.engine._judge = noting  # type: ignore[method-assign]  # noqa: SLF001
    return moments


@contextlib.asynccontextmanager
async def served(method: str, path: str, handler: Callable[..., Any]) -> AsyncIterator[str]:
    """The address of a bare aiohttp listener with one handler."""
    app = web.Application()
    app.router.add_route(method, path, handler)
    async with serving(web.AppRunner(app, access_log=None)) as (host, port):
        yield f"{host}:{port}"


async def until(condition: Callable[[], bool]) -> None:
    """Return once it holds."""
    async with asyncio.timeout(_WITHIN):
        while not condition():
            await asyncio.sleep(0.005)


async def _all(scrape: int, evaluation: int) -> tuple[list[float], list[float]]:
    decided: list[float] = []
    arrived: list[float] = []
    for _ in range(_STARTS):
        for mine, bare in await _run(scrape, evaluation):
            decided.append(mine)
            arrived.append(bare)
    return decided, arrived


async def _run(scrape: int, evaluation: int) -> list[tuple[float, float]]:
    """Milliseconds from exposed to decided, and to the bare arrival, for each flip."""
    probe, arrivals = Probe(), Moments()

    async def arrive(request: web.Request) -> web.Response:
        if _fires(orjson.loads(await request.read())):
            arrivals.note()
        return web.Response()

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        listener = Listener(directory)
        listener.expect("u", polled(METRIC, above="100"))
        decided = decisions(listener)
        rules = directory / "killswitch.yml"
        rules.write_text(listener.rule_file(f"{evaluation}ms"))
        async with (
            listener.running() as reactor,
            served("POST", "/api/v2/alerts", arrive) as bare,
            served("GET", "/metrics", probe.page) as target,
        ):
            running = Prometheus(
                directory / "prometheus",
                {target: {}},
                scrape_interval=f"{scrape}ms",
                rule_files=[rules],
                alertmanagers=[
                    {"static_configs": [{"targets": [each]}], **AUTHORIZATION}
                    for each in (reactor, bare)
                ],
                scrape_configs=[
                    {
                        "job_name": "thresholds",
                        "metrics_path": "/thresholds",
                        "scrape_interval": "1s",
                        "static_configs": [{"targets": [reactor]}],
                        **AUTHORIZATION,
                    }
                ],
            )
            await asyncio.to_thread(running.start)
            try:
                await until(lambda: listener.silent == [False])
                return [
                    await _flip(probe, listener, decided, arrivals, scrape) for _ in range(_FLIPS)
                ]
            finally:
                await asyncio.to_thread(running.stop, kill=True)


async def _flip(
    probe: Probe, listener: Listener, decided: Moments, arrivals: Moments, scrape: int
) -> tuple[float, float]:
    await asyncio.sleep(0.1 + random.random() * 3 * scrape / 1000)
    decided.clear()
    arrivals.clear()
    probe.value, exposed = HIGH, time.time()
    mine, bare = await asyncio.gather(decided.wait(), arrivals.wait())
    probe.value = LOW
    await until(lambda: listener.verdict("u") is not Verdict.TRIPPED)
    return (mine - exposed) * 1000, (bare - exposed) * 1000


def _fires(alerts: Any) -> bool:
    """Whether our alert is there and has not ended: what is resolved is repeated too."""
    now = time.time()
    return any(
        each["labels"]["alertname"] == FIRE and times.seconds(each["endsAt"]) > now
        for each in alerts
    )
