"""Pods as kubelets and runtimes lay them out, below a cgroup of our own, with real processes.

On a machine with cgroup v1 the empty v2 hierarchy beside it is a real one too: freezing, killing and
what the kernel tells of them work there, only no controller limits anything. `VARIANTS` says how
each kind of node is made of that.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from killswitch.node.cgroups import Cgroups
from tests.cluster import cgroups
from tests.cluster.test_processes import until

ROOT = Path(__file__).resolve().parents[2]
TOP = Path("/sys/fs/cgroup")
VARIANTS = {
    "v1": "cgroup v1",
    "v2": "cgroup v2 without the pids controller",
    "v2-signals": "the same before Linux 5.14, which has no cgroup.kill",
    "v2-pids": "cgroup v2; on a v1 machine pids are counted in the v1 hierarchy (one kernel code)",
    "v2-pids-signals": "the same before Linux 5.14",
}
CONTAINERS = {
    "cgroupfs": ("4f0c" * 16, "9a1b" * 16),
    "systemd": (f"crio-{'4f0c' * 16}.scope", f"crio-conmon-{'4f0c' * 16}.scope"),
    "containerd": (f"cri-containerd-{'4f0c' * 16}.scope", f"cri-containerd-{'9a1b' * 16}.scope"),
}

# Each line of roaming processes is one that forks and exits, on and on: its number never stays.
ROAM = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.setsid()
        while True:
            try:
                if os.fork():
                    os._exit(0)
            except OSError:
                pass
            time.sleep(0.001)
print("ready", flush=True)
time.sleep(1000)
"""
# Children of children, up to the number asked for, each deaf to SIGTERM and in a session of its own.
BOMB = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
left = int(sys.argv[1])
first = os.getpid()
while left > 1:
    half = left // 2
    if os.fork() == 0:
        os.setsid()
        left = half
    else:
        left -= half
if os.getpid() == first:
    time.sleep(0.2)
    print("ready", flush=True)
while True:
    try:
        if os.fork() == 0:
            time.sleep(0.02)
            os._exit(0)
    except OSError:
        pass
    time.sleep(0.1)
"""
# Counts in memory, and shows the count in a file.
COUNT = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
shown = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
weights = bytearray(int(sys.argv[2]) << 20)
count = 0
while True:
    count += 1
    os.pwrite(shown, b"%020d" % count, 0)
    if count == 1:
        print("ready", flush=True)
    time.sleep(0.001)
"""
# Tries to fork once, and shows whether it could.
FORK = """
import os, sys
try:
    if os.fork() == 0:
        os._exit(0)
    shown = "forked"
except OSError as error:
    shown = error.strerror
with open(sys.argv[1], "w") as file:
    file.write(shown)
"""
SLEEP = "import time; print('ready', flush=True); time.sleep(1000)"
_ENTER = 'IFS=:; set -f; for file in $ENTER; do echo $$ >"$file" || exit 1; done; exec "$@"'


def unavailable(variant: str) -> str | None:
    """Why there is no such node on this machine; None when there is."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "cgroups of our own need Linux and root"
    if variant == "v1" and cgroups.unified():
        return "this machine has cgroup v2 only"
    if variant in {"v2", "v2-signals"} and cgroups.unified():
        return "on this machine cgroup v2 has the pids controller"
    if variant != "v1" and not (unified() / "cgroup.controllers").exists():
        return "this machine has no cgroup v2 hierarchy"
    try:
        tree = cgroups.Tree()
        tree.create()
        tree.remove()
    except OSError as error:
        return f"a cgroup of our own is refused: {error}"
    return None


def unified() -> Path:
    """Where the v2 hierarchy is mounted."""
    return TOP if cgroups.unified() else TOP / "unified"


def _silent(_step: str, _uid: str) -> None:
    """Announce to nobody."""


def hands(
    top: Path,
    variant: str,
    pids: Path,
    step: Callable[[str, str], None] = _silent,
    root: str = "/",
) -> Cgroups:
    """The guard's hands for such a node."""
    made = Cgroups(top, root, step=step)
    if variant.endswith("-signals"):
        made._kill_file = "cgroup.kill.of-a-newer-kernel"
    if "-pids" in variant:
        made._counting = type(made._counting)(pids, made._freezing._layouts)
        made._hierarchies = {made._freezing, made._counting}
    return made


@dataclass
class Scene:
    """One node's hierarchies. A context manager: nothing is left of it."""

    variant: str
    directory: Path
    driver: str = "cgroupfs"
    tree: cgroups.Tree = field(default_factory=cgroups.Tree)
    _started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def __enter__(self) -> Self:
        cgroups.remove_left_behind()
        self.tree.create()
        self.directory.mkdir(exist_ok=True)
        if self.variant == "v1":
            for name in ("freezer", "pids"):
                (self.directory / name).symlink_to(TOP / name / self.tree.name)
        return self

    def __exit__(self, *_: object) -> None:
        assert until(self._ended)
        for each in self._started:
            each.wait(10)
            assert each.stdout is not None
            each.stdout.close()
        self.tree.remove()

    @property
    def top(self) -> Path:
        """What the guard takes for /sys/fs/cgroup."""
        return self.directory if self.variant == "v1" else unified() / self.tree.name

    @property
    def pids(self) -> Path:
        """The hierarchy that counts processes."""
        return (TOP if cgroups.unified() else TOP / "pids") / self.tree.name

    @property
    def freezing(self) -> Path:
        """The hierarchy that freezes."""
        return TOP / "freezer" / self.tree.name if self.variant == "v1" else self.top

    @property
    def has_pids(self) -> bool:
        """Whether processes are limited."""
        return self.variant == "v1" or "-pids" in self.variant

    def hands(self, step: Callable[[str, str], None] = _silent) -> Cgroups:
        """Fresh ones, as a process that has just begun."""
        return hands(self.top, self.variant, self.pids, step)

    def script(self, before: str, then: str) -> list[str]:
        """A process of its own with `guard` and `uid` (its first argument); `before` has neither."""
        return [
            sys.executable,
            "-c",
            f"import os, sys\nfrom pathlib import Path\nfrom tests.node.scene import hands\n{before}\n"
            f"def step(name, uid): pass\nuid = sys.argv[1]\n"
            f"def made(step=step):\n    return hands(Path({str(self.top)!r}), {self.variant!r},"
            f" Path({str(self.pids)!r}), step)\n{then}",
        ]

    def folder(self, uid: str, container: str = "", qos: str = "burstable") -> Path:
        """Path of a pod's or container's folder from the top of a hierarchy."""
        if self.driver == "cgroupfs":
            return Path("kubepods", qos, f"pod{uid}", container)
        base = f"kubepods-{qos}" if qos else "kubepods"
        folders = ["kubepods.slice", *([f"{base}.slice"] if qos else [])]
        return Path(*folders, f"{base}-pod{uid.replace('-', '_')}.slice", container)

    def pod(self, uid: str = "", qos: str = "burstable") -> str:
        """Make a pod's cgroups with two containers; returns its uid."""
        uid = uid or str(uuid.uuid4())
        for container in self.containers:
            self.make(self.folder(uid, container, qos))
        return uid

    @property
    def containers(self) -> tuple[str, ...]:
        """Names of each pod's containers' folders."""
        return CONTAINERS[self.driver]

    def make(self, folder: Path) -> Path:
        """Make a cgroup in every hierarchy concerned."""
        for top in self._tops():
            (top / folder).mkdir(parents=True, exist_ok=True)
            if cgroups.unified():
                above = [
                    top / each for each in [*reversed(folder.parents)][: len(folder.parts) - 1]
                ]
                for each in above:
                    (each / "cgroup.subtree_control").write_text("+pids")
        return folder

    def run(self, folder: Path, program: str, *arguments: object) -> "subprocess.Popen[str]":
        """Start a Python program in a cgroup, and wait for its first line."""
        process = self.enter(folder, program, *arguments)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def enter(
        self, folder: Path, program: str, *arguments: object, tops: tuple[Path, ...] = ()
    ) -> "subprocess.Popen[str]":
        """Start a Python program in a cgroup; it may stand still there at once."""
        files = ":".join(str(top / folder / "cgroup.procs") for top in tops or self._tops())
        process = subprocess.Popen(
            ["sh", "-c", _ENTER, "sh", sys.executable, "-S", "-E", "-c", program,
             *map(str, arguments)],
            env={"ENTER": files},
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self._started.append(process)
        return process

    def processes(self, folder: Path = Path()) -> set[int]:
        """What lives below a folder, looked up by other code than the guard's."""
        found: set[int] = set()
        for top in self._tops():
            for file in (top / folder).glob("**/cgroup.procs"):
                with contextlib.suppress(OSError):
                    found.update(map(int, file.read_text().split()))
        return found

    def remove(self, uid: str) -> None:
        """End a pod and remove its cgroups, as kubelet and runtime do."""
        assert until(lambda: self._ended(self.folder(uid)))
        for top in self._tops():
            for below, _, _ in os.walk(top / self.folder(uid), topdown=False):
                Path(below).rmdir()

    def _tops(self) -> tuple[Path, ...]:
        tops = {self.freezing, self.pids} if self.has_pids else {self.freezing}
        return tuple(sorted(tops))

    def _ended(self, folder: Path = Path()) -> bool:
        for top in self._tops():
            for file, text in (
                ("pids.max", "0"),
                ("cgroup.freeze", "0"),
                ("freezer.state", "THAWED"),
            ):
                for each in (top / folder).glob(f"**/{file}"):
                    with contextlib.suppress(OSError):
                        each.write_text(text)
        for pid in self.processes(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not self.processes(folder)


def count(file: Path) -> int:
    """What a COUNT program has counted."""
    return int(file.read_text())


def stands_still(file: Path) -> bool:
    """Whether a COUNT program does not count, looked at for fifty of its steps."""
    before = count(file)
    time.sleep(0.05)
    return count(file) == before


def plain_tree(top: Path, *pods: Path, version: str = "v1") -> None:
    """A tree of plain files that reads as cgroups do: for names and refusals, not for effects."""
    hierarchies = [top / "freezer", top / "pids"] if version == "v1" else [top]
    files = {
        "cgroup.procs": "",
        "freezer.state": "THAWED\n",
        "freezer.self_freezing": "0\n",
        "pids.max": "max\n",
        "cgroup.events": "populated 0\nfrozen 0\n",
        "cgroup.freeze": "0\n",
    }
    for hierarchy in hierarchies:
        hierarchy.mkdir(parents=True, exist_ok=True)
        for folder in (Path(), *pods):
            (hierarchy / folder).mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (hierarchy / folder / name).write_text(text)
    if version == "v2":
        (top / "cgroup.controllers").write_text("pids\n")
