"""The manager under its own account, with the chart's rights and bounded by admission: nothing is refused."""

import pytest

from killswitch.core.kinds import TABLE
from killswitch.core.resources import DEPLOYMENTS, PODS, SERVICES, SHUTDOWNS, Resource
from killswitch.core.undoing import cut_value
from killswitch.ports import Json
from tests.cluster.control_plane import ControlPlane, User
from tests.manager import things
from tests.manager.harness import Scene
from tests.manager.test_fighters import (
    ALL,
    APPLICATIONS,
    FIGHTERS,
    KUSTOMIZATIONS,
    SCALED,
    fighters,
    keda,
)
from tests.manager.test_restore_kinds import HPAS, TERMS, let_go, record

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def served(kernel: ControlPlane) -> None:
    """The API server serves them."""
    things.install(kernel)


async def test_it_quiets_and_restores_every_sort_of_target(scene: Scene, account: User) -> None:
    """A count, fields of each form, a pod of its own, traffic, autoscalers and GitOps."""
    place, cluster = scene.namespace, scene.bench.cluster
    await scene.bench.deployment("vllm", 2)
    marks = {
        "labels": {
            "kustomize.toolkit.fluxcd.io/name": "models",
            "kustomize.toolkit.fluxcd.io/namespace": place,
            "helm.toolkit.fluxcd.io/name": "release",
            "helm.toolkit.fluxcd.io/namespace": place,
        },
        "annotations": {"argocd.argoproj.io/tracking-id": f"app-{place}:x"},
    }
    await cluster.patch(DEPLOYMENTS, "vllm", {"metadata": marks}, place)
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm"}
    scaling = {"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 8}
    await cluster.create(HPAS, {"metadata": {"name": "vllm"}, "spec": scaling}, place)
    service = {"selector": {"app": "vllm"}, "ports": [{"port": 80}]}
    await cluster.create(SERVICES, {"metadata": {"name": "vllm"}, "spec": service}, place)
    lone = {"containers": [{"name": "c", "image": "i"}]}
    await cluster.create(PODS, {"metadata": {"name": "lone"}, "spec": lone}, place)
    await keda(scene)
    automated = {"syncPolicy": {"automated": {"selfHeal": True}}}
    gitops: list[tuple[Resource, str, Json]] = [
        (APPLICATIONS, f"app-{place}", automated),
        (KUSTOMIZATIONS, "models", {}),
        (FIGHTERS["HelmRelease"], "release", {}),
    ]
    for resource, name, spec in gitops:
        await things.create(scene, resource, {"metadata": {"name": name}, "spec": spec})
    kinds = {
        "Job": "train",
        "DaemonSet": "agent",
        "InferenceService": "llm",
        "Model.mlops.seldon.io": "model",
        "Server.mlops.seldon.io": "server",
    }
    before = {}
    locks = {"deployments.apps/vllm": "", "pods/lone": ""}
    for kind, name in kinds.items():
        before[kind] = await things.make(scene, TABLE[kind], name)
        locks |= things.lock(TABLE[kind], name)
    watched = [(SCALED, "vllm"), *((resource, name) for resource, name, _ in gitops)]
    quiet_before = [await things.now(scene, *each) for each in watched]
    traffic = await things.now(scene, SERVICES)
    async with scene.manager(account=account, verify_interval=0.5):
        await scene.stopped(locks=locks, restorePolicy=TERMS, quiet=ALL)
        stop = await cluster.get(SHUTDOWNS, "stop", place)
        found = await cluster.get(SERVICES, "vllm", place)
        await record(scene, stop, "cut", found, "/spec/selector/killswitch.dev~1cut")
        cut = {"spec": {"selector": {"killswitch.dev/cut": cut_value(stop["metadata"]["uid"])}}}
        await cluster.patch(SERVICES, "vllm", cut, place)
        await fighters(scene, "Resting", *["Quieted"] * 4)
        let_go(scene)
        await scene.condition("stop", "Restored", "True", "Complete")
        await fighters(scene, "Resting", *["Resumed"] * 4)
    for kind, name in kinds.items():
        assert before[kind] == await things.now(scene, TABLE[kind].resource, name)
    assert quiet_before == [await things.now(scene, *each) for each in watched]
    assert traffic == await things.now(scene, SERVICES)
    assert await scene.bench.replicas("vllm") == 2
    again = await cluster.get(PODS, "lone", place)
    assert "deletionTimestamp" not in again["metadata"]
