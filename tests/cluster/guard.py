"""A node guard as a process of its own, beside the real node's kubelet.

Its account's token is bound to a pod of the node, as in a DaemonSet; its settings are those that
the chart would give it, pointed at this machine's folders.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.cluster.control_plane import ControlPlane, User
from tests.cluster.node import NAME, RealNode
from tests.cluster.processes import Daemon


@dataclass
class GuardProcess:
    """`python -m killswitch.node` for the real node; a context manager, or `start` and `stop`."""

    node: RealNode
    user: User
    """Its account, as `ControlPlane.service_account` gives it for a node."""
    settings: dict[str, str] = field(default_factory=dict)
    """More variables, such as KILLSWITCH_CGROUPS."""
    name: str = "guard"
    _daemon: Daemon | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ask it to end, as a DaemonSet that is deleted does."""
        self.stop()

    @property
    def state(self) -> Path:
        """The folder of what it remembers, which outlives it."""
        return self.node.control_plane.directory / "guard-state"

    @property
    def pid(self) -> int:
        """Process id of its supervisor."""
        assert self._daemon is not None
        return self._daemon.pid

    @property
    def pids(self) -> list[int]:
        """Process ids of the supervisor and its worker."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    @property
    def log(self) -> str:
        """The end of what it wrote."""
        assert self._daemon is not None
        return self._daemon.tail()

    def start(self) -> None:
        """Start it; it acts as soon as it has listed what is there."""
        plane: ControlPlane = self.node.control_plane
        self.state.mkdir(exist_ok=True)
        token = plane.directory / f"{self.name}.token"
        token.write_text(self.user.token)
        self._daemon = Daemon(
            self.name,
            [sys.executable, "-m", "killswitch.node"],
            plane.directory / f"{self.name}.log",
            {
                "NODE_NAME": NAME,
                "KILLSWITCH_API_SERVER": plane.server,
                "KILLSWITCH_CA_FILE": str(plane.ca_file),
                "KILLSWITCH_TOKEN_FILE": str(token),
                "KILLSWITCH_STATE_DIR": str(self.state),
                "KILLSWITCH_CGROUP_ROOT": f"/{self.node.cgroup.name}",
                **self.settings,
            },
        )
        self._daemon.start()

    def stop(self, *, kill: bool = False) -> None:
        """End it; with `kill` as the kernel's out-of-memory killer would."""
        if self._daemon is not None:
            self._daemon.stop(kill=kill)
            self._daemon = None
