"""A governed namespace with a reactor's harness for every test of this folder."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.reactor.harness import Bench, bench


@pytest.fixture
async def setting(kernel: Any, namespace: str) -> AsyncIterator[Bench]:
    """A fresh governed namespace on the API server with the kernel installed."""
    async with bench(kernel.admin.kubeconfig, namespace) as ready:
        yield ready
