"""What protects the lock itself: namespaces, CRDs, records and nodes."""

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kernel import apply
from tests.kernel.fixtures import install
from tests.kernel.objects import (
    GROUP,
    approval,
    cluster_shutdown,
    cluster_shutdowns,
    pod,
    pods,
    shutdown,
    shutdowns,
)

pytestmark = pytest.mark.cluster
GOVERNED_OFF = {"metadata": {"labels": {"killswitch.dev/governed": None}}}
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def namespaces(name: str) -> str:
    """Path of a namespace."""
    return f"/api/v1/namespaces/{name}"


def test_a_namespace_with_something_engaged_stays(kernel: ControlPlane, governed: str) -> None:
    """It can be neither deleted nor ungoverned, until people release; its neighbours can."""
    api = kernel.api()
    body = shutdown("stop", "admin", approvals=1)
    assert api.create(shutdowns(governed), body).status == 201
    for answer in (
        api.delete(namespaces(governed)),
        api.patch(namespaces(governed), GOVERNED_OFF),
        api.patch(
            namespaces(governed), {"metadata": {"labels": {"killswitch.dev/governed": "false"}}}
        ),
    ):
        assert answer.status == 403
        assert "Shutdown stop is engaged here" in answer.message
    harmless = {"metadata": {"labels": {"colour": "blue"}}}
    assert api.patch(namespaces(governed), harmless).status == 200
    bob = kernel.api(kernel.user("bob"))
    assert bob.patch(shutdowns(governed, "stop"), approval("bob")).status == 200
    deadline = time.monotonic() + 5
    while api.patch(namespaces(governed), GOVERNED_OFF).status != 200:
        assert time.monotonic() < deadline


def test_a_namespace_that_a_cluster_shutdown_names_stays(
    kernel: ControlPlane, governed: str
) -> None:
    """Everything in it is held, and so is the namespace."""
    api = kernel.api()
    name = f"named-{governed}"
    body = cluster_shutdown(name, "admin", namespaces={governed: ""})
    assert api.create(cluster_shutdowns(), body).status == 201
    deadline = time.monotonic() + 5
    while (answer := api.create(pods(governed), pod("p"), dry_run=True)).status != 403:
        assert time.monotonic() < deadline
    assert f"held down by ClusterShutdown {name}" in answer.message
    answer = api.delete(namespaces(governed))
    assert (answer.status, f"ClusterShutdown {name}" in answer.message) == (403, True)
    assert api.create(pods("default"), pod("p"), dry_run=True).status == 201


def test_the_crds_cannot_be_deleted_past_the_lock(kernel: ControlPlane) -> None:
    """Nor switched off; other groups' CRDs are not our business."""
    api = kernel.api()
    answer = api.delete(f"{CRDS}/shutdowns.killswitch.dev")
    assert (answer.status, "hold engaged Shutdowns" in answer.message) == (403, True)
    hidden = copy.deepcopy(api.get(f"{CRDS}/shutdowns.killswitch.dev").body)
    hidden["spec"]["versions"][0]["served"] = False
    answer = api.update(f"{CRDS}/shutdowns.killswitch.dev", hidden, dry_run=True)
    assert (answer.status, "hold engaged Shutdowns" in answer.message) == (403, True)
    other = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Cluster",
            "names": {"kind": "Thing", "plural": "things"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        },
    }
    assert api.create(CRDS, other).status == 201
    assert api.delete(f"{CRDS}/things.example.com").status == 200


def _schema(crd: Any) -> Any:
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def _spec(crd: Any) -> Any:
    return _schema(crd)["properties"]["spec"]


def _status(crd: Any) -> Any:
    return _schema(crd)["properties"]["status"]


def _without_what_is_held(crd: Any) -> None:
    spec = _spec(crd)
    field = "scope" if "scope" in spec["properties"] else "namespaces"
    del spec["properties"][field]
    # A rule that speaks of a field that is gone would be refused by itself.
    rules = spec["x-kubernetes-validations"]
    spec["x-kubernetes-validations"] = [r for r in rules if field not in r["rule"]]


def _second_version(crd: Any) -> None:
    crd["spec"]["versions"].append(
        {
            "name": "v1",
            "served": True,
            "storage": False,
            "schema": {
                "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            },
        }
    )


def _stored_in_another_version(crd: Any) -> None:
    first = crd["spec"]["versions"][0]
    crd["spec"]["versions"].append(copy.deepcopy(first) | {"name": "v1"})
    first["storage"] = False


RESTORED = {
    "type": "Restored",
    "status": "True",
    "reason": "x",
    "lastTransitionTime": "2026-11-24T15:00:00Z",
}
NEVER = {"rule": "false", "message": "never"}
OPENINGS: dict[str, Callable[[Any], Any]] = {
    # Locks open, or release is had for less.
    "what is held is pruned": _without_what_is_held,
    "approvals by default": lambda crd: _spec(crd)["properties"]["approvals"].update(
        default={"nobody": {"reason": "x"}}
    ),
    "a quorum by default": lambda crd: _spec(crd)["properties"]["requiredApprovals"].update(
        default=1
    ),
    "restore by default": lambda crd: _spec(crd)["properties"]["restore"].update(
        default={"by": "x", "reason": "x"}
    ),
    "a rule less": lambda crd: _spec(crd)["x-kubernetes-validations"].pop(0),
    "no rules": lambda crd: _spec(crd).pop("x-kubernetes-validations"),
    "spec may be null": lambda crd: _spec(crd).update(nullable=True),
    "spec is not required": lambda crd: _schema(crd).pop("required"),
    "nothing in spec is required": lambda crd: _spec(crd).pop("required"),
    "unknown fields of spec are kept": lambda crd: _spec(crd).update(
        {"x-kubernetes-preserve-unknown-fields": True}
    ),
    "unknown fields are kept": lambda crd: _schema(crd).update(
        {"x-kubernetes-preserve-unknown-fields": True}
    ),
    "restored by default": lambda crd: _status(crd)["properties"]["conditions"].update(
        default=[RESTORED]
    ),
    "the quorum as replicas": lambda crd: crd["spec"]["versions"][0]["subresources"].update(
        scale={"specReplicasPath": ".spec.requiredApprovals", "statusReplicasPath": ".status.pods"}
    ),
    "status written with the object": lambda crd: crd["spec"]["versions"][0].pop("subresources"),
    "a second version with another schema": _second_version,
    # Nobody could stop any more.
    "a rule that nothing meets": lambda crd: _spec(crd)["x-kubernetes-validations"].append(NEVER),
    "a rule above that nothing meets": lambda crd: _schema(crd).update(
        {"x-kubernetes-validations": [NEVER]}
    ),
    "a required field more": lambda crd: (
        _spec(crd)["properties"].update(later={"type": "string"}),
        _spec(crd)["required"].append("later"),
    ),
    "a new field with a default": lambda crd: _spec(crd)["properties"].update(
        later={
            "type": "string",
            "maxLength": 9,
            "default": "x",
            "x-kubernetes-validations": [NEVER],
        }
    ),
    "fewer fields at once": lambda crd: _spec(crd).update(maxProperties=1),
    "names that nobody uses": lambda crd: _schema(crd)["properties"]["metadata"].update(
        properties={"name": {"type": "string", "pattern": "^zzz"}}
    ),
}


@pytest.mark.parametrize("plural", ["shutdowns", "clustershutdowns"])
@pytest.mark.parametrize("opening", OPENINGS)
def test_a_crd_cannot_be_edited_past_the_lock(
    kernel: ControlPlane, plural: str, opening: str
) -> None:
    """What a schema drops, fills in or refuses would open every lock at once, or allow no more."""
    api, path = kernel.api(), f"{CRDS}/{plural}.killswitch.dev"
    edited = copy.deepcopy(api.get(path).body)
    OPENINGS[opening](edited)
    answer = api.update(path, edited, dry_run=True)
    if answer.status == 422:  # what the API server itself refuses, since defaults break our rules
        assert "is invalid" in answer.message
    else:
        assert (answer.status, "the lock depends on these" in answer.message) == (403, True)


REFUSED_BY_ITSELF: dict[str, Callable[[Any], Any]] = {
    "unknown fields are kept as of old": lambda crd: crd["spec"].update(preserveUnknownFields=True),
    "another kind": lambda crd: crd["spec"]["names"].update(kind="Shut", listKind="ShutList"),
    "another plural": lambda crd: crd["spec"]["names"].update(plural="shuts"),
    "another scope": lambda crd: crd["spec"].update(scope="Cluster"),
    "stored in another version": _stored_in_another_version,
}


@pytest.mark.parametrize("edit", REFUSED_BY_ITSELF)
def test_a_crd_keeps_its_name_scope_and_version(kernel: ControlPlane, edit: str) -> None:
    """Most of it the API server sees to; this notices if a later one does not."""
    api, path = kernel.api(), f"{CRDS}/shutdowns.killswitch.dev"
    edited = copy.deepcopy(api.get(path).body)
    REFUSED_BY_ITSELF[edit](edited)
    assert api.update(path, edited, dry_run=True).status in {403, 422}


@pytest.mark.parametrize("plural", ["bypasses", "shutdownrecords"])
def test_records_and_bypasses_stay_immutable(kernel: ControlPlane, plural: str) -> None:
    """Without the rule in their CRDs evidence could be rewritten and a bypass prolonged."""
    api, path = kernel.api(), f"{CRDS}/{plural}.killswitch.dev"
    edited = copy.deepcopy(api.get(path).body)
    del _spec(edited)["x-kubernetes-validations"]
    answer = api.update(path, edited, dry_run=True)
    assert (answer.status, "fields and rules of spec" in answer.message) == (403, True)


def test_nobody_but_the_api_server_writes_the_status_of_a_crd(kernel: ControlPlane) -> None:
    """One that looks as if it were being deleted accepts no new Shutdown."""
    api, path = kernel.api(), f"{CRDS}/shutdowns.killswitch.dev"
    seen = api.get(path).body
    ending = {"type": "Terminating", "status": "True", "reason": "x", "message": "x"}
    conditions = [*seen["status"]["conditions"], ending]
    answer = api.patch(f"{path}/status", {"status": {"conditions": conditions}})
    assert (answer.status, "only the API server itself" in answer.message) == (403, True)


@pytest.mark.parametrize(
    "plural", ["shutdowns", "clustershutdowns", "shutdownrecords", "bypasses", "killswitchpolicies"]
)
def test_a_crd_may_grow(kernel: ControlPlane, plural: str) -> None:
    """An upgrade adds optional fields and columns and finds better words."""
    api, path = kernel.api(), f"{CRDS}/{plural}.killswitch.dev"
    edited = copy.deepcopy(api.get(path).body)
    version, spec = edited["spec"]["versions"][0], _spec(edited)
    spec["properties"]["later"] = {"type": "string", "maxLength": 10}
    next(iter(spec["properties"].values()))["description"] = "Better words."
    column = {"name": "Later", "type": "string", "jsonPath": ".spec.later"}
    version["additionalPrinterColumns"].append(column)
    answer = api.update(path, edited, dry_run=True)
    assert answer.status == 200, answer.message


def test_the_crds_may_be_applied_again(kernel: ControlPlane) -> None:
    """The same content changes nothing, and the API server goes on serving it."""
    apply(kernel)
    assert kernel.api().get(f"{GROUP}/shutdowns").status == 200


def test_the_governed_label_cannot_be_taken_off_through_a_subresource(
    kernel: ControlPlane, governed: str
) -> None:
    """`/status` accepts labels too; a plain status write passes."""
    api = kernel.api()
    (node,) = kernel.add_gpu_nodes(1, prefix="labelled")
    on = {"metadata": {"labels": {"killswitch.dev/governed": "true"}}}
    assert api.patch(f"/api/v1/nodes/{node}", on).status == 200
    for path in (f"{namespaces(governed)}/status", f"/api/v1/nodes/{node}/status"):
        answer = api.patch(path, GOVERNED_OFF)
        assert (answer.status, "through a subresource" in answer.message) == (403, True), path
        assert api.patch(path, {"status": {}}).status == 200
    assert api.patch(f"/api/v1/nodes/{node}", GOVERNED_OFF).status == 200
    # Nor put on: a policy's author could have the lock follow where nobody agreed to it.
    answer = api.patch(f"/api/v1/nodes/{node}/status", on)
    assert (answer.status, "through a subresource" in answer.message) == (403, True)


def test_a_reason_over_several_lines_still_reaches_whom_the_lock_denies(
    kernel: ControlPlane, governed: str
) -> None:
    """The API server drops a message with a line break and would show CEL instead."""
    body = shutdown("stop", "admin", reason="it leaks\nsecrets", scope={"wholeNamespace": True})
    assert kernel.api().create(shutdowns(governed), body).status == 201
    deadline = time.monotonic() + 5
    while (answer := kernel.api().create(pods(governed), pod("p"), dry_run=True)).status == 201:
        assert time.monotonic() < deadline
    assert f"held down by Shutdown {governed}/stop (it leaks secrets)" in answer.message


def test_labels_of_an_engaged_shutdown_are_added_not_changed(
    kernel: ControlPlane, governed: str
) -> None:
    """Whatever selects it, a binding or a dashboard, must not lose it while it locks."""
    body = shutdown("stop", "admin", approvals=1)
    body["metadata"]["labels"]["team"] = "safety"
    api, path = kernel.api(), shutdowns(governed, "stop")
    assert api.create(shutdowns(governed), body).status == 201
    assert api.patch(path, {"metadata": {"labels": {"seen": "yes"}}}).status == 200
    for value in ("other", None):
        answer = api.patch(path, {"metadata": {"labels": {"team": value}}})
        assert (answer.status, "may be added, not changed" in answer.message) == (403, True)


def test_records_are_written_once_and_deleted_only_with_the_verb(
    kernel: ControlPlane, governed: str
) -> None:
    """What was known and what was there outlives the wish to be rid of it."""
    path = f"{GROUP}/namespaces/{governed}/shutdownrecords"
    body = {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "ShutdownRecord",
        "metadata": {"name": "r"},
        "spec": {
            "shutdown": "s",
            "shutdownUid": "u",
            "targets": [{"kind": "Deployment", "name": "vllm", "uid": "u", "replicas": 3}],
        },
    }
    assert kernel.api().create(path, body).status == 201
    changed = {"spec": {"targets": [{"kind": "Deployment", "name": "vllm", "uid": "u"}]}}
    answer = kernel.api().patch(f"{path}/r", changed)
    assert (answer.status, "written once" in answer.message) == (422, True)
    answer = kernel.api(kernel.user("mallory")).delete(f"{path}/r")
    assert (answer.status, "needs the verb release" in answer.message) == (403, True)
    assert kernel.api(kernel.user("bob")).delete(f"{path}/r").status == 200


CORDON = {"metadata": {"labels": {"killswitch.dev/governed": "true"}}}
OUR_TAINT = {"key": "killswitch.dev/held", "value": "x", "effect": "NoExecute"}
OTHER_TAINT = {"key": "example.com/gpu", "effect": "NoSchedule"}


def nodes(name: str) -> str:
    """Path of a node."""
    return f"/api/v1/nodes/{name}"


def _cordoned(*taints: dict[str, str]) -> dict[str, Any]:
    return {**CORDON, "spec": {"unschedulable": True, "taints": list(taints)}}


@pytest.fixture
def held_node(kernel: ControlPlane) -> Iterator[str]:
    """A node that a ClusterShutdown of its name holds: cordoned and tainted by us and others."""
    (name,) = kernel.add_gpu_nodes(1, prefix=f"held-{time.monotonic_ns()}")
    api = kernel.api()
    body = cluster_shutdown(name, "admin", approvals=1, nodes={name: ""})
    assert api.create(cluster_shutdowns(), body).status == 201
    for role in ("test-releaser", "test-responder"):
        kernel.kubectl(
            "create", "clusterrolebinding", f"{name}-{role}", f"--clusterrole={role}", "--user=bob"
        )
    assert api.patch(nodes(name), _cordoned(OUR_TAINT, OTHER_TAINT)).status == 200
    uncordon = {"spec": {"unschedulable": None}}
    deadline = time.monotonic() + 5
    while api.patch(nodes(name), uncordon, dry_run=True).status != 403:
        assert time.monotonic() < deadline
    yield name
    bob = kernel.api(kernel.user("bob"))
    bob.patch(cluster_shutdowns(name), approval("bob"))
    off = {"metadata": {"labels": {"killswitch.dev/engaged": "false"}}}
    assert bob.patch(cluster_shutdowns(name), off).status == 200
    bindings = (f"{name}-{role}" for role in ("test-releaser", "test-responder"))
    kernel.kubectl("delete", "clusterrolebinding", *bindings)


OPENED: dict[str, dict[str, Any]] = {
    "uncordoned": {"spec": {"unschedulable": None}},
    "uncordoned by false": {"spec": {"unschedulable": False}},
    "without the governed label": GOVERNED_OFF,
    "without our taint": {"spec": {"taints": [OTHER_TAINT]}},
    "with our taint made gentler": {
        "spec": {"taints": [{**OUR_TAINT, "effect": "PreferNoSchedule"}]}
    },
    "without taints": {"spec": {"taints": None}},
}


@pytest.mark.parametrize("change", OPENED)
def test_a_held_node_cannot_be(kernel: ControlPlane, held_node: str, change: str) -> None:
    """Not by cluster-admin; the same passes after release."""
    api = kernel.api()
    answer = api.patch(nodes(held_node), OPENED[change])
    assert answer.status == 403
    assert f"held down by ClusterShutdown {held_node}" in answer.message
    bob = kernel.api(kernel.user("bob"))
    assert bob.patch(cluster_shutdowns(held_node), approval("bob")).status == 200
    deadline = time.monotonic() + 5
    while api.patch(nodes(held_node), OPENED[change]).status != 200:
        assert time.monotonic() < deadline


def test_a_held_node_may_be_changed_otherwise(kernel: ControlPlane, held_node: str) -> None:
    """Other people's labels and taints, more of ours, and status are not the lock's business."""
    api = kernel.api()
    more = {**OUR_TAINT, "key": "killswitch.dev/more"}
    for change in (
        {"metadata": {"labels": {"colour": "blue"}}},
        {"spec": {"taints": [OUR_TAINT]}},
        {"spec": {"taints": [{**OUR_TAINT, "value": "y"}, more]}},
    ):
        assert api.patch(nodes(held_node), change).status == 200
    assert api.patch(f"{nodes(held_node)}/status", {"status": {}}).status == 200


def test_a_node_that_nobody_holds_is_free(kernel: ControlPlane, held_node: str) -> None:
    """Cordoned, labelled and tainted alike, but not named by anything engaged."""
    (free,) = kernel.add_gpu_nodes(1, prefix=f"free-{held_node}")
    api = kernel.api()
    assert api.patch(nodes(free), _cordoned(OUR_TAINT)).status == 200
    assert api.patch(nodes(free), {"spec": {"taints": None, "unschedulable": None}}).status == 200
    assert api.delete(nodes(free)).status == 200


def test_a_held_node_is_not_deleted_until_release(kernel: ControlPlane, held_node: str) -> None:
    """Its kubelet would register it again, uncordoned; as one of a collection neither."""
    api = kernel.api()
    by_name = f"/api/v1/nodes?fieldSelector=metadata.name%3D{held_node}"
    for path in (nodes(held_node), by_name):
        answer = api.delete(path)
        assert answer.status == 403
        assert f"held down by ClusterShutdown {held_node}" in answer.message
    bob = kernel.api(kernel.user("bob"))
    assert bob.patch(cluster_shutdowns(held_node), approval("bob")).status == 200
    deadline = time.monotonic() + 5
    while api.delete(nodes(held_node)).status != 200:
        assert time.monotonic() < deadline


def test_a_held_node_that_was_not_cordoned_yet_may_register_again(
    kernel: ControlPlane,
) -> None:
    """The limit of the node lock: before the cordon sets the governed label nothing matches."""
    (name,) = kernel.add_gpu_nodes(1, prefix=f"early-{time.monotonic_ns()}")
    api = kernel.api()
    body = cluster_shutdown(name, "admin", nodes={name: ""})
    assert api.create(cluster_shutdowns(), body).status == 201
    assert api.delete(nodes(name)).status == 200
    assert kernel.add_gpu_nodes(1, prefix=name.removesuffix("-0")) == [name]
    assert "unschedulable" not in api.get(nodes(name)).body["spec"]
    assert api.patch(nodes(name), _cordoned()).status == 200


def test_a_restart_of_the_api_server_keeps_the_lock_and_leaves_the_rest_alone() -> None:
    """Engaged before, denying after; namespaces that are not governed never notice."""
    with ControlPlane(kwok=False, scheduler=False) as own:
        install(own)
        api = own.api()
        for name, labels in {"held": {"killswitch.dev/governed": "true"}, "wild": {}}.items():
            body = {"metadata": {"name": name, "labels": labels}}
            assert api.create("/api/v1/namespaces", body).status == 201
        everything = shutdown("stop", "admin", scope={"wholeNamespace": True})
        assert api.create(shutdowns("held"), everything).status == 201
        for place in ("held", "wild"):  # service accounts must be there before pods can be
            path = f"/api/v1/namespaces/{place}/serviceaccounts/default"
            deadline = time.monotonic() + 10
            while api.get(path).status != 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        own.restart_api_server()
        assert api.create(pods("wild"), pod("p"), dry_run=True).status == 201
        deadline = time.monotonic() + 60
        while True:
            answer = api.create(pods("held"), pod("p"), dry_run=True)
            # Until the CRD is found again everything that matches is denied, as 422 and without
            # the lock's words ("failed to find resource referenced by paramKind"): never allowed.
            assert answer.status in {403, 422}, answer
            if "held down by" in answer.message:
                break
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert answer.status == 403
        assert api.create(pods("wild"), pod("p"), dry_run=True).status == 201
