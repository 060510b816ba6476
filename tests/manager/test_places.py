"""What namespaces hold, as the reactor's plans see it; what cannot be seen holds up nobody."""

from typing import Any

import pytest

from killswitch.adapters.clock import SystemClock
from killswitch.adapters.promql import PromqlChecker
from killswitch.api.acceptance import accept
from killswitch.core.errors import (
    KillSwitchError,
    OverloadedError,
    RefusedError,
    ServerError,
    UnavailableError,
)
from killswitch.core.kinds import TABLE
from killswitch.core.resources import DAEMONSETS, DEPLOYMENTS, NAMESPACES, REPLICASETS, Resource
from killswitch.manager import targets
from killswitch.manager.places import Places
from killswitch.ports import Json, Page
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import cluster_policy
from tests.kernel.workloads import running, workload
from tests.manager import things
from tests.manager.harness import Scene
from tests.manager.test_restore_kinds import TERMS
from tests.reactor.harness import deployment, eventually

pytestmark = pytest.mark.cluster
PROTECTED = frozenset({"kube-system"})


@pytest.fixture(scope="module", autouse=True)
def served(kernel: ControlPlane) -> None:
    """The API server serves them."""
    things.install(kernel)


class Blind:
    """A cluster that does not list DaemonSets."""

    def __init__(self, inner: Any, error: KillSwitchError) -> None:
        self.inner = inner
        self.error = error

    def __getattr__(self, name: str) -> Any:
        """All else."""
        return getattr(self.inner, name)

    async def list(self, resource: Resource, namespace: str = "", **more: Any) -> Page:
        """What is there, or the error."""
        if resource == DAEMONSETS:
            raise self.error
        page: Page = await self.inner.list(resource, namespace, **more)
        return page


async def test_pods_of_an_image_are_found_in_every_governed_namespace(
    scene: Scene, kernel: ControlPlane
) -> None:
    """At the top of what owns them; and none elsewhere. A rollout does not change their locks."""
    other = f"{scene.namespace}-copy"
    cluster, image = scene.bench.cluster, f"models.invalid/{scene.namespace}"
    for place in (other, f"{scene.namespace}-free"):
        await cluster.create(NAMESPACES, {"metadata": {"name": place}})
    label = {"metadata": {"labels": {"killswitch.dev/governed": "true"}}}
    await cluster.patch(NAMESPACES, other, label)
    for place in (scene.namespace, other, f"{scene.namespace}-free"):
        body = deployment("vllm", 1)
        body["spec"]["template"]["spec"]["containers"][0]["image"] = f"{image}:v1"
        await cluster.create(DEPLOYMENTS, body, place)
    target = {"kind": "Pod", "image": image}
    policy = accept(_stored(cluster_policy("p", targets=[target])), PromqlChecker().check)

    async def look() -> targets.Targets | None:
        found = await targets.look(Places(cluster, SystemClock()), policy, PROTECTED)
        return found if len(found.stops) == 2 else None

    found = await eventually(look)
    places = {each.namespace: each for each in found.stops}
    (replica_set,) = (await cluster.list(REPLICASETS, other)).items
    assert set(places) == {scene.namespace, other}
    assert [str(each) for each in places[other].targets] == ["Deployment vllm"]
    assert f"uid/{replica_set['metadata']['uid']}" not in places[other].locks
    assert "deployments.apps/vllm" in places[other].locks
    assert len(found.pods) == 2 or all(not each.node for each in found.pods)


def _stored(body: Json) -> Json:
    return {**body, "metadata": {**body["metadata"], "uid": "u", "generation": 1}}


_ABSENT = "Vat.absent.example.com"
"""A kind that no test installs: others share this control plane."""


class Silent:
    """A cluster that does not say what it serves."""

    async def served(self) -> Any:
        """No answer."""
        raise UnavailableError("no answer")


async def test_what_is_served_is_not_guessed() -> None:
    """Until the cluster has said it, no kind is called missing."""
    cluster: Any = Silent()
    with pytest.raises(UnavailableError):
        await Places(cluster, SystemClock()).catalogue({_ABSENT})


@pytest.mark.parametrize(
    "error",
    [
        RefusedError("not now", 403),
        ServerError("not now"),
        OverloadedError("not now", 1.0),
        UnavailableError("not now"),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_a_kind_that_cannot_be_listed_is_named_and_holds_up_no_other(
    scene: Scene, error: KillSwitchError
) -> None:
    """With the API server's own words."""
    await scene.bench.deployment("vllm", 1)
    cluster: Any = Blind(scene.bench.cluster, error)
    seen = await Places(cluster, SystemClock()).see([scene.namespace], {_ABSENT})
    assert seen.inventory.unseen == {
        "DaemonSet": "not now",
        _ABSENT: "the cluster does not serve this kind",
    }
    assert seen.inventory.workload(scene.namespace, "Deployment", "vllm") is not None


async def test_what_its_controller_leaves_up_is_named_where_the_stop_is_verified(
    scene: Scene,
) -> None:
    """The stop field is ignored here: the Deployment below still asks for its pod."""
    kind = TABLE["InferenceService"]
    body = workload(kind, "vllm", running(kind))
    owner = await scene.bench.cluster.create(kind.resource, body, scene.namespace)
    child = deployment("vllm-predictor", 1)
    reference = {"kind": owner["kind"], "name": "vllm", "uid": owner["metadata"]["uid"]}
    child["metadata"]["ownerReferences"] = [
        {**reference, "apiVersion": owner["apiVersion"], "controller": True}
    ]
    await scene.bench.cluster.create(DEPLOYMENTS, child, scene.namespace)
    await eventually(scene.bench.pods)
    locks = {**things.lock(kind), "deployments.apps/vllm-predictor": ""}

    async def named() -> bool:
        message = await scene.condition("stop", "Verified", "True")
        words = f"; a release would start Deployment {scene.namespace}/vllm-predictor (below)"
        return message.startswith("no pod left, ") and words in message

    async with scene.manager(verify_interval=0.5):
        await scene.stopped(locks=locks, restorePolicy=TERMS)
        await eventually(named)
