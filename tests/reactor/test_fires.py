"""Which Shutdowns a fire makes: never twice, never half, never under somebody else's name."""

import asyncio
from typing import Any

import pytest

from killswitch.adapters import credentials
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.errors import RefusedError, UnavailableError
from killswitch.core.resources import (
    CLUSTER_POLICIES,
    CLUSTER_SHUTDOWNS,
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    PODS,
    POLICIES,
    RECORDS,
    SHUTDOWNS,
    Resource,
)
from killswitch.ports import Json
from killswitch.reactor.run import Reactor
from tests.cluster.control_plane import ControlPlane
from tests.kernel.guards import make_static
from tests.kernel.objects import shutdown
from tests.reactor.harness import (
    OPERATOR_NAMESPACE,
    Bench,
    deployment,
    eventually,
    policy,
    reactor,
)

pytestmark = pytest.mark.cluster
VLLM = {"kind": "Deployment", "name": "vllm"}


def signal(name: str, **more: Any) -> Json:
    """A signal that trips when the query of its name answers more than 100."""
    source = {"query": name, "above": "100"}
    return {"name": name, "prometheus": source, "onNoData": "Hold", **more}


async def names(setting: Bench) -> list[str]:
    """Names of the namespace's Shutdowns."""
    return sorted(each["metadata"]["name"] for each in await setting.shutdowns())


async def calm(running: Reactor, setting: Bench) -> None:
    """Return once the reactor has seen that no signal of this namespace's policies is tripped.

    Its status is no witness: what stands there may have been written before the anomaly.
    """

    async def look() -> bool:
        watched = running.engine.watched.values()
        here = [each for each in watched if each.policy.namespace == setting.namespace]
        return all(each.tally is not None and not each.tally.demanded for each in here)

    await eventually(look)


async def cluster_policy(setting: Bench, name: str, targets: list[Json], **spec: Any) -> Json:
    """A cluster policy that fires when the query named like it answers more than 100."""
    body = policy(name, targets=targets, **spec)
    body |= {"apiVersion": CLUSTER_POLICIES.api_version, "kind": CLUSTER_POLICIES.kind}
    return await setting.cluster.create(CLUSTER_POLICIES, body)


async def more_namespaces(setting: Bench, *suffixes: str) -> list[str]:
    """Further governed namespaces with a Deployment vllm each."""
    found = []
    for suffix in suffixes:
        name = f"{setting.namespace}-{suffix}"
        metadata = {"name": name, "labels": {"killswitch.dev/governed": "true"}}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        await setting.cluster.create(NAMESPACES, body)
        await setting.cluster.create(DEPLOYMENTS, deployment("vllm", 1), name)
        found.append(name)
    return found


async def test_release_is_not_undone_by_the_next_sample(
    kernel: ControlPlane, setting: Bench
) -> None:
    """The cooldown begins with the last approval, with no manager there and the signal tripped."""
    await setting.deployment("vllm", 1)
    await setting.policy("runaway", targets=[VLLM])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
        setting.approve(kernel, "runaway-1", "bob", "carol")
        await setting.with_condition(POLICIES, "runaway", "Inhibited", "True", "Cooldown")
        await asyncio.sleep(0.5)  # ten polls, each of which trips
    assert await names(setting) == ["runaway-1"]


async def test_after_the_cooldown_it_fires_again_under_the_next_number(
    kernel: ControlPlane, setting: Bench
) -> None:
    """The demand has lasted: people see a second episode, not the first one reopened."""
    await setting.deployment("vllm", 1)
    await setting.policy("runaway", targets=[VLLM], cooldown="1s")
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
        setting.approve(kernel, "runaway-1", "bob", "carol")
        await setting.stopped("runaway-2")
    assert await names(setting) == ["runaway-1", "runaway-2"]


async def test_a_name_that_comes_again_is_a_stop_like_any_other(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Released and deleted by people; its old records neither stand in the way nor are mistaken."""
    await setting.deployment("vllm", 2)
    await setting.policy("runaway", targets=[VLLM], cooldown="0s")
    async with reactor(setting) as running:
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
        setting.dial.turn("runaway", 1)
        await eventually(setting.evidence)
        await calm(running, setting)
        setting.approve(kernel, "runaway-1", "bob", "carol")
        await setting.cluster.delete(SHUTDOWNS, "runaway-1", setting.namespace)
        await setting.cluster.patch(
            DEPLOYMENTS, "vllm", {"spec": {"replicas": 3}}, setting.namespace
        )
        await eventually(lambda: _pods_are(setting, 3))
        setting.dial.turn("runaway", 500)
        again = await setting.stopped("runaway-1")
        assert "scaled" in again["status"]["stages"]
    uid = again["metadata"]["uid"]
    records = (await setting.cluster.list(RECORDS, setting.namespace)).items
    own = [each["spec"] for each in records if each["spec"]["shutdownUid"] == uid]
    assert [t["replicas"] for each in own for t in each.get("targets", ())] == [3]


async def _pods_are(setting: Bench, count: int) -> bool:
    return len(await setting.pods()) == count


async def test_a_policy_that_was_made_again_fires(kernel: ControlPlane, setting: Bench) -> None:
    """Its predecessor's released Shutdown has the name; that must not disarm it."""
    await setting.deployment("vllm", 1)
    await setting.policy("runaway", targets=[VLLM], cooldown="0s")
    async with reactor(setting) as running:
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
        setting.dial.turn("runaway", 1)
        await calm(running, setting)
        setting.approve(kernel, "runaway-1", "bob", "carol")
        await setting.cluster.delete(POLICIES, "runaway", setting.namespace)
        await setting.policy("runaway", targets=[VLLM], cooldown="0s")
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1-more-1")


async def test_a_squatted_name_neither_disarms_nor_is_adopted(setting: Bench) -> None:
    """A person's engaged Shutdown under the policy's next name holds something else."""
    await setting.deployment("vllm", 1)
    squatter = shutdown("runaway-1", "admin", locks={"deployments.apps/other": ""})
    await setting.cluster.create(SHUTDOWNS, squatter, setting.namespace)
    await setting.policy("runaway", targets=[VLLM])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        found = await setting.stopped("runaway-1-more-1")
        assert "deployments.apps/vllm" in found["spec"]["locks"]
        await asyncio.sleep(0.5)  # polls that trip: it is latched, not fired again
    assert await names(setting) == ["runaway-1", "runaway-1-more-1"]
    assert await setting.replicas("vllm") == 0


async def test_squatting_every_name_does_not_disarm_either(setting: Bench) -> None:
    """The last one is not to be guessed."""
    await setting.deployment("vllm", 1)
    for name in ("runaway-1", *(f"runaway-1-more-{number}" for number in range(1, 10))):
        squatter = shutdown(name, "admin", locks={"deployments.apps/other": ""})
        await setting.cluster.create(SHUTDOWNS, squatter, setting.namespace)
    await setting.policy("runaway", targets=[VLLM])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await eventually(lambda: _replicas_are(setting, 0))
    holders = [
        s for s in await setting.shutdowns() if "deployments.apps/vllm" in s["spec"]["locks"]
    ]
    assert len(holders) == 1
    assert holders[0]["metadata"]["name"].startswith("runaway-1-more-")


async def _replicas_are(setting: Bench, count: int) -> bool:
    return await setting.replicas("vllm") == count


class _Refusing(KubernetesApi):
    """The product's client; creating Shutdowns in one namespace is refused for a while."""

    place = ""
    refused = 0
    allow = False

    async def create(
        self, resource: Resource, body: Json, namespace: str = "", *, dry_run: bool = False
    ) -> Json:
        """As ever, but there."""
        if resource == SHUTDOWNS and namespace == self.place and not self.allow:
            self.refused += 1
            raise RefusedError("not here, not now")
        return await super().create(resource, body, namespace, dry_run=dry_run)


async def test_a_fire_refused_in_one_namespace_holds_the_others_and_goes_on(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Three namespaces, one refuses: the others are held, the policy says so, and it is tried on."""
    places = await more_namespaces(setting, "a", "b", "c")
    target = {"kind": "Deployment", "name": "vllm", "namespaces": places}
    name = f"wide-{setting.namespace}"
    await cluster_policy(setting, name, [target])
    loaded = credentials.load(kubeconfig=str(kernel.admin.kubeconfig))
    async with _Refusing(loaded) as api:
        api.place = places[1]
        async with reactor(Bench(api, setting.namespace, setting.dial)):
            setting.dial.turn(name, 500)
            for place in (places[0], places[2]):
                await Bench(setting.cluster, place, setting.dial).stopped(f"{name}-1")
            await eventually(lambda: _inhibited(setting, name, "not here, not now"))
            assert not (await setting.cluster.list(SHUTDOWNS, places[1])).items
            api.allow = True
            found = await Bench(setting.cluster, places[1], setting.dial).stopped(f"{name}-1")
        assert api.refused >= 1
    assert found["spec"]["policy"]["episode"] == 1
    for place in places:
        assert [
            each["metadata"]["name"]
            for each in (await setting.cluster.list(SHUTDOWNS, place)).items
        ] == [f"{name}-1"]


async def _inhibited(setting: Bench, name: str, words: str) -> bool:
    found = await setting.cluster.get(CLUSTER_POLICIES, name)
    conditions = found.get("status", {}).get("conditions", ())
    return any(c["type"] == "Inhibited" and words in c["message"] for c in conditions)


async def test_a_target_that_matches_later_is_held_while_the_demand_lasts(setting: Bench) -> None:
    """A copy under another name, made after the fire, joins its episode in a Shutdown of its own."""
    labels = {"family": "llm"}
    await setting.deployment("vllm", 1)
    await setting.edit_labels("vllm", labels)
    target = {"kind": "Deployment", "selector": {"matchLabels": labels}}
    await setting.policy("runaway", targets=[target])
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
        await setting.deployment("copy", 1)
        await setting.edit_labels("copy", labels)
        found = await setting.stopped("runaway-1-more-1")
    assert "deployments.apps/copy" in found["spec"]["locks"]
    assert await setting.replicas("copy") == 0
    assert await setting.pods() == []


class _CutOff(KubernetesApi):
    """The product's client, cut off at its first scaling until the test lets it go on."""

    reached: asyncio.Event
    go_on: asyncio.Event
    scalings = 0

    async def patch(self, *args: Any, subresource: str = "", **more: Any) -> Json:
        """As ever, but the first scaling gets no answer."""
        if subresource == "scale" and not more.get("dry_run"):
            self.scalings += 1
            if self.scalings == 1:
                self.reached.set()
                await self.go_on.wait()
                raise UnavailableError("cut off")
        return await super().patch(*args, subresource=subresource, **more)


async def test_a_reactor_that_was_cut_off_does_not_stop_what_was_released_meanwhile(
    kernel: ControlPlane, setting: Bench
) -> None:
    """It looks whether the Shutdown still holds before it scales or deletes again."""
    await setting.deployment("vllm", 2)
    first = {pod["metadata"]["uid"] for pod in await setting.pods()}
    await setting.policy("runaway", targets=[VLLM])
    loaded = credentials.load(kubeconfig=str(kernel.admin.kubeconfig))
    async with _CutOff(loaded) as api:
        api.reached, api.go_on = asyncio.Event(), asyncio.Event()
        async with reactor(Bench(api, setting.namespace, setting.dial)):
            setting.dial.turn("runaway", 500)
            await api.reached.wait()
            setting.approve(kernel, "runaway-1", "bob", "carol")
            # They come back, since nobody has scaled yet.
            await eventually(lambda: _others(setting, first, 2))
            before = {pod["metadata"]["uid"] for pod in await setting.pods()}
            api.go_on.set()
            await asyncio.sleep(3)  # rounds in which it would scale and sweep
    assert api.scalings == 1
    assert await setting.replicas("vllm") == 2
    assert before == {pod["metadata"]["uid"] for pod in await setting.pods()}


async def _others(setting: Bench, first: set[str], count: int) -> bool:
    found = {pod["metadata"]["uid"] for pod in await setting.pods()}
    return len(found) == count and not found & first


async def test_two_policies_that_fire_at_once_on_two_reactors_keep_one_record(
    setting: Bench,
) -> None:
    """Four sequences on one target: two Shutdowns, and what was there is never overwritten by 0."""
    await setting.deployment("vllm", 3)
    signals = [signal("shared")]
    await setting.policy("runaway", targets=[VLLM], signals=signals)
    await setting.policy("misuse", targets=[VLLM], signals=signals)
    async with reactor(setting, "reactor-0"), reactor(setting, "reactor-1"):
        setting.dial.turn("shared", 500)
        await setting.stopped("runaway-1")
        await setting.stopped("misuse-1")
    assert await names(setting) == ["misuse-1", "runaway-1"]
    assert {target["replicas"] for target in await setting.recorded()} == {3}


async def test_a_quorum_of_several_needs_them_all_at_once(setting: Bench) -> None:
    """Two of three; one that is Unknown under Hold is no vote."""
    await setting.deployment("vllm", 1)
    signals = [signal("one"), signal("two"), signal("three")]
    await setting.policy("runaway", targets=[VLLM], signals=signals, quorum=2)
    async with reactor(setting):
        setting.dial.turn("one", 500)
        setting.dial.turn("two", 1)
        await eventually(lambda: _votes(setting, "1 of 3 tripped, 2 required"))
        assert await names(setting) == []
        setting.dial.turn("two", 500)
        await setting.stopped("runaway-1")


async def _votes(setting: Bench, words: str) -> bool:
    found = await setting.cluster.get(POLICIES, "runaway", setting.namespace)
    conditions = found.get("status", {}).get("conditions", ())
    return any(c["type"] == "Demanded" and c["message"] == words for c in conditions)


@pytest.mark.parametrize("meaning", ["Hold", "Alert"])
async def test_a_signal_that_stays_unknown_stops_nothing_unless_it_says_fire(
    setting: Bench, meaning: str
) -> None:
    """It is told as unavailable, with the reason."""
    await setting.deployment("vllm", 1)
    signals = [signal("never-turned", onNoData=meaning)]
    await setting.policy("runaway", targets=[VLLM], signals=signals)
    async with reactor(setting):
        found = await setting.with_condition(POLICIES, "runaway", "SignalsAvailable", "False")
        await eventually(lambda: _votes(setting, "0 of 1 tripped, 1 required"))
    message = next(c for c in found["status"]["conditions"] if c["type"] == "SignalsAvailable")
    assert "never-turned" in message["message"]
    assert await names(setting) == []
    assert len(await setting.pods()) == 1


async def test_too_large_a_share_is_not_half_executed(setting: Bench) -> None:
    """Two of three Deployments of the namespace, half are allowed: none is stopped."""
    for name in ("a", "b", "c"):
        await setting.deployment(name, 1)
    targets = [{"kind": "Deployment", "name": name} for name in ("a", "b")]
    await setting.policy("runaway", targets=targets, limits={"maxPercent": 50})
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.with_condition(POLICIES, "runaway", "Inhibited", "True", "TooLargeAShare")
    assert len(await setting.pods()) == 3


async def test_whole_namespaces_are_held_by_one_cluster_shutdown(setting: Bench) -> None:
    """Everything in both stops, bare pods included, and the records lie where the targets are."""
    places = await more_namespaces(setting, "a", "b")
    name = f"all-{setting.namespace}"
    await cluster_policy(setting, name, [{"kind": "Namespace", "namespaces": places}])
    async with reactor(setting):
        setting.dial.turn(name, 500)

        async def stopped() -> bool:
            found = await setting.cluster.get(CLUSTER_SHUTDOWNS, f"{name}-1")
            conditions = found.get("status", {}).get("conditions", ())
            return any(c["type"] == "Stopped" and c["status"] == "True" for c in conditions)

        await eventually(stopped)
    for place in places:
        assert not (await setting.cluster.list(PODS, place)).items
        records = (await setting.cluster.list(RECORDS, place)).items
        assert [t["name"] for each in records for t in each["spec"].get("targets", ())] == ["vllm"]


async def test_nodes_are_cordoned_and_an_earlier_cordon_is_remembered(
    kernel: ControlPlane, setting: Bench
) -> None:
    """The record says which of them was closed before."""
    kernel.api().create("/api/v1/namespaces", {"metadata": {"name": OPERATOR_NAMESPACE}})
    first, second = kernel.add_gpu_nodes(2, prefix=f"hot-{setting.namespace}")
    await setting.cluster.patch(NODES, first, {"spec": {"unschedulable": True}})
    name = f"thermal-{setting.namespace}"
    targets = [{"kind": "Node", "name": first}, {"kind": "Node", "name": second}]
    await cluster_policy(setting, name, targets, action={"type": "Cordon"})
    async with reactor(setting):
        setting.dial.turn(name, 500)

        async def cordoned() -> bool:
            nodes = [await setting.cluster.get(NODES, each) for each in (first, second)]
            return all(node["spec"].get("unschedulable") for node in nodes)

        await eventually(cordoned)

        async def recorded() -> dict[str, bool]:
            records = (await setting.cluster.list(RECORDS, OPERATOR_NAMESPACE)).items
            return {
                target["name"]: target["unschedulable"]
                for each in records
                if each["spec"]["shutdown"] == f"{name}-1"
                for target in each["spec"].get("targets", ())
            }

        assert await eventually(recorded) == {first: True, second: False}


async def test_a_static_pod_keeps_a_stop_from_claiming_success(
    kernel: ControlPlane, setting: Bench
) -> None:
    """The API cannot stop it: it is named with its node instead."""
    node = (await setting.cluster.list(NODES)).items[0]
    mirror = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "static",
            "labels": {"app": "static"},
        },
        "spec": {
            "nodeName": node["metadata"]["name"],
            "containers": [{"name": "c", "image": "models.invalid/static"}],
        },
    }
    make_static(kernel, setting.namespace, mirror)
    await setting.deployment("vllm", 1)
    body = shutdown("everything", "admin", scope={"wholeNamespace": True})
    async with reactor(setting):
        await setting.cluster.create(SHUTDOWNS, body, setting.namespace)
        found = await setting.with_condition(SHUTDOWNS, "everything", "Stopped", "False")
    message = next(c for c in found["status"]["conditions"] if c["type"] == "Stopped")["message"]
    assert f"static on {node['metadata']['name']}" in message
    assert [pod["metadata"]["name"] for pod in await setting.pods()] == ["static"]


async def test_what_people_started_again_by_hand_is_recorded_anew(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Released, not restored, and scaled to 5: the next stop remembers the 5, not the old 2."""
    await setting.deployment("vllm", 2)
    await setting.policy("runaway", targets=[VLLM], cooldown="0s")
    async with reactor(setting) as running:
        setting.dial.turn("runaway", 500)
        first = await setting.stopped("runaway-1")
        assert "scaled" in first["status"]["stages"]
        setting.dial.turn("runaway", 1)
        await calm(running, setting)
        setting.approve(kernel, "runaway-1", "bob", "carol")
        body = {"spec": {"replicas": 5}}

        async def scaled() -> bool:
            try:
                await setting.cluster.patch(DEPLOYMENTS, "vllm", body, setting.namespace)
            except RefusedError:  # the last approval is on its way through the API server
                return False
            return True

        await eventually(scaled)
        await eventually(lambda: _pods_are(setting, 5))
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-2")
        await eventually(lambda: _rested(setting, "runaway-2"))
    assert sorted(target["replicas"] for target in await setting.recorded()) == [2, 5]


async def _rested(setting: Bench, name: str) -> bool:
    found = await setting.cluster.get(SHUTDOWNS, name, setting.namespace)
    return "scaled" in found.get("status", {}).get("stages", {})
