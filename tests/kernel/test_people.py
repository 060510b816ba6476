"""Who may create, approve, restore, edit and delete, and what the API server says otherwise."""

import re
from pathlib import Path
from typing import Any

import pytest

from killswitch.api.admission.shape import OPERATOR_NAMESPACE, REACTOR
from tests.cluster.api import Answer
from tests.cluster.control_plane import NODE, ControlPlane
from tests.kernel.objects import (
    Json,
    approval,
    policies,
    policy,
    shutdown,
    shutdowns,
)
from tests.kernel.test_lock import eventually, past_rbac

pytestmark = pytest.mark.cluster


def with_threshold(above: str) -> Json:
    """A signal that trips above this."""
    source = {"query": "up", "above": above}
    return {"name": f"load-{above}", "prometheus": source, "onNoData": "Hold"}


def create(kernel: ControlPlane, namespace: str, body: Json, person: str = "alice") -> Answer:
    """Create a Shutdown as this person."""
    return kernel.api(kernel.user(person)).create(shutdowns(namespace), body)


@pytest.fixture
def engaged(kernel: ControlPlane, governed: str) -> str:
    """A namespace with Shutdown `stop`, engaged by alice, two approvals required."""
    answer = create(kernel, governed, shutdown("stop", "alice"))
    assert answer.status == 201, answer.message
    return governed


BAD_SHUTDOWNS = {
    "forged requestedBy": (
        shutdown("s", "bob"),
        "spec.requestedBy must be your own username: alice",
    ),
    "without the engaged label": (
        {**shutdown("s", "alice"), "metadata": {"name": "s"}},
        "a new Shutdown is engaged: label killswitch.dev/engaged=true, no approvals, no restore",
    ),
    "approved at birth": (
        shutdown("s", "alice", approvals=2) | {},
        "",
    ),
    "approvals given at creation": (
        {
            **shutdown("s", "alice"),
            "spec": {**shutdown("s", "alice")["spec"], "approvals": {"bob": {"reason": "ok"}}},
        },
        "a new Shutdown is engaged: label killswitch.dev/engaged=true, no approvals, no restore",
    ),
    "restore asked at creation": (
        {
            **shutdown("s", "alice"),
            "spec": {**shutdown("s", "alice")["spec"], "restore": {"by": "alice", "reason": "r"}},
        },
        "a new Shutdown is engaged",
    ),
    "a quorum of 0": (shutdown("s", "alice", approvals=0), "greater than or equal to 1"),
    "a quorum of 99": (shutdown("s", "alice", approvals=99), "less than or equal to 5"),
    "neither locks nor scope": (
        {
            **shutdown("s", "alice"),
            "spec": {"requestedBy": "alice", "reason": "r", "requiredApprovals": 1},
        },
        "a Shutdown needs locks, a scope, or both",
    ),
    "an empty scope": (shutdown("s", "alice", scope={}), "a scope is either"),
}
del BAD_SHUTDOWNS["approved at birth"]


@pytest.mark.parametrize("case", BAD_SHUTDOWNS)
def test_a_bad_shutdown_is_refused_with_the_cure(
    kernel: ControlPlane, governed: str, case: str
) -> None:
    """Nothing half made is ever stored."""
    body, message = BAD_SHUTDOWNS[case]
    answer = create(kernel, governed, body)
    assert answer.status in {403, 422}
    assert message in answer.message


def test_a_good_shutdown_is_accepted(kernel: ControlPlane, governed: str) -> None:
    """The refusals above are for their reasons."""
    assert create(kernel, governed, shutdown("s", "alice")).status == 201


def in_the_name_of_a_policy(by: str, **changed: Any) -> Json:
    """A Shutdown that says some policy has fired."""
    reference = {
        "kind": "KillSwitchPolicy",
        "name": "p",
        "uid": "0a1b2c3d",
        "generation": 1,
        "episode": 1,
        **changed,
    }
    return shutdown("p-1", by, policy=reference)


@pytest.mark.parametrize("person", ["mallory", "alice"])
def test_nobody_stops_in_the_name_of_a_policy(
    kernel: ControlPlane, governed: str, person: str
) -> None:
    """It would latch that policy, or claim that it has fired; the right to stop is not enough."""
    answer = create(kernel, governed, in_the_name_of_a_policy(person, episode=999_999), person)
    assert answer.status == 403
    assert "only the reactor engages in the name of a policy" in answer.message
    assert f"verb fire on shutdowns in {governed}" in answer.message


def test_the_reactor_stops_in_the_name_of_a_policy(kernel: ControlPlane, governed: str) -> None:
    """By its name alone, without the verb; and so may whoever holds the verb `fire`."""
    kernel.api().create("/api/v1/namespaces", {"metadata": {"name": OPERATOR_NAMESPACE}})
    reactor = kernel.service_account(OPERATOR_NAMESPACE, "killswitch-reactor")
    kernel.kubectl(
        "create", "rolebinding", "reactor", "--clusterrole=test-responder",
        f"--serviceaccount={OPERATOR_NAMESPACE}:killswitch-reactor", f"--namespace={governed}",
    )  # fmt: skip
    path = shutdowns(governed)
    body = in_the_name_of_a_policy(REACTOR)
    # The API server knows a new binding moments after it is stored.
    eventually(lambda: kernel.api(reactor).create(path, body), 201)
    second = in_the_name_of_a_policy("admin")
    second["metadata"]["name"] = "p-2"
    assert kernel.api().create(path, second).status == 201


def test_the_chart_gives_nobody_the_verb_fire() -> None:
    """Neither by its name nor by `*`: what every role grants is compared with this file."""
    golden = Path(__file__).parents[1] / "e2e" / "golden" / "rbac.yaml"
    granted = golden.read_text()
    assert "killswitch-responder" in granted
    assert not re.search(r"\bfire\b|\*", granted)


@pytest.mark.parametrize("episode", [0, 1_000_001, 2**53])
def test_an_episode_is_bounded(kernel: ControlPlane, governed: str, episode: int) -> None:
    """The next firing has a number too, whoever wrote the last."""
    body = in_the_name_of_a_policy("admin", episode=episode)
    answer = kernel.api().create(shutdowns(governed), body)
    assert answer.status == 422
    assert "spec.policy.episode" in answer.message


def test_a_name_that_records_could_not_carry_is_refused(
    kernel: ControlPlane, governed: str
) -> None:
    """A stop whose record is refused would never be scaled; the longest of a policy's fits."""
    answer = create(kernel, governed, shutdown("s" * 101, "alice"))
    assert answer.status == 403
    assert "the name is longer than 100 characters" in answer.message
    longest = "p" * 52 + "-1000000-part-9999-more-9999"
    for name in (longest, "s" * 100):
        assert create(kernel, governed, shutdown(name, "alice")).status == 201


def test_an_ungoverned_namespace_refuses_a_shutdown_and_says_how_to_govern(
    kernel: ControlPlane, namespace: str
) -> None:
    """A stop that would not hold is not accepted."""
    answer = kernel.api().create(shutdowns(namespace), shutdown("s", "admin"))
    assert answer.status == 403
    assert f"kubectl killswitch govern {namespace}" in answer.message


def test_a_protected_namespace_can_neither_be_governed_nor_stopped(kernel: ControlPlane) -> None:
    """Not even by cluster-admin; an ordinary label passes."""
    api = kernel.api()
    label = {"metadata": {"labels": {"killswitch.dev/governed": "true"}}}
    answer = api.patch("/api/v1/namespaces/kube-system", label)
    assert (answer.status, "is protected" in answer.message) == (403, True)
    answer = api.create(shutdowns("kube-system"), shutdown("s", "admin"))
    assert (answer.status, "is protected" in answer.message) == (403, True)
    answer = api.create(policies("kube-system"), policy("p"))
    assert (answer.status, "is protected" in answer.message) == (403, True)
    other = {"metadata": {"labels": {"colour": "blue"}}}
    assert api.patch("/api/v1/namespaces/kube-system", other).status == 200


def test_who_may_not_create_shutdowns_there_cannot_stop(
    kernel: ControlPlane, governed: str
) -> None:
    """The right to stop is RBAC's ordinary `create`."""
    answer = create(kernel, governed, shutdown("s", "viewer"), "viewer")
    assert answer.status == 403
    assert 'cannot create resource "shutdowns"' in answer.message


APPROVALS = {
    "by the requester": ("alice", "alice", "whoever engaged a Shutdown does not release it"),
    "for another": ("bob", "carol", "you are bob: nobody approves for someone else"),
    "without the verb": ("mallory", "mallory", "mallory lacks the verb release on shutdowns in"),
}


@pytest.mark.parametrize("case", APPROVALS)
def test_an_approval_is_refused(kernel: ControlPlane, engaged: str, case: str) -> None:
    """With a sentence that says why."""
    person, name, message = APPROVALS[case]
    answer = kernel.api(kernel.user(person)).patch(shutdowns(engaged, "stop"), approval(name))
    assert answer.status == 403
    assert message in answer.message


def test_a_service_account_cannot_approve_even_with_the_verb(
    kernel: ControlPlane, engaged: str
) -> None:
    """A stolen token of a machine releases nothing."""
    account = kernel.service_account(engaged, "robot")
    for role in ("test-responder", "test-releaser"):
        kernel.kubectl(
            "create", "rolebinding", f"robot-{role}", f"--clusterrole={role}",
            f"--serviceaccount={engaged}:robot", f"--namespace={engaged}",
        )  # fmt: skip
    name = f"system:serviceaccount:{engaged}:robot"
    eventually(lambda: kernel.api(account).get(shutdowns(engaged, "stop")), 200)
    answer = kernel.api(account).patch(shutdowns(engaged, "stop"), approval(name))
    assert answer.status == 403
    assert "approvers are people" in answer.message


def test_a_node_cannot_approve_even_with_the_verb(kernel: ControlPlane, engaged: str) -> None:
    """A stolen kubelet certificate releases nothing."""
    for role in ("test-responder", "test-releaser"):
        kernel.kubectl(
            "create", "rolebinding", f"node-{role}", f"--clusterrole={role}",
            f"--user={NODE}", f"--namespace={engaged}",
        )  # fmt: skip
    node = kernel.api(kernel.user(NODE))
    eventually(lambda: node.get(shutdowns(engaged, "stop")), 200)
    answer = node.patch(shutdowns(engaged, "stop"), approval(NODE))
    assert (answer.status, "approvers are people" in answer.message) == (403, True)


def test_an_approval_can_be_neither_changed_nor_withdrawn(
    kernel: ControlPlane, engaged: str
) -> None:
    """Append-only: what somebody signed stays as it was signed."""
    bob = kernel.api(kernel.user("bob"))
    assert bob.patch(shutdowns(engaged, "stop"), approval("bob", "first")).status == 200
    for change in (approval("bob", "second"), {"spec": {"approvals": {"bob": None}}}):
        answer = bob.patch(shutdowns(engaged, "stop"), change)
        assert answer.status == 422
        assert "approvals are append-only" in answer.message


EDITS: dict[str, Json] = {
    "a changed reason": {"spec": {"reason": "never mind"}},
    "a lowered quorum": {"spec": {"requiredApprovals": 1}},
    "another requester": {"spec": {"requestedBy": "bob"}},
    "fewer locks": {"spec": {"locks": None, "scope": {"podLabels": {"a": "b"}}}},
    "another lock": {"spec": {"locks": {"deployments.apps/vllm": None, "uid/x": ""}}},
    "gentler restore terms": {"spec": {"restorePolicy": {"soak": "1s"}}},
}


@pytest.mark.parametrize("case", EDITS)
def test_an_engaged_shutdown_cannot_be_edited(
    kernel: ControlPlane, engaged: str, case: str
) -> None:
    """Not even by cluster-admin."""
    answer = kernel.api().patch(shutdowns(engaged, "stop"), EDITS[case])
    assert answer.status == 422
    assert "immutable" in answer.message


def test_the_engaged_label_stays_until_release(kernel: ControlPlane, engaged: str) -> None:
    """Taking it off would take the lock off."""
    for value in ("false", None):
        off = {"metadata": {"labels": {"killswitch.dev/engaged": value}}}
        answer = kernel.api().patch(shutdowns(engaged, "stop"), off)
        assert answer.status == 403
        assert "stays until release" in answer.message


def test_an_engaged_shutdown_cannot_be_deleted(kernel: ControlPlane, engaged: str) -> None:
    """Neither one by one nor as a collection, by nobody."""
    for path in (shutdowns(engaged, "stop"), shutdowns(engaged)):
        answer = kernel.api().delete(path)
        assert answer.status == 403
        assert "cannot be deleted" in answer.message
    assert kernel.api().get(shutdowns(engaged, "stop")).status == 200


def release(kernel: ControlPlane, namespace: str) -> None:
    """Bob and carol release it."""
    for person in ("bob", "carol"):
        api = kernel.api(kernel.user(person))
        assert api.patch(shutdowns(namespace, "stop"), approval(person)).status == 200


def test_a_released_but_unrestored_one_is_deleted_only_with_the_verb(
    kernel: ControlPlane, engaged: str
) -> None:
    """It still holds what was there."""
    release(kernel, engaged)
    answer = kernel.api(kernel.user("mallory")).delete(shutdowns(engaged, "stop"))
    assert (answer.status, "not restored yet" in answer.message) == (403, True)
    assert kernel.api(kernel.user("bob")).delete(shutdowns(engaged, "stop")).status == 200


def test_a_collection_of_released_ones_is_deleted_only_with_the_verb(
    kernel: ControlPlane, engaged: str
) -> None:
    """A request without a name is judged like one with it."""
    release(kernel, engaged)
    answer = kernel.api(kernel.user("mallory")).delete(shutdowns(engaged))
    assert (answer.status, "not restored yet" in answer.message) == (403, True)
    assert kernel.api(kernel.user("bob")).delete(shutdowns(engaged)).status == 200
    assert kernel.api().get(shutdowns(engaged)).body["items"] == []


def test_a_restored_one_is_deleted_by_whoever_may_delete(
    kernel: ControlPlane, engaged: str
) -> None:
    """What it remembered is back: only RBAC's `delete` is left to ask for."""
    release(kernel, engaged)
    path = shutdowns(engaged, "stop")
    condition = {
        "type": "Restored",
        "status": "False",
        "reason": "Restoring",
        "lastTransitionTime": "2026-11-24T15:00:00Z",
    }
    mallory = kernel.api(kernel.user("mallory"))
    for status, deleted in {"False": 403, "True": 200}.items():
        observed = {"status": {"conditions": [{**condition, "status": status}]}}
        assert kernel.api().patch(f"{path}/status", observed).status == 200
        assert mallory.delete(path).status == deleted


def test_restore_comes_after_release_in_the_own_name_with_the_verb(
    kernel: ControlPlane, engaged: str
) -> None:
    """Each condition alone is refused; all together pass, once."""
    bob, mallory = kernel.api(kernel.user("bob")), kernel.api(kernel.user("mallory"))
    path = shutdowns(engaged, "stop")
    order = {"spec": {"restore": {"by": "bob", "reason": "fixed"}}}
    assert "restore comes after release" in bob.patch(path, order).message
    release(kernel, engaged)
    forged = {"spec": {"restore": {"by": "carol", "reason": "fixed"}}}
    assert "is your own username" in bob.patch(path, forged).message
    own = {"spec": {"restore": {"by": "mallory", "reason": "fixed"}}}
    assert "mallory lacks the verb restore" in mallory.patch(path, own).message
    assert bob.patch(path, order).status == 200
    again = {"spec": {"restore": {"by": "bob", "reason": "other words"}}}
    assert "restore is set once" in bob.patch(path, again).message
    accept = {"spec": {"restore": {"acceptDrift": True}}}
    assert mallory.patch(path, accept).status == 403
    assert bob.patch(path, accept).status == 200


def test_an_author_must_have_the_right_to_stop_there(kernel: ControlPlane, governed: str) -> None:
    """A policy stops on its author's behalf."""
    kernel.kubectl("apply", "-f", "-", stdin=AUTHOR_ONLY.format(namespace=governed))
    dave = kernel.api(kernel.user("dave"))
    answer = past_rbac(lambda: dave.create(policies(governed), policy("p")))
    assert "dave may not stop anything here" in answer.message
    assert kernel.api(kernel.user("alice")).create(policies(governed), policy("p")).status == 201


AUTHOR_ONLY = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: author-only, namespace: {namespace}}}
rules:
- {{apiGroups: [killswitch.dev], resources: [killswitchpolicies], verbs: [create, update, patch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: author-only, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: author-only}}
subjects: [{{kind: User, name: dave}}]
"""
EASED: dict[str, Json] = {
    "a higher threshold": {"signals": [with_threshold("99")]},
    "DryRun": {"mode": "DryRun"},
    "Disabled": {"mode": "Disabled"},
    "another target": {"targets": [{"kind": "Deployment", "name": "decoy"}]},
    "a larger quorum": {"signals": [with_threshold("1"), with_threshold("2")], "quorum": 2},
}


@pytest.mark.parametrize("case", EASED)
def test_loosening_a_policy_needs_the_right_to_stop_there(
    kernel: ControlPlane, governed: str, case: str
) -> None:
    """An edit is as good as a new policy; metadata alone is anyone's who may edit."""
    kernel.kubectl("apply", "-f", "-", stdin=AUTHOR_ONLY.format(namespace=governed))
    alice, dave = kernel.api(kernel.user("alice")), kernel.api(kernel.user("dave"))
    assert alice.create(policies(governed), policy("p", mode="Enforce")).status == 201
    path = policies(governed, "p")
    answer = dave.patch(path, {"spec": EASED[case]})
    assert (answer.status, "dave may not stop anything here" in answer.message) == (403, True)
    assert dave.patch(path, {"metadata": {"labels": {"colour": "blue"}}}).status == 200
    # Whoever may stop there edits; leaving Enforce takes the verb bypass besides, as below.
    person = kernel.admin if "mode" in EASED[case] else kernel.user("alice")
    assert kernel.api(person).patch(path, {"spec": EASED[case]}).status == 200


LEAVING = {
    "to DryRun": {"spec": {"mode": "DryRun"}},
    "to Disabled": {"spec": {"mode": "Disabled"}},
}


@pytest.mark.parametrize("case", [*LEAVING, "by deleting it"])
def test_leaving_enforce_needs_the_verb_bypass(
    kernel: ControlPlane, governed: str, case: str
) -> None:
    """Disarming is a decision that somebody must be allowed to take."""
    alice = kernel.api(kernel.user("alice"))
    assert alice.create(policies(governed), policy("p", mode="Enforce")).status == 201
    path = policies(governed, "p")

    def attempt(person: str) -> Answer:
        api = kernel.api() if person == "admin" else kernel.api(kernel.user(person))
        return api.patch(path, LEAVING[case]) if case in LEAVING else api.delete(path)

    answer = attempt("alice")
    assert answer.status == 403
    assert "alice lacks the verb bypass on killswitchpolicies" in answer.message
    assert attempt("admin").status == 200
