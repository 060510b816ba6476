"""The guard's hands on the real kernel: real trees of processes, every kind of node."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from killswitch.core.errors import CgroupError
from tests.cluster.test_processes import alive, until
from tests.node.scene import (
    BOMB,
    COUNT,
    FORK,
    ROAM,
    ROOT,
    SLEEP,
    VARIANTS,
    Scene,
    count,
    stands_still,
    unavailable,
)

STEPS = ("close", "freeze", "signal", "thaw", "prove")
# cgroup.kill needs no freezing; a pod that is closed by being frozen needs no thawing.
STEPS_OF = {
    "v1": STEPS,
    "v2": ("close", "signal", "prove"),
    "v2-signals": ("close", "freeze", "signal", "prove"),
    "v2-pids": ("close", "signal", "thaw", "prove"),
    "v2-pids-signals": STEPS,
}


@contextlib.contextmanager
def node(variant: str) -> Iterator[Scene]:
    """Such a node; its folder is open to every user, as /sys/fs/cgroup is."""
    if reason := unavailable(variant):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with Scene(variant, Path(folder)) as scene:
            yield scene


@pytest.fixture(params=VARIANTS)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Each kind of node that this machine can be."""
    with node(request.param) as scene:
        yield scene


@pytest.fixture
def v1() -> Iterator[Scene]:
    """What only cgroup v1 has."""
    with node("v1") as scene:
        yield scene


@pytest.fixture
def v2() -> Iterator[Scene]:
    """What only cgroup v2 has."""
    with node("v2") as scene:
        yield scene


def test_a_frozen_pod_stands_still_and_goes_on_where_it_was(scene: Scene, tmp_path: Path) -> None:
    """All its containers do; its memory is as it was; the pod beside it runs on."""
    one, other = scene.pod(), scene.pod()
    mine, second, foreign = (tmp_path / name for name in ("mine", "second", "foreign"))
    a, b = scene.containers
    started = [
        scene.run(scene.folder(one, a), COUNT, mine, 64),
        scene.run(scene.folder(one, b), COUNT, second, 0),
        scene.run(scene.folder(other, a), COUNT, foreign, 0),
    ]
    guard = scene.hands()
    assert not guard.frozen(one)
    assert guard.freeze(one)
    assert until(lambda: guard.frozen(one))
    assert guard.frozen_pods() == {one}
    assert guard.processes(one) == sorted(each.pid for each in started[:2])
    kept = count(mine)
    assert stands_still(mine)
    assert stands_still(second)
    assert not stands_still(foreign)
    assert guard.thaw(one)
    assert until(lambda: count(mine) > kept)
    assert until(lambda: not stands_still(second))
    assert not guard.frozen(one)
    assert guard.frozen_pods() == set()
    assert count(mine) < kept + 10_000  # went on counting: it did not begin again, nor skip
    assert all(each.poll() is None for each in started)


def test_thirty_pods_are_told_first_and_awaited_then(scene: Scene) -> None:
    """Telling waits for nothing."""
    uids = {scene.pod() for _ in range(30)}
    for uid in uids:
        scene.enter(scene.folder(uid, scene.containers[0]), SLEEP)
    guard = scene.hands()
    assert until(lambda: all(guard.processes(uid) for uid in uids))
    assert guard.pods() == uids
    for uid in uids:
        guard.freeze(uid)
    assert until(lambda: all(guard.frozen(uid) for uid in uids))
    assert guard.frozen_pods() == uids
    for uid in uids:
        guard.thaw(uid)
    assert guard.frozen_pods() == set()


@pytest.mark.parametrize("driver", ["cgroupfs", "systemd", "containerd"])
def test_a_kill_leaves_no_process_and_a_closed_pod(
    scene: Scene, tmp_path: Path, driver: str
) -> None:
    """Of any runtime's containers, deaf to SIGTERM or holding memory; the pod beside it lives."""
    scene.driver = driver
    one, other = scene.pod(), scene.pod(qos="besteffort")
    for container in scene.containers:
        scene.run(scene.folder(one, container), COUNT, tmp_path / container[:20], 64)
    bystander = scene.run(scene.folder(other, scene.containers[0], "besteffort"), SLEEP)
    guard = scene.hands()
    assert guard.driver == ("cgroupfs" if driver == "cgroupfs" else "systemd")
    assert guard.pods() == {one, other}
    assert not guard.empty(one)
    assert guard.kill(one) == 2
    assert guard.empty(one)
    assert guard.processes(one) == []
    assert scene.processes(scene.folder(one)) == set()
    assert guard.closed_pods() == {one}
    assert (one in guard.frozen_pods()) == (not scene.has_pids)
    assert bystander.poll() is None
    assert guard.kill(one) == 0  # again: nothing to do, no error
    assert guard.closed_pods() == {one}


def test_a_fork_bomb_is_killed_to_the_last(scene: Scene) -> None:
    """200 processes in sessions of their own, each forking for ever."""
    uid = scene.pod()
    scene.run(scene.folder(uid, scene.containers[0]), BOMB, 200)
    guard = scene.hands()
    assert guard.kill(uid, within=60) >= 200
    assert scene.processes(scene.folder(uid)) == set()
    time.sleep(0.1)
    assert guard.empty(uid)


def test_processes_whose_numbers_never_stay_are_killed(scene: Scene) -> None:
    """Each line of them forks and exits: what is listed has ended when it is signalled."""
    uid = scene.pod()
    scene.run(scene.folder(uid, scene.containers[0]), ROAM, 20)
    guard = scene.hands()
    assert guard.kill(uid, within=60) >= 1
    time.sleep(0.1)
    assert guard.empty(uid)
    assert scene.processes(scene.folder(uid)) == set()


def test_without_the_freezer_signals_do_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a device holds never freezes: FREEZING without end delays a kill and stops it not."""
    uid = scene.pod()
    scene.run(scene.folder(uid, scene.containers[0]), ROAM, 5)
    guard = scene.hands()
    monkeypatch.setattr(guard, "frozen", lambda _uid: False)
    guard.kill(uid, within=60)
    assert scene.processes(scene.folder(uid)) == set()


def test_the_subtree_is_taken_whole(scene: Scene) -> None:
    """Three hundred levels deep, whatever the names."""
    uid = scene.pod()
    names = ["..pod", "a b", "line\rbreak", "größe", "pod" + str(uuid.uuid4()), "x" * 200]
    deep = scene.folder(uid, scene.containers[0])
    for name in names:
        deep = scene.make(deep / name)
    scene.enter(scene.folder(uid, scene.containers[0]), SLEEP)
    levels = [deep]
    for _ in range(300):
        levels.append(levels[-1] / "d")
    for top in scene._tops():
        (top / levels[-1]).mkdir(parents=True)
    process = scene.enter(levels[-1], SLEEP)
    assert until(lambda: len(scene.processes(scene.folder(uid))) == 2)
    guard = scene.hands()
    assert process.pid in guard.processes(uid)
    assert guard.kill(uid) == 2
    assert process.wait(10) == -signal.SIGKILL
    scene.remove(uid)


def test_a_decoy_inside_another_pod_is_that_pods(scene: Scene) -> None:
    """A container may name its cgroups as it likes: the pod it names is not touched by that."""
    one, named = scene.pod(), str(uuid.uuid4())
    inside = scene.make(scene.folder(one, scene.containers[0]) / f"pod{named}")
    beside = scene.make(scene.folder(one) / "kubepods" / "burstable" / f"pod{named}")
    processes = [scene.run(inside, SLEEP), scene.run(beside, SLEEP)]
    for wrong in (f"pod{named}", f"kubepods/other/pod{named}", f"kubepods/burstable/x/pod{named}"):
        scene.make(Path(wrong))
    guard = scene.hands()
    assert guard.pods() == {one}
    assert not guard.freeze(named)
    assert not guard.frozen(named)
    assert guard.close(named) == "max"
    assert guard.kill(named) == 0
    assert all(each.poll() is None for each in processes)
    assert guard.processes(named) == []
    assert guard.kill(one) == 2
    assert [each.wait(10) for each in processes] == [-signal.SIGKILL] * 2


def test_in_a_closed_pod_nothing_forks(scene: Scene, tmp_path: Path) -> None:
    """Neither what is in it nor what is moved into it; where pids are not counted it stands still."""
    uid = scene.pod()
    folder = scene.folder(uid, scene.containers[0])
    roaming = scene.run(folder, ROAM, 1)
    guard = scene.hands()
    before = guard.limit(uid)
    assert guard.close(uid) == before == "max"
    shown = tmp_path / "shown"
    entered = scene.enter(folder, FORK, shown)
    if scene.has_pids:
        assert guard.close(uid) == guard.limit(uid) == "0"
        assert guard.closed_pods() == {uid}
        assert entered.wait(10) != 0 or shown.read_text() == os.strerror(11)
        stable = guard.processes(uid)
        time.sleep(0.05)
        assert guard.processes(uid) == stable
        assert roaming.poll() is None
    else:
        assert until(lambda: guard.frozen(uid))
        assert until(lambda: entered.pid in guard.processes(uid))
        time.sleep(0.05)
        assert not shown.exists()
    assert guard.reopen(uid, before)
    assert guard.limit(uid) == "max"
    assert guard.closed_pods() == set()
    scene.enter(folder, FORK, shown).wait(10)
    assert shown.read_text() == "forked"


def test_a_dead_pod_is_reopened_with_the_limit_it_had(scene: Scene, tmp_path: Path) -> None:
    """What enters after a kill cannot begin; after the reopening it can."""
    uid = scene.pod()
    folder = scene.folder(uid, scene.containers[0])
    scene.run(folder, SLEEP)
    guard = scene.hands()
    if scene.has_pids:
        (scene.pids / scene.folder(uid) / "pids.max").write_text("37")
    former = guard.close(uid)
    assert former == ("37" if scene.has_pids else "max")
    assert guard.kill(uid) == 1
    shown = tmp_path / "shown"
    late = scene.enter(folder, FORK, shown)
    assert until(lambda: late.poll() is not None or late.pid in guard.processes(uid))
    time.sleep(0.05)
    assert not shown.exists() or shown.read_text() != "forked"
    guard.kill(uid)
    assert late.wait(10) is not None
    assert guard.reopen(uid, former)
    assert guard.limit(uid) == former
    assert guard.closed_pods() | guard.frozen_pods() == set()
    scene.enter(folder, FORK, shown).wait(10)
    assert shown.read_text() == "forked"


def test_a_limit_that_nobody_knows_is_lifted(scene: Scene) -> None:
    """`0` means closed before and not written down; nothing else that is no limit is taken."""
    uid = scene.pod()
    guard = scene.hands()
    guard.kill(uid)
    assert guard.reopen(uid, "0")
    assert guard.limit(uid) == "max"
    for odd in ("", "-1", "many", "1\n2", "9" * 30):
        with pytest.raises(CgroupError, match="is no limit of processes; pass what close said"):
            guard.reopen(uid, odd)


def test_a_frozen_pod_is_killed_and_not_left_frozen(scene: Scene, tmp_path: Path) -> None:
    """A Freeze that became a stop; on v1 the frozen cannot die until thawed."""
    uid = scene.pod()
    process = scene.run(scene.folder(uid, scene.containers[0]), COUNT, tmp_path / "shown", 0)
    guard = scene.hands()
    guard.freeze(uid)
    assert until(lambda: guard.frozen(uid))
    assert guard.kill(uid) == 1
    assert process.wait(10) == -signal.SIGKILL
    assert guard.frozen_pods() == (set() if scene.has_pids else {uid})


def test_the_steps_are_announced_in_order(scene: Scene) -> None:
    """Each before it begins."""
    uid = scene.pod()
    scene.run(scene.folder(uid, scene.containers[0]), SLEEP)
    told: list[str] = []
    scene.hands(lambda step, pod: told.append(step) if pod == uid else None).kill(uid)
    assert tuple(dict.fromkeys(told)) == STEPS_OF[scene.variant]


def test_of_several_all_are_struck_before_one_is_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one pod cannot do the others do not wait for; each has an outcome of its own."""
    uids = [scene.pod() for _ in range(4)]
    started = {
        uid: [scene.run(scene.folder(uid, each), SLEEP) for each in scene.containers]
        for uid in uids
    }
    hung = started[uids[0]][0]
    told: list[str] = []
    guard = scene.hands(lambda step, _uid: told.append(step))
    guard._kill_file = "cgroup.kill.of-a-newer-kernel"

    def kill(pid: int, _handle: int | None) -> None:
        if pid != hung.pid:
            os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr("killswitch.node.processes._kill", kill)
    outcomes = guard.kill_all([*uids, "no-uid"], within=0.2)
    odd, left = outcomes.pop("no-uid"), outcomes.pop(uids[0])
    assert outcomes == dict.fromkeys(uids[1:], 2)
    assert isinstance(odd, CgroupError)
    assert odd.uid == "no-uid"
    assert isinstance(left, CgroupError)
    assert left.left == (hung.pid,)
    assert told[: told.index("prove")].count("signal") == len(uids)
    assert guard.closed_pods() == set(uids[1:] if not scene.has_pids else uids)
    assert guard.kill_all([]) == {}


_DIE = """
def step(name, uid):
    if name == sys.argv[2]:
        os._exit(9)
made(step).kill(uid)
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_guard_that_dies_at_any_step_is_finished_by_the_next(scene: Scene, step: str) -> None:
    """Nothing wanted dead lives, nothing stays frozen on v1, the pod is closed."""
    uid = scene.pod()
    scene.run(scene.folder(uid, scene.containers[0]), ROAM, 5)
    died = subprocess.run([*scene.script("", _DIE), uid, step], cwd=ROOT, check=False)
    assert died.returncode == (9 if step in STEPS_OF[scene.variant] else 0)
    guard = scene.hands()
    guard.kill(uid)
    assert guard.empty(uid)
    assert scene.processes(scene.folder(uid)) == set()
    assert guard.closed_pods() == {uid}
    assert guard.frozen_pods() == (set() if scene.has_pids else {uid})


@pytest.mark.parametrize("step", STEPS)
def test_an_error_at_any_step_leaves_nothing_frozen_on_v1(v1: Scene, step: str) -> None:
    """Not even one that nobody thought of: the API's own stop must be able to kill."""
    uid = v1.pod()
    v1.run(v1.folder(uid, v1.containers[0]), SLEEP)

    def broken(name: str, _uid: str) -> None:
        if name == step:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        v1.hands(broken).kill(uid)
    guard = v1.hands()
    if step != "thaw":  # the one that failed is the thawing itself: the next guard's
        assert guard.frozen_pods() == set()
    guard.kill(uid)
    assert guard.empty(uid)


@pytest.mark.parametrize("step", STEPS)
def test_a_pod_that_vanishes_at_any_step_is_gone_and_no_error(scene: Scene, step: str) -> None:
    """The kubelet removes its cgroups while the guard works on them."""
    uid = scene.pod()
    scene.run(scene.folder(uid, scene.containers[0]), SLEEP)
    told: list[str] = []

    def vanish(name: str, _uid: str) -> None:
        told.append(name)
        if name == step and told.count(name) == 1:
            scene.remove(uid)

    guard = scene.hands(vanish)
    assert guard.kill(uid) in {0, 1}
    if step in STEPS_OF[scene.variant]:
        assert guard.pods() == set()
        assert not guard.freeze(uid)
        assert not guard.thaw(uid)
        assert not guard.reopen(uid, "max")
        assert guard.limit(uid) == guard.close(uid) == "max"
    assert guard.empty(uid)


def test_pods_that_come_and_go_disturb_nothing(scene: Scene) -> None:
    """All questions are asked while cgroups are made and removed as fast as can be."""
    steady, fleeting = scene.pod(), str(uuid.uuid4())
    scene.run(scene.folder(steady, scene.containers[0]), SLEEP)
    guard, done = scene.hands(), threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            scene.pod(fleeting)
            scene.remove(fleeting)

    kubelet = threading.Thread(target=come_and_go)
    kubelet.start()
    try:
        for _ in range(100):
            guard.freeze(fleeting)
            guard.frozen(fleeting)
            guard.close(fleeting)
            assert guard.processes(fleeting) == []
            assert guard.kill(fleeting) == 0
            assert steady in guard.pods()
            assert steady not in guard.frozen_pods() | guard.closed_pods()
    finally:
        done.set()
        kubelet.join()
    assert len(guard.processes(steady)) == 1


def test_a_pod_without_a_cgroup_is_empty_and_not_frozen(scene: Scene) -> None:
    """Its kubelet has not made it yet, or it is gone: nothing is claimed of it."""
    guard, uid = scene.hands(), str(uuid.uuid4())
    assert guard.driver == ""
    assert guard.pods() == guard.frozen_pods() == guard.closed_pods() == set()
    assert not guard.freeze(uid)
    assert not guard.frozen(uid)
    assert guard.empty(uid)
    assert guard.kill(uid) == 0


def test_static_pods_are_known_by_their_hash(scene: Scene) -> None:
    """32 hexadecimal digits, in the place of guaranteed pods too."""
    uid = "0123456789abcdef" * 2
    scene.driver = "systemd"
    scene.pod(uid, qos="")
    folder = Path("kubepods.slice", f"kubepods-pod{uid}.slice", scene.containers[0])
    scene.run(scene.make(folder), SLEEP)
    guard = scene.hands()
    assert guard.pods() == {uid}
    assert guard.kill(uid) == 1
    assert guard.closed_pods() == {uid}


@pytest.mark.parametrize("uid", ["", "..", "x/y", "0b1c2d3e", "pod*", "\0", "A" * 32])
def test_what_is_no_uid_is_refused(scene: Scene, uid: str) -> None:
    """It never becomes a path."""
    guard = scene.hands()
    for act in (guard.freeze, guard.thaw, guard.close, guard.kill):
        with pytest.raises(CgroupError, match=r"is not a pod's uid; pass metadata\.uid"):
            act(uid)
    assert guard.processes(uid) == []


_OWN = """
for top in sys.argv[2:]:
    Path(top, "cgroup.procs").write_text(str(os.getpid()))
guard = made()
for act in (guard.freeze, guard.close, guard.kill):
    try:
        act(uid)
    except Exception as error:
        print(error)
"""


def test_a_guard_does_not_stop_itself(scene: Scene) -> None:
    """A frozen guard could never thaw anybody, itself included."""
    uid = scene.pod()
    folders = [str(top / scene.folder(uid, scene.containers[0])) for top in scene._tops()]
    command = [*scene.script("", _OWN), uid, *folders]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    refused = f"pod {uid} is the guard's own; exempt it: a guard cannot stop itself\n"
    assert told.stdout == refused * 3


def test_a_paused_container_is_killed(scene: Scene) -> None:
    """Frozen by its runtime, below the pod: it is thawed too, or on v1 it could not die."""
    uid = scene.pod()
    folder = scene.folder(uid, scene.containers[0])
    process = scene.run(folder, SLEEP)
    file, text = ("freezer.state", "FROZEN") if scene.variant == "v1" else ("cgroup.freeze", "1")
    (scene.freezing / folder / file).write_text(text)
    guard = scene.hands()
    assert guard.frozen_pods() == set()  # that freeze is not ours
    assert guard.kill(uid) == 1
    assert process.wait(10) == -signal.SIGKILL


def test_a_process_that_left_one_hierarchy_is_killed(v1: Scene) -> None:
    """Out of the freezer and still counted in the pod: the pod's."""
    uid = v1.pod()
    folder = v1.folder(uid, v1.containers[0])
    process = v1.enter(folder, SLEEP, tops=(v1.pids,))
    guard = v1.hands()
    assert until(lambda: guard.processes(uid) == [process.pid])
    assert not guard.empty(uid)
    assert guard.kill(uid) == 1
    assert process.wait(10) == -signal.SIGKILL


def test_threaded_cgroups_hide_nothing(v2: Scene) -> None:
    """Their cgroup.procs cannot be read; the kernel lists the processes further up."""
    uid = v2.pod()
    folder = v2.folder(uid, v2.containers[0])
    process = v2.run(folder, SLEEP)
    threaded = v2.freezing / v2.make(folder / "t")
    (threaded / "cgroup.type").write_text("threaded")
    (threaded / "cgroup.threads").write_text(str(process.pid))
    guard = v2.hands()
    assert guard.processes(uid) == [process.pid]
    assert guard.kill(uid) == 1
    assert process.wait(10) == -signal.SIGKILL


_BLIND = """
guard = made()
print(guard.processes(uid), guard.empty(uid))
try:
    print(guard.kill(uid, within=0.2))
except Exception as error:
    print(error)
print(sorted(guard.frozen_pods()))
"""


def test_a_guard_that_cannot_see_processes_does_not_say_dead(scene: Scene) -> None:
    """Without hostPID cgroup v1 lists none of them. cgroup.kill needs no sight."""
    uid = scene.pod()
    process = scene.run(scene.folder(uid, scene.containers[0]), SLEEP)
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    command = [*unshare, *scene.script("", _BLIND), uid]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seen, end, frozen = told.stdout.splitlines()
    assert seen == "[] False"
    if scene.variant in {"v2", "v2-pids"}:
        assert process.wait(10) == -signal.SIGKILL
    else:
        assert end == (
            f"pod {uid}: after 0.2 s it has processes that the guard cannot see;"
            " run the guard with hostPID: true"
        )
        assert process.poll() is None
        assert frozen == ("[]" if scene.has_pids else str([uid]))


def test_what_outlives_a_kill_is_named(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the state that /proc shows; on v1 it is thawed all the same."""
    uid = scene.pod()
    process = scene.run(scene.folder(uid, scene.containers[0]), SLEEP)
    guard = scene.hands()
    # No signal reaches it, as one in a device's driver.
    guard._kill_file = "cgroup.kill.of-a-newer-kernel"
    monkeypatch.setattr("killswitch.node.processes._kill", lambda _pid, _handle: None)
    with pytest.raises(CgroupError, match=rf"after 0.1 s still alive: {process.pid} \(state ") as e:
        guard.kill(uid, within=0.1)
    assert e.value.left == (process.pid,)
    assert e.value.uid == uid
    assert alive(process.pid)
    if scene.has_pids:
        assert guard.frozen_pods() == set()


def test_kernels_without_process_descriptors(v1: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.3 processes are signalled by number."""
    uid = v1.pod()
    process = v1.run(v1.folder(uid, v1.containers[0]), SLEEP)

    def unknown(_pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", unknown)
    assert v1.hands().kill(uid) == 1
    assert process.wait(10) == -signal.SIGKILL


_UNPRIVILEGED = """
guard = made()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for act in (guard.freeze, guard.kill):
    try:
        act(uid)
    except Exception as error:
        print(error.uid, error.number, os.path.basename(error.file), "|", error.cure)
"""


def test_a_refusal_names_pod_file_and_cure(scene: Scene) -> None:
    """Run by a user without any right, nothing happens and everything is said."""
    uid = scene.pod()
    process = scene.run(scene.folder(uid, scene.containers[0]), SLEEP)
    command = [*scene.script("", _UNPRIVILEGED), uid]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    first, _ = told.stdout.splitlines()
    file = "freezer.state" if scene.variant == "v1" else "cgroup.freeze"
    assert first.startswith(f"{uid} 13 {file} | run the guard as user 0 with the host's")
    assert process.poll() is None
    assert scene.hands().frozen_pods() | scene.hands().closed_pods() == set()


def test_without_the_capability_to_signal_nothing_stays_frozen(v1: Scene) -> None:
    """The files are writable, SIGKILL is refused: told at once, thawed, and closed."""
    uid = v1.pod()
    folder = v1.folder(uid, v1.containers[0])
    process = v1.run(folder, SLEEP)
    for top in v1._tops():
        for below, _, files in os.walk(top / v1.folder(uid)):
            for each in files:
                os.chown(Path(below, each), 65534, 65534)
    command = [*v1.script("", _UNPRIVILEGED), uid]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.startswith(f"{uid} 1  | give the guard the capability KILL")
    assert process.poll() is None
    guard = v1.hands()
    assert guard.frozen_pods() == set()
    assert guard.closed_pods() == {uid}


_FOREIGN = "import os; os.setgid(1234); os.setuid(1234)\n" + SLEEP
_WITH = """
guard = made()
guard.freeze(uid)
guard.thaw(uid)
print(guard.kill(uid, within=2))
"""


@pytest.mark.parametrize("capabilities", ["", "kill"])
def test_the_capabilities_it_needs(scene: Scene, capabilities: str) -> None:
    """User 0 with KILL for servers of other users; with cgroup.kill not even that."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is missing")
    uid = scene.pod()
    process = scene.run(scene.folder(uid, scene.containers[0]), _FOREIGN)
    bounds = "-all" + (f",+{capabilities}" if capabilities else "")
    setpriv = ["setpriv", f"--bounding-set={bounds}", f"--inh-caps={bounds}", "--no-new-privs"]
    command = [*setpriv, *scene.script("", _WITH), uid]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if capabilities or scene.variant in {"v2", "v2-pids"}:
        assert (told.stdout, told.stderr) == ("1\n", "")
        assert process.wait(10) == -signal.SIGKILL
    else:
        assert f"pod {uid}: process {process.pid}: EPERM on SIGKILL; give the guard" in told.stderr
        assert process.poll() is None


def test_two_folders_of_one_pod_are_both_meant(scene: Scene) -> None:
    """After a change of the kubelet's cgroup driver the old one may hold processes still."""
    uid = scene.pod()
    old = scene.run(scene.folder(uid, scene.containers[0]), SLEEP)
    scene.driver = "systemd"
    scene.pod(uid)
    new = scene.run(scene.folder(uid, scene.containers[0]), SLEEP)
    guard = scene.hands()
    assert guard.pods() == {uid}
    guard.freeze(uid)
    assert until(lambda: guard.frozen(uid))
    assert guard.processes(uid) == sorted([old.pid, new.pid])
    assert guard.kill(uid) == 2
    assert [old.wait(10), new.wait(10)] == [-signal.SIGKILL] * 2


def test_links_cannot_be_made_among_cgroups(scene: Scene) -> None:
    """The kernel allows none; that they are not followed is shown on plain files."""
    uid = scene.pod()
    with pytest.raises(PermissionError):
        (scene.freezing / scene.folder(uid, "link")).symlink_to("/")
