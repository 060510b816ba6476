"""A governed namespace with a reactor's harness for every test of this folder."""

from collections.abc import AsyncIterator

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.reactor.harness import Bench, bench


@pytest.fixture
async def setting(kernel: ControlPlane, governed: str) -> AsyncIterator[Bench]:
    """A fresh governed namespace on the API server with the kernel installed."""
    async with bench(kernel.admin.kubeconfig, governed) as ready:
        yield ready
