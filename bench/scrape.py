"""Own scrapes: from the moment at which a value is exposed to the decision, and what they cost.

The pods are one process that answers on many loopback addresses; scraping, parsing and deciding
are the product's own. The moment is the exporter's, by the clock that all processes share. No
scrape can be faster than its interval: a value waits half of it on average before anybody asks.
"""

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, cast

from bench.exporter import METRIC, addresses
from bench.figures import Figure, figure, median, percentile
from bench.setting import Setting
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.promql import PromqlChecker
from killswitch.adapters.scrape_http import ScrapeHttp
from killswitch.core.inventory import Pod
from killswitch.core.readings import Verdict
from killswitch.core.stops import Boundaries
from killswitch.ports import Cluster, Json
from killswitch.reactor.engine import Engine
from killswitch.reactor.scraping import ANSWERED, Bounds, Scraping
from killswitch.reactor.watched import Identity, Watched
from tests.fakes.slices import FakeSlices, endpoint, endpoint_slice
from tests.reactor.harness import policy

_LINES = 1000
_ROUNDS = {"10ms": 300, "100ms": 100}
_AIM = 10.0
_PODS = (10, 200)
_SECONDS = 10.0
_TICK = 0.05


@dataclass
class _Exporter:
    """The other process."""

    process: asyncio.subprocess.Process
    port: int

    async def expose(self, value: float) -> float:
        """From when on this is the value (monotonic)."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{value}\n".encode())
        return float(await self.line())

    async def line(self) -> str:
        """What it prints next."""
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode()


@contextlib.asynccontextmanager
async def _exporter(pods: int, *flags: str) -> AsyncIterator[_Exporter]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.exporter",
        str(_LINES),
        str(pods),
        *flags,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        found = _Exporter(process, 0)
        found.port = int(await found.line())
        yield found
    finally:
        process.terminate()
        await process.wait()


class _Reactor:
    """Engine and scrapes of one policy, without an API server: DryRun asks for none."""

    def __init__(
        self, exporter: _Exporter, scraper: ScrapeHttp, *, pods: int, interval: str
    ) -> None:
        self._slices, clock = FakeSlices(), SystemClock()
        cluster = cast("Cluster", self._slices)
        identity = Identity("bench", "bench", "killswitch-system", Boundaries(frozenset(), "g"))
        self.engine = Engine(cluster, clock, PromqlChecker(), identity)
        intake, inventory = self.engine.intake, self.engine.view.inventory
        self.scraping = Scraping(
            scraper,
            cluster,
            clock,
            intake.scraped,
            inventory,
            paths=intake.paths,
            bounds=Bounds(targets=pods, per_service=pods, loopback=True),
            cpu=lambda: 0.0,  # what is asked for is measured, however much it costs
        )
        found = [
            Pod("prod", f"vllm-{number}", f"pod-{number}", "n", "", {}, addresses=(address,))
            for number, address in enumerate(addresses(pods))
        ]
        for pod in found:
            inventory.put(pod)
        self._slices.put(endpoint_slice(exporter.port, *map(endpoint, found)))
        self.engine.policy_changed(_policy(interval))
        self.engine.start()
        self.decided = asyncio.Event()
        self.decided_at = 0.0
        self._judge = intake._judge  # noqa: SLF001  # the moment itself, not a later look at it
        intake._judge = self._judged  # noqa: SLF001

    @property
    def policy(self) -> Watched:
        """The policy as it is judged now."""
        return self.engine.watched["u"]

    def _judged(self, watched: Watched) -> None:
        self._judge(watched)
        if watched.tally is not None and watched.tally.demanded and not self.decided.is_set():
            self.decided_at = time.monotonic()
            self.decided.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ticking as the reactor does, until every pod has answered."""
        task = asyncio.create_task(self._tick())
        try:
            async with asyncio.timeout(30):
                while self.policy.readings["runaway"].verdict is not Verdict.CLEAR:
                    await asyncio.sleep(0.05)
            yield
        finally:
            task.cancel()
            self.scraping.stop()
            await asyncio.gather(task, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            self.scraping.look()
            self.engine.due()
            await asyncio.sleep(_TICK)


def measure(_setting: Setting) -> Iterator[Figure]:
    """Figures named scrape_*. The control plane is not asked."""
    for interval in _ROUNDS:
        yield from asyncio.run(_reaction(interval))
    yield from _costs("named")
    yield from _costs("plain", "plain")


async def _reaction(interval: str) -> list[Figure]:
    """Exposed to decided, one pod."""
    times: list[float] = []
    late: list[float] = []
    async with _exporter(1) as exporter, ScrapeHttp() as scraper:
        reactor = _Reactor(exporter, scraper, pods=1, interval=interval)
        async with reactor.running(), _beside(_lateness(late)):
            for _ in range(_ROUNDS[interval]):
                await asyncio.sleep(random.random() * 0.1)
                reactor.decided.clear()
                exposed = await exporter.expose(1000)
                await reactor.decided.wait()
                times.append((reactor.decided_at - exposed) * 1000)
                await exporter.expose(0)
                while reactor.policy.readings["runaway"].verdict is not Verdict.CLEAR:
                    await asyncio.sleep(0.001)
    milliseconds = float(interval.removesuffix("ms"))
    p50, p99 = median(times), percentile(times, 0.99)
    aimed = interval == "10ms"
    return [
        figure(
            f"scrape_{interval}_p50",
            p50,
            "ms",
            baseline=milliseconds / 2,
            baseline_is="half of the interval: no scrape sees it sooner",
            aim=f"<= {_AIM:g} ms" if aimed else "",
            met=p50 <= _AIM if aimed else None,
            n=len(times),
        ),
        figure(
            f"scrape_{interval}_p99",
            p99,
            "ms",
            baseline=milliseconds * 0.99,
            baseline_is="the interval",
            n=len(times),
            sleeper_late_p99=round(percentile(late, 0.99), 2),
        ),
    ]


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do this meanwhile."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _lateness(late: list[float]) -> None:
    """Milliseconds by which the machine wakes a sleeper too late: no scrape is more punctual."""
    while True:
        due = time.monotonic() + 0.01
        await asyncio.sleep(0.01)
        late.append((time.monotonic() - due) * 1000)


def _costs(kind: str, *flags: str) -> Iterator[Figure]:
    """Of a core, and by scrape, at each number of pods; the last beside the first."""
    first = 0.0
    for pods in _PODS:
        used, count, wanted = asyncio.run(_cost(pods, *flags))
        each = used / count * 1e6
        yield figure(
            f"scrape_cpu_{kind}_{pods}",
            100 * used / _SECONDS,
            "% of a core",
            pods=pods,
            lines=_LINES,
            answered=round(count / wanted, 3),
        )
        yield figure(
            f"scrape_each_{kind}_{pods}",
            each,
            "µs CPU",
            baseline=first or None,
            baseline_is=f"with {_PODS[0]} pods",
            aim="<= 1.2 x" if first else "",
            met=each <= 1.2 * first if first else None,
        )
        first = first or each


async def _cost(pods: int, *flags: str) -> tuple[float, int, float]:
    """CPU seconds of this thread, the scrapes it bought, and how many were wanted."""
    async with _exporter(pods, *flags) as exporter, ScrapeHttp() as scraper:
        reactor = _Reactor(exporter, scraper, pods=pods, interval="100ms")
        async with reactor.running():
            await asyncio.sleep(1)  # names are tried
            counts = reactor.scraping.counts
            before, began = counts[ANSWERED], time.thread_time()
            await asyncio.sleep(_SECONDS)
            return time.thread_time() - began, counts[ANSWERED] - before, pods * _SECONDS / 0.1


def _policy(interval: str) -> Json:
    scrape = {"service": "vllm", "port": "metrics", "interval": interval}
    metric = {"name": METRIC, "above": "100", "scrape": scrape}
    signal = {"name": "runaway", "metric": metric, "onNoData": "Hold"}
    target = {"kind": "Deployment", "name": "vllm"}
    found = policy("runaway", targets=[target], signals=[signal], mode="DryRun")
    found["metadata"] |= {"uid": "u", "namespace": "prod", "generation": 1}
    return found
