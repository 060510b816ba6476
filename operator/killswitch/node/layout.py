"""Where kubelets put pods: exact names, for both cgroup drivers and every QoS class.

A container can make cgroups of any name below its own, so a pod's is known by its whole path. What
is not at one of these places, or has not exactly the name of a pod's uid there, is no pod.
"""

import re
from typing import NamedTuple

from killswitch.core.errors import CgroupError

# An API object's uid, or that of a static pod: the MD5 sum of its manifest.
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}")
_CLASSES = ("burstable", "besteffort")


class Place(NamedTuple):
    """One folder that holds pods' folders: of a QoS class, or `kubepods` itself (`below` empty)."""

    driver: str
    below: str
    prefix: str
    suffix: str
    dash: str  # what stands for "-" in a uid: systemd takes "-" for a level of its own

    def folder(self, uid: str) -> str:
        """Name of the pod's folder here."""
        return f"{self.prefix}{uid.replace('-', self.dash)}{self.suffix}"

    def uid(self, folder: str) -> str | None:
        """Uid of the pod with this folder; None where it is not exactly a pod's name."""
        middle = folder.removeprefix(self.prefix).removesuffix(self.suffix)
        uid = middle.replace(self.dash, "-")
        return uid if is_uid(uid) and self.folder(uid) == folder else None


class Layout(NamedTuple):
    """How one cgroup driver lays pods out: the path of `kubepods`, and the places in it."""

    path: tuple[str, ...]
    places: tuple[Place, ...]


def is_uid(text: str) -> bool:
    """Whether it is a uid as kubelets name cgroups after; nothing else ever becomes a path."""
    return _UID.fullmatch(text) is not None


def layouts(root: str) -> tuple[Layout, ...]:
    """Both below the kubelet's `--cgroup-root`; CgroupError where that is no such path."""
    parts = [part for part in root.split("/") if part]
    names = re.compile(r"[\w.:@-]*[\w:@-][\w.:@-]*")
    if not root.startswith("/") or not all(names.fullmatch(part) for part in parts):
        raise CgroupError(
            f"KILLSWITCH_CGROUP_ROOT: {root!r} is not a path of cgroups",
            "set it to the kubelet's --cgroup-root, which is / unless it was changed",
        )
    path = [*parts, "kubepods"]
    plain = tuple(Place("cgroupfs", below, "pod", "", "-") for below in ("", *_CLASSES))
    # systemd's: each level repeats those above, `a-b.slice` in `a.slice`.
    escaped = [part.replace("-", "_") for part in path]
    levels = ["-".join(escaped[: end + 1]) for end in range(len(escaped))]
    top = levels[-1]
    slices = tuple(
        Place("systemd", f"{top}-{each}.slice", f"{top}-{each}-pod", ".slice", "_")
        for each in _CLASSES
    )
    guaranteed = Place("systemd", "", f"{top}-pod", ".slice", "_")
    return (
        Layout(tuple(path), plain),
        Layout(tuple(f"{level}.slice" for level in levels), (guaranteed, *slices)),
    )
