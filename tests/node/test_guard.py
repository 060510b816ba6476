"""The guard as a process, on the real API server, with real processes in real cgroups."""

import signal

import pytest

from killswitch.node import memory
from killswitch.node.memory import Memory
from tests.node.guards import GuardedNode, eventually
from tests.node.scene import FORK

pytestmark = [pytest.mark.cluster]
STEPS = ("close", "freeze", "signal", "thaw", "prove")


def test_a_shutdown_kills_and_keeps_closed_until_it_is_released(node: GuardedNode) -> None:
    """Dead as read from the kernel; nothing begins in it; released, its limit is what it was."""
    model = node.model("vllm")
    (model.scene.pids / model.scene.folder(model.cgroup) / "pids.max").write_text("77")
    node.guard()
    assert model.running
    node.shutdown()
    eventually(lambda: model.dead, "it is dead")
    found = node.reported(model, "Dead")
    assert (found["orderKind"], found["orderName"], found["processes"]) == ("Shutdown", "stop", 1)
    assert found["seenAt"] <= found["doneAt"]
    assert model.limit == "0"
    node.release()
    eventually(lambda: model.limit == "77", "it is open again")
    node.reported(model, "Thawed")


def test_a_freeze_holds_until_somebody_thaws_it(node: GuardedNode) -> None:
    """It stands still and keeps its memory: thawed, it counts on from where it was."""
    model = node.model("vllm")
    node.guard()
    node.freeze()
    eventually(lambda: model.frozen, "it is frozen")
    assert node.reported(model, "Frozen")["processes"] == 1
    before = model.count
    node.thaw()
    eventually(lambda: model.running, "it runs")
    assert model.count >= before
    node.reported(model, "Thawed")


@pytest.mark.parametrize("then", ["Thaw", "Stop"])
def test_a_freeze_comes_to_its_end(node: GuardedNode, then: str) -> None:
    """As its object says."""
    model = node.model("vllm")
    node.guard()
    node.freeze(seconds=3, then=then)
    eventually(lambda: model.frozen, "it is frozen")
    if then == "Thaw":
        eventually(lambda: model.running, "it runs")
        node.reported(model, "Thawed")
    else:
        eventually(lambda: model.dead, "it is dead")
        assert node.reported(model, "Dead")["orderKind"] == "Freeze"


def test_what_is_made_during_a_freeze_is_frozen_as_it_starts(node: GuardedNode) -> None:
    """There is no lock: the guard is what holds it."""
    node.guard()
    node.freeze()
    late = node.pod("late")
    node.scene.pod(late["metadata"]["uid"])
    shown = node.directory / "forked"
    folder = node.scene.folder(late["metadata"]["uid"], node.scene.containers[0])
    frozen = node.scene.hands().frozen
    eventually(lambda: frozen(late["metadata"]["uid"]), "its cgroup is frozen")
    node.scene.enter(folder, FORK, shown)
    eventually(lambda: node.scene.processes(folder), "its process is there")
    assert not shown.exists()


def test_a_pod_made_again_under_its_name_is_stopped_too(node: GuardedNode) -> None:
    """By its own uid; what is reported of the first one stays."""
    first = node.model("vllm")
    node.guard()
    locks = {"pods/vllm": first.uid}
    node.shutdown(locks=locks)
    node.reported(first, "Dead")
    path = f"/api/v1/namespaces/{node.namespace}/pods/vllm"
    node.api.delete(path, gracePeriodSeconds="0")
    eventually(lambda: node.api.get(path).status == 404, "its object is gone")
    node.release()  # the lock refuses to make it again
    eventually(lambda: node.pod("vllm"), "it is made again")
    second = node.api.get(path).body
    node.shutdown("again", locks=locks)
    node.scene.pod(second["metadata"]["uid"])
    folder = node.scene.folder(second["metadata"]["uid"], node.scene.containers[0])
    node.scene.enter(folder, FORK, node.directory / "forked")
    eventually(lambda: not node.scene.processes(folder), "it is dead")
    eventually(
        lambda: any(
            each["uid"] == second["metadata"]["uid"] and each["state"] == "Dead"
            for each in node.status()["pods"]
        ),
        "it is reported",
    )


def test_an_update_hands_frozen_pods_over(node: GuardedNode) -> None:
    """With a successor alive SIGTERM changes nothing; without one frozen pods run again."""
    model = node.model("vllm")
    first = node.guard()
    node.freeze()
    eventually(lambda: model.frozen, "it is frozen")
    second = node.guard()
    first.signal(signal.SIGTERM)
    eventually(lambda: not first.running, "the first has left")
    assert model.frozen
    node.thaw()
    eventually(lambda: model.running, "the second one thaws it")
    node.freeze("again")
    eventually(lambda: model.frozen, "and freezes it")
    second.signal(signal.SIGTERM)
    eventually(lambda: model.running, "nobody is there to end the Freeze")
    assert "no successor" in node.reported(model, "Thawed")["message"]


def test_a_frozen_pod_that_is_deleted_by_force_stays_frozen_over_an_update(
    node: GuardedNode,
) -> None:
    """Its processes live as long as its cgroup does; the next guard knows whose that is."""
    model = node.model("vllm")
    first = node.guard()
    node.freeze()
    node.reported(model, "Frozen")
    path = f"/api/v1/namespaces/{node.namespace}/pods/vllm"
    node.api.delete(path, gracePeriodSeconds="0")
    eventually(lambda: node.api.get(path).status == 404, "its object is gone")
    eventually(lambda: '"ghosts":[{' in (node.state / memory.FILE).read_text(), "it is remembered")
    second = node.guard()
    first.signal(signal.SIGTERM)
    eventually(lambda: not first.running, "the first has left")
    eventually(lambda: second.running and model.frozen, "the second holds it")
    node.thaw()
    eventually(lambda: model.running, "it runs")


def test_a_frozen_pod_that_is_labelled_out_of_its_scope_stays_frozen(node: GuardedNode) -> None:
    """To label pods is not to thaw them."""
    model, other = node.model("vllm"), node.model("other")
    node.guard()
    node.freeze(scope={"podLabels": {"app": "vllm"}})
    node.reported(model, "Frozen")
    path = f"/api/v1/namespaces/{node.namespace}/pods/vllm"
    answer = node.api.patch(path, {"metadata": {"labels": {"app": "another"}}})
    assert answer.status == 200, answer.message
    node.freeze("next", scope={"podLabels": {"app": "other"}})
    node.reported(other, "Frozen")  # so the guard has heard of what came before
    assert model.frozen
    node.thaw()
    eventually(lambda: model.running, "it runs")


def test_guards_that_leave_at_once_leave_nothing_frozen(node: GuardedNode) -> None:
    """Uninstalled during an update: neither takes the other for its successor."""
    model = node.model("vllm")
    first = node.guard()
    node.freeze()
    eventually(lambda: model.frozen, "it is frozen")
    second = node.guard()
    first.signal(signal.SIGTERM)
    second.signal(signal.SIGTERM)
    eventually(lambda: not first.running and not second.running, "both have left")
    assert model.running


def test_what_is_dead_stays_closed_when_the_guard_leaves(node: GuardedNode) -> None:
    """Uninstalling brings nothing back."""
    model = node.model("vllm")
    guard = node.guard()
    node.shutdown()
    node.reported(model, "Dead")
    guard.signal(signal.SIGTERM)
    eventually(lambda: not guard.running, "it has left")
    assert model.limit == "0"


@pytest.mark.parametrize("step", STEPS)
def test_a_guard_killed_at_any_step_is_started_again_and_finishes(
    node: GuardedNode, step: str
) -> None:
    """What it left half done is done from what the kernel and the API say."""
    model = node.model("vllm")
    node.crashing_guard(step)
    node.shutdown()
    eventually(lambda: model.dead and not node.crashes_left, "it is dead in spite of the crash")
    node.reported(model, "Dead")
    eventually(lambda: model.limit == "0", "it is closed")
    assert len(node.log("the guard died")) == 1


def test_a_guard_killed_as_it_thaws_is_started_again_and_thaws(node: GuardedNode) -> None:
    """Nothing stays frozen that nobody wants frozen."""
    model = node.model("vllm")
    node.crashing_guard("thaw")
    node.freeze()
    eventually(lambda: model.frozen, "it is frozen")
    node.thaw()
    eventually(lambda: model.running and not node.crashes_left, "it runs in spite of the crash")


def test_a_guard_killed_as_it_reopens_is_started_again_and_reopens(node: GuardedNode) -> None:
    """With the limit that the one before remembered."""
    model = node.model("vllm")
    (model.scene.pids / model.scene.folder(model.cgroup) / "pids.max").write_text("77")
    node.crashing_guard("reopen")
    node.shutdown()
    node.reported(model, "Dead")
    node.release()
    eventually(lambda: model.limit == "77" and not node.crashes_left, "it is open")


def test_guards_that_keep_dying_leave_nothing_frozen(node: GuardedNode) -> None:
    """The last resort thaws; then the process ends for the kubelet to start it anew."""
    model = node.model("vllm")
    doomed = node.model("doomed")
    guard = node.crashing_guard("thaw", 1000)
    node.freeze(scope={"podLabels": {"app": "vllm"}})
    eventually(lambda: model.frozen, "it is frozen")
    node.shutdown(scope={"podLabels": {"app": "doomed"}})
    eventually(lambda: not guard.running, "it gives up")
    assert model.running
    assert doomed.dead
    assert len(node.log("the guard died")) == 5


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{half", "is damaged and ignored"),
        (
            memory.encode(Memory("b", orders=({"kind": "Of a later version", "metadata": {}},))),
            "is of another version and ignored",
        ),
    ],
)
def test_a_state_file_that_cannot_be_used_is_told_and_ignored(
    node: GuardedNode, content: bytes, told: str
) -> None:
    """The API server says what is wanted."""
    model = node.model("vllm")
    node.state.mkdir()
    (node.state / memory.FILE).write_bytes(content)
    node.freeze()
    node.guard()
    eventually(lambda: model.frozen, "it is frozen")
    node.problem(told)


def test_a_setting_that_is_wrong_ends_it_with_the_cure(node: GuardedNode) -> None:
    """Before anything is touched."""
    guard = node.guard(wait=False, KILLSWITCH_CGROUP_ROOT="kubepods")
    eventually(lambda: not guard.running, "it ends")
    assert "set it to the kubelet's --cgroup-root" in node.log("cannot start")[0]["error"]


def test_only_a_token_bound_to_the_node_may_report(node: GuardedNode) -> None:
    """Acting does not depend on it, and the log says why there is no report."""
    model = node.model("vllm")
    node.token.write_text(
        node.control_plane.service_account("killswitch-system", "killswitch-node").token
    )
    node.guard(wait=False)
    node.freeze()
    eventually(lambda: model.frozen, "it is frozen")
    refused = eventually(lambda: node.log("cannot report"), "it cannot report")
    assert "written by the guard of that node alone" in refused[0]["error"]


def test_a_token_that_is_rotated_is_read_again(node: GuardedNode) -> None:
    """As the kubelet writes a new one every hour."""
    good = node.token.read_text()
    node.token.write_text("expired")
    node.guard(wait=False)
    eventually(lambda: node.log("cannot watch"), "it is refused")
    node.token.write_text(good)
    model = node.model("vllm")
    node.freeze()
    eventually(lambda: model.frozen, "it is frozen")
