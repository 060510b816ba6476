"""What it costs to ask Prometheus: `PrometheusSource` beside the same query by raw aiohttp.

The real Prometheus scrapes 1000 series every second; the query sums the rates of 100 of them.
Both sides take turns in small batches, so that whatever else the machine does meets both alike.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import orjson

from bench.figures import Figure, figure, median, percentile
from bench.setting import Setting
from killswitch.adapters import promql
from killswitch.adapters.prometheus import PrometheusSource
from killswitch.core.readings import Answer
from tests.cluster.prometheus import Exporter, Prometheus

SERIES, NAMESPACES = 1000, 10
THREADS = 8
_QUERY = 'sum(rate(tokens_total{namespace="n3"}[1m]))'
_BATCHES, _BATCH = 20, 50

Ask = Callable[[], Awaitable[None]]


def measure(_setting: Setting) -> Iterator[Figure]:
    """Figures named poll_*. The control plane is not asked."""
    with _prometheus() as prometheus:
        yield from asyncio.run(_measure(prometheus.url))


async def _measure(url: str) -> list[Figure]:
    source = PrometheusSource(url, threads=THREADS)

    async def ours() -> None:
        answer = await source.measure(_QUERY)
        assert isinstance(answer, Answer), answer
        assert answer.values, answer

    try:
        async with _raw(url, promql.measurement(_QUERY)) as raw, _raw(url, _QUERY) as bare:
            asks = (ours, raw, bare)
            alone = await _latencies(*asks)
            rates = [await _rate(ask) for ask in asks[:2]]
    finally:
        source.close()
    return _figures(alone, rates)


def _figures(alone: list[list[float]], rates: list[float]) -> list[Figure]:
    mine, raw, bare = alone
    p50, p99 = median(mine), percentile(mine, 0.99)
    by = {"baseline_is": "the same query by aiohttp", "n": len(mine)}
    return [
        figure("poll_p50", p50, "ms", baseline=median(raw), aim="<= 10 ms", met=p50 <= 10, **by),
        figure(
            "poll_p99",
            p99,
            "ms",
            baseline=percentile(raw, 0.99),
            aim="<= 100 ms",
            met=p99 <= 100,
            **by,
        ),
        figure(
            "poll_rate",
            rates[0],
            "queries/s",
            baseline=rates[1],
            aim=">= 200 queries/s",
            met=rates[0] >= 200,
            at_once=THREADS,
        ),
        figure(
            "poll_age_p50",
            median(raw),
            "ms",
            baseline=median(bare),
            baseline_is="the value without its age, by aiohttp",
            n=len(raw),
        ),
    ]


async def _latencies(*asks: Ask) -> list[list[float]]:
    """Milliseconds of single requests, one after the other, for each way of asking."""
    found: list[list[float]] = [[] for _ in asks]
    for ask in asks:
        await ask()  # connect
    for _ in range(_BATCHES):
        for ask, times in zip(asks, found, strict=True):
            for _ in range(_BATCH):
                started = time.perf_counter()
                await ask()
                times.append((time.perf_counter() - started) * 1000)
    return found


async def _rate(ask: Ask, seconds: float = 3.0) -> float:
    """Requests a second while as many are under way as the source has threads."""
    count, end = 0, time.perf_counter() + seconds

    async def keep_asking() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await ask()
            count += 1

    started = time.perf_counter()
    await asyncio.gather(*(keep_asking() for _ in range(THREADS)))
    return count / (time.perf_counter() - started)


@asynccontextmanager
async def _raw(url: str, query: str) -> AsyncIterator[Ask]:
    """The least that a client can do: one warm session, no compression, the value read."""
    headers = {"Accept-Encoding": "identity"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def ask() -> None:
            parameters = {"query": query, "timeout": "1800ms"}
            async with session.get(f"{url}/api/v1/query", params=parameters) as response:
                answer = orjson.loads(await response.read())
            assert float(answer["data"]["result"][0]["value"][1]) >= 0

        yield ask


@contextmanager
def _prometheus() -> Iterator[Prometheus]:
    """A Prometheus that has scraped at least twice."""
    exporter = Exporter()
    for number in range(SERIES):
        place = f"n{number % NAMESPACES}"
        exporter.set("tokens_total", float(number), namespace=place, pod=f"pod-{number}")
    with tempfile.TemporaryDirectory() as directory:
        # The exporter shares this process: scraped more often it would slow down both sides.
        targets = {exporter.address: dict[str, str]()}
        running = Prometheus(Path(directory) / "prometheus", targets, scrape_interval="1s")
        running.start()
        try:
            running.wait_for_sample(_QUERY)
            yield running
        finally:
            running.stop(kill=True)
            exporter.close()
