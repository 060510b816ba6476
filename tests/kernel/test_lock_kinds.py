"""The lock on every kind that runs pods, and on what controllers of custom kinds do."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import (
    approval,
    deployment,
    deployments,
    pod,
    pods,
    shutdown,
    shutdowns,
)
from tests.kernel.test_lock import RAISES, engage, eventually_denied

pytestmark = pytest.mark.cluster
Json = dict[str, Any]
SCALE_UP = {"spec": {"replicas": 3}}
APPS = "/apis/apps/v1/namespaces/{}"
MODELS = "/apis/example.com/v1/namespaces/{}/models"


def _workload(api_version: str, kind: str, name: str, replicas: int, **spec: Any) -> Json:
    """A workload of any kind whose pods carry the label app."""
    labels = {"app": name}
    template = deployment(name)["spec"]["template"]
    selector = labels if kind == "ReplicationController" else {"matchLabels": labels}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": selector, "template": template, **spec},
    }


KINDS: dict[str, tuple[str, str, Callable[[str, int], Json]]] = {
    "StatefulSet": (
        f"{APPS}/statefulsets",
        "statefulsets.apps",
        lambda name, count: _workload("apps/v1", "StatefulSet", name, count, serviceName="s"),
    ),
    "ReplicaSet": (
        f"{APPS}/replicasets",
        "replicasets.apps",
        lambda name, count: _workload("apps/v1", "ReplicaSet", name, count),
    ),
    "ReplicationController": (
        "/api/v1/namespaces/{}/replicationcontrollers",
        "replicationcontrollers",
        lambda name, count: _workload("v1", "ReplicationController", name, count),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_with_replicas_is_held_by_its_name(
    kernel: ControlPlane, governed: str, kind: str
) -> None:
    """By `/scale`, on the main object and made anew; a neighbour of the same kind is free."""
    pattern, key, make = KINDS[kind]
    path, api = pattern.format(governed), kernel.api()
    for name in ("held", "free"):
        assert api.create(path, make(name, 0)).status == 201
    engage(kernel, governed, locks={f"{key}/held": "", f"{key}/later": ""})
    eventually_denied(lambda: api.patch(f"{path}/held/scale", SCALE_UP, dry_run=True))
    for answer in (
        api.patch(f"{path}/held/scale", SCALE_UP),
        api.patch(f"{path}/held", SCALE_UP),
        api.create(path, make("later", 1), dry_run=True),
    ):
        assert (answer.status, "held down by" in answer.message) == (403, True), answer
    assert api.create(path, make("later", 0), dry_run=True).status == 201
    assert api.patch(f"{path}/free/scale", SCALE_UP, dry_run=True).status == 200
    assert api.patch(f"{path}/free", SCALE_UP, dry_run=True).status == 200


def test_a_held_deployment_cannot_be_deleted_and_made_anew(
    kernel: ControlPlane, governed: str
) -> None:
    """The lock knows it by its name, whatever its uid becomes."""
    api = kernel.api()
    assert api.create(deployments(governed), deployment("vllm", 0)).status == 201
    engage(kernel, governed)
    path = f"{deployments(governed, 'vllm')}/scale"
    eventually_denied(lambda: api.patch(path, SCALE_UP, dry_run=True))
    assert api.delete(deployments(governed, "vllm")).status == 200
    answer = api.create(deployments(governed), deployment("vllm", 1))
    assert (answer.status, "held down by" in answer.message) == (403, True)
    assert api.create(deployments(governed), deployment("vllm", 0)).status == 201


def _job(name: str, labels: dict[str, str] | None = None, owner: str = "") -> Json:
    metadata: Json = {"name": name, "labels": labels or {}}
    if owner:
        reference = {"apiVersion": "batch/v1", "kind": "CronJob", "name": owner, "uid": "u"}
        metadata["ownerReferences"] = [reference]
    template = {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"template": template},
    }


HELD_JOBS: dict[str, tuple[Json, Json, Json]] = {
    "by its name": ({"locks": {"jobs.batch/train": ""}}, _job("train"), _job("other")),
    "by its CronJob": (
        {"locks": {"cronjobs.batch/nightly": ""}},
        _job("nightly-1", owner="nightly"),
        _job("weekly-1", owner="weekly"),
    ),
    "by its labels": (
        {"scope": {"podLabels": {"model": "m1"}}},
        _job("j", {"model": "m1"}),
        _job("j", {"model": "m2"}),
    ),
}


@pytest.mark.parametrize("way", HELD_JOBS)
def test_a_held_job_cannot_be_created(kernel: ControlPlane, governed: str, way: str) -> None:
    """Creating a Job is starting it; other Jobs pass."""
    how, held, free = HELD_JOBS[way]
    engage(kernel, governed, **how)
    path, api = f"/apis/batch/v1/namespaces/{governed}/jobs", kernel.api()
    answer = eventually_denied(lambda: api.create(path, held, dry_run=True))
    assert "held down by" in answer.message
    assert api.create(path, free, dry_run=True).status == 201


MODEL_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "models.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"kind": "Model", "plural": "models"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"replicas": {"type": "integer"}},
                            }
                        },
                    }
                },
                "subresources": {
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                    }
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def models(kernel: ControlPlane) -> ControlPlane:
    """A control plane that serves a custom kind with `/scale`."""
    api = kernel.api()
    assert api.create(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", MODEL_CRD
    ).status in {201, 409}
    deadline = time.monotonic() + 10
    while api.get(MODELS.format("default")).status != 200:
        assert time.monotonic() < deadline, "the CRD is not served"
        time.sleep(0.05)
    return kernel


def test_a_custom_kind_with_scale_is_held_like_a_built_in_one(
    models: ControlPlane, governed: str
) -> None:
    """Its `/scale` and its pods are refused, known by kind and name; a neighbour's are not."""
    api, path = models.api(), MODELS.format(governed)
    for name in ("held", "free"):
        body = {
            "apiVersion": "example.com/v1",
            "kind": "Model",
            "metadata": {"name": name},
            "spec": {"replicas": 2},
        }
        assert api.create(path, body).status == 201
    engage(models, governed, locks={"models.example.com/held": ""})
    eventually_denied(lambda: api.patch(f"{path}/held/scale", SCALE_UP, dry_run=True))
    answer = api.patch(f"{path}/held/scale", SCALE_UP)
    assert (answer.status, "held down by" in answer.message) == (403, True)
    assert api.patch(f"{path}/held/scale", {"spec": {"replicas": 0}}).status == 200
    assert api.patch(f"{path}/free/scale", SCALE_UP).status == 200
    for name, status in {"held": 403, "free": 201}.items():
        owner = {"apiVersion": "example.com/v1", "kind": "Model", "name": name, "uid": "u"}
        assert api.create(pods(governed), pod("p", owner=owner), dry_run=True).status == status


def test_the_main_object_of_a_custom_kind_is_not_held_but_its_pods_are(
    models: ControlPlane, governed: str
) -> None:
    """What a custom field means is its controller's: the lock stands where pods are made."""
    api, path = models.api(), MODELS.format(governed)
    body = {
        "apiVersion": "example.com/v1",
        "kind": "Model",
        "metadata": {"name": "held"},
        "spec": {"replicas": 0},
    }
    made = api.create(path, body)
    engage(models, governed, locks={f"uid/{made.body['metadata']['uid']}": ""})
    uid = made.body["metadata"]["uid"]
    owner = {"apiVersion": "example.com/v1", "kind": "Model", "name": "held", "uid": uid}
    eventually_denied(lambda: api.create(pods(governed), pod("p", owner=owner), dry_run=True))
    assert api.patch(f"{path}/held", SCALE_UP).status == 200


@pytest.mark.parametrize("way", ["/scale", "main object", "JSON patch", "server-side apply"])
def test_a_controllers_service_account_is_denied_every_way(
    kernel: ControlPlane, governed: str, way: str
) -> None:
    """GitOps controllers apply the main object, autoscalers write `/scale`: neither passes."""
    admin = kernel.api()
    for name in ("vllm", "other"):
        assert admin.create(deployments(governed), deployment(name, 0)).status == 201
    account = kernel.service_account(governed, "gitops")
    kernel.kubectl(
        "create", "rolebinding", "gitops", "--clusterrole=test-responder",
        f"--serviceaccount={governed}:gitops", f"--namespace={governed}",
    )  # fmt: skip
    api = kernel.api(account)
    # With nothing engaged the account may: what follows is the lock's doing.
    assert api.patch(deployments(governed, "other"), SCALE_UP).status == 200
    assert admin.create(shutdowns(governed), shutdown("stop", "admin")).status == 201
    eventually_denied(
        lambda: admin.patch(f"{deployments(governed, 'vllm')}/scale", SCALE_UP, dry_run=True)
    )
    answer = RAISES[way](api, governed)
    assert (answer.status, "held down by" in answer.message) == (403, True)


def test_a_template_changed_under_the_lock_is_rolled_out_after_the_release(
    kernel: ControlPlane, governed: str
) -> None:
    """The Deployment controller may make no ReplicaSet, which could be scaled, and makes it then."""
    api, bob = kernel.api(), kernel.api(kernel.user("bob"))
    sets = APPS.format(governed) + "/replicasets"
    path = deployments(governed, "vllm")

    def until(met: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 30
        while not met():
            assert time.monotonic() < deadline, api.get(path).body
            time.sleep(0.1)

    def condition(reason: str) -> bool:
        status = api.get(path).body.get("status") or {}
        return any(each["reason"] == reason for each in status.get("conditions") or ())

    def images() -> set[str]:
        found = api.get(sets).body["items"]
        return {each["spec"]["template"]["spec"]["containers"][0]["image"] for each in found}

    uid = api.create(deployments(governed), deployment("vllm", 0)).body["metadata"]["uid"]
    until(images)
    before = images()
    locks = {"deployments.apps/vllm": "", f"uid/{uid}": ""}
    made = api.create(shutdowns(governed), shutdown("stop", "admin", approvals=1, locks=locks))
    assert made.status == 201, made.message
    eventually_denied(lambda: api.patch(f"{path}/scale", SCALE_UP, dry_run=True))
    change = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "new"}]
    assert api.patch(path, change, kind="json").status == 200
    until(lambda: condition("FailedCreate") or condition("ReplicaSetCreateError"))
    assert images() == before
    assert bob.patch(shutdowns(governed, "stop"), approval("bob")).status == 200
    until(lambda: api.patch(f"{path}/scale", SCALE_UP).status == 200)
    until(lambda: images() == before | {"new"})
