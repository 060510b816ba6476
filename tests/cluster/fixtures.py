"""Fixtures: a control plane for a folder, a fresh namespace for a test, Prometheus, a real node.

Registered by tests/conftest.py.
"""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane import QUICK, ControlPlane
from tests.cluster.node import RealNode
from tests.cluster.prometheus import Exporter, Prometheus

_NUMBERS = itertools.count(1)


class _Planes:
    """One control plane at a time, and another for every folder of tests.

    What a folder leaves behind (hundreds of engaged Shutdowns, the CRDs of every kind) neither slows
    nor changes the tests of the next one.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._until_next = contextlib.ExitStack()

    def of(self, folder: Path) -> ControlPlane:
        """The control plane of this folder, with four kwok GPU nodes."""
        if folder != self._folder:
            self.close()
            plane = ControlPlane(controller_manager_flags=QUICK)
            self._running = self._until_next.enter_context(plane)
            self._running.add_gpu_nodes(4)
            self._folder = folder
        return self._running

    def close(self) -> None:
        """End what runs."""
        self._folder = None
        self._until_next.close()


@pytest.fixture(scope="session")
def _planes() -> Iterator[_Planes]:
    planes = _Planes()
    yield planes
    planes.close()


@pytest.fixture(scope="module")
def control_plane(_planes: _Planes, request: pytest.FixtureRequest) -> ControlPlane:
    """A running control plane with four kwok GPU nodes, shared by the tests of one folder."""
    return _planes.of(request.path.parent)


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A fresh namespace, left to the end of its control plane with what a test engaged in it."""
    name = f"test-{next(_NUMBERS)}"
    api = control_plane.api()
    assert api.create("/api/v1/namespaces", {"metadata": {"name": name}}).status == 201
    return name


@pytest.fixture(scope="session")
def exporter() -> Iterator[Exporter]:
    """An exporter that the session's Prometheus scrapes every 100 ms."""
    running = Exporter()
    running.set("exporter_up", 1)
    yield running
    running.close()


@pytest.fixture(scope="session")
def prometheus(
    exporter: Exporter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A running Prometheus that has scraped the exporter at least once."""
    directory: Path = tmp_path_factory.mktemp("prometheus")
    running = Prometheus(directory, {exporter.address: {}})
    running.start()
    try:
        running.wait_for_sample("exporter_up")
        yield running
    finally:
        running.resume()
        running.stop(kill=True)


@pytest.fixture(scope="module")
def real_node(control_plane: ControlPlane) -> Iterator[RealNode]:
    """A real kubelet with containerd beside the kwok nodes; skipped where there can be none."""
    if reason := RealNode.unavailable():
        pytest.skip(reason)
    with RealNode(control_plane) as running:
        yield running
