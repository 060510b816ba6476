"""A mass event: one sample trips a thousand policies over fifty namespaces, each its own target.

Measured until the last of their Shutdowns was accepted, against a ready-bytes client that creates
as many Shutdowns on as many connections. Beside it, dry-run pod creates in a namespace that is
not governed: before, during and after. Ten and a hundred policies first, to show the growth.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

from bench import ready_bytes
from bench.figures import Figure, at_most, figure, median, percentile
from bench.scene import deployment, pod_spec, policy, reactor
from bench.setting import Setting
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.api import orders
from killswitch.api.orders import Terms
from killswitch.core import times
from killswitch.core.errors import KillSwitchError
from killswitch.core.readings import Answer
from killswitch.core.resources import DEPLOYMENTS, NAMESPACES, PODS, POLICIES, SHUTDOWNS
from killswitch.core.stops import Stop
from killswitch.ports import Json
from killswitch.reactor.fan_out import fan_out
from killswitch.reactor.run import Reactor

SIZES = (10, 100, 1000)
"""Policies that one sample trips, one size after the other."""
PLACES = 50
CONNECTIONS = 64
_WILD = "bench-mass-elsewhere"
_FAST = (
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
    "--concurrent-deployment-syncs=20",
    "--concurrent-replicaset-syncs=20",
)


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named mass_*."""
    setting.control_plane.restart_controller_manager(*_FAST)
    yield from asyncio.run(_measure(setting))


async def _measure(setting: Setting) -> list[Figure]:
    ours: dict[int, float] = {}
    base: dict[int, float] = {}
    async with setting.cluster() as cluster, setting.cluster() as outsider:
        plain = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _WILD}}
        await cluster.create(NAMESPACES, plain)
        for number in range(PLACES):
            await setting.namespace(cluster, f"bench-mass-{number}")
            await setting.namespace(cluster, f"bench-mass-base-{number}")
        await fan_out(range(sum(SIZES)), lambda each: _deployment(cluster, each), width=16)
        await _running(cluster)
        sizes = [size for size in SIZES for _ in range(size)]
        await fan_out(enumerate(sizes), lambda each: _policy(cluster, *each), width=16)
        async with reactor(setting, cluster) as running:
            await asyncio.sleep(5)  # first status writes
            before = await _creates_for(outsider, 3.0)
            for size in SIZES:
                async with _creating(outsider) as during:
                    ours[size] = await _fire(outsider, running, size)
                await _finished(outsider)  # one size must not compete with another
            after = await _creates_for(outsider, 3.0)
        for size in SIZES:
            async with _creating(outsider) as beside_bytes:
                base[size] = await _send(setting, size)
    figures = [
        at_most(
            f"mass_{size}_all_locked",
            1000 * ours[size],
            "ms",
            baseline=1000 * base[size],
            times=2,
            ms_each=round(1000 * ours[size] / size, 2),
            grows_with="policies that fire",
            at=size,
            growth_of="mass event: all locked",
        )
        for size in SIZES
    ]
    return [
        *figures,
        figure(
            "mass_pod_create_elsewhere_during",
            1000 * median(during),
            "ms",
            baseline=1000 * median(before),
            beside_ready_bytes=round(1000 * median(beside_bytes), 2),
            p90=round(1000 * percentile(during, 0.9), 2),
            n=len(during),
        ),
        at_most(
            "mass_pod_create_elsewhere_after",
            1000 * median(after),
            "ms",
            baseline=1000 * median(before),
            times=1.1,
            n=len(after),
        ),
    ]


async def _fire(outsider: KubernetesApi, running: Reactor, size: int) -> float:
    """Seconds from the tripping sample until the last Shutdown of this size was accepted."""
    decided = time.time()
    running.engine.intake.deliver(_query(size), Answer((1.0,), 0.0))
    async with asyncio.timeout(180):
        while True:
            await asyncio.sleep(0.5)
            name = f"of-{size}-"
            found = [s for s in await _shutdowns(outsider) if _of(s).startswith(name)]
            locked = [s.get("status", {}).get("stages", {}).get("locked") for s in found]
            if len(found) == size and all(locked):
                return max(times.seconds(each) for each in locked) - decided


async def _send(setting: Setting, size: int) -> float:
    terms = Terms(requested_by=setting.username, reason="bench")
    requests = []
    for number in range(size):
        place = f"bench-mass-base-{number % PLACES}"
        locks = {f"{kind}/server-{number}": "bench" for kind in ("deployments.apps", "uid")}
        (order,) = orders.for_stops(f"base-{size}-{number}", [Stop(place, locks=locks)], terms)
        path = SHUTDOWNS.path(place)
        requests.append(ready_bytes.request("POST", path, setting.authorization, order.body))
    async with ready_bytes.pool(setting.server, setting.tls, CONNECTIONS) as pool:
        start = time.perf_counter()
        statuses = await pool.send_all(requests)
        elapsed = time.perf_counter() - start
    assert set(statuses) == {201}
    return elapsed


@contextlib.asynccontextmanager
async def _creating(outsider: KubernetesApi) -> AsyncIterator[list[float]]:
    """Seconds of each dry-run pod create elsewhere while the block runs."""
    seen: list[float] = []

    async def create() -> None:
        while True:
            with contextlib.suppress(KillSwitchError):
                seen.append(await _create(outsider))
            await asyncio.sleep(0.02)

    task = asyncio.create_task(create())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _creates_for(outsider: KubernetesApi, seconds: float) -> list[float]:
    async with _creating(outsider) as seen:
        await asyncio.sleep(seconds)
    return seen


async def _create(outsider: KubernetesApi) -> float:
    metadata = {"name": "probe"}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec()}
    start = time.perf_counter()
    await outsider.create(PODS, body, _WILD, dry_run=True)
    return time.perf_counter() - start


async def _shutdowns(cluster: KubernetesApi) -> list[Json]:
    """All of them, or none where the API server is too busy to tell."""
    with contextlib.suppress(KillSwitchError):
        return (await cluster.list(SHUTDOWNS)).items
    return []


async def _finished(cluster: KubernetesApi) -> None:
    """Return when every stop is at rest."""
    async with asyncio.timeout(300):
        while True:
            found = [each for each in await _shutdowns(cluster) if _of(each)]
            stages = [each.get("status", {}).get("stages", {}) for each in found]
            if stages and all("stopped" in each and "scaled" in each for each in stages):
                return
            await asyncio.sleep(2)


async def _running(cluster: KubernetesApi) -> None:
    """Return when every Deployment has its pod running."""
    async with asyncio.timeout(300):
        while True:
            pods = (await cluster.list(PODS, fields="status.phase=Running")).items
            if len(pods) >= sum(SIZES):
                return
            await asyncio.sleep(1)


def _place(number: int) -> str:
    return f"bench-mass-{number % PLACES}"


def _query(size: int) -> str:
    return f"bench_mass_{size}"


def _of(shutdown: Json) -> str:
    """Name of the policy that made it; empty for any other."""
    return str((shutdown["spec"].get("policy") or {}).get("name", ""))


async def _policy(cluster: KubernetesApi, number: int, size: int) -> None:
    body = policy(f"server-{number}", _query(size))
    body["metadata"]["name"] = f"of-{size}-{number}"
    await cluster.create(POLICIES, body, _place(number))


async def _deployment(cluster: KubernetesApi, number: int) -> None:
    name = f"server-{number}"
    await cluster.create(DEPLOYMENTS, deployment(name), _place(number))
