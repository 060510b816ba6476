"""The real KEDA operator as a process of this machine, against one control plane.

Built once from its Go module into the cache of tests/cluster/binaries.py (minutes), with the CRDs
and the rights that come with that module.
"""

import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import binaries
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import Daemon, free_port

Json = dict[str, Any]
NAMESPACE = "keda"
ACCOUNT = "keda-operator"
OPERATOR = "keda-operator"
"""The program, as tests/cluster/binaries.py knows it."""


@dataclass
class Keda:
    """One KEDA operator; a context manager."""

    plane: ControlPlane
    directory: Path
    _daemon: Daemon | None = None
    _ready: int = field(default_factory=free_port)

    def __enter__(self) -> Self:
        """Install its CRDs and rights, and start it."""
        source = binaries.source(OPERATOR)
        self.plane.kubectl("create", "namespace", NAMESPACE)
        bases = source / "config" / "crd" / "bases"
        self.plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(bases))
        self.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        self.plane.kubectl("apply", "-f", str(source / "config" / "rbac" / "role.yaml"))
        self._daemon = Daemon(
            OPERATOR, self._command(), self.directory / "keda.log", self._environment()
        )
        self._daemon.start()
        self._daemon.wait_ready(self._answers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        if self._daemon is not None:
            self._daemon.stop(kill=True)

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self.directory / "keda.log").read_text(errors="replace")

    def _command(self) -> list[str]:
        program = binaries.locate([OPERATOR])[OPERATOR]
        keys = self.directory / "keda-keys"
        _make_keys(keys)
        return [
            str(program),
            "--leader-elect=false",
            "--enable-cert-rotation=false",
            f"--cert-dir={keys}",
            f"--ca-dir={keys}",
            f"--metrics-bind-address=127.0.0.1:{free_port()}",
            f"--metrics-service-bind-address=127.0.0.1:{free_port()}",
            f"--health-probe-bind-address=127.0.0.1:{self._ready}",
        ]

    def _environment(self) -> dict[str, str]:
        account = self.plane.service_account(NAMESPACE, ACCOUNT)
        self.plane.kubectl(
            "create", "clusterrolebinding", ACCOUNT,
            f"--clusterrole={ACCOUNT}", f"--serviceaccount={NAMESPACE}:{ACCOUNT}",
        )  # fmt: skip
        return {
            "KUBECONFIG": str(account.kubeconfig),
            "WATCH_NAMESPACE": "",
            "POD_NAMESPACE": NAMESPACE,
            "POD_NAME": OPERATOR,
            "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
        }

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ready}/readyz", timeout=1) as got:
                return bool(got.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def scaled_object(name: str, target: Json, prometheus: str, query: str, **spec: Any) -> Json:
    """A ScaledObject that wakes its target from zero as long as the query answers more than 0."""
    metadata = {"serverAddress": prometheus, "query": query, "threshold": "1"}
    metadata["activationThreshold"] = "0"
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": target,
            "minReplicaCount": 0,
            "maxReplicaCount": 3,
            "pollingInterval": 1,
            "cooldownPeriod": 3600,
            "triggers": [{"type": "prometheus", "metadata": metadata}],
            **spec,
        },
    }


def _make_keys(folder: Path) -> None:
    folder.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=keda", "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")],
        check=True,
        capture_output=True,
    )  # fmt: skip
    (folder / "ca.crt").write_text((folder / "tls.crt").read_text())
