"""Daemons: readiness, errors with the log, and an end for every child."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.processes import Daemon, DaemonError, free_port

ROOT = Path(__file__).resolve().parents[2]
_IN_GROUP = "import subprocess, sys; subprocess.run(['sleep', '600'])"


def until(true: Callable[[], bool], within: float = 10.0) -> bool:
    """Whether it became true before the deadline."""
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def alive(pid: int) -> bool:
    """Whether a process with this id runs and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def test_free_ports_differ_and_outgoing_connections_cannot_take_them() -> None:
    """No port is given twice, none lies in the range of outgoing connections."""
    ports = [free_port() for _ in range(200)]
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(ports)) == 200
    assert max(ports) < lowest


def test_a_daemon_that_ends_while_starting_shows_its_log(tmp_path: Path) -> None:
    """The error names the daemon and ends with what it wrote."""
    daemon = Daemon("oven", ["sh", "-c", "echo too hot >&2; exit 3"], tmp_path / "oven.log")
    daemon.start()
    with pytest.raises(DaemonError, match=r"(?s)oven ended while starting.*too hot"):
        daemon.wait_ready(lambda: False, within=10)
    daemon.stop()


def test_a_daemon_that_never_gets_ready_is_said_to_be_late(tmp_path: Path) -> None:
    """The deadline holds, and the daemon can still be stopped."""
    daemon = Daemon("snail", ["sleep", "600"], tmp_path / "snail.log")
    daemon.start()
    with pytest.raises(DaemonError, match=r"snail was not ready in 0\.1 s"):
        daemon.wait_ready(lambda: False, within=0.1)
    pid = daemon.pid
    daemon.stop()
    assert not alive(pid)


@pytest.mark.parametrize("kill", [False, True])
def test_stopping_ends_the_whole_process_group(tmp_path: Path, kill: bool) -> None:
    """What the daemon started in its group does not outlive it."""
    daemon = Daemon("family", [sys.executable, "-c", _IN_GROUP], tmp_path / "family.log")
    daemon.start()
    assert until(lambda: len(children(daemon.pid)) == 1)
    child = children(daemon.pid)[0]
    daemon.stop(kill=kill)
    assert until(lambda: not alive(child))
    assert not daemon.running


def test_a_daemon_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    """After five seconds SIGKILL follows."""
    log = tmp_path / "deaf.log"
    daemon = Daemon("deaf", ["sh", "-c", "trap '' TERM; echo ready; sleep 600"], log)
    daemon.start()
    daemon.wait_ready(lambda: "ready" in daemon.tail())
    pid, started = daemon.pid, time.monotonic()
    daemon.stop()
    assert not alive(pid)
    assert 4.5 < time.monotonic() - started < 9


def test_restarting_gives_a_new_process_and_keeps_the_log(tmp_path: Path) -> None:
    """The log of both lives is one file."""
    command = ["sh", "-c", "echo born; exec sleep 600"]
    daemon = Daemon("phoenix", command, tmp_path / "phoenix.log")
    daemon.start()
    daemon.wait_ready(lambda: "born" in daemon.tail())
    first = daemon.pid
    daemon.restart(kill=True)
    daemon.wait_ready(lambda: daemon.tail().count("born") == 2)
    assert first != daemon.pid
    daemon.stop(kill=True)


def test_a_daemon_sees_the_environment_it_was_given(tmp_path: Path) -> None:
    """Pinned variables are added to the inherited ones."""
    daemon = Daemon(
        "env", ["sh", "-c", 'echo "$COLOUR $PATH"; exec sleep 600'], tmp_path / "log",
        {"COLOUR": "green"},
    )  # fmt: skip
    daemon.start()
    daemon.wait_ready(lambda: f"green {os.environ['PATH']}" in daemon.tail())
    assert daemon.running
    daemon.stop(kill=True)


def test_a_daemon_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """SIGKILL leaves the parent no chance to clean up; the kernel does."""
    program = f"""
import pathlib, time
from tests.cluster.processes import Daemon
daemon = Daemon("child", ["sleep", "600"], pathlib.Path({str(tmp_path / "log")!r}))
daemon.start()
print(daemon.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert until(lambda: not alive(child))
