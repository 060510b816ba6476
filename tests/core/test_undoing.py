"""Fields come back exactly, and only where nobody else has decided meanwhile."""

from typing import Any

import pytest

from killswitch.core import undoing
from killswitch.core.kinds import TABLE
from killswitch.core.undoing import Field

Json = dict[str, Any]
SUSPEND = ("spec", "suspend")

CASES: dict[str, tuple[Field, Json, Json | None, str]] = {
    "still as the stop wrote it": (
        Field(SUSPEND, was=False, wrote=True),
        {"spec": {"suspend": True}},
        {"spec": {"suspend": False}},
        "",
    ),
    "absent is a value": (
        Field(SUSPEND, was=None, wrote=True),
        {"spec": {"suspend": True}},
        {"spec": {"suspend": None}},
        "",
    ),
    "back already": (
        Field(SUSPEND, was=False, wrote=True),
        {"spec": {"suspend": False}},
        None,
        "",
    ),
    "absent, and filled in by a default": (
        Field(SUSPEND, was=None, wrote=True),
        {"spec": {"suspend": False}},
        None,
        "",
    ),
    "at rest before": (
        Field(SUSPEND, was=True, wrote=True),
        {"spec": {"suspend": True}},
        None,
        "",
    ),
    "changed by somebody": (
        Field(("spec", "replicas"), was=3, wrote=0),
        {"spec": {"replicas": 2}},
        None,
        "spec.replicas is 2 by somebody else",
    ),
    "an object that was taken away": (
        Field(("spec", "automated"), was={"prune": True}, wrote=None),
        {"spec": {}},
        {"spec": {"automated": {"prune": True}}},
        "",
    ),
    "an object that somebody wrote anew": (
        Field(("spec", "automated"), was={"prune": True}, wrote=None),
        {"spec": {"automated": {}}},
        None,
        "spec.automated is {} by somebody else",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_put_back_and_what_is_left(case: str) -> None:
    """Only what still stands as the stop wrote it."""
    field, body, change, conflict = CASES[case]
    assert change == undoing.undo(body, [field])
    assert conflict == field.conflict(body)


def record(kind: str, field: str, **was: str) -> Json:
    """A record of one field."""
    return {"kind": kind, "name": "x", "uid": "u", "settings": [{"field": field, **was}]}


def test_what_a_stop_wrote_is_known_for_kinds_fighters_and_traffic() -> None:
    """By the tables; a selector's cut by the Shutdown that made it."""
    daemon = TABLE["DaemonSet"]
    pointer = daemon.settings[0].pointer
    path = daemon.settings[0].path
    found = undoing.fields(record("DaemonSet", pointer), "h", daemon)
    assert found == [Field(path, was=None, wrote="true")]
    paused = "/metadata/annotations/autoscaling.keda.sh~1paused-replicas"
    found = undoing.fields(record("ScaledObject.keda.sh", paused, was='"3"'), "h")
    assert [(each.was, each.wrote) for each in found] == [("3", "0")]
    cut = record("Service", "/spec/selector/killswitch.dev~1cut")
    assert undoing.is_cut(cut)
    found = undoing.fields(cut, "0123456789")
    assert found == [Field(("spec", "selector", "killswitch.dev/cut"), was=None, wrote="01234567")]


def test_what_is_not_known_is_not_undone() -> None:
    """A record of a field that no stop of this version writes."""
    assert undoing.fields(record("Job", "/spec/parallelism", was="3"), "h", TABLE["Job"]) == []


def test_pointers_are_read_as_they_are_written() -> None:
    """RFC 6901."""
    for kind in TABLE.values():
        for setting in kind.settings:
            assert undoing.path_of(setting.pointer) == setting.path
