"""Fixtures of the end-to-end tests: real Helm, and a control plane with the chart installed."""

from collections.abc import Iterator

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.e2e.chart import Helm

SYSTEM = "killswitch-system"


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster."""
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def bare() -> Iterator[ControlPlane]:
    """A control plane without killswitch and without nodes: pods are created, none runs."""
    with ControlPlane(scheduler=False, kwok=False) as running:
        yield running


@pytest.fixture(scope="module")
def helm(bare: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm as the administrator of the bare control plane."""
    return Helm(tmp_path_factory.mktemp("helm"), bare.admin.kubeconfig)
