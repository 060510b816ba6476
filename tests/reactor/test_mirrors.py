"""Kinds that come and go, and those that may not be seen, on a real API server."""

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.inventory import Inventory
from killswitch.core.kinds import LINKS, TABLE, scaled
from killswitch.core.resources import Resource
from killswitch.ports import Json
from killswitch.reactor.mirrors import Mirrors
from tests.cluster import crds
from tests.cluster.control_plane import ControlPlane
from tests.reactor.harness import Bench, dave, eventually, reactor, rights

pytestmark = pytest.mark.cluster
SANDBOX = TABLE["Sandbox"]
ENGINE = Resource("mirrors.example.com", "v1", "engines", "Engine")
KNATIVE = [
    crds.definition(TABLE["Service.serving.knative.dev"]),
    *(crds.open_definition(each) for each in LINKS),
]
ENGINES = "Engine.mirrors.example.com"
_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False
)


@pytest.fixture
async def _gone(setting: Bench) -> AsyncIterator[None]:
    """None of these kinds before or after."""
    yield
    installed = [each["metadata"]["name"] for each in KNATIVE]
    for key in (SANDBOX.resource.key, ENGINE.key, *installed):
        with contextlib.suppress(Exception):
            await setting.cluster.delete(_DEFINITIONS, key)


@contextlib.asynccontextmanager
async def looking(
    cluster: KubernetesApi, *named: str, held: frozenset[str] = frozenset()
) -> AsyncIterator[Inventory]:
    """An inventory that mirrors follow all the time, asking afresh what is served."""
    inventory = Inventory()
    mirrors = Mirrors(cluster, SystemClock(), inventory)
    mirrors.discovery.fresh = 0.0

    async def look() -> None:
        while True:
            await mirrors.look(frozenset(named), held)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(look())
    try:
        yield inventory
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await mirrors.close()


def sandbox(name: str = "agent") -> Json:
    """An agent's sandbox."""
    resource = SANDBOX.resource
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name},
        "spec": {"podTemplate": {}},
    }


async def seen(inventory: Inventory, key: str, *, not_: bool = False) -> None:
    """Return once all objects of a resource are there, or once they are not."""

    async def look() -> bool:
        return (key in inventory.seen) is not not_

    await eventually(look)


@pytest.mark.usefixtures("_gone")
async def test_a_kind_is_seen_as_soon_as_it_is_installed_and_forgotten_with_it(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Its objects come into the inventory, and go when its definition does."""
    async with looking(setting.cluster, "Sandbox") as inventory:
        await seen(inventory, TABLE["Job"].resource.key)
        assert inventory.unseen["Sandbox"] == "the cluster does not serve this kind"
        crds.install(kernel, [crds.definition(SANDBOX)])
        await setting.cluster.create(SANDBOX.resource, sandbox(), setting.namespace)

        async def there() -> bool:
            return inventory.workload(setting.namespace, "Sandbox", "agent") is not None

        await eventually(there)
        assert "Sandbox" not in inventory.unseen
        await setting.cluster.delete(_DEFINITIONS, SANDBOX.resource.key)
        await seen(inventory, SANDBOX.resource.key, not_=True)

        async def away() -> bool:
            return inventory.workload(setting.namespace, "Sandbox", "agent") is None

        await eventually(away)
        assert inventory.unseen["Sandbox"] == "the cluster does not serve this kind"


@pytest.mark.usefixtures("_gone")
async def test_a_kind_that_only_a_shutdown_names_is_seen_too(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Its policy may be gone; a kind that is gone itself hides nothing."""
    kind = scaled(ENGINE, path=("spec", "pool", "size"), qualified=True)
    crds.install(kernel, [crds.definition(kind)])
    body = {"apiVersion": ENGINE.api_version, "kind": "Engine", "metadata": {"name": "big"}}
    body["spec"] = {"pool": {"size": 3}}
    await setting.cluster.create(ENGINE, body, setting.namespace)
    held = frozenset({ENGINE.key, "things.gone.example.com"})
    async with looking(setting.cluster, held=held) as inventory:
        await seen(inventory, ENGINE.key)
        await seen(inventory, "things.gone.example.com")
        found = inventory.workload(setting.namespace, ENGINES, "big")
        assert found is not None
        assert (found.replicas, found.kind.settings[0].path) == (3, ("spec", "pool", "size"))


@pytest.mark.usefixtures("_gone")
async def test_a_kind_that_is_served_in_another_version_stays_in_view(
    kernel: ControlPlane, setting: Bench
) -> None:
    """What went in between is not kept for ever."""
    definition = crds.definition(SANDBOX)
    old = definition["spec"]["versions"][0]
    crds.install(kernel, [definition])
    for name in ("agent", "other"):
        await setting.cluster.create(SANDBOX.resource, sandbox(name), setting.namespace)
    async with looking(setting.cluster, "Sandbox") as inventory:

        async def names() -> list[str]:
            return [each.name for each in inventory.workloads(setting.namespace, "Sandbox")]

        await eventually(lambda: _equal(names, ["agent", "other"]))
        new = copy.deepcopy(old) | {"name": "v1", "storage": False}
        served = copy.deepcopy(definition)
        served["spec"]["versions"] = [new, old | {"served": False}]
        crds.install(kernel, [served])
        newer = Resource(SANDBOX.resource.group, "v1", "sandboxes", "Sandbox")
        await setting.cluster.delete(newer, "other", setting.namespace)

        async def moved() -> bool:
            found = inventory.workload(setting.namespace, "Sandbox", "agent")
            return found is not None and found.kind.resource.version == "v1"

        await eventually(moved)
        await eventually(lambda: _equal(names, ["agent"]))


async def _equal(look: Callable[[], Awaitable[list[str]]], expected: list[str]) -> bool:
    return await look() == expected


ALL_BUT_REVISIONS = (
    '[{apiGroups: [killswitch.dev, "", apps, batch, authentication.k8s.io], resources: ["*"], verbs: ["*"]},'
    ' {apiGroups: [serving.knative.dev], resources: [services, configurations], verbs: ["*"]}]'
)


@pytest.mark.usefixtures("_gone")
async def test_a_kind_whose_pods_cannot_be_found_is_not_seen(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Between a Knative Service and its pods stand Revisions: without them it would look stopped."""
    crds.install(kernel, KNATIVE)
    service = TABLE["Service.serving.knative.dev"]
    async with (
        rights(kernel, "all-but-revisions", ALL_BUT_REVISIONS),
        dave(kernel) as cluster,
        looking(cluster, service.name) as inventory,
    ):

        async def hidden() -> bool:
            return "Revision" in inventory.unseen.get(service.name, "") and (
                "forbidden" in inventory.unseen[service.name]
            )

        await eventually(hidden)
        assert service.resource.key not in inventory.seen
        only = '[{apiGroups: [serving.knative.dev], resources: [revisions], verbs: ["*"]}]'
        async with rights(kernel, "revisions-too", only):
            await seen(inventory, service.resource.key)
            assert service.name not in inventory.unseen


ALL_BUT_JOBS = (
    '[{apiGroups: [killswitch.dev, "", apps, authentication.k8s.io], resources: ["*"], verbs: ["*"]},'
    ' {apiGroups: [batch], resources: [cronjobs], verbs: ["*"]}]'
)


async def _refused(inventory: Inventory) -> bool:
    return "forbidden" in inventory.unseen.get("Job", "")


async def test_one_kind_that_may_not_be_seen_hinders_no_other(
    kernel: ControlPlane, setting: Bench
) -> None:
    """It is named with the API server's words until it may be seen."""
    async with (
        rights(kernel, "all-but-jobs", ALL_BUT_JOBS),
        dave(kernel) as cluster,
        looking(cluster, "Job") as inventory,
    ):
        await seen(inventory, TABLE["CronJob"].resource.key)

        await eventually(lambda: _refused(inventory))
        assert TABLE["Job"].resource.key not in inventory.seen
        only = '[{apiGroups: [batch], resources: [jobs], verbs: ["*"]}]'
        async with rights(kernel, "jobs-too", only):
            await seen(inventory, TABLE["Job"].resource.key)
            assert "Job" not in inventory.unseen


async def test_a_policy_fires_for_what_can_be_seen(kernel: ControlPlane, setting: Bench) -> None:
    """And says of which kind it does not know."""
    await setting.deployment("vllm", 1)
    targets = [{"kind": "Deployment", "name": "vllm"}, {"kind": "Job", "name": "training"}]
    await setting.policy("runaway", targets=targets)
    async with rights(kernel, "all-but-jobs", ALL_BUT_JOBS), dave(kernel) as cluster:
        mine = Bench(cluster, setting.namespace, setting.dial)
        async with reactor(mine) as found:
            setting.dial.turn("runaway", 500)
            await setting.stopped("runaway-1")
            inventory = found.engine.view.inventory
            await eventually(lambda: _refused(inventory))
            await seen(inventory, TABLE["CronJob"].resource.key)
            metrics = found.numbers.registry
            assert metrics.get_sample_value("killswitch_unseen_kinds") == len(inventory.unseen)
            heard = "killswitch_watch_heard_timestamp_seconds"
            assert metrics.get_sample_value(heard, {"kind": "Job"}) is None
            assert metrics.get_sample_value(heard, {"kind": "CronJob"}) is not None
    assert await setting.replicas("vllm") == 0
