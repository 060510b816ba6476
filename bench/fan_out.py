"""One Shutdown to many node guards: from its POST until each guard's watch has shown it.

Simulated guards: TLS connections of their own, each with the watch that a guard holds (Shutdowns
in force, cluster-wide), read in this one process, so what they cost here is in the figures too. The
API server's CPU seconds for one Shutdown are printed beside them. Several sizes show the growth.

A direct push from the reactor is not offered as a baseline: a guard has no inbound port.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bench.figures import Figure, figure, median, percentile
from bench.reactor_rest import cpu_seconds
from bench.setting import Setting
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.names import ENGAGED_LABEL
from killswitch.core.resources import SHUTDOWNS
from tests.kernel.objects import shutdown

GUARDS = (50, 125, 250, 500)
ROUNDS = 8
_PLACE = "bench-fan-out"
_PATH = (
    f"{SHUTDOWNS.path()}?watch=true&labelSelector={ENGAGED_LABEL}%3Dtrue&allowWatchBookmarks=true"
)
_MARK = b"bench-fan-out-"
_SETTLE = 0.5


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named node_fan_out_*."""
    for number, size in enumerate(GUARDS):
        yield asyncio.run(_measure(setting, number, size))


@dataclass
class _Guards:
    """The simulated guards, and when each of them read about the Shutdown of this round."""

    setting: Setting
    wanted: bytes = b""
    read: list[float] = field(default_factory=list)
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    size: int = 0

    async def watch(self, began: asyncio.Event) -> None:
        """Read one guard's watch until cancelled."""
        where = urlsplit(self.setting.server)
        reader, writer = await asyncio.open_connection(
            where.hostname, where.port, ssl=self.setting.tls, limit=2**22
        )
        try:
            writer.write(
                f"GET {_PATH} HTTP/1.1\r\nHost: {where.netloc}\r\n"
                f"Authorization: {self.setting.authorization}\r\n\r\n".encode()
            )
            status = await reader.readline()
            assert b" 200 " in status, status
            began.set()
            while line := await reader.readline():
                if self.wanted and self.wanted in line:
                    self._heard(time.perf_counter())
        finally:
            writer.close()

    def _heard(self, moment: float) -> None:
        self.read.append(moment)
        if len(self.read) == self.size:
            self.complete.set()


async def _measure(setting: Setting, number: int, size: int) -> Figure:
    guards = _Guards(setting, size=size)
    async with setting.cluster() as cluster, asyncio.TaskGroup() as group:
        if number == 0:
            await setting.namespace(cluster, _PLACE)
        tasks = []
        for start in range(0, size, 25):  # a few handshakes at a time
            begun = [asyncio.Event() for _ in range(min(25, size - start))]
            tasks += [group.create_task(guards.watch(each)) for each in begun]
            async with asyncio.timeout(60):
                await asyncio.gather(*(each.wait() for each in begun))
        await asyncio.sleep(_SETTLE)
        rounds = [await _round(setting, cluster, guards, f"{number}-{n}-") for n in range(ROUNDS)]
        for task in tasks:
            task.cancel()
    every = sorted(each for waits, _ in rounds for each in waits)
    return figure(
        f"node_fan_out_{size}",
        percentile(every, 0.99) * 1000,
        "ms",
        quantile="p99",
        p50_ms=round(median(every) * 1000, 2),
        first_ms=round(every[0] * 1000, 2),
        slowest_ms=round(every[-1] * 1000, 2),
        api_server_cpu_ms=round(median([cpu for _, cpu in rounds]) * 1000, 1),
        n=ROUNDS,
        grows_with="guards that watch",
        at=size,
        growth_of="node_fan_out: p99",
    )


async def _round(
    setting: Setting, cluster: KubernetesApi, guards: _Guards, name: str
) -> tuple[list[float], float]:
    """Seconds from the POST to each guard's event, and what the API server computed for it."""
    guards.read.clear()
    guards.complete.clear()
    guards.wanted = _MARK + name.encode()
    server = setting.control_plane.pid("kube-apiserver")
    body = shutdown(guards.wanted.decode() + "x", setting.username)
    used, started = cpu_seconds(server), time.perf_counter()
    await cluster.create(SHUTDOWNS, body, _PLACE)
    async with asyncio.timeout(60):
        await guards.complete.wait()
    waits = [moment - started for moment in guards.read]
    await asyncio.sleep(_SETTLE)
    return waits, cpu_seconds(server) - used
