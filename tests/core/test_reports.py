"""A guard's word counts while it is fresh, for this pod, by this order."""

from typing import Any

import pytest

from killswitch.core import times
from killswitch.core.inventory import Pod
from killswitch.core.reports import SILENT, Report, report
from tests.core.builders import NOW, pod

Json = dict[str, Any]


def guard(renewed: float | None = NOW, **entry: Any) -> Report:
    """A report of one pod, dead by Shutdown `stop` unless told otherwise."""
    said = {
        "namespace": "prod",
        "pod": "p",
        "uid": "Pod.prod.p",
        "state": "Dead",
        "orderKind": "Shutdown",
        "orderName": "stop",
        "seenAt": times.text(NOW),
        "doneAt": times.text(NOW),
        **entry,
    }
    told = {key: value for key, value in said.items() if value is not None}
    status: Json = {"pods": [told]}
    if renewed is not None:
        status["renewedAt"] = times.text(renewed)
    return report({"metadata": {"name": "n1"}, "status": status})


def shutdown(created: float = NOW, kind: str = "Shutdown", name: str = "stop") -> Json:
    """A Shutdown made then."""
    return {"kind": kind, "metadata": {"name": name, "creationTimestamp": times.text(created)}}


THIS: Pod = pod("p", namespace="prod")


@pytest.mark.parametrize(
    ("age", "live"),
    [(0, True), (SILENT, True), (SILENT + 1, False), (-SILENT, True), (-SILENT - 1, False)],
)
def test_a_guard_is_there_while_it_reports(age: float, *, live: bool) -> None:
    """One that says it reported in the future would seem to live on after its death."""
    assert guard(NOW - age).live(NOW) is live


def test_a_guard_that_never_reported_is_absent() -> None:
    """The object alone says nothing."""
    assert not guard(None).live(NOW)
    assert not report({"metadata": {"name": "n1"}}).live(NOW)


@pytest.mark.parametrize(
    ("entry", "frozen"),
    [
        ({"state": "Frozen", "orderKind": "Freeze"}, True),
        ({"state": "Dead"}, True),
        ({"state": "Frozen", "doneAt": None}, False),
        ({"state": "Thawed"}, False),
        ({"state": "Failed"}, False),
        ({"state": "Frozen", "uid": "another"}, False),
    ],
    ids=str,
)
def test_frozen_is_what_the_kernel_said_of_this_pod(entry: Json, *, frozen: bool) -> None:
    """One that came under the same name is another."""
    assert guard(**entry).frozen(THIS) is frozen


@pytest.mark.parametrize(
    "entry",
    [
        {"state": "Frozen"},
        {"state": "Failed"},
        {"uid": "another"},
        {"doneAt": None},
        {"renewed": NOW - 1},
    ],
    ids=str,
)
def test_dead_is_what_the_kernel_said_of_this_pod_since_the_stop(entry: Json) -> None:
    """Anything else is no proof that this stop is complete."""
    assert guard().dead(THIS, shutdown())
    assert not guard(**entry).dead(THIS, shutdown())


def test_what_died_before_is_dead_by_the_shutdown_that_keeps_it_so() -> None:
    """At the end of a Freeze guards kill; the Shutdown that it ends in is made after that."""
    assert guard(doneAt=times.text(NOW - 60)).dead(THIS, shutdown())


def test_the_first_entry_about_a_pod_is_what_is_true_now() -> None:
    """What follows is what was."""
    now, before = (guard(state=state).words["Pod.prod.p"] for state in ("Frozen", "Thawed"))
    entry = {"namespace": "prod", "pod": "p", "uid": "Pod.prod.p", "orderKind": "Shutdown"}
    entry |= {"orderName": "stop", "seenAt": times.text(NOW), "doneAt": times.text(NOW)}
    pods = [{**entry, "state": state} for state in ("Frozen", "Thawed")]
    status = {"renewedAt": times.text(NOW), "pods": pods}
    found = report({"metadata": {"name": "n1"}, "status": status})
    assert found.words == {"Pod.prod.p": now} != {"Pod.prod.p": before}


@pytest.mark.parametrize(
    "entry", [{"orderKind": "ClusterShutdown"}, {"orderKind": "Freeze"}, {"orderName": "other"}]
)
def test_whichever_order_killed_it_dead_is_dead(entry: Json) -> None:
    """A guard names one order, and two Shutdowns may hold one static pod: both are complete."""
    assert guard(**entry).dead(THIS, shutdown())
