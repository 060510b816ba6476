from typing import Any

import pytest

from killswitch.core import containment, times
from killswitch.core.containment import Orders, Resident, Term, Want, want

CREATED = "2026-01-01T00:00:00Z"
STATIC_UID = "0123456789abcdef0123456789abcdef"
TERM = Term(expired=lambda _: False, isolated=lambda _: False)
LATE = Term(expired=lambda _: True, isolated=lambda _: True)


def resident(name: str = "p", created: str = CREATED, **more: Any) -> Resident:
    """A pod of namespace prod."""
    body = {"namespace": "prod", "uid": f"uid-{name}", "name": name, "creationTimestamp": created}
    found = containment.resident({"metadata": {**body, **more}})
    assert found is not None
    return found


def order(kind: str, name: str = "o", namespace: str = "prod", **spec: Any) -> dict[str, Any]:
    """An order that holds the whole namespace, in force."""
    metadata = {"name": name, "uid": f"{kind}-{name}", "creationTimestamp": CREATED}
    if namespace:
        metadata["namespace"] = namespace
    return {
        "kind": kind,
        "metadata": {**metadata, "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {"scope": {"wholeNamespace": True}, "requiredApprovals": 1, **spec},
    }


def freeze(expiry: str = "Thaw", until: str = "2026-01-01T00:05:00Z", **spec: Any) -> Any:
    """A Freeze of five minutes."""
    return order("Freeze", until=until, onExpiry=expiry, **spec)


def orders(*bodies: Any) -> Orders:
    """These."""
    held = Orders()
    for body in bodies:
        held.put(body)
    return held


@pytest.mark.parametrize(
    ("body", "term", "expected"),
    [
        (order("Shutdown"), TERM, Want.KILL),
        (order("Shutdown", approvals={"bob": {"reason": "r"}}), TERM, Want.RUN),
        (order("ClusterShutdown", namespace="", namespaces={"prod": ""}), TERM, Want.KILL),
        (order("ClusterShutdown", namespace="", nodes={"n1": ""}), TERM, Want.RUN),
        (freeze("Thaw"), TERM, Want.FREEZE),
        (freeze("Stop"), TERM, Want.FREEZE),
        (freeze("Thaw"), LATE, Want.RUN),
        (freeze("Stop"), LATE, Want.KILL),
        (freeze("Stop", thaw={"by": "bob", "reason": "r"}), TERM, Want.RUN),
        (freeze("Stop", thaw={"by": "bob", "reason": "r"}), LATE, Want.RUN),
        (order("StandingOrder", onIsolation="Kill", after="1m"), TERM, Want.RUN),
        (order("StandingOrder", onIsolation="Kill", after="1m"), LATE, Want.KILL),
        (order("StandingOrder", onIsolation="Freeze", after="1m"), LATE, Want.FREEZE),
        (order("Pod"), LATE, Want.RUN),
    ],
)
def test_what_one_order_wants(body: Any, term: Term, expected: Want) -> None:
    """Each kind of order, in time and after it."""
    found, by = want(resident(), orders(body), term)
    assert found is expected
    assert by == (body if expected is not Want.RUN else None)


@pytest.mark.parametrize("change", [{"labels": {}}, {"labels": {"killswitch.dev/engaged": "no"}}])
def test_an_order_without_its_label_wants_nothing(change: dict[str, Any]) -> None:
    """The label goes when an order is history."""
    for body in (order("Shutdown"), freeze()):
        gone = {**body, "metadata": {**body["metadata"], **change}}
        assert want(resident(), orders(gone), TERM) == (Want.RUN, None)


def test_a_freeze_that_has_ended_wants_nothing() -> None:
    """Then the Shutdown that was made of it rules, and so does its release."""
    body = {**freeze("Stop"), "status": {"conditions": [{"type": "Ended", "status": "True"}]}}
    assert want(resident(), orders(body), LATE) == (Want.RUN, None)


def test_a_pod_that_came_after_the_end_is_not_killed() -> None:
    """A server that was restored bears the same names."""
    assert want(resident(created="2026-01-01T00:05:00Z"), orders(freeze("Stop")), LATE)[0] == 2
    assert want(resident(created="2026-01-01T00:05:01Z"), orders(freeze("Stop")), LATE)[0] == 0


def test_the_strongest_order_wins() -> None:
    """A stop outranks a freeze, whichever came first."""
    stop, hold = order("Shutdown"), freeze()
    assert want(resident(), orders(stop, hold), TERM) == (Want.KILL, stop)
    assert want(resident(), orders(hold, stop), TERM) == (Want.KILL, stop)


def test_among_equals_the_first_engaged_is_named() -> None:
    """However often either is written; of one second, that of the lower uid."""
    a, b = order("Shutdown", "a"), order("Shutdown", "b")
    late = order("Shutdown", "0")
    late["metadata"]["creationTimestamp"] = "2026-01-01T00:00:01Z"
    for written in (a, b, late):
        assert want(resident(), orders(late, b, a, written), TERM) == (Want.KILL, a)


def test_an_order_that_holds_a_pod_holds_it_whatever_its_labels_say_then() -> None:
    """As long as that very order is in force; others go by what the pod is now."""
    stop = order("Shutdown", "s", scope={"podLabels": {"app": "a"}})
    hold = freeze(scope={"podLabels": {"app": "a"}})
    relabelled = resident(labels={"app": "b"})
    held_by = [stop["metadata"]["uid"]]
    assert want(relabelled, orders(stop, hold), TERM) == (Want.RUN, None)
    assert want(relabelled, orders(stop, hold), TERM, held_by) == (Want.KILL, stop)
    assert want(relabelled, orders(hold), TERM, held_by) == (Want.RUN, None)
    released = {**stop, "spec": {**stop["spec"], "approvals": {"bob": {"reason": "r"}}}}
    assert want(relabelled, orders(released, hold), TERM, held_by) == (Want.RUN, None)


def test_orders_are_found_by_namespace_and_forgotten() -> None:
    """One of another namespace is never looked at; a replaced one counts as it is now."""
    held = orders(order("Shutdown", namespace="dev"), order("Shutdown", "b"))
    assert [each["metadata"]["name"] for each in held.about(resident().pod)] == ["b"]
    held.put(order("Shutdown", "b", scope={"podLabels": {"app": "x"}}))
    assert list(held.about(resident().pod)) == []
    assert held.remove("Shutdown-b") is not None
    assert held.remove("Shutdown-b") is None
    assert [each["metadata"]["namespace"] for each in held] == ["dev"]
    assert len(held) == 1


OF_NODE = [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n", "controller": True}]


@pytest.mark.parametrize(
    ("annotation", "owners", "expected"),
    [
        (STATIC_UID, OF_NODE, STATIC_UID),
        (STATIC_UID, [], "uid-p"),
        (STATIC_UID, [{**OF_NODE[0], "controller": False}], "uid-p"),
        (STATIC_UID, [{**OF_NODE[0], "kind": "ReplicaSet"}], "uid-p"),
        ("0a1b2c3d-0000-4000-8000-000000000000", OF_NODE, "uid-p"),
        (STATIC_UID[:-1] + "/", OF_NODE, "uid-p"),
        ("../" + STATIC_UID[3:], OF_NODE, "uid-p"),
        (STATIC_UID + "0", OF_NODE, "uid-p"),
    ],
)
def test_the_cgroup_of_a_static_pod(annotation: str, owners: Any, expected: str) -> None:
    """Its manifest's uid, believed only as a kubelet writes it."""
    annotations = {"kubernetes.io/config.mirror": annotation}
    assert resident(annotations=annotations, ownerReferences=owners).cgroup == expected


def test_a_cgroup_that_two_pods_claim_is_nobodys() -> None:
    """So a pod made to look like another's static one can have it neither killed nor frozen."""
    claim: dict[str, Any] = {
        "annotations": {"kubernetes.io/config.mirror": STATIC_UID},
        "ownerReferences": OF_NODE,
    }
    residents = [resident("a", **claim), resident("b", **claim), resident("c")]
    assert containment.ambiguous(residents) == {STATIC_UID}


def test_a_finished_pod_is_no_resident() -> None:
    """It has no process left."""
    metadata = {"namespace": "n", "name": "p", "uid": "u", "creationTimestamp": CREATED}
    body = {"metadata": metadata, "status": {"phase": "Succeeded"}}
    assert containment.resident(body) is None


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-01-01T00:01:00Z", 240),
        ("2026-01-01T00:06:00Z", 0),
        ("2025-12-31T00:00:00Z", 300),
    ],
)
def test_what_is_left_of_a_freeze(now: str, expected: float) -> None:
    """A clock that is a day behind does not make a Freeze of five minutes one of a day."""
    assert containment.remaining(freeze(), times.seconds(now)) == expected


def test_patience_of_a_standing_order() -> None:
    """In seconds."""
    assert containment.patience(order("StandingOrder", onIsolation="Kill", after="1m30s")) == 90


@pytest.mark.parametrize(
    ("stages", "metadata", "expected"),
    [
        ({}, {}, Want.RUN),
        ({"cut": CREATED}, {}, Want.RUN),
        ({"cut": CREATED, "drained": CREATED}, {"deletionGracePeriodSeconds": 30}, Want.RUN),
        ({"cut": CREATED, "drained": CREATED}, {"deletionGracePeriodSeconds": 1}, Want.KILL),
        ({}, {"deletionGracePeriodSeconds": 1}, Want.KILL),
        (
            {"cut": CREATED},
            {"annotations": {"kubernetes.io/config.mirror": STATIC_UID}},
            Want.RUN,
        ),
        (
            {"cut": CREATED, "drained": CREATED},
            {"annotations": {"kubernetes.io/config.mirror": STATIC_UID}},
            Want.KILL,
        ),
    ],
)
def test_a_graceful_stop_lets_a_pod_end_by_itself(
    stages: dict[str, str], metadata: dict[str, Any], expected: Want
) -> None:
    """Until somebody asks it to end within a second; a static pod until the drain is over."""
    body = {**order("Shutdown", category="Graceful"), "status": {"stages": stages}}
    assert want(resident(**metadata), orders(body), TERM)[0] is expected


def test_a_stop_that_does_not_wait_outranks_one_that_does() -> None:
    """Two Shutdowns of one pod."""
    gentle, now = order("Shutdown", "a", category="Graceful"), order("Shutdown", "b")
    assert want(resident(), orders(gentle, now), TERM) == (Want.KILL, now)
