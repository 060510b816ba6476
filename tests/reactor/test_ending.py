"""The end of a Freeze: stopped once if nobody thawed, whoever froze and whoever restarts."""

import asyncio
from typing import Any

import pytest

from killswitch.adapters import credentials
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.errors import RefusedError, UnavailableError
from killswitch.core.resources import FREEZES, POLICIES, SHUTDOWNS, Resource
from killswitch.core.switch import State
from killswitch.ports import Json
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import freeze, freezes, shutdown, shutdowns
from tests.kernel.test_bypasses import ahead
from tests.reactor.harness import Bench, eventually, reactor
from tests.reactor.test_fires import names
from tests.reactor.test_freezing import VLLM, frozen, polls

pytestmark = pytest.mark.cluster
EXPIRED = "f-expired"


def froze(
    kernel: ControlPlane, setting: Bench, *, seconds: float = 3, name: str = "f", **spec: Any
) -> Json:
    """A Freeze by alice that ends in a stop after so long."""
    body = freeze(name, "alice", **{"until": ahead(seconds=seconds), "then": "Stop", **spec})
    answer = kernel.api(kernel.user("alice")).create(freezes(setting.namespace), body)
    assert answer.status == 201, answer.message
    return answer.body


async def ended(setting: Bench, name: str = "f") -> Json:
    """The Freeze once the reactor has written its end."""
    return await setting.with_condition(FREEZES, name, "Ended", "True", "ShutdownMade")


async def test_a_persons_freeze_ends_in_a_stop_that_says_whose_it_was(
    kernel: ControlPlane, setting: Bench
) -> None:
    """The same targets and approvals, no policy; the Freeze names the Shutdown."""
    await setting.deployment("vllm", 2)
    made = froze(kernel, setting, requiredApprovals=3)
    async with reactor(setting):
        found = await setting.stopped(EXPIRED)
        over = await ended(setting)
    spec = found["spec"]
    assert spec["locks"] == made["spec"]["locks"]
    assert (spec["requestedBy"], spec["requiredApprovals"]) == ("admin", 3)
    assert "policy" not in spec
    assert spec["reason"] == (
        f"Freeze f of alice came to its end, {made['spec']['until']},"
        " and nobody had thawed it: it may leak"
    )
    assert EXPIRED in str(over["status"]["conditions"])
    assert (await setting.replicas("vllm"), await setting.pods()) == (0, [])


async def test_a_policys_freeze_ends_in_a_stop_that_latches_it(
    kernel: ControlPlane, setting: Bench
) -> None:
    """With the policy's terms of restore; the signals have not cleared, yet it fires no second time."""
    await setting.deployment("vllm", 1)
    action = {"type": "Freeze", "freeze": {"for": "2s", "onExpiry": "Stop"}}
    await setting.policy("runaway", targets=[VLLM], action=action, restore={"soak": "7s"})
    async with reactor(setting) as running:
        setting.dial.turn("runaway", 500)
        held = await setting.frozen("runaway-freeze-1")
        found = await setting.stopped("runaway-freeze-1-expired")
        await ended(setting, "runaway-freeze-1")
        await polls()
        watched = running.engine.watched[held["spec"]["policy"]["uid"]]
        assert watched.state is State.LATCHED
        assert found["spec"]["policy"] == held["spec"]["policy"]
        assert found["metadata"]["labels"]["killswitch.dev/policy"] == "runaway"
        assert found["spec"]["restorePolicy"]["soak"] == "7s"
        setting.approve(kernel, "runaway-freeze-1-expired", "bob", "carol")
        await setting.with_condition(POLICIES, "runaway", "Inhibited", "True", "Cooldown")
        await polls()
    assert await names(setting) == ["runaway-freeze-1-expired"]
    assert await frozen(setting) == ["runaway-freeze-1"]


async def test_two_reactors_end_it_once(kernel: ControlPlane, setting: Bench) -> None:
    """Both look at the same moment."""
    await setting.deployment("vllm", 2)
    froze(kernel, setting)
    async with reactor(setting, "reactor-0"), reactor(setting, "reactor-1"):
        await setting.stopped(EXPIRED)
        await ended(setting)
        await polls()
    assert await names(setting) == [EXPIRED]


async def test_a_reactor_that_was_away_at_the_end_stops_when_it_is_back(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Nothing depends on its memory; and once it has ended, no start stops again."""
    await setting.deployment("vllm", 1)
    froze(kernel, setting, seconds=1)
    async with reactor(setting):
        pass
    await asyncio.sleep(1.5)
    async with reactor(setting):
        await setting.stopped(EXPIRED)
        await ended(setting)
    setting.approve(kernel, EXPIRED, "bob", "carol")
    async with reactor(setting):
        await polls()
    assert await names(setting) == [EXPIRED]


class _Shifted(SystemClock):
    """A wall clock that is wrong by so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now(self) -> float:
        """Not the true time."""
        return super().now() + self._seconds


async def test_an_end_that_lies_hours_back_still_stops(
    kernel: ControlPlane, setting: Bench
) -> None:
    """A promise that nobody looked after: the reason says when it ended. No clock ahead prevents it."""
    await setting.deployment("vllm", 1)
    made = froze(kernel, setting, seconds=3600)
    async with reactor(setting, clock=_Shifted(5 * 3600)):
        found = await setting.stopped(EXPIRED)
    assert made["spec"]["until"] in found["spec"]["reason"]


async def test_a_clock_behind_does_not_prolong_a_freeze(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Never longer than from its creation to its end."""
    await setting.deployment("vllm", 1)
    froze(kernel, setting, seconds=2)
    async with reactor(setting, clock=_Shifted(-5 * 3600)):
        await setting.stopped(EXPIRED)


async def test_what_was_thawed_or_ends_in_a_thaw_is_not_stopped(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Neither by whoever froze, nor by itself, nor by deletion."""
    await setting.deployment("vllm", 1)
    for name in ("thawed", "deleted"):
        froze(kernel, setting, seconds=2, name=name)
    froze(kernel, setting, seconds=2, name="thaws", then="Thaw")
    froze(kernel, setting, seconds=2, name="last", locks={"deployments.apps/other": ""})
    async with reactor(setting):
        setting.thaw(kernel, "thawed", "alice")
        await setting.cluster.delete(FREEZES, "deleted", setting.namespace)
        await ended(setting, "last")
        await polls()
    assert await names(setting) == ["last-expired"]
    assert await setting.replicas("vllm") == 1


async def test_a_squatted_name_neither_prevents_the_stop_nor_is_adopted(
    kernel: ControlPlane, setting: Bench
) -> None:
    """A person's Shutdown of something else under the name that the end would take."""
    await setting.deployment("vllm", 1)
    body = shutdown(EXPIRED, "mallory", locks={"deployments.apps/other": ""})
    answer = kernel.api(kernel.user("mallory")).create(shutdowns(setting.namespace), body)
    assert answer.status == 201, answer.message
    froze(kernel, setting)
    async with reactor(setting):
        found = await setting.stopped(f"{EXPIRED}-more-1")
        await ended(setting)
    assert "deployments.apps/vllm" in found["spec"]["locks"]
    assert await names(setting) == [EXPIRED, f"{EXPIRED}-more-1"]


async def test_the_end_of_an_earlier_freeze_of_the_name_is_not_taken_for_this_ones(
    kernel: ControlPlane, setting: Bench
) -> None:
    """It was released and its Freeze deleted: the name comes again, and its stop with it."""
    await setting.deployment("vllm", 1)
    froze(kernel, setting, seconds=2)
    async with reactor(setting):
        await setting.stopped(EXPIRED)
        await ended(setting)
        setting.approve(kernel, EXPIRED, "bob", "carol")
        await setting.cluster.delete(FREEZES, "f", setting.namespace)
        froze(kernel, setting)
        await setting.stopped(f"{EXPIRED}-more-1")


class _Faulty(KubernetesApi):
    """The product's client, with faults that the test ends."""

    away = False
    mute = False
    attempts = 0

    async def create(
        self, resource: Resource, body: Json, namespace: str = "", *, dry_run: bool = False
    ) -> Json:
        """As ever, unless the API server is away for Shutdowns."""
        if resource == SHUTDOWNS and self.away:
            self.attempts += 1
            raise UnavailableError("away")
        return await super().create(resource, body, namespace, dry_run=dry_run)

    async def apply(self, resource: Resource, *args: Any, **more: Any) -> Json:
        """As ever, unless Freezes' status may not be written."""
        if resource == FREEZES and self.mute:
            self.attempts += 1
            raise RefusedError("no")
        return await super().apply(resource, *args, **more)

    async def tried(self, times: int) -> bool:
        """Whether it was tried so often."""
        return self.attempts >= times


async def test_an_api_server_that_is_away_at_the_end_is_asked_until_it_accepts(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Guards hold the pods meanwhile: nothing goes on by itself."""
    await setting.deployment("vllm", 1)
    froze(kernel, setting, seconds=2)
    loaded = credentials.load(kubeconfig=str(kernel.admin.kubeconfig))
    async with _Faulty(loaded) as api:
        api.away = True
        async with reactor(Bench(api, setting.namespace, setting.dial)):
            await eventually(lambda: api.tried(3))
            assert await names(setting) == []
            api.away = False
            await setting.stopped(EXPIRED)
            await ended(setting)
    assert await names(setting) == [EXPIRED]


async def test_what_people_released_is_not_stopped_again_by_an_end_that_could_not_be_written(
    kernel: ControlPlane, setting: Bench
) -> None:
    """The Shutdown is there, the Freeze does not say so: a 409 is done, released or not."""
    await setting.deployment("vllm", 1)
    froze(kernel, setting, seconds=2)
    loaded = credentials.load(kubeconfig=str(kernel.admin.kubeconfig))
    async with _Faulty(loaded) as api:
        api.mute = True
        async with reactor(Bench(api, setting.namespace, setting.dial)):
            await setting.stopped(EXPIRED)
            setting.approve(kernel, EXPIRED, "bob", "carol")
            before = api.attempts
            await eventually(lambda: api.tried(before + 2))
    async with reactor(setting):
        await ended(setting)
        await polls()
    assert await names(setting) == [EXPIRED]


async def test_the_longest_name_of_a_freeze_can_end(kernel: ControlPlane, setting: Bench) -> None:
    """Even where every name with a number is squatted: a Shutdown's has at most 100 characters."""
    await setting.deployment("vllm", 1)
    name = "f" * 80
    taken = [f"{name}-expired", *(f"{name}-expired-more-{number}" for number in range(1, 10))]
    for each in taken:
        body = shutdown(each, "mallory", locks={"deployments.apps/other": ""})
        kernel.api(kernel.user("mallory")).create(shutdowns(setting.namespace), body)
    froze(kernel, setting, seconds=2, name=name)
    async with reactor(setting):
        await ended(setting, name)
    (made,) = [each for each in await names(setting) if each not in taken]
    assert len(made) == 100


async def test_a_policys_freeze_ends_with_its_stop(kernel: ControlPlane, setting: Bench) -> None:
    """It would freeze what people restore, and at its end stop it again."""
    await setting.deployment("vllm", 1)
    rung = {"quorum": 1, "for": "4s", "onExpiry": "Stop"}
    sources = [
        {"name": name, "prometheus": {"query": name, "above": "100"}, "onNoData": "Hold"}
        for name in ("hint", "proof")
    ]
    await setting.policy(
        "runaway", targets=[VLLM], quorum=2, signals=sources, action={"freeze": rung}
    )
    async with reactor(setting):
        setting.dial.turn("hint", 500)
        await setting.frozen("runaway-freeze-1")
        setting.dial.turn("proof", 500)
        await setting.stopped("runaway-1")
        over = await ended(setting, "runaway-freeze-1")
        await asyncio.sleep(5)  # past the end that it names
        found = await names(setting)
    assert "its policy has stopped its targets: Shutdown runaway-1" in str(over["status"])
    assert found == ["runaway-1"]


async def test_a_persons_freeze_outlasts_a_policys_stop(
    kernel: ControlPlane, setting: Bench
) -> None:
    """What a person holds, people let go."""
    await setting.deployment("vllm", 1)
    froze(kernel, setting, seconds=3600, then="Thaw")
    await setting.policy("runaway", targets=[VLLM])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
        await polls()
        held = await setting.cluster.get(FREEZES, "f", setting.namespace)
    assert "Ended" not in str(held.get("status", {}))
