"""A real kubelet: decision → every process of a target dead, against scaling to 0 alone.

Three servers that ignore SIGTERM run as real processes. What is watched are their process ids in
the kernel, not what any API says of them. Skipped, with the reason, where there can be no node.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, figure, median
from bench.scene import policy, reactor
from bench.setting import Setting
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.kinds import DEPLOYMENTS, POLICIES
from killswitch.core.readings import Answer
from killswitch.reactor.run import Reactor
from tests.cluster.node import RealNode

REPLICAS, ROUNDS = 3, 3
_PLACE = "bench-node"


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named node_*."""
    if reason := RealNode.unavailable():
        print(f"# no node figures: {reason}", file=sys.stderr, flush=True)
        return
    with RealNode(setting.control_plane) as node:
        ours, scaled = asyncio.run(_measure(setting, node))
    yield figure(
        "node_decision_to_dead",
        median(ours),
        "s",
        baseline=scaled,
        baseline_is="kubectl scale --replicas=0, grace 30 s",
        n=len(ours),
        processes=REPLICAS,
    )


async def _measure(setting: Setting, node: RealNode) -> tuple[list[float], float]:
    async with setting.cluster() as cluster:
        await setting.namespace(cluster, _PLACE)
        async with reactor(setting, cluster) as running:
            ours = [await _fire(cluster, running, node, f"ours-{n}") for n in range(ROUNDS)]
            return ours, await _scale(cluster, node, "scaled")


async def _fire(cluster: KubernetesApi, running: Reactor, node: RealNode, name: str) -> float:
    """Seconds from the tripping sample until the last server process is dead."""
    pids = await _serve(cluster, node, name)
    query = name.replace("-", "_")
    created = await cluster.create(POLICIES, policy(name, query), _PLACE)
    while created["metadata"]["uid"] not in running.engine.watched:
        await asyncio.sleep(0.01)
    started = time.perf_counter()
    running.engine.intake.deliver(query, Answer((1.0,), 0.0))
    return await _all_dead(pids, started)


async def _scale(cluster: KubernetesApi, node: RealNode, name: str) -> float:
    pids = await _serve(cluster, node, name)
    started = time.perf_counter()
    body = {"spec": {"replicas": 0}}
    await cluster.patch(DEPLOYMENTS, name, body, _PLACE, subresource="scale")
    return await _all_dead(pids, started)


async def _serve(cluster: KubernetesApi, node: RealNode, name: str) -> list[int]:
    """Process ids of a Deployment's servers, once all of them run."""
    labels = {"app": name}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": node.pod_spec()},
        },
    }
    await cluster.create(DEPLOYMENTS, body, _PLACE)
    async with asyncio.timeout(60):
        while len(found := _servers(node)) < REPLICAS:
            await asyncio.sleep(0.1)
    await asyncio.sleep(2)  # the kubelet reports them, and the reactor's view follows
    return found


def _servers(node: RealNode) -> list[int]:
    """Living server processes; the sandboxes beside them hold no model."""
    return [pid for pid in node.processes_of_all() if b"serve" in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


async def _all_dead(pids: list[int], started: float) -> float:
    async with asyncio.timeout(120):
        while any(_command(pid) for pid in pids):
            await asyncio.sleep(0.002)
    return time.perf_counter() - started
