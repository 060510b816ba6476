"""The reactor over a real API server, controller manager and kwok: decisions become stops."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from killswitch.adapters import credentials
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core import evidence
from killswitch.core.errors import RefusedError
from killswitch.core.resources import BYPASSES, DEPLOYMENTS, POLICIES, SHUTDOWNS, STATEFULSETS
from tests.cluster.control_plane import ControlPlane
from tests.reactor.harness import Bench, deployment, eventually, reactor

pytestmark = pytest.mark.cluster
VLLM = {"kind": "Deployment", "name": "vllm"}


async def test_a_tripped_policy_stops_its_target_and_holds_it(setting: Bench) -> None:
    """Pods gone, count recorded, scaled to 0, lock proven, and a restart is refused."""
    await setting.deployment("vllm", 3)
    await setting.policy("runaway", targets=[VLLM])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        shutdown = await setting.stopped("runaway-1")
        with pytest.raises(RefusedError, match=r"held down by Shutdown .*runaway-1"):
            await setting.cluster.patch(
                DEPLOYMENTS, "vllm", {"spec": {"replicas": 3}}, setting.namespace
            )
    assert await setting.pods() == []
    assert await setting.replicas("vllm") == 0
    assert [(t["name"], t["replicas"]) for t in await setting.recorded()] == [("vllm", 3)]
    stages = shutdown["status"]["stages"]
    order = ["decided", "locked", "deleted", "recorded", "scaled", "proven", "stopped"]
    assert sorted(stages, key=lambda stage: stages[stage]) == order


async def test_only_the_target_is_touched(setting: Bench) -> None:
    """A neighbour in the same namespace keeps its pods and may scale."""
    await setting.deployment("vllm")
    await setting.deployment("other")
    before = {pod["metadata"]["uid"] for pod in await setting.pods("other")}
    await setting.policy("runaway", targets=[VLLM])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
    assert before == {pod["metadata"]["uid"] for pod in await setting.pods("other")}
    body = {"spec": {"replicas": 3}}
    await setting.cluster.patch(DEPLOYMENTS, "other", body, setting.namespace)


async def test_the_evidence_record_has_the_digest_that_the_shutdown_carries(
    setting: Bench,
) -> None:
    """What was known at the decision can be verified from the stored objects alone."""
    await setting.deployment("vllm", 1)
    await setting.policy("runaway", targets=[VLLM])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        shutdown = await setting.stopped("runaway-1")
        stored = await eventually(setting.evidence)
    assert evidence.digest(stored) == shutdown["spec"]["evidenceDigest"]
    assert stored["signals"][0]["value"] == "500"
    assert stored["signals"][0]["threshold"] == "> 100"


async def test_two_reactors_that_fire_together_make_one_shutdown(setting: Bench) -> None:
    """Names are deterministic; the second finds the first's Shutdown and helps."""
    await setting.deployment("vllm", 3)
    await setting.policy("runaway", targets=[VLLM])
    async with reactor(setting, "reactor-0"), reactor(setting, "reactor-1"):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
    assert [each["metadata"]["name"] for each in await setting.shutdowns()] == ["runaway-1"]
    assert [target["replicas"] for target in await setting.recorded()] == [3]


async def test_a_reactor_killed_after_the_lock_is_succeeded_by_the_next(setting: Bench) -> None:
    """Nothing comes back in between, and the next reactor completes the stop."""
    await setting.deployment("vllm", 3)
    await setting.policy("runaway", targets=[VLLM])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await eventually(lambda: setting.cluster.get(SHUTDOWNS, "runaway-1", setting.namespace))
    async with reactor(setting, "reactor-1"):
        await setting.stopped("runaway-1")
    assert await setting.pods() == []
    assert await setting.replicas("vllm") == 0
    assert [target["replicas"] for target in await setting.recorded()] == [3]


async def test_two_policies_on_one_target_are_two_holds_and_one_record(setting: Bench) -> None:
    """The second never overwrites what was there with 0."""
    await setting.deployment("vllm", 3)
    await setting.policy("runaway", targets=[VLLM])
    await setting.policy("misuse", targets=[VLLM])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
        setting.dial.turn("misuse", 500)
        await setting.stopped("misuse-1")
    assert [(t["name"], t["replicas"]) for t in await setting.recorded()] == [("vllm", 3)]
    assert {"runaway-1", "misuse-1"} == {s["metadata"]["name"] for s in await setting.shutdowns()}


async def test_an_absent_replica_count_is_recorded_as_absent(setting: Bench) -> None:
    """Absent is a value: the API server's default is stored as what it became."""
    await setting.deployment("vllm", None)
    await setting.policy("runaway", targets=[VLLM])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
    # apps/v1 defaults replicas to 1 on write, so 1 is what was there.
    assert [target["replicas"] for target in await setting.recorded()] == [1]


async def test_a_statefulset_that_would_lose_its_volumes_is_held_but_not_scaled(
    setting: Bench,
) -> None:
    """whenScaled: Delete would delete claims: pods are deleted, the lock holds, the count stays."""
    body = deployment("db", 2)
    body["kind"] = "StatefulSet"
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    body["spec"] |= {
        "serviceName": "db",
        "volumeClaimTemplates": [claim],
        "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"},
    }
    await setting.cluster.create(STATEFULSETS, body, setting.namespace)
    await eventually(lambda: setting.pods("db"))
    await setting.policy("runaway", targets=[{"kind": "StatefulSet", "name": "db"}])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
    stored = await setting.cluster.get(STATEFULSETS, "db", setting.namespace)
    assert stored["spec"]["replicas"] == 2
    assert await setting.pods() == []


async def test_a_target_recreated_under_the_same_name_stays_down(setting: Bench) -> None:
    """The lock holds the name too: a new Deployment may exist at 0, it cannot run."""
    await setting.deployment("vllm", 1)
    await setting.policy("runaway", targets=[VLLM])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
        await setting.cluster.delete(DEPLOYMENTS, "vllm", setting.namespace)
        with pytest.raises(RefusedError, match="held down by"):
            await setting.cluster.create(DEPLOYMENTS, deployment("vllm", 1), setting.namespace)
        await setting.cluster.create(DEPLOYMENTS, deployment("vllm", 0), setting.namespace)
    assert await setting.pods() == []


async def test_a_target_that_vanished_before_the_fire_inhibits(setting: Bench) -> None:
    """A fire that stops nothing would look like success: it is inhibited and says so."""
    await setting.policy("runaway", targets=[VLLM])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        found = await setting.with_condition(
            POLICIES, "runaway", "Inhibited", "True", "NothingToStop"
        )
    assert await setting.shutdowns() == []
    message = next(c for c in found["status"]["conditions"] if c["type"] == "Inhibited")["message"]
    assert message == f"nothing matches: Deployment vllm in {setting.namespace}"


async def test_a_dry_run_decides_and_reports_and_touches_nothing(setting: Bench) -> None:
    """It says what Enforce would have done."""
    await setting.deployment("vllm", 2)
    await setting.policy("runaway", targets=[VLLM], mode="DryRun")
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.with_condition(POLICIES, "runaway", "Inhibited", "True", "DryRun")
    assert len(await setting.pods()) == 2
    assert await setting.shutdowns() == []


async def test_a_bypass_inhibits_until_it_ends(setting: Bench) -> None:
    """A person's suspension is honoured, and its end makes the demand count again."""
    await setting.deployment("vllm", 1)
    await setting.policy("runaway", targets=[VLLM])
    spec = {
        "policy": "runaway",
        "requestedBy": await setting.cluster.whoami(),
        "reason": "maintenance",
        "until": (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    body = {"apiVersion": BYPASSES.api_version, "kind": "Bypass", "metadata": {"name": "look-away"}}
    await setting.cluster.create(BYPASSES, {**body, "spec": spec}, setting.namespace)
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.with_condition(POLICIES, "runaway", "Inhibited", "True", "Bypassed")
        assert await setting.shutdowns() == []
        await setting.cluster.delete(BYPASSES, "look-away", setting.namespace)
        await setting.stopped("runaway-1")


async def test_a_plan_beyond_its_cap_is_not_half_executed(setting: Bench) -> None:
    """Three targets match, two are allowed: none is stopped."""
    for name in ("a", "b", "c"):
        await setting.deployment(name, 1)
    await setting.policy(
        "runaway",
        targets=[{"kind": "Deployment", "name": name} for name in ("a", "b", "c")],
        limits={"maxTargets": 2},
    )
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.with_condition(POLICIES, "runaway", "Inhibited", "True", "TooManyTargets")
    assert len(await setting.pods()) == 3


async def test_a_shutdown_made_by_hand_is_executed_like_any_other(setting: Bench) -> None:
    """A person's lock by name alone: pods go, replicas are recorded and brought to 0."""
    await setting.deployment("vllm", 2)
    body = {
        "apiVersion": SHUTDOWNS.api_version,
        "kind": "Shutdown",
        "metadata": {"name": "by-hand", "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {
            "requestedBy": await setting.cluster.whoami(),
            "reason": "I do not like what it says",
            "requiredApprovals": 1,
            "locks": {"deployments.apps/vllm": ""},
        },
    }
    async with reactor(setting):
        await setting.cluster.create(SHUTDOWNS, body, setting.namespace)
        await setting.stopped("by-hand")
    assert await setting.pods() == []
    assert [target["replicas"] for target in await setting.recorded()] == [2]


async def test_a_demand_shorter_than_its_hold_down_does_not_fire(setting: Bench) -> None:
    """`for` must have run out while the signal stayed tripped."""
    await setting.deployment("vllm", 1)
    signal = {
        "name": "load",
        "prometheus": {"query": "runaway", "above": "100"},
        "onNoData": "Hold",
        "for": "4s",
    }
    await setting.policy("runaway", targets=[VLLM], signals=[signal])
    async with reactor(setting) as running:
        setting.dial.turn("runaway", 500)
        await setting.with_condition(POLICIES, "runaway", "Demanded", "False", "HoldDownRunning")
        setting.dial.turn("runaway", 1)
        await setting.with_condition(POLICIES, "runaway", "Demanded", "False", "QuorumNotMet")
        await asyncio.sleep(4.2)  # longer than the hold-down: it must not have gone on running
        assert await setting.shutdowns() == []
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
        assert running.engine.watched


class _Reluctant(KubernetesApi):
    """The product's client against an API server that refuses the first scalings."""

    refusals = 2

    async def patch(self, *args: Any, subresource: str = "", **more: Any) -> Any:
        """Refused like any request that a policy with parameters meets after a restart."""
        if subresource == "scale" and not more.get("dry_run") and self.refusals:
            self.refusals -= 1
            raise RefusedError("failed to find resource referenced by paramKind", 422)
        return await super().patch(*args, subresource=subresource, **more)


async def test_a_refused_scaling_is_tried_until_the_workload_rests(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Stopped is said as soon as no pod is left, but release must find nothing that asks for pods."""
    await setting.deployment("vllm", 2)
    await setting.policy("runaway", targets=[VLLM])
    loaded = credentials.load(kubeconfig=str(kernel.admin.kubeconfig))
    async with _Reluctant(loaded) as api, reactor(Bench(api, setting.namespace, setting.dial)):
        setting.dial.turn("runaway", 500)
        early = await setting.stopped("runaway-1")
        assert "scaled" not in early["status"]["stages"]
        message = next(c for c in early["status"]["conditions"] if c["type"] == "Stopped")[
            "message"
        ]
        assert "could not rest Deployment vllm" in message

        async def rested() -> bool:
            found = await setting.cluster.get(SHUTDOWNS, "runaway-1", setting.namespace)
            return "scaled" in found["status"]["stages"]

        await eventually(rested)
    assert await setting.replicas("vllm") == 0
    assert [target["replicas"] for target in await setting.recorded()] == [2]
