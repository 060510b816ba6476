"""Stops of nodes after their sequence: verified, withdrawn, and undone exactly."""

from dataclasses import dataclass
from typing import Any

import pytest

from killswitch.adapters.clock import SystemClock
from killswitch.core import holdings, projections
from killswitch.core.errors import RefusedError
from killswitch.core.inventory import Inventory
from killswitch.core.names import FENCE_ANNOTATION, GOVERNED_LABEL
from killswitch.core.resources import CLUSTER_SHUTDOWNS, NODES, PODS, SHUTDOWNS
from killswitch.ports import Json
from killswitch.reactor.stop import StopSequence
from tests.kernel.objects import approval, cluster_shutdown, cluster_shutdowns, pod
from tests.manager.harness import Scene
from tests.reactor.harness import eventually

pytestmark = pytest.mark.cluster
STOPPED, QUARANTINE = "killswitch.dev/stopped", "killswitch.dev/quarantine"
OTHERS = {"key": "example.com/gpu", "effect": "NoSchedule"}


@dataclass
class Hall:
    """A scene with one node of this test alone."""

    scene: Scene
    node: str

    @property
    def name(self) -> str:
        """Of the ClusterShutdown."""
        return f"hall-{self.scene.namespace}"

    async def body(self) -> Json:
        """The node as it is."""
        return await self.scene.bench.cluster.get(NODES, self.node)

    async def change(self, spec: Json, **metadata: Any) -> None:
        """Merge-patch the node."""
        body = {"spec": spec, "metadata": metadata}
        await self.scene.bench.cluster.patch(NODES, self.node, body)

    async def passes(self, spec: Json) -> bool:
        """Merge-patch the node; False while the API server has not heard of the release yet."""
        try:
            await self.change(spec)
        except RefusedError:
            return False
        return True

    async def taints(self) -> list[str]:
        """Its taints but that of the cordon, which comes and goes with it."""
        found = (await self.body())["spec"].get("taints") or ()
        told = [f"{each['key']}={each.get('value', '')}:{each['effect']}" for each in found]
        return [each for each in told if not each.startswith("node.kubernetes.io/")]

    async def open(self) -> bool:
        """Whether new pods may come, and nothing of ours is left."""
        body = await self.body()
        labels = body["metadata"].get("labels") or {}
        return not body["spec"].get("unschedulable") and GOVERNED_LABEL not in labels

    async def stop(self, action: str, name: str = "", **spec: Any) -> None:
        """A ClusterShutdown of the node whose sequence has been run."""
        cluster, terms = self.scene.bench.cluster, {"canaryReplicas": 1, "soak": "0s"}
        body = cluster_shutdown(
            name or self.name,
            "admin",
            approvals=1,
            nodes={self.node: ""},
            nodeAction=action,
            restorePolicy=terms,
            **spec,
        )
        created = await cluster.create(CLUSTER_SHUTDOWNS, body)
        inventory = Inventory()
        inventory.put(projections.node(await self.body()))
        plan = holdings.for_shutdown("ClusterShutdown", "", created["spec"], inventory)
        clock = SystemClock()
        sequence = StopSequence(cluster, clock, records_namespace="killswitch-system")
        await sequence.execute(created, plan.stops, until=clock.monotonic() + 1)

    async def condition(self, type_: str, status: str, words: str = "", name: str = "") -> str:
        """The message of the ClusterShutdown's condition, once it stands so with these words."""

        async def look() -> str | None:
            found = await self.scene.bench.cluster.get(CLUSTER_SHUTDOWNS, name or self.name)
            for each in found.get("status", {}).get("conditions", ()):
                same = (each["type"], each["status"]) == (type_, status)
                if same and words in each["message"]:
                    return str(each["message"])
            return None

        return await eventually(look)

    async def release(self, name: str = "") -> None:
        """Bob approves."""
        chosen, kernel = name or self.name, self.scene.kernel
        for role in ("test-releaser", "test-responder"):
            kernel.kubectl(
                "create",
                "clusterrolebinding",
                f"{chosen}-{role}",
                f"--clusterrole={role}",
                "--user=bob",
            )
        await eventually(lambda: self._patch(chosen, approval("bob")))

    async def restore(self, name: str = "") -> None:
        """Bob orders it."""
        order = {"spec": {"restore": {"by": "bob", "reason": "fixed"}}}
        assert await self._patch(name or self.name, order)

    async def _patch(self, name: str, body: Json) -> bool:
        bob = self.scene.kernel.api(self.scene.kernel.user("bob"))
        return bob.patch(cluster_shutdowns(name), body).status == 200

    async def pod(self, name: str, **spec: Any) -> None:
        """A pod on the node, in the governed namespace."""
        place = self.scene.namespace
        body = pod(name, {"app": "model"})
        body["spec"] |= {"nodeName": self.node, **spec}

        async def made() -> bool:  # the namespace's service account comes a moment after it
            path = f"/api/v1/namespaces/{place}/pods"
            return self.scene.kernel.api().create(path, body).status == 201

        await eventually(made)


@pytest.fixture
def hall(scene: Scene) -> Hall:
    """A node that kwok keeps ready."""
    (node,) = scene.kernel.add_gpu_nodes(1, prefix=f"h-{scene.namespace}")
    return Hall(scene, node)


VERIFIED = {
    "Cordon": "every node is cordoned",
    "Quarantine": "every node is cordoned and tainted, and what runs there is kept",
    "Taint": "every node is tainted, and no pod is left there that had to go",
    "Drain": "every node is cordoned, and no pod is left there that had to go",
}


@pytest.mark.parametrize("action", VERIFIED)
async def test_each_action_is_verified_and_undone_exactly(hall: Hall, action: str) -> None:
    """Others' taints stay, ours go, and the node takes pods again."""
    await hall.change({"taints": [OTHERS]})
    async with hall.scene.manager():
        await hall.stop(action)
        message = await hall.condition("Verified", "True")
        await hall.release()
        await hall.restore()
        await eventually(hall.open)
        await hall.condition("Restored", "True", "1 nodes as they were")
    assert message.startswith(VERIFIED[action])
    assert await hall.taints() == ["example.com/gpu=:NoSchedule"]


async def test_a_cordon_and_a_taint_that_were_there_before_stay(hall: Hall) -> None:
    """They are somebody else's."""
    by_hand = {"key": STOPPED, "value": "by-hand", "effect": "NoExecute"}
    await hall.change({"taints": [by_hand], "unschedulable": True})
    async with hall.scene.manager():
        await hall.stop("Taint")
        await hall.condition("Verified", "True")
        await hall.release()
        await hall.restore()
        await hall.condition("Restored", "True")
    body = await hall.body()
    assert body["spec"]["unschedulable"] is True
    assert GOVERNED_LABEL not in body["metadata"]["labels"]
    assert await hall.taints() == [f"{STOPPED}=by-hand:NoExecute"]


async def test_a_taint_that_somebody_has_taken_over_stays(hall: Hall) -> None:
    """Under another value it is theirs."""
    async with hall.scene.manager():
        await hall.stop("Quarantine")
        await hall.release()
        taken = {"key": QUARANTINE, "value": "forensics", "effect": "NoSchedule"}
        await hall.change({"taints": [taken]})
        await hall.restore()
        await eventually(hall.open)
    assert await hall.taints() == [f"{QUARANTINE}=forensics:NoSchedule"]


async def test_an_uncordon_by_a_person_after_the_release_wins(hall: Hall) -> None:
    """Though the node was cordoned before the stop, the restore does not close it again."""
    await hall.change({"unschedulable": True})
    async with hall.scene.manager():
        await hall.stop("Taint")
        await hall.release()
        await hall.condition("Released", "True")
        await eventually(lambda: hall.passes({"unschedulable": None}))
        await hall.restore()
        await hall.condition("Restored", "True")
    assert not (await hall.body())["spec"].get("unschedulable")
    assert await hall.taints() == []


async def test_two_stops_of_a_node_are_undone_by_the_later_restore(hall: Hall) -> None:
    """A cordon, then a taint upon it: what was before the first is what comes back."""
    second = f"{hall.name}-nodes"
    async with hall.scene.manager():
        await hall.stop("Cordon")
        await hall.stop("Taint", second)
        await hall.release()
        await hall.restore()
        assert await hall.taints() == [f"{STOPPED}={second}:NoExecute"]
        await hall.release(second)
        await hall.restore(second)
        await eventually(hall.open)
    assert await hall.taints() == []


async def test_a_drain_that_is_not_over_names_its_pods_and_those_that_stay(hall: Hall) -> None:
    """The node is cordoned, which alone verifies nothing."""
    await hall.pod("kept")
    place = hall.scene.namespace
    stuck = {"metadata": {"finalizers": ["example.com/never-ends"]}}
    await hall.scene.bench.cluster.patch(PODS, "kept", stuck, place)
    async with hall.scene.manager():
        await hall.stop("Drain", deadline="1s")
        told = await hall.condition("Verified", "False", "left: pod")
        free = {"metadata": {"finalizers": None}}
        await hall.scene.bench.cluster.patch(PODS, "kept", free, place)
        await hall.condition("Verified", "True")
    assert f"pod {place}/kept on {hall.node}" in told


async def test_pods_that_a_taint_leaves_are_named(hall: Hall) -> None:
    """Whoever tolerates everything runs on, and people should know."""
    await hall.pod("tough", tolerations=[{"operator": "Exists"}])
    async with hall.scene.manager():
        await hall.stop("Taint")
        told = await hall.condition("Verified", "True")
    assert f"stay: {hall.scene.namespace}/tough on {hall.node} (tolerates the taint)" in told


async def test_a_node_that_confirms_nothing_is_named_at_the_deadline(scene: Scene) -> None:
    """Its pods stay Terminating for ever, and nobody deletes them by force."""
    node = f"silent-{scene.namespace}"
    assert scene.kernel.api().create("/api/v1/nodes", {"metadata": {"name": node}}).status == 201
    hall = Hall(scene, node)
    await hall.pod("model")
    async with scene.manager():
        await hall.stop("Drain", deadline="1s")
        told = await hall.condition("Verified", "False", "not ready")
    assert f"not ready: node {node}, whose kubelet confirms nothing: fence it" in told


async def test_fencing_is_withdrawn_once_nothing_is_left(scene: Scene) -> None:
    """Only what this stop has asked for."""
    ours, theirs = scene.kernel.add_gpu_nodes(2, prefix=f"f-{scene.namespace}")
    cluster, place = scene.bench.cluster, scene.namespace
    for node, title in ((ours, f"{place}/stop"), (theirs, "prod/other")):
        body = {"metadata": {"annotations": {FENCE_ANNOTATION: title}}}
        await cluster.patch(NODES, node, body)
    await scene.bench.deployment("vllm", 1)

    async def asked(node: str) -> str | None:
        found = await cluster.get(NODES, node)
        return (found["metadata"].get("annotations") or {}).get(FENCE_ANNOTATION)

    async with scene.manager():
        await scene.stopped(escalation=[{"after": "1h", "do": "Fence"}])
        await scene.bench.with_condition(SHUTDOWNS, "stop", "Verified", "True")

        async def withdrawn() -> bool:
            return await asked(ours) is None

        await eventually(withdrawn)
    assert await asked(theirs) == "prod/other"
