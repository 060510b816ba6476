"""The node guard installed by real Helm: whom the API server admits, and what its account may do."""

import functools

import pytest

from tests.cluster.api import Answer, Api
from tests.cluster.control_plane import ControlPlane
from tests.e2e.chart import Helm, HelmError, Json, until
from tests.e2e.conftest import SYSTEM

pytestmark = pytest.mark.cluster

GROUP = "/apis/killswitch.dev/v1alpha1"
PODS = f"/api/v1/namespaces/{SYSTEM}/pods"
ON = {"nodeGuard": {"enabled": True}}
LEVEL = "pod-security.kubernetes.io/enforce"
ORDERS = ("shutdowns", "clustershutdowns", "freezes", "standingorders")
GPU, PLAIN, WINDOWS = "gpu-0", "plain-0", "windows-0"


@pytest.fixture(scope="module", autouse=True)
def nodes(bare: ControlPlane, helm: Helm) -> None:
    """Three nodes, one of them tainted, and the release without its guard."""
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoExecute"}
    for name, system, taints in (
        (GPU, "linux", [taint]),
        (PLAIN, "linux", []),
        (WINDOWS, "windows", []),
    ):
        labels = {"kubernetes.io/os": system, "kubernetes.io/hostname": name}
        node = {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}
        assert bare.api().create("/api/v1/nodes", node).status == 201
    helm.install(SYSTEM)
    for kind in (*ORDERS, "nodeguards"):
        # The API server answers 429 while it prepares a fresh kind.
        until(functools.partial(_served, bare, kind), f"{kind} are served")


@pytest.fixture
def privileged(bare: ControlPlane, helm: Helm) -> str:
    """The guard installed as its notes say; what they say."""
    _label(bare, "privileged")
    return helm.install(SYSTEM, ON)


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_refused_where_its_pods_would_be(bare: ControlPlane, helm: Helm, level: str) -> None:
    """Pod Security would refuse them one by one, and the release would look installed."""
    _label(bare, level)
    with pytest.raises(HelmError, match=f"{SYSTEM} admits {level} pods only.*kubectl label"):
        helm.install(SYSTEM, ON)


def test_one_on_every_linux_node(bare: ControlPlane, privileged: str) -> None:
    """Taints do not keep it away; gone when it is switched off again."""
    assert f"{LEVEL}=privileged" in privileged
    until(lambda: _guarded(bare) == [GPU, PLAIN], "a guard's pod for each Linux node")


def test_its_token_reports_its_own_node_alone(bare: ControlPlane, privileged: str) -> None:
    """With the chart's rights and admission policy; a pod's token names the pod's node."""
    guard = bare.api(bare.service_account(SYSTEM, "killswitch-node", PLAIN))
    answer = guard.create(f"{GROUP}/nodeguards", _report(PLAIN))
    assert answer.status == 201, answer.message
    assert _status(guard, PLAIN).status == 200
    other = bare.api(bare.service_account(SYSTEM, "killswitch-node", GPU))
    assert other.create(f"{GROUP}/nodeguards", _report(GPU)).status == 201
    for answer in (guard.create(f"{GROUP}/nodeguards", _report(GPU)), _status(guard, GPU)):
        assert answer.status == 403
        assert "by the guard of that node alone" in answer.message


def test_its_token_reads_orders_and_changes_none(bare: ControlPlane, privileged: str) -> None:
    """What it obeys and the pods, everywhere; nothing else, and none of it to write."""
    guard = bare.api(bare.service_account(SYSTEM, "killswitch-node", PLAIN))
    for path in (*(f"{GROUP}/{kind}" for kind in ORDERS), "/api/v1/pods"):
        assert guard.get(path).status == 200, path
    namespaced = f"{GROUP}/namespaces/default"
    for path in (
        f"{namespaced}/shutdowns",
        f"{namespaced}/freezes",
        f"{namespaced}/standingorders",
        f"{GROUP}/clustershutdowns",
        "/api/v1/namespaces/default/pods",
        f"{PODS}/any/exec",
        f"{PODS}/any/eviction",
    ):
        assert guard.create(path, {"metadata": {"name": "any"}}).status == 403, path
    for path in (f"{PODS}/any", f"{namespaced}/shutdowns/any", f"{namespaced}/freezes/any"):
        assert guard.delete(path).status == 403, path
        assert guard.patch(path, {"metadata": {"labels": {"a": "b"}}}).status == 403, path
    for path in ("/api/v1/secrets", "/api/v1/configmaps", "/api/v1/nodes", f"{GROUP}/bypasses"):
        assert guard.get(path).status == 403, path


def test_switched_off_nothing_is_left(bare: ControlPlane, helm: Helm, privileged: str) -> None:
    """Neither its pods nor its account; tokens of it are worth nothing from then on."""
    helm.install(SYSTEM)
    left = bare.kubectl("get", "daemonsets,serviceaccounts", "-n", SYSTEM, "-o", "name").stdout
    assert "killswitch-node" not in left
    assert "killswitch-node" not in bare.kubectl("get", "clusterroles", "-o", "name").stdout


def _served(plane: ControlPlane, kind: str) -> bool:
    return plane.api().get(f"{GROUP}/{kind}").status == 200


def _label(plane: ControlPlane, level: str) -> None:
    plane.kubectl("label", "namespace", SYSTEM, "--overwrite", f"{LEVEL}={level}")


def _guarded(plane: ControlPlane) -> list[str]:
    """Nodes that a guard's pod was made for, by the affinity that the controller gives it."""
    pods = plane.api().get(PODS).body["items"]
    labels = [pod["metadata"]["labels"].get("app.kubernetes.io/component") for pod in pods]
    return sorted(_node(pod) for pod, label in zip(pods, labels, strict=True) if label == "node")


def _node(pod: Json) -> str:
    affinity = pod["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (field,) = term["matchFields"]
    (name,) = field["values"]
    return str(name)


def _report(node: str) -> Json:
    kind = {"apiVersion": "killswitch.dev/v1alpha1", "kind": "NodeGuard"}
    return {**kind, "metadata": {"name": node}, "spec": {"node": node}}


def _status(api: Api, node: str) -> Answer:
    kind = {"apiVersion": "killswitch.dev/v1alpha1", "kind": "NodeGuard"}
    status = {"renewedAt": "2026-01-01T00:00:00Z", "cgroups": "v2"}
    body = {**kind, "metadata": {"name": node}, "status": status}
    path = f"{GROUP}/nodeguards/{node}/status"
    return api.patch(path, body, kind="apply", fieldManager="killswitch-node", force="true")
