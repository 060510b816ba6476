"""Restores of every kind over a real API server: exactly what was there, nothing of ours left."""

from typing import Any

import pytest

from killswitch.core.errors import RefusedError
from killswitch.core.kinds import STOPPED_KEY, TABLE
from killswitch.core.resources import (
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    POLICIES,
    RECORDS,
    SERVICES,
    SHUTDOWNS,
    Resource,
)
from killswitch.core.undoing import cut_value
from killswitch.ports import Json
from tests.cluster import stand_ins
from tests.cluster.control_plane import ControlPlane
from tests.manager import things
from tests.manager.harness import Scene
from tests.manager.things import ENGINE, essence
from tests.reactor.harness import eventually

pytestmark = pytest.mark.cluster
TERMS = {"canaryReplicas": 1, "soak": "0s"}
ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
HPAS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
KINDS = {
    "StatefulSet": TABLE["StatefulSet"],
    "ReplicaSet": TABLE["ReplicaSet"],
    "ReplicationController": TABLE["ReplicationController"],
    "DaemonSet": TABLE["DaemonSet"],
    "Job": TABLE["Job"],
    "CronJob": TABLE["CronJob"],
    "InferenceService": TABLE["InferenceService"],
    "Model": TABLE["Model.mlops.seldon.io"],
    "Engine": ENGINE,
}


@pytest.fixture(scope="module", autouse=True)
def served(kernel: ControlPlane) -> None:
    """The API server serves them."""
    things.install(kernel)


def let_go(scene: Scene, name: str = "stop", **order: Any) -> None:
    """People release and order the restore."""
    scene.approve(name, "bob", "carol")
    scene.order_restore(name, **order)


@pytest.mark.parametrize("name", KINDS)
async def test_a_kind_comes_back_exactly_as_it_was(scene: Scene, name: str) -> None:
    """Its own fields, and no label, annotation or selector of ours."""
    kind = KINDS[name]
    before = await things.make(scene, kind)
    async with scene.manager():
        await scene.stopped(locks=dict(things.lock(kind)), restorePolicy=TERMS)
        held = await things.now(scene, kind.resource)
        let_go(scene)
        message = await scene.condition("stop", "Restored", "True", "Complete")
    assert all(each.read(held) == each.rest for each in kind.settings)
    assert before == await things.now(scene, kind.resource)
    assert message == f"1 workloads at their recorded {'count' if kind.counted else 'state'}"


async def test_what_somebody_else_has_set_is_shown_and_left(scene: Scene) -> None:
    """After the release a person starts the job on other terms: not ours to set."""
    kind = TABLE["Model.mlops.seldon.io"]
    await things.make(scene, kind)
    change: Json = {"spec": {"replicas": 7}}
    async with scene.manager():
        await scene.stopped(locks=dict(things.lock(kind)), restorePolicy=TERMS)
        scene.approve("stop", "bob", "carol")

        async def started() -> bool:
            try:
                await scene.bench.cluster.patch(kind.resource, "vllm", change, scene.namespace)
            except RefusedError:  # the API server has not heard of the release yet
                return False
            return True

        await eventually(started)
        scene.order_restore("stop")
        message = await scene.condition("stop", "Restored", "True", "Complete")
    found = await scene.bench.cluster.get(kind.resource, "vllm", scene.namespace)
    assert found["spec"]["replicas"] == 7
    assert "spec.replicas is 7 by somebody else, left so" in message


async def test_a_job_with_another_spec_is_drift(scene: Scene) -> None:
    """What is not a count is compared as well."""
    kind = TABLE["InferenceService"]
    await things.make(scene, kind)
    async with scene.manager():
        await scene.stopped(locks=dict(things.lock(kind)), restorePolicy=TERMS)
        change: Json = {"spec": {"predictor": {"minReplicas": 9}}}
        await scene.bench.cluster.patch(kind.resource, "vllm", change, scene.namespace)
        let_go(scene)
        message = await scene.condition("stop", "Restored", "False", "Drift")
        scene.order_restore("stop", acceptDrift=True)
        await scene.condition("stop", "Restored", "True", "Complete")
    assert message.startswith(f"InferenceService {scene.namespace}/vllm has another spec")


async def test_kinds_without_a_count_wait_for_the_canaries(scene: Scene) -> None:
    """They have no canary of their own, so they come in the full stage."""
    await scene.bench.deployment("vllm", 2)
    job = TABLE["Job"]
    await things.make(scene, job, "train")
    locks = {"deployments.apps/vllm": "", **things.lock(job, "train")}
    async with scene.manager():
        await scene.stopped(locks=locks, restorePolicy={"canaryReplicas": 1, "soak": "3s"})
        let_go(scene)
        await scene.condition("stop", "Restored", "False", "Soaking")
        soaking = await scene.bench.cluster.get(JOBS, "train", scene.namespace)
        await scene.condition("stop", "Restored", "True", "Complete")
    after = await scene.bench.cluster.get(JOBS, "train", scene.namespace)
    assert soaking["spec"]["suspend"] is True
    assert after["spec"]["suspend"] is False
    assert await scene.bench.replicas("vllm") == 2


async def test_no_more_comes_back_than_the_autoscaler_allows(scene: Scene) -> None:
    """Its maxReplicas as it stands then; and at least 1, since it does not wake at 0."""
    await scene.bench.deployment("vllm", 5)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm"}
    hpa = {
        "metadata": {"name": "vllm"},
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 8},
    }
    await scene.bench.cluster.create(HPAS, hpa, scene.namespace)
    async with scene.manager():
        await scene.stopped(restorePolicy=TERMS)
        lowered = {"spec": {"maxReplicas": 3}}
        await scene.bench.cluster.patch(HPAS, "vllm", lowered, scene.namespace)
        let_go(scene)
        message = await scene.condition("stop", "Restored", "True", "Complete")
    assert await scene.bench.replicas("vllm") == 3
    assert message.endswith("allows no more, recorded 5")


async def test_a_pod_that_nobody_owned_is_made_again(scene: Scene) -> None:
    """From its recorded manifest, under a new uid."""
    container = {"name": "server", "image": "models.invalid/vllm", "args": ["--model", "m"]}
    body: Json = {
        "metadata": {"name": "lone", "labels": {"app": "lone"}, "annotations": {"team": "a"}},
        "spec": {"containers": [container]},
    }
    first = await scene.bench.cluster.create(PODS, body, scene.namespace)
    async with scene.manager():
        await scene.stopped(locks={"pods/lone": ""}, restorePolicy=TERMS)
        gone = [each["metadata"]["name"] for each in await scene.bench.pods()]
        let_go(scene)
        message = await scene.condition("stop", "Restored", "True", "Complete")
    after = await scene.bench.cluster.get(PODS, "lone", scene.namespace)
    assert gone == []
    assert message == f"Pod {scene.namespace}/lone is there"
    assert after["metadata"]["uid"] != first["metadata"]["uid"]
    assert (after["metadata"]["labels"], after["metadata"]["annotations"]["team"]) == (
        {"app": "lone"},
        "a",
    )
    assert after["spec"]["containers"][0]["args"] == ["--model", "m"]


async def test_a_pod_that_may_not_be_made_keeps_nothing_else_from_coming_back(
    scene: Scene,
) -> None:
    """It is named with the reason; the soak is not begun anew, and traffic flows again."""
    cluster, place = scene.bench.cluster, scene.namespace
    account = {"metadata": {"name": "lone"}}
    await cluster.create(ACCOUNTS, account, place)
    container = {"name": "server", "image": "models.invalid/vllm"}
    spec = {"serviceAccountName": "lone", "containers": [container]}
    metadata = {"name": "lone", "labels": {"app": "lone"}}
    await cluster.create(PODS, {"metadata": metadata, "spec": spec}, place)
    await scene.bench.deployment("vllm", 2)
    service = {
        "metadata": {"name": "ours"},
        "spec": {"selector": {"app": "vllm"}, "ports": [{"port": 80}]},
    }
    await cluster.create(SERVICES, service, place)
    locks = {"pods/lone": "", "deployments.apps/vllm": ""}
    async with scene.manager():
        await scene.stopped(locks=locks, restorePolicy={"canaryReplicas": 1, "soak": "1s"})
        stop = await cluster.get(SHUTDOWNS, "stop", place)
        await _cut(scene, stop, "ours", cut_value(stop["metadata"]["uid"]))
        await cluster.delete(ACCOUNTS, "lone", place)
        let_go(scene)
        message = await scene.condition("stop", "Restored", "False", "WriteRefused")
        refused = await cluster.get(SHUTDOWNS, "stop", place)
        given = await cluster.get(SERVICES, "ours", place)
        await cluster.create(ACCOUNTS, account, place)
        await scene.condition("stop", "Restored", "True", "Complete")
    assert message.startswith(f"Pod {place}/lone could not be made again: ")
    assert "canaryReady" in refused["status"]["stages"]
    assert given["spec"]["selector"] == {"app": "vllm"}
    assert await scene.bench.replicas("vllm") == 2


async def test_traffic_is_given_back_last_and_exactly(scene: Scene) -> None:
    """The key that cut it goes; a Service whose key somebody else has written is left."""
    await scene.bench.deployment("vllm", 1)
    for name in ("ours", "theirs"):
        service = {
            "metadata": {"name": name},
            "spec": {"selector": {"app": "vllm"}, "ports": [{"port": 80}]},
        }
        await scene.bench.cluster.create(SERVICES, service, scene.namespace)
    before = await scene.bench.cluster.get(SERVICES, "ours", scene.namespace)
    async with scene.manager():
        await scene.stopped(restorePolicy=TERMS)
        stop = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
        await _cut(scene, stop, "ours", cut_value(stop["metadata"]["uid"]))
        await _cut(scene, stop, "theirs", "another")
        let_go(scene)
        message = await scene.condition("stop", "Restored", "True", "Complete")
    after = await scene.bench.cluster.get(SERVICES, "ours", scene.namespace)
    left = await scene.bench.cluster.get(SERVICES, "theirs", scene.namespace)
    assert essence(before) == essence(after)
    assert left["spec"]["selector"]["killswitch.dev/cut"] == "another"
    assert f"Service {scene.namespace}/ours given traffic again" in message
    assert 'killswitch.dev/cut is "another" by somebody else, left so' in message


async def _cut(scene: Scene, stop: Json, name: str, value: str) -> None:
    """Cut a Service as a graceful stop does, its record first."""
    found = await scene.bench.cluster.get(SERVICES, name, scene.namespace)
    await record(scene, stop, name, found, "/spec/selector/killswitch.dev~1cut")
    change = {"spec": {"selector": {"killswitch.dev/cut": value}}}
    await scene.bench.cluster.patch(SERVICES, name, change, scene.namespace)


async def record(scene: Scene, stop: Json, suffix: str, body: Json, field: str) -> None:
    """A record that this field of the object was absent."""
    metadata = body["metadata"]
    entry = {"kind": body["kind"], "name": metadata["name"], "uid": metadata["uid"]}
    spec = {
        "shutdown": stop["metadata"]["name"],
        "shutdownUid": stop["metadata"]["uid"],
        "targets": [{**entry, "settings": [{"field": field}]}],
    }
    stored = {"metadata": {"name": f"by-hand-{suffix}"}, "spec": spec}
    await things.create(scene, RECORDS, stored)


async def test_a_demand_holds_the_restore_at_the_canaries(scene: Scene) -> None:
    """The policy's own signals are the soak's; when they are quiet it begins anew."""
    await scene.bench.deployment("vllm", 3)
    created = await scene.bench.policy("runaway", targets=[scene.vllm])
    await _demanded(scene, demanded=True)
    reference = {
        "kind": "KillSwitchPolicy",
        "name": "runaway",
        "uid": created["metadata"]["uid"],
        "generation": 1,
        "episode": 1,
    }
    async with scene.manager():
        await scene.stopped("runaway-1", policy=reference, restorePolicy=TERMS)
        let_go(scene, "runaway-1")
        message = await scene.condition("runaway-1", "Restored", "False", "StillDemanded")
        held = await scene.bench.replicas("vllm")
        await _demanded(scene, demanded=False)
        await scene.condition("runaway-1", "Restored", "True", "Complete")
    assert held == 1
    assert message.startswith("KillSwitchPolicy runaway still demands a stop: signal load (")
    assert await scene.bench.replicas("vllm") == 3


async def _demanded(scene: Scene, *, demanded: bool) -> None:
    """Write the policy's status as its reactor would."""
    entry = {
        "type": "Demanded",
        "status": str(demanded),
        "reason": "QuorumMet" if demanded else "QuorumNotMet",
        "message": "1 of 1",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    signal = {"name": "load", "verdict": "Tripped" if demanded else "Clear"}
    await scene.bench.cluster.apply(
        POLICIES,
        "runaway",
        {"status": {"conditions": [entry], "signals": [signal]}},
        scene.namespace,
        subresource="status",
        manager="killswitch-reactor",
    )


async def test_a_kind_that_is_gone_from_the_cluster_is_waited_for(scene: Scene) -> None:
    """Its definition was deleted: what can come back does, and the rest is named."""
    await scene.bench.deployment("vllm", 1)
    async with scene.manager():
        await scene.stopped(restorePolicy=TERMS)
        stop = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
        body = {"kind": "Gone.test.example", "metadata": {"name": "vllm", "uid": "u"}}
        await record(scene, stop, "gone", body, "/spec/suspend")
        let_go(scene)
        message = await scene.condition("stop", "Restored", "False", "KindUnseen")
    assert await scene.bench.replicas("vllm") == 1
    assert message.startswith(
        f"Gone.test.example {scene.namespace}/vllm: the cluster does not serve its kind"
    )


async def test_a_daemon_set_that_had_a_node_selector_keeps_it(scene: Scene) -> None:
    """Only our key comes and goes."""
    kind = TABLE["DaemonSet"]
    await things.make(scene, kind)
    selector: Json = {"nodeSelector": {"type": "kwok", STOPPED_KEY: None}}
    selector = {"spec": {"template": {"spec": selector}}}
    await scene.bench.cluster.patch(DAEMONSETS, "vllm", selector, scene.namespace)
    await eventually(scene.bench.pods)
    async with scene.manager():
        await scene.stopped(locks=dict(things.lock(kind)), restorePolicy=TERMS)
        gone = await scene.bench.pods()
        let_go(scene)
        await scene.condition("stop", "Restored", "True", "Complete")
    found = await scene.bench.cluster.get(DAEMONSETS, "vllm", scene.namespace)
    assert gone == []
    assert found["spec"]["template"]["spec"]["nodeSelector"] == {"type": "kwok"}


async def test_a_target_at_zero_before_stays_there(scene: Scene) -> None:
    """Whoever had parked it, it was not this stop."""
    await scene.bench.deployment("vllm", 0)
    async with scene.manager():
        await scene.stopped(restorePolicy=TERMS)
        let_go(scene)
        await scene.condition("stop", "Restored", "True", "Complete")
    found = await scene.bench.cluster.get(DEPLOYMENTS, "vllm", scene.namespace)
    assert found["spec"]["replicas"] == 0


async def test_a_job_that_kueue_admits_is_left_to_it(kernel: ControlPlane, scene: Scene) -> None:
    """Its Workload is active again; while there is no room Kueue suspends it whoever starts it."""
    queue, waiting = TABLE["LocalQueue"].resource, TABLE["Workload.kueue.x-k8s.io"].resource
    labels, hold = {stand_ins.QUEUE_LABEL: "q"}, {"spec": {"stopPolicy": "Hold"}}
    job = {"metadata": {"name": "vllm", "labels": labels}}
    await things.create(scene, queue, {"metadata": {"name": "q"}, "spec": {"clusterQueue": "all"}})
    await things.create(scene, JOBS, {**job, "spec": stand_ins.job_spec({}, suspend=True)})

    async def suspended() -> bool:
        found = await scene.bench.cluster.get(JOBS, "vllm", scene.namespace)
        return bool(found["spec"]["suspend"])

    async def admitted() -> bool:
        return not await suspended()

    async with stand_ins.playing(kernel, scene.namespace, stand_ins.KUEUE), scene.manager():
        await eventually(admitted)
        locks = {**things.lock(TABLE["Job"]), f"{waiting.key}/job-vllm": ""}
        await scene.stopped(locks=locks, restorePolicy=TERMS)
        await eventually(suspended)
        await scene.bench.cluster.patch(queue, "q", hold, scene.namespace)
        let_go(scene)
        message = await scene.condition("stop", "Restored", "True", "Complete")
        workload = await scene.bench.cluster.get(waiting, "job-vllm", scene.namespace)
        assert workload["spec"]["active"]
        assert await suspended()
        go: Json = {"spec": {"stopPolicy": "None"}}
        await scene.bench.cluster.patch(queue, "q", go, scene.namespace)
        await eventually(admitted)
    words = f"Job {scene.namespace}/vllm: spec.suspend is left to Kueue, which admits it"
    assert words in message
