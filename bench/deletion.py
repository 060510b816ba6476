"""Deleting the pods of a namespace: one request for each, or one for the whole collection.

Pods are held by a node for which nothing reports, so they stay marked; measured until every deletion
is accepted. Pod by pod is the product's own way and client, the collection one request of ready bytes.
Why the kill path goes pod by pod is told in docs/decisions/0010-pods-one-by-one.md.
"""

import asyncio
import time
from collections.abc import Iterator

from bench import ready_bytes
from bench.figures import Figure, figure, median
from bench.scene import pod_spec
from bench.setting import Setting
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.grace import SHORTEST
from killswitch.core.resources import PODS
from killswitch.reactor.deleting import WIDTH
from killswitch.reactor.fan_out import fan_out

SIZES = (1, 10, 100, 1000)
_ROUNDS = {1: 9, 10: 7, 100: 3, 1000: 1}
_NODE = "bench-nobody"


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named delete_*."""
    yield from asyncio.run(_measure(setting))


async def _measure(setting: Setting) -> list[Figure]:
    figures = []
    async with setting.cluster() as cluster:
        for size in SIZES:
            each: list[float] = []
            whole: list[float] = []
            for turn in range(_ROUNDS[size]):
                each.append(await _one_by_one(setting, cluster, f"bench-each-{size}-{turn}", size))
                whole.append(await _whole(setting, cluster, f"bench-whole-{size}-{turn}", size))
            figures += [
                figure(
                    f"delete_collection_{size}",
                    1000 * median(whole),
                    "ms",
                    baseline=1000 * median(each),
                    baseline_is="one request for each pod",
                    grows_with="pods",
                    at=size,
                    growth_of="delete collection",
                ),
                figure(
                    f"delete_each_{size}",
                    1000 * median(each),
                    "ms",
                    grows_with="pods",
                    at=size,
                    growth_of="delete each pod",
                ),
            ]
    return figures


async def _one_by_one(setting: Setting, cluster: KubernetesApi, place: str, size: int) -> float:
    uids = await _pods(setting, cluster, place, size)
    started = time.perf_counter()
    await fan_out(
        uids.items(),
        lambda pod: cluster.delete(PODS, pod[0], place, grace=SHORTEST, uid=pod[1]),
        width=WIDTH,
    )
    return time.perf_counter() - started


async def _whole(setting: Setting, cluster: KubernetesApi, place: str, size: int) -> float:
    await _pods(setting, cluster, place, size)
    options = {"gracePeriodSeconds": SHORTEST}
    request = ready_bytes.request("DELETE", PODS.path(place), setting.authorization, options)
    async with ready_bytes.pool(setting.server, setting.tls, 1) as pool:
        started = time.perf_counter()
        assert await pool.send_all([request]) == [200]
        taken = time.perf_counter() - started
    left = [pod for pod in (await cluster.list(PODS, place)).items if not _marked(pod)]
    assert not left
    return taken


def _marked(pod: dict[str, object]) -> bool:
    metadata = pod["metadata"]
    assert isinstance(metadata, dict)
    return "deletionTimestamp" in metadata


async def _pods(setting: Setting, cluster: KubernetesApi, place: str, size: int) -> dict[str, str]:
    """Uids by name of new pods on a node that nobody runs, in a namespace of their own."""
    await setting.namespace(cluster, place)
    spec = {**pod_spec(), "nodeName": _NODE, "terminationGracePeriodSeconds": 3600}
    names = [f"pod-{number}" for number in range(size)]
    bodies = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        for name in names
    ]
    token = setting.authorization
    creates = [ready_bytes.request("POST", PODS.path(place), token, body) for body in bodies]
    async with ready_bytes.pool(setting.server, setting.tls, WIDTH) as pool:
        assert set(await pool.send_all(creates)) == {201}
    found = (await cluster.list(PODS, place)).items
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}
