"""Daemons that never outlive whoever started them. Used by everything in tests/cluster.

Each runs in its own process group with its log in a file, is stopped by that group's id, and is
killed by the kernel (PR_SET_PDEATHSIG) when whoever started it dies, even by SIGKILL. To the
kernel that is a *thread*, so one that lives as long as this process starts all of them.
"""

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_GIVEN: set[int] = set()
_LAUNCHER = ThreadPoolExecutor(1, "launcher")


class DaemonError(Exception):
    """A daemon ended or did not become ready; the text ends with the tail of its log."""


def free_port() -> int:
    """A port that was free a moment ago on the loopback address; never the same one twice.

    Below the range from which the kernel takes the ports of outgoing connections: one of those
    could otherwise sit on the port of a server that is being restarted.
    """
    lowest = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32768
    for _ in range(1000):
        port = random.randrange(10_000, lowest) if lowest > 11_000 else 0
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            port = int(probe.getsockname()[1])
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port
    raise DaemonError("no free loopback port in a thousand attempts")


def _dying_with(parent: int) -> Callable[[], None]:
    def arrange() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)

    return arrange


@dataclass
class Daemon:
    """One program with its arguments; `start` may be called again after `stop`."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; DaemonError when it is not running."""
        if self._process is None:
            raise DaemonError(f"{self.name} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start it; readiness is another matter."""
        _LAUNCHER.submit(self._launch).result()

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
                preexec_fn=_dying_with(os.getpid()),  # noqa: PLW1509  # one prctl, no lock
            )

    def wait_ready(self, probe: Callable[[], bool], within: float = 60.0) -> None:
        """Return when the probe says yes; DaemonError when it ends first or takes too long."""
        deadline = time.monotonic() + within
        while not probe():
            if self._process is None or self._process.poll() is not None:
                raise DaemonError(f"{self.name} ended while starting:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise DaemonError(f"{self.name} was not ready in {within:g} s:\n{self.tail()}")
            time.sleep(0.05)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it and what it started in its process group a signal."""
        os.killpg(self.pid, number)

    def stop(self, *, kill: bool = False) -> None:
        """End its group and wait: SIGTERM, SIGKILL after five seconds; or SIGKILL at once."""
        process, self._process = self._process, None
        if process is None:
            return
        # Until poll() or wait() has reaped it, its id cannot have become somebody else's.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def restart(self, *, kill: bool = False) -> None:
        """Stop it and start it again with the same arguments and log."""
        self.stop(kill=kill)
        self.start()

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
