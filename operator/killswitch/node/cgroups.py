"""The guard's hands: freeze, thaw, close, reopen and kill the pods of this node.

The only code that acts on cgroups. It decides nothing and remembers nothing: what it says is read
from the kernel at that moment, so a process that replaces a dead one goes on where that one was.
Each step (close, freeze, signal, thaw, prove; reopen) is announced before it begins. A pod whose
cgroup is gone, also under the hand, has nothing left to act upon, which is no error.
"""

import contextlib
import errno
import os
import re
import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from killswitch.core.errors import CgroupError
from killswitch.core.words import several
from killswitch.node import layout, processes
from killswitch.node.folders import Folder
from killswitch.node.hierarchy import Hierarchy

KILL_WITHIN = 5.0  # seconds
_FREEZE_WITHIN = 0.02  # a process that waits for a device may never freeze; it is signalled anyway
_STRIKE_AGAIN = 0.05
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # the inode that Linux gives to it alone
_LIMIT = "pids.max"
_CLOSED = "0"
_UNLIMITED = "max"


class _Freezer(NamedTuple):
    """The files of one version of cgroups that freeze: what is written, what is read back."""

    file: str
    freeze: str
    thaw: str
    own: str  # "1" where this very cgroup was told to freeze, not one above it
    state: str
    frozen: str  # the line of `state` once every process below stands still


_FREEZERS = {
    "v1": _Freezer(
        "freezer.state", "FROZEN", "THAWED", "freezer.self_freezing", "freezer.state", "FROZEN"
    ),
    "v2": _Freezer("cgroup.freeze", "1", "0", "cgroup.freeze", "cgroup.events", "frozen 1"),
}


class _Dying:
    """What is known of a pod while it is being killed."""

    __slots__ = ("refused", "seen", "still_open", "struck")

    def __init__(self) -> None:
        self.struck = False
        self.seen: set[int] = set()
        self.still_open: CgroupError | None = None
        self.refused: CgroupError | None = None


def _silent(_step: str, _uid: str) -> None:
    """Announce to nobody."""


class Cgroups:
    """The pods' cgroups of this node; CgroupError where there are none that can be used.

    Acting on a pod raises CgroupError when the kernel refuses, and for the pod that this process
    itself runs in.
    """

    def __init__(
        self,
        top: Path = Path("/sys/fs/cgroup"),
        root: str = "/",
        *,
        step: Callable[[str, str], None] = _silent,
    ) -> None:
        self._step = step
        layouts = layout.layouts(root)
        self.version = _version(top)
        self._freezer = _FREEZERS[self.version]
        unified = self.version == "v2"
        self._freezing = Hierarchy(top if unified else top / "freezer", layouts)
        self._counting = self._freezing if unified else Hierarchy(top / "pids", layouts)
        self._hierarchies = {self._freezing, self._counting}
        for each in self._hierarchies:
            each.refuse_read_only()
        self._kill_file = "cgroup.kill"
        self._sees_all = Path("/proc/self/ns/pid").stat().st_ino == _FIRST_PID_NAMESPACE
        _allow_many_files()
        self._own = next((uid for uid in self.pods() if self._is_own(uid)), "")

    @property
    def driver(self) -> str:
        """`cgroupfs` or `systemd`, by where pods are; empty while no pod is there."""
        return self._freezing.driver()

    def pods(self) -> set[str]:
        """Uids of all pods that have a cgroup here, as the API writes them."""
        return set().union(*(each.uids() for each in self._hierarchies))

    def frozen_pods(self) -> set[str]:
        """Uids of pods whose own cgroup was told to freeze; those of containers do not count.

        On v2 without the pids controller these include the closed ones.
        """
        own = self._freezer.own
        return {uid for uid, folder in self._freezing.pods() if folder.read(own) == "1"}

    def closed_pods(self) -> set[str]:
        """Uids of pods in which no process can begin."""
        return {uid for uid, folder in self._counting.pods() if self._limit(folder) == _CLOSED}

    def processes(self, uid: str) -> list[int]:
        """Process ids of the pod's whole subtree, those that this pid namespace can see."""
        return sorted(self._pids(uid) - {0})

    def freeze(self, uid: str) -> bool:
        """Tell it to freeze: `frozen` says when it has; returns whether it has a cgroup."""
        self._begin("freeze", uid)
        return self._write_freezer(uid, self._freezer.freeze)

    def frozen(self, uid: str) -> bool:
        """Whether all its processes stand still; False for a pod without a cgroup."""
        states = self._freezing.read(uid, self._freezer.state)
        return bool(states) and all(self._freezer.frozen in each.splitlines() for each in states)

    def thaw(self, uid: str) -> bool:
        """Let it run on, containers that were frozen by themselves excepted; as `freeze`."""
        self._begin("thaw", uid)
        return self._write_freezer(uid, self._freezer.thaw)

    def limit(self, uid: str) -> str:
        """How many processes it may have: `max` or a number, `0` when it is closed.

        For whoever records it before closing.
        """
        limits = [self._limit(folder) for folder in self._counting.folders(uid)]
        known = [each for each in limits if each is not None]
        closed = _CLOSED if known else _UNLIMITED
        return next((each for each in known if each != _CLOSED), closed)

    def close(self, uid: str) -> str:
        """Let no process begin in it any more; returns the limit it had, `0` if closed before.

        Without the pids controller (v2 only) a closed pod is a frozen one: what enters stands still.
        """
        self._begin("close", uid)
        former = self.limit(uid)
        if not self._write_limit(uid, _CLOSED) and self._pids(uid):
            raise CgroupError(
                f"pod {uid}: {self._counting.path} has no {_LIMIT} for it",
                "give its node the pids controller, which the kubelet asks for too",
                uid=uid,
                file=_LIMIT,
                number=errno.ENOENT,
            )
        return former

    def reopen(self, uid: str, former: str) -> bool:
        """Let processes begin again, as many as `close` said; `0` (nobody knows) opens it wholly."""
        if not re.fullmatch(r"max|[0-9]{1,19}", former):
            raise CgroupError(
                f"pod {uid}: {former!r} is no limit of processes", "pass what close said", uid=uid
            )
        self._begin("reopen", uid)
        return self._write_limit(uid, _UNLIMITED if former == _CLOSED else former)

    def kill(self, uid: str, within: float = KILL_WITHIN) -> int:
        """Close it, end every process of it, prove that none is left; returns how many there were.

        To be called again at will. What was frozen is thawed, whatever happens: on v1 the frozen
        cannot die. CgroupError with those left after `within` seconds, at once when the kernel
        refuses, and when nothing is left and yet the pod could not be closed.
        """
        outcome = self.kill_all([uid], within)[uid]
        if isinstance(outcome, CgroupError):
            raise outcome
        return outcome

    def kill_all(
        self, uids: Iterable[str], within: float = KILL_WITHIN
    ) -> dict[str, int | CgroupError]:
        """As `kill`, of several: all are struck before one is waited for; what became of each."""
        deadline = time.monotonic() + within
        dying: dict[str, _Dying] = {}
        outcomes: dict[str, int | CgroupError] = {}
        for uid in uids:
            try:
                self._refuse(uid)
            except CgroupError as error:
                outcomes[uid] = error
            else:
                dying[uid] = _Dying()
        while dying:
            for uid, pod in dying.items():
                self._strike(uid, pod)
            for uid in dying:
                self._step("prove", uid)
            now = time.monotonic()
            looked_until = min(deadline, now + _STRIKE_AGAIN)
            _wait(lambda: all(map(self._is_dead, dying, dying.values())), looked_until)
            for uid, pod in list(dying.items()):
                outcome = self._outcome(uid, pod, within if now >= deadline else None)
                if outcome is not None:
                    outcomes[uid] = outcome
                    del dying[uid]
        return outcomes

    def empty(self, uid: str) -> bool:
        """Whether the kernel shows no process in it; True for a pod without a cgroup."""
        if self.version == "v2":
            return all(_unpopulated(each) for each in self._freezing.read(uid, "cgroup.events"))
        return not self._pids(uid) and not self._hidden(uid)

    def _strike(self, uid: str, pod: _Dying) -> None:
        """Signal the processes that were not yet; `pod` is told of them and of refusals."""
        pod.refused = None
        try:
            try:
                if not pod.struck:
                    self._close_or_tell(uid, pod)
                if not pod.struck or self._pids(uid) - pod.seen - {0}:
                    self._signal(uid, pod)
            finally:
                self._let_die(uid)
        except CgroupError as error:
            pod.refused = error

    def _close_or_tell(self, uid: str, pod: _Dying) -> None:
        try:
            self.close(uid)
        except CgroupError as error:
            pod.still_open = error

    def _signal(self, uid: str, pod: _Dying) -> None:
        at_once = self.version == "v2" and any(
            each.has(self._kill_file) for each in self._freezing.folders(uid)
        )
        if not at_once:
            self._stand_still(uid)
        self._step("signal", uid)
        pids = self._pids(uid)
        if at_once:
            self._freezing.write(uid, self._kill_file, "1")
        else:
            processes.end(uid, pids, lambda: self._pids(uid))
        pod.seen |= pids - {0}
        pod.struck = True

    def _is_dead(self, uid: str, pod: _Dying) -> bool:
        try:
            return self.empty(uid)
        except CgroupError as error:
            pod.refused = error
            return False

    def _outcome(self, uid: str, pod: _Dying, within: float | None) -> int | CgroupError | None:
        """None while there is something to wait for; nothing is waited for after `within`."""
        if self._is_dead(uid, pod):
            return pod.still_open or len(pod.seen)
        if pod.refused:
            return pod.refused
        return None if within is None else self._left(uid, within)

    def _stand_still(self, uid: str) -> None:
        # The frozen neither fork nor exit, so the list that is signalled is exact. Where freezing
        # fails, signals and the next round do.
        with contextlib.suppress(CgroupError):
            self.freeze(uid)
            _wait(lambda: self.frozen(uid), time.monotonic() + _FREEZE_WITHIN)

    def _let_die(self, uid: str) -> None:
        if self.version == "v2" and not self._counting.read(uid, _LIMIT):
            return  # its being frozen is its being closed, and on v2 the frozen die too
        self.thaw(uid)
        if self.version == "v1":  # a paused container is frozen by itself
            for folder in self._freezing.subtrees(uid):
                folder.write(self._freezer.file, self._freezer.thaw)

    def _left(self, uid: str, within: float) -> CgroupError:
        left = self.processes(uid)
        if not left:
            return CgroupError(
                f"pod {uid}: after {within:g} s it has processes that the guard cannot see",
                "run the guard with hostPID: true",
                uid=uid,
            )
        shown = several([f"{pid} (state {processes.state(pid)})" for pid in left])
        return CgroupError(
            f"pod {uid}: after {within:g} s still alive: {shown}",
            "a process in state D dies when the device or file system that it waits for answers;"
            " where none does, restart the node",
            uid=uid,
            left=tuple(left),
        )

    def _hidden(self, uid: str) -> bool:
        """Whether a v1 pod has processes that cgroup.procs leaves out for our pid namespace.

        Counts include the dead that nobody has reaped, so they are asked only where needed.
        """
        counts = [] if self._sees_all else self._counting.read(uid, "pids.current")
        return any(each != "0" for each in counts)

    def _pids(self, uid: str) -> set[int]:
        # Of both hierarchies of v1: what has left one of them is the pod's all the same.
        return {
            pid
            for hierarchy in self._hierarchies
            for folder in hierarchy.subtrees(uid)
            for pid in folder.pids()
        }

    def _write_freezer(self, uid: str, text: str) -> bool:
        file = self._freezer.file
        written = self._freezing.write(uid, file, text)
        if not written and self._pids(uid):
            raise CgroupError(
                f"pod {uid}: {self._freezing.path} has no {file} for it",
                "mount the host's /sys/fs/cgroup; cgroup v2 freezes since Linux 5.2",
                uid=uid,
                file=file,
                number=errno.ENOENT,
            )
        return written

    def _write_limit(self, uid: str, limit: str) -> bool:
        written = self._counting.write(uid, _LIMIT, limit)
        if written or self.version == "v1":
            return written
        text = self._freezer.freeze if limit == _CLOSED else self._freezer.thaw
        return self._write_freezer(uid, text)

    def _limit(self, folder: Folder) -> str | None:
        limit = folder.read(_LIMIT)
        if limit is not None or self.version == "v1":
            return limit
        still = folder.read(self._freezer.own) == "1"
        return _CLOSED if still and _unpopulated(folder.read("cgroup.events") or "") else _UNLIMITED

    def _is_own(self, uid: str) -> bool:
        try:
            return os.getpid() in self._pids(uid)
        except CgroupError:
            return False  # what a pod does to its cgroups must not keep the guard from starting

    def _begin(self, step: str, uid: str) -> None:
        self._refuse(uid)
        self._step(step, uid)

    def _refuse(self, uid: str) -> None:
        if not layout.is_uid(uid):
            raise CgroupError(
                f"{uid!r} is not a pod's uid",
                "pass metadata.uid, or the annotation kubernetes.io/config.mirror of a static pod",
                uid=uid,
            )
        if uid == self._own:
            raise CgroupError(
                f"pod {uid} is the guard's own", "exempt it: a guard cannot stop itself", uid=uid
            )


def _version(top: Path) -> str:
    if os.path.exists(top / "cgroup.controllers"):  # noqa: PTH110 - Path's raises when forbidden
        return "v2"
    missing = [
        name
        for name in ("freezer", "pids")
        if not os.path.exists(top / name / "cgroup.procs")  # noqa: PTH110 - the same
    ]
    if not missing:
        return "v1"
    raise CgroupError(
        f"KILLSWITCH_CGROUPS: {top} is neither cgroup v2 (it has no cgroup.controllers)"
        f" nor v1 (it has no {' and no '.join(missing)})",
        "mount the host's /sys/fs/cgroup there, with readOnly: false",
        file=str(top),
    )


def _unpopulated(events: str) -> bool:
    return "populated 0" in events.splitlines()


def _allow_many_files() -> None:
    # One descriptor for each level of a pod's cgroups, which may be as deep as it likes.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _wait(true: Callable[[], bool], deadline: float) -> bool:
    """Whether it became true before the deadline; asked at least once."""
    pause = 0.0001
    while not true():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 2, 0.005)
    return True
