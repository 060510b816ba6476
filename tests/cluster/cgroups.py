"""A cgroup of our own, below which the real node's kubelet puts every pod.

Works on cgroup v1 (every hierarchy) and v2. Touches only folders below its own name, and removes
only what holds no process: the kernel refuses to remove any other.
"""

import contextlib
import os
import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

_TOP = Path("/sys/fs/cgroup")
_PREFIX = "killswitch-"


def unified() -> bool:
    """Whether this machine has cgroup v2 only."""
    return (_TOP / "cgroup.controllers").exists()


def _fresh_name() -> str:
    return f"{_PREFIX}{os.getpid()}-{secrets.token_hex(3)}"


def _hierarchies() -> list[Path]:
    """Where cgroups of pods are made: one place on v2, one for each controller on v1.

    On v1 runc also makes them in the empty v2 hierarchy that systemd mounts beside the others.
    """
    if unified():
        return [_TOP]
    rows = [row.split() for row in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(row[1]) for row in rows if row[2] in {"cgroup", "cgroup2"}]


@dataclass
class Tree:
    """One own cgroup in every hierarchy."""

    name: str = field(default_factory=_fresh_name)

    @property
    def top(self) -> Path:
        """Its folder in the hierarchy that freezes (v1) or in the only one (v2)."""
        return (_TOP if unified() else _TOP / "freezer") / self.name

    def create(self) -> None:
        """Make it; OSError where this machine does not allow that."""
        for hierarchy in _hierarchies():
            folder = hierarchy / self.name
            folder.mkdir()
            if unified():
                controllers = (_TOP / "cgroup.controllers").read_text().split()
                enabled = " ".join(f"+{each}" for each in controllers)
                (_TOP / "cgroup.subtree_control").write_text(enabled)
                (folder / "cgroup.subtree_control").write_text(enabled)
            for each in ("cpuset.cpus", "cpuset.mems"):  # empty on v1: no process may enter
                if not unified() and (folder / each).exists():
                    (folder / each).write_text((hierarchy / each).read_text())

    def pod(self, uid: str) -> Path | None:
        """The pod's folder in `top`, or None when the kubelet has none for it."""
        return next(
            (Path(each) for each, _, _ in os.walk(self.top) if each.endswith(f"/pod{uid}")), None
        )

    def processes(self, uid: str | None = None) -> list[int]:
        """Every process of a pod, its sandbox's included; of all pods without a uid."""
        folder = self.pod(uid) if uid else self.top
        found: list[int] = []
        # Not by glob, which fails when a folder is removed while it looks.
        for below, _, files in os.walk(folder) if folder else ():
            if "cgroup.procs" in files:
                with contextlib.suppress(OSError):
                    text = Path(below, "cgroup.procs").read_text()
                    found.extend(int(line) for line in text.split())
        return sorted(found)

    def thaw(self) -> None:
        """Let everything in it run: on v1 a frozen process cannot even die."""
        for hierarchy in _hierarchies():
            for name, word in (("cgroup.freeze", "0"), ("freezer.state", "THAWED")):
                for below, _, files in os.walk(hierarchy / self.name):
                    if name in files:
                        with contextlib.suppress(OSError):
                            Path(below, name).write_text(word)

    def remove(self, within: float = 5.0) -> None:
        """Remove it everywhere once its processes are gone; OSError when some stay."""
        deadline = time.monotonic() + within
        for hierarchy in _hierarchies():
            while (hierarchy / self.name).exists():
                try:
                    _remove_folders(hierarchy / self.name)
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)


def _remove_folders(folder: Path) -> None:
    for below, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(FileNotFoundError):
            Path(below).rmdir()


def remove_left_behind() -> None:
    """Remove the empty cgroups of owners that were killed and could not."""
    for hierarchy in _hierarchies():
        for folder in hierarchy.glob(f"{_PREFIX}*-*"):
            owner = re.fullmatch(rf"{_PREFIX}(\d+)-[0-9a-f]{{6}}", folder.name)
            if owner and not Path(f"/proc/{owner[1]}").exists():
                with contextlib.suppress(OSError):
                    _remove_folders(folder)
