from typing import Any

import pytest

from killswitch.core import evidence, projections
from killswitch.core.inventory import Child, Node, Pod, Workload
from killswitch.core.kinds import TABLE
from killswitch.core.resources import REPLICASETS

STATEFUL = TABLE["StatefulSet"]

REPLICA_SET = {
    "apiVersion": "apps/v1",
    "kind": "ReplicaSet",
    "name": "vllm-6c5f",
    "uid": "rs-1",
    "controller": True,
}


def pod_body(**more: Any) -> dict[str, Any]:
    """A pod as the API server stores it."""
    body: dict[str, Any] = {
        "metadata": {"namespace": "prod", "name": "p", "uid": "u"},
        "spec": {"containers": []},
    }
    for key, value in more.items():
        body[key] = {**body.get(key, {}), **value}
    return body


def test_pod() -> None:
    """Everything that a plan needs, and nothing of the rest."""
    body = pod_body(
        metadata={
            "labels": {"app": "vllm", "pod-template-hash": "6c5f"},
            "ownerReferences": [REPLICA_SET],
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"kubernetes.io/config.mirror": "x"},
        },
        spec={
            "nodeName": "n1",
            "containers": [
                {"resources": {"limits": {"nvidia.com/gpu": "4", "cpu": "1"}}},
                {"resources": {"limits": {"amd.com/gpu": 2}}},
                {"resources": {}},
                {},
            ],
        },
    )
    expected = Pod(
        namespace="prod",
        name="p",
        uid="u",
        node="n1",
        owner="rs-1",
        labels={"app": "vllm", "pod-template-hash": "6c5f"},
        keys=("pods/p", "uid/rs-1", "replicasets.apps/vllm-6c5f", "deployments.apps/vllm"),
        gpus=6,
        terminating=True,
        mirror=True,
    )
    assert expected == projections.pod(body)


def test_a_bare_pending_pod() -> None:
    """No node, owner, labels or GPUs yet."""
    expected = Pod(
        namespace="prod", name="p", uid="u", node="", owner="", labels={}, keys=("pods/p",)
    )
    assert expected == projections.pod(pod_body())


@pytest.mark.parametrize(
    ("phase", "runs"),
    [
        ("Pending", True),
        ("Running", True),
        ("Unknown", True),
        ("Succeeded", False),
        ("Failed", False),
    ],
)
def test_finished_pods_run_nothing(phase: str, runs: bool) -> None:
    """A pod of a lost node (Unknown) may still run and counts as alive."""
    assert runs is (projections.pod(pod_body(status={"phase": phase})) is not None)


@pytest.mark.parametrize(
    ("owner", "labels", "expected"),
    [
        (REPLICA_SET, {}, ("uid/rs-1", "replicasets.apps/vllm-6c5f")),
        (
            {**REPLICA_SET, "name": "own"},
            {"pod-template-hash": "6c5f"},
            ("uid/rs-1", "replicasets.apps/own"),
        ),
        (
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "s"},
            {},
            ("uid/s", "statefulsets.apps/db"),
        ),
        (
            {"apiVersion": "v1", "kind": "ReplicationController", "name": "old", "uid": "r"},
            {},
            ("uid/r", "replicationcontrollers/old"),
        ),
    ],
)
def test_lock_keys(
    owner: dict[str, Any], labels: dict[str, str], expected: tuple[str, ...]
) -> None:
    """Its own, and by uid and name of each owner; the Deployment only where the hash proves it."""
    metadata = {"name": "p", "labels": labels, "ownerReferences": [owner]}
    assert projections.lock_keys(metadata) == ("pods/p", *expected)


def test_only_the_controller_owns() -> None:
    """Other owner references (an operator's, a node's) do not make a workload's pod."""
    stranger = {**REPLICA_SET, "uid": "x", "controller": False}
    assert projections.controller({"ownerReferences": [stranger, REPLICA_SET]}) == "rs-1"
    assert projections.controller({"ownerReferences": [stranger]}) == ""
    assert projections.controller({}) == ""


def workload_body(**spec: Any) -> dict[str, Any]:
    """A StatefulSet as the API server stores it."""
    return {
        "kind": "StatefulSet",
        "metadata": {"namespace": "prod", "name": "db", "uid": "u", "generation": 3},
        "spec": {"template": {"spec": {}}, **spec},
    }


def project(body: dict[str, Any]) -> Workload:
    """The StatefulSet as a workload."""
    found = projections.workload(STATEFUL, body)
    assert isinstance(found, Workload)
    return found


def test_workload() -> None:
    """Absent replicas stay absent: restore must bring absence back."""
    expected = Workload(STATEFUL, "prod", "db", "u", 3, {}, evidence.digest({"spec": {}}), (None,))
    assert expected == project(workload_body())
    assert project(workload_body(replicas=0)).replicas == 0


@pytest.mark.parametrize("claims", [[], [{"metadata": {"name": "data"}}]])
@pytest.mark.parametrize("policy", [None, {}, {"whenScaled": "Retain"}, {"whenScaled": "Delete"}])
def test_deletes_volumes(claims: list[Any], policy: dict[str, str] | None) -> None:
    """Only claims that exist under `whenScaled: Delete` would be lost."""
    spec = {"volumeClaimTemplates": claims}
    if policy is not None:
        spec["persistentVolumeClaimRetentionPolicy"] = policy  # type: ignore[assignment]
    expected = bool(claims) and policy == {"whenScaled": "Delete"}
    assert expected is project(workload_body(**spec)).deletes_volumes


def test_child() -> None:
    """A ReplicaSet by its Deployment's uid."""
    metadata = {"namespace": "prod", "name": "a-1", "uid": "c"}
    owner = {"uid": "d", "controller": True}
    assert Child(REPLICASETS, "prod", "a-1", "c", "") == projections.child(
        REPLICASETS, {"metadata": metadata}
    )
    owned = {"metadata": {**metadata, "ownerReferences": [owner]}}
    assert Child(REPLICASETS, "prod", "a-1", "c", "d") == projections.child(REPLICASETS, owned)


def test_node() -> None:
    """Kubernetes omits a false `unschedulable`; a control plane node is known by its label."""
    plain = {"metadata": {"name": "n", "uid": "u"}, "spec": {}}
    assert Node("n", "u", {}, unschedulable=False) == projections.node(plain)
    labels = {"node-role.kubernetes.io/control-plane": ""}
    full = {
        "metadata": {"name": "n", "uid": "u", "labels": labels},
        "spec": {"unschedulable": True},
        "status": {"capacity": {"nvidia.com/gpu": "8", "cpu": "64"}},
    }
    expected = Node("n", "u", labels, unschedulable=True, gpus=8, control_plane=True)
    assert expected == projections.node(full)
