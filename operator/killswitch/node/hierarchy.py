"""One mounted cgroup hierarchy and the pods in it."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from killswitch.core.errors import CgroupError
from killswitch.node.folders import Folder, cure
from killswitch.node.layout import Layout, Place, is_uid


class Hierarchy:
    """The pods of one hierarchy; nothing is remembered between two questions.

    Folders are handed out open until the next is asked for.
    """

    def __init__(self, path: Path, layouts: tuple[Layout, ...]) -> None:
        self.path = path
        self._layouts = layouts

    def refuse_read_only(self) -> None:
        """CgroupError where nothing could be written."""
        if os.statvfs(self.path).f_flag & os.ST_RDONLY:
            raise CgroupError(
                f"KILLSWITCH_CGROUPS: {self.path} is read-only",
                cure(errno.EROFS),
                file=str(self.path),
                number=errno.EROFS,
            )

    def pods(self) -> Iterator[tuple[str, Folder]]:
        """Every pod's uid and folder."""
        for place, parent in self._parents():
            for name in parent.names():
                uid = place.uid(name)
                folder = parent.child(name, uid) if uid is not None else None
                if uid is not None and folder is not None:
                    with folder:
                        yield uid, folder

    def uids(self) -> set[str]:
        """Every pod's uid."""
        return {uid for place, parent in self._parents() for uid in _uids(place, parent)}

    def driver(self) -> str:
        """Whose names the pods' folders have; empty while there are none."""
        found = (place.driver for place, parent in self._parents() if any(_uids(place, parent)))
        return next(found, "")

    def folders(self, uid: str) -> Iterator[Folder]:
        """The pod's folder: one, or two after a change of the kubelet's cgroup driver."""
        if not is_uid(uid):
            return
        for place, parent in self._parents(uid):
            folder = parent.child(place.folder(uid))
            if folder is not None:
                with folder:
                    yield folder

    def subtrees(self, uid: str) -> Iterator[Folder]:
        """The pod's folder and all below, whatever they are named."""
        for folder in self.folders(uid):
            yield from folder.subtree()

    def write(self, uid: str, file: str, text: str) -> bool:
        """Whether it was written to the pod's file: False where it has none here."""
        written = [folder.write(file, text) for folder in self.folders(uid)]
        return any(written)

    def read(self, uid: str, file: str) -> list[str]:
        """The pod's file; nothing where it has none here."""
        found = [folder.read(file) for folder in self.folders(uid)]
        return [each for each in found if each is not None]

    def _parents(self, uid: str = "") -> Iterator[tuple[Place, Folder]]:
        top = Folder.top(self.path, uid)
        if top is None:
            return
        with top:
            for layout in self._layouts:
                kubepods = top.descendant(layout.path)
                if kubepods is not None:
                    with kubepods:
                        yield from _of(layout, kubepods)


def _of(layout: Layout, kubepods: Folder) -> Iterator[tuple[Place, Folder]]:
    for place in layout.places:
        if not place.below:
            yield place, kubepods
            continue
        folder = kubepods.child(place.below)
        if folder is not None:
            with folder:
                yield place, folder


def _uids(place: Place, parent: Folder) -> Iterator[str]:
    return (uid for name in parent.names() if (uid := place.uid(name)) is not None)
