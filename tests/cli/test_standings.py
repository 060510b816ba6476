"""What a stored Freeze says about itself, and the scope that it names."""

from typing import Any

import pytest

from killswitch.cli import freezes
from killswitch.cli import scope as scopes
from killswitch.cli.board import Standing
from killswitch.cli.scope import Named, Scope
from killswitch.core import times

_NOW = 1_800_000_000.0
_FROZEN = {"type": "Frozen", "status": "True", "reason": "AllFrozen", "message": "all of them"}
_LEFT = {"type": "Frozen", "status": "False", "reason": "Freezing", "message": "1 of 2"}
_ENDED = {"type": "Ended", "status": "True", "reason": "Thawed", "message": "thawed by bob"}


def _freeze(
    *conditions: dict[str, str], thawed: bool = False, left: float = 242, label: str = "true"
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "requestedBy": "alice",
        "reason": "r",
        "until": times.text(_NOW + left),
        "onExpiry": "Stop",
    }
    if thawed:
        spec["thaw"] = {"by": "bob", "reason": "fine"}
    return {
        "kind": "Freeze",
        "metadata": {
            "name": "f",
            "namespace": "prod",
            "creationTimestamp": times.text(_NOW - 600),
            "labels": {"killswitch.dev/engaged": label},
        },
        "spec": spec,
        "status": {"conditions": list(conditions)},
    }


@pytest.mark.parametrize(
    ("body", "standing", "why"),
    [
        (_freeze(), Standing.NOT_FROZEN, "no operator has reported on it"),
        (_freeze(_LEFT), Standing.NOT_FROZEN, "1 of 2"),
        (_freeze(_FROZEN), Standing.FROZEN, ""),
        (_freeze(_FROZEN, thawed=True), Standing.THAWING, "by bob: fine"),
        (_freeze(_FROZEN, left=-1), Standing.EXPIRED, "its pods are stopped and held"),
        (_freeze(_FROZEN, _ENDED, thawed=True), Standing.ENDED, "thawed by bob"),
        (_freeze(_FROZEN, label="false"), Standing.ENDED, "it holds nothing any more"),
    ],
)
def test_each_state_has_its_word(body: dict[str, Any], standing: Standing, why: str) -> None:
    """What does not hold never looks as if it did."""
    found = freezes.judged(body, _NOW)
    assert (found.standing, why in found.why) == (standing, True)


def test_its_end_is_told_with_what_comes_then() -> None:
    """And plainly where its time is over."""
    assert freezes.end(_freeze(), _NOW) == "4 min 2 s, then stop"
    assert freezes.end(_freeze(left=-1), _NOW) == "over, then stop"


def test_frozen_pods_that_nobody_counted_are_not_zero() -> None:
    """The manager has not looked: guards are asked, and where they are hidden nothing is said."""
    assert freezes.counts(_freeze(), None) == "?"
    assert freezes.counts(_freeze(), []) == "0/?"
    assert (freezes.value(_freeze(), _NOW)["frozen"], freezes.value(_freeze(), _NOW)["pods"]) == (
        None, None,
    )  # fmt: skip
    looked = _freeze(_LEFT)
    looked["status"] |= {"observedGeneration": 1, "pods": 2, "frozen": 1}
    assert freezes.counts(looked, None) == "1/2"


@pytest.mark.parametrize(
    ("spec", "flags"),
    [
        ({"scope": {"wholeNamespace": True}}, "--all"),
        ({"locks": {"deployments.apps/vllm": "", "uid/1": ""}}, "-w deployment/vllm"),
        ({"locks": {"statefulsets.apps/a": ""}, "scope": {"podLabels": {"x": "y"}}},
         "-w statefulset/a -l x=y"),
        ({"locks": {"uid/1": "", "pods/p": ""}}, "-w pod/p"),
        ({"locks": {"uid/1": ""}}, "-w KIND/NAME"),
    ],
)  # fmt: skip
def test_the_flags_that_stop_the_same(spec: dict[str, Any], flags: str) -> None:
    """The next command can be pasted."""
    assert scopes.of_order(spec).flags == flags


def test_flags_of_nodes() -> None:
    """They go with `stop` alone."""
    assert Scope(nodes=("a", "b")).flags == "--node a --node b"
    assert Scope((Named("Deployment", "v"),)).flags == "-w deployment/v"
