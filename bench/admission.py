"""What the lock costs those who are not stopped: a pod create beside engaged Shutdowns.

Dry-run pod creates in one namespace at a time, by the product's own client. Each situation is
measured in turns with the baseline (a namespace that is not governed, where no lock policy
matches), so that whatever else the machine does meets both alike.
"""

import asyncio
import time
from collections.abc import Iterator

from bench.figures import Figure, at_most, figure, median, percentile
from bench.scene import pod_spec
from bench.setting import Setting
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.errors import RefusedError
from killswitch.core.names import ENGAGED_LABEL
from killswitch.core.resources import NAMESPACES, PODS, SHUTDOWNS
from killswitch.ports import Json
from killswitch.reactor.fan_out import fan_out

ELSEWHERE, RELEASED, ENGAGED = 1000, 1000, (10, 100)
_BATCHES, _BATCH = 20, 10
_WILD, _HERE, _THERE = "bench-ungoverned", "bench-governed", "bench-elsewhere"


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named admission_pod_create_*, each beside an ungoverned namespace."""
    yield from asyncio.run(_measure(setting))


async def _measure(setting: Setting) -> list[Figure]:
    figures = []
    async with setting.cluster() as cluster:
        plain = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _WILD}}
        await cluster.create(NAMESPACES, plain)
        await setting.namespace(cluster, _HERE)
        await setting.namespace(cluster, _THERE)
        await _accepts_pods(cluster, _WILD)
        await _accepts_pods(cluster, _HERE)
        # Each of these is another pair of measurements, in the order in which Shutdowns pile up.
        figures.append(_as_without(*await _both(cluster), "governed"))
        await _shutdowns(cluster, _THERE, range(ELSEWHERE))
        figures.append(_as_without(*await _both(cluster), f"{ELSEWHERE}_elsewhere"))
        await _shutdowns(cluster, _HERE, range(RELEASED))
        await fan_out(range(RELEASED), lambda each: _release(setting, cluster, each), width=8)
        figures.append(_each(*await _both(cluster), RELEASED, "released"))
        there = 0
        for count in ENGAGED:
            await _shutdowns(cluster, _HERE, range(RELEASED + there, RELEASED + count))
            there = count
            figures.append(_each(*await _both(cluster), count, "engaged"))
    return figures


def _as_without(mine: list[float], base: list[float], name: str) -> Figure:
    return at_most(
        f"admission_pod_create_{name}",
        median(mine),
        "ms",
        baseline=median(base),
        times=1.1,
        p90=round(percentile(mine, 0.9), 2),
        n=len(mine),
    )


def _each(mine: list[float], base: list[float], count: int, kind: str) -> Figure:
    """What those in the pod's own namespace cost: there is no aim but to be small and linear."""
    each = round(1000 * (median(mine) - median(base)) / count, 1)
    name = f"admission_pod_create_{count}_{kind}"
    return figure(name, median(mine), "ms", baseline=median(base), each_us=each)


async def _both(cluster: KubernetesApi) -> tuple[list[float], list[float]]:
    """Milliseconds of single pod creates, here and in the ungoverned namespace, in turns."""
    await asyncio.sleep(2)  # the API server's own view of the Shutdowns settles
    mine: list[float] = []
    base: list[float] = []
    for _ in range(_BATCHES):
        for place, found in ((_HERE, mine), (_WILD, base)):
            for _ in range(_BATCH):
                started = time.perf_counter()
                await _create_pod(cluster, place)
                found.append((time.perf_counter() - started) * 1000)
    return mine, base


async def _create_pod(cluster: KubernetesApi, place: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "labels": {"app": "free"}},
        "spec": pod_spec(),
    }
    await cluster.create(PODS, body, place, dry_run=True)


async def _accepts_pods(cluster: KubernetesApi, place: str) -> None:
    """Return once the namespace's service account is there."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await _create_pod(cluster, place)
            except RefusedError:
                await asyncio.sleep(0.1)


async def _shutdowns(cluster: KubernetesApi, place: str, numbers: range) -> None:
    """Engaged Shutdowns, each of one Deployment that is not there."""

    async def create(number: int) -> None:
        body: Json = {
            "apiVersion": SHUTDOWNS.api_version,
            "kind": SHUTDOWNS.kind,
            "metadata": {"name": f"stop-{number}", "labels": {ENGAGED_LABEL: "true"}},
            "spec": {
                "requestedBy": "admin",
                "reason": "bench",
                "requiredApprovals": 1,
                "locks": {f"deployments.apps/gone-{number}": "bench"},
            },
        }
        await cluster.create(SHUTDOWNS, body, place)

    await fan_out(numbers, create, width=8)


async def _release(setting: Setting, cluster: KubernetesApi, number: int) -> None:
    """One person approves; the label goes, as the manager takes it off."""
    person = setting.people[0]
    path, name = SHUTDOWNS.path(_HERE, f"stop-{number}"), f"stop-{number}"
    body = {"spec": {"approvals": {person.name: {"reason": "bench"}}}}
    answer = await asyncio.to_thread(setting.control_plane.api(person).patch, path, body)
    assert answer.status == 200, answer.message
    label = {"metadata": {"labels": {ENGAGED_LABEL: "false"}}}
    await cluster.patch(SHUTDOWNS, name, label, _HERE)
