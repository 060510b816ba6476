"""Daemons that never outlive whoever started them. Used by everything in tests/cluster.

Each runs in its own process group with its log in a file, is stopped by its own pid, and is
killed by the kernel (PR_SET_PDEATHSIG) when the process that started it dies, even by SIGKILL.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class DaemonError(Exception):
    """A daemon ended or did not become ready; the text ends with the tail of its log."""


def free_port() -> int:
    """A port that was free a moment ago on the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  # one prctl, no lock
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

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def stop(self, *, kill: bool = False) -> None:
        """End it and wait: SIGTERM, then SIGKILL after five seconds, or SIGKILL at once."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
