"""The ladder after a stop's deadline: what is done about nodes whose pods do not go.

Taint   a ClusterShutdown of its own taints these nodes `NoExecute`, on the terms of release of the stop
Fence   the nodes are annotated for the fencing that the cluster has, with an Event each

Both come from what is stored alone: names are deterministic, so that another replica, or the next
start, goes on where this one ended. Neither goes beyond the limits of the policy that fired, touches a
control plane, or empties a node of the last ready pod of a protected workload. Nothing is ever deleted
by force: of a pod on a node that is cut off nobody knows whether it runs, and `Verified=False` says so.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from killswitch.api import orders
from killswitch.api.compiled import CompiledPolicy
from killswitch.core import durations, grace, interlocks, nodes, plans, times
from killswitch.core.errors import ConflictError, KillSwitchError
from killswitch.core.inventory import Node
from killswitch.core.locks import engaged
from killswitch.core.names import FENCE_ANNOTATION
from killswitch.core.nodes import NodeAction
from killswitch.core.queries import TargetQuery
from killswitch.core.resources import CLUSTER_SHUTDOWNS, EVENTS, NODES
from killswitch.core.stops import Plan, Refusal, Stop
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor import engaging
from killswitch.reactor.stop import Outcome
from killswitch.reactor.view import View
from killswitch.reactor.watched import Identity

_EVENTS_OF_NODES = "default"
"""Where Kubernetes keeps the Events of what has no namespace."""


class Ladder:
    """The steps that are due, of one reactor."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        identity: Identity,
        view: View,
        *,
        policy: Callable[[str], CompiledPolicy | None],
    ) -> None:
        """`policy` gives a policy by its uid, as it stands now."""
        self._cluster = cluster
        self._clock = clock
        self._identity = identity
        self._view = view
        self._policy = policy

    async def climb(self, shutdown: Json, outcome: Outcome) -> None:
        """Take every step that is due; what came of it is noted in the outcome."""
        due = [each["do"] for each in self._due(shutdown, outcome)]
        places = {pod.node for pod in outcome.left if pod.node}
        if not due or not places:
            return
        plan = self._plan(places | self._tainted(shutdown))
        for each in plan.refused:
            if each.reason is not Refusal.NOT_FOUND:
                outcome.note(f"not escalated: {each.what} ({each.reason})")
        beyond = self._beyond(shutdown, plan)
        if beyond:
            outcome.note(f"not escalated: {beyond}")
            return
        found = [node for stop in plan.stops for node in stop.nodes if node.name in places]
        if "Taint" in due:
            await self._taint(shutdown, found, outcome)
        if "Fence" in due:
            for node in found:
                await self._fence(shutdown, node, outcome)

    def _due(self, shutdown: Json, outcome: Outcome) -> list[Json]:
        spec = shutdown["spec"]
        steps = spec.get("escalation") or ()
        began = outcome.stages.get("decided") or grace.began(shutdown)
        late = self._clock.now() - began - grace.longest(spec)
        return [each for each in steps if late >= durations.seconds(each["after"])]

    def _plan(self, names: Iterable[str]) -> Plan:
        queries = [TargetQuery("Node", name=each) for each in sorted(names)]
        boundaries = self._identity.boundaries
        return plans.for_policy(
            queries, self._view.inventory, boundaries, node_action=NodeAction.TAINT
        )

    def _tainted(self, shutdown: Json) -> set[str]:
        """The nodes that this stop has tainted before: its limits bound all of them together."""
        name = orders.escalation_name(shutdown)
        return {
            node
            for each in self._view.shutdowns.objects.values()
            if each["kind"] == CLUSTER_SHUTDOWNS.kind and each["metadata"]["name"].startswith(name)
            for node in each["spec"].get("nodes") or ()
        }

    def _beyond(self, shutdown: Json, plan: Plan) -> str:
        """Why the policy's limits do not let it; empty where they do. People's stops have none."""
        spec = shutdown["spec"]
        if not spec.get("policy") or spec["requestedBy"] != self._identity.username:
            return ""
        policy = self._policy(spec["policy"]["uid"])
        if policy is None:
            return (
                f"policy {spec['policy']['name']} is gone or invalid, so its limits are not known"
            )
        within = replace(plan, refused=())
        found = interlocks.beyond(
            within, max_targets=policy.max_targets, max_percent=policy.max_percent
        )
        return "" if found is None else f"nodes {found.message}"

    async def _taint(self, shutdown: Json, found: list[Node], outcome: Outcome) -> None:
        held = {
            node
            for each in self._view.shutdowns.objects.values()
            if engaged(each) and nodes.action(each["spec"]) is NodeAction.TAINT
            for node in each["spec"].get("nodes") or ()
        }
        rest = tuple(node for node in found if node.name not in held)
        names = ", ".join(node.name for node in found)
        if rest:
            left = ", ".join(f"{p.namespace}/{p.name} on {p.node}" for p in outcome.left[:5])
            reason = f"pods of {nodes.title(shutdown)} are left after its deadline: {left}"
            order = orders.for_escalation(
                shutdown, Stop("", nodes=rest), self._identity.username, reason
            )
            try:
                stored = await engaging.engage(self._cluster, order)
            except ConflictError as error:  # people have released it: theirs is the last word
                outcome.note(f"node {names} not tainted again: {error}")
                return
            except KillSwitchError as error:
                outcome.note(f"node {names} could not be tainted: {error}")
                return
            self._view.shutdowns.expect(stored)
        outcome.note(f"escalated: node {names} is tainted {nodes.TAINTS[NodeAction.TAINT][0]}")

    async def _fence(self, shutdown: Json, node: Node, outcome: Outcome) -> None:
        title = nodes.title(shutdown)
        try:
            body = await self._cluster.get(NODES, node.name)
            if FENCE_ANNOTATION not in (body["metadata"].get("annotations") or {}):
                change = {
                    "metadata": {
                        "annotations": {FENCE_ANNOTATION: title},
                        "resourceVersion": body["metadata"]["resourceVersion"],
                    }
                }
                await self._cluster.patch(NODES, node.name, change)
                await self._tell(shutdown, node)
        except KillSwitchError as error:  # a conflict: the next round asks again
            outcome.note(f"fencing of node {node.name} could not be asked for: {error}")
            return
        outcome.note(f"escalated: fencing of node {node.name} is asked for")

    async def _tell(self, shutdown: Json, node: Node) -> None:
        now = times.text(self._clock.now())[:19] + "Z"
        uid = shutdown["metadata"]["uid"]
        body: Json = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{node.name}.fence-{uid[:8]}", "namespace": _EVENTS_OF_NODES},
            "involvedObject": {
                "apiVersion": NODES.api_version,
                "kind": NODES.kind,
                "name": node.name,
                "uid": node.uid,
            },
            "reason": "FenceRequested",
            "message": f"pods that {shutdown['kind']} {nodes.title(shutdown)} stops do not go:"
            f" whether they run is not known until the node is fenced ({FENCE_ANNOTATION})",
            "type": "Warning",
            "source": {"component": "killswitch-reactor"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._cluster.create(EVENTS, body, _EVENTS_OF_NODES)
        except ConflictError:
            return  # told already
