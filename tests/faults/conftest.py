"""A control plane of their own for tests that break it."""

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.cluster.control_plane import QUICK, ControlPlane
from tests.e2e.chart import until
from tests.kernel.fixtures import install
from tests.kernel.objects import pod, pods
from tests.reactor.harness import Bench, bench


@contextlib.contextmanager
def breakable() -> Iterator[ControlPlane]:
    """A control plane with the kernel, which nobody else's tests run on."""
    with ControlPlane(controller_manager_flags=QUICK) as running:
        install(running)
        running.add_gpu_nodes(2)
        yield running


@pytest.fixture(scope="module")
def own() -> Iterator[ControlPlane]:
    """One for the module's tests."""
    with breakable() as running:
        yield running


@pytest.fixture
async def scene(own: ControlPlane) -> AsyncIterator[Bench]:
    """A fresh governed namespace."""
    name = f"fault-{time.monotonic_ns()}"
    own.api().create("/api/v1/namespaces", {"metadata": {"name": name}})
    label = {"metadata": {"labels": {"killswitch.dev/governed": "true"}}}
    # For up to half a minute after a restart the API server refuses whatever the kernel matches.
    until(lambda: own.api().patch(f"/api/v1/namespaces/{name}", label).status == 200, "governed")
    until(lambda: _accepts_pods(own, name), "pods may be created")
    async with bench(own.admin.kubeconfig, name) as ready:
        yield ready


def _accepts_pods(own: ControlPlane, namespace: str) -> bool:
    return own.api().create(pods(namespace), pod("p"), dry_run=True).status == 201


def message(found: dict[str, Any], type_: str) -> str:
    """Of a condition."""
    conditions = found["status"]["conditions"]
    return str(next(each["message"] for each in conditions if each["type"] == type_))
