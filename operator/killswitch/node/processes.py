"""SIGKILL to processes that are known by number, and to no others."""

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from killswitch.core.errors import CgroupError

_HELD = 256  # descriptors at once


def end(uid: str, pids: set[int], listed: Callable[[], set[int]]) -> None:
    """Signal those that `listed` still names: the pod's; CgroupError after all were tried.

    The number of a process that ended may be another's by the time it is signalled. One that is
    held by a descriptor and then listed once more is the pod's.
    """
    refused = None
    ordered = sorted(pids - {0})  # 0 is a process of another pid namespace, or to kill: our group
    for start in range(0, len(ordered), _HELD):
        with _held(ordered[start : start + _HELD]) as handles:
            for pid in listed() & handles.keys():
                try:
                    _kill(pid, handles[pid])
                except OSError as error:
                    refused = _refused(uid, pid, error)
    if refused:
        raise refused


def state(pid: int) -> str:
    """The letter that /proc has for it; a question mark when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "?"


@contextlib.contextmanager
def _held(pids: list[int]) -> Iterator[dict[int, int | None]]:
    with contextlib.ExitStack() as stack:
        handles: dict[int, int | None] = {}
        for pid in pids:
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            except OSError:  # older than Linux 5.3, or seccomp
                handles[pid] = None
            else:
                handles[pid] = handle
                stack.callback(os.close, handle)
        yield handles


def _kill(pid: int, handle: int | None) -> None:
    with contextlib.suppress(ProcessLookupError):
        if handle is None:
            os.kill(pid, signal.SIGKILL)
        else:
            signal.pidfd_send_signal(handle, signal.SIGKILL)


def _refused(uid: str, pid: int, error: OSError) -> CgroupError:
    number = error.errno or 0
    return CgroupError(
        f"pod {uid}: process {pid}: {errno.errorcode.get(number, str(number))} on SIGKILL",
        "give the guard the capability KILL; where AppArmor confines it, appArmorProfile.type"
        " Unconfined",
        uid=uid,
        number=number,
    )
