"""What is read and written where: on trees of plain files, which show names and refusals.

Plain files have no effects: nothing freezes or dies here, and a link, which cgroups cannot have,
can be laid. What the kernel does is shown in test_cgroups.py.
"""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from killswitch.core.errors import CgroupError
from killswitch.node import processes
from killswitch.node.cgroups import Cgroups
from killswitch.node.folders import Folder, cure
from tests.node.scene import plain_tree

UID = "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"
OTHER = "11111111-2222-4333-8444-555555555555"
POD = Path("kubepods", "burstable", f"pod{UID}")


@pytest.fixture(params=["v1", "v2"])
def top(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A node's hierarchies with one pod."""
    plain_tree(tmp_path, POD, version=request.param)
    return tmp_path


def contents(top: Path) -> dict[str, str]:
    """Every file of the tree."""
    return {
        str(each.relative_to(top)): each.read_text() for each in top.rglob("*") if each.is_file()
    }


def test_the_version_is_known_by_what_is_there(tmp_path: Path) -> None:
    """A v2 hierarchy beside those of v1 does not make it v2: its pods' controllers are on v1."""
    plain_tree(tmp_path / "one", POD)
    plain_tree(tmp_path / "one" / "unified", POD, version="v2")
    plain_tree(tmp_path / "two", POD, version="v2")
    assert Cgroups(tmp_path / "one").version == "v1"
    assert Cgroups(tmp_path / "two").version == "v2"


def test_a_place_without_cgroups_is_refused(tmp_path: Path) -> None:
    """It names the setting, what is missing and the cure."""
    (tmp_path / "freezer").mkdir()
    (tmp_path / "freezer" / "cgroup.procs").touch()
    with pytest.raises(CgroupError) as refused:
        Cgroups(tmp_path)
    assert str(refused.value) == (
        f"KILLSWITCH_CGROUPS: {tmp_path} is neither cgroup v2 (it has no cgroup.controllers)"
        " nor v1 (it has no pids); mount the host's /sys/fs/cgroup there, with readOnly: false"
    )
    with pytest.raises(CgroupError, match="it has no freezer and no pids"):
        Cgroups(tmp_path / "nowhere")


def test_a_read_only_mount_is_refused_at_the_start() -> None:
    """Not at the first stop; /proc is no cgroup and its `sys` cannot be remounted: a mount is made."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    script = f"""
import subprocess, sys
from pathlib import Path
from killswitch.node.cgroups import Cgroups
from tests.node.scene import plain_tree
top = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "none", top], check=True)
plain_tree(top, Path({str(POD)!r}))
subprocess.run(["mount", "-o", "remount,ro", top], check=True)
try:
    Cgroups(top)
except Exception as error:
    print(error)
"""
    unshare = ["unshare", "--mount", "--propagation=private", sys.executable, "-c", script, "/mnt"]
    told = subprocess.run(unshare, capture_output=True, text=True, check=True)
    assert told.stdout.endswith(
        " is read-only; mount the host's /sys/fs/cgroup into the guard's container with"
        " readOnly: false\n"
    )


def test_only_the_pods_own_files_are_written(top: Path) -> None:
    """One file each, of one pod, above its containers."""
    folders = [POD / "container", POD.with_name(f"pod{OTHER}"), POD.with_name("podother")]
    version = Cgroups(top).version
    plain_tree(top, POD, *folders, version=version)
    before = contents(top)
    guard = Cgroups(top)
    assert guard.pods() == {UID, OTHER}
    guard.freeze(UID)
    guard.close(UID)
    after = contents(top)
    changed = {name: after[name] for name in after if after[name] != before[name]}
    frozen, counted = ("freezer/", "pids/") if version == "v1" else ("", "")
    file, text = ("freezer.state", "FROZEN") if version == "v1" else ("cgroup.freeze", "1")
    assert changed == {f"{frozen}{POD}/{file}": text, f"{counted}{POD}/pids.max": "0"}
    guard.thaw(UID)
    guard.reopen(UID, "37")
    assert guard.limit(UID) == "37"
    assert guard.closed_pods() == set()


@pytest.mark.parametrize("which", ["kubepods", "burstable", "pod"])
def test_a_link_in_place_of_a_folder_is_no_folder(top: Path, which: str) -> None:
    """Wherever it leads, nothing there is touched: neither kubelet's folders nor a pod's are links."""
    guard = Cgroups(top)
    for hierarchy in {guard._freezing.path, guard._counting.path}:
        folder = hierarchy / POD
        while not folder.name.startswith(which):
            folder = folder.parent
        folder.rename(hierarchy / "elsewhere")
        folder.symlink_to("/" + str((hierarchy / "elsewhere").relative_to("/")))
    before = contents(top)
    assert guard.pods() == set()
    assert not guard.freeze(UID)
    assert guard.close(UID) == "max"
    assert guard.kill(UID) == 0
    assert contents(top) == before


def test_a_link_in_place_of_a_file_is_refused(top: Path, tmp_path: Path) -> None:
    """It is not opened, so what it leads to is not changed."""
    guard = Cgroups(top)
    target = tmp_path / "shadow"
    target.write_text("secret")
    (guard._counting.path / POD / "pids.max").unlink()
    (guard._counting.path / POD / "pids.max").symlink_to(target)
    with pytest.raises(CgroupError, match=r"pids\.max: ELOOP") as refused:
        guard.close(UID)
    assert (refused.value.uid, refused.value.number) == (UID, errno.ELOOP)
    assert target.read_text() == "secret"


def test_a_link_below_a_pod_is_not_followed(top: Path) -> None:
    """Processes of another pod behind it are not this one's."""
    guard = Cgroups(top)
    plain_tree(top, POD, POD.with_name(f"pod{OTHER}"), version=guard.version)
    for hierarchy in {guard._freezing.path, guard._counting.path}:
        (hierarchy / POD.with_name(f"pod{OTHER}") / "cgroup.procs").write_text("123\n")
        (hierarchy / POD / "container").symlink_to(hierarchy / POD.with_name(f"pod{OTHER}"))
    assert guard.processes(UID) == []
    assert guard.processes(OTHER) == [123]


def test_a_file_in_place_of_a_folder_is_no_pod(top: Path) -> None:
    """Names of files do not count."""
    guard = Cgroups(top)
    for hierarchy in {guard._freezing.path, guard._counting.path}:
        (hierarchy / POD.with_name(f"pod{OTHER}")).write_text("")
    assert guard.pods() == {UID}
    assert not guard.freeze(OTHER)


def test_zero_and_what_is_no_number_are_never_signalled(top: Path) -> None:
    """The kernel writes 0 for a process of another namespace; to kill, 0 is one's own group."""
    guard = Cgroups(top)
    for hierarchy in {guard._freezing.path, guard._counting.path}:
        (hierarchy / POD / "cgroup.procs").write_text("0\nx\n\n")
    assert guard.processes(UID) == []
    (guard._freezing.path / POD / "cgroup.events").write_text("populated 1\n")
    with pytest.raises(CgroupError):
        guard.kill(UID, within=0.01)


def test_a_v2_kernel_that_cannot_freeze_says_so(tmp_path: Path) -> None:
    """Before Linux 5.2; a pod without processes is one that is being made or removed."""
    plain_tree(tmp_path, POD, version="v2")
    (tmp_path / POD / "cgroup.freeze").unlink()
    guard = Cgroups(tmp_path)
    assert not guard.freeze(UID)
    (tmp_path / POD / "cgroup.procs").write_text("123\n")
    with pytest.raises(CgroupError, match=r"has no cgroup\.freeze for it; .* since Linux 5\.2"):
        guard.freeze(UID)


def test_a_v1_pod_without_limit_of_processes_is_said_to_be_open(tmp_path: Path) -> None:
    """It cannot be closed, and nobody may believe that it was."""
    plain_tree(tmp_path, POD)
    (tmp_path / "pids" / POD / "pids.max").unlink()
    (tmp_path / "freezer" / POD / "cgroup.procs").write_text("123\n")
    with pytest.raises(CgroupError, match=r"has no pids\.max for it; give its node the pids"):
        Cgroups(tmp_path).close(UID)


def test_every_cure_says_what_to_do() -> None:
    """Also for a number that nobody expects."""
    assert "readOnly: false" in cure(errno.EROFS)
    assert "user 0" in cure(errno.EACCES)
    assert "hostUsers" in cure(errno.EPERM)
    assert "open files" in cure(errno.EMFILE)
    assert "kernel log" in cure(errno.EIO)


def test_a_walk_closes_what_it_opened(tmp_path: Path) -> None:
    """Also when it is left in the midst."""
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "d").mkdir()

    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    folder = Folder.top(tmp_path)
    assert folder is not None
    with folder:
        names = [Path(each.path).name for each in folder.subtree()]
        assert sorted(names[1:]) == ["a", "b", "c", "d"]
        walk = folder.subtree()
        assert [next(walk), next(walk)]
        del walk
    assert opened() == before


def test_a_number_that_is_not_listed_any_more_is_spared() -> None:
    """The process ended and its number is another's: listed once more, it is not the pod's."""
    with subprocess.Popen(["sleep", "100"]) as another:
        processes.end(UID, {another.pid, 0}, set)
        assert another.poll() is None
        processes.end(UID, {another.pid, 0}, lambda: {another.pid, 0})
        assert another.wait(10) == -signal.SIGKILL
    processes.end(UID, {another.pid}, lambda: {another.pid})  # gone: no error
