"""A guarded node per test, on the session's control plane."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.node.guards import GuardedNode
from tests.node.scene import Scene, unavailable


@pytest.fixture
def cgroups() -> Iterator[Scene]:
    """Cgroups of our own, of the version that this machine has."""
    reasons = {variant: unavailable(variant) for variant in ("v1", "v2-pids")}
    variant = next((each for each, reason in reasons.items() if reason is None), None)
    if variant is None:
        pytest.skip(str(reasons))
    with tempfile.TemporaryDirectory() as folder, Scene(variant, Path(folder)) as scene:
        yield scene


@pytest.fixture
def node(kernel: ControlPlane, cgroups: Scene, tmp_path: Path) -> Iterator[GuardedNode]:
    """A node without a guard yet."""
    made = GuardedNode(kernel, cgroups, tmp_path)
    yield made
    made.close()
