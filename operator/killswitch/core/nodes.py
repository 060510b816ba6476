"""What is done with nodes: which taint, which pods go and which stay, and whom that would hurt.

Cordon: no new pods. Drain: the pods of governed namespaces go too. Taint: `NoExecute`, so that every
pod without a toleration goes, by the cluster's own taint controller. Quarantine: no new pods, tainted
so that nobody takes the node for an ordinary one, and all that runs is kept for forensics.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any

from killswitch.core.inventory import Inventory, Node, Pod, Taint
from killswitch.core.names import GOVERNED_LABEL, QUARANTINE_TAINT, STOPPED_TAINT
from killswitch.core.resources import DAEMONSETS

Json = Mapping[str, Any]
_LONGEST_VALUE = 63


class NodeAction(StrEnum):
    """What a ClusterShutdown does with its nodes."""

    CORDON = "Cordon"
    DRAIN = "Drain"
    TAINT = "Taint"
    QUARANTINE = "Quarantine"

    @property
    def empties(self) -> bool:
        """Whether pods go."""
        return self in {NodeAction.DRAIN, NodeAction.TAINT}


TAINTS = {
    NodeAction.TAINT: (STOPPED_TAINT, "NoExecute"),
    NodeAction.QUARANTINE: (QUARANTINE_TAINT, "NoSchedule"),
}
"""Key and effect of the taint that an action sets."""


def action(spec: Json) -> NodeAction:
    """Of a ClusterShutdown's spec."""
    return NodeAction(spec.get("nodeAction", NodeAction.CORDON))


def mark(shutdown: Json) -> str:
    """The value of the taints that this stop sets: its name, as far as a label's value may be long."""
    name = str(shutdown["metadata"]["name"])
    if len(name) <= _LONGEST_VALUE:
        return name
    return f"{name[: _LONGEST_VALUE - 9]}-{shutdown['metadata']['uid'][:8]}"


def title(shutdown: Json) -> str:
    """How a request for fencing names the stop: `prod/vllm-1`, or `zone-1` of the whole cluster."""
    metadata = shutdown["metadata"]
    place = metadata.get("namespace", "")
    return f"{place}/{metadata['name']}" if place else str(metadata["name"])


def taint(shutdown: Json) -> Taint | None:
    """The taint that this stop sets on its nodes, or None."""
    found = TAINTS.get(action(shutdown["spec"]))
    return None if found is None else Taint(found[0], mark(shutdown), found[1])


def as_left(node: Node, wanted: Taint | None) -> bool:
    """Whether a node stands as a stop leaves it. A taint of the same key and effect will do.

    There can be no second one, and whose value it has decides only who takes it off again.
    """
    cordoned = node.unschedulable and node.labels.get(GOVERNED_LABEL) == "true"
    return cordoned and not lacks(node, wanted)


def lacks(node: Node, wanted: Taint | None) -> bool:
    """Whether it does not bear the taint."""
    if wanted is None:
        return False
    return all((each.key, each.effect) != (wanted.key, wanted.effect) for each in node.taints)


def stays(pod: Pod, act: NodeAction, governed: Collection[str]) -> str:
    """Why a pod on such a node is left there, in a word or two; empty where it goes."""
    if not act.empties:
        return "runs on"
    if pod.mirror:
        return "static"
    if act is NodeAction.TAINT:
        return "tolerates the taint" if pod.tolerates else ""
    if _of_daemon_set(pod):
        return "of a DaemonSet"
    return "" if pod.namespace in governed else "in an ungoverned namespace"


def last_of_protected(
    names: Collection[str], inventory: Inventory, protected: Collection[str], act: NodeAction
) -> dict[str, str]:
    """Which of these nodes carry all ready pods of some workload of a protected namespace.

    By node, with the workload. Several nodes count together: emptied at once they leave none. Pods of
    DaemonSets belong to their nodes, and static ones and those that tolerate the taint stay.
    """
    if not act.empties:
        return {}
    ready: dict[str, list[Pod]] = defaultdict(list)
    for namespace in protected:
        for pod in inventory.pods_in(namespace):
            moves = not (pod.mirror or _of_daemon_set(pod))
            if pod.ready and not pod.terminating and moves:
                top = inventory.top(pod.owner)
                ready[top.uid if top else pod.owner or pod.uid].append(pod)
    found: dict[str, str] = {}
    for uid, pods in ready.items():
        if act is NodeAction.TAINT and any(pod.tolerates for pod in pods):
            continue
        if all(pod.node in names for pod in pods):
            top = inventory.top(uid)
            what = str(top) if top else f"pod {pods[0].name}"
            found |= {pod.node: f"{what} in {pods[0].namespace}" for pod in pods}
    return found


def _of_daemon_set(pod: Pod) -> bool:
    return any(key.startswith(f"{DAEMONSETS.key}/") for key in pod.keys)


def staying(pods: Iterable[Pod], act: NodeAction, governed: Collection[str]) -> list[str]:
    """The pods that are left on nodes that are emptied, with the reason, by name."""
    told = ((pod, stays(pod, act, governed)) for pod in pods)
    return sorted(f"{pod.namespace}/{pod.name} on {pod.node} ({why})" for pod, why in told if why)
