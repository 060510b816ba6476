"""Who may write cluster policies, and engage and release what holds whole namespaces."""

from collections.abc import Iterator

import pytest

from tests.cluster.api import Answer
from tests.cluster.control_plane import NODE, ControlPlane
from tests.kernel.objects import (
    Json,
    approval,
    cluster_policies,
    cluster_policy,
    cluster_shutdown,
    cluster_shutdowns,
    pod,
    pods,
)
from tests.kernel.test_lock import eventually, eventually_denied

pytestmark = pytest.mark.cluster

# dave writes cluster policies and may stop nothing; bob and carol release; mallory only edits.
ROLES = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: cluster-author-only}
rules:
- apiGroups: [killswitch.dev]
  resources: [clusterkillswitchpolicies]
  verbs: [get, create, update, patch, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: cluster-bypasser}
rules:
- {apiGroups: [killswitch.dev], resources: [clusterkillswitchpolicies], verbs: [bypass]}
"""
BINDINGS = {
    "cluster-author-only": ("dave",),
    "cluster-bypasser": ("carol",),
    "test-responder": ("alice", "bob", "carol", "mallory", NODE),
    "test-releaser": ("bob", "carol", NODE),
}


@pytest.fixture(scope="module")
def people(kernel: ControlPlane) -> Iterator[ControlPlane]:
    """The kernel with cluster-wide rights for people, which end with this module."""
    kernel.kubectl("apply", "-f", "-", stdin=ROLES)
    for role, names in BINDINGS.items():
        users = [f"--user={name}" for name in names]
        kernel.kubectl(
            "create", "clusterrolebinding", f"people-{role}", f"--clusterrole={role}", *users
        )
    yield kernel
    kernel.kubectl("delete", "clusterrolebinding", *(f"people-{role}" for role in BINDINGS))


def create(kernel: ControlPlane, body: Json, person: str = "alice") -> Answer:
    """Create a ClusterShutdown as this person."""
    return kernel.api(kernel.user(person)).create(cluster_shutdowns(), body)


def patch(kernel: ControlPlane, name: str, change: Json, person: str) -> Answer:
    """Patch a ClusterShutdown as this person."""
    return kernel.api(kernel.user(person)).patch(cluster_shutdowns(name), change)


@pytest.fixture
def engaged(people: ControlPlane, governed: str) -> Iterator[str]:
    """A ClusterShutdown by alice over the test's namespace, named as it; two must approve.

    Released afterwards: every engaged one is looked at in every later request of the session.
    """
    body = cluster_shutdown(governed, "alice", namespaces={governed: ""})
    assert create(people, body).status == 201
    yield governed
    for person in ("bob", "carol"):
        patch(people, governed, approval(person), person)
    patch(people, governed, {"metadata": {"labels": {"killswitch.dev/engaged": "false"}}}, "bob")


def test_nobody_stops_the_cluster_in_the_name_of_a_policy(
    people: ControlPlane, governed: str
) -> None:
    """As for Shutdowns: the verb `fire`, or the reactor's name."""
    reference = {
        "kind": "ClusterKillSwitchPolicy",
        "name": "p",
        "uid": "0a1b2c3d",
        "generation": 1,
        "episode": 1,
    }
    body = cluster_shutdown("forged", "mallory", namespaces={governed: ""}, policy=reference)
    answer = create(people, body, "mallory")
    assert answer.status == 403
    assert "or get the verb fire on clustershutdowns" in answer.message


# --- ClusterKillSwitchPolicies ------------------------------------------------------------------


def test_a_cluster_author_must_have_the_right_to_stop_the_cluster(people: ControlPlane) -> None:
    """Writing one takes `create` on ClusterShutdowns, and so does every edit of its spec."""
    body = cluster_policy("cp-right", mode="Enforce")
    dave, alice = people.api(people.user("dave")), people.api(people.user("alice"))
    answer = dave.create(cluster_policies(), body)
    assert (answer.status, "dave may not stop anything here" in answer.message) == (403, True)
    assert alice.create(cluster_policies(), body).status == 201
    looser = {"spec": {"targets": [{"kind": "Namespace", "namespaces": ["decoy"]}]}}
    answer = dave.patch(cluster_policies("cp-right"), looser)
    assert (answer.status, "dave may not stop anything here" in answer.message) == (403, True)
    harmless = {"metadata": {"labels": {"colour": "blue"}}}
    assert dave.patch(cluster_policies("cp-right"), harmless).status == 200
    assert alice.patch(cluster_policies("cp-right"), looser).status == 200
    assert people.api().delete(cluster_policies("cp-right")).status == 200


def test_a_cluster_policy_cannot_name_a_protected_namespace(people: ControlPlane) -> None:
    """At creation and by a later edit, for cluster-admin too."""
    api = people.api()
    kube_system = [{"kind": "Namespace", "namespaces": ["somewhere", "kube-system"]}]
    answer = api.create(cluster_policies(), cluster_policy("cp-bad", targets=kube_system))
    assert (answer.status, "protected namespace" in answer.message) == (403, True)
    assert api.create(cluster_policies(), cluster_policy("cp-good")).status == 201
    answer = api.patch(cluster_policies("cp-good"), {"spec": {"targets": kube_system}})
    assert (answer.status, "protected namespace" in answer.message) == (403, True)
    assert api.delete(cluster_policies("cp-good")).status == 200


LEAVING: dict[str, Json] = {
    "to DryRun": {"spec": {"mode": "DryRun"}},
    "to Disabled": {"spec": {"mode": "Disabled"}},
    "by deleting it": {},
}


@pytest.mark.parametrize("case", LEAVING)
def test_a_cluster_policy_leaves_enforce_only_with_the_verb_bypass(
    people: ControlPlane, case: str
) -> None:
    """Carol has the verb, alice has not."""
    alice, carol = people.api(people.user("alice")), people.api(people.user("carol"))
    assert alice.create(cluster_policies(), cluster_policy("cp", mode="Enforce")).status == 201

    def attempt(person: str) -> Answer:
        api, path = people.api(people.user(person)), cluster_policies("cp")
        return api.patch(path, LEAVING[case]) if LEAVING[case] else api.delete(path)

    answer = attempt("alice")
    lacks = "alice lacks the verb bypass on clusterkillswitchpolicies"
    assert (answer.status, lacks in answer.message) == (403, True)
    assert attempt("carol").status == 200
    if LEAVING[case]:
        assert carol.delete(cluster_policies("cp")).status == 200


def test_a_disabled_cluster_policy_is_deleted_by_whoever_may_delete(people: ControlPlane) -> None:
    """It guards nothing any more."""
    alice = people.api(people.user("alice"))
    assert alice.create(cluster_policies(), cluster_policy("cp", mode="Disabled")).status == 201
    assert alice.delete(cluster_policies("cp")).status == 200


# --- ClusterShutdowns ---------------------------------------------------------------------------


def _born(**change: Json) -> Json:
    body = cluster_shutdown("cs-born", "alice", namespaces={"somewhere": ""})
    return {**body, "spec": {**body["spec"], **change}}


BORN_BAD: dict[str, tuple[Json, str]] = {
    "in another's name": (
        cluster_shutdown("cs-born", "bob", namespaces={"somewhere": ""}),
        "spec.requestedBy must be your own username: alice",
    ),
    "without the engaged label": (
        {**_born(), "metadata": {"name": "cs-born"}},
        "a new Shutdown is engaged",
    ),
    "approved": (_born(approvals={"bob": {"reason": "ok"}}), "a new Shutdown is engaged"),
    "with its restore": (
        _born(restore={"by": "alice", "reason": "r"}),
        "a new Shutdown is engaged",
    ),
    "over a protected namespace": (
        cluster_shutdown("cs-born", "alice", namespaces={"a": "", "kube-system": ""}),
        "protected namespace",
    ),
    "over nothing": (cluster_shutdown("cs-born", "alice"), "holds either namespaces or nodes"),
    "over namespaces and nodes": (
        cluster_shutdown("cs-born", "alice", namespaces={"a": ""}, nodes={"n": ""}),
        "holds either namespaces or nodes",
    ),
}


@pytest.mark.parametrize("case", BORN_BAD)
def test_a_cluster_shutdown_cannot_be_born(people: ControlPlane, case: str) -> None:
    """Nothing half made is ever stored."""
    body, message = BORN_BAD[case]
    answer = create(people, body)
    assert answer.status in {403, 422}
    assert message in answer.message


def test_who_may_not_create_cluster_shutdowns_cannot_stop_the_cluster(people: ControlPlane) -> None:
    """The right to stop is RBAC's ordinary `create`."""
    body = cluster_shutdown("cs-viewer", "viewer", namespaces={"somewhere": ""})
    assert create(people, body, "viewer").status == 403


REFUSED_APPROVALS = {
    "the requester": ("alice", "alice", "whoever engaged a Shutdown does not release it"),
    "for another": ("bob", "carol", "nobody approves for someone else"),
    "without the verb": ("mallory", "mallory", "mallory lacks the verb release"),
    "a node": (NODE, NODE, "approvers are people"),
}


@pytest.mark.parametrize("case", REFUSED_APPROVALS)
def test_an_approval_of_a_cluster_shutdown_is_refused(
    people: ControlPlane, engaged: str, case: str
) -> None:
    """Each for its own reason, whatever rights the approver has besides."""
    person, name, message = REFUSED_APPROVALS[case]
    answer = patch(people, engaged, approval(name), person)
    assert (answer.status, message in answer.message) == (403, True), answer.message


def test_a_service_account_cannot_approve_a_cluster_shutdown(
    people: ControlPlane, engaged: str
) -> None:
    """Not even as cluster-admin."""
    account = people.service_account(engaged, "robot")
    binding = f"robot-{engaged}"
    people.kubectl(
        "create", "clusterrolebinding", binding, "--clusterrole=cluster-admin",
        f"--serviceaccount={engaged}:robot",
    )  # fmt: skip
    change = approval(f"system:serviceaccount:{engaged}:robot")
    # The API server knows a new binding moments after it is stored.
    eventually(lambda: people.api(account).get(cluster_shutdowns(engaged)), 200)
    answer = people.api(account).patch(cluster_shutdowns(engaged), change)
    people.kubectl("delete", "clusterrolebinding", binding)
    assert (answer.status, "approvers are people" in answer.message) == (403, True)


EDITS: dict[str, Json] = {
    "a changed reason": {"reason": "never mind"},
    "a lowered quorum": {"requiredApprovals": 1},
    "another requester": {"requestedBy": "bob"},
    "another namespace": {"namespaces": {"elsewhere": ""}},
    "nodes instead": {"namespaces": None, "nodes": {"n": ""}},
}


@pytest.mark.parametrize("case", EDITS)
def test_an_engaged_cluster_shutdown_cannot_be_edited(
    people: ControlPlane, engaged: str, case: str
) -> None:
    """Not even by cluster-admin."""
    answer = people.api().patch(cluster_shutdowns(engaged), {"spec": EDITS[case]})
    assert answer.status == 422
    assert "immutable" in answer.message


def test_an_engaged_cluster_shutdown_cannot_be_deleted_or_unlabelled(
    people: ControlPlane, engaged: str
) -> None:
    """One by one, as a collection, or by the label that makes it a parameter."""
    api = people.api()
    by_name = f"?fieldSelector=metadata.name%3D{engaged}"
    for path in (cluster_shutdowns(engaged), cluster_shutdowns() + by_name):
        answer = api.delete(path)
        assert (answer.status, "cannot be deleted" in answer.message) == (403, True)
    off = {"metadata": {"labels": {"killswitch.dev/engaged": None}}}
    answer = api.patch(cluster_shutdowns(engaged), off)
    assert (answer.status, "stays until release" in answer.message) == (403, True)


def test_release_of_a_cluster_shutdown_lets_pods_be_created_again(
    people: ControlPlane, engaged: str
) -> None:
    """Held after one approval of two, free after the second; restore is asked for only then."""
    api = people.api()

    def attempt() -> Answer:
        return api.create(pods(engaged), pod("p"), dry_run=True)

    order = {"spec": {"restore": {"by": "bob", "reason": "fixed"}}}
    assert f"held down by ClusterShutdown {engaged}" in eventually_denied(attempt).message
    assert "restore comes after release" in patch(people, engaged, order, "bob").message
    assert patch(people, engaged, approval("bob"), "bob").status == 200
    assert attempt().status == 403
    assert patch(people, engaged, approval("carol"), "carol").status == 200
    eventually(attempt, 201)
    assert api.create(pods(engaged), pod("p")).status == 201
    forged = {"spec": {"restore": {"by": "carol", "reason": "fixed"}}}
    assert "is your own username" in patch(people, engaged, forged, "bob").message
    own = {"spec": {"restore": {"by": "mallory", "reason": "fixed"}}}
    assert "mallory lacks the verb restore" in patch(people, engaged, own, "mallory").message
    assert patch(people, engaged, order, "bob").status == 200


def test_a_released_cluster_shutdown_is_deleted_only_with_the_verb(
    people: ControlPlane, engaged: str
) -> None:
    """It still remembers what was there."""
    for person in ("bob", "carol"):
        assert patch(people, engaged, approval(person), person).status == 200
    by_name = f"?fieldSelector=metadata.name%3D{engaged}"
    for path in (cluster_shutdowns(engaged), cluster_shutdowns() + by_name):
        answer = people.api(people.user("mallory")).delete(path)
        assert (answer.status, "not restored yet" in answer.message) == (403, True)
    answer = people.api(people.user("bob")).delete(cluster_shutdowns() + by_name)
    assert answer.status == 200, answer.message


def test_an_ungoverned_namespace_is_held_only_from_the_moment_it_is_governed(
    people: ControlPlane, namespace: str
) -> None:
    """CEL cannot read the labels of the namespaces that are named: this is what happens instead.

    It is accepted and holds nothing there, until the label comes, and the label then stays.
    """
    api = people.api()
    body = cluster_shutdown(namespace, "alice", namespaces={namespace: ""})
    assert create(people, body).status == 201

    def attempt() -> Answer:
        return api.create(pods(namespace), pod("p"), dry_run=True)

    eventually(attempt, 201)  # first its service account
    label = {"metadata": {"labels": {"killswitch.dev/governed": "true"}}}
    assert api.patch(f"/api/v1/namespaces/{namespace}", label).status == 200
    assert "held down by ClusterShutdown" in eventually_denied(attempt).message
    off = {"metadata": {"labels": {"killswitch.dev/governed": None}}}
    answer = api.patch(f"/api/v1/namespaces/{namespace}", off)
    assert (answer.status, "is engaged here" in answer.message) == (403, True)
