"""Which guards of this node are alive: each holds a lock on a file of its own for as long as it is.

The kernel gives the lock back with the last process that holds it, however that ended.
"""

import contextlib
import fcntl
import os
from pathlib import Path

FOLDER = "alive"


class Presence:
    """This guard's own file; made before forking, so that it lasts through its workers' deaths."""

    def __init__(self, state: Path, name: str) -> None:
        """Says from now on that this guard is alive."""
        self._folder = state / FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._path = self._folder / name
        self._fd = _open(self._path, os.O_CREAT)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def successor(self) -> bool:
        """Whether another guard stays, now that this one leaves. Files of dead ones are removed.

        From here on this guard counts as gone: of several that leave at once, the last to look
        finds nobody.
        """
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        others = [each for each in self._folder.iterdir() if each != self._path]
        return any([_alive(each) for each in others])  # noqa: C419  # all are looked at

    def end(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


def _alive(path: Path) -> bool:
    try:
        fd = _open(path, 0)
    except FileNotFoundError:
        return False
    try:
        # Shared: two that look at the same file must not take each other for its owner.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return False
    finally:
        os.close(fd)


def _open(path: Path, flags: int) -> int:
    return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
