"""`approve` and `restore`: two acts of people, counted by the API server, explained when refused."""

import threading
import time

from tests.cli.conftest import STOPPING, Stage, told


def test_the_requester_is_refused_and_told_who_can(stage: Stage) -> None:
    """Exit 3 and the command for others."""
    name = stage.stop("--all")
    done = stage.run("approve", name, "--reason", "fine")
    expected = (
        "Not possible: approve Shutdown NS/alice-TIME.\n"
        "Why: you (alice) requested this stop, and nobody releases their own\n"
        "Next: ask 2 others to run: kubectl killswitch approve alice-TIME -n NS --reason …\n"
    )
    assert (expected, 3) == (told(done.stderr, stage.namespace), done.returncode)


def test_without_the_verb_the_missing_right_is_named(stage: Stage) -> None:
    """Exit 3; `kubectl auth can-i` to check it."""
    stage.grant("viewers", [{**STOPPING[0], "verbs": ["get", "list", "patch"]}], "dave")
    name = stage.stop("--all")
    done = stage.run("approve", name, "--reason", "fine", by="dave")
    assert (done.returncode, "you (dave) lack the verb release" in done.stderr) == (3, True)
    assert (
        f"kubectl auth can-i release shutdowns.killswitch.dev -n {stage.namespace}" in done.stderr
    )


def test_service_accounts_never_approve(stage: Stage) -> None:
    """Even with every right in the namespace."""
    account = stage.control_plane.service_account(stage.namespace, "agent")
    stage.control_plane.kubectl(
        "create", "rolebinding", "agent", "--role=people",
        f"--serviceaccount={stage.namespace}:agent", "-n", stage.namespace,
    )  # fmt: skip
    name = stage.stop("--all")
    done = stage.run("approve", name, "--reason", "fine", by=account)
    assert (done.returncode, "only people approve" in done.stderr) == (3, True)


def test_two_people_release_and_nothing_starts(stage: Stage) -> None:
    """The first is counted, the second releases; the workload stays at rest."""
    stage.deployment()
    name = stage.stop("-w", "deployment/vllm")
    first = stage.run("approve", name, "--reason", "looked", by="bob")
    again = stage.run("approve", name, "--reason", "looked", by="bob")
    second = stage.run("approve", name, "--reason", "agreed", by="carol")
    assert told(first.stdout, stage.namespace) == (
        "Approved: 1 of 2 (bob); the lock still holds.\n"
        "Next: 1 more person must run: kubectl killswitch approve alice-TIME -n NS --reason …\n"
    )
    assert again.stdout.startswith("You (bob) have approved already.")
    assert told(second.stdout, stage.namespace) == (
        "Released: 2 of 2 (bob, carol); nothing has been started by this.\n"
        "Next: bring it back: kubectl killswitch restore alice-TIME -n NS --reason …\n"
    )
    time.sleep(1)
    assert (stage.pods(), stage.replicas("vllm")) == ([], 0)


def test_json_counts_approvals(stage: Stage) -> None:
    """Names and numbers for programs."""
    name = stage.stop("--all")
    answer = stage.json("approve", name, "--reason", "looked", by="bob")
    assert (
        answer["approvals"], answer["requiredApprovals"], answer["released"],
    ) == ({"bob": {"reason": "looked"}}, 2, False)  # fmt: skip


def test_restore_before_release_is_refused_with_the_count(stage: Stage) -> None:
    """Exit 3: how many approvals are missing."""
    name = stage.stop("--all")
    stage.run("approve", name, "--reason", "looked", by="bob")
    done = stage.run("restore", name, "--reason", "now", by="bob")
    said = "it is not released: 1 more approvals are needed"
    assert (done.returncode, said in done.stderr) == (3, True)


def test_restore_is_ordered_once_and_drift_can_be_accepted_later(stage: Stage) -> None:
    """`spec.restore` names who asks; only acceptDrift is turned on afterwards."""
    name = stage.stop("--all")
    _release(stage, name)
    done = stage.run("restore", name, "--reason", "reviewed", by="bob")
    assert (done.returncode, "Restore ordered" in done.stdout) == (0, True), done.stderr
    order = {"by": "bob", "reason": "reviewed", "acceptDrift": False}
    assert order == stage.shutdown(name)["spec"]["restore"]
    again = stage.run("restore", name, "--reason", "me too", by="carol")
    assert (again.returncode, "already, ordered by bob" in again.stdout) == (0, True)
    stage.run("restore", name, "--reason", "as it is", "--accept-drift", by="bob")
    assert {**order, "acceptDrift": True} == stage.shutdown(name)["spec"]["restore"]


def test_restore_waits_for_the_operators_word(stage: Stage) -> None:
    """Progress by condition, exit 0 only when Restored is True."""
    name = stage.stop("--all")
    _release(stage, name)

    def operator() -> None:
        for status, reason, message in (
            ("False", "CanaryStage", "1 of 2 replicas ready"),
            ("True", "Complete", "all replicas ready"),
        ):
            time.sleep(1.5)
            stage.report(name, {"conditions": [_restored(status, reason, message)]})

    reporter = threading.Thread(target=operator)
    reporter.start()
    done = stage.run("restore", name, "--reason", "reviewed", "--wait", by="bob")
    reporter.join()
    assert done.returncode == 0, done.stderr
    assert "CanaryStage: 1 of 2 replicas ready" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Restored: what was there runs again")


def test_restore_that_does_not_end_is_exit_4(stage: Stage) -> None:
    """With no operator running the order stands, and that is said."""
    name = stage.stop("--all")
    _release(stage, name)
    done = stage.run("restore", name, "--reason", "r", "--wait", "--timeout", "1s", by="bob")
    assert (done.returncode, "no operator has begun" in done.stderr) == (4, True)


def test_an_unknown_name_is_exit_1(stage: Stage) -> None:
    """With the command that shows what is there."""
    done = stage.run("approve", "nope", "--reason", "r", by="bob")
    assert (done.returncode, "kubectl killswitch status" in done.stderr) == (1, True)


def _release(stage: Stage, name: str) -> None:
    for person in ("bob", "carol"):
        assert stage.run("approve", name, "--reason", "agreed", by=person).returncode == 0


def _restored(status: str, reason: str, message: str) -> dict[str, object]:
    return {
        "type": "Restored",
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
