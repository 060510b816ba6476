"""What goes wrong with one kind is noted and told; the others are stopped as ever."""

import contextlib
import copy
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from killswitch.core.kinds import TABLE, Kind
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.resources import (
    CLUSTER_POLICIES,
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    SHUTDOWNS,
    Resource,
)
from killswitch.ports import Json
from killswitch.reactor import restless
from tests.cluster import crds
from tests.cluster.control_plane import ControlPlane
from tests.reactor.harness import (
    Bench,
    dave,
    deployment,
    eventually,
    policy,
    reactor,
    rights,
)
from tests.reactor.test_kinds import finished, rests, running

pytestmark = pytest.mark.cluster
VLLM = {"kind": "Deployment", "name": "vllm"}
_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False
)


@contextlib.asynccontextmanager
async def installed(
    kernel: ControlPlane, setting: Bench, *definitions: Json
) -> AsyncIterator[None]:
    """These kinds are served for a while."""
    crds.install(kernel, definitions)
    try:
        yield
    finally:
        for each in definitions:
            # One whose conversion fails could not end its objects, and so never goes.
            body = {"spec": {"conversion": {"strategy": "None", "webhook": None}}}
            name = each["metadata"]["name"]
            await setting.cluster.patch(_DEFINITIONS, name, body)
            await setting.cluster.delete(_DEFINITIONS, name)


@contextlib.asynccontextmanager
async def unconvertible(kernel: ControlPlane, setting: Bench, kind: Kind) -> AsyncIterator[None]:
    """There is one `model` of this kind, and the conversion webhook that it needs is down."""
    whole, broken = _with_conversion(kind)
    crds.install(kernel, [whole])
    try:
        resource = replace(kind.resource, version="v1alpha1")
        stored = object_of(kind) | {"apiVersion": resource.api_version}
        await setting.cluster.create(resource, stored, setting.namespace)
        crds.install(kernel, [broken])
        yield
    finally:
        crds.install(kernel, [whole])
        name = whole["metadata"]["name"]
        body = {"spec": {"conversion": {"strategy": "None", "webhook": None}}}
        await setting.cluster.patch(_DEFINITIONS, name, body)
        await setting.cluster.delete(_DEFINITIONS, name)

        async def gone() -> bool:
            found = (await setting.cluster.list(_DEFINITIONS)).items
            return all(each["metadata"]["name"] != name for each in found)

        await eventually(gone)
        crds.install(kernel, [crds.definition(kind)])


def _with_conversion(kind: Kind) -> tuple[Json, Json]:
    """Its CRD in two versions; and with a webhook between them that is down."""
    whole = crds.definition(kind)
    new = whole["spec"]["versions"][0]
    old = copy.deepcopy(new) | {"name": "v1alpha1"}
    whole["spec"]["versions"] = [old, new | {"storage": False}]
    broken = copy.deepcopy(whole)
    broken["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1:9/convert"},
        },
    }
    return whole, broken


def object_of(kind: Kind, name: str = "model", **spec: object) -> Json:
    """One of this kind."""
    resource = kind.resource
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def target(kind: Kind, name: str = "model") -> Json:
    """As a policy names it."""
    return {"kind": kind.resource.kind, "group": kind.resource.group, "name": name}


def _conditions(found: Json) -> list[Json]:
    conditions: list[Json] = found.get("status", {}).get("conditions", [])
    return conditions


async def stopped(setting: Bench, words: str, name: str = "runaway-1") -> Json:
    """The Shutdown once it is Stopped with these words."""

    async def look() -> Json | None:
        found = await setting.cluster.get(SHUTDOWNS, name, setting.namespace)
        conditions = found.get("status", {}).get("conditions", ())
        told = [c for c in conditions if c["type"] == "Stopped" and words in c["message"]]
        return found if told and told[0]["status"] == "True" else None

    return await eventually(look)


async def test_a_kind_older_than_its_stop_field_is_named_with_the_version_it_needs(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Its API server drops the field without a word; the lock and the deletion hold all the same."""
    service = TABLE["RayService"]
    await setting.deployment("vllm", 1)
    async with installed(kernel, setting, crds.definition(service, older=True)):
        await setting.cluster.create(service.resource, object_of(service), setting.namespace)
        await setting.policy("runaway", targets=[VLLM, target(service)])
        async with reactor(setting) as found:
            await _seen(found.engine.view.inventory, service)
            setting.dial.turn("runaway", 500)
            shutdown = await stopped(setting, "needs KubeRay 1.7.0")
        assert await setting.replicas("vllm") == 0
        assert "scaled" not in shutdown["status"]["stages"]


async def _seen(inventory: object, kind: Kind) -> None:
    async def look() -> bool:
        return kind.resource.key in inventory.seen  # type: ignore[attr-defined]

    await eventually(look)


async def test_a_kind_without_a_status_is_stopped_like_any_other(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Nothing of it is read but what the stop itself writes."""
    jobset = TABLE["JobSet"]
    async with installed(kernel, setting, crds.definition(jobset, status=False)):
        await setting.cluster.create(jobset.resource, object_of(jobset), setting.namespace)
        await setting.policy("runaway", targets=[target(jobset)])
        async with reactor(setting):
            setting.dial.turn("runaway", 500)
            await finished(setting)
        assert await rests(setting, jobset, "model")
        (record,) = await setting.recorded()
        assert record["settings"] == [{"field": "/spec/suspend"}]


async def test_a_conversion_webhook_that_is_down_hinders_no_other_kind(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Its objects can neither be read nor written: named, and tried again until they can."""
    cluster = TABLE["RayCluster"]
    definition, broken = _with_conversion(cluster)
    await setting.deployment("vllm", 1)
    async with installed(kernel, setting, definition):
        stored = object_of(cluster) | {"apiVersion": f"{cluster.resource.group}/v1alpha1"}
        resource = Resource(cluster.resource.group, "v1alpha1", "rayclusters", "RayCluster")
        await setting.cluster.create(resource, stored, setting.namespace)
        crds.install(kernel, [broken])
        await setting.policy("runaway", targets=[VLLM, target(cluster)])
        async with reactor(setting) as found:
            setting.dial.turn("runaway", 500)
            await setting.stopped("runaway-1")
            assert await setting.replicas("vllm") == 0

            async def told() -> bool:
                return "webhook" in found.engine.view.inventory.unseen.get("RayCluster", "")

            await eventually(told)
            crds.install(kernel, [definition])
            await finished(setting, "runaway-1-more-1")
        assert await rests(setting, cluster, "model")


async def test_pods_behind_a_kind_that_cannot_be_seen_go_once_it_can(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Until then it is not said that none is left: they may be those of the target."""
    service, cluster = TABLE["RayService"], TABLE["RayCluster"]
    definition = crds.definition(cluster)
    new = definition["spec"]["versions"][0]
    old = copy.deepcopy(new) | {"name": "v1alpha1"}
    definition["spec"]["versions"] = [old, new | {"storage": False}]
    broken = copy.deepcopy(definition)
    broken["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1:9/convert"},
        },
    }
    async with installed(kernel, setting, definition, crds.definition(service)):
        top = await setting.cluster.create(service.resource, object_of(service), setting.namespace)
        stored = _owned(object_of(cluster, "model-1"), top)
        stored["apiVersion"] = f"{cluster.resource.group}/v1alpha1"
        resource = Resource(cluster.resource.group, "v1alpha1", "rayclusters", "RayCluster")
        between = await setting.cluster.create(resource, stored, setting.namespace)
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "head"}}
        body["spec"] = deployment("head", 1)["spec"]["template"]["spec"]
        await setting.cluster.create(PODS, _owned(body, between), setting.namespace)
        crds.install(kernel, [broken])
        await setting.policy("runaway", targets=[target(service)])
        async with reactor(setting) as found:
            await _seen(found.engine.view.inventory, service)
            setting.dial.turn("runaway", 500)

            async def not_known() -> bool:
                told = _conditions(
                    await setting.cluster.get(SHUTDOWNS, "runaway-1", setting.namespace)
                )
                return any(
                    each["type"] == "Stopped"
                    and (each["status"], each["reason"]) == ("False", "PodsNotKnown")
                    and "let killswitch list RayCluster (" in each["message"]
                    for each in told
                )

            await eventually(not_known)
            assert len(await setting.pods()) == 1
            crds.install(kernel, [definition])
            await finished(setting)
        assert await setting.pods() == []


async def test_pods_that_bear_the_labels_of_a_tie_later_are_stopped_by_a_further_shutdown(
    kernel: ControlPlane, setting: Bench
) -> None:
    """The first one keeps to what it names, though the verification says that pods are left."""
    adapter = TABLE["DynamoGraphDeploymentScalingAdapter"]
    labels = dict(zip(dict(adapter.tie.labels), ("g", "W"), strict=True))  # type: ignore[union-attr]
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "w-0", "labels": labels}}
    body["spec"] = deployment("w-0", 1)["spec"]["template"]["spec"]
    async with installed(kernel, setting, crds.definition(adapter)):
        reference = {"name": "g", "serviceName": "w"}
        await setting.cluster.create(
            adapter.resource, object_of(adapter, replicas=1, dgdRef=reference), setting.namespace
        )
        await setting.cluster.create(PODS, body, setting.namespace)
        await setting.policy("runaway", targets=[target(adapter)])
        async with reactor(setting) as found:
            await _seen(found.engine.view.inventory, adapter)
            setting.dial.turn("runaway", 500)
            told = await finished(setting)
            (stopped,) = (each for each in _conditions(told) if each["type"] == "Stopped")
            assert (stopped["status"], stopped["reason"]) == ("False", "PodsNotKnown")
            assert len(await setting.pods()) == 1
            right = {"metadata": {"labels": {[*labels][1]: "w"}}}
            await setting.cluster.patch(PODS, "w-0", right, setting.namespace)
            verified = {
                "type": "Verified",
                "status": "False",
                "reason": "DeadlineExceeded",
                "message": "left",
                "lastTransitionTime": told["metadata"]["creationTimestamp"],
            }
            status = {"conditions": [stopped, verified], "remaining": 1}
            await setting.cluster.patch(
                SHUTDOWNS, "runaway-1", {"status": status}, setting.namespace, subresource="status"
            )

            async def gone() -> bool:
                return await setting.pods() == []

            await eventually(gone)
            (further,) = {each["metadata"]["name"] for each in await setting.shutdowns()} - {
                "runaway-1"
            }
            await setting.stopped(further)
        again = await setting.cluster.get(SHUTDOWNS, "runaway-1", setting.namespace)
        stages = told["status"]["stages"]
        assert again["status"]["stages"].items() >= {
            (name, stages[name]) for name in ("decided", "locked")
        }


def _owned(body: Json, owner: Json) -> Json:
    """The same, controlled by this one."""
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": True}
    metadata = owner["metadata"]
    reference |= {"name": metadata["name"], "uid": metadata["uid"]}
    body["metadata"]["ownerReferences"] = [reference]
    return body


ALL_BUT_PATCHING_JOBS = (
    '[{apiGroups: [killswitch.dev, "", apps, authentication.k8s.io], resources: ["*"], verbs: ["*"]},'
    ' {apiGroups: [batch], resources: ["*"], verbs: [get, list, watch]}]'
)


async def test_a_right_that_is_lacking_for_one_kind_hinders_no_other(
    kernel: ControlPlane, setting: Bench
) -> None:
    """The Job's pods go and stay away by the lock; that it does not rest is told."""
    await setting.deployment("vllm", 1)
    await running(setting, "Job")
    await setting.policy("runaway", targets=[VLLM, {"kind": "Job", "name": "model"}])
    async with (
        rights(kernel, "all-but-patching-jobs", ALL_BUT_PATCHING_JOBS),
        dave(kernel) as cluster,
        reactor(Bench(cluster, setting.namespace, setting.dial)) as found,
    ):
        await _seen(found.engine.view.inventory, TABLE["Job"])
        setting.dial.turn("runaway", 500)
        shutdown = await stopped(setting, "could not rest Job model")
    assert "scaled" not in shutdown["status"]["stages"]
    assert await setting.replicas("vllm") == 0
    assert await setting.pods() == []


async def test_a_finalizer_that_never_ends_is_named_and_holds_up_nothing_else(
    setting: Bench,
) -> None:
    """Its pod is left; what can come to rest does; it is stopped once somebody takes it away."""
    await setting.deployment("vllm", 1)
    await setting.deployment("other", 1)
    (pod,) = await setting.pods("vllm")
    name = pod["metadata"]["name"]
    hold = {"metadata": {"finalizers": ["example.com/never"]}}
    await setting.cluster.patch(PODS, name, hold, setting.namespace)
    await setting.policy("runaway", targets=[VLLM, {"kind": "Deployment", "name": "other"}])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)

        async def left() -> Json | None:
            found = await setting.cluster.get(SHUTDOWNS, "runaway-1", setting.namespace)
            told = [c["message"] for c in _conditions(found) if c["type"] == "Stopped"]
            return found if f"left: {name} on" in "".join(told) else None

        shutdown = await eventually(left)
        assert "scaled" in shutdown["status"]["stages"]
        assert await setting.pods("other") == []
        free: Json = {"metadata": {"finalizers": None}}
        await setting.cluster.patch(PODS, name, free, setting.namespace)
        await setting.stopped("runaway-1")


async def test_a_namespace_that_terminates_holds_up_no_other(
    kernel: ControlPlane, setting: Bench
) -> None:
    """No Shutdown can be made there any more; the policy says so and stops what it can."""
    ending = f"{setting.namespace}-ending"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ending}}
    body["metadata"]["labels"] = {GOVERNED_LABEL: "true"}  # type: ignore[index]
    await setting.cluster.create(NAMESPACES, body)
    held = deployment("vllm", 1)
    held["metadata"]["finalizers"] = ["example.com/never"]
    await setting.cluster.create(DEPLOYMENTS, held, ending)
    await setting.deployment("vllm", 1)
    await setting.cluster.delete(NAMESPACES, ending)
    name = f"runaway-{setting.namespace}"
    cluster_policy = policy(name, targets=[VLLM | {"namespaces": [ending, setting.namespace]}])
    cluster_policy |= {"kind": CLUSTER_POLICIES.kind}
    await setting.cluster.create(CLUSTER_POLICIES, cluster_policy)
    try:
        async with reactor(setting):
            setting.dial.turn(name, 500)
            await setting.stopped(f"{name}-1")
            found = await setting.with_condition(
                CLUSTER_POLICIES, name, "Inhibited", "True", "EngagementRefused"
            )
        told = next(c for c in found["status"]["conditions"] if c["type"] == "Inhibited")
        assert "being terminated" in told["message"]
    finally:
        await setting.cluster.delete(CLUSTER_POLICIES, name)
        free: Json = {"metadata": {"finalizers": None}}
        await setting.cluster.patch(DEPLOYMENTS, "vllm", free, ending)
    assert await setting.replicas("vllm") == 0


@pytest.mark.parametrize("name", ["InferenceService", "Service.serving.knative.dev"])
async def test_what_a_release_would_start_is_named(
    kernel: ControlPlane, setting: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A controller that ignores its field, or a kind without one, leaves its Deployment as it was."""
    monkeypatch.setattr(restless, "_PATIENCE", 0.0)
    monkeypatch.setattr(restless, "_TURN", 0.1)
    service = TABLE[name]
    async with installed(kernel, setting, crds.definition(service)):
        made = await setting.cluster.create(service.resource, object_of(service), setting.namespace)
        owner = {
            "apiVersion": service.resource.api_version,
            "kind": service.resource.kind,
            "name": "model",
            "uid": made["metadata"]["uid"],
            "controller": True,
        }
        child = deployment("model-predictor", 1)
        child["metadata"]["ownerReferences"] = [owner]
        await setting.cluster.create(DEPLOYMENTS, child, setting.namespace)
        await eventually(lambda: setting.pods("model-predictor"))
        await setting.policy("runaway", targets=[target(service)])
        async with reactor(setting):
            setting.dial.turn("runaway", 500)
            words = "a release would start Deployment model-predictor"
            await stopped(setting, words)
            await finished(setting)
            zero = {"spec": {"replicas": 0}}
            await setting.cluster.patch(DEPLOYMENTS, "model-predictor", zero, setting.namespace)

            async def quiet() -> bool:
                found = await setting.cluster.get(SHUTDOWNS, "runaway-1", setting.namespace)
                told = [c["message"] for c in found["status"]["conditions"]]
                return not any("a release would start" in each for each in told)

            await eventually(quiet)
            found = await setting.cluster.get(SHUTDOWNS, "runaway-1", setting.namespace)
            assert {"stopped", "scaled", "locked"} <= set(found["status"]["stages"])
    assert await setting.pods() == []
