"""One target: decision → lock → pod deleted, through the whole engine, against ready bytes.

The baseline sends the same two requests (create the Shutdown, delete the pod) as prebuilt bytes
on a warm TLS connection, in turns with the engine's own stops on the same API server.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator

from bench import ready_bytes
from bench.figures import Figure, at_most, percentile
from bench.scene import deployment, policy, reactor
from bench.setting import Setting
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.api import orders
from killswitch.api.orders import Terms
from killswitch.core import times
from killswitch.core.errors import NotFoundError
from killswitch.core.readings import Answer
from killswitch.core.resources import DEPLOYMENTS, PODS, POLICIES, SHUTDOWNS
from killswitch.core.stops import Stop
from killswitch.ports import Json
from killswitch.reactor.engine import Engine

BLOCKS, BLOCK = 6, 25
"""Rounds in turns: so many blocks of so many of ours, each followed by as many of the baseline."""
_REST = 0.25
"""Seconds in which nothing happens before each measurement."""
_NAMESPACE = "bench-one-target"


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named one_target_*."""
    yield from asyncio.run(_measure(setting))


async def _measure(setting: Setting) -> list[Figure]:
    ours: list[tuple[float, float]] = []
    base: list[tuple[float, float]] = []
    async with setting.cluster() as cluster:
        await setting.namespace(cluster, _NAMESPACE)
        for block in range(BLOCKS):
            numbers = range(block * BLOCK, (block + 1) * BLOCK)
            await _scene(cluster, numbers)
            # A reactor would finish the baseline's Shutdowns too, and so compete with it.
            async with reactor(setting, cluster) as running:
                engine = running.engine
                while engine.dirty:
                    await asyncio.sleep(0.02)
                ours += [await _ours(setting, cluster, engine, number) for number in numbers]
            connection = await ready_bytes.connect(setting.server, setting.tls)
            base += [await _baseline(cluster, connection, setting, number) for number in numbers]
            connection.close()
    figures = []
    for which, stage in enumerate(("locked", "deleted")):
        mine = [1000 * each[which] for each in ours]
        theirs = [1000 * each[which] for each in base]
        for share, most in ((0.5, 1.3), (0.99, 1.5)):
            name = f"one_target_decision_to_{stage}_p{100 * share:.0f}"
            value, baseline = percentile(mine, share), percentile(theirs, share)
            figures.append(at_most(name, value, "ms", baseline=baseline, times=most, n=len(mine)))
    return figures


async def _scene(cluster: KubernetesApi, numbers: range) -> None:
    """A Deployment with a running pod for each round of either kind, and our policies."""
    for number in numbers:
        for kind in ("ours", "base"):
            await cluster.create(DEPLOYMENTS, deployment(f"{kind}-{number}"), _NAMESPACE)
        body = policy(f"ours-{number}", f"query_{number}")
        await cluster.create(POLICIES, body, _NAMESPACE)
    wanted = {f"{kind}-{number}" for kind in ("ours", "base") for number in numbers}
    async with asyncio.timeout(120):
        while not wanted <= (await _pods(cluster)).keys():
            await asyncio.sleep(0.5)
    await asyncio.sleep(1)  # until nobody writes about them any more


async def _pods(cluster: KubernetesApi) -> dict[str, Json]:
    """The running pods by app."""
    found = (await cluster.list(PODS, _NAMESPACE, fields="status.phase=Running")).items
    return {pod["metadata"]["labels"]["app"]: pod for pod in found}


async def _ours(
    setting: Setting, cluster: KubernetesApi, engine: Engine, number: int
) -> tuple[float, float]:
    """Seconds from the tripping sample to the lock and to the accepted delete."""
    name = f"ours-{number}"
    await asyncio.sleep(_REST)
    decided = time.time()
    engine.intake.deliver(f"query_{number}", Answer((1.0,), 0.0))
    stages = await _stages(cluster, f"{name}-1")
    await _release(setting, f"{name}-1")
    await cluster.delete(POLICIES, name, _NAMESPACE)
    return times.seconds(stages["locked"]) - decided, times.seconds(stages["deleted"]) - decided


async def _baseline(
    cluster: KubernetesApi, connection: ready_bytes.Connection, setting: Setting, number: int
) -> tuple[float, float]:
    name = f"base-{number}"
    pod = (await _pods(cluster))[name]["metadata"]
    owner = pod["ownerReferences"][0]
    keys = (f"deployments.apps/{name}", f"replicasets.apps/{owner['name']}", f"uid/{owner['uid']}")
    body = _shutdown(name, setting.username, dict.fromkeys(keys, "bench"))
    path, token = SHUTDOWNS.path(_NAMESPACE), setting.authorization
    create = ready_bytes.request("POST", path, token, body)
    delete = ready_bytes.delete_pod(_NAMESPACE, pod["name"], pod["uid"], token)
    await asyncio.sleep(_REST)
    start = time.perf_counter()
    created = await connection.send(create)
    locked = time.perf_counter()
    deleted = await connection.send(delete)
    end = time.perf_counter()
    assert (created, deleted) == (201, 200)
    await asyncio.sleep(_REST)
    zero = {"spec": {"replicas": 0}}
    await cluster.patch(DEPLOYMENTS, name, zero, _NAMESPACE, subresource="scale")
    await _release(setting, name)
    return locked - start, end - start


async def _stages(cluster: KubernetesApi, name: str) -> dict[str, str]:
    """When it reached which stage, once it is through all of them."""
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(_REST)  # looking would compete with what is measured
            with contextlib.suppress(NotFoundError):
                found = await cluster.get(SHUTDOWNS, name, _NAMESPACE)
                stages: dict[str, str] = found.get("status", {}).get("stages", {})
                if {"deleted", "scaled", "stopped"} <= stages.keys():
                    return stages


async def _release(setting: Setting, name: str) -> None:
    """Two people release it, so that rounds do not slow each other down."""
    body = {"reason": "bench"}
    for person in setting.people:
        path = SHUTDOWNS.path(_NAMESPACE, name)
        answer = setting.control_plane.api(person).patch(
            path, {"spec": {"approvals": {person.name: body}}}
        )
        assert answer.status == 200, answer.message


def _shutdown(name: str, username: str, locks: dict[str, str]) -> Json:
    terms = Terms(requested_by=username, reason="bench")
    stop = Stop(_NAMESPACE, locks=locks)
    return orders.for_stops(name, [stop], terms)[0].body
