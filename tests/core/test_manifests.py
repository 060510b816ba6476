"""What a bare pod is made again from."""

import json
from typing import Any

from killswitch.core import manifests
from killswitch.core.inventory import Pod

POD = Pod("prod", "agent", "uid-1", "n", "", {})


def body(**spec: Any) -> dict[str, Any]:
    """A pod as an API server gives it."""
    token = {"name": "kube-api-access-x7f2q", "mountPath": "/var/run/secrets"}
    data = {"name": "data", "mountPath": "/data"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "agent",
            "namespace": "prod",
            "uid": "uid-1",
            "resourceVersion": "12",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "deletionTimestamp": "2026-01-01T00:00:01Z",
            "labels": {"app": "agent"},
            "annotations": {"note": "x"},
            "managedFields": [{"manager": "kubectl"}],
            "finalizers": ["example.com/mine"],
        },
        "spec": {
            "nodeName": "gpu-1",
            "serviceAccountName": "agent",
            "volumes": [{"name": "kube-api-access-x7f2q"}, {"name": "data"}],
            "containers": [{"name": "c", "image": "i", "volumeMounts": [token, data]}],
            "initContainers": [{"name": "i", "image": "i"}],
            "ephemeralContainers": [{"name": "debug"}],
            "priority": 0,
            **spec,
        },
        "status": {"phase": "Running"},
    }


def test_what_belongs_to_one_life_alone_is_left_out() -> None:
    """Its node, its uid, its status, its token; all else is as it was."""
    text = manifests.of(POD, body()).manifest
    assert text is not None
    again = json.loads(text)
    assert again["metadata"] == {
        "name": "agent",
        "namespace": "prod",
        "labels": {"app": "agent"},
        "annotations": {"note": "x"},
    }
    assert set(again) == {"apiVersion", "kind", "metadata", "spec"}
    assert again["spec"] == {
        "serviceAccountName": "agent",
        "volumes": [{"name": "data"}],
        "containers": [
            {
                "name": "c",
                "image": "i",
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        ],
        "initContainers": [{"name": "i", "image": "i", "volumeMounts": []}],
    }


def test_a_priority_class_gives_its_numbers_itself() -> None:
    """A policy of preemption that somebody chose without a class stays."""
    classed = manifests.of(POD, body(priorityClassName="high", preemptionPolicy="Never")).manifest
    chosen = manifests.of(POD, body(preemptionPolicy="Never")).manifest
    assert classed is not None
    assert chosen is not None
    assert "preemptionPolicy" not in json.loads(classed)["spec"]
    assert json.loads(chosen)["spec"]["preemptionPolicy"] == "Never"


def test_one_that_no_record_has_room_for_cannot_be_made_again() -> None:
    """64 Ki characters are the most."""
    large = body(containers=[{"name": "c", "args": ["x" * manifests.MOST]}])
    assert manifests.of(POD, large).manifest is None


def test_who_has_an_owner_is_not_bare() -> None:
    """Its owner makes it anew; a static pod is its kubelet's."""
    owned = Pod("prod", "p", "u", "n", "owner", {})
    static = Pod("prod", "p", "u", "n", "", {}, mirror=True)
    assert [manifests.bare(each) for each in (POD, owned, static)] == [True, False, False]
