"""Fighters over a real API server: found, quieted after the stop, quieted again, resumed last."""

from typing import Any

import pytest

from killswitch.core.kinds import TABLE
from killswitch.core.resources import (
    CLUSTER_SHUTDOWNS,
    DEPLOYMENTS,
    NAMESPACES,
    RECORDS,
    SHUTDOWNS,
    Resource,
)
from killswitch.ports import Json
from tests.cluster import crds
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import cluster_shutdown, cluster_shutdowns, shutdown
from tests.manager import things
from tests.manager.harness import Scene
from tests.manager.test_lifecycle import _bob_releases
from tests.manager.test_restore_kinds import HPAS, TERMS, let_go
from tests.manager.things import essence
from tests.reactor.harness import deployment, eventually, reactor

pytestmark = pytest.mark.cluster
FIGHTERS = {each.kind: each for each in crds.FIGHTERS}
SCALED = FIGHTERS["ScaledObject"]
APPLICATIONS = FIGHTERS["Application"]
KUSTOMIZATIONS = FIGHTERS["Kustomization"]
PAUSED = "autoscaling.keda.sh/paused-replicas"
ALL = ["KEDA", "ArgoCD", "Flux"]


@pytest.fixture(scope="module", autouse=True)
def served(kernel: ControlPlane) -> None:
    """The API server serves them."""
    things.install(kernel)


async def keda(scene: Scene, **annotations: str) -> Json:
    """A ScaledObject of Deployment vllm."""
    body = {
        "metadata": {"name": "vllm", "annotations": annotations},
        "spec": {"scaleTargetRef": {"name": "vllm"}, "maxReplicaCount": 9},
    }
    return await things.create(scene, SCALED, body)


def _app(scene: Scene) -> str:
    """An Application of this test alone: they are looked up in the whole cluster."""
    return f"shop-{scene.namespace}"


async def fighters(scene: Scene, *states: str, name: str = "stop") -> dict[str, Json]:
    """`status.fighters` by name, once they are all in these states."""
    told: list[Json] = []

    async def look() -> dict[str, Json] | None:
        found = await scene.bench.cluster.get(SHUTDOWNS, name, scene.namespace)
        told[:] = found.get("status", {}).get("fighters") or []
        same = sorted(each["state"] for each in told) == sorted(states)
        return {each["name"]: each for each in told} if same else None

    try:
        return await eventually(look)
    except AssertionError as error:
        raise AssertionError(f"not {states}: {told}") from error


async def stands(scene: Scene, resource: Resource, name: str, *path: str) -> Any:
    """What stands there of this object."""
    found: Any = await scene.bench.cluster.get(resource, name, scene.namespace)
    for part in path:
        found = (found or {}).get(part)
    return found


async def test_keda_is_paused_after_the_stop_and_given_back_exactly(scene: Scene) -> None:
    """Its other annotations stay; who wakes it while the stop holds meets a pause again."""
    await scene.bench.deployment("vllm", 2)
    before = essence(await keda(scene, team="a"))
    at = ("metadata", "annotations", PAUSED)
    async with scene.manager(verify_interval=0.5):
        await scene.stopped(restorePolicy=TERMS)
        told = await fighters(scene, "Quieted")
        assert await stands(scene, SCALED, "vllm", *at) == "0"
        woken: Json = {"metadata": {"annotations": {PAUSED: None}}}
        await scene.bench.cluster.patch(SCALED, "vllm", woken, scene.namespace)

        async def again() -> bool:
            return bool(await stands(scene, SCALED, "vllm", *at) == "0")

        # Its turn comes the later the more stops hold: other tests have left theirs here.
        await eventually(again, within=60.0)
        let_go(scene)
        message = await scene.condition("stop", "Restored", "True", "Complete")
        after = await fighters(scene, "Resumed")
    name = f"ScaledObject {scene.namespace}/vllm"
    assert told[name]["message"] == f"metadata.annotations.{PAUSED}: 0"
    assert list(after) == [name]
    assert message.endswith(f"; {name} resumed")
    assert before == essence(await scene.bench.cluster.get(SCALED, "vllm", scene.namespace))
    assert await scene.bench.replicas("vllm") == 2


async def test_fighters_are_quieted_though_the_pods_of_a_target_are_not_known(scene: Scene) -> None:
    """That stop is never verified, and has done all that it can: nothing is waited for."""
    model = TABLE["Model.mlops.seldon.io"]
    await things.make(scene, model)
    await scene.bench.deployment("vllm", 1)
    await keda(scene)
    locks = {**things.lock(model), "deployments.apps/vllm": ""}
    async with scene.manager(verify_interval=0.5), reactor(scene.bench):
        body = shutdown("stop", "admin", locks=locks)
        await scene.bench.cluster.create(SHUTDOWNS, body, scene.namespace)
        await scene.condition("stop", "Verified", "False", "PodsNotKnown")
        await fighters(scene, "Quieted")


async def test_one_that_was_paused_before_stays_so(scene: Scene) -> None:
    """It is not ours to give back."""
    await scene.bench.deployment("vllm", 1)
    before = essence(await keda(scene, **{PAUSED: "0"}))
    async with scene.manager(verify_interval=0.5):
        await scene.stopped(restorePolicy=TERMS)
        told = await fighters(scene, "Resting")
        let_go(scene)
        await scene.condition("stop", "Restored", "True", "Complete")
    assert next(iter(told.values()))["message"] == "paused at 0, not by this stop"
    assert before == essence(await scene.bench.cluster.get(SCALED, "vllm", scene.namespace))


async def test_what_the_stop_does_not_name_is_said_before_people_approve(scene: Scene) -> None:
    """On the condition that counts the approvals, and where the stop is verified."""
    await scene.bench.deployment("vllm", 1)
    await keda(scene)
    name = f"ScaledObject {scene.namespace}/vllm"
    async with scene.manager(verify_interval=0.5):
        await scene.stopped(restorePolicy=TERMS, quiet=[])
        told = await fighters(scene, "Unquieted")
        await eventually(lambda: _says(scene, "Released", f"; a release starts it: {name} ("))
        await eventually(lambda: _says(scene, "Verified", f"; not quieted: {name}"))
    assert told[name]["message"].endswith("; KEDA is not in spec.quiet")
    assert await stands(scene, SCALED, "vllm", "metadata", "annotations") is None


async def _says(scene: Scene, type_: str, words: str) -> bool:
    found = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
    observed = found.get("status", {}).get("conditions", ())
    return any(each["type"] == type_ and words in each["message"] for each in observed)


async def test_an_hpa_rests_and_is_left_alone(scene: Scene) -> None:
    """Its own controller runs here, and leaves a target at 0."""
    await scene.bench.deployment("vllm", 2)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm"}
    hpa = {
        "metadata": {"name": "vllm"},
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 8},
    }
    before = essence(await scene.bench.cluster.create(HPAS, hpa, scene.namespace))
    async with scene.manager(verify_interval=0.5):
        await scene.stopped(restorePolicy=TERMS)
        await fighters(scene, "Resting")
        let_go(scene)
        await scene.condition("stop", "Restored", "True", "Complete")
    assert await scene.bench.replicas("vllm") == 2
    assert before == essence(await scene.bench.cluster.get(HPAS, "vllm", scene.namespace))


async def test_gitops_is_suspended_and_resumed_after_the_autoscaler(scene: Scene) -> None:
    """An Application of today, a Kustomization, and KEDA, all quiet while it holds."""
    await scene.bench.deployment("vllm", 1)
    place = scene.namespace
    marks = {
        "labels": {
            "kustomize.toolkit.fluxcd.io/name": "models",
            "kustomize.toolkit.fluxcd.io/namespace": place,
        },
        "annotations": {"argocd.argoproj.io/tracking-id": f"{_app(scene)}:apps/Deployment:x/vllm"},
    }
    await scene.bench.cluster.patch(DEPLOYMENTS, "vllm", {"metadata": marks}, place)
    application: Json = {
        "metadata": {"name": _app(scene)},
        "spec": {"syncPolicy": {"automated": {"prune": True, "selfHeal": True}}},
    }
    kustomization: Json = {"metadata": {"name": "models"}, "spec": {"path": "./models"}}
    made = [(SCALED, "vllm", essence(await keda(scene)))]
    for resource, body in ((APPLICATIONS, application), (KUSTOMIZATIONS, kustomization)):
        stored = await things.create(scene, resource, body)
        made.append((resource, body["metadata"]["name"], essence(stored)))
    async with scene.manager(verify_interval=0.5):
        await scene.stopped(restorePolicy=TERMS, quiet=ALL)
        await fighters(scene, "Quieted", "Quieted", "Quieted")
        automated = await stands(
            scene, APPLICATIONS, _app(scene), "spec", "syncPolicy", "automated"
        )
        suspended = await stands(scene, KUSTOMIZATIONS, "models", "spec", "suspend")
        let_go(scene)
        await fighters(scene, "Resumed", "Resumed", "Resumed")
    assert automated == {"prune": True, "selfHeal": True, "enabled": False}
    assert suspended is True
    for resource, name, before in made:
        assert before == essence(await scene.bench.cluster.get(resource, name, place))


async def test_an_argo_cd_that_does_not_know_the_switch_loses_its_automation_for_a_while(
    scene: Scene, kernel: ControlPlane
) -> None:
    """Before 3.1: its schema drops `enabled`, so `automated` goes, and comes back whole."""
    crds.install(kernel, [_old_argo()])
    try:
        await scene.bench.deployment("vllm", 1)
        marks = {
            "annotations": {
                "argocd.argoproj.io/tracking-id": f"{_app(scene)}:apps/Deployment:x/vllm"
            }
        }
        await scene.bench.cluster.patch(DEPLOYMENTS, "vllm", {"metadata": marks}, scene.namespace)
        automated = {"prune": True, "selfHeal": True}
        body: Json = {
            "metadata": {"name": _app(scene)},
            "spec": {"syncPolicy": {"automated": automated}, "project": "default"},
        }

        async def forgotten() -> bool:
            switch = {"spec": {"syncPolicy": {"automated": {"enabled": True}}}}
            whole = {
                **body,
                "apiVersion": APPLICATIONS.api_version,
                "kind": "Application",
                **switch,
            }
            place = scene.namespace
            tried = await scene.bench.cluster.create(APPLICATIONS, whole, place, dry_run=True)
            return "enabled" not in tried["spec"]["syncPolicy"]["automated"]

        await eventually(forgotten)
        before = essence(await things.create(scene, APPLICATIONS, body))
        async with scene.manager(verify_interval=0.5):
            await scene.stopped(restorePolicy=TERMS, quiet=ALL)
            told = await fighters(scene, "Quieted")
            gone = await stands(scene, APPLICATIONS, _app(scene), "spec", "syncPolicy", "automated")
            let_go(scene)
            await fighters(scene, "Resumed")
        after = await scene.bench.cluster.get(APPLICATIONS, _app(scene), scene.namespace)
    finally:
        crds.install(kernel, [crds.open_definition(APPLICATIONS)])
    assert gone is None
    assert next(iter(told.values()))["message"] == "spec.syncPolicy.automated taken away"
    assert before == essence(after)


def _old_argo() -> Json:
    definition = crds.open_definition(APPLICATIONS)
    switches = {"prune": {"type": "boolean"}, "selfHeal": {"type": "boolean"}}
    automated = {"type": "object", "properties": switches}
    policy = {"type": "object", "properties": {"automated": automated}}
    fields = {"syncPolicy": policy, "project": {"type": "string"}}
    version = definition["spec"]["versions"][0]
    version["schema"]["openAPIV3Schema"]["properties"]["spec"] = {
        "type": "object",
        "properties": fields,
    }
    return definition


async def test_one_that_a_person_woke_after_the_release_is_shown_and_left(scene: Scene) -> None:
    """Paused at another count by then: that is a decision."""
    await scene.bench.deployment("vllm", 1)
    await keda(scene)
    async with scene.manager(verify_interval=0.5):
        await scene.stopped(restorePolicy=TERMS)
        await fighters(scene, "Quieted")
        scene.approve("stop", "bob", "carol")
        await scene.condition("stop", "Released", "True")
        other = {"metadata": {"annotations": {PAUSED: "3"}}}
        await scene.bench.cluster.patch(SCALED, "vllm", other, scene.namespace)
        scene.order_restore("stop")
        message = await scene.condition("stop", "Restored", "True", "Complete")
    at = ("metadata", "annotations", PAUSED)
    assert await stands(scene, SCALED, "vllm", *at) == "3"
    assert 'is "3" by somebody else, left so' in message


async def test_two_stops_give_a_fighter_back_once_both_are_restored(scene: Scene) -> None:
    """The first one recorded what was there; the later one's restore resumes it."""
    await scene.bench.deployment("vllm", 1)
    before = essence(await keda(scene))
    at = ("metadata", "annotations", PAUSED)
    async with scene.manager(verify_interval=0.5):
        await scene.stopped("stop", restorePolicy=TERMS)
        await fighters(scene, "Quieted")
        await scene.stopped("second", restorePolicy=TERMS)
        await fighters(scene, "Quieted", name="second")
        let_go(scene, "stop")
        await scene.condition("stop", "Restored", "False", "Superseded")
        held = await stands(scene, SCALED, "vllm", *at)
        let_go(scene, "second")
        await scene.condition("second", "Restored", "True", "Complete")
        await scene.condition("stop", "Restored", "True", "Complete")
    assert held == "0"
    assert before == essence(await scene.bench.cluster.get(SCALED, "vllm", scene.namespace))


async def test_a_controller_that_is_not_followed_is_named(scene: Scene) -> None:
    """It owns the target, and may start it again."""
    body: Json = {"metadata": {"name": "pool"}, "spec": {}}
    owner = await things.create(scene, FIGHTERS["InferencePool"], body)
    await scene.bench.deployment("vllm", 1)
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": "pool",
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    change: Json = {"metadata": {"ownerReferences": [reference]}}
    await scene.bench.cluster.patch(DEPLOYMENTS, "vllm", change, scene.namespace)
    async with scene.manager(verify_interval=0.5):
        await scene.stopped(restorePolicy=TERMS)
        told = await fighters(scene, "Unquieted")
    assert list(told) == ["InferencePool pool"]


async def test_a_cluster_shutdown_quiets_in_each_of_its_namespaces(scene: Scene) -> None:
    """And gives back there what it recorded there."""
    other = f"{scene.namespace}-b"
    cluster, name = scene.bench.cluster, f"both-{scene.namespace}"
    label = {"labels": {"killswitch.dev/governed": "true"}}
    await cluster.create(NAMESPACES, {"metadata": {"name": other, **label}})
    before = []
    for place in (scene.namespace, other):
        await cluster.create(DEPLOYMENTS, deployment("vllm", 0), place)
        body = {"apiVersion": SCALED.api_version, "kind": SCALED.kind, "metadata": {"name": "vllm"}}
        spec: Json = {"spec": {"scaleTargetRef": {"name": "vllm"}}}
        before.append(essence(await cluster.create(SCALED, {**body, **spec}, place)))
    held = {scene.namespace: "", other: ""}
    stop = cluster_shutdown(name, "admin", approvals=1, namespaces=held, restorePolicy=TERMS)

    async def in_state(state: str) -> bool:
        found = await cluster.get(CLUSTER_SHUTDOWNS, name)
        told = found.get("status", {}).get("fighters") or ()
        return [each["state"] for each in told] == [state] * 2

    async with scene.manager(verify_interval=0.5):
        await cluster.create(CLUSTER_SHUTDOWNS, stop)
        await eventually(lambda: in_state("Quieted"))
        records = [len((await cluster.list(RECORDS, place)).items) for place in held]
        bob = _bob_releases(scene, name)
        order = {"spec": {"restore": {"by": "bob", "reason": "fixed"}}}
        assert bob.patch(cluster_shutdowns(name), order).status == 200
        await eventually(lambda: in_state("Resumed"))
    assert records == [1, 1]
    assert before == [essence(await cluster.get(SCALED, "vllm", place)) for place in held]
