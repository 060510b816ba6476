"""The manager over a real API server: accepted, armed, verified, released, restored."""

import asyncio
import re
import time

import pytest

from killswitch.core import conditions, times
from killswitch.core.resources import (
    CLUSTER_SHUTDOWNS,
    DEPLOYMENTS,
    FREEZES,
    NAMESPACES,
    NODES,
    PODS,
    SHUTDOWNS,
    STATEFULSETS,
)
from killswitch.ports import Json
from tests.cluster.api import Api
from tests.kernel.objects import (
    approval,
    cluster_shutdown,
    cluster_shutdowns,
    freeze,
    pod,
    policy,
    shutdown,
)
from tests.kernel.test_bypasses import ahead
from tests.kernel.test_lock import eventually as answered
from tests.manager.harness import Scene
from tests.reactor.harness import deployment, eventually

pytestmark = pytest.mark.cluster
VLLM = {"kind": "Deployment", "name": "vllm"}


async def test_a_good_policy_is_ready_and_armed_and_governs_its_namespace(scene: Scene) -> None:
    """Kopf brings it within moments; the lock is proven before Armed is said."""
    label = {"metadata": {"labels": {"killswitch.dev/governed": None}}}
    await scene.bench.cluster.patch(NAMESPACES, scene.namespace, label)
    async with scene.manager():
        await scene.bench.policy("good", targets=[VLLM])
        await scene.policy_condition("good", "Ready", "True")
        await scene.policy_condition("good", "Armed", "False", "ReactorSilent")
        await scene.reactor_reports("good")
        message = await scene.policy_condition("good", "Armed", "True", "LockProven")
        await scene.policy_condition("good", "Fired", "False", "NoShutdown")
    assert message == "a dry-run restart was denied"
    found = await scene.bench.cluster.get(NAMESPACES, scene.namespace)
    assert found["metadata"]["labels"]["killswitch.dev/governed"] == "true"


async def test_with_governing_turned_off_an_ungoverned_namespace_is_left_so(scene: Scene) -> None:
    """People govern it, then."""
    label: Json = {"metadata": {"labels": {"killswitch.dev/governed": None}}}
    await scene.bench.cluster.patch(NAMESPACES, scene.namespace, label)
    async with scene.manager(govern_automatically=False):
        await scene.bench.policy("good", targets=[VLLM])
        message = await scene.policy_condition("good", "Ready", "False", "Ungoverned")
        await scene.policy_condition("good", "Armed", "False", "NotReady")
        found = await scene.bench.cluster.get(NAMESPACES, scene.namespace)
        assert "killswitch.dev/governed" not in found["metadata"]["labels"]
        label["metadata"]["labels"]["killswitch.dev/governed"] = "true"
        await scene.bench.cluster.patch(NAMESPACES, scene.namespace, label)
        await scene.policy_condition("good", "Ready", "True", "Accepted")
    assert message.endswith(f"; kubectl killswitch govern {scene.namespace}")


BAD = {
    "malformed PromQL": ("sum(rate(x[1m])", "spec.signals[load].prometheus.query: "),
    "a comparison in the query": ("x > 5", "spec.signals[load].prometheus.query: "),
    "no data turned into a value": ("sum(x) or vector(0)", "spec.signals[load].prometheus.query: "),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_policy_that_cannot_work_is_not_ready_and_not_armed(
    scene: Scene, case: str
) -> None:
    """What the API server cannot see is said in a condition, with field and cure."""
    query, field = BAD[case]
    signal = {"name": "load", "prometheus": {"query": query, "above": "1"}, "onNoData": "Hold"}
    async with scene.manager():
        await scene.bench.policy("bad", targets=[VLLM], signals=[signal])
        message = await scene.policy_condition("bad", "Ready", "False", "Invalid")
        await scene.policy_condition("bad", "Armed", "False", "NotReady")
    assert message.startswith(field)
    assert "; " in message


async def test_a_policy_that_would_delete_volumes_is_not_ready(scene: Scene) -> None:
    """whenScaled: Delete is refused with the StatefulSet's name and what to set instead."""
    body = deployment("db", 1)
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    body["kind"] = "StatefulSet"
    body["spec"] |= {
        "serviceName": "db",
        "volumeClaimTemplates": [claim],
        "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"},
    }
    await scene.bench.cluster.create(STATEFULSETS, body, scene.namespace)
    async with scene.manager():
        await scene.bench.policy("db", targets=[{"kind": "StatefulSet", "name": "db"}])
        message = await scene.policy_condition("db", "Ready", "False", "WouldDeleteVolumes")
        armed = await scene.policy_condition("db", "Armed", "False", "NotReady")
    assert f"StatefulSet {scene.namespace}/db" in message
    assert "set whenScaled: Retain" in message
    for each in (message, armed):  # it is not Ready and still not harmless
        assert (
            "the reactor would still fire it, locking and deleting the pods without scaling" in each
        )


async def test_a_query_with_the_word_delete_in_it_is_merely_invalid(scene: Scene) -> None:
    """The reason is not guessed from the words: no volume is at stake."""
    query = {"query": "sum(Delete(up))", "above": "1"}
    signal = {"name": "load", "prometheus": query, "onNoData": "Hold"}
    async with scene.manager():
        await scene.bench.policy("bad", targets=[VLLM], signals=[signal])
        message = await scene.policy_condition("bad", "Ready", "False", "Invalid")
        await scene.policy_condition("bad", "Armed", "False", "NotReady")
    assert "Delete" in message


async def test_detectors_that_are_one_witness_are_invalid(scene: Scene) -> None:
    """With the cures; the API server cannot count sources."""
    query = {"query": "sum(up)", "detector": {"ewma": {"least": "1"}}}
    signals = [{"name": each, "prometheus": query, "onNoData": "Hold"} for each in ("a", "b")]
    async with scene.manager():
        await scene.bench.policy("bad", targets=[VLLM], signals=signals, quorum=2)
        message = await scene.policy_condition("bad", "Ready", "False", "Invalid")
        await scene.policy_condition("bad", "Armed", "False", "NotReady")
    assert "2 of these would stop the targets on one statistical opinion" in message
    assert "allowDetectorAlone: true" in message


async def test_a_dry_run_policy_is_ready_but_never_armed(scene: Scene) -> None:
    """It must look unlike an armed one."""
    async with scene.manager():
        await scene.bench.policy("dry", targets=[VLLM], mode="DryRun")
        await scene.policy_condition("dry", "Armed", "False", "DryRun")


async def test_a_stop_is_verified_by_an_independent_look(scene: Scene) -> None:
    """No pod left, with the time it took and the approvals that are missing."""
    await scene.bench.deployment("vllm", 2)
    async with scene.manager():
        await scene.stopped()
        message = await scene.condition("stop", "Verified", "True", "NoPodsLeft")
        await scene.condition("stop", "Released", "False", "AwaitingApprovals")
    found = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
    # Nobody recorded the decision, and the time of its creation has whole seconds only.
    assert re.fullmatch(r"no pod left, within \d+ s of its creation", message)
    assert message.startswith(f"no pod left, {found['status']['elapsed']} of ")
    assert found["status"]["approvals"] == "0/2"
    assert found["status"]["remaining"] == 0


async def test_a_recorded_decision_is_what_a_stop_is_timed_from(scene: Scene) -> None:
    """It has fractions of a second, so the answer may have them too."""
    await scene.bench.cluster.create(SHUTDOWNS, shutdown("stop", "admin"), scene.namespace)
    stages = {"status": {"stages": {"decided": times.text(time.time() - 0.5)}}}
    await scene.bench.cluster.patch(
        SHUTDOWNS, "stop", stages, scene.namespace, subresource="status"
    )
    async with scene.manager():
        message = await scene.condition("stop", "Verified", "True", "NoPodsLeft")
        await scene.event("Shutdown", "stop", "NoPodsLeft")
    assert re.fullmatch(r"no pod left, [\d.]+ (ms|s) after the decision", message)


async def test_a_namespace_that_is_not_governed_keeps_a_stop_from_being_verified(
    scene: Scene,
) -> None:
    """The API server cannot look when the ClusterShutdown is made, so nothing is locked there."""
    name, missing = scene.namespace, f"{scene.namespace}-typo"
    label: Json = {"metadata": {"labels": {"killswitch.dev/governed": None}}}
    await scene.bench.cluster.patch(NAMESPACES, name, label)
    body = cluster_shutdown(name, "admin", approvals=1, namespaces={name: "", missing: ""})
    await scene.bench.cluster.create(CLUSTER_SHUTDOWNS, body)

    async def verified(status: str, reason: str, text: str) -> str | None:
        found = await scene.bench.cluster.get(CLUSTER_SHUTDOWNS, name)
        each = conditions.find(found.get("status", {}).get("conditions", ()), "Verified")
        right = each and (each["status"], each["reason"]) == (status, reason)
        return str(each["message"]) if each and right and text in each["message"] else None

    async with scene.manager():
        message = await eventually(lambda: verified("False", "Ungoverned", name))
        label["metadata"]["labels"]["killswitch.dev/governed"] = "true"
        await scene.bench.cluster.patch(NAMESPACES, name, label)
        scene.kernel.api().create("/api/v1/namespaces", {"metadata": {"name": missing}})
        fewer = await eventually(lambda: verified("False", "Ungoverned", f"namespace {missing} is"))
        await scene.bench.cluster.patch(NAMESPACES, missing, label)
        await eventually(lambda: verified("True", "NoPodsLeft", "no pod left"))
        _bob_releases(scene, name)
    assert f"namespace {name} is not governed, so nothing is locked there" in message
    assert f"kubectl killswitch govern {name};" in message
    assert f"namespace {missing} does not exist" in message
    assert f"namespace {name} is" not in fewer


async def test_what_is_left_at_the_deadline_is_named_with_its_node(scene: Scene) -> None:
    """A pod that cannot go keeps Verified False, until it goes after all."""
    await scene.bench.deployment("vllm", 1)
    (stuck_pod,) = await scene.bench.pods()
    name = stuck_pod["metadata"]["name"]
    stuck = {"metadata": {"finalizers": ["test.example/stuck"]}}
    await scene.bench.cluster.patch(PODS, name, stuck, scene.namespace)
    placed = await eventually(lambda: _placed(scene, name))
    async with scene.manager():
        stopping = asyncio.create_task(scene.stopped(deadline="1s"))
        message = await scene.condition("stop", "Verified", "False", "DeadlineExceeded")
        found = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
        free: Json = {"metadata": {"finalizers": None}}
        await scene.bench.cluster.patch(PODS, name, free, scene.namespace)
        await scene.condition("stop", "Verified", "True")
        await stopping
    assert message == f"left: pod {scene.namespace}/{name} on {placed}"
    expected = [{"namespace": scene.namespace, "pod": name, "node": placed}]
    assert found["status"]["leftovers"] == expected


async def test_a_verified_stop_is_looked_at_again_while_engaged(scene: Scene) -> None:
    """What comes back turns Verified False, and people are told; when it goes, it is True again."""
    held: Json = {"scope": {"podLabels": {"model": "x"}}}
    async with scene.manager(verify_interval=0.2):
        await scene.stopped(**held)
        await scene.condition("stop", "Verified", "True", "NoPodsLeft")
        before = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
        # The lock refuses new pods with the label; it does not see one that gets it later.
        await scene.bench.cluster.create(PODS, pod("stray"), scene.namespace)
        label = {"metadata": {"labels": {"model": "x"}}}
        await scene.bench.cluster.patch(PODS, "stray", label, scene.namespace)
        message = await scene.condition("stop", "Verified", "False", "CameBack")
        await scene.event("Shutdown", "stop", "CameBack", "Warning")
        await scene.bench.cluster.delete(PODS, "stray", scene.namespace, grace=0)
        again = await scene.condition("stop", "Verified", "True", "NoPodsLeft")
    after = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
    assert message.startswith(f"back: pod {scene.namespace}/stray on ")
    assert again.startswith("no pod left again, ")
    assert before["status"]["elapsed"] == after["status"]["elapsed"]


async def test_listed_namespaces_are_governed_without_a_policy(scene: Scene) -> None:
    """The setting is enough; one that is not there yet does not hold up the others."""
    label: Json = {"metadata": {"labels": {"killswitch.dev/governed": None}}}
    await scene.bench.cluster.patch(NAMESPACES, scene.namespace, label)

    async def governed() -> bool:
        found = await scene.bench.cluster.get(NAMESPACES, scene.namespace)
        return bool(found["metadata"]["labels"].get("killswitch.dev/governed") == "true")

    listed = ("not-there-yet", scene.namespace)
    async with scene.manager(govern_automatically=False, governed_namespaces=listed):
        await eventually(governed)


async def _placed(scene: Scene, name: str) -> str:
    found = await scene.bench.cluster.get(PODS, name, scene.namespace)
    return str(found["spec"].get("nodeName", ""))


async def test_release_takes_the_label_off_and_starts_nothing(scene: Scene) -> None:
    """It locks nothing any more, so it costs nothing any more."""
    await scene.bench.deployment("vllm", 2)
    async with scene.manager():
        await scene.stopped()
        scene.approve("stop", "bob", "carol")
        await scene.condition("stop", "Released", "True", "Approved")
        await scene.condition("stop", "Restored", "False", "NotRequested")
        found = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
    assert found["metadata"]["labels"]["killswitch.dev/engaged"] == "false"
    assert await scene.bench.replicas("vllm") == 0


@pytest.mark.parametrize("count", [5, 1, 0])
async def test_restore_brings_back_exactly_what_was_recorded(scene: Scene, count: int) -> None:
    """Canary first where there is room for one, and never more than was there."""
    await scene.bench.deployment("vllm", count)
    terms = {"canaryReplicas": 2, "soak": "1s"}
    async with scene.manager():
        await scene.stopped(restorePolicy=terms)
        scene.approve("stop", "bob", "carol")
        scene.order_restore("stop")
        await scene.condition("stop", "Restored", "False", "Soaking")
        assert await scene.bench.replicas("vllm") == min(2, count)
        message = await scene.condition("stop", "Restored", "True", "Complete")
    assert await scene.bench.replicas("vllm") == count
    assert message == "1 workloads at their recorded count"


async def test_a_manager_that_starts_in_the_middle_of_a_restore_goes_on(scene: Scene) -> None:
    """The soak is not begun anew, and nothing is done twice."""
    await scene.bench.deployment("vllm", 3)
    terms = {"canaryReplicas": 1, "soak": "2s"}
    async with scene.manager():
        await scene.stopped(restorePolicy=terms)
        scene.approve("stop", "bob", "carol")
        scene.order_restore("stop")
        await scene.condition("stop", "Restored", "False", "Soaking")
    before = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
    async with scene.manager():
        await scene.condition("stop", "Restored", "True", "Complete")
    after = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
    assert await scene.bench.replicas("vllm") == 3
    stages = "status", "stages", "canaryReady"
    assert _dig(before, *stages) == _dig(after, *stages)


def _dig(body: Json, *path: str) -> object:
    found: object = body
    for part in path:
        assert isinstance(found, dict)
        found = found[part]
    return found


async def test_a_changed_template_is_shown_and_needs_a_persons_word(scene: Scene) -> None:
    """Nothing starts before somebody accepts the drift."""
    await scene.bench.deployment("vllm", 2)
    async with scene.manager():
        await scene.stopped(restorePolicy={"canaryReplicas": 1, "soak": "0s"})
        container = {"name": "server", "image": "models.invalid/another"}
        await scene.edit("vllm", {"spec": {"template": {"spec": {"containers": [container]}}}})
        scene.approve("stop", "bob", "carol")
        scene.order_restore("stop")
        message = await scene.condition("stop", "Restored", "False", "Drift")
        assert await scene.bench.replicas("vllm") == 0
        scene.order_restore("stop", acceptDrift=True)
        await scene.condition("stop", "Restored", "True", "Complete")
    assert message.startswith(f"Deployment {scene.namespace}/vllm has another pod template")
    assert await scene.bench.replicas("vllm") == 2


async def test_a_target_recreated_under_the_same_name_is_drift(scene: Scene) -> None:
    """Another object is not what was there."""
    await scene.bench.deployment("vllm", 1)
    async with scene.manager():
        await scene.stopped()
        await scene.bench.cluster.delete(DEPLOYMENTS, "vllm", scene.namespace)
        body = deployment("vllm", 0)
        await scene.bench.cluster.create(DEPLOYMENTS, body, scene.namespace)
        scene.approve("stop", "bob", "carol")
        scene.order_restore("stop")
        message = await scene.condition("stop", "Restored", "False", "Drift")
    assert "was re-created" in message


async def test_a_target_that_vanished_is_said_to_be_gone(scene: Scene) -> None:
    """The others come back; a stated outcome, not an error."""
    await scene.bench.deployment("vllm", 1)
    await scene.bench.deployment("other", 1)
    locks = {"deployments.apps/vllm": "", "deployments.apps/other": ""}
    async with scene.manager():
        await scene.stopped(locks=locks, restorePolicy={"canaryReplicas": 1, "soak": "0s"})
        await scene.bench.cluster.delete(DEPLOYMENTS, "vllm", scene.namespace)
        scene.approve("stop", "bob", "carol")
        scene.order_restore("stop")
        message = await scene.condition("stop", "Restored", "True", "Complete")
    assert f"Deployment {scene.namespace}/vllm is gone" in message
    assert await scene.bench.replicas("other") == 1


async def test_what_a_person_scaled_meanwhile_is_left_alone(scene: Scene) -> None:
    """After the release somebody chose another count: it is reported, not overwritten."""
    await scene.bench.deployment("vllm", 3)
    async with scene.manager():
        await scene.stopped(restorePolicy={"canaryReplicas": 1, "soak": "0s"})
        scene.approve("stop", "bob", "carol")
        await scene.condition("stop", "Released", "True")
        await scene.edit("vllm", {"spec": {"replicas": 4}})
        scene.order_restore("stop")
        message = await scene.condition("stop", "Restored", "True", "Complete")
    assert await scene.bench.replicas("vllm") == 4
    assert "stands at 4 by somebody else, recorded 3" in message


@pytest.mark.parametrize("count", [1, 3])
async def test_what_a_person_scales_during_the_soak_is_left_alone(scene: Scene, count: int) -> None:
    """Below the canaries or above them: it is not what this restore set, so not its to lift."""
    await scene.bench.deployment("vllm", 5)
    async with scene.manager():
        await scene.stopped(restorePolicy={"canaryReplicas": 2, "soak": "3s"})
        scene.approve("stop", "bob", "carol")
        scene.order_restore("stop")
        await scene.condition("stop", "Restored", "False", "Soaking")
        await scene.edit("vllm", {"spec": {"replicas": count}})
        message = await scene.condition("stop", "Restored", "True", "Complete")
    assert await scene.bench.replicas("vllm") == count
    assert f"stands at {count} by somebody else, recorded 5" in message


async def test_a_policys_fired_condition_follows_its_shutdown(scene: Scene) -> None:
    """True while engaged, False after release."""
    async with scene.manager():
        await scene.bench.deployment("vllm", 1)
        created = await scene.bench.policy("runaway", targets=[VLLM])
        reference = {
            "kind": "KillSwitchPolicy",
            "name": "runaway",
            "uid": created["metadata"]["uid"],
            "generation": 1,
            "episode": 1,
        }
        await scene.stopped("runaway-1", policy=reference)
        message = await scene.policy_condition("runaway", "Fired", "True")
        assert message == "engaged: runaway-1"
        scene.approve("runaway-1", "bob", "carol")
        await scene.policy_condition("runaway", "Fired", "False")


async def test_fired_says_what_is_frozen_and_that_nothing_is_stopped(scene: Scene) -> None:
    """A Freeze is containment: the policy has not fired. Thawed, it is named no more."""
    async with scene.manager():
        await scene.bench.deployment("vllm", 1)
        created = await scene.bench.policy("runaway", targets=[VLLM])
        reference = {
            "kind": "KillSwitchPolicy",
            "name": "runaway",
            "uid": created["metadata"]["uid"],
            "generation": 1,
            "episode": 1,
        }
        until = ahead(hours=1)
        body = freeze("runaway-freeze-1", "admin", until=until, policy=reference)
        await scene.bench.cluster.create(FREEZES, body, scene.namespace)
        message = await scene.policy_condition("runaway", "Fired", "False", "FreezeInForce")
        assert message == f"no Shutdown is engaged; frozen by runaway-freeze-1 until {until}"
        scene.bench.thaw(scene.kernel, "runaway-freeze-1")
        await scene.policy_condition("runaway", "Fired", "False", "NoShutdown")


async def test_nodes_are_verified_by_their_cordon_and_opened_as_they_were(scene: Scene) -> None:
    """The one that was cordoned before stays cordoned after the restore."""
    open_node, shut_node = scene.kernel.add_gpu_nodes(2, prefix=f"n-{scene.namespace}")
    cluster = scene.bench.cluster
    await cluster.patch(NODES, shut_node, {"spec": {"unschedulable": True}})
    name = f"nodes-{scene.namespace}"
    held = {open_node: "", shut_node: ""}
    terms = {"canaryReplicas": 1, "soak": "0s"}
    body = cluster_shutdown(name, "admin", approvals=1, nodes=held, restorePolicy=terms)
    async with scene.manager():
        created = await cluster.create(CLUSTER_SHUTDOWNS, body)
        await _cordon(scene, created)
        await eventually(lambda: _verified(scene, name))
        bob, path = _bob_releases(scene, name), cluster_shutdowns(name)
        order = {"spec": {"restore": {"by": "bob", "reason": "fixed"}}}
        assert bob.patch(path, order).status == 200

        async def opened() -> bool:
            found = await cluster.get(NODES, open_node)
            return not found["spec"].get("unschedulable")

        await eventually(opened)
    shut = await cluster.get(NODES, shut_node)
    assert shut["spec"]["unschedulable"] is True


def _bob_releases(scene: Scene, name: str) -> Api:
    """Bob, who gets every right over ClusterShutdowns and releases this one."""
    for role in ("test-releaser", "test-responder"):
        binding = f"{name}-{role}"
        scene.kernel.kubectl(
            "create", "clusterrolebinding", binding, f"--clusterrole={role}", "--user=bob"
        )
    bob = scene.kernel.api(scene.kernel.user("bob"))
    answered(lambda: bob.patch(cluster_shutdowns(name), approval("bob")), 200)
    return bob


async def _cordon(scene: Scene, shutdown: Json) -> None:
    from killswitch.adapters.clock import SystemClock
    from killswitch.core import holdings, projections
    from killswitch.core.inventory import Inventory
    from killswitch.reactor.stop import StopSequence

    inventory = Inventory()
    for body in (await scene.bench.cluster.list(NODES)).items:
        inventory.put(projections.node(body))
    plan = holdings.for_shutdown("ClusterShutdown", "", shutdown["spec"], inventory)
    clock = SystemClock()
    sequence = StopSequence(scene.bench.cluster, clock, records_namespace="killswitch-system")
    await sequence.execute(shutdown, plan.stops, until=clock.monotonic() + 5)


async def _verified(scene: Scene, name: str) -> bool:
    found = await scene.bench.cluster.get(CLUSTER_SHUTDOWNS, name)
    return conditions.holds(found.get("status", {}).get("conditions", ()), "Verified")


def test_the_policy_builder_is_accepted_by_the_models() -> None:
    """The bad ones above are bad for their reasons only."""
    from killswitch.api.policies import KillSwitchPolicy

    assert KillSwitchPolicy.model_validate(policy("p")).spec.quorum == 1
