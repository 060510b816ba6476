"""The cap over all policies over a real API server: counted from what is stored there."""

import pytest

from killswitch.core import caps
from killswitch.core.caps import Cap
from killswitch.core.resources import POLICIES, SHUTDOWNS
from killswitch.ports import Json
from tests.kernel.objects import shutdown
from tests.reactor.harness import Bench, eventually, reactor

pytestmark = pytest.mark.cluster
A, B, C = ({"kind": "Deployment", "name": name} for name in "abc")
HOUR = 3600.0


async def stopped_lately(setting: Bench) -> int:
    """What the policies of tests before this one have stopped, in the one cluster of all tests."""
    async with reactor(setting) as running:
        now = running.engine._clock.now()
        return caps.spent(running.engine.view.fires(), nodes=False, now=now, window=HOUR)


async def inhibited(setting: Bench, name: str, reason: str) -> Json:
    """The policy once it is inhibited for this reason."""
    return await setting.with_condition(POLICIES, name, "Inhibited", "True", reason)


async def test_what_all_policies_may_stop_is_counted_across_restarts(setting: Bench) -> None:
    """The second fire is beyond the cap, by whichever reactor; people stop what they want."""
    for name in "abc":
        await setting.deployment(name, 1)
    await setting.policy("first", targets=[A])
    await setting.policy("second", targets=[B])
    cap = Cap(targets=await stopped_lately(setting) + 1, window=HOUR)
    async with reactor(setting, cap=cap):
        setting.dial.turn("first", 500)
        await setting.stopped("first-1")
        setting.dial.turn("second", 500)
        found = await inhibited(setting, "second", "CapReached")
    message = next(c for c in found["status"]["conditions"] if c["type"] == "Inhibited")["message"]
    assert f"1 more would be {cap.targets + 1}: cap.targets is {cap.targets}" in message
    assert found["status"]["cap"] == {"targets": cap.targets, "percent": 0, "window": "3600s"}
    async with reactor(setting, "reactor-1", cap=cap):
        locks = {"deployments.apps/c": ""}
        body = shutdown("by-hand", "admin", locks=locks)
        await setting.cluster.create(SHUTDOWNS, body, setting.namespace)
        await setting.stopped("by-hand")
        await inhibited(setting, "second", "CapReached")
    assert {each["metadata"]["name"] for each in await setting.shutdowns()} == {
        "first-1",
        "by-hand",
    }
    assert len(await setting.pods("b")) == 1


async def test_two_policies_that_fire_at_once_do_not_pass_the_cap_together(setting: Bench) -> None:
    """What was ordered a moment ago counts before it is stored."""
    for name in "ab":
        await setting.deployment(name, 1)
        await setting.policy(f"fire-{name}", targets=[A if name == "a" else B])
    cap = Cap(targets=await stopped_lately(setting) + 1, window=HOUR)
    async with reactor(setting, cap=cap):
        setting.dial.turn("fire-a", 500)
        setting.dial.turn("fire-b", 500)

        async def one_each() -> bool:
            policies = [
                await setting.cluster.get(POLICIES, f"fire-{n}", setting.namespace) for n in "ab"
            ]
            conditions = [c for p in policies for c in p.get("status", {}).get("conditions", ())]
            return any(c["reason"] == "CapReached" for c in conditions)

        await eventually(one_each)
        await eventually(setting.shutdowns)
    assert len(await setting.shutdowns()) == 1


async def test_a_dry_run_predicts_the_cap_and_a_share_counts_all_workloads(setting: Bench) -> None:
    """As Enforce would be inhibited, so is DryRun, by the same words."""
    await setting.deployment("c", 1)
    await setting.policy("dry", targets=[C], mode="DryRun")
    await setting.policy("real", targets=[A])
    await setting.deployment("a", 1)
    cap = Cap(targets=await stopped_lately(setting) + 1, window=HOUR)
    async with reactor(setting, cap=cap):
        setting.dial.turn("dry", 500)
        await inhibited(setting, "dry", "DryRun")
        setting.dial.turn("real", 500)
        await setting.stopped("real-1")
        await inhibited(setting, "dry", "CapReached")
    async with reactor(setting, "reactor-1", cap=Cap(percent=100, window=0.001)):
        await inhibited(setting, "dry", "DryRun")
