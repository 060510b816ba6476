"""The bounds of the schema against the API server's own: CEL's budget and etcd's size."""

import json
import time

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.kernel.largest import KEYS, SIZES, locks
from tests.kernel.objects import (
    Json,
    approval,
    cluster_shutdown,
    cluster_shutdowns,
    deployment,
    deployments,
    shutdown,
    shutdowns,
)

pytestmark = pytest.mark.cluster
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
ETCD_BYTES = 1_572_864
# 16 conditions of 4 kB, 20 leftovers, 8 approvals and the stages, each as long as they may be.
STATUS_BYTES = 100_000


def test_the_api_server_accepts_every_rule_with_its_bounds(kernel: ControlPlane) -> None:
    """Each CRD is established, and type checking finds nothing to say of any policy."""
    crds = kernel.api().get(CRDS).body["items"]
    ours = [crd for crd in crds if crd["spec"]["group"] == "killswitch.dev"]
    established = [
        crd["spec"]["names"]["kind"]
        for crd in ours
        if {"Established", "NamesAccepted"}
        == {c["type"] for c in crd["status"]["conditions"] if c["status"] == "True"}
    ]
    assert len(established) == len(ours) == 9

    def policies() -> list[Json]:
        return list(kernel.api().get(POLICIES).body["items"])

    deadline = time.monotonic() + 60
    while not all(each.get("status", {}).get("observedGeneration") for each in policies()):
        assert time.monotonic() < deadline, "the controller manager did not check every policy"
        time.sleep(0.2)
    warnings = {
        each["metadata"]["name"]: found
        for each in policies()
        if (found := each["status"]["typeChecking"].get("expressionWarnings"))
    }
    assert warnings == {}


@pytest.mark.parametrize("size", SIZES)
def test_the_largest_shutdown_is_accepted_holds_and_is_released(
    kernel: ControlPlane, governed: str, size: str
) -> None:
    """With the most keys, and room left in etcd for its status; its last key locks like any."""
    api = kernel.api()
    held = locks(*SIZES[size])
    # The last key names a real Deployment.
    del held[max(held)]
    body = shutdown("big", "admin", approvals=1, locks={**held, "deployments.apps/vllm": ""})
    made = api.create(shutdowns(governed), body)
    assert (made.status, len(made.body["spec"]["locks"])) == (201, KEYS), made.message
    assert len(json.dumps(made.body, separators=(",", ":"))) < ETCD_BYTES - STATUS_BYTES
    assert api.create(deployments(governed), deployment("vllm", 0)).status == 201
    path = f"{deployments(governed, 'vllm')}/scale"
    deadline = time.monotonic() + 5
    while api.patch(path, {"spec": {"replicas": 1}}, dry_run=True).status != 403:
        assert time.monotonic() < deadline
    bob = kernel.api(kernel.user("bob"))
    answer = bob.patch(shutdowns(governed, "big"), approval("bob"))
    assert answer.status == 200, answer.message
    off = {"metadata": {"labels": {"killswitch.dev/engaged": "false"}}}
    assert bob.patch(shutdowns(governed, "big"), off).status == 200


def test_one_key_more_is_refused(kernel: ControlPlane, governed: str) -> None:
    """Larger stops are several Shutdowns, or a scope."""
    body = shutdown("big", "admin", locks={**locks(40, 0), "one/more": ""})
    answer = kernel.api().create(shutdowns(governed), body)
    assert (answer.status, "must have at most 4000 items" in answer.message) == (422, True)


def test_the_largest_cluster_shutdown_of_nodes_is_accepted(kernel: ControlPlane) -> None:
    """With names as long as names get."""
    names = {f"n{number:0252}": "" for number in range(KEYS)}
    body = cluster_shutdown("big-nodes", "admin", nodes=names)
    answer = kernel.api().create(cluster_shutdowns(), body, dry_run=True)
    assert answer.status == 201, answer.message
