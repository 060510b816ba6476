"""The scripted stand-ins fight as what they stand for: without that, nothing held against them counts."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from killswitch.adapters import credentials
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.errors import NotFoundError
from killswitch.core.resources import DEPLOYMENTS, JOBS, PODS, STATEFULSETS, Resource
from killswitch.ports import Json
from tests.cluster import crds, examples, stand_ins
from tests.cluster.control_plane import QUICK, ControlPlane
from tests.cluster.examples import Example
from tests.reactor.harness import Bench, Dial, eventually

pytestmark = pytest.mark.cluster
_NUMBERS = itertools.count(1)
_FOUGHT_FOR = {name: each for name, each in examples.examples(1).items() if each.stand_ins}


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane with a node and every CRD, and no product."""
    with ControlPlane(controller_manager_flags=QUICK) as running:
        crds.install(running)
        running.add_gpu_nodes(1)
        yield running


@pytest.fixture
async def setting(plane: ControlPlane) -> AsyncIterator[Bench]:
    """A fresh namespace."""
    name = f"fought-{next(_NUMBERS)}"
    plane.api().create("/api/v1/namespaces", {"metadata": {"name": name}})
    async with KubernetesApi(credentials.load(kubeconfig=str(plane.admin.kubeconfig))) as cluster:
        yield Bench(cluster, name, Dial())


async def create(setting: Bench, example: Example) -> None:
    """The object and what is around it."""
    named = () if example.made else ((example.resource, example.body),)
    for resource, body in (*example.around, *named):
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        await setting.cluster.create(resource, {**kind, **body}, setting.namespace)


async def remove(setting: Bench, resource: Resource, body: Json) -> None:
    """Delete it, unless it went with its owner."""
    with contextlib.suppress(NotFoundError):
        await setting.cluster.delete(resource, body["metadata"]["name"], setting.namespace)


async def others(setting: Bench, known: set[str], count: int) -> set[str]:
    """The uids of all pods, once so many run and none is one of the known ones."""
    found: set[str] = set()

    async def look() -> bool:
        nonlocal found
        pods = await setting.pods()
        found = {p["metadata"]["uid"] for p in pods if p["status"].get("phase") == "Running"}
        return len(found - known) == len(pods) == count

    await eventually(look, within=40)
    return found


@pytest.mark.parametrize("name", list(_FOUGHT_FOR))
async def test_a_stand_in_makes_its_pods_and_makes_them_anew(
    plane: ControlPlane, setting: Bench, name: str
) -> None:
    """After somebody deleted them, and after what makes them was deleted."""
    example = _FOUGHT_FOR[name]
    async with stand_ins.playing(plane, setting.namespace, *example.stand_ins):
        await create(setting, example)
        first = await others(setting, set(), example.pods)
        for pod in await setting.pods():
            await remove(setting, PODS, pod)
        second = await others(setting, first, example.pods)
        if {DEPLOYMENTS, STATEFULSETS} & {*example.stand_ins[0].makes}:
            for resource in (DEPLOYMENTS, STATEFULSETS):
                for body in (await setting.cluster.list(resource, setting.namespace)).items:
                    await remove(setting, resource, body)
            await others(setting, second, example.pods)


async def test_kueue_starts_again_what_it_has_admitted_and_evicts_what_is_not_active(
    plane: ControlPlane, setting: Bench
) -> None:
    """So `suspend` alone stops nothing of it."""
    example = examples.KUEUE_JOB
    resource = examples.examples(1)["Workload.kueue.x-k8s.io"].resource
    job, where = example.name, setting.namespace
    async with stand_ins.playing(plane, where, *example.stand_ins):
        await create(setting, example)
        first = await others(setting, set(), 1)
        await setting.cluster.patch(JOBS, job, {"spec": {"suspend": True}}, where)
        await others(setting, first, 1)
        inactive = {"spec": {"active": False}}
        await setting.cluster.patch(resource, f"job-{job}", inactive, where)
        await others(setting, set(), 0)
