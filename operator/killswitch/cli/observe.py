"""Lists, once, into the core's inventory: what the reactor keeps from watches, a command asks for.

Looked at are all kinds of workloads that the cluster serves and the table knows, and those that were
named. What a user may not list is kept as a remark: a stop of a whole namespace needs no list to lock.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from killswitch.cli.connect import Session
from killswitch.core import blast, kinds, lock_keys, locks, projections
from killswitch.core.blast import Owner
from killswitch.core.catalogue import Catalogue
from killswitch.core.errors import ANSWERED, KillSwitchError, RefusedError, ServerError
from killswitch.core.inventory import Inventory, Item, Pod
from killswitch.core.names import GOVERNED_LABEL, PROTECTED_NAMESPACES
from killswitch.core.nodes import NodeAction
from killswitch.core.queries import TargetQuery
from killswitch.core.resources import (
    CRON_JOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    REPLICATION_CONTROLLERS,
    STATEFULSETS,
    Resource,
)
from killswitch.core.stops import Boundaries, Plan
from killswitch.ports import Cluster, Json
from killswitch.reactor.view import InventorySink

BOUNDARIES = Boundaries(frozenset(PROTECTED_NAMESPACES), GOVERNED_LABEL)
_NEEDED = {
    PODS: (),
    DEPLOYMENTS: (REPLICASETS,),
    STATEFULSETS: (),
    DAEMONSETS: (),
    REPLICASETS: (),
    REPLICATION_CONTROLLERS: (),
    JOBS: (),
    CRON_JOBS: (JOBS,),
}
"""Kinds of which it is known what may be between them and their pods: nothing else hides any."""


@dataclass(slots=True)
class Observed:
    """What was found, and what could not be looked at."""

    inventory: Inventory = field(default_factory=Inventory)
    catalogue: Catalogue = field(default_factory=Catalogue.built_in)
    hidden: dict[str, str] = field(default_factory=dict)
    """Why a resource, by its key, could not be listed."""
    refused: set[str] = field(default_factory=set)
    """Those among them that the user may not list."""
    ungoverned: list[str] = field(default_factory=list)
    """Namespaces that exist without the label: a stop has to govern them first."""
    pods: dict[str, Json] = field(default_factory=dict)
    """The pods whole, by uid: the inventory keeps nothing of their probes."""
    workloads: dict[str, Json] = field(default_factory=dict)
    """Of every other object its kind and metadata, by uid: who starts it is told by them."""
    owners: dict[str, Owner] = field(default_factory=dict)
    """What controls anything that was seen, by uid, whether it was seen itself or not."""
    assumed: list[str] = field(default_factory=list)
    """Namespaces that the user may not read, taken for governed: the API server decides."""

    @property
    def blind(self) -> bool:
        """Whether the pods could not be listed."""
        return PODS.key in self.hidden

    @property
    def unseen(self) -> list[str]:
        """What could not be looked at and why, one by one."""
        return [f"{key}: {why}" for key, why in sorted(self.hidden.items())]

    def bodies(self, plan: Plan) -> list[Json]:
        """Of the plan's targets, and of what is below them."""
        targets = [each for stop in plan.stops for each in stop.targets]
        uids = [uid for each in targets for uid in lock_keys.owner_uids(each, self.inventory)]
        return [self.workloads[uid] for uid in dict.fromkeys(uids) if uid in self.workloads]

    def hides(self, queries: Iterable[TargetQuery], plan: Plan) -> list[str]:
        """Those of it, by key, that may hide a part of these targets."""
        named = {query.kind for query in queries}
        known = {each.kind: each for each in _NEEDED}
        if not named <= known.keys():
            return sorted(self.hidden)
        needed = {PODS.key} | {each.key for kind in named for each in _NEEDED[known[kind]]}
        needed |= {known[kind].key for kind in named}
        needed |= {self._key(owner) for owner in self._unknown(plan)}
        return sorted(needed & self.hidden.keys())

    def _unknown(self, plan: Plan) -> Iterable[Owner]:
        """What controls something of the plan and was not seen."""
        for stop in plan.stops:
            uids = [*(each.owner for each in stop.targets), *(each.owner for each in stop.pods)]
            for uid in uids:
                if uid in self.owners and self.inventory.owner_of(uid) is None:
                    yield self.owners[uid]

    def _key(self, owner: Owner) -> str:
        known = self.catalogue.find(str(owner).partition(" ")[0])
        return known.resource.key if known is not None else f"{owner.kind}.{owner.group}"


async def namespaces(
    session: Session, names: Iterable[str], wanted: frozenset[str] = frozenset()
) -> Observed:
    """Workloads and pods of these namespaces; NotFoundError where one does not exist.

    `wanted`: names of kinds beyond the table that somebody is about.
    """
    observed = await _begun(session, wanted)
    chosen = tuple(dict.fromkeys(names))
    looks = [_namespace(session.cluster, name, observed) for name in chosen]
    looks += [each for name in chosen for each in _lists(session.cluster, name, observed, wanted)]
    await asyncio.gather(*looks)
    return observed


async def everywhere(session: Session, wanted: frozenset[str] = frozenset()) -> Observed:
    """Workloads and pods of the whole cluster; RefusedError where its namespaces are hidden."""
    observed = await _begun(session, wanted)
    labels = f"{GOVERNED_LABEL}=true"
    for body in (await session.cluster.list(NAMESPACES, labels=labels)).items:
        observed.inventory.namespaces[body["metadata"]["name"]] = body["metadata"]["labels"]
    await asyncio.gather(*_lists(session.cluster, "", observed, wanted))
    return observed


async def covered(session: Session, order: Json) -> list[Pod] | None:
    """The pods that an order of a namespace covers, by name; None where the user may not see them."""
    try:
        found = (await session.cluster.list(PODS, order["metadata"]["namespace"])).items
    except KillSwitchError:
        return None
    pods = (projections.pod(body) for body in found)
    here = (pod for pod in pods if pod is not None and locks.covers(order, pod))
    return sorted(here, key=lambda pod: pod.name)


async def nodes(session: Session, action: str = "") -> Observed:
    """All nodes: percentages refer to them. Where the action empties them, what runs there too."""
    emptied = bool(action) and NodeAction(action).empties
    observed = await _begun(session, frozenset()) if emptied else Observed()
    looks = [_list(session.cluster, NODES, "", observed, project=projections.node)]
    if emptied:
        looks += [*_lists(session.cluster, "", observed, frozenset()), _labels(session, observed)]
    await asyncio.gather(*looks)
    return observed


async def _labels(session: Session, observed: Observed) -> None:
    """Of all namespaces: which are governed."""
    try:
        for body in (await session.cluster.list(NAMESPACES)).items:
            labels = body["metadata"].get("labels") or {}
            observed.inventory.namespaces[body["metadata"]["name"]] = labels
    except (RefusedError, ServerError) as error:
        observed.hidden[NAMESPACES.key] = str(error)


async def _begun(session: Session, wanted: frozenset[str]) -> Observed:
    """Nothing seen yet; the kinds that are wanted and not served stand in the inventory."""
    catalogue, failure = await session.kinds(wanted)
    observed = Observed(catalogue=catalogue)
    if failure:
        observed.hidden["the kinds that the cluster serves"] = failure
    for name in wanted:
        if catalogue.find(name) is None:
            observed.inventory.unseen[name] = "the cluster does not serve this kind"
    return observed


def _lists(
    cluster: Cluster, namespace: str, observed: Observed, wanted: frozenset[str]
) -> list[Coroutine[Any, Any, None]]:
    catalogue = observed.catalogue
    found = {**catalogue.kinds}
    found |= {name: kind for name in wanted if (kind := catalogue.find(name)) is not None}
    looks = [
        _list(
            cluster,
            kind.resource,
            namespace,
            observed,
            project=projections.pod if name == PODS.kind else partial(projections.workload, kind),
            kind=name,
        )
        for name, kind in found.items()
    ]
    looks += [
        _list(cluster, each, namespace, observed, project=partial(projections.child, each))
        for each in catalogue.links
    ]
    return looks


async def _namespace(cluster: Cluster, name: str, observed: Observed) -> None:
    try:
        body = await cluster.get(NAMESPACES, name)
    except RefusedError:
        # Many may stop in their namespace without reading it: the API server, which refuses a
        # Shutdown in an ungoverned one, then decides.
        observed.assumed.append(name)
        observed.inventory.namespaces[name] = {GOVERNED_LABEL: "true"}
        return
    labels = body["metadata"].get("labels") or {}
    if labels.get(GOVERNED_LABEL) != "true":
        observed.ungoverned.append(name)
    observed.inventory.namespaces[name] = labels


async def _list(
    cluster: Cluster,
    resource: Resource,
    namespace: str,
    observed: Observed,
    *,
    project: Callable[[Json], Item | None],
    kind: str = "",
) -> None:
    sink = InventorySink(observed.inventory, project)
    try:
        for body in (await cluster.list(resource, namespace)).items:
            sink.put(body)
            owner = blast.owner(body["metadata"])
            if owner is not None:
                observed.owners[owner[0]] = owner[1]
            if kind == PODS.kind:
                observed.pods[body["metadata"]["uid"]] = body
            else:
                told = ("apiVersion", "kind", "metadata")
                observed.workloads[body["metadata"]["uid"]] = {each: body[each] for each in told}
        observed.inventory.seen |= {resource.key}
    except ANSWERED as error:
        observed.hidden[resource.key] = str(error)
        if isinstance(error, RefusedError):
            observed.refused.add(resource.key)
        if kind or resource.key in kinds.LINK_KEYS:
            observed.inventory.unseen[kind or resource.key] = str(error)
