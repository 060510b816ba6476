"""Fixtures: a control plane for the session, a fresh namespace for a test, Prometheus, a real node.

Registered by tests/conftest.py.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.node import RealNode
from tests.cluster.prometheus import Exporter, Prometheus

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A running control plane with four kwok GPU nodes, shared by the session."""
    with ControlPlane() as running:
        running.add_gpu_nodes(4)
        yield running


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A fresh namespace, left to the end of the session with what a test engaged in it."""
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


@pytest.fixture(scope="session")
def real_node(control_plane: ControlPlane) -> Iterator[RealNode]:
    """A real kubelet with containerd beside the kwok nodes; skipped where there can be none."""
    if reason := RealNode.unavailable():
        pytest.skip(reason)
    with RealNode(control_plane) as running:
        yield running
