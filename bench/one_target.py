"""One target: decision → lock → pod deleted, through the whole engine, against ready bytes.

The baseline sends the same two requests (create the Shutdown, delete the pod) as prebuilt bytes
on a warm TLS connection, alternating with the engine's own stops on the same API server.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator

from bench import ready_bytes
from bench.figures import Figure, at_most, median, percentile
from bench.setting import Setting
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.api import orders
from killswitch.api.orders import Terms
from killswitch.core import times
from killswitch.core.kinds import DEPLOYMENTS, PODS, POLICIES, SHUTDOWNS
from killswitch.core.plans import Stop
from killswitch.core.readings import Answer
from killswitch.ports import Json
from killswitch.reactor.engine import Engine
from killswitch.reactor.run import Reactor

ROUNDS = 25
_NAMESPACE = "bench-one-target"


class Quiet:
    """A signal source that always answers 0: the bench trips policies by hand."""

    async def measure(self, query: str) -> Answer:
        """Zero, fresh."""
        return Answer((0.0,), 0.1)

    async def recall(self, query: str, span: float, step: float) -> tuple[Answer, ...]:
        """Nothing."""
        return ()


class Anything:
    """A query checker that accepts everything."""

    def check(self, field: str, query: str) -> dict[str, str]:
        """Nothing to say."""
        return {}


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named one_target_*."""
    yield from asyncio.run(_measure(setting))


async def _measure(setting: Setting) -> list[Figure]:
    ours_lock: list[float] = []
    ours_delete: list[float] = []
    base_lock: list[float] = []
    base_delete: list[float] = []
    async with setting.cluster() as cluster, _reactor(setting, cluster) as engine:
        await setting.namespace(cluster, _NAMESPACE)
        connection = await ready_bytes.connect(setting.server, setting.tls)
        for number in range(ROUNDS):
            lock, delete = await _ours(setting, cluster, engine, number)
            ours_lock.append(lock)
            ours_delete.append(delete)
            lock, delete = await _baseline(cluster, connection, setting, number)
            base_lock.append(lock)
            base_delete.append(delete)
        connection.close()
    return [
        at_most(
            "one_target_decision_to_locked_p50",
            1000 * median(ours_lock),
            "ms",
            baseline=1000 * median(base_lock),
            times=1.5,
            p90=round(1000 * percentile(ours_lock, 0.9), 2),
        ),
        at_most(
            "one_target_decision_to_deleted_p50",
            1000 * median(ours_delete),
            "ms",
            baseline=1000 * median(base_delete),
            times=1.5,
            p90=round(1000 * percentile(ours_delete, 0.9), 2),
        ),
    ]


async def _ours(
    setting: Setting, cluster: KubernetesApi, engine: Engine, number: int
) -> tuple[float, float]:
    """Seconds from the tripping sample to the lock and to the accepted delete."""
    name = f"ours-{number}"
    await _deployment_with_pod(cluster, name)
    query = f"query_{number}"
    created = await cluster.create(POLICIES, policy(name, query), _NAMESPACE)
    uid = created["metadata"]["uid"]
    await _until(lambda: uid in engine.watched and _planned(engine, uid))
    decided = time.time()
    engine.intake.deliver(query, Answer((1.0,), 0.0))
    shutdown = await _stopped(cluster, f"{name}-1")
    stages = shutdown["status"]["stages"]
    await _release(setting, f"{name}-1")
    await cluster.delete(POLICIES, name, _NAMESPACE)
    return times.seconds(stages["locked"]) - decided, times.seconds(stages["deleted"]) - decided


async def _baseline(
    cluster: KubernetesApi, connection: ready_bytes.Connection, setting: Setting, number: int
) -> tuple[float, float]:
    name = f"base-{number}"
    pod = await _pod(cluster, name)
    key = f"uid/{pod['metadata']['uid']}"
    body = _shutdown(name, setting.username, {key: "bench", f"deployments.apps/{name}": "bench"})
    path, token = SHUTDOWNS.path(_NAMESPACE), setting.authorization
    create = ready_bytes.request("POST", path, token, body)
    options = {"gracePeriodSeconds": 1, "preconditions": {"uid": pod["metadata"]["uid"]}}
    delete = ready_bytes.request("DELETE", PODS.path(_NAMESPACE, name), token, options)
    start = time.perf_counter()
    created = await connection.send(create)
    locked = time.perf_counter()
    deleted = await connection.send(delete)
    end = time.perf_counter()
    assert (created, deleted) == (201, 200)
    await _release(setting, name)
    return locked - start, end - start


@contextlib.asynccontextmanager
async def _reactor(setting: Setting, cluster: KubernetesApi) -> AsyncIterator[Engine]:
    """A running reactor's engine; policies are tripped by hand."""
    reactor = Reactor(
        cluster,
        SystemClock(),
        Quiet(),
        Anything(),
        setting.identity(),
        poll_interval=3600.0,
    )
    task = asyncio.create_task(reactor.run())
    await reactor.ready.wait()
    try:
        yield reactor.engine
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _planned(engine: Engine, uid: str) -> bool:
    """Whether the engine's view shows the policy's Deployment with its pod."""
    policy = engine.watched[uid].policy
    found = [w for w in engine.view.inventory.workloads(_NAMESPACE) if w.name == policy.name]
    children = [c.uid for w in found for c in engine.view.inventory.children(w.uid)]
    return bool(engine.view.inventory.pods_of(children))


async def _stopped(cluster: KubernetesApi, name: str) -> Json:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(Exception):
                found = await cluster.get(SHUTDOWNS, name, _NAMESPACE)
                if "deleted" in found.get("status", {}).get("stages", {}):
                    return found
            await asyncio.sleep(0.05)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.02)


async def _release(setting: Setting, name: str) -> None:
    """Two people release it, so that rounds do not slow each other down."""
    body = {"reason": "bench"}
    for person in setting.people:
        path = SHUTDOWNS.path(_NAMESPACE, name)
        answer = setting.control_plane.api(person).patch(
            path, {"spec": {"approvals": {person.name: body}}}
        )
        assert answer.status == 200, answer.message


async def _deployment_with_pod(cluster: KubernetesApi, name: str) -> None:
    labels = {"app": name}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec()},
        },
    }
    await cluster.create(DEPLOYMENTS, body, _NAMESPACE)


async def _pod(cluster: KubernetesApi, name: str) -> Json:
    metadata = {"name": name, "labels": {"app": name}}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec()}
    return await cluster.create(PODS, body, _NAMESPACE)


def pod_spec() -> Json:
    """A pod that kwok runs."""
    return {
        "containers": [{"name": "server", "image": "bench.invalid/server"}],
        "tolerations": [{"operator": "Exists"}],
    }


def policy(name: str, query: str) -> Json:
    """A policy that stops the Deployment of its name when the query answers more than 0.5."""
    signal = {"name": "s", "prometheus": {"query": query, "above": "0.5"}, "onNoData": "Hold"}
    return {
        "apiVersion": POLICIES.api_version,
        "kind": POLICIES.kind,
        "metadata": {"name": name},
        "spec": {
            "mode": "Enforce",
            "owner": "bench",
            "backup": "bench",
            "targets": [{"kind": "Deployment", "name": name}],
            "signals": [signal],
        },
    }


def _shutdown(name: str, username: str, locks: dict[str, str]) -> Json:
    terms = Terms(requested_by=username, reason="bench")
    stop = Stop(_NAMESPACE, locks=locks)
    return orders.for_stops(name, [stop], terms)[0].body
