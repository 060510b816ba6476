"""Open folders of a cgroup hierarchy: every step by name and by descriptor, symbolic links never.

What vanishes meanwhile reads as absent (None, False): pods come and go. All else that the kernel
refuses is a CgroupError with its cure.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from killswitch.core.errors import CgroupError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 16
_ABSENT = frozenset({errno.ENOENT, errno.ENODEV})
# With O_NOFOLLOW a symbolic link in a folder's place is one of these: no folder, so no cgroup.
_NO_FOLDER = _ABSENT | {errno.ENOTDIR, errno.ELOOP}
_CURES = {
    errno.EROFS: "mount the host's /sys/fs/cgroup into the guard's container with readOnly: false",
    errno.EACCES: "run the guard as user 0 with the host's /sys/fs/cgroup mounted; where SELinux"
    " confines containers, with seLinuxOptions.type spc_t",
    errno.EPERM: "run the guard as user 0 of the host, not in a user namespace (hostUsers: true)",
    errno.EMFILE: "raise the guard's limit of open files (LimitNOFILE of the container runtime)",
}


def cure(number: int) -> str:
    """What to do about an errno of a cgroup's file."""
    return _CURES.get(number, "look at the node's kernel log; the guard tries again")


class Folder:
    """One open folder. A context manager: it closes its descriptor."""

    __slots__ = ("fd", "path", "uid")

    def __init__(self, fd: int, path: str, uid: str = "") -> None:
        self.fd = fd
        self.path = path
        self.uid = uid

    @classmethod
    def top(cls, path: Path, uid: str = "") -> "Folder | None":
        """The top of a hierarchy; None where there is none. The node's owner may have linked it."""
        try:
            return cls(os.open(path, _FOLDER & ~os.O_NOFOLLOW), str(path), uid)
        except OSError as error:
            if error.errno in _NO_FOLDER:
                return None
            raise _refused(str(path), uid, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def child(self, name: str, uid: str = "") -> "Folder | None":
        """The folder of this name right below; None where there is none."""
        path = f"{self.path}/{name}"
        try:
            fd = os.open(name, _FOLDER, dir_fd=self.fd)
        except OSError as error:
            if error.errno in _NO_FOLDER:
                return None
            raise _refused(path, uid or self.uid, error) from error
        return Folder(fd, path, uid or self.uid)

    def descendant(self, names: tuple[str, ...]) -> "Folder | None":
        """The folder at this path below, of one name at least; None where there is none."""
        folder = self.child(names[0])
        for name in names[1:]:
            if folder is None:
                return None
            with folder:
                folder = folder.child(name)
        return folder

    def names(self) -> list[str]:
        """Names of the folders right below."""
        try:
            with os.scandir(self.fd) as entries:
                return [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        except OSError as error:
            if error.errno in _ABSENT:
                return []
            raise _refused(self.path, self.uid, error) from error

    def subtree(self) -> Iterator["Folder"]:
        """This folder and all below, each open until the next is asked for.

        One descriptor for each level: a path would end at 4096 bytes, which any container that may
        make cgroups could exceed.
        """
        yield self
        levels = [(self, self.names())]
        try:
            while levels:
                folder, names = levels[-1]
                if not names:
                    levels.pop()
                    if levels:
                        os.close(folder.fd)
                    continue
                below = folder.child(names.pop())
                if below is not None:
                    levels.append((below, []))
                    yield below
                    levels[-1] = (below, below.names())
        finally:
            for folder, _ in levels[1:]:
                os.close(folder.fd)

    def has(self, file: str) -> bool:
        """Whether there is such a file."""
        try:
            os.stat(file, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def read(self, file: str) -> str | None:
        """All of a file, without the last line's end; None where it is not or its cgroup is gone.

        None also for `cgroup.procs` of a threaded cgroup: its processes are listed further up.
        """
        try:
            fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
            try:
                parts = []
                while part := os.read(fd, _CHUNK):
                    parts.append(part)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno in _ABSENT or error.errno == errno.EOPNOTSUPP:
                return None
            raise _refused(f"{self.path}/{file}", self.uid, error) from error
        return b"".join(parts).decode(errors="replace").rstrip("\n")

    def write(self, file: str, text: str) -> bool:
        """Whether it was written: False where there is no such file or its cgroup is gone."""
        flags = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(file, flags, dir_fd=self.fd)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise _refused(f"{self.path}/{file}", self.uid, error) from error
        return True

    def pids(self) -> set[int]:
        """Processes in this very folder; 0 stands for those of another pid namespace (v2)."""
        found = set()
        for line in (self.read("cgroup.procs") or "").split():
            with contextlib.suppress(ValueError):
                found.add(int(line))
        return found


def _refused(path: str, uid: str, error: OSError) -> CgroupError:
    number = error.errno or 0
    name = errno.errorcode.get(number, str(number))
    pod = f"pod {uid}: " if uid else ""
    problem = f"{pod}{path}: {name}, {os.strerror(number)}"
    return CgroupError(problem, cure(number), uid=uid, file=path, number=number)
