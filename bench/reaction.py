"""Whether the promised worst case holds: the longest of many reactions beside the bound.

An exporter's value changes at random moments; timed is how long until a poll has seen it, through
a real Prometheus and the reactor's own poller. The bound is what `status.reaction` would say, with
the intervals as Prometheus tells them.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, at_most, median
from bench.setting import Setting
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.prometheus import PrometheusSource
from killswitch.adapters.prometheus_feeds import PrometheusFeeds
from killswitch.core import reaction
from killswitch.core.readings import Answer, NoAnswer
from killswitch.reactor.poller import Poller
from tests.cluster.prometheus import Exporter, Prometheus

CHANGES = 60
TIMEOUT = 2.0
SETTINGS = (("1s", 0.5), ("200ms", 0.1))
"""Scrape interval, and seconds between polls."""


def measure(_setting: Setting) -> Iterator[Figure]:
    """Figures named bound_*. The control plane is not asked."""
    for scrape, poll in SETTINGS:
        exporter = Exporter()
        exporter.set("load", 0.0)
        targets = {exporter.address: dict[str, str]()}
        with (
            tempfile.TemporaryDirectory() as directory,
            Prometheus(Path(directory), targets, scrape_interval=scrape) as prometheus,
        ):
            prometheus.wait_for_sample("load")
            yield asyncio.run(_measure(prometheus.url, exporter, scrape, poll))
        exporter.close()


async def _measure(url: str, exporter: Exporter, scrape: str, poll: float) -> Figure:
    async with PrometheusFeeds(url) as known:
        route = reaction.polled(await known.feeds("load"), every=poll, timeout=TIMEOUT)
    assert route.worst is not None, route
    took = await _reactions(url, exporter, poll)
    return at_most(
        f"bound_poll_scrape_{scrape}",
        max(took) * 1000,
        "ms",
        baseline=route.worst * 1000,
        times=1.0,
        baseline_is=f"the bound: {route}",
        without_timeout_ms=round((route.worst - TIMEOUT) * 1000, 1),
        p50_ms=round(median(took) * 1000, 1),
        n=len(took),
    )


async def _reactions(url: str, exporter: Exporter, poll: float) -> list[float]:
    """Seconds from each change until a poll has seen it."""
    heard: asyncio.Queue[tuple[float, Answer | NoAnswer]] = asyncio.Queue()
    source = PrometheusSource(url, timeout=TIMEOUT)

    def deliver(_: str, answer: Answer | NoAnswer) -> None:
        heard.put_nowait((time.perf_counter(), answer))

    poller = Poller(source, SystemClock(), deliver, interval=poll)
    polling = asyncio.create_task(poller.run())
    poller.ask(["load"])
    took = []
    for value in range(1, CHANGES + 1):
        await asyncio.sleep(random.random() * 1.3)
        began = time.perf_counter()
        exporter.set("load", float(value))
        while True:
            at, answer = await heard.get()
            if isinstance(answer, Answer) and answer.values == (float(value),):
                took.append(at - began)
                break
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    source.close()
    return took
