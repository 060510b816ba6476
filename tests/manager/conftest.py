"""A governed namespace with two people who may release."""

from collections.abc import AsyncIterator

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.manager.harness import Scene
from tests.reactor.harness import bench


@pytest.fixture
async def scene(kernel: ControlPlane, governed: str) -> AsyncIterator[Scene]:
    """A fresh governed namespace on the API server with the kernel installed."""
    kernel.api().create("/api/v1/namespaces", {"metadata": {"name": "killswitch-system"}})
    async with bench(kernel.admin.kubeconfig, governed) as ready:
        yield Scene(kernel, ready)
