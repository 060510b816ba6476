"""Condition Freezable: said before anybody relies on a freeze."""

import itertools

import pytest

from killswitch.core import conditions
from killswitch.core.resources import CLUSTER_POLICIES, DEPLOYMENTS, POLICIES
from tests.kernel.objects import cluster_policy
from tests.manager.guarded import Ward
from tests.reactor.harness import deployment, eventually

pytestmark = pytest.mark.cluster
MINUTE = {"type": "Freeze", "freeze": {"for": "1m", "onExpiry": "Thaw"}}
PROBE = {"httpGet": {"port": 8000}}


async def serve(ward: Ward, **probes: object) -> None:
    """Deployment vllm with one pod on the ward's first node."""
    body = deployment("vllm", 1)
    spec = body["spec"]["template"]["spec"]
    spec["nodeName"] = ward.first
    spec["containers"][0] |= probes
    await ward.scene.bench.cluster.create(DEPLOYMENTS, body, ward.scene.namespace)


async def judged(ward: Ward, status: str, reason: str) -> str:
    """The message of Freezable, once it stands so; the policy is touched to be looked at."""
    bench, turns = ward.scene.bench, itertools.count()

    async def look() -> str | None:
        await ward.scene.change_policy("p", riskDomain=f"turn-{next(turns)}")
        found = await bench.cluster.get(POLICIES, "p", bench.namespace)
        observed = found.get("status", {}).get("conditions", ())
        each = conditions.find(observed, "Freezable")
        right = each is not None and (each["status"], each["reason"]) == (status, reason)
        return str(each["message"]) if each is not None and right else None

    return await eventually(look)


async def test_who_asks_for_nothing_has_no_such_condition(ward: Ward) -> None:
    """Most policies have nothing for guards to do."""
    async with ward.scene.manager(account=ward.account):
        await ward.scene.bench.policy("p", targets=[ward.scene.vllm])
        await ward.scene.policy_condition("p", "Ready", "True")
        place = ward.scene.namespace
        found = await ward.scene.bench.cluster.get(POLICIES, "p", place)
    assert "Freezable" not in [each["type"] for each in found["status"]["conditions"]]


async def test_nodes_without_a_live_guard_are_named(ward: Ward) -> None:
    """Their pods would run on."""
    async with ward.scene.manager(account=ward.account):
        await ward.scene.bench.policy("p", targets=[ward.scene.vllm], action=MINUTE)
        nothing = await ward.scene.policy_condition("p", "Freezable", "Unknown", "NoTarget")
        await serve(ward, readinessProbe=PROBE)
        await eventually(ward.scene.bench.pods)
        missing = await judged(ward, "False", "Unguarded")
        told = await ward.scene.event("KillSwitchPolicy", "p", "Unguarded", "Warning")
        ward.say(ward.first)
        good = await judged(ward, "True", "Guarded")
    assert nothing == "no pod of its targets has a node yet"
    assert missing == told == f"no live node guard on node {ward.first}: 1 pods would run on"
    assert good == (
        "1 pods on 1 nodes with live node guards; traffic is withdrawn after 21.0 s"
        " (readiness probe)"
    )


async def test_a_liveness_budget_that_is_too_short_is_named_with_its_cure(ward: Ward) -> None:
    """The kubelet would restart the server, and what it was frozen for is gone."""
    await serve(ward, livenessProbe=PROBE)
    async with ward.scene.manager(account=ward.account):
        await ward.scene.bench.policy("p", targets=[ward.scene.vllm], action=MINUTE)
        message = await ward.scene.policy_condition("p", "Freezable", "False", "LivenessBudget")
        await ward.scene.event("KillSwitchPolicy", "p", "LivenessBudget", "Warning")
        freeze = {**MINUTE, "freeze": {"for": "20s", "onExpiry": "Thaw"}}
        await ward.scene.change_policy("p", action=freeze)
        await ward.scene.policy_condition("p", "Freezable", "False", "Unguarded")
    assert message.startswith(
        "frozen for 1 min 0 s the kubelet restarts container server of Deployment"
        f" {ward.scene.namespace}/vllm after 21.0 s: freeze for less than 21.0 s, or raise"
    )


async def test_a_bare_pod_is_judged_by_itself(ward: Ward) -> None:
    """A whole namespace has pods that no workload stands above."""
    container = {"name": "c", "image": "i", "livenessProbe": PROBE}
    await ward.pod("bare", ward.first, containers=[container])
    name = place = ward.scene.namespace
    target = {"kind": "Namespace", "namespaces": [place]}
    body = cluster_policy(name, targets=[target], action=MINUTE)
    cluster = ward.scene.bench.cluster

    async def look() -> str | None:
        found = await cluster.get(CLUSTER_POLICIES, name)
        each = conditions.find(found.get("status", {}).get("conditions", ()), "Freezable")
        return str(each["message"]) if each and each["reason"] == "LivenessBudget" else None

    async with ward.scene.manager(account=ward.account):
        await cluster.create(CLUSTER_POLICIES, body)
        message = await eventually(look)
        await cluster.delete(CLUSTER_POLICIES, name)
    assert f"container c of Pod {place}/bare after 21.0 s" in message
