"""A thousand Deployments: one fire of a cluster policy, against ready bytes and `kubectl scale`.

The controller manager runs with its default client limits (20 requests a second) while either
stop is measured; only the scene is set up with raised ones. An independent watch notes when each
pod is marked for deletion, when it is gone, and every pod that appears after the stop began.
"""

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from bench import ready_bytes
from bench.figures import Figure, at_most, figure
from bench.scene import deployment, reactor
from bench.setting import Setting
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.api import orders
from killswitch.api.orders import Terms
from killswitch.core import plans
from killswitch.core.inventory import Inventory
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.projections import PROJECTIONS
from killswitch.core.queries import TargetQuery
from killswitch.core.readings import Answer
from killswitch.core.resources import CLUSTER_POLICIES, DEPLOYMENTS, PODS, REPLICASETS
from killswitch.ports import Json
from killswitch.reactor.fan_out import fan_out

NAMESPACES, PER_NAMESPACE = 10, 100
GROWTH = (1, 10)
"""Deployments in each namespace of the smaller scenes that show the growth."""
CONNECTIONS = 64
"""As many as the product's own client uses at most."""
Act = Callable[[Setting, KubernetesApi, list[str]], Awaitable[float]]
"""Stops everything in these namespaces; answers when it began (perf_counter)."""
_FAST = (
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
    "--concurrent-deployment-syncs=20",
    "--concurrent-replicaset-syncs=20",
)
_LONGEST = 420.0


@dataclass
class Watcher:
    """What an independent watch saw of the pods of one scene."""

    alive: set[str] = field(default_factory=set)
    marked: dict[str, float] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    created: dict[str, float] = field(default_factory=dict)

    def see(self, kind: str, pod: Json, now: float) -> None:
        """Take one event of the watch."""
        uid = pod["metadata"]["uid"]
        if kind == "ADDED":
            self.alive.add(uid)
            self.created[uid] = now
        if "deletionTimestamp" in pod["metadata"]:
            self.marked.setdefault(uid, now)
        if kind == "DELETED":
            self.marked.setdefault(uid, now)
            self.gone[uid] = now
            self.alive.discard(uid)


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named thousand_*."""
    count = NAMESPACES * PER_NAMESPACE
    for few in GROWTH:
        yield _grown(few * NAMESPACES, asyncio.run(_scene(setting, f"few-{few}", _fire, few)))
    ours = asyncio.run(_scene(setting, "ours", _fire))
    ready = asyncio.run(_scene(setting, "ready", _send))
    yield _grown(count, ours)
    yield at_most(
        "thousand_all_marked_against_ready_bytes",
        ours["marked"],
        "s",
        baseline=ready["marked"],
        times=1.25,
        pods=count,
    )
    yield figure(
        "thousand_recreated", ours["recreated"], "pods", aim="0", met=ours["recreated"] == 0
    )
    base = asyncio.run(_scene(setting, "base", _scale))
    for what in ("marked", "gone"):
        value, baseline = ours[what], base[what]
        times = baseline / value
        yield figure(
            f"thousand_all_{what}",
            value,
            "s",
            baseline=baseline,
            aim=">= 50 x faster than kubectl scale" if what == "marked" else "",
            met=times >= 50 if what == "marked" else None,
            faster=round(times, 1),
            pods=count,
        )


def _grown(targets: int, ours: dict[str, float]) -> Figure:
    """A point of the curve over targets."""
    return figure(
        f"thousand_at_{targets}_targets",
        1000 * ours["marked"],
        "ms",
        grows_with="targets",
        at=targets,
        growth_of="one fire: all pods marked",
    )


async def _scene(
    setting: Setting, name: str, stop: "Act", per_namespace: int = PER_NAMESPACE
) -> dict[str, float]:
    """Seconds until all pods were marked and gone, and how many were re-created meanwhile."""
    plane = setting.control_plane
    places = [f"bench-{name}-{number}" for number in range(NAMESPACES)]
    await asyncio.to_thread(plane.restart_controller_manager, *_FAST)
    async with setting.cluster() as cluster:
        for place in places:
            await setting.namespace(cluster, place)
        bodies = [(place, n) for place in places for n in range(per_namespace)]
        await fan_out(bodies, lambda each: _deployment(cluster, *each), width=16)
        await _running(cluster, places, len(bodies))
        await asyncio.to_thread(plane.restart_controller_manager)
        async with _watching(cluster, places) as watcher:
            before = set(watcher.alive)
            started = await stop(setting, cluster, places)
            await _until_gone(watcher, before)
            await asyncio.sleep(10)  # whatever the controllers still want to do
            recreated = sum(at > started for at in watcher.created.values())
        return {
            "marked": max(watcher.marked[uid] for uid in before) - started,
            "gone": max(watcher.gone[uid] for uid in before) - started,
            "recreated": recreated,
        }


async def _fire(setting: Setting, cluster: KubernetesApi, places: list[str]) -> float:
    """One tripping sample of a cluster policy over all namespaces."""
    query = f"bench_of_{places[0]}"
    signal = {"name": "s", "prometheus": {"query": query, "above": "0.5"}, "onNoData": "Hold"}
    target = {
        "kind": "Deployment",
        "namespaces": places,
        "selector": {"matchLabels": {"bench": "thousand"}},
    }
    body = {
        "apiVersion": CLUSTER_POLICIES.api_version,
        "kind": CLUSTER_POLICIES.kind,
        "metadata": {"name": places[0]},
        "spec": {
            "mode": "Enforce",
            "owner": "bench",
            "backup": "bench",
            "targets": [target],
            "signals": [signal],
            "limits": {"maxTargets": NAMESPACES * PER_NAMESPACE},
        },
    }
    async with reactor(setting, cluster) as running:
        created = await cluster.create(CLUSTER_POLICIES, body)
        while created["metadata"]["uid"] not in running.engine.watched:
            await asyncio.sleep(0.01)
        started = time.perf_counter()
        running.engine.intake.deliver(query, Answer((1.0,), 0.0))
        while await _any_left(cluster, places):
            await asyncio.sleep(1)
    return started


async def _send(setting: Setting, cluster: KubernetesApi, places: list[str]) -> float:
    """The same Shutdowns and deletions as ready bytes, on as many connections."""
    inventory = Inventory(namespaces={place: {GOVERNED_LABEL: "true"} for place in places})
    for resource in (DEPLOYMENTS, REPLICASETS, PODS):
        for body in (await cluster.list(resource)).items:
            if (item := PROJECTIONS[resource.key](body)) is not None:
                inventory.put(item)
    targets = [TargetQuery("Deployment", place, labels={"bench": "thousand"}) for place in places]
    stops = plans.for_policy(targets, inventory, setting.identity().boundaries).stops
    terms = Terms(requested_by=setting.username, reason="bench")
    token = setting.authorization
    creates = [
        ready_bytes.request("POST", order.resource.path(order.namespace), token, order.body)
        for order in orders.for_stops("bench-thousand", stops, terms)
    ]
    deletes = [
        ready_bytes.delete_pod(pod.namespace, pod.name, pod.uid, token)
        for stop in stops
        for pod in stop.pods
    ]
    assert (len(creates), len(deletes)) == (len(places), NAMESPACES * PER_NAMESPACE)
    async with ready_bytes.pool(setting.server, setting.tls, CONNECTIONS) as pool:
        started = time.perf_counter()
        assert set(await pool.send_all(creates)) == {201}
        assert set(await pool.send_all(deletes)) == {200}
    return started


async def _scale(setting: Setting, _cluster: KubernetesApi, places: list[str]) -> float:
    """`kubectl scale --replicas=0 --all`, one process a namespace, at once."""
    plane = setting.control_plane
    started = time.perf_counter()
    command = [str(plane.kubectl_path), f"--kubeconfig={plane.admin.kubeconfig}", "scale"]
    processes = [
        await asyncio.create_subprocess_exec(
            *command,
            "deployments",
            "--all",
            "--replicas=0",
            f"--namespace={place}",
            stdout=subprocess.DEVNULL,
        )
        for place in places
    ]
    for process in processes:
        assert await process.wait() == 0
    return started


@contextlib.asynccontextmanager
async def _watching(cluster: KubernetesApi, places: list[str]) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    page = await cluster.list(PODS)
    for pod in page.items:
        if pod["metadata"]["namespace"] in places:
            watcher.alive.add(pod["metadata"]["uid"])

    async def follow() -> None:
        version = page.version
        while True:
            async for change in cluster.watch(PODS, version):
                version = change.object["metadata"]["resourceVersion"]
                if change.object["metadata"].get("namespace") in places:
                    watcher.see(change.type, change.object, time.perf_counter())

    task = asyncio.create_task(follow())
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _running(cluster: KubernetesApi, places: list[str], count: int) -> None:
    """Return when every pod of the scene runs."""
    async with asyncio.timeout(180):
        while True:
            pods = (await cluster.list(PODS)).items
            running = sum(
                pod["metadata"]["namespace"] in places and pod["status"].get("phase") == "Running"
                for pod in pods
            )
            if running >= count:
                return
            await asyncio.sleep(1)


async def _any_left(cluster: KubernetesApi, places: list[str]) -> bool:
    found = (await cluster.list(PODS)).items
    return any(pod["metadata"]["namespace"] in places for pod in found)


async def _until_gone(watcher: Watcher, before: set[str]) -> None:
    async with asyncio.timeout(_LONGEST):
        while not before <= watcher.gone.keys():
            await asyncio.sleep(0.1)


async def _deployment(cluster: KubernetesApi, place: str, number: int) -> None:
    name = f"server-{number}"
    await cluster.create(DEPLOYMENTS, deployment(name, bench="thousand"), place)
