"""Names of pods' cgroups: exactly those that kubelets give, and none that look like them."""

import pytest

from killswitch.core.errors import CgroupError
from killswitch.node.layout import is_uid, layouts

UID = "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"
SAME = UID.replace("-", "_")
STATIC = "0123456789abcdef0123456789abcdef"


def folders(root: str, uid: str) -> list[str]:
    """Paths of a pod's folder at every place."""
    return [
        "/".join((*layout.path, *filter(None, (place.below,)), place.folder(uid)))
        for layout in layouts(root)
        for place in layout.places
    ]


def test_both_drivers_and_every_class_of_service() -> None:
    """As kubelet's `cgroup_manager_linux.go` makes them."""
    assert folders("/", UID) == [
        f"kubepods/pod{UID}",
        f"kubepods/burstable/pod{UID}",
        f"kubepods/besteffort/pod{UID}",
        f"kubepods.slice/kubepods-pod{SAME}.slice",
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SAME}.slice",
        f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SAME}.slice",
    ]


def test_a_root_of_the_kubelets_own() -> None:
    """As kind has it; systemd repeats every level and takes dashes for levels."""
    assert folders("/kubelet", STATIC)[1] == f"kubelet/kubepods/burstable/pod{STATIC}"
    assert folders("/kubelet", STATIC)[4] == (
        "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice"
        f"/kubelet-kubepods-burstable-pod{STATIC}.slice"
    )
    assert folders("/a-b/c/", UID)[0] == f"a-b/c/kubepods/pod{UID}"
    assert folders("/a-b/c/", UID)[3] == (
        f"a_b.slice/a_b-c.slice/a_b-c-kubepods.slice/a_b-c-kubepods-pod{SAME}.slice"
    )


@pytest.mark.parametrize("uid", [UID, STATIC])
def test_a_name_is_read_back_as_the_uid_it_was_made_of(uid: str) -> None:
    """At every place, by that place alone."""
    for layout in layouts("/kube-let"):
        for place in layout.places:
            assert place.uid(place.folder(uid)) == uid
    (_, burstable, _), (_, sliced, _) = (layout.places for layout in layouts("/"))
    assert burstable.uid(sliced.folder(uid)) is None
    assert sliced.uid(burstable.folder(uid)) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "pod",
        UID,
        f"Pod{UID}",
        f"pod{UID} ",
        f"pod{UID}\n",
        f"pod{UID.upper()}",
        f"pod{SAME}",
        f"pod{UID}.slice",
        f"podpod{UID}",
        f"pod{UID}/..",
        f"pod{UID[:-1]}",
        f"pod{STATIC}0",
        f"pod{STATIC[:-1]}\u0660",  # a digit to Python, not to us
        "pod../../../../system.slice",
        f"kubepods-pod{UID}.slice",
        f"kubepods-burstable-pod{SAME}.slice.slice",
        f"kubepods-burstable-pod{SAME[:8]}-{SAME[9:]}.slice",
        f"kubepods-burstable-besteffort-pod{SAME}.slice",
        "kubepods-burstable-pod.slice",
        "\udcff\udcfe",
    ],
)
def test_what_only_looks_like_a_pod_is_none(name: str) -> None:
    """No place takes it for one."""
    assert [p.uid(name) for layout in layouts("/") for p in layout.places] == [None] * 6


@pytest.mark.parametrize(
    "root", ["", "kubelet", "/..", "/a/../b", "/./a", "/a b", "/a\n", "/\0", "/a\\b"]
)
def test_a_root_that_is_no_path_is_refused(root: str) -> None:
    """It names the setting and the cure."""
    with pytest.raises(CgroupError, match=r"^KILLSWITCH_CGROUP_ROOT: .*--cgroup-root"):
        layouts(root)


def test_uids() -> None:
    """Those of the API, and the hashes of static pods."""
    assert is_uid(UID)
    assert is_uid(STATIC)
    assert not is_uid("mypod")
    assert not is_uid("../" + UID)
