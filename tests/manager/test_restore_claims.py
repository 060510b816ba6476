"""Several stops of one target: releasing one starts nothing, and what comes back is said truly."""

import pytest

from killswitch.core.resources import SHUTDOWNS
from killswitch.ports import Json
from tests.manager.harness import Scene
from tests.reactor.harness import eventually

pytestmark = pytest.mark.cluster
TERMS = {"canaryReplicas": 1, "soak": "0s"}
LONG_SOAK = {"canaryReplicas": 1, "soak": "1h"}
NAME = "deployments.apps/vllm"


async def _looked_again(scene: Scene, name: str) -> None:
    """Return when the manager has looked at that Shutdown once more."""
    generation = (await scene.bench.cluster.get(SHUTDOWNS, name, scene.namespace))["metadata"]
    scene.order_restore(name, acceptDrift=True)

    async def judged() -> bool:
        found = await scene.bench.cluster.get(SHUTDOWNS, name, scene.namespace)
        return bool(found["status"]["observedGeneration"] > generation["generation"])

    await eventually(judged)


async def test_a_second_hold_keeps_the_first_ones_restore_waiting(scene: Scene) -> None:
    """Released alone the second changes nothing; its own restore brings the recorded count back."""
    await scene.bench.deployment("vllm", 2)
    async with scene.manager():
        await scene.stopped("stop", restorePolicy=TERMS)
        await scene.stopped("second", restorePolicy=TERMS)
        scene.approve("stop", "bob", "carol")
        scene.order_restore("stop")
        message = await scene.condition("stop", "Restored", "False", "Superseded")
        assert f"stopped again by Shutdown {scene.namespace}/second" in message
        scene.approve("second", "bob", "carol")
        await scene.condition("second", "Restored", "False", "NotRequested")
        await _looked_again(scene, "stop")
        assert await scene.bench.replicas("vllm") == 0
        scene.order_restore("second")
        other = await scene.condition("second", "Restored", "True", "Complete")
        first = await scene.condition("stop", "Restored", "True", "Complete")
    assert await scene.bench.replicas("vllm") == 2
    assert other == "1 workloads at their recorded count"
    assert f"came back with Shutdown {scene.namespace}/second" in first


async def test_a_restore_ordered_before_a_later_stop_is_superseded_by_it(scene: Scene) -> None:
    """Even with its canary ready: the later stop's release must not start the full count."""
    await scene.bench.deployment("vllm", 3)
    async with scene.manager():
        await scene.stopped("stop", restorePolicy={"canaryReplicas": 1, "soak": "12s"})
        scene.approve("stop", "bob", "carol")
        scene.order_restore("stop")
        await scene.condition("stop", "Restored", "False", "Soaking")
        await scene.stopped("second", restorePolicy=LONG_SOAK)
        await scene.condition("stop", "Restored", "False", "Superseded")
        scene.approve("second", "bob", "carol")
        await scene.condition("second", "Restored", "False", "NotRequested")
        await _looked_again(scene, "stop")
        assert await scene.bench.replicas("vllm") == 0
        found = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
        assert "canaryReady" not in found["status"].get("stages", {})
        scene.order_restore("second")
        await scene.condition("second", "Restored", "False", "Soaking")
    assert await scene.bench.replicas("vllm") == 1


async def test_a_soak_that_was_cut_off_begins_anew(scene: Scene) -> None:
    """A manager that slept through a later stop and its deletion does not go to the full count."""
    await scene.bench.deployment("vllm", 3)
    async with scene.manager():
        await scene.stopped("stop", restorePolicy={"canaryReplicas": 1, "soak": "3s"})
        scene.approve("stop", "bob", "carol")
        scene.order_restore("stop")
        await scene.condition("stop", "Restored", "False", "Soaking")
    await scene.stopped("second")
    scene.approve("second", "bob", "carol")
    scene.delete("second")
    before = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
    async with scene.manager():
        await scene.condition("stop", "Restored", "True", "Complete")
    after = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
    assert await scene.bench.replicas("vllm") == 3
    ready = "canaryReady"
    assert before["status"]["stages"][ready] < after["status"]["stages"][ready]


async def test_what_a_later_stop_does_not_cover_comes_back_meanwhile(scene: Scene) -> None:
    """Only the target that was stopped again waits."""
    await scene.bench.deployment("vllm", 1)
    await scene.bench.deployment("other", 2)
    async with scene.manager():
        locks = {NAME: "", "deployments.apps/other": ""}
        await scene.stopped("stop", locks=locks, restorePolicy=TERMS)
        await scene.stopped("second", restorePolicy=TERMS)
        scene.approve("stop", "bob", "carol")
        scene.order_restore("stop")
        message = await scene.condition("stop", "Restored", "False", "Superseded")
    assert await scene.bench.replicas("other") == 2
    assert await scene.bench.replicas("vllm") == 0
    assert "1 workloads at their recorded count" in message


async def test_a_restore_waits_for_an_earlier_stop_that_nobody_restores(scene: Scene) -> None:
    """It names the holder of the record, and both orders together bring it back."""
    await scene.bench.deployment("vllm", 2)
    async with scene.manager():
        await scene.stopped("stop", restorePolicy=TERMS)
        await scene.stopped("second", restorePolicy=TERMS)
        for name in ("stop", "second"):
            scene.approve(name, "bob", "carol")
        scene.order_restore("second")
        message = await scene.condition("second", "Restored", "False", "HeldByAnotherShutdown")
        assert f"held by Shutdown {scene.namespace}/stop too" in message
        assert await scene.bench.replicas("vllm") == 0
        scene.order_restore("stop")
        await scene.condition("second", "Restored", "True", "Complete")
        await scene.condition("stop", "Restored", "True", "Complete")
    assert await scene.bench.replicas("vllm") == 2


HOLDS: dict[str, Json] = {
    "the whole namespace": {"scope": {"wholeNamespace": True}},
    "pods by label": {"scope": {"podLabels": {"app": "vllm"}}},
}


@pytest.mark.parametrize("held", HOLDS)
async def test_a_later_stop_under_another_scope_supersedes_too(scene: Scene, held: str) -> None:
    """What counts is the target, however it is covered."""
    await scene.bench.deployment("vllm", 1)
    async with scene.manager():
        await scene.stopped("stop", restorePolicy=TERMS)
        await scene.stopped("second", restorePolicy=TERMS, **HOLDS[held])
        scene.approve("stop", "bob", "carol")
        scene.order_restore("stop")
        await scene.condition("stop", "Restored", "False", "Superseded")


async def test_a_stop_of_nothing_recorded_is_not_said_to_be_restored(scene: Scene) -> None:
    """There was no workload, so nothing comes back, and nobody is told that it did."""
    async with scene.manager():
        await scene.stopped("stop")
        scene.approve("stop", "bob", "carol")
        scene.order_restore("stop")
        message = await scene.condition("stop", "Restored", "False", "NothingRecorded")
    assert message == "nothing is recorded of what this stop held, so nothing comes back by it"


async def test_what_a_deleted_shutdown_recorded_is_named_and_not_guessed(scene: Scene) -> None:
    """The holder of the record was deleted: its count is told to people."""
    await scene.bench.deployment("vllm", 2)
    async with scene.manager():
        await scene.stopped("stop")
        await scene.stopped("second", restorePolicy=TERMS)
        scene.approve("stop", "bob", "carol")
        await scene.condition("stop", "Released", "True")
        scene.delete("stop")
        scene.approve("second", "bob", "carol")
        scene.order_restore("second")
        message = await scene.condition("second", "Restored", "False", "NothingRecorded")
    assert f"Deployment {scene.namespace}/vllm had 2 replicas" in message
    assert await scene.bench.replicas("vllm") == 0
