"""Who pushes against a stop and who would start it at the release: seen before anybody lets go."""

from typing import Any

import pytest

from tests.cli.conftest import Stage

Json = dict[str, Any]
_FIGHTERS = [
    {
        "name": "ScaledObject prod/wake",
        "state": "Unquieted",
        "message": "scales 0→1 as soon as a trigger is active",
    },
    {"name": "Application argocd/llm", "state": "Quieted"},
    {"name": "HorizontalPodAutoscaler prod/vllm", "state": "Resting"},
]
_ATTEMPTS = [
    {"who": "helm", "object": "Deployment vllm", "count": 1, "last": "2026-01-01T00:00:00Z"},
    {
        "who": "argocd-controller",
        "object": "Deployment vllm",
        "count": 2,
        "last": "2026-01-01T00:00:00Z",
        "outcome": "Changed",
    },
    {
        "who": "keda-operator",
        "object": "Deployment vllm",
        "count": 40,
        "last": "2026-01-01T00:00:00Z",
    },
]


@pytest.fixture
def held(stage: Stage) -> str:
    """A Shutdown of alice's, with what an operator has found out about it."""
    name = stage.stop("--all")
    stage.report(name, {"fighters": _FIGHTERS, "attempts": _ATTEMPTS, "inFlight": "7"})
    return name


def test_the_last_approval_is_told_what_it_starts(stage: Stage, held: str) -> None:
    """Before it, too, that somebody is not quiet; it warns and does not refuse."""
    first = stage.run("approve", held, "--reason", "looked", by="bob")
    warned = "At the release: ScaledObject prod/wake starts it (scales 0→1 as soon as a trigger is active)"
    assert (first.returncode, warned in first.stdout) == (0, True)
    last = stage.run("approve", held, "--reason", "agreed", by="carol")
    words = "This approval releases: ScaledObject prod/wake then starts it"
    assert (last.returncode, words in last.stdout) == (0, True)
    assert "Stays quiet: Application argocd/llm: paused until the restore" in last.stdout
    assert last.stdout.index(words) < last.stdout.index("Released: 2 of 2")


def test_programs_are_told_too(stage: Stage, held: str) -> None:
    """The same states, unshortened."""
    answer = stage.json("approve", held, "--reason", "looked", by="bob")
    assert [each["state"] for each in answer["fighters"]] == ["Unquieted", "Quieted", "Resting"]


def test_why_names_fighters_attempts_and_what_is_under_way(stage: Stage, held: str) -> None:
    """The most persistent first."""
    shown = stage.run("why", held).stdout
    assert "Unquieted: ScaledObject prod/wake: scales 0→1" in shown
    assert "Resting: HorizontalPodAutoscaler prod/vllm: does nothing at 0" in shown
    denied = [line for line in shown.splitlines() if line.startswith("Denied by the lock: ")]
    assert [line.partition(", last ")[0] for line in denied] == [
        "Denied by the lock: keda-operator for Deployment vllm, 40 times",
        "Denied by the lock: helm for Deployment vllm, once",
    ]
    assert "Written since: argocd-controller for Deployment vllm, 2 times, last " in shown
    assert "Draining: 7 requests under way when last asked" in shown


def test_what_is_drained_is_not_said_to_drain(stage: Stage, held: str) -> None:
    """The last number stays in the status; the drain is over."""
    stage.report(held, {"stages": {"drained": "2026-01-01T00:00:00Z"}})
    assert "Draining" not in stage.run("why", held).stdout


def test_status_names_who_is_not_quiet(stage: Stage, held: str) -> None:
    """One line each; nothing of what is released."""
    shown = stage.run("status").stdout
    name = f"{stage.namespace}/{held}"
    assert f"Not quiet: {name}: at its release start it: ScaledObject prod/wake" in shown
    assert f"Draining: {name}: 7 requests under way" in shown
    assert f"Denied: {name}: 41 times: keda-operator for Deployment vllm, 40 times, helm" in shown
    for person in ("bob", "carol"):
        assert stage.run("approve", held, "--reason", "r", by=person).returncode == 0
    assert "Not quiet" not in stage.run("status").stdout


def test_status_says_once_how_often_a_single_one_tried(stage: Stage, held: str) -> None:
    """The sum is told only where there is something to add."""
    stage.report(held, {"attempts": _ATTEMPTS[2:]})
    (line,) = [each for each in stage.run("status").stdout.splitlines() if "Denied: " in each]
    assert line == f"Denied: {stage.namespace}/{held}: keda-operator for Deployment vllm, 40 times"


def test_the_restore_shows_who_is_given_back(stage: Stage, held: str) -> None:
    """Autoscalers and GitOps come last: until then their state is what it was."""
    for person in ("bob", "carol"):
        assert stage.run("approve", held, "--reason", "r", by=person).returncode == 0
    done = stage.run("restore", held, "--reason", "fixed", by="bob")
    assert (done.returncode, "Quieted: Application argocd/llm" in done.stdout) == (0, True)
