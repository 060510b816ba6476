"""Reports of node guards and standing orders: who writes them."""

from typing import Any

import pytest
import yaml

from tests.cluster.api import Answer, Api
from tests.cluster.control_plane import ControlPlane
from tests.kernel.guards import guard, report
from tests.kernel.objects import GROUP

pytestmark = pytest.mark.cluster
GUARDS = f"{GROUP}/nodeguards"


def node_guard(name: str) -> dict[str, Any]:
    """The object that a guard makes of itself."""
    return {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "NodeGuard",
        "metadata": {"name": name},
        "spec": {"node": name},
    }


def tell(api: Api, node: str) -> Answer:
    """Apply a report of this node."""
    path = f"{GUARDS}/{node}/status"
    return api.patch(path, report(node), kind="apply", fieldManager="killswitch-node", force="true")


@pytest.fixture
def nodes(kernel: ControlPlane, namespace: str) -> tuple[str, str]:
    """Two nodes of this test alone."""
    names = f"{namespace}-a", f"{namespace}-b"
    for name in names:
        body = {"metadata": {"name": name, "labels": {"type": "kwok"}}}
        assert kernel.api().create("/api/v1/nodes", body).status == 201
    return names


def test_a_guard_writes_its_own_nodes_report(kernel: ControlPlane, nodes: tuple[str, str]) -> None:
    """Its token names the node; another node's report is not its to write."""
    mine, other = nodes
    api = kernel.api(guard(kernel, mine))
    assert api.create(GUARDS, node_guard(mine)).status == 201
    answer = tell(api, mine)
    assert answer.status == 200, answer.message
    assert "by the guard of that node alone" in api.create(GUARDS, node_guard(other)).message
    assert kernel.api(guard(kernel, other)).create(GUARDS, node_guard(other)).status == 201
    answer = tell(api, other)
    assert "by the guard of that node alone" in answer.message


def test_nobody_else_writes_a_report(kernel: ControlPlane, nodes: tuple[str, str]) -> None:
    """Not even the administrator, nor the guards' account with a token of no node."""
    mine, _ = nodes
    guard(kernel, mine)
    unbound = kernel.service_account("killswitch-system", "killswitch-node")
    for user in (kernel.admin, unbound):
        answer = kernel.api(user).create(GUARDS, node_guard(mine))
        assert (answer.status, "by the guard of that node alone" in answer.message) == (403, True)


def test_a_report_is_named_as_its_node(kernel: ControlPlane, nodes: tuple[str, str]) -> None:
    """The name is what admission compares, so the field cannot say another."""
    mine, other = nodes
    body = {**node_guard(mine), "spec": {"node": other}}
    answer = kernel.api(guard(kernel, mine)).create(GUARDS, body)
    assert "a NodeGuard is named as its node" in answer.message


def test_a_stolen_guard_token_is_worth_little(
    kernel: ControlPlane, nodes: tuple[str, str], governed: str
) -> None:
    """It reads what guards read, and acts on nothing of the API."""
    api = kernel.api(guard(kernel, nodes[0]))
    assert api.get("/api/v1/pods").status == 200
    for path in (
        "/api/v1/secrets",
        "/api/v1/nodes",
        "/api/v1/configmaps",
        "/apis/apps/v1/deployments",
        f"{GROUP}/killswitchpolicies",
    ):
        assert api.get(path).status == 403
    assert api.create(f"{GROUP}/namespaces/{governed}/shutdowns", {}).status == 403
    assert api.create(f"{GROUP}/namespaces/{governed}/freezes", {}).status == 403
    assert api.delete(f"/api/v1/namespaces/{governed}/pods/p").status == 403


def order(name: str, **change: Any) -> dict[str, Any]:
    """A standing order over a whole namespace."""
    policy = {"kind": "KillSwitchPolicy", "name": name, "uid": "u"}
    scope = {"wholeNamespace": True}
    spec = {"policy": policy, "onIsolation": "Kill", "after": "1m", "scope": scope, **change}
    return {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "StandingOrder",
        "metadata": {"name": name},
        "spec": spec,
    }


def test_standing_orders_are_the_managers(kernel: ControlPlane, governed: str) -> None:
    """A person who may edit everything else would kill by pulling a cable."""
    path = f"{GROUP}/namespaces/{governed}/standingorders"
    answer = kernel.api().create(path, order("p"))
    assert "StandingOrders are written by the manager alone" in answer.message
    manager = kernel.service_account("killswitch-system", "killswitch-manager")
    kernel.kubectl(
        "-n", governed, "create", "rolebinding", "orders", "--clusterrole=cluster-admin",
        "--serviceaccount=killswitch-system:killswitch-manager",
    )  # fmt: skip
    api = kernel.api(manager)
    assert api.create(path, order("p")).status == 201
    for body, words in (
        (order("q", after="29s"), "after is at least 30s"),
        (order("q", scope=None), "needs locks, a scope, or both"),
    ):
        assert words in api.create(path, body).message
    mallory = kernel.api(kernel.user("mallory"))
    assert "needs the verb bypass" in mallory.delete(f"{path}/p").message
    assert api.delete(f"{path}/p").status == 200


def mirror(name: str, node: str, uid: str) -> dict[str, Any]:
    """A pod that says it stands for a static one, as kubelets make them."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid, "controller": True}
    return {
        "metadata": {
            "name": name,
            "annotations": {"kubernetes.io/config.mirror": "0" * 32},
            "ownerReferences": [owner],
        },
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "example.com/c"}]},
    }


def test_only_kubelets_make_mirror_pods(
    kernel: ControlPlane, nodes: tuple[str, str], namespace: str
) -> None:
    """Or a user could have another's static pod killed by a stop of his own namespace."""
    node = nodes[0]
    uid = kernel.api().get(f"/api/v1/nodes/{node}").body["metadata"]["uid"]
    claim = yaml.safe_dump(
        {"apiVersion": "v1", "kind": "Pod", **mirror("claim", node, uid)}, sort_keys=False
    )
    create = ("create", "--dry-run=server", "-n", namespace, "-f", "-")
    refused = kernel.kubectl(*create, stdin=claim, check=False)
    assert "kubernetes.io/config.mirror is for kubelets" in refused.stderr
    kernel.kubectl(*create, f"--as=system:node:{node}", "--as-group=system:masters", stdin=claim)
    elsewhere = [each if each != namespace else "kube-system" for each in create]
    kernel.kubectl(*elsewhere, stdin=claim)


def test_no_pod_becomes_a_mirror_later(
    kernel: ControlPlane, nodes: tuple[str, str], namespace: str
) -> None:
    """The API server itself sees to that."""
    body = mirror("plain", nodes[0], "none")
    del body["metadata"]["annotations"], body["metadata"]["ownerReferences"]
    path = f"/api/v1/namespaces/{namespace}/pods"
    assert kernel.api().create(path, body).status == 201
    later = {"metadata": {"annotations": {"kubernetes.io/config.mirror": "0" * 32}}}
    answer = kernel.api().patch(f"{path}/plain", later)
    assert (answer.status, "mirror pod annotation" in answer.message) == (422, True)
