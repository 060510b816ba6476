"""People are told once, by an Event, when something about a policy changes for the worse."""

import pytest

from killswitch.core.resources import DEPLOYMENTS, EVENTS
from tests.manager.harness import Scene

pytestmark = pytest.mark.cluster
KIND = "KillSwitchPolicy"


async def _told(scene: Scene, reason: str) -> int:
    found = (await scene.bench.cluster.list(EVENTS, scene.namespace)).items
    return sum(each["reason"] == reason for each in found)


async def test_a_silent_reactor_disarms_the_policy_and_is_told(scene: Scene) -> None:
    """Nobody has read the signals for minutes: Armed would be a lie."""
    async with scene.manager():
        await scene.armed_policy("good")
        await scene.reactor_reports("good", ago=151)
        message = await scene.policy_condition("good", "Armed", "False", "ReactorSilent")
        told = await scene.event(KIND, "good", "ReactorSilent", "Warning")
        await scene.reactor_reports("good")
        await scene.policy_condition("good", "Armed", "True")
    assert message.startswith("no reactor has reported since ")
    assert told == f"no longer armed: {message}"


async def test_a_generation_that_no_reactor_has_seen_is_not_armed(scene: Scene) -> None:
    """What was reported about the old text says nothing about the new one."""
    async with scene.manager():
        await scene.armed_policy("good")
        await scene.change_policy("good", quorum=1, cooldown="1h")
        await scene.policy_condition("good", "Armed", "False", "ReactorSilent")
        await scene.reactor_reports("good")
        await scene.policy_condition("good", "Armed", "True")


async def test_firing_is_told(scene: Scene) -> None:
    """With the name of what is engaged."""
    async with scene.manager():
        await scene.bench.deployment("vllm", 1)
        uid = (await scene.bench.policy("runaway", targets=[scene.vllm]))["metadata"]["uid"]
        reference = {"kind": KIND, "name": "runaway", "uid": uid, "generation": 1, "episode": 1}
        await scene.stopped("runaway-1", policy=reference)
        message = await scene.event(KIND, "runaway", "Fired", "Warning")
    assert message == "engaged: runaway-1"
    found = await scene.bench.cluster.get(DEPLOYMENTS, "vllm", scene.namespace)
    assert found["spec"]["replicas"] == 0


async def test_an_inhibited_demand_is_told(scene: Scene) -> None:
    """It would fire and does not: somebody must know why."""
    async with scene.manager():
        await scene.armed_policy("good")
        await scene.reactor_reports("good", inhibited=("TooManyTargets", "11 of at most 10"))
        message = await scene.event(KIND, "good", "Inhibited", "Warning")
    assert message == "it would act, but TooManyTargets: 11 of at most 10"


@pytest.mark.parametrize("cause", ["EngagementRefused", "InternalError"])
async def test_a_policy_that_could_not_act_is_not_armed(scene: Scene, cause: str) -> None:
    """Armed claims that it would act. It is armed again after a look without that."""
    async with scene.manager():
        await scene.armed_policy("good")
        await scene.reactor_reports("good", inhibited=(cause, "quota exceeded"))
        message = await scene.policy_condition("good", "Armed", "False", cause)
        await scene.event(KIND, "good", cause, "Warning")
        await scene.reactor_reports("good")
        await scene.policy_condition("good", "Armed", "True", "LockProven")
    assert message == "the reactor could not act: quota exceeded"


async def test_a_policy_that_people_hold_back_stays_armed(scene: Scene) -> None:
    """A bypass or a cooldown is a decision, told as Inhibited; the policy works."""
    async with scene.manager():
        await scene.armed_policy("good")
        await scene.reactor_reports("good", inhibited=("Cooldown", "4 min left"))
        await scene.event(KIND, "good", "Inhibited", "Warning")
        await scene.policy_condition("good", "Armed", "True", "LockProven")


@pytest.mark.parametrize(("on_no_data", "alerts"), [("Alert", 1), ("Hold", 0)])
async def test_a_blind_signal_is_told_and_alert_names_it(
    scene: Scene, on_no_data: str, alerts: int
) -> None:
    """Unknown is loud for every policy; onNoData: Alert gets a Warning for the signal itself."""
    query = {"query": "up", "above": "1"}
    signals = [{"name": "load", "prometheus": query, "onNoData": on_no_data}]
    async with scene.manager():
        await scene.armed_policy("good", signals=signals)
        await scene.reactor_reports("good", unknown="NeverRead")
        await scene.reactor_reports("good", unknown="Absent")
        message = await scene.event(KIND, "good", "SignalsUnknown", "Warning")
        if alerts:
            alert = await scene.event(KIND, "good", "NoData", "Warning")
            assert alert.startswith("signal load is Unknown, Absent: as of ")
        await scene.reactor_reports("good", unknown="Absent")  # with another time in the message
        await scene.reactor_reports("good", inhibited=("Bypassed", "by a person"))
        await scene.event(KIND, "good", "Inhibited", "Warning")
    assert message == "load: Absent"
    assert await _told(scene, "SignalsUnknown") == 1
    assert await _told(scene, "NoData") == alerts


@pytest.mark.parametrize("early", ["NeverRead", "WarmingUp"])
async def test_a_policy_at_its_start_is_no_alarm(scene: Scene, early: str) -> None:
    """Not read yet is where each policy begins, and warming up each detector."""
    async with scene.manager():
        await scene.bench.policy("good", targets=[scene.vllm])
        await scene.reactor_reports("good", unknown=early)
        await scene.policy_condition("good", "Armed", "True")
    assert not await _told(scene, "SignalsUnknown")
    assert not await _told(scene, "ReactorSilent")
