"""A thousand Deployments: one fire of a cluster policy, against `kubectl scale --replicas=0`.

The controller manager runs with its default client limits (20 requests a second) while either
stop is measured; only the scene is set up with raised ones. An independent watch notes when each
pod is marked for deletion, when it is gone, and every pod that appears after the stop began.
"""

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from bench.figures import Figure, figure
from bench.one_target import Anything, Quiet, pod_spec
from bench.setting import Setting
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.kinds import CLUSTER_POLICIES, DEPLOYMENTS, PODS
from killswitch.core.readings import Answer
from killswitch.ports import Json
from killswitch.reactor.fan_out import fan_out
from killswitch.reactor.run import Reactor

NAMESPACES, PER_NAMESPACE = 10, 100
_FAST = (
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
    "--concurrent-deployment-syncs=20",
    "--concurrent-replicaset-syncs=20",
)
_QUERY = "bench_thousand"
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
    ours = asyncio.run(_scene(setting, "ours", _fire))
    base = asyncio.run(_scene(setting, "base", _scale))
    for what in ("marked", "gone"):
        value, baseline = ours[what], base[what]
        times = baseline / value
        yield figure(
            f"thousand_all_{what}",
            value,
            "s",
            baseline=baseline,
            aim=">= 40 x faster than kubectl scale" if what == "marked" else "",
            met=times >= 40 if what == "marked" else None,
            faster=round(times, 1),
            pods=count,
        )
    recreated = ours["recreated"]
    yield figure("thousand_recreated", recreated, "pods", aim="0", met=recreated == 0)


async def _scene(setting: Setting, name: str, stop: object) -> dict[str, float]:
    """Seconds until all pods were marked and gone, and how many were re-created meanwhile."""
    plane = setting.control_plane
    places = [f"bench-{name}-{number}" for number in range(NAMESPACES)]
    await asyncio.to_thread(plane.restart_controller_manager, *_FAST)
    async with setting.cluster() as cluster:
        for place in places:
            await setting.namespace(cluster, place)
        bodies = [(place, n) for place in places for n in range(PER_NAMESPACE)]
        await fan_out(bodies, lambda each: _deployment(cluster, *each), width=16)
        await _running(cluster, places)
        await asyncio.to_thread(plane.restart_controller_manager)
        async with _watching(cluster, places) as watcher, _reactor(setting, cluster) as reactor:
            before = set(watcher.alive)
            started = time.perf_counter()
            await stop(setting, cluster, reactor, places)  # type: ignore[operator]
            await _until_gone(watcher, before)
            await asyncio.sleep(10)  # whatever the controllers still want to do
            recreated = sum(at > started for at in watcher.created.values())
        return {
            "marked": max(watcher.marked[uid] for uid in before) - started,
            "gone": max(watcher.gone[uid] for uid in before) - started,
            "recreated": recreated,
        }


async def _fire(
    _setting: Setting, cluster: KubernetesApi, reactor: Reactor, places: list[str]
) -> None:
    """One tripping sample of a cluster policy over all namespaces."""
    signal = {"name": "s", "prometheus": {"query": _QUERY, "above": "0.5"}, "onNoData": "Hold"}
    target = {
        "kind": "Deployment",
        "namespaces": places,
        "selector": {"matchLabels": {"bench": "thousand"}},
    }
    body = {
        "apiVersion": CLUSTER_POLICIES.api_version,
        "kind": CLUSTER_POLICIES.kind,
        "metadata": {"name": "bench-thousand"},
        "spec": {
            "mode": "Enforce",
            "owner": "bench",
            "backup": "bench",
            "targets": [target],
            "signals": [signal],
            "limits": {"maxTargets": NAMESPACES * PER_NAMESPACE},
        },
    }
    created = await cluster.create(CLUSTER_POLICIES, body)
    while created["metadata"]["uid"] not in reactor.engine.watched:
        await asyncio.sleep(0.01)
    reactor.engine.intake.deliver(_QUERY, Answer((1.0,), 0.0))


async def _scale(
    setting: Setting, _cluster: KubernetesApi, _reactor: Reactor, places: list[str]
) -> None:
    """`kubectl scale --replicas=0 --all`, one process a namespace, at once."""
    plane = setting.control_plane
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


@contextlib.asynccontextmanager
async def _reactor(setting: Setting, cluster: KubernetesApi) -> AsyncIterator[Reactor]:
    reactor = Reactor(
        cluster, SystemClock(), Quiet(), Anything(), setting.identity(), poll_interval=3600.0
    )
    task = asyncio.create_task(reactor.run())
    await reactor.ready.wait()
    try:
        yield reactor
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _running(cluster: KubernetesApi, places: list[str]) -> None:
    """Return when every pod of the scene runs."""
    async with asyncio.timeout(180):
        while True:
            pods = (await cluster.list(PODS)).items
            running = sum(
                pod["metadata"]["namespace"] in places and pod["status"].get("phase") == "Running"
                for pod in pods
            )
            if running >= NAMESPACES * PER_NAMESPACE:
                return
            await asyncio.sleep(1)


async def _until_gone(watcher: Watcher, before: set[str]) -> None:
    async with asyncio.timeout(_LONGEST):
        while not before <= watcher.gone.keys():
            await asyncio.sleep(0.1)


async def _deployment(cluster: KubernetesApi, place: str, number: int) -> None:
    name = f"server-{number}"
    labels = {"app": name, "bench": "thousand"}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec()},
        },
    }
    await cluster.create(DEPLOYMENTS, body, place)
