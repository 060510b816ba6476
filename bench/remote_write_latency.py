"""From the scrape of a sample to the decision, by remote write.

A real Prometheus 3 writes to two listeners at once, with the queue that docs/signals.md says: the
reactor, and a bare one that only notes when the same sample arrives. Time runs from the timestamp
of the sample, which is that of its scrape.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from bench.alert_latency import HIGH, LOW, METRIC, Moments, Probe, decisions, served
from bench.figures import Figure, figure, median, percentile
from bench.setting import Setting
from killswitch.core.readings import Answer, Verdict
from killswitch.signals.remote_write import Decoder
from tests.cluster.prometheus import Prometheus
from tests.reactor.listener import Listener
from tests.signals.served import TOKEN

_FLIPS = 100
_SCRAPE = 0.1
_PATH = "/api/v1/write"


def measure(_setting: Setting) -> Iterator[Figure]:
    """Figures named remote_write_latency_*. The control plane is not asked."""
    found = asyncio.run(_run())
    decided, arrived = [each[0] for each in found], [each[1] for each in found]
    more: dict[str, Any] = {
        "baseline_is": "the same sample at a bare listener",
        "scrape_ms": round(_SCRAPE * 1000),
        "n": len(found),
    }
    p50 = median(decided)
    yield figure(
        "remote_write_latency_p50",
        p50,
        "ms",
        baseline=median(arrived),
        aim="<= 12 ms",
        met=p50 <= 12,
        **more,
    )
    ends = percentile(decided, 0.9), percentile(arrived, 0.9)
    yield figure("remote_write_latency_p90", ends[0], "ms", baseline=ends[1], **more)


async def _run() -> list[tuple[float, float]]:
    """Milliseconds from the scrape to the decision, and to the bare arrival, for each flip."""
    probe, arrivals, decoder = Probe(), Moments(), Decoder({METRIC})

    async def arrive(request: web.Request) -> web.Response:
        body, now = await request.read(), time.time()
        if any(value == HIGH for value in decoder.decode(body).values):
            arrivals.note()
            arrivals.at = min(arrivals.at, now)
        return web.Response(status=204)

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        listener = Listener(directory)
        source = {"name": METRIC, "above": "100"}
        listener.expect("u", {"name": "load", "metric": source, "onNoData": "Hold"})
        decided = decisions(listener)
        async with (
            listener.running() as reactor,
            served("POST", _PATH, arrive) as bare,
            served("GET", "/metrics", probe.page) as target,
        ):
            running = Prometheus(
                directory / "prometheus",
                {target: {}},
                scrape_interval=f"{_SCRAPE * 1000:g}ms",
                remote_write=f"http://{reactor}{_PATH}",
                written_too=[f"http://{bare}{_PATH}"],
                remote_write_token=TOKEN,
            )
            await asyncio.to_thread(running.start)
            try:
                await asyncio.to_thread(running.wait_for_sample, METRIC)
                return [await _flip(probe, listener, decided, arrivals) for _ in range(_FLIPS)]
            finally:
                await asyncio.to_thread(running.stop, kill=True)


async def _flip(
    probe: Probe, listener: Listener, decided: Moments, arrivals: Moments
) -> tuple[float, float]:
    await asyncio.sleep(random.random() * _SCRAPE)
    decided.clear()
    arrivals.clear()
    probe.value = HIGH
    mine, bare = await asyncio.gather(decided.wait(), arrivals.wait())
    (reading,) = listener.watched("u").readings.values()
    assert reading.sampled_at is not None
    scraped = reading.sampled_at
    probe.value = LOW
    while listener.verdict("u") is Verdict.TRIPPED:  # as a poll does; a push never clears
        await asyncio.sleep(3 * _SCRAPE)
        listener.engine.intake.deliver(METRIC, Answer((LOW,), 0.0))
    return (mine - scraped) * 1000, (bare - scraped) * 1000
