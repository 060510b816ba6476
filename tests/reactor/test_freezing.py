"""The ladder: fewer signals freeze, the quorum stops, and people's thaw is respected."""

import asyncio
from typing import Any

import pytest

from killswitch.adapters import credentials
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core import evidence, times
from killswitch.core.errors import NotFoundError, RefusedError
from killswitch.core.resources import (
    BYPASSES,
    CLUSTER_POLICIES,
    FREEZES,
    POLICIES,
    RECORDS,
    SHUTDOWNS,
    Resource,
)
from killswitch.core.switch import State
from killswitch.ports import Json, Page
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import freeze
from tests.kernel.test_bypasses import ahead
from tests.reactor.harness import Bench, eventually, policy, reactor
from tests.reactor.test_fires import cluster_policy, more_namespaces, signal

pytestmark = pytest.mark.cluster
VLLM = {"kind": "Deployment", "name": "vllm"}
FREEZE = {"type": "Freeze", "freeze": {"for": "1h", "onExpiry": "Thaw"}}
"""An action that only freezes."""


async def ladder(setting: Bench, **more: Any) -> Json:
    """A policy that freezes at one signal of two, and stops at both."""
    spec = {
        "signals": [signal("one"), signal("two")],
        "quorum": 2,
        "action": {"freeze": {"quorum": 1, "for": "1h", "onExpiry": "Thaw"}},
    }
    await setting.deployment("vllm", 2)
    return await setting.policy("runaway", targets=[VLLM], **{**spec, **more})


async def frozen(setting: Bench) -> list[str]:
    """Names of the namespace's Freezes."""
    return sorted(each["metadata"]["name"] for each in await setting.freezes())


async def polls() -> None:
    """Return after ten polls."""
    await asyncio.sleep(0.5)


async def test_one_signal_freezes_and_the_second_stops(setting: Bench) -> None:
    """Frozen, nothing is locked or scaled; the stop follows and takes the Freeze's place."""
    await ladder(setting, release={"requiredApprovals": 3})
    async with reactor(setting):
        setting.dial.turn("two", 1)
        setting.dial.turn("one", 500)
        held = await setting.frozen("runaway-freeze-1")
        told = await setting.with_condition(
            POLICIES, "runaway", "Demanded", "True", "FreezeQuorumMet"
        )
        await polls()
        assert (await setting.shutdowns(), await setting.replicas("vllm")) == ([], 2)
        setting.dial.turn("two", 500)
        await setting.stopped("runaway-1")
        after = await setting.with_condition(
            FREEZES, "runaway-freeze-1", "Ended", "True", "ShutdownMade"
        )
    assert await frozen(setting) == ["runaway-freeze-1"]
    assert after["spec"] == held["spec"]
    spec = held["spec"]
    assert "deployments.apps/vllm" in spec["locks"]
    assert (spec["onExpiry"], spec["requiredApprovals"], spec["requestedBy"]) == (
        "Thaw",
        3,
        "admin",
    )
    assert (spec["policy"]["name"], spec["policy"]["episode"]) == ("runaway", 1)
    assert held["metadata"]["labels"] == {
        "killswitch.dev/engaged": "true",
        "killswitch.dev/policy": "runaway",
    }
    length = times.seconds(spec["until"]) - times.seconds(held["metadata"]["creationTimestamp"])
    assert 3598 <= length <= 3602
    message = next(c for c in told["status"]["conditions"] if c["type"] == "Demanded")["message"]
    assert message == "1 of 2 tripped, 2 required, 1 to freeze"


async def test_the_evidence_of_a_freeze_has_the_digest_that_it_carries(setting: Bench) -> None:
    """As that of a stop: fixed at the decision, stored beside it."""
    await ladder(setting)
    async with reactor(setting):
        setting.dial.turn("one", 500)
        held = await setting.frozen("runaway-freeze-1")
        found = await eventually(setting.evidence)
    assert evidence.digest(found) == held["spec"]["evidenceDigest"]
    assert "freezes 1 targets with 2 pods" in found["summary"]
    (record,) = (await setting.cluster.list(RECORDS, setting.namespace)).items
    assert record["spec"]["shutdownKind"] == "Freeze"
    assert record["spec"]["shutdownUid"] == held["metadata"]["uid"]


async def test_where_both_signals_count_it_stops(setting: Bench) -> None:
    """What is stopped need not be frozen."""
    await ladder(setting, mode="DryRun")
    async with reactor(setting):
        setting.dial.turn("one", 500)
        setting.dial.turn("two", 500)
        await setting.with_condition(POLICIES, "runaway", "Demanded", "True", "QuorumMet")
        body = {"spec": {"mode": "Enforce"}}
        await setting.cluster.patch(POLICIES, "runaway", body, setting.namespace)
        await setting.stopped("runaway-1")
        await polls()
    assert await frozen(setting) == []


async def test_type_freeze_never_stops(setting: Bench) -> None:
    """The policy's quorum freezes; more signals change nothing."""
    await ladder(setting, quorum=1, action=FREEZE)
    async with reactor(setting) as running:
        setting.dial.turn("one", 500)
        held = await setting.frozen("runaway-freeze-1")
        setting.dial.turn("two", 500)
        await setting.with_condition(POLICIES, "runaway", "Demanded", "True", "FreezeQuorumMet")
        await polls()
        watched = running.engine.watched[held["spec"]["policy"]["uid"]]
        assert watched.state is State.LATCHED
    assert await frozen(setting) == ["runaway-freeze-1"]
    assert await setting.shutdowns() == []


async def test_a_thaw_is_not_undone_by_the_next_sample(
    kernel: ControlPlane, setting: Bench
) -> None:
    """With no manager there: the cooldown begins when the thaw is seen, and a stop still follows."""
    await ladder(setting)
    async with reactor(setting):
        setting.dial.turn("one", 500)
        setting.dial.turn("two", 1)
        await setting.frozen("runaway-freeze-1")
        setting.thaw(kernel, "runaway-freeze-1")
        await setting.with_condition(POLICIES, "runaway", "Inhibited", "True", "Cooldown")
        await polls()
        assert await frozen(setting) == ["runaway-freeze-1"]
        setting.dial.turn("two", 500)
        await setting.stopped("runaway-1")


async def test_deleting_a_freeze_is_a_thaw(kernel: ControlPlane, setting: Bench) -> None:
    """It needs the same right, so it is respected the same way."""
    await ladder(setting)
    async with reactor(setting):
        setting.dial.turn("one", 500)
        await setting.frozen("runaway-freeze-1")
        await setting.cluster.delete(FREEZES, "runaway-freeze-1", setting.namespace)
        await setting.with_condition(POLICIES, "runaway", "Inhibited", "True", "Cooldown")
        await polls()
    assert await frozen(setting) == []


async def test_after_the_cooldown_it_freezes_under_the_next_number(
    kernel: ControlPlane, setting: Bench
) -> None:
    """The demand has lasted."""
    await ladder(setting, cooldown="1s")
    async with reactor(setting):
        setting.dial.turn("one", 500)
        await setting.frozen("runaway-freeze-1")
        setting.thaw(kernel, "runaway-freeze-1")
        await setting.frozen("runaway-freeze-2")
    assert await frozen(setting) == ["runaway-freeze-1", "runaway-freeze-2"]


async def test_a_freeze_that_expires_lets_go(setting: Bench) -> None:
    """By time alone; the cooldown counts from then, and nothing is stopped."""
    action = {"type": "Freeze", "freeze": {"for": "2s", "onExpiry": "Thaw"}}
    await ladder(setting, quorum=1, action=action)
    async with reactor(setting):
        setting.dial.turn("one", 500)
        await setting.frozen("runaway-freeze-1")
        await setting.with_condition(POLICIES, "runaway", "Inhibited", "True", "Cooldown")
        await polls()
    assert await frozen(setting) == ["runaway-freeze-1"]
    assert await setting.shutdowns() == []


async def test_two_reactors_freeze_once(setting: Bench) -> None:
    """Deterministic names: the second finds the first's Freeze, and only one counts it as made."""
    await ladder(setting)
    async with reactor(setting, "reactor-0") as first, reactor(setting, "reactor-1") as second:
        setting.dial.turn("one", 500)
        await setting.frozen("runaway-freeze-1")
        await eventually(setting.evidence)
        await polls()
        counted = [
            each.numbers.registry.get_sample_value("killswitch_freezes_total")
            for each in (first, second)
        ]
        assert sorted(counted, key=str) == [0, 1]
    assert await frozen(setting) == ["runaway-freeze-1"]


async def test_a_restart_finds_what_is_frozen(setting: Bench) -> None:
    """The stored Freeze is the fact; nothing is frozen twice."""
    await ladder(setting)
    async with reactor(setting):
        setting.dial.turn("one", 500)
        held = await setting.frozen("runaway-freeze-1")
    async with reactor(setting) as running:
        watched = running.engine.watched[held["spec"]["policy"]["uid"]]

        async def latched() -> bool:
            return watched.freeze.state is State.LATCHED

        await eventually(latched)
        await polls()
    assert await frozen(setting) == ["runaway-freeze-1"]


@pytest.mark.parametrize(
    ("change", "cause", "words"),
    [
        ({"mode": "DryRun"}, "DryRun", "it would freeze 1 targets with 2 pods"),
        ({"limits": {"maxPercent": 40}}, "TooLargeAShare", "1 of 2"),
        ({"targets": [{"kind": "Deployment", "name": "gone"}]}, "NothingToStop", "gone"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
async def test_what_inhibits_a_stop_inhibits_a_freeze(
    setting: Bench, change: Json, cause: str, words: str
) -> None:
    """The same plan, the same interlocks, said of the freeze."""
    await setting.deployment("other", 1)
    await ladder(setting)
    await setting.cluster.patch(POLICIES, "runaway", {"spec": change}, setting.namespace)
    async with reactor(setting):
        setting.dial.turn("one", 500)
        found = await setting.with_condition(POLICIES, "runaway", "Inhibited", "True", cause)
        await polls()
    message = next(c for c in found["status"]["conditions"] if c["type"] == "Inhibited")["message"]
    assert words in message
    assert await frozen(setting) == []


async def test_a_bypass_suspends_the_rung_too(setting: Bench) -> None:
    """And says by whom."""
    await ladder(setting)
    spec = {"policy": "runaway", "requestedBy": "admin", "reason": "r", "until": ahead(hours=1)}
    body = {
        "apiVersion": BYPASSES.api_version,
        "kind": BYPASSES.kind,
        "metadata": {"name": "b"},
        "spec": spec,
    }
    await setting.cluster.create(BYPASSES, body, setting.namespace)
    async with reactor(setting):
        setting.dial.turn("one", 500)
        await setting.with_condition(POLICIES, "runaway", "Inhibited", "True", "Bypassed")
        await polls()
    assert await frozen(setting) == []


async def test_a_squatted_name_neither_disarms_nor_is_adopted(
    kernel: ControlPlane, setting: Bench
) -> None:
    """A person's Freeze of something else under the rung's next name."""
    other = freeze(
        "runaway-freeze-1", "admin", until=ahead(hours=1), locks={"deployments.apps/o": ""}
    )
    await setting.cluster.create(FREEZES, other, setting.namespace)
    await ladder(setting)
    async with reactor(setting):
        setting.dial.turn("one", 500)
        found = await setting.frozen("runaway-freeze-1-more-1")
        await polls()
    assert "deployments.apps/vllm" in found["spec"]["locks"]
    assert await frozen(setting) == ["runaway-freeze-1", "runaway-freeze-1-more-1"]


async def test_a_target_that_matches_later_is_frozen_too(setting: Bench) -> None:
    """In a Freeze of its own, of the same episode."""
    labels = {"family": "llm"}
    await setting.deployment("other", 1)
    await setting.edit_labels("other", labels)
    target = {"kind": "Deployment", "selector": {"matchLabels": labels}}
    await setting.policy("runaway", targets=[target], signals=[signal("one")], action=FREEZE)
    async with reactor(setting):
        setting.dial.turn("one", 500)
        await setting.frozen("runaway-freeze-1")
        await setting.deployment("copy", 1)
        await setting.edit_labels("copy", labels)
        found = await setting.frozen("runaway-freeze-1-more-1")
    assert found["spec"]["policy"]["episode"] == 1
    assert "deployments.apps/copy" in found["spec"]["locks"]


async def test_a_cluster_policy_freezes_in_each_namespace(setting: Bench) -> None:
    """Whole namespaces, too: there is no cluster-wide Freeze."""
    places = await more_namespaces(setting, "a", "b")
    name = f"all-{setting.namespace}"
    target = {"kind": "Namespace", "namespaces": places}
    await cluster_policy(setting, name, [target], action=FREEZE)
    async with reactor(setting):
        setting.dial.turn(name, 500)
        for place in places:
            found = await Bench(setting.cluster, place, setting.dial).frozen(f"{name}-freeze-1")
            assert found["spec"]["scope"] == {"wholeNamespace": True}
    await setting.cluster.patch(CLUSTER_POLICIES, name, {"spec": {"mode": "Disabled"}})


@pytest.mark.parametrize("act", ["edited", "deleted"])
async def test_a_freeze_outlives_its_policy(setting: Bench, act: str) -> None:
    """Neither an edit nor a deletion ends it, and its end still stops."""
    action = {"type": "Freeze", "freeze": {"for": "3s", "onExpiry": "Stop"}}
    await ladder(setting, quorum=1, action=action)
    async with reactor(setting):
        setting.dial.turn("one", 500)
        held = await setting.frozen("runaway-freeze-1")
        if act == "deleted":
            await setting.cluster.delete(POLICIES, "runaway", setting.namespace)
        else:
            body = {"spec": {"mode": "Disabled", "action": {"type": "Stop", "freeze": None}}}
            await setting.cluster.patch(POLICIES, "runaway", body, setting.namespace)
        found = await setting.stopped("runaway-freeze-1-expired")
    assert found["spec"]["policy"] == held["spec"]["policy"]
    assert await frozen(setting) == ["runaway-freeze-1"]


class _Choosy(KubernetesApi):
    """The product's client; what it is told to refuse is refused until the test lets it pass."""

    refuses: tuple[str, Resource] | None = None

    def _check(self, method: str, resource: Resource) -> None:
        if self.refuses == (method, resource):
            raise RefusedError("not here, not now")

    async def create(
        self, resource: Resource, body: Json, namespace: str = "", *, dry_run: bool = False
    ) -> Json:
        """As ever, but for what is refused."""
        self._check("create", resource)
        return await super().create(resource, body, namespace, dry_run=dry_run)

    async def list(self, resource: Resource, namespace: str = "", **more: Any) -> Page:
        """As ever, but for what is refused."""
        self._check("list", resource)
        return await super().list(resource, namespace, **more)


async def test_what_cannot_be_stopped_is_frozen(kernel: ControlPlane, setting: Bench) -> None:
    """Both signals at once, the Shutdown refused: a Freeze holds until it is accepted."""
    await ladder(setting)
    loaded = credentials.load(kubeconfig=str(kernel.admin.kubeconfig))
    async with _Choosy(loaded) as api:
        api.refuses = ("create", SHUTDOWNS)
        async with reactor(Bench(api, setting.namespace, setting.dial)):
            setting.dial.turn("one", 500)
            setting.dial.turn("two", 500)
            await setting.frozen("runaway-freeze-1")
            await setting.with_condition(
                POLICIES, "runaway", "Inhibited", "True", "EngagementRefused"
            )
            api.refuses = None
            await setting.stopped("runaway-1")
    assert await frozen(setting) == ["runaway-freeze-1"]


async def test_a_refused_freeze_is_told_and_tried_again(
    kernel: ControlPlane, setting: Bench
) -> None:
    """As long as its demand lasts."""
    await ladder(setting)
    loaded = credentials.load(kubeconfig=str(kernel.admin.kubeconfig))
    async with _Choosy(loaded) as api:
        api.refuses = ("create", FREEZES)
        async with reactor(Bench(api, setting.namespace, setting.dial)):
            setting.dial.turn("one", 500)
            await setting.with_condition(
                POLICIES, "runaway", "Inhibited", "True", "EngagementRefused"
            )
            api.refuses = None
            await setting.frozen("runaway-freeze-1")
    assert await frozen(setting) == ["runaway-freeze-1"]


async def test_without_a_list_of_freezes_nothing_is_frozen_and_stops_go_on(
    kernel: ControlPlane, setting: Bench
) -> None:
    """A missing right, or kind: the rung says so, and freezes once they are listed."""
    await ladder(setting)
    loaded = credentials.load(kubeconfig=str(kernel.admin.kubeconfig))
    async with _Choosy(loaded) as api:
        api.refuses = ("list", FREEZES)
        async with reactor(Bench(api, setting.namespace, setting.dial)):
            setting.dial.turn("one", 500)
            found = await setting.with_condition(
                POLICIES, "runaway", "Inhibited", "True", "EngagementRefused"
            )
            assert "Freezes could not be listed yet" in str(found["status"]["conditions"])
            setting.dial.turn("two", 500)
            await setting.stopped("runaway-1")
            with pytest.raises(NotFoundError):
                await setting.cluster.get(FREEZES, "runaway-freeze-1", setting.namespace)


async def test_a_policy_of_the_stop_alone_is_as_ever(setting: Bench) -> None:
    """No rung, no Freeze."""
    await setting.deployment("vllm", 1)
    await setting.cluster.create(POLICIES, policy("runaway", targets=[VLLM]), setting.namespace)
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
    assert await frozen(setting) == []
