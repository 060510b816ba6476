"""The guard as a process, on the real API server, with real processes in real cgroups."""

import pytest

from tests.node.guards import GuardedNode, eventually

pytestmark = [pytest.mark.cluster]


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
