"""The real Argo Rollouts controller as a process of this machine, against one control plane.

Built once from its Go module into the cache of tests/cluster/binaries.py (minutes), with the CRDs
and the rights that come with that module. It would listen on every address of the machine, so its
ports are such that it listens nowhere: it says so in its log and goes on.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import binaries
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import Daemon

Json = dict[str, Any]
NAMESPACE = "argo-rollouts"
ACCOUNT = "argo-rollouts"
CONTROLLER = "rollouts-controller"
"""The program, as tests/cluster/binaries.py knows it."""


@dataclass
class Rollouts:
    """One Argo Rollouts controller; a context manager."""

    plane: ControlPlane
    directory: Path
    _daemon: Daemon | None = None

    def __enter__(self) -> Self:
        """Install its CRDs and rights, and start it."""
        manifests = binaries.source(CONTROLLER) / "manifests"
        self.plane.kubectl("create", "namespace", NAMESPACE)
        for each in sorted((manifests / "crds").glob("*-crd.yaml")):
            self.plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(each))
        self.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        role = manifests / "role" / "argo-rollouts-clusterrole.yaml"
        self.plane.kubectl("apply", "-f", str(role))
        account = self.plane.service_account(NAMESPACE, ACCOUNT)
        self.plane.kubectl(
            "create", "clusterrolebinding", ACCOUNT,
            f"--clusterrole={ACCOUNT}", f"--serviceaccount={NAMESPACE}:{ACCOUNT}",
        )  # fmt: skip
        program = binaries.locate([CONTROLLER])[CONTROLLER]
        command = [str(program), f"--kubeconfig={account.kubeconfig}", f"--namespace={NAMESPACE}"]
        command += ["--leader-elect=false", "--metricsPort=-1", "--healthzPort=-1"]
        self._daemon = Daemon(CONTROLLER, command, self.directory / "rollouts.log")
        self._daemon.start()
        self._daemon.wait_ready(lambda: "Started rollout workers" in self.log)
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
        file = self.directory / "rollouts.log"
        return file.read_text(errors="replace") if file.exists() else ""
