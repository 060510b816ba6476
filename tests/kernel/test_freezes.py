"""Freezes: who may freeze, for how long, who lets go, and that nobody edits what is in force."""

from typing import Any

import pytest

from tests.cluster.api import Answer
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import freeze, freezes
from tests.kernel.test_bypasses import ahead

pytestmark = pytest.mark.cluster


def make(kernel: ControlPlane, namespace: str, by: str = "alice", **change: Any) -> Answer:
    """Create a Freeze of an hour as this person."""
    body = freeze("f", change.pop("name", by), **{"until": ahead(hours=1), **change})
    return kernel.api(kernel.user(by)).create(freezes(namespace), body)


def thaw(kernel: ControlPlane, namespace: str, by: str, name: str = "") -> Answer:
    """Set `thaw` as this person, in this name (the own unless given)."""
    order = {"spec": {"thaw": {"by": name or by, "reason": "false alarm"}}}
    return kernel.api(kernel.user(by)).patch(freezes(namespace, "f"), order)


def test_a_freeze_is_signed(kernel: ControlPlane, governed: str) -> None:
    """Nobody freezes in another's name."""
    answer = make(kernel, governed, name="bob")
    assert "spec.requestedBy must be your own username: alice" in answer.message
    assert make(kernel, governed).status == 201


@pytest.mark.parametrize("until", [{"hours": 25}, {"seconds": -5}])
def test_a_freeze_ends_within_a_day(
    kernel: ControlPlane, governed: str, until: dict[str, float]
) -> None:
    """And not before it begins."""
    answer = make(kernel, governed, until=ahead(**until))
    assert (answer.status, "ends within 24 hours" in answer.message) == (403, True)


def test_a_freeze_is_made_where_stops_are(kernel: ControlPlane, namespace: str) -> None:
    """In governed namespaces, never in protected ones."""
    body = freeze("f", "admin", until=ahead(hours=1))
    answer = kernel.api().create(freezes(namespace), body)
    assert f"kubectl killswitch govern {namespace}" in answer.message
    answer = kernel.api().create(freezes("kube-system"), body)
    assert "protected: nothing is frozen there" in answer.message


def test_it_is_in_force_from_the_start(kernel: ControlPlane, governed: str) -> None:
    """With the label that guards look for, and not thawed already."""
    api = kernel.api(kernel.user("alice"))
    body = freeze("f", "alice", until=ahead(hours=1))
    body["metadata"]["labels"] = {}
    assert "a new Freeze is in force" in api.create(freezes(governed), body).message
    thawed = {"by": "alice", "reason": "r"}
    assert "a new Freeze is in force" in make(kernel, governed, thaw=thawed).message


def test_nobody_freezes_in_the_name_of_a_policy(kernel: ControlPlane, governed: str) -> None:
    """But the reactor, whose policy would be latched by it."""
    policy = {"kind": "KillSwitchPolicy", "name": "p", "uid": "u", "generation": 1, "episode": 1}
    answer = make(kernel, governed, policy=policy)
    assert "only the reactor freezes in the name of a policy" in answer.message


def test_an_end_in_a_stop_needs_the_right_to_stop(kernel: ControlPlane, governed: str) -> None:
    """Otherwise the right to freeze would be one to stop."""
    role = "freezer"
    kernel.kubectl(
        "-n", governed, "create", "role", role, "--verb=create", "--resource=freezes.killswitch.dev"
    )
    kernel.kubectl("-n", governed, "create", "rolebinding", role, f"--role={role}", "--user=dave")
    answer = make(kernel, governed, "dave", then="Stop")
    assert "dave may not stop anything here" in answer.message
    assert make(kernel, governed, "dave").status == 201


@pytest.mark.parametrize(
    "change",
    [
        {"until": "2099-01-01T00:00:00Z"},
        {"onExpiry": "Stop"},
        {"reason": "another"},
        {"locks": {"deployments.apps/other": ""}},
        {"locks": None, "scope": {"wholeNamespace": True}},
        {"requiredApprovals": 1},
    ],
    ids=str,
)
def test_what_is_in_force_is_not_edited(
    kernel: ControlPlane, governed: str, change: dict[str, Any]
) -> None:
    """To prolong it, people make another one."""
    assert make(kernel, governed).status == 201
    answer = kernel.api().patch(freezes(governed, "f"), {"spec": change})
    assert (answer.status, "immutable" in answer.message) == (422, True)


def test_who_froze_may_thaw(kernel: ControlPlane, governed: str) -> None:
    """A mistake is undone by whoever made it; once, and for good."""
    assert make(kernel, governed, "mallory").status == 201
    assert "spec.thaw.by must be" in thaw(kernel, governed, "mallory", "alice").message
    assert thaw(kernel, governed, "mallory").status == 200
    answer = kernel.api().patch(freezes(governed, "f"), {"spec": {"thaw": None}})
    assert "thaw is set once" in answer.message


def test_others_need_the_verb_thaw(kernel: ControlPlane, governed: str) -> None:
    """The rights to freeze and to edit are not enough."""
    assert make(kernel, governed).status == 201
    assert "mallory lacks the verb thaw" in thaw(kernel, governed, "mallory").message
    assert thaw(kernel, governed, "bob").status == 200


def test_who_thaws_is_a_person(kernel: ControlPlane, governed: str) -> None:
    """A controlled model must not let itself go on."""
    assert make(kernel, governed).status == 201
    name = kernel.service_account(governed, "model").name
    kernel.kubectl(
        "-n", governed, "create", "rolebinding", "all", "--clusterrole=cluster-admin",
        f"--serviceaccount={governed}:model",
    )  # fmt: skip
    api = kernel.api(kernel.service_account(governed, "model"))
    answer = api.patch(freezes(governed, "f"), {"spec": {"thaw": {"by": name, "reason": "r"}}})
    assert "who thaws is a person" in answer.message


def test_deleting_one_in_force_is_thawing_it(kernel: ControlPlane, governed: str) -> None:
    """So it needs the same right, one by one and as a collection."""
    assert make(kernel, governed).status == 201
    api = kernel.api(kernel.user("mallory"))
    assert "it needs the verb thaw" in api.delete(freezes(governed, "f")).message
    assert "it needs the verb thaw" in api.delete(freezes(governed)).message
    assert kernel.api(kernel.user("bob")).delete(freezes(governed, "f")).status == 200


def test_an_owner_that_is_gone_thaws_nothing(kernel: ControlPlane, governed: str) -> None:
    """Whoever may patch may name an owner; what the garbage collector makes of it is refused."""
    assert make(kernel, governed).status == 201
    collector = "--as=system:serviceaccount:kube-system:generic-garbage-collector"
    done = kernel.kubectl(collector, "-n", governed, "delete", "freeze", "f", check=False)
    assert "it needs the verb thaw" in done.stderr
    controller = "--as=system:serviceaccount:kube-system:namespace-controller"
    assert kernel.kubectl(controller, "-n", governed, "delete", "freeze", "f").returncode == 0


def test_the_label_stays_while_it_is_in_force(kernel: ControlPlane, governed: str) -> None:
    """Without it the guards would let go."""
    assert make(kernel, governed).status == 201
    off = {"metadata": {"labels": {"killswitch.dev/engaged": None}}}
    answer = kernel.api().patch(freezes(governed, "f"), off)
    assert (answer.status, "the label killswitch.dev/engaged stays" in answer.message) == (
        403,
        True,
    )


def test_a_freeze_locks_nothing(kernel: ControlPlane, governed: str) -> None:
    """It contains what runs: pods may come, and are frozen where they start."""
    assert make(kernel, governed, scope={"wholeNamespace": True}).status == 201
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    answer = kernel.api().create(f"/api/v1/namespaces/{governed}/pods", pod, dry_run=True)
    assert answer.status == 201


def test_whoever_writes_the_status_could_thaw(kernel: ControlPlane, governed: str) -> None:
    """Guards obey its condition Ended: programs do not write it, people need the verb thaw."""
    assert make(kernel, governed, then="Stop").status == 201
    model = kernel.service_account(governed, "model")
    kernel.kubectl(
        "-n", governed, "create", "rolebinding", "all", "--clusterrole=cluster-admin",
        f"--serviceaccount={governed}:model",
    )  # fmt: skip
    ended = {"type": "Ended", "status": "True", "reason": "Thawed"}
    ended |= {"message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    body = {"status": {"conditions": [ended]}}
    path = f"{freezes(governed, 'f')}/status"
    answer = kernel.api(model).patch(path, body)
    assert "only the operator writes the status of a Freeze" in answer.message
    role = "writes-status"
    kernel.kubectl(
        "-n", governed, "create", "role", role, "--verb=patch",
        "--resource=freezes.killswitch.dev/status",
    )  # fmt: skip
    kernel.kubectl("-n", governed, "create", "rolebinding", role, f"--role={role}", "--user=dave")
    answer = kernel.api(kernel.user("dave")).patch(path, body)
    assert "dave sets spec.thaw instead, which needs the verb thaw" in answer.message
    assert kernel.api().patch(path, body).status == 200
