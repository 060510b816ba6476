"""The ladder over a real API server: pods that do not go, and what is done about their nodes."""

import time
from typing import Any

import pytest

from killswitch.core.names import FENCE_ANNOTATION
from killswitch.core.resources import (
    CLUSTER_POLICIES,
    CLUSTER_SHUTDOWNS,
    EVENTS,
    NODES,
    PODS,
    SHUTDOWNS,
)
from killswitch.ports import Json
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import approval, cluster_shutdowns, shutdown
from tests.reactor.harness import OPERATOR_NAMESPACE, Bench, eventually, reactor
from tests.reactor.test_fires import cluster_policy

pytestmark = pytest.mark.cluster
STUCK = ("example.com/never-ends",)
AT_ONCE = {"deadline": "1s", "requiredApprovals": 1}


class Site:
    """A governed namespace with a pod on a node that no kubelet looks after."""

    def __init__(self, kernel: ControlPlane, setting: Bench, node: str) -> None:
        """The pod is made by `pod`."""
        self.kernel = kernel
        self.setting = setting
        self.node = node

    async def pod(
        self, name: str = "model", *, node: str = "", finalizers: tuple[str, ...] = ()
    ) -> None:
        """A pod that was bound to the node, and that nobody ends."""
        place = self.setting.namespace
        labels = {"labels": {"app": "model"}}
        container = {"name": "c", "image": "models.invalid/vllm"}
        spec = {"nodeName": node or self.node, "containers": [container]}
        metadata = {"name": name, **labels, "finalizers": [*finalizers]}
        body = {"metadata": metadata, "spec": spec}

        async def made() -> bool:  # the namespace's service account comes a moment after it
            path = f"/api/v1/namespaces/{place}/pods"
            return self.kernel.api().create(path, body).status == 201

        await eventually(made)

    async def stop(self, *steps: str, **spec: Any) -> Json:
        """A person's Shutdown of the whole namespace with these steps, at once after its deadline."""
        escalation = [{"after": "0s", "do": step} for step in steps]
        body = shutdown(
            "stop",
            "admin",
            scope={"wholeNamespace": True},
            escalation=escalation,
            **{**AT_ONCE, **spec},
        )
        return await self.setting.cluster.create(SHUTDOWNS, body, self.setting.namespace)

    async def tainting(self) -> list[Json]:
        """The ClusterShutdowns that hold the node tainted or did, by name."""
        found = (await self.setting.cluster.list(CLUSTER_SHUTDOWNS)).items
        ours = [each for each in found if self.node in (each["spec"].get("nodes") or {})]
        return sorted(ours, key=lambda each: str(each["metadata"]["name"]))

    async def annotated(self) -> str | None:
        """For whom the node is to be fenced."""
        body = await self.setting.cluster.get(NODES, self.node)
        return (body["metadata"].get("annotations") or {}).get(FENCE_ANNOTATION)

    async def told(self, words: str, name: str = "stop") -> str:
        """The message of condition Stopped of the Shutdown, once it has these words."""

        async def look() -> str | None:
            body = await self.setting.cluster.get(SHUTDOWNS, name, self.setting.namespace)
            for each in body.get("status", {}).get("conditions", ()):
                if each["type"] == "Stopped" and words in each["message"]:
                    return str(each["message"])
            return None

        return await eventually(look, within=60)


def unattended(kernel: ControlPlane, name: str, **labels: str) -> str:
    """A node without a kubelet: what is bound there stays Terminating for ever."""
    body = {"metadata": {"name": name, "labels": labels}}
    assert kernel.api().create("/api/v1/nodes", body).status == 201
    return name


@pytest.fixture
def site(kernel: ControlPlane, setting: Bench) -> Site:
    """One such node of this test alone."""
    kernel.api().create("/api/v1/namespaces", {"metadata": {"name": OPERATOR_NAMESPACE}})
    return Site(kernel, setting, unattended(kernel, f"silent-{setting.namespace}"))


async def test_nodes_whose_pods_do_not_go_are_tainted_by_a_stop_of_their_own(site: Site) -> None:
    """On the same terms of release; the pod is named and never deleted by force."""
    await site.pod()
    async with reactor(site.setting):
        stop = await site.stop("Taint")
        (found,) = await eventually(site.tainting, within=60)
        await site.told("escalated")
    name = f"stop-{stop['metadata']['uid'][:8]}-nodes"
    assert found["metadata"]["name"] == name
    spec = found["spec"]
    assert (spec["nodeAction"], spec["requiredApprovals"]) == ("Taint", 1)
    assert f"{site.setting.namespace}/model on {site.node}" in spec["reason"]
    assert "escalation" not in spec or spec["escalation"] == []
    body = await site.setting.cluster.get(PODS, "model", site.setting.namespace)
    assert body["metadata"]["deletionGracePeriodSeconds"] == 1

    async def tainted() -> bool:
        node = await site.setting.cluster.get(NODES, site.node)
        return any(each.get("value") == name for each in node["spec"].get("taints") or ())

    async with reactor(site.setting, "reactor-1"):  # another replica goes on, and makes no second
        await eventually(tainted)
        await site.told("escalated")
    assert [each["metadata"]["name"] for each in await site.tainting()] == [name]


async def test_a_pod_that_a_finalizer_keeps_is_escalated_like_any_other(
    site: Site, kernel: ControlPlane
) -> None:
    """Its process may be gone; that it does not say so is for people to see."""
    (node,) = kernel.add_gpu_nodes(1, prefix=f"kept-{site.setting.namespace}")
    site.node = node
    await site.pod(finalizers=STUCK)
    async with reactor(site.setting):
        await site.stop("Taint")
        await eventually(site.tainting, within=60)
    await site.setting.cluster.patch(
        PODS, "model", {"metadata": {"finalizers": None}}, site.setting.namespace
    )


async def test_fencing_is_asked_for_with_an_event_on_the_node(site: Site) -> None:
    """For the fencing that the cluster has: nothing is done to the node itself."""
    await site.pod()
    async with reactor(site.setting):
        await site.stop("Fence")
        title = await eventually(site.annotated, within=60)
        await site.told("fencing of node")
    assert title == f"{site.setting.namespace}/stop"
    node = await site.setting.cluster.get(NODES, site.node)
    assert "unschedulable" not in node["spec"]
    events = (await site.setting.cluster.list(EVENTS, "default")).items
    about = [each for each in events if each["involvedObject"]["name"] == site.node]
    assert "FenceRequested" in {each["reason"] for each in about}


async def test_nothing_is_escalated_before_its_time(site: Site) -> None:
    """The deadline and `after` both pass first."""
    await site.pod()
    async with reactor(site.setting):
        await site.stop("Taint", "Fence", deadline="1h")
        await site.told("model on")
    assert (await site.tainting(), await site.annotated()) == ([], None)


async def test_people_who_release_the_nodes_have_the_last_word(site: Site) -> None:
    """The stop itself is still engaged and its pod still there: the nodes are not tainted again."""
    await site.pod()
    async with reactor(site.setting):
        await site.stop("Taint")
        (found,) = await eventually(site.tainting, within=60)
        name = found["metadata"]["name"]
        for role in ("test-releaser", "test-responder"):
            site.kernel.kubectl(
                "create",
                "clusterrolebinding",
                f"{name}-{role}",
                f"--clusterrole={role}",
                "--user=bob",
            )
        bob = site.kernel.api(site.kernel.user("bob"))

        async def released() -> bool:
            return bob.patch(cluster_shutdowns(name), approval("bob")).status == 200

        await eventually(released)
        await site.told("not tainted again")
    assert [each["metadata"]["name"] for each in await site.tainting()] == [name]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"maxTargets": 1}, "nodes 2 targets, limits.maxTargets is 1"),
        ({"maxTargets": 10, "maxPercent": 1}, "limits.maxPercent is 1"),
    ],
)
async def test_the_ladder_keeps_to_the_limits_of_its_policy(
    site: Site, limits: Json, words: str
) -> None:
    """Pods on more nodes than one fire may touch: nothing is tainted, and that is told."""
    other = unattended(site.kernel, f"{site.node}-b")
    await site.pod("a")
    await site.pod("b", node=other)
    place = site.setting.namespace
    name = f"fire-{place}-{time.monotonic_ns()}"
    target = {"kind": "Namespace", "namespaces": [place]}
    action = {"deadline": "1s", "escalation": [{"after": "0s", "do": "Taint"}]}
    fires = {"maxTargets": 10, "maxPercent": 100}
    await cluster_policy(site.setting, name, [target], action=action, limits=fires)
    async with reactor(site.setting):
        # It may fire under limits that it has no more when its nodes are due.
        site.setting.dial.turn(name, 500)
        await eventually(lambda: site.setting.cluster.get(SHUTDOWNS, f"{name}-1", place))
        body = {"spec": {"limits": {**fires, **limits}}}
        await site.setting.cluster.patch(CLUSTER_POLICIES, name, body)
        told = await site.told("not escalated", f"{name}-1")
    assert words in told
    assert await site.tainting() == []


async def test_a_control_plane_is_never_escalated(site: Site) -> None:
    """Its pods are named, as those of any node."""
    node = unattended(
        site.kernel, f"{site.node}-cp", **{"node-role.kubernetes.io/control-plane": ""}
    )
    site.node = node
    await site.pod()
    async with reactor(site.setting):
        await site.stop("Taint", "Fence")
        told = await site.told("not escalated")
    assert f"node {node} (Protected)" in told
    assert (await site.tainting(), await site.annotated()) == ([], None)
