"""A governed namespace with two people who may release, and the manager's own account."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.control_plane import ControlPlane, User
from tests.e2e.chart import Helm, of_kind
from tests.manager.guarded import Ward
from tests.manager.harness import Scene
from tests.reactor.harness import bench


@pytest.fixture
async def scene(kernel: ControlPlane, governed: str) -> AsyncIterator[Scene]:
    """A fresh governed namespace on the API server with the kernel installed."""
    kernel.api().create("/api/v1/namespaces", {"metadata": {"name": "killswitch-system"}})
    async with bench(kernel.admin.kubeconfig, governed) as ready:
        yield Scene(kernel, ready)


@pytest.fixture(scope="module")
def account(kernel: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> User:
    """The manager's account with the rights that the chart gives it; the reactor's has its own."""
    kernel.api().create("/api/v1/namespaces", {"metadata": {"name": "killswitch-system"}})
    rendered = Helm(Path(tmp_path_factory.mktemp("helm"))).template(
        {"kinds": {"recreatePods": True}}
    )
    roles = [
        each
        for each in of_kind(rendered, "ClusterRole", "ClusterRoleBinding")
        if each["metadata"]["name"] in {"killswitch-manager", "killswitch-reactor"}
    ]
    kernel.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(roles))
    return kernel.service_account("killswitch-system", "killswitch-manager")


@pytest.fixture
def ward(scene: Scene, account: User) -> Ward:
    """Two nodes of this test alone, whose guards say what the test wants."""
    prefix = f"g-{scene.namespace}"
    first, second = scene.kernel.add_gpu_nodes(2, prefix=prefix)
    return Ward(scene, account, first, second)
