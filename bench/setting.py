"""What every benchmark works on: one control plane, one administrator, one machine."""

import contextlib
import os
import platform
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

from killswitch.adapters import credentials
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.api.common import GOVERNED_LABEL
from killswitch.core.kinds import NAMESPACES
from tests.cluster.control_plane import ControlPlane


@dataclass
class Setting:
    """A running control plane with CRDs and admission policies installed."""

    control_plane: ControlPlane
    username: str = "admin"

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self.control_plane.server

    @property
    def authorization(self) -> str:
        """The administrator's Authorization header."""
        return f"Bearer {self.control_plane.admin.token}"

    @property
    def tls(self) -> ssl.SSLContext:
        """TLS as every client here uses it."""
        return ssl.create_default_context(cafile=str(self.control_plane.ca_file))

    @contextlib.asynccontextmanager
    async def cluster(self) -> AsyncIterator[KubernetesApi]:
        """The product's own client as the administrator."""
        loaded = credentials.load(kubeconfig=str(self.control_plane.admin.kubeconfig))
        async with KubernetesApi(loaded) as cluster:
            await cluster.warm(16)
            yield cluster

    async def namespace(self, cluster: KubernetesApi, name: str) -> None:
        """A governed namespace."""
        metadata = {"name": name, "labels": {GOVERNED_LABEL: "true"}}
        await cluster.create(
            NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        )


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cpus": os.cpu_count(),
        "system": platform.system(),
        "arch": platform.machine(),
        "python": platform.python_version(),
    }
