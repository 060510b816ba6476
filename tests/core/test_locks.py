import json
from pathlib import Path
from typing import Any

import pytest

from killswitch.core import locks, projections
from killswitch.core.locks import covers, engaged, released

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "locks.json").read_text())
"""The same that tests/kernel/test_vectors.py asks the API server."""


def stop(approvals: int, *, label: str = "true") -> dict[str, Any]:
    """A Shutdown with that many of two approvals."""
    people = {f"person-{number}": {"reason": "r"} for number in range(approvals)}
    return {
        "metadata": {"labels": {"killswitch.dev/engaged": label}},
        "spec": {"requiredApprovals": 2, "approvals": people},
    }


def test_engaged_is_what_the_lock_computes() -> None:
    """The label and too few approvals; either alone locks nothing."""
    assert engaged(stop(1))
    assert not engaged(stop(2))
    assert not engaged(stop(1, label="false"))
    assert released(stop(2))
    assert not released(stop(0, label="false"))


def test_without_labels_nothing_is_in_force() -> None:
    """Kubernetes leaves the map out."""
    assert not locks.labelled({"metadata": {}})


@pytest.mark.parametrize("vector", VECTORS, ids=lambda each: each["name"])
def test_what_a_shutdown_covers(vector: dict[str, Any]) -> None:
    """In its own namespace as the vector says, in no other anything."""
    body = {"metadata": {"namespace": "prod", "uid": "u", **vector["pod"]}}
    pod = projections.pod(body)
    assert pod is not None
    shutdown = {"metadata": {"namespace": "prod"}, "spec": vector["spec"]}
    assert covers(shutdown, pod) is vector["covered"]
    assert not covers({**shutdown, "metadata": {"namespace": "dev"}}, pod)


@pytest.mark.parametrize(
    ("spec", "covered"),
    [
        ({"namespaces": {"prod": ""}}, True),
        ({"namespaces": {"dev": ""}}, False),
        ({"nodes": {"n1": ""}}, False),
    ],
)
def test_what_a_cluster_shutdown_covers(spec: dict[str, Any], covered: bool) -> None:
    """The namespaces it names; holding a node cordoned holds no pod."""
    pod = projections.pod({"metadata": {"namespace": "prod", "name": "p", "uid": "u"}})
    assert pod is not None
    assert covers({"metadata": {"name": "c"}, "spec": spec}, pod) is covered


def test_approvals_that_are_lacking() -> None:
    """As many as are needed, less those given; never fewer than none."""
    assert [locks.lacking(stop(given)) for given in range(4)] == [2, 1, 0, 0]
