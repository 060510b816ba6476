"""Nodes over a real API server: its evictions, the controller manager's budgets and its taints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from killswitch.adapters import credentials
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.names import FENCE_ANNOTATION
from killswitch.core.resources import (
    CLUSTER_SHUTDOWNS,
    DAEMONSETS,
    NAMESPACES,
    NODES,
    PODS,
    RECORDS,
    SHUTDOWNS,
    Resource,
)
from killswitch.ports import Json
from tests.cluster.control_plane import ControlPlane
from tests.e2e.chart import Helm, of_kind
from tests.kernel.objects import cluster_shutdown, shutdown
from tests.reactor.harness import OPERATOR_NAMESPACE, Bench, eventually, reactor

pytestmark = pytest.mark.cluster
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
STOPPED, QUARANTINE = "killswitch.dev/stopped", "killswitch.dev/quarantine"
EVERYWHERE = [{"operator": "Exists"}]


@dataclass
class Rack:
    """One governed namespace and two nodes of this test alone."""

    kernel: ControlPlane
    setting: Bench
    first: str
    second: str

    @property
    def name(self) -> str:
        """Of the ClusterShutdown."""
        return f"rack-{self.setting.namespace}"

    async def pod(self, name: str, *, place: str = "", node: str = "", **more: Any) -> Json:
        """A pod that runs on a node, the first unless told otherwise."""
        metadata: Json = {"name": name, "labels": {"app": "model"}, **more.pop("metadata", {})}
        container = {"name": "c", "image": "models.invalid/vllm"}
        spec = {"nodeName": node or self.first, "containers": [container], **more}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        place = place or self.setting.namespace
        created = await eventually(lambda: self._try(body, place))
        await eventually(lambda: self._ready(name, place))
        return created

    async def agent(self) -> str:
        """The pod of a DaemonSet on the first node."""
        labels = {"app": "agent"}
        containers = [{"name": "c", "image": "models.invalid/agent"}]
        template = {
            "metadata": {"labels": labels},
            "spec": {
                "containers": containers,
                "nodeSelector": {"kubernetes.io/hostname": self.first},
            },
        }
        body = {
            "apiVersion": DAEMONSETS.api_version,
            "kind": DAEMONSETS.kind,
            "metadata": {"name": "agent"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        }
        await self.setting.cluster.create(DAEMONSETS, body, self.setting.namespace)
        (found,) = await eventually(lambda: self.setting.pods("agent"))
        return str(found["metadata"]["name"])

    async def _try(self, body: Json, place: str) -> Json | None:
        # The namespace's service account comes a moment after it.
        answer = self.kernel.api().create(f"/api/v1/namespaces/{place}/pods", body)
        return answer.body if answer.status == 201 else None

    async def _ready(self, name: str, place: str) -> bool:
        body = await self.setting.cluster.get(PODS, name, place)
        return "conditions" in body.get("status", {})

    async def stop(self, action: str, *names: str, **spec: Any) -> Json:
        """A ClusterShutdown of the first node, or of these."""
        held = dict.fromkeys(names or (self.first,), "")
        body = cluster_shutdown(self.name, "admin", nodes=held, nodeAction=action, **spec)
        return await self.setting.cluster.create(CLUSTER_SHUTDOWNS, body)

    async def stopped(self) -> Json:
        """The ClusterShutdown once its sequence is through."""
        return await self.setting.with_condition(CLUSTER_SHUTDOWNS, self.name, "Stopped", "True")

    async def message(self, words: str) -> str:
        """The message of its condition Stopped, once it has these words."""

        async def look() -> str | None:
            body = await self.setting.cluster.get(CLUSTER_SHUTDOWNS, self.name)
            told = [c["message"] for c in body.get("status", {}).get("conditions", ())]
            return next((each for each in told if words in each), None)

        return await eventually(look, within=40)

    async def node(self, name: str = "") -> Json:
        """A node as it is."""
        return await self.setting.cluster.get(NODES, name or self.first)

    async def taints(self) -> list[str]:
        """Of the first node, those of ours."""
        found = (await self.node())["spec"].get("taints") or ()
        return [
            f"{each['key']}={each.get('value', '')}:{each['effect']}"
            for each in found
            if each["key"].startswith("killswitch.dev/")
        ]

    async def left(self) -> list[str]:
        """Names of the namespace's pods."""
        return sorted(each["metadata"]["name"] for each in await self.setting.pods())

    async def recorded(self) -> dict[str, Json]:
        """What was recorded of each node."""
        records = (await self.setting.cluster.list(RECORDS, OPERATOR_NAMESPACE)).items
        return {
            target["name"]: target
            for each in records
            if each["spec"]["shutdown"] == self.name
            for target in each["spec"].get("targets", ())
        }

    async def budget(self, name: str, **spec: Any) -> None:
        """A budget over all pods here, which its controller has seen."""
        metadata = {"name": name}
        selector = {"matchLabels": {"app": "model"}}
        body = {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata,
            "spec": {"selector": selector, **spec},
        }
        await self.setting.cluster.create(BUDGETS, body, self.setting.namespace)

        async def counted() -> bool:
            found = await self.setting.cluster.get(BUDGETS, name, self.setting.namespace)
            return bool(found.get("status", {}).get("observedGeneration"))

        await eventually(counted)


@pytest.fixture
def rack(kernel: ControlPlane, setting: Bench) -> Rack:
    """Two nodes that kwok keeps ready."""
    kernel.api().create("/api/v1/namespaces", {"metadata": {"name": OPERATOR_NAMESPACE}})
    first, second = kernel.add_gpu_nodes(2, prefix=f"r-{setting.namespace}")
    return Rack(kernel, setting, first, second)


async def test_a_drain_ends_the_pods_of_governed_namespaces_on_its_nodes(rack: Rack) -> None:
    """Those elsewhere, of DaemonSets and of ungoverned namespaces are left alone."""
    wild = f"{rack.setting.namespace}-wild"
    await rack.setting.cluster.create(
        NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": wild}}
    )
    await rack.pod("model")
    agent = await rack.agent()
    await rack.pod("elsewhere", node=rack.second)
    await rack.pod("wild", place=wild)
    async with reactor(rack.setting):
        await rack.stop("Drain")
        found = await rack.stopped()
    assert await rack.left() == [agent, "elsewhere"]
    assert await rack.setting.cluster.get(PODS, "wild", wild)
    assert (await rack.node())["spec"]["unschedulable"] is True
    assert "unschedulable" not in (await rack.node(rack.second))["spec"]
    assert found["status"]["pods"] == 1
    stages = found["status"]["stages"]
    order = ["recorded", "scaled", "deleted", "proven", "stopped"]
    assert sorted((s for s in stages if s in order), key=lambda s: stages[s]) == order


async def test_a_graceful_drain_keeps_to_budgets_until_its_time_is_over(rack: Rack) -> None:
    """A budget that allows nothing delays it, says so, and does not hold it up for ever."""
    await rack.budget("all", minAvailable=1)
    await rack.pod("model")
    async with reactor(rack.setting):
        await rack.stop("Drain", category="Graceful", graceful={"terminate": "6s"})
        told = await rack.message("disruption budget")
        assert await rack.left() == ["model"]
        await rack.stopped()
    assert f"{rack.setting.namespace}/model on {rack.first} waits" in told
    assert await rack.left() == []


async def test_contradicting_budgets_are_told_and_outlived(rack: Rack) -> None:
    """The API server answers 500 for a pod that two of them cover."""
    for name in ("one", "two"):
        await rack.budget(name, minAvailable=0)
    await rack.pod("model")
    async with reactor(rack.setting):
        await rack.stop("Drain", category="Graceful", graceful={"terminate": "6s"})
        told = await rack.message("cannot be evicted")
        await rack.stopped()
    assert "more than one PodDisruptionBudget" in told
    assert await rack.left() == []


async def test_an_eviction_that_a_budget_allows_needs_no_deletion(rack: Rack) -> None:
    """The pod goes by its own grace, long before the time is over."""
    await rack.budget("some", minAvailable=0)
    await rack.pod("model")
    async with reactor(rack.setting):
        await rack.stop("Drain", category="Graceful", graceful={"terminate": "1h"})
        await rack.stopped()
    assert await rack.left() == []


async def test_a_taint_evicts_all_that_do_not_tolerate_it(rack: Rack) -> None:
    """By the real taint controller; the taint names the stop."""
    await rack.pod("model")
    await rack.pod("tough", tolerations=EVERYWHERE)
    async with reactor(rack.setting):
        await rack.stop("Taint")
        await rack.stopped()
    assert await rack.left() == ["tough"]
    assert await rack.taints() == [f"{STOPPED}={rack.name}:NoExecute"]
    assert (await rack.recorded())[rack.first]["taints"] == []


async def test_a_quarantined_node_keeps_what_runs_there(rack: Rack) -> None:
    """Containment: closed and marked, nothing ended."""
    await rack.pod("model")
    async with reactor(rack.setting):
        await rack.stop("Quarantine")
        found = await rack.stopped()
    assert await rack.left() == ["model"]
    assert await rack.taints() == [f"{QUARANTINE}={rack.name}:NoSchedule"]
    assert "proven" in found["status"]["stages"]


async def test_a_taint_of_the_same_key_that_was_there_is_kept_and_recorded(rack: Rack) -> None:
    """Somebody else's value stands: there can be only one of a key and effect."""
    taint = {"key": STOPPED, "value": "by-hand", "effect": "NoExecute"}
    await rack.setting.cluster.patch(NODES, rack.first, {"spec": {"taints": [taint]}})
    async with reactor(rack.setting):
        await rack.stop("Taint")
        await rack.stopped()
    assert await rack.taints() == [f"{STOPPED}=by-hand:NoExecute"]
    recorded = (await rack.recorded())[rack.first]
    assert recorded["taints"] == [f"{STOPPED}=by-hand:NoExecute"]
    assert recorded["unschedulable"] is False


async def test_another_reactor_goes_on_with_the_same_time(rack: Rack) -> None:
    """The time to evict is counted from the stored moment of the cordon, whoever set it."""
    await rack.budget("all", minAvailable=1)
    await rack.pod("model")
    async with reactor(rack.setting):
        await rack.stop("Drain", category="Graceful", graceful={"terminate": "1h"})
        await rack.message("disruption budget")
    long_ago = {"status": {"stages": {"scaled": "2026-01-01T00:00:00Z"}}}
    await rack.setting.cluster.patch(CLUSTER_SHUTDOWNS, rack.name, long_ago, subresource="status")
    async with reactor(rack.setting, "reactor-1"):
        await rack.stopped()
    assert await rack.left() == []


async def test_a_node_that_leaves_the_cluster_holds_nothing_up(rack: Rack) -> None:
    """The other one is finished."""
    await rack.pod("model", node=rack.second)
    assert rack.kernel.api().delete(f"/api/v1/nodes/{rack.first}").status == 200
    async with reactor(rack.setting):
        await rack.stop("Drain", rack.first, rack.second)
        await rack.stopped()
    assert await rack.left() == []


async def test_the_reactors_own_account_may_do_all_of_it(rack: Rack, tmp_path: Path) -> None:
    """With the chart's rights and within the bounds of admission: evict, taint, ask for fencing."""
    roles = [
        each
        for each in of_kind(Helm(tmp_path).template(), "ClusterRole", "ClusterRoleBinding")
        if each["metadata"]["name"] == "killswitch-reactor"
    ]
    rack.kernel.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(roles))
    account = rack.kernel.service_account(OPERATOR_NAMESPACE, "killswitch-reactor")
    place, admin = rack.setting.namespace, rack.setting.cluster
    await rack.pod("model")
    await rack.pod("stuck", node=rack.second, metadata={"finalizers": ["example.com/stays"]})
    steps = [{"after": "0s", "do": each} for each in ("Taint", "Fence")]
    locks = {"pods/stuck": ""}
    stop = shutdown("stop", "admin", locks=locks, escalation=steps, deadline="1s", approvals=1)

    async def escalated() -> bool:
        node = await rack.node(rack.second)
        taints = {each["key"] for each in node["spec"].get("taints") or ()}
        return STOPPED in taints and FENCE_ANNOTATION in node["metadata"].get("annotations", {})

    credential = credentials.load(kubeconfig=str(account.kubeconfig))
    async with (
        KubernetesApi(credential) as cluster,
        reactor(Bench(cluster, place, rack.setting.dial)),
    ):
        await rack.stop("Drain", category="Graceful", graceful={"terminate": "1h"})
        await admin.create(SHUTDOWNS, stop, place)
        await rack.stopped()
        await eventually(escalated, within=60)
    assert await rack.left() == ["stuck"]
    await admin.patch(PODS, "stuck", {"metadata": {"finalizers": None}}, place)
