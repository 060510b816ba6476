"""`status`: what would not act must look unmistakably unlike what would."""

import json
import os
import pty
from typing import Any

import pytest

from killswitch.cli import board
from tests.cli.conftest import PROGRAM, Stage

Json = dict[str, Any]


def _condition(type_: str, status: str, reason: str, message: str, generation: int = 1) -> Json:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


_READY = _condition("Ready", "True", "Accepted", "can work")
_ARMED = _condition("Armed", "True", "LockProven", "the lock denies")
_SEEN = _condition("SignalsAvailable", "True", "AllSignalsAnswer", "every signal answers")
_GOOD = [_READY, _ARMED, _SEEN]


def test_every_standing_has_its_own_word(stage: Stage) -> None:
    """Armed, and each way of not being armed, with the reason."""
    unarmed = [_READY, _condition("Armed", "False", "LockNotProven", "no denial seen"), _SEEN]
    blind = [_READY, _ARMED, _condition("SignalsAvailable", "False", "SignalsUnknown", "tokens")]
    stage.policy("armed", {"conditions": _GOOD})
    stage.policy("blind", {"conditions": blind})
    stage.policy("dry", {"conditions": _GOOD}, mode="DryRun")
    stage.policy("off", {"conditions": _GOOD}, mode="Disabled")
    stage.policy("unarmed", {"conditions": unarmed})
    stage.policy("unseen")
    stage.policy("stale", {"conditions": [{**each, "observedGeneration": 0} for each in _GOOD]})
    fired = _condition("Fired", "True", "ShutdownEngaged", "fired-1 is engaged")
    stage.policy("fired", {"conditions": [*_GOOD, fired]})
    answer = stage.json("status")
    assert {each["name"]: each["standing"] for each in answer["policies"]} == {
        "armed": "ARMED",
        "blind": "BLIND",
        "dry": "DRY RUN",
        "off": "DISABLED",
        "unarmed": "NOT ARMED",
        "unseen": "NOT SEEN",
        "stale": "STALE",
        "fired": "FIRED",
    }
    assert {"no denial seen"} == {e["why"] for e in answer["policies"] if e["name"] == "unarmed"}


def test_signals_show_verdict_value_and_words(stage: Stage) -> None:
    """Not only red and green (S2)."""
    signal = {
        "name": "tokens",
        "verdict": "Unknown",
        "reason": "Stale",
        "value": "",
        "message": "age of the oldest sample is 90 s",
        "observedAt": "2026-01-01T00:00:00Z",
    }
    stage.policy("tokens", {"conditions": _GOOD, "signals": [signal]})
    done = stage.run("status")
    (line,) = [each for each in done.stdout.splitlines() if "Unknown" in each]
    assert line.endswith("Stale: age of the oldest sample is 90 s")


def test_a_bypassed_policy_says_by_whom(stage: Stage) -> None:
    """Until when and why, too."""
    stage.policy("tokens", {"conditions": _GOOD})
    assert stage.run("bypass", "add", "tokens", "--for", "1h", "-r", "upgrade").returncode == 0
    (policy,) = stage.json("status")["policies"]
    assert (policy["standing"], policy["why"].startswith("by alice until ")) == ("BYPASSED", True)


def test_shutdowns_with_approvals_from_the_lock_itself(stage: Stage) -> None:
    """Counted from the spec, since no operator may be alive to report."""
    name = stage.stop("--all")
    stage.run("approve", name, "--reason", "looked", by="bob")
    (found,) = stage.json("status")["shutdowns"]
    assert (name, "NOT VERIFIED", ["bob"], 2, "alice") == (
        found["name"],
        found["standing"],
        found["approvals"],
        found["requiredApprovals"],
        found["requestedBy"],
    )
    stage.report(name, {"conditions": [_condition("Verified", "True", "NoPodsLeft", "none left")]})
    assert [each["standing"] for each in stage.json("status")["shutdowns"]] == ["HELD"]
    stage.run("approve", name, "--reason", "agreed", by="carol")
    assert [each["standing"] for each in stage.json("status")["shutdowns"]] == ["RELEASED"]


def test_an_empty_namespace_says_that_nothing_watches(stage: Stage) -> None:
    """Silence would look like safety. What alice may not see is named."""
    done = stage.run("status")
    admin = stage.run("status", by=stage.control_plane.admin)
    assert "nothing watches" not in done.stdout
    assert "whether something watches cannot be seen; people can stop" in done.stdout
    assert "whether something is held cannot be seen" in done.stdout
    if "(cluster)" not in admin.stdout:  # other tests may have stopped nodes
        assert "nothing watches; people can stop" in admin.stdout
    assert "Hidden from you: clustershutdowns: " in done.stdout


def test_who_may_see_nothing_is_refused(stage: Stage) -> None:
    """Exit 3 rather than an empty board."""
    assert stage.run("status", by="mallory").returncode == 3


def test_all_namespaces(stage: Stage) -> None:
    """The administrator sees all; names are printed as kubectl prints them."""
    name = stage.stop("--all")
    done = stage.raw("status", "-A", "-o", "name", by=stage.control_plane.admin)
    assert f"shutdown.killswitch.dev/{name}" in done.stdout.splitlines()


def test_colours_only_on_a_terminal(stage: Stage) -> None:
    """On a terminal armed and dry-run differ in colour as well as in word."""
    stage.policy("armed", {"conditions": _GOOD})
    stage.policy("dry", {"conditions": _GOOD}, mode="DryRun")
    assert "\x1b[" not in stage.run("status").stdout
    shown = _on_a_terminal(stage, "status")
    assert "\x1b[1;32mARMED" in shown
    assert "\x1b[1;30;43mDRY RUN" in shown


def _on_a_terminal(stage: Stage, command: str) -> str:
    kubeconfig = str(stage.control_plane.user("alice").kubeconfig)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"KUBECONFIG": kubeconfig, "COLUMNS": "300", "TERM": "xterm-256color"}
        os.execv(str(PROGRAM), [str(PROGRAM), command, "-n", stage.namespace])  # noqa: S606
    read = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        read += part
    os.waitpid(pid, 0)
    os.close(terminal)
    return read.decode()


def test_yaml_and_json_say_the_same(stage: Stage) -> None:
    """Two spellings of one answer."""
    import yaml

    stage.policy("armed", {"conditions": _GOOD})
    as_json = stage.run("status", "-o", "json")
    as_yaml = stage.run("status", "-o", "yaml")
    assert json.loads(as_json.stdout) == yaml.safe_load(as_yaml.stdout)


def test_the_reaction_time_is_shown(stage: Stage) -> None:
    """As the manager reckoned it; what is not known is not left out."""
    known = {"worst": "18.0 s", "message": "at most 18.0 s, signal load: 15.0 s scrape"}
    stage.policy("armed", {"conditions": _GOOD, "reaction": known})
    stage.policy("unknown", {"conditions": _GOOD, "reaction": {"worst": "", "message": "x"}})
    stage.policy("unseen", {"conditions": _GOOD})
    answer = {each["name"]: each["reaction"] for each in stage.json("status")["policies"]}
    assert answer["armed"]["worst"] == "18.0 s"
    assert answer["unseen"] is None
    lines = stage.run("status").stdout.splitlines()
    assert "REACTION" in next(line for line in lines if "STANDING" in line)
    shown = {line.split()[1]: line for line in lines if "no pod" not in line and "ARMED" in line}
    assert "18.0 s" in shown["armed"]
    assert "?" in shown["unknown"]
    assert "?" in shown["unseen"]


def test_hidden_policies_are_not_called_absent(open_stage: Stage) -> None:
    """Who may list Shutdowns only learns nothing about policies."""
    rules = [{"apiGroups": ["killswitch.dev"], "resources": ["shutdowns"], "verbs": ["list"]}]
    open_stage.grant("watchers", rules, "dave")
    done = open_stage.run("status", by="dave")
    assert done.returncode == 0, done.stderr
    assert f"killswitchpolicies in {open_stage.namespace} are hidden from you" in done.stdout
    assert [each for each in ("No policy", "nothing watches") if each in done.stdout] == []


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ("the lock could not be tried in prod: nothing to restart", "not proven"),
        ("the lock does not deny a restart in prod", "no"),
    ],
)
def test_a_lock_that_was_not_tried_is_not_called_open(message: str, word: str) -> None:
    """Decision 0006: not proven is not unlocked; let through is."""
    body = {"status": {"conditions": [_condition("Locked", "False", "LockNotProven", message)]}}
    assert str(board.mark(body, "Locked")) == word
