"""The supervisor keeps a guard alive, or lets go of what it held; real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from killswitch.node.presence import FOLDER, Presence
from tests.cluster.test_processes import until
from tests.node.scene import ROOT

# The guard appends its pid to a file, then does as told.
_PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from killswitch.node.supervisor import supervise
said, how = Path(sys.argv[1]), sys.argv[2]
def say(text):
    with said.open("a") as file:
        file.write(text + "\\n")
def work(alive):
    leaving = []
    signal.signal(signal.SIGTERM, lambda *_: leaving.append(1))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    say(f"guard {os.getpid()}")
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raises":
        raise RuntimeError("a defect")
    if how == "waits for its parent":
        os.read(alive, 1)
        say("alone")
        return 0
    while not leaving:
        time.sleep(0.01)
    say("left")
    return 3 if how == "fails to leave" else 0
sys.exit(supervise(work, lambda: say("last resort")))
"""


class Supervised:
    """A supervisor with a guard of this kind."""

    def __init__(self, directory: Path, how: str) -> None:
        self.said = directory / "said"
        self.said.touch()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(self.said), how],
            env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
            stderr=subprocess.DEVNULL,
        )

    @property
    def lines(self) -> list[str]:
        """What was said."""
        return self.said.read_text().splitlines()

    @property
    def guards(self) -> list[int]:
        """Process ids of the guards so far."""
        return [int(line.split()[1]) for line in self.lines if line.startswith("guard")]


def test_a_guard_that_is_killed_is_started_again(tmp_path: Path) -> None:
    """By its supervisor, which goes on."""
    found = Supervised(tmp_path, "stays")
    assert until(lambda: len(found.guards) == 1)
    os.kill(found.guards[0], signal.SIGKILL)
    assert until(lambda: len(found.guards) == 2)
    found.process.terminate()
    assert found.process.wait(10) == 0
    assert found.lines[-1] == "left"


@pytest.mark.parametrize("how", ["dies", "raises"])
def test_five_deaths_in_a_row_are_the_last_resort(tmp_path: Path, how: str) -> None:
    """Then it gives up, so that the kubelet starts the container anew."""
    found = Supervised(tmp_path, how)
    assert found.process.wait(20) == 1
    assert len(found.guards) == 5
    assert found.lines[-1] == "last resort"


def test_a_guard_that_fails_to_leave_is_followed_by_the_last_resort(tmp_path: Path) -> None:
    """Nothing stays frozen because the one who should thaw it broke."""
    found = Supervised(tmp_path, "fails to leave")
    assert until(lambda: found.guards != [])
    found.process.terminate()
    assert found.process.wait(10) == 1
    assert found.lines[-2:] == ["left", "last resort"]


def test_a_guard_notices_that_its_supervisor_was_killed(tmp_path: Path) -> None:
    """Nobody would pass SIGTERM on to it."""
    found = Supervised(tmp_path, "waits for its parent")
    assert until(lambda: found.guards != [])
    found.process.kill()
    found.process.wait(10)
    assert until(lambda: found.lines[-1] == "alone")


_HOLD = """
import sys, time
from pathlib import Path
from killswitch.node.presence import Presence
Presence(Path(sys.argv[1]), "other")
print("ready", flush=True)
time.sleep(100)
"""


def test_a_successor_is_one_that_lives(tmp_path: Path) -> None:
    """The kernel gives its lock back, also after SIGKILL; its file is removed then."""
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    own = Presence(tmp_path, "own")
    assert own.successor()
    other.kill()
    other.wait(10)
    other.stdout.close()
    assert not own.successor()
    assert [each.name for each in (tmp_path / FOLDER).iterdir()] == ["own"]
    own.end()
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_of_guards_that_leave_at_once_the_last_finds_nobody(tmp_path: Path) -> None:
    """None of them is another's successor; one that stays is everybody's."""
    leaving = [Presence(tmp_path, name) for name in ("a", "b", "c")]
    assert [each.successor() for each in leaving] == [True, True, False]
    staying = Presence(tmp_path, "d")
    assert all(each.successor() for each in leaving)
    assert not staying.successor()
