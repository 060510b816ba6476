"""The lock's rule for pods in CEL, asked with the vectors that its Python form is tested by."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import pods, shutdown, shutdowns
from tests.kernel.test_lock import eventually_denied

pytestmark = pytest.mark.cluster
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "locks.json").read_text())
_NUMBERS = itertools.count()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda each: each["name"])
def test_what_the_lock_covers(kernel: ControlPlane, governed: str, vector: dict[str, Any]) -> None:
    """A pod is denied if and only if the vector says that it is covered."""
    api = kernel.api(kernel.user("alice"))
    spec = vector["spec"]
    # A label of our own shows when the lock is effective, whatever the vector says.
    spec = {**spec, "scope": spec.get("scope", {"podLabels": {"probe": "of-the-test"}})}
    number = next(_NUMBERS)
    answer = api.create(shutdowns(governed), shutdown(f"v-{number}", "alice", **spec))
    assert answer.status == 201, answer.message
    probe = {"name": "probe", "labels": spec["scope"].get("podLabels", {})}
    eventually_denied(lambda: _create(kernel, governed, probe))
    answer = _create(kernel, governed, vector["pod"])
    assert (answer.status == 403) is vector["covered"], answer.message


def _create(kernel: ControlPlane, namespace: str, metadata: dict[str, Any]) -> Any:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return kernel.api().create(pods(namespace), body, dry_run=True)
