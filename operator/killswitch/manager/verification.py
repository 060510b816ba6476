"""An independent look at a stop: what the API server's etcd says is left, pod by pod.

Static pods count too: no stop through the API ends them, so they keep it from being verified. Only the
guard of their node can say that they are dead, and only while it goes on saying so: its word is asked
for anew each time.

The reactor acts and says `Stopped`; this looks with its own list and its own clock, and says
`Verified`, or names what is left and where.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from killswitch.core import (
    blind_spots,
    conditions,
    holdings,
    kinds,
    lock_keys,
    projections,
    reports,
    ties,
)
from killswitch.core.blind_spots import NotKnown
from killswitch.core.conditions import Reason, ShutdownCondition
from killswitch.core.errors import KillSwitchError, NotFoundError
from killswitch.core.inventory import Inventory, Pod, Workload
from killswitch.core.kinds import Kind, Proof
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.resources import NAMESPACES, NODE_GUARDS, PODS
from killswitch.core.stops import Stop, holds_pod
from killswitch.manager import nodes
from killswitch.manager.places import Places
from killswitch.ports import Cluster, Json


@dataclass(frozen=True, slots=True)
class Left:
    """What a stop has not stopped yet. Terminating pods count: their processes may run."""

    pods: tuple[Pod, ...] = ()
    nodes: tuple[str, ...] = ()
    """What nodes lack, each in words."""
    kept: str = ""
    """What stays on nodes that are emptied, to be added to a sentence."""
    dead: int = 0
    """Static pods that are still listed, and that their node guards say are dead by this stop."""
    silent: int = 0
    """How many of the pods are static ones whose node has a guard that has fallen silent."""
    not_known: NotKnown = field(default_factory=NotKnown)
    """The targets of whose pods nothing is known."""

    @property
    def testimony(self) -> str:
        """On whose word it rests, to be added to a sentence; empty where nobody's is needed."""
        if not self.dead:
            return ""
        return f"; {self.dead} static pods dead by the word of their node guards"

    @property
    def count(self) -> int:
        """How many are left."""
        return len(self.pods) + len(self.nodes)

    def __str__(self) -> str:
        """The first five by name and node."""
        named = [f"pod {p.namespace}/{p.name} on {p.node or 'no node'}" for p in self.pods[:5]]
        named += self.nodes[:5]
        more = self.count - len(named)
        return ", ".join(named) + (f" and {more} more" if more > 0 else "")

    def as_status(self) -> list[Json]:
        """The first twenty pods in wire form."""
        return [
            {"namespace": pod.namespace, "pod": pod.name, "node": pod.node}
            for pod in self.pods[:20]
        ]


async def left(cluster: Cluster, places: Places, shutdown: Json, now: float) -> Left:
    """What of this Shutdown or ClusterShutdown still runs or is still open at this time."""
    namespace = shutdown["metadata"].get("namespace", "")
    plan = holdings.for_shutdown(shutdown["kind"], namespace, shutdown["spec"], Inventory())
    found: list[Pod] = []
    others: list[Pod] = []
    for stop in plan.stops:
        for body in (await cluster.list(PODS, stop.namespace)).items if stop.namespace else ():
            pod = projections.pod(body)
            if pod is not None:
                (found if holds_pod(stop, pod) else others).append(pod)
    owned = [pod for pod in others if pod.owner]
    not_known = NotKnown()
    if namespace and shutdown["spec"].get("locks") and (owned or _opaque(shutdown["spec"])):
        stops, targets, below, named, inventory = await _below(places, shutdown)
        found += [pod for pod in others if pod.owner in below or ties.steered(pod, targets)]
        not_known = replace(
            blind_spots.not_known(stops, _traced(shutdown, stops)),
            hidden=blind_spots.hidden(named, owned, inventory),
        )
    told = await _reports(cluster, (pod.node for pod in found if pod.mirror))
    live = {node: each for node, each in told.items() if each.live(now)}
    dead = {
        pod.uid
        for pod in found
        if pod.mirror and pod.node in live and live[pod.node].dead(pod, shutdown)
    }
    pods = tuple(pod for pod in found if pod.uid not in dead)
    silent = sum(pod.mirror and pod.node in told.keys() - live.keys() for pod in pods)
    held = await nodes.look(cluster, shutdown)
    everything = (*pods, *held.pods)
    return Left(everything, held.unfinished, held.kept, len(dead), silent, not_known)


def _opaque(spec: Json) -> bool:
    """Whether it names what may have pods that are not found below it."""
    plain = {
        each.resource.key
        for each in kinds.TABLE.values()
        if each.owns_pods and each.proof is not Proof.SCHEMA and not each.through
    }
    return bool(holdings.named(spec) - plain)


async def _below(
    places: Places, shutdown: Json
) -> tuple[tuple[Stop, ...], tuple[Workload, ...], set[str], list[Kind], Inventory]:
    """What it holds as its namespace is, and the uids whose pods belong to that, by any way down.

    With the kinds that it names, and what there is.

    A Shutdown that somebody wrote may name the top alone.
    """
    namespace, spec = shutdown["metadata"]["namespace"], shutdown["spec"]
    catalogue = await places.catalogue()
    names = {name for key in holdings.named(spec) if (name := catalogue.named(key)) is not None}
    inventory = (await places.see([namespace], names)).inventory
    stops = holdings.for_shutdown(shutdown["kind"], namespace, spec, inventory).stops
    named = holdings.for_locks(namespace, spec["locks"], inventory).targets
    tied = [ties.of(each, inventory) for each in named]
    tops = [*named, *(each for found in tied for each in found.workloads)]
    below = {uid for each in tops for uid in lock_keys.owner_uids(each, inventory)}
    below |= {uid for found in tied for uid in found.owners}
    named_kinds = [kind for each in names if (kind := catalogue.find(each)) is not None]
    return stops, named, below, named_kinds, inventory


def _traced(shutdown: Json, stops: Iterable[Stop]) -> set[str]:
    """Of whose pods the reactor has seen some, which may be gone since.

    It saw them before they went, so where it says that none is left, it has known them.
    """
    observed = shutdown.get("status", {}).get("conditions", ())
    told = conditions.find(observed, ShutdownCondition.STOPPED)
    if told is None or told["status"] != "True" or told["reason"] != Reason.NO_PODS:
        return set()
    if "scaled" not in shutdown["status"].get("stages", {}):  # it may not have seen them all
        return set()
    targets = (each for stop in stops for each in stop.targets)
    return {each.uid for each in targets if str(each) not in told["message"]}


async def _reports(cluster: Cluster, names: Iterable[str]) -> dict[str, reports.Report]:
    """Of the nodes that have one; no answer is no word."""

    async def ask(node: str) -> reports.Report | None:
        try:
            return reports.report(await cluster.get(NODE_GUARDS, node))
        except KillSwitchError:
            return None

    asked = sorted({node for node in names if node})
    answers = zip(asked, await asyncio.gather(*map(ask, asked)), strict=True)
    return {node: each for node, each in answers if each is not None}


async def ungoverned(cluster: Cluster, shutdown: Json) -> str:
    """Where a ClusterShutdown holds nothing, with the cure; empty where it holds all it names."""
    named = shutdown["spec"].get("namespaces") or {}
    if not named:
        return ""
    listed = await cluster.list(NAMESPACES, labels=f"{GOVERNED_LABEL}=true")
    unheld = sorted({*named} - {each["metadata"]["name"] for each in listed.items})
    told = [await _unheld(cluster, name) for name in unheld[:5]]
    more = [f"and {len(unheld) - 5} more namespaces"] if len(unheld) > 5 else []
    return "; ".join(told + more)


async def _unheld(cluster: Cluster, namespace: str) -> str:
    cure = f"kubectl killswitch govern {namespace}"
    try:
        await cluster.get(NAMESPACES, namespace)
    except NotFoundError:
        return f"namespace {namespace} does not exist; once it does: {cure}"
    return f"namespace {namespace} is not governed, so nothing is locked there: {cure}"
