"""What is kept of each object, and what is asked for."""

from killswitch.core.kinds import FREEZES, PODS, SHUTDOWNS, STANDING_ORDERS
from killswitch.node.watching import feeds, trimmed


def test_orders_that_are_history_are_not_asked_for() -> None:
    """And of pods only those of the node, by their metadata."""
    found = {each.resource.kind: each for each in feeds("n1")}
    for resource in (SHUTDOWNS, FREEZES):
        assert found[resource.kind].selector == {"labelSelector": "killswitch.dev/engaged=true"}
    assert found[STANDING_ORDERS.kind].selector == {}
    assert found[PODS.kind].selector == {"fieldSelector": "spec.nodeName=n1"}
    assert [each.resource.kind for each in found.values() if each.metadata_only] == ["Pod"]


def test_a_pods_annotations_are_not_kept_but_its_mirrors() -> None:
    """They may be large, and are nobody's business here."""
    metadata = {
        "name": "p",
        "namespace": "n",
        "uid": "u",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{}],
        "annotations": {"kubernetes.io/config.mirror": "0" * 32, "large": "x"},
        "ownerReferences": [{"kind": "Node"}],
    }
    found = trimmed("Pod", {"metadata": metadata, "spec": {"secret": "s"}})
    assert found == {
        "kind": "Pod",
        "metadata": {
            **{key: metadata[key] for key in ("name", "namespace", "uid", "creationTimestamp")},
            "ownerReferences": [{"kind": "Node"}],
            "annotations": {"kubernetes.io/config.mirror": "0" * 32},
        },
    }


def test_an_order_keeps_what_decides() -> None:
    """Its evidence, reason and report are left out; its kind is there, also from a list."""
    body = {
        "metadata": {"name": "f", "uid": "u", "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {"until": "x", "onExpiry": "Stop", "reason": "long", "evidenceDigest": "d"},
        "status": {"conditions": [{"type": "Ended", "status": "True", "message": "m"}], "pods": 3},
    }
    assert trimmed("Freeze", body) == {
        "kind": "Freeze",
        "metadata": body["metadata"],
        "spec": {"until": "x", "onExpiry": "Stop"},
        "status": {"conditions": [{"type": "Ended", "status": "True"}]},
    }
