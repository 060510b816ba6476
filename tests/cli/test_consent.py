"""`approve` and `restore`: two acts of people, counted by the API server, explained when refused."""

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import cast

import pytest

from killswitch.cli import consent, find
from killswitch.cli.connect import Session
from killswitch.cli.screen import Screen
from killswitch.core.resources import SHUTDOWNS
from killswitch.ports import Cluster
from tests.cli.conftest import STOPPING, LeapingClock, Stage, told


def test_the_requester_is_refused_and_told_who_can(stage: Stage) -> None:
    """Exit 3 and the command for others."""
    name = stage.stop("--all")
    done = stage.run("approve", name, "--reason", "fine")
    expected = (
        "Not possible: approve Shutdown NS/alice-TIME.\n"
        "Why: you (alice) requested this stop, and nobody releases their own\n"
        "Next: ask 2 other people to run: kubectl killswitch approve alice-TIME -n NS --reason …\n"
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
    said = "it is not released: 1 more approval is needed"
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
    assert (done.returncode, done.stderr) == (
        1,
        "Not possible: find nope.\n"
        f"Why: no Shutdown of that name in namespace {stage.namespace}; "
        "clustershutdowns are hidden from you\n"
        "Next: see what is there: kubectl killswitch status -A, or name its namespace with -n\n",
    )


def test_a_policy_of_that_name_is_pointed_to(stage: Stage) -> None:
    """`why POLICY` is a likely slip."""
    stage.policy("tokens")
    done = stage.run("why", "tokens")
    cure = f"kubectl killswitch why policy/tokens -n {stage.namespace}"
    assert (done.returncode, cure in done.stderr) == (1, True)


def test_what_is_released_needs_nobody_more(stage: Stage) -> None:
    """Not even the requester is told to ask somebody."""
    name = stage.stop("--all")
    stage.run("approve", name, "--reason", "looked", by="bob")
    early = stage.run("approve", name, "--reason", "mine")
    assert "ask 1 other person to run" in early.stderr
    stage.run("approve", name, "--reason", "agreed", by="carol")
    late = stage.run("approve", name, "--reason", "mine")
    assert (late.returncode, late.stderr) == (0, "")
    assert late.stdout.startswith("It is released already: no approval is missing.\n")
    assert sorted(stage.shutdown(name)["spec"]["approvals"]) == ["bob", "carol"]


def test_a_soak_is_told_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line when the reason changes or ten seconds have passed, none before the order."""
    soaking = [("False", "Soaking", f"{30 - n / 2:g} s of soak left") for n in range(60)]
    stages = [("False", "NotRequested", "not asked for"), *soaking, ("True", "Complete", "done")]
    bodies = iter(
        {"metadata": {"name": "x"}, "status": {"conditions": [_restored(*each)]}} for each in stages
    )

    async def answer(*_: object) -> object:
        return next(bodies)

    async def found(*_: object) -> object:
        return SHUTDOWNS, next(bodies)

    monkeypatch.setattr(find, "shutdown", found)
    session = Session(cast("Cluster", SimpleNamespace(get=answer)), LeapingClock(), "prod")
    lines: list[str] = []
    screen = cast("Screen", SimpleNamespace(line=lambda *spans: lines.append(str(spans[0]))))
    code = asyncio.run(consent.wait(session, screen, "x", longest="5m"))
    waited, *_, last = (line.split("  ")[-1] for line in lines)
    assert (code, waited, last) == (0, "ordered; no operator has begun", "Restored")
    assert len([line for line in lines if "Soaking" in line]) == 3


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
