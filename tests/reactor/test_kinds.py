"""Every built-in kind on the real controller manager: stopped, held while it pushes, finished by the next."""

import asyncio
import json
from typing import Any

import pytest

from killswitch.core.errors import RefusedError
from killswitch.core.kinds import TABLE, Kind, Verb, patch
from killswitch.core.resources import CRON_JOBS, JOBS, PODS, SHUTDOWNS
from killswitch.ports import Json
from tests.cluster.control_plane import ControlPlane
from tests.reactor.harness import Bench, dave, eventually, reactor, rights

pytestmark = pytest.mark.cluster
_LABELS = {"app": "model", "example.com/long-running": "true"}
_CONTAINER = {"name": "server", "image": "models.invalid/vllm"}
_KWOK = {"type": "kwok"}


def template(**spec: Any) -> Json:
    """Pods on nodes that kwok plays."""
    pod = {"containers": [_CONTAINER], "nodeSelector": _KWOK, **spec}
    return {"metadata": {"labels": _LABELS}, "spec": pod}


def job_spec() -> Json:
    """Two pods that run until somebody ends them."""
    return {
        "parallelism": 2,
        "completions": 2,
        "backoffLimit": 100,
        "template": template(restartPolicy="Never"),
    }


_ON_TWO_NODES = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {
                    "matchExpressions": [
                        {
                            "key": "kubernetes.io/hostname",
                            "operator": "In",
                            "values": ["gpu-0", "gpu-1"],
                        }
                    ]
                }
            ]
        }
    }
}
"""Other tests of this folder add nodes."""


def body(kind: str) -> Json:
    """One of each, called model."""
    chosen = {"matchLabels": _LABELS}
    specs: dict[str, Json] = {
        "ReplicaSet": {"replicas": 2, "selector": chosen, "template": template()},
        "ReplicationController": {"replicas": 2, "selector": _LABELS, "template": template()},
        "DaemonSet": {"selector": chosen, "template": template(affinity=_ON_TWO_NODES)},
        "Job": job_spec(),
        "CronJob": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job_spec()}},
        "Pod": template()["spec"],
    }
    metadata = {"name": "model", **({"labels": _LABELS} if kind == "Pod" else {})}
    return {
        "apiVersion": TABLE[kind].resource.api_version,
        "kind": kind,
        "metadata": metadata,
        "spec": specs[kind],
    }


KINDS = ["ReplicaSet", "ReplicationController", "DaemonSet", "Job", "CronJob", "Pod"]


async def running(setting: Bench, kind: str) -> int:
    """How many pods of this kind run, once it has started them; a CronJob by a Job of its own."""
    created = await setting.cluster.create(TABLE[kind].resource, body(kind), setting.namespace)
    if kind == "CronJob":
        owner = {
            "apiVersion": CRON_JOBS.api_version,
            "kind": "CronJob",
            "name": "model",
            "uid": created["metadata"]["uid"],
            "controller": True,
        }
        job = body("Job") | {"metadata": {"name": "model-1", "ownerReferences": [owner]}}
        await setting.cluster.create(JOBS, job, setting.namespace)

    async def look() -> int:
        pods = await setting.pods("model")
        ready = [p for p in pods if p.get("status", {}).get("phase") == "Running"]
        return len(pods) if len(ready) == (1 if kind == "Pod" else 2) else 0

    return await eventually(look)


def target(kind: str) -> Json:
    """As a policy names it."""
    return {"kind": kind, "name": "model"}


async def rests(setting: Bench, kind: Kind, name: str) -> bool:
    """Whether this object stands at rest."""
    found = await setting.cluster.get(kind.resource, name, setting.namespace)
    return all(each.read(found) == each.rest for each in kind.settings)


async def finished(setting: Bench, name: str = "runaway-1") -> Json:
    """The Shutdown once it is stopped, at rest and proven."""

    async def look() -> Json | None:
        found = await setting.cluster.get(SHUTDOWNS, name, setting.namespace)
        reached = found.get("status", {}).get("stages", {})
        return found if {"stopped", "scaled", "proven"} <= set(reached) else None

    return await eventually(look)


async def held(setting: Bench, kind: Kind, name: str) -> None:
    """Return where undoing its rest is denied and no pod comes back while controllers push."""
    if kind.settings:
        undone = patch((each.path, None) for each in kind.settings)
        if kind.verb is Verb.SCALE:
            undone = {"spec": {"replicas": 2}}
        with pytest.raises(RefusedError, match="held down by"):
            await setting.cluster.patch(kind.resource, name, undone, setting.namespace)
        # A change that is not denied wakes its controller.
        label = {"metadata": {"labels": {"touched": "true"}}}
        await setting.cluster.patch(kind.resource, name, label, setting.namespace)
        await asyncio.sleep(1)
    assert await setting.pods("model") == []


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_stopped_recorded_and_held(setting: Bench, kind: str) -> None:
    """Pods gone, what was there recorded, at rest, and its controller starts nothing."""
    known = TABLE[kind]
    count = await running(setting, kind)
    await setting.policy("runaway", targets=[target(kind)])
    async with reactor(setting) as found:
        await _seen(found, known)
        setting.dial.turn("runaway", 500)
        shutdown = await finished(setting)
        await held(setting, known, "model") if kind != "Pod" else None
    assert shutdown["status"]["pods"] == count
    recorded = {each["kind"]: each for each in await setting.recorded()}
    assert recorded[kind]["name"] == "model"
    if known.verb is Verb.SCALE:
        assert recorded[kind]["replicas"] == 2
    if known.settings:
        assert await rests(setting, known, "model")
    if known.verb is Verb.SET:
        was = {each["field"]: each.get("was") for each in recorded[kind]["settings"]}
        # The API server writes false where nothing is said.
        expected = "false" if kind in {"Job", "CronJob"} else None
        assert was == {known.settings[0].pointer: expected}


async def _seen(found: Any, kind: Kind) -> None:
    """Return once a reactor sees the objects of this kind."""

    async def look() -> bool:
        return kind.resource.key in found.engine.view.inventory.seen

    await eventually(look)


async def test_a_cron_jobs_running_jobs_are_suspended_beside_it(setting: Bench) -> None:
    """Suspending the CronJob alone would leave them running (and have them up at the release)."""
    await running(setting, "CronJob")
    await setting.policy("runaway", targets=[target("CronJob")])
    async with reactor(setting) as found:
        await _seen(found, TABLE["CronJob"])
        await _seen(found, TABLE["Job"])
        setting.dial.turn("runaway", 500)
        await finished(setting)
        await held(setting, TABLE["Job"], "model-1")
    assert await rests(setting, TABLE["Job"], "model-1")
    kinds = sorted(each["kind"] for each in await setting.recorded())
    assert kinds == ["CronJob", "Job"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reactor_that_starts_in_the_middle_brings_it_to_rest(
    setting: Bench, kind: str
) -> None:
    """Locked and no more than that: the next one sees the kind late and finishes all the same."""
    known = TABLE[kind]
    await running(setting, kind)
    key = f"{known.resource.key}/model"
    order = {
        "apiVersion": SHUTDOWNS.api_version,
        "kind": "Shutdown",
        "metadata": {"name": "runaway-1", "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {
            "requestedBy": await setting.cluster.whoami(),
            "reason": "locked, and then the reactor died",
            "requiredApprovals": 1,
            "locks": {key: ""},
        },
    }
    await setting.cluster.create(SHUTDOWNS, order, setting.namespace)
    async with reactor(setting):
        await finished(setting)
        await held(setting, known, "model") if kind != "Pod" else None
    assert [each["kind"] for each in await setting.recorded() if each["name"] == "model"] == [kind]
    if known.settings:
        assert await rests(setting, known, "model")


async def test_a_bare_pod_can_be_made_again_from_its_record(setting: Bench) -> None:
    """What the API server takes back is what was there, without its former life."""
    await running(setting, "Pod")
    before = await setting.cluster.get(PODS, "model", setting.namespace)
    await setting.policy("runaway", targets=[{"kind": "Pod", "selector": {"matchLabels": _LABELS}}])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
    (record,) = await setting.recorded()
    assert record["uid"] == before["metadata"]["uid"]
    manifest = json.loads(record["manifest"])
    with pytest.raises(RefusedError, match="held down by"):
        await setting.cluster.create(PODS, manifest, setting.namespace)
    manifest["metadata"]["name"] = "again"
    again = await setting.cluster.create(PODS, manifest, setting.namespace)
    assert again["spec"]["containers"][0]["image"] == before["spec"]["containers"][0]["image"]
    assert again["spec"]["nodeSelector"] == _KWOK
    assert again["metadata"]["labels"] == before["metadata"]["labels"]


async def test_a_pod_that_no_record_has_room_for_is_stopped_all_the_same(setting: Bench) -> None:
    """And named: nobody can make it again."""
    large = body("Pod")
    large["metadata"]["annotations"] = {"blob": "x" * 70_000}
    await setting.cluster.create(PODS, large, setting.namespace)
    await setting.policy("runaway", targets=[target("Pod")])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        shutdown = await setting.stopped("runaway-1")
    message = next(
        each["message"] for each in shutdown["status"]["conditions"] if each["type"] == "Stopped"
    )
    assert f"pod {setting.namespace}/model cannot be made again: no manifest" in message
    (record,) = await setting.recorded()
    assert (record["kind"], "manifest" in record) == ("Pod", False)


async def test_what_an_earlier_stop_found_is_not_overwritten_by_a_later_one(setting: Bench) -> None:
    """The second stop finds `suspend: true`, which is the first one's doing."""
    await running(setting, "Job")
    await setting.policy("runaway", targets=[target("Job")])
    await setting.policy("misuse", targets=[target("Job")])
    async with reactor(setting) as found:
        await _seen(found, TABLE["Job"])
        setting.dial.turn("runaway", 500)
        await finished(setting)
        setting.dial.turn("misuse", 500)
        await finished(setting, "misuse-1")
    recorded = [each["settings"] for each in await setting.recorded()]
    assert recorded == [[{"field": "/spec/suspend", "was": "false"}]]


async def test_what_people_released_and_did_not_restore_is_not_overwritten_either(
    kernel: ControlPlane, setting: Bench
) -> None:
    """It is still suspended by the first stop: what the second finds is not what was there."""
    await running(setting, "Job")
    await setting.policy("runaway", targets=[target("Job")])
    await setting.policy("misuse", targets=[target("Job")])
    async with reactor(setting) as found:
        await _seen(found, TABLE["Job"])
        setting.dial.turn("runaway", 500)
        await finished(setting)
        setting.dial.turn("runaway", 1)
        setting.approve(kernel, "runaway-1", "bob", "carol")
        setting.dial.turn("misuse", 500)
        await finished(setting, "misuse-1")
    recorded = [each["settings"] for each in await setting.recorded()]
    assert recorded == [[{"field": "/spec/suspend", "was": "false"}]]


NO_PODS = (
    '[{apiGroups: [killswitch.dev, apps, batch, authentication.k8s.io], resources: ["*"], verbs: ["*"]},'
    ' {apiGroups: [""], resources: ["*"], verbs: [get, list, watch, delete]}]'
)


async def test_a_lock_is_proven_by_a_field_where_no_pod_may_be_created(
    kernel: ControlPlane, setting: Bench
) -> None:
    """The reactor's own account may create none: undoing the rest, as a dry run, is what is denied."""
    await running(setting, "Job")
    await setting.policy("runaway", targets=[target("Job")])
    async with (
        rights(kernel, "no-pods", NO_PODS),
        dave(kernel) as cluster,
        reactor(Bench(cluster, setting.namespace, setting.dial)) as found,
    ):
        await _seen(found, TABLE["Job"])
        setting.dial.turn("runaway", 500)
        shutdown = await finished(setting)
    told = {each["type"]: each["message"] for each in shutdown["status"]["conditions"]}
    assert told["Locked"] == "a dry-run restart was denied"
