"""What every benchmark works on: one control plane, one administrator, one machine."""

import contextlib
import os
import platform
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from killswitch.adapters import credentials
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.resources import NAMESPACES
from killswitch.core.stops import Boundaries
from killswitch.reactor.watched import Identity
from tests.cluster.control_plane import ControlPlane, User
from tests.kernel.fixtures import install

_RELEASER = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: bench-releaser}
rules:
- {apiGroups: [killswitch.dev], resources: [shutdowns], verbs: [get, patch, release, restore]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bench-releaser}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: bench-releaser}
subjects: [{kind: User, name: alice}, {kind: User, name: bob}]
"""


@dataclass
class Setting:
    """A running control plane with CRDs and admission policies installed."""

    control_plane: ControlPlane
    username: str = "admin"
    seconds: float = 20.0
    """For how long what is measured over time is."""

    def prepare(self) -> None:
        """Install what the benchmarks need."""
        install(self.control_plane)
        self.control_plane.kubectl("apply", "-f", "-", stdin=_RELEASER)
        self.control_plane.add_gpu_nodes(4)

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

    @property
    def people(self) -> tuple[User, User]:
        """Two people who may release."""
        return self.control_plane.user("alice"), self.control_plane.user("bob")

    def identity(self) -> Identity:
        """A reactor's identity that may act anywhere but in kube-system."""
        return identity(self.username)

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


def identity(username: str) -> Identity:
    """A reactor's identity that may act anywhere but in kube-system."""
    boundaries = Boundaries(frozenset({"kube-system"}), GOVERNED_LABEL)
    return Identity(username, "bench", "default", boundaries)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "arch": platform.machine(),
        "python": platform.python_version(),
    }


def _cpu() -> str:
    """The processor's model; where Linux does not tell it, what Python knows."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
