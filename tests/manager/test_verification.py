"""What may be called verified: only what is known to have been found, by any way down from what is named."""

from typing import Any

import pytest

from killswitch.core.kinds import TABLE, Kind
from killswitch.core.resources import DEPLOYMENTS, JOBS, PODS, POLICIES, SHUTDOWNS
from killswitch.ports import Json
from tests.cluster.control_plane import ControlPlane
from tests.cluster.stand_ins import QUEUE_LABEL, job_spec
from tests.kernel.objects import shutdown
from tests.kernel.workloads import running, workload
from tests.manager import things
from tests.manager.harness import Scene
from tests.manager.things import ENGINE
from tests.reactor.harness import deployment, eventually, reactor
from tests.reactor.test_kind_faults import unconvertible

pytestmark = pytest.mark.cluster
MODEL = TABLE["Model.mlops.seldon.io"]


@pytest.fixture(scope="module", autouse=True)
def served(kernel: ControlPlane) -> None:
    """The API server serves them."""
    things.install(kernel)


async def child(scene: Scene, owner: Json) -> None:
    """A Deployment with a pod below this object, as a controller makes it."""
    body = deployment("vllm-predictor", 1)
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": True}
    metadata = owner["metadata"]
    body["metadata"]["ownerReferences"] = [
        {**reference, "name": metadata["name"], "uid": metadata["uid"]}
    ]
    await scene.bench.cluster.create(DEPLOYMENTS, body, scene.namespace)
    await eventually(scene.bench.pods)


async def top(scene: Scene, kind: Kind) -> Json:
    """An object of this kind, as the API server has it."""
    body = workload(kind, "vllm", running(kind))
    return await scene.bench.cluster.create(kind.resource, body, scene.namespace)


async def create(scene: Scene, **spec: Any) -> None:
    """A Shutdown that somebody wrote; nobody but who is running carries it out."""
    await scene.bench.cluster.create(SHUTDOWNS, shutdown("stop", "admin", **spec), scene.namespace)


async def test_pods_far_below_what_a_person_named_keep_a_stop_from_being_verified(
    scene: Scene,
) -> None:
    """Named is the top alone; the pods are those of a Deployment below it."""
    kind = TABLE["InferenceService"]
    await child(scene, await top(scene, kind))
    (pod,) = await scene.bench.pods()
    name = pod["metadata"]["name"]
    async with scene.manager(verify_interval=0.2):
        await create(scene, locks=dict(things.lock(kind)))
        message = await scene.condition("stop", "Verified", "False", "Stopping")
        found = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
        rest: Json = {"spec": {"replicas": 0}}
        await scene.bench.cluster.patch(DEPLOYMENTS, "vllm-predictor", rest, scene.namespace)
        await scene.condition("stop", "Verified", "True", "NoPodsLeft")
    assert message.startswith(f"left: pod {scene.namespace}/{name} on ")
    assert found["status"]["remaining"] == 1


@pytest.mark.parametrize("owned", [True, False], ids=["a Job", "a bare pod"])
async def test_what_a_queue_steers_keeps_its_stop_from_being_verified(
    scene: Scene, owned: bool
) -> None:
    """Though a lock that somebody wrote does not name it, and though it came after the stop."""
    queue = TABLE["LocalQueue"]
    await things.make(scene, queue)
    async with scene.manager(verify_interval=0.2):
        await create(scene, locks=dict(things.lock(queue)))
        await scene.condition("stop", "Verified", "True", "NoPodsLeft")
        labels = {QUEUE_LABEL: "vllm"}
        resource, kind = (JOBS, "Job") if owned else (PODS, "Pod")
        pods = deployment("train", 1)["spec"]["template"]["spec"]
        spec = job_spec({}, suspend=False) if owned else pods
        api = {"apiVersion": resource.api_version, "kind": kind}
        body = {**api, "metadata": {"name": "train", "labels": labels}, "spec": spec}
        await scene.bench.cluster.create(resource, body, scene.namespace)
        message = await scene.condition("stop", "Verified", "False", "CameBack")
    assert f"pod {scene.namespace}/train" in message


@pytest.mark.parametrize("kind", [MODEL, ENGINE], ids=lambda each: each.name)
async def test_where_the_pods_are_not_known_nothing_is_verified(scene: Scene, kind: Kind) -> None:
    """One does not own its pods; the other may make them through a kind that nobody knows."""
    await things.make(scene, kind)
    await scene.bench.deployment("serving", 1)
    async with scene.manager(verify_interval=0.2), reactor(scene.bench):
        await create(scene, locks=dict(things.lock(kind)))
        stopped = await scene.condition("stop", "Stopped", "False", "PodsNotKnown")
        verified = await scene.condition("stop", "Verified", "False", "PodsNotKnown")
        await scene.event("Shutdown", "stop", "PodsNotKnown", "Warning")
    words = f"the pods of {kind.name} vllm are not known: name what makes them"
    assert stopped.startswith(words)
    assert verified.startswith(words)
    assert len(await scene.bench.pods()) == 1


@pytest.mark.parametrize("kind", [MODEL, ENGINE], ids=lambda each: each.name)
async def test_another_target_in_the_same_stop_makes_no_pods_known(
    scene: Scene, kind: Kind
) -> None:
    """It stops as it should, and nothing is said of the others."""
    await things.make(scene, kind)
    await scene.bench.deployment("serving", 1)
    locks = {**things.lock(kind), "deployments.apps/serving": ""}
    async with scene.manager(verify_interval=0.2), reactor(scene.bench):
        await create(scene, locks=locks)
        message = await scene.condition("stop", "Verified", "False", "PodsNotKnown")
        await scene.condition("stop", "Stopped", "False", "PodsNotKnown")
    assert f"the pods of {kind.name} vllm are not known" in message
    assert await scene.bench.pods() == []


async def test_pods_of_a_kind_that_nobody_knows_are_remembered_when_they_are_gone(
    scene: Scene,
) -> None:
    """They were seen to be its own before they were deleted, so that none is left is known."""
    owner = await top(scene, ENGINE)
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": "vllm"}
    body = deployment("vllm", 1)["spec"]["template"]
    metadata = {
        "name": "vllm-0",
        "ownerReferences": [
            {**reference, "uid": owner["metadata"]["uid"], "controller": True},
        ],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body["spec"]}
    await scene.bench.cluster.create(PODS, pod, scene.namespace)
    target = {"kind": ENGINE.resource.kind, "group": ENGINE.resource.group, "name": "vllm"}
    async with scene.manager(verify_interval=0.2), reactor(scene.bench) as found:
        await scene.bench.policy("runaway", targets=[target])

        async def seen() -> bool:
            return ENGINE.resource.key in found.engine.view.inventory.seen

        await eventually(seen)
        scene.bench.dial.turn("runaway", 500)
        await scene.condition("runaway-1", "Verified", "True", "NoPodsLeft")
        message = await scene.condition("runaway-1", "Stopped", "True", "NoPodsLeft")
    assert "not known" not in message


async def test_a_policy_says_that_the_pods_of_its_targets_are_not_known(scene: Scene) -> None:
    """Before it is needed."""
    target = {"kind": "Model", "group": "mlops.seldon.io", "name": "vllm"}
    async with scene.manager():
        await scene.bench.policy("runaway", targets=[target])
        message = await scene.policy_condition("runaway", "Ready", "True", "Accepted")
    assert "a Model.mlops.seldon.io does not own its pods" in message
    assert "unless that Server.mlops.seldon.io is a target too" in message


async def queued(scene: Scene, name: str) -> None:
    """A Deployment with one pod, which bears the label of the queue `vllm`."""
    await scene.bench.deployment(name, 1)
    label: Json = {"metadata": {"labels": {QUEUE_LABEL: "vllm"}}}
    await scene.bench.cluster.patch(DEPLOYMENTS, name, label, scene.namespace)


async def test_what_a_queue_steers_and_its_shutdown_does_not_name_is_told_and_never_stopped(
    scene: Scene,
) -> None:
    """Whoever may set a label would otherwise stop a stranger's pods by somebody else's Shutdown."""
    queue = TABLE["LocalQueue"]
    await things.make(scene, queue)
    await queued(scene, "strange")
    async with scene.manager(verify_interval=0.2), reactor(scene.bench):
        await create(scene, locks=dict(things.lock(queue)))
        await scene.condition("stop", "Stopped", "False", "PodsNotKnown")
        message = await scene.condition("stop", "Verified", "False")
    assert f"pod {scene.namespace}/strange" in message
    assert await scene.bench.replicas("strange") == 1
    assert len(await scene.bench.pods("strange")) == 1


async def test_what_comes_under_a_held_queue_is_stopped_by_a_new_fire_within_the_caps(
    scene: Scene,
) -> None:
    """The Shutdown in force does not grow; the policy plans anew."""
    await things.make(scene, TABLE["LocalQueue"])
    bench, target = scene.bench, {"kind": "LocalQueue", "name": "vllm"}
    limits = {"maxTargets": 2, "maxPercent": 100}
    await bench.policy("runaway", targets=[target], cooldown="0s", limits=limits)
    async with reactor(bench):
        bench.dial.turn("runaway", 500)
        first = await bench.stopped("runaway-1")
        await queued(scene, "joins")
        await eventually(lambda: _held(scene, "deployments.apps/joins"))
        await eventually(lambda: _gone(scene, "joins"))
        await queued(scene, "too-many")
        await bench.with_condition(POLICIES, "runaway", "Inhibited", "True", "TooManyTargets")
    assert await bench.replicas("joins") == 0
    assert await bench.replicas("too-many") == 1
    again = await bench.cluster.get(SHUTDOWNS, "runaway-1", scene.namespace)
    assert again["spec"]["locks"] == first["spec"]["locks"]


async def _held(scene: Scene, key: str) -> bool:
    return any(key in each["spec"]["locks"] for each in await scene.bench.shutdowns())


async def _gone(scene: Scene, app: str) -> bool:
    return await scene.bench.replicas(app) == 0 and not await scene.bench.pods(app)


async def test_a_conversion_webhook_that_is_down_keeps_no_other_stop_from_being_judged(
    kernel: ControlPlane, scene: Scene
) -> None:
    """What holds of that kind is not verified, and says why; what does not is verified as ever."""
    cluster = TABLE["RayCluster"]
    await scene.bench.deployment("vllm", 0)
    await scene.bench.deployment("other", 1)
    await eventually(scene.bench.pods)
    async with unconvertible(kernel, scene.bench, cluster), scene.manager(verify_interval=0.2):
        await create(scene, locks={"deployments.apps/vllm": ""})
        await scene.condition("stop", "Verified", "True", "NoPodsLeft")
        ray = shutdown("ray", "admin", locks={f"{cluster.resource.key}/model": ""})
        await scene.bench.cluster.create(SHUTDOWNS, ray, scene.namespace)
        message = await scene.condition("ray", "Verified", "False")
    assert "RayCluster cannot be seen" in message
    assert "webhook" in message
