"""Lists, once, into the core's inventory: what the reactor keeps from watches, a command asks for.

What a user may not list is kept as a remark: a stop of a whole namespace needs no list to lock.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from killswitch.core import locks
from killswitch.core.errors import KillSwitchError, NotFoundError, RefusedError, ServerError
from killswitch.core.inventory import Inventory, Pod
from killswitch.core.names import GOVERNED_LABEL, PROTECTED_NAMESPACES
from killswitch.core.nodes import NodeAction
from killswitch.core.plans import Boundaries
from killswitch.core.projections import PROJECTIONS
from killswitch.core.resources import (
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    STATEFULSETS,
    Resource,
)
from killswitch.ports import Cluster, Json
from killswitch.reactor.view import InventorySink

BOUNDARIES = Boundaries(frozenset(PROTECTED_NAMESPACES), GOVERNED_LABEL)
_IN_NAMESPACE = (DEPLOYMENTS, STATEFULSETS, REPLICASETS, PODS)


@dataclass(slots=True)
class Observed:
    """What was found, and what could not be looked at."""

    inventory: Inventory = field(default_factory=Inventory)
    unseen: list[str] = field(default_factory=list)
    ungoverned: list[str] = field(default_factory=list)
    """Namespaces that exist without the label: a stop has to govern them first."""
    pods: dict[str, Json] = field(default_factory=dict)
    """The pods whole, by uid: the inventory keeps nothing of their probes."""
    assumed: list[str] = field(default_factory=list)
    """Namespaces that the user may not read, taken for governed: the API server decides."""

    @property
    def blind(self) -> bool:
        """Whether the pods could not be listed."""
        return any(each.startswith(f"{PODS.plural}: ") for each in self.unseen)


async def namespaces(cluster: Cluster, names: Iterable[str]) -> Observed:
    """Workloads and pods of these namespaces; NotFoundError where one does not exist."""
    observed = Observed()
    chosen = tuple(dict.fromkeys(names))
    looks = [_namespace(cluster, name, observed) for name in chosen]
    looks += [_list(cluster, each, name, observed) for name in chosen for each in _IN_NAMESPACE]
    await asyncio.gather(*looks)
    observed.unseen.sort()
    return observed


async def covered(cluster: Cluster, order: Json) -> list[Pod] | None:
    """The pods that an order of a namespace covers, by name; None where the user may not see them."""
    place = order["metadata"]["namespace"]
    try:
        seen = await namespaces(cluster, [place])
    except KillSwitchError:
        return None
    here = sorted(seen.inventory.pods_in(place), key=lambda pod: pod.name)
    return None if seen.blind else [pod for pod in here if locks.covers(order, pod)]


async def nodes(cluster: Cluster, action: str = "") -> Observed:
    """All nodes: percentages refer to them. Where the action empties them, all pods too."""
    observed = Observed()
    looks = [_list(cluster, NODES, "", observed)]
    if action and NodeAction(action).empties:
        looks += [_list(cluster, each, "", observed) for each in _IN_NAMESPACE]
        looks.append(_namespaces(cluster, observed))
    await asyncio.gather(*looks)
    return observed


async def _namespaces(cluster: Cluster, observed: Observed) -> None:
    try:
        for body in (await cluster.list(NAMESPACES)).items:
            labels = body["metadata"].get("labels") or {}
            observed.inventory.namespaces[body["metadata"]["name"]] = labels
    except (RefusedError, ServerError) as error:
        observed.unseen.append(f"{NAMESPACES.plural}: {error}")


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


async def _list(cluster: Cluster, resource: Resource, namespace: str, observed: Observed) -> None:
    sink = InventorySink(observed.inventory, PROJECTIONS[resource.key])
    try:
        for body in (await cluster.list(resource, namespace)).items:
            sink.put(body)
            if resource is PODS:
                observed.pods[body["metadata"]["uid"]] = body
    except (RefusedError, NotFoundError, ServerError) as error:
        observed.unseen.append(f"{resource.plural}: {error}")
