"""The stage of the demo: a real cluster with killswitch installed by its chart and running.

Also used by tests that need a whole installation with real operator processes.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import binaries
from tests.cluster.api import Json
from tests.cluster.control_plane import ControlPlane, User
from tests.cluster.processes import Daemon
from tests.cluster.prometheus import Prometheus

SYSTEM = "killswitch-system"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Stage:
    """A control plane, a Prometheus, the chart, and operator processes with the chart's tokens."""

    control_plane: ControlPlane
    prometheus: Prometheus
    folder: Path
    _daemons: list[Daemon] = field(default_factory=list)

    def install(self, *values: str) -> None:
        """`helm install` of the chart into its own namespace."""
        helm = binaries.locate(["helm"])["helm"]
        sets = [part for value in values for part in ("--set", value)]
        command = [
            str(helm),
            "install",
            "killswitch",
            str(ROOT / "helm" / "killswitch"),
            f"--namespace={SYSTEM}",
            "--create-namespace",
            *sets,
        ]
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.control_plane.admin.kubeconfig),
            "HELM_CACHE_HOME": str(self.folder / "helm"),
            "HELM_CONFIG_HOME": str(self.folder / "helm"),
            "HELM_DATA_HOME": str(self.folder / "helm"),
        }
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True)

    def run_operator(self, **settings: str) -> None:
        """Start two reactors and the manager with exactly the chart's service accounts."""
        for number, (command, account) in enumerate(
            [("reactor", "reactor"), ("reactor", "reactor"), ("manager", "manager")]
        ):
            user = self.control_plane.service_account(SYSTEM, f"killswitch-{account}")
            daemon = Daemon(
                command,
                [sys.executable, "-m", "killswitch", command],
                self.folder / f"{command}-{number}.log",
                {
                    "KUBECONFIG": str(user.kubeconfig),
                    "KILLSWITCH_NAMESPACE": SYSTEM,
                    "KILLSWITCH_PROMETHEUS_URL": self.prometheus.url,
                    "HOSTNAME": f"killswitch-{command}-{number}",
                    **{f"KILLSWITCH_{name.upper()}": text for name, text in settings.items()},
                },
            )
            daemon.start()
            self._daemons.append(daemon)

    def stop_operator(self, *, kill: bool = False) -> None:
        """End the operator's processes."""
        for daemon in self._daemons:
            daemon.stop(kill=kill)
        self._daemons.clear()

    def logs(self) -> str:
        """The ends of the operator's logs."""
        return "\n\n".join(f"== {each.log.name}\n{each.tail()}" for each in self._daemons)

    def people(self, namespace: str) -> None:
        """alice, bob and carol answer for the namespace, and may look everywhere."""
        everyone = [f"--user={name}" for name in ("alice", "bob", "carol")]
        role = "killswitch-viewer"
        bound = ["--dry-run=client", "-o", "yaml", f"--clusterrole={role}", *everyone]
        body = self.control_plane.kubectl("create", "clusterrolebinding", role, *bound).stdout
        self.control_plane.kubectl("apply", "-f", "-", stdin=body)
        for role, names in {
            "killswitch-responder": ("alice", "bob", "carol"),
            "killswitch-releaser": ("alice", "bob", "carol"),
            "edit": ("alice", "bob", "carol"),
        }.items():
            users = [f"--user={name}" for name in names]
            self.control_plane.kubectl(
                "create",
                "rolebinding",
                role,
                f"--clusterrole={role}",
                f"--namespace={namespace}",
                *users,
            )

    def killswitch(self, *arguments: str, user: User) -> "subprocess.CompletedProcess[str]":
        """The command line as this person."""
        return subprocess.run(
            [sys.executable, "-m", "killswitch", *arguments],
            env={**os.environ, "KUBECONFIG": str(user.kubeconfig), "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def wait(self, what: str, true: Callable[[], bool], within: float = 60.0) -> float:
        """Seconds until it is true; AssertionError with the operator's logs if it takes longer."""
        started = time.monotonic()
        while not true():
            if time.monotonic() - started > within:
                raise AssertionError(f"{what}: not within {within:g} s\n{self.logs()}")
            time.sleep(0.05)
        return time.monotonic() - started

    def condition(self, path: str, type_: str) -> Json:
        """The condition of the object at this path, or an empty one."""
        body = self.control_plane.api().get(path).body
        found = (body.get("status") or {}).get("conditions") or ()
        return next((each for each in found if each["type"] == type_), {})

    def holds(self, path: str, type_: str) -> bool:
        """Whether the object's condition is True."""
        return bool(self.condition(path, type_).get("status") == "True")


@contextlib.contextmanager
def stage(report: Callable[[str], None]) -> Iterator[Stage]:
    """An empty stage; everything on it ends with the block."""
    with (
        tempfile.TemporaryDirectory(prefix="killswitch-") as name,
        ControlPlane(report=report) as control_plane,
    ):
        control_plane.add_gpu_nodes(4)
        folder = Path(name)
        prometheus = Prometheus(folder / "prometheus", {})
        prometheus.start()
        ready = Stage(control_plane, prometheus, folder)
        try:
            yield ready
        finally:
            ready.stop_operator(kill=True)
            prometheus.stop(kill=True)
