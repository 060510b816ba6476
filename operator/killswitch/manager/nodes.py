"""Nodes of a stop: what is still open or still runs there, and the exact way back.

Only what the stop did is undone: a cordon or a taint of ours that was there before stays, a taint
counts as the stop's own by its value, and what people have opened meanwhile is not closed again.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from killswitch.core import nodes, projections
from killswitch.core.errors import ConflictError, KillSwitchError, NotFoundError
from killswitch.core.inventory import Pod
from killswitch.core.names import FENCE_ANNOTATION, GOVERNED_LABEL
from killswitch.core.nodes import NodeAction
from killswitch.core.resources import CLUSTER_SHUTDOWNS, NAMESPACES, NODES, PODS
from killswitch.core.words import several
from killswitch.ports import Cluster, Json

Change = Callable[[Json], Json | None]
"""From a node to a merge patch; None: nothing to write."""
_TRIES = 5
"""How often a node is written again that somebody else has written meanwhile."""
_ASKED = 50
"""Nodes that are asked for one by one; beyond it all are listed."""
_DONE = {
    NodeAction.CORDON: "every node is cordoned",
    NodeAction.DRAIN: "every node is cordoned, and no pod is left there that had to go",
    NodeAction.TAINT: "every node is tainted, and no pod is left there that had to go",
    NodeAction.QUARANTINE: "every node is cordoned and tainted, and what runs there is kept",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a stop of nodes has not reached, and what it leaves there on purpose."""

    unfinished: tuple[str, ...] = ()
    """`node a is not cordoned`."""
    pods: tuple[Pod, ...] = ()
    """Those that have to go and are still there."""
    staying: tuple[str, ...] = ()
    """Those that stay, each with the reason."""

    @property
    def kept(self) -> str:
        """The pods that stay, to be added to a sentence."""
        return f"; stay: {several(self.staying)}" if self.staying else ""


def done(shutdown: Json) -> str:
    """In words, what is true once nothing is left."""
    return _DONE[nodes.action(shutdown["spec"])]


async def look(cluster: Cluster, shutdown: Json) -> Seen:
    """What is left of a stop of nodes."""
    names = shutdown["spec"].get("nodes") or {}
    if not names:
        return Seen()
    wanted, action = nodes.taint(shutdown), nodes.action(shutdown["spec"])
    present = [projections.node(body) for body in (await cluster.list(NODES)).items]
    unfinished = []
    for node in sorted((each for each in present if each.name in names), key=lambda n: n.name):
        if not node.unschedulable:
            unfinished.append(f"node {node.name} is not cordoned")
        elif wanted is not None and nodes.lacks(node, wanted):
            unfinished.append(f"node {node.name} lacks the taint {wanted}")
    if not action.empties:
        return Seen(tuple(unfinished))
    labelled = await cluster.list(NAMESPACES, labels=f"{GOVERNED_LABEL}=true")
    governed = {each["metadata"]["name"] for each in labelled.items}
    pods = await _pods_on(cluster, names)
    return Seen(
        tuple(unfinished),
        tuple(pod for pod in pods if not nodes.stays(pod, action, governed)),
        tuple(nodes.staying(pods, action, governed)),
    )


async def _pods_on(cluster: Cluster, names: Collection[str]) -> list[Pod]:
    if len(names) > _ASKED:
        found = (await cluster.list(PODS)).items
    else:
        found = []
        for name in names:
            found += (await cluster.list(PODS, fields=f"spec.nodeName={name}")).items
    pods = (projections.pod(body) for body in found)
    return [pod for pod in pods if pod is not None and pod.node in names]


async def unready(cluster: Cluster, pods: Iterable[Pod]) -> str:
    """The nodes of these pods that are not ready, to be added to a sentence; empty where all are.

    What their kubelets do not confirm stays Terminating for ever: deleting it by force would only say
    that it is gone.
    """
    silent = []
    for name in sorted({pod.node for pod in pods if pod.node})[:20]:
        try:
            node = projections.node(await cluster.get(NODES, name))
        except KillSwitchError:
            continue
        if not node.ready:
            silent.append(name)
    if not silent:
        return ""
    return f"; not ready: node {', '.join(silent[:5])}, whose kubelet confirms nothing: fence it"


async def give_back(cluster: Cluster, shutdown: Json, recorded: Sequence[Json]) -> None:
    """Bring these recorded nodes back to what they were."""
    if not recorded:
        return
    stops = [shutdown, *(await cluster.list(CLUSTER_SHUTDOWNS)).items]
    for record in recorded:
        name = record["name"]
        ours = [each for each in stops if name in (each["spec"].get("nodes") or {})]
        await _rewrite(cluster, name, lambda body, r=record, o=ours: _undo(body, r, o))  # type: ignore[misc]


def _undo(body: Json, record: Json, stops: Sequence[Json]) -> Json | None:
    """The change that undoes what these stops did to a node; None where there is nothing to undo."""
    metadata, spec = body["metadata"], body.get("spec") or {}
    if metadata["uid"] != record["uid"]:
        return None  # another machine under the name: nothing was done to it
    if (metadata.get("labels") or {}).get(GOVERNED_LABEL) != "true":
        return None  # done before, or taken over by a person
    change: Json = {"metadata": {"labels": {GOVERNED_LABEL: None}}, "spec": {}}
    fenced = (metadata.get("annotations") or {}).get(FENCE_ANNOTATION)
    if fenced in {nodes.title(each) for each in stops}:
        change["metadata"]["annotations"] = {FENCE_ANNOTATION: None}
    if not record.get("unschedulable"):
        change["spec"]["unschedulable"] = None
    before = spec.get("taints") or []
    marks = {nodes.mark(each) for each in stops}
    kept = [each for each in before if not _set_by(each, marks, record)]
    if kept != before:
        change["spec"]["taints"] = kept
    return change


def _set_by(body: Json, marks: Collection[str], record: Json) -> bool:
    """Whether a taint is one that a stop of these marks has set."""
    taint = projections.taint(body)
    ours = (taint.key, taint.effect) in nodes.TAINTS.values() and taint.value in marks
    return ours and str(taint) not in (record.get("taints") or ())


async def withdraw(cluster: Cluster, shutdown: Json) -> None:
    """Ask for no fencing any more: what it was asked for is gone, or people have let go."""
    if not any(each["do"] == "Fence" for each in shutdown["spec"].get("escalation") or ()):
        return
    title = nodes.title(shutdown)
    for body in (await cluster.list(NODES)).items:
        annotations = body["metadata"].get("annotations") or {}
        if annotations.get(FENCE_ANNOTATION) == title:
            change: Json = {"metadata": {"annotations": {FENCE_ANNOTATION: None}}}
            await cluster.patch(NODES, body["metadata"]["name"], change)


async def _rewrite(cluster: Cluster, name: str, change: Change) -> None:
    """Write what `change` makes of a node, from its newest state; ConflictError if that never stays."""
    for _ in range(_TRIES):
        try:
            body = await cluster.get(NODES, name)
        except NotFoundError:
            return
        found = change(body)
        if found is None:
            return
        # Lists are written whole: not over what somebody else has just written.
        found["metadata"]["resourceVersion"] = body["metadata"]["resourceVersion"]
        try:
            await cluster.patch(NODES, name, found)
        except ConflictError:
            continue
        return
    raise ConflictError(f"node {name} is written too often by others")
