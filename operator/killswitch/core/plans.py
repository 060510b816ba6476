"""Plans: what a stop would touch, and what it refuses to touch and why. Plan = execution.

`for_policy` expands a policy's targets; `for_locks` reads back what an existing Shutdown holds,
so that a second reactor, or one that starts later, finishes exactly what was engaged. Both give
the same `Stop` value, which the reactor executes and the command line prints.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from killswitch.core.inventory import Inventory, Item, Node, Pod, Workload
from killswitch.core.kinds import REPLICASETS, WORKLOADS
from killswitch.core.locks import carries, holds

_KINDS = {resource.key: kind for kind, resource in WORKLOADS.items()}
"""Kinds of workloads by what their lock keys begin with."""
MOST_LOCKS = 4000
"""Keys that one Shutdown may have: what the CRD's schema allows."""


class Refusal(StrEnum):
    """Why something that matched is not part of the plan."""

    PROTECTED = "Protected"  # kube-system, the operator's own namespace, control plane nodes
    UNGOVERNED = "Ungoverned"  # the lock does not apply there, so a stop would not hold
    NOT_FOUND = "NotFound"  # nothing of that name or label exists


@dataclass(frozen=True, slots=True)
class Refused:
    """One thing the plan leaves alone."""

    what: str
    reason: Refusal


@dataclass(frozen=True, slots=True)
class TargetQuery:
    """One entry of a policy's `targets`, in core terms. Node targets have no namespace."""

    kind: str
    namespace: str = ""
    name: str | None = None
    labels: Mapping[str, str] | None = None

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether an object of the right kind is meant. No name and no labels means all."""
        if self.name is not None:
            return name == self.name
        return self.labels is None or carries(labels, self.labels)


@dataclass(frozen=True, slots=True)
class Stop:
    """One Shutdown's worth of work. `namespace` is empty for nodes."""

    namespace: str
    targets: tuple[Workload, ...] = ()
    pods: tuple[Pod, ...] = ()
    locks: Mapping[str, str] = field(default_factory=dict)
    whole_namespace: bool = False
    pod_labels: Mapping[str, str] | None = None
    nodes: tuple[Node, ...] = ()
    loose: frozenset[str] = frozenset()
    """uids of those pods that belong to none of the targets: Jobs', bare ones, other kinds'."""

    @property
    def count(self) -> int:
        """What would stop: workloads, nodes, and each pod that belongs to neither."""
        return len(self.targets) + len(self.nodes) + len(self.loose)

    @property
    def gpus(self) -> int:
        """GPUs requested by the pods that would stop."""
        return sum(pod.gpus for pod in self.pods)


@dataclass(frozen=True, slots=True)
class Plan:
    """All stops of one fire, what was refused, and how many could have matched at most."""

    stops: tuple[Stop, ...]
    refused: tuple[Refused, ...] = ()
    eligible: int = 0
    """Workloads of these kinds in these namespaces (where whole namespaces would stop, also
    pods without one), or nodes: what percentages refer to."""

    @property
    def count(self) -> int:
        """Workloads, nodes and loose pods that would stop."""
        return sum(stop.count for stop in self.stops)

    @property
    def percent(self) -> float:
        """Share of the eligible that would stop; 0 when nothing is eligible."""
        return 100 * self.count / self.eligible if self.eligible else 0.0

    @property
    def pods(self) -> int:
        """Pods that would stop."""
        return sum(len(stop.pods) for stop in self.stops)

    @property
    def gpus(self) -> int:
        """GPUs that would fall idle."""
        return sum(stop.gpus for stop in self.stops)


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Where killswitch may act at all."""

    protected: frozenset[str]
    governed_label: str

    def refusal(self, namespace: str, inventory: Inventory) -> Refusal | None:
        """Why nothing may be stopped in this namespace, or None."""
        if namespace in self.protected:
            return Refusal.PROTECTED
        labels = inventory.namespaces.get(namespace, {})
        return None if labels.get(self.governed_label) == "true" else Refusal.UNGOVERNED


def for_policy(
    queries: Sequence[TargetQuery], inventory: Inventory, boundaries: Boundaries
) -> Plan:
    """What a policy with these targets would stop now."""
    if all(query.kind == "Node" for query in queries):
        return _nodes(queries, inventory)
    stops, refused, eligible = [], [], 0
    for namespace in dict.fromkeys(query.namespace for query in queries):
        reason = boundaries.refusal(namespace, inventory)
        if reason is not None:
            refused.append(Refused(f"namespace {namespace}", reason))
            continue
        here = [query for query in queries if query.namespace == namespace]
        kinds = None if any(q.kind == "Namespace" for q in here) else {q.kind for q in here}
        if kinds is None:
            stops.append(whole_namespace(namespace, inventory))
            eligible += stops[-1].count
            continue
        eligible += inventory.count(namespace, kinds)
        targets, missing = _match(here, inventory)
        refused += missing
        stops += [_stop(namespace, part, inventory) for part in _parts(targets, inventory)]
    return Plan(tuple(stops), tuple(refused), eligible)


def not_held(plan: Plan, holders: Iterable[tuple[str, str, Mapping[str, Any]]]) -> tuple[Stop, ...]:
    """The stops of the plan that none of these engaged Shutdowns holds wholly.

    A holder is its kind, namespace and spec. A lock may be held by one Shutdown and its neighbour
    by another: what counts is that each target has some holder.
    """
    locks: dict[str, set[str]] = {}
    places: set[str] = set()
    nodes: set[str] = set()
    for kind, namespace, spec in holders:
        if kind == "ClusterShutdown":
            places |= set(spec.get("namespaces") or ())
            nodes |= set(spec.get("nodes") or ())
            continue
        locks.setdefault(namespace, set()).update(spec.get("locks") or ())
        if (spec.get("scope") or {}).get("wholeNamespace"):
            places.add(namespace)

    def held(stop: Stop) -> bool:
        if stop.nodes:
            return all(node.name in nodes for node in stop.nodes)
        if stop.namespace in places:
            return True
        keys = locks.get(stop.namespace, set())
        # By name and by uid: one that was re-created under its name is held by the name, but its
        # pods' owner is another, so it is engaged anew.
        return not stop.whole_namespace and all(
            {lock_key(each), f"uid/{each.uid}"} <= keys for each in stop.targets
        )

    return tuple(stop for stop in plan.stops if not held(stop))


def for_locks(namespace: str, locks: Mapping[str, str], inventory: Inventory) -> Stop:
    """What an engaged Shutdown with these lock keys holds now, under any of its keys."""
    stop = _stop(namespace, _locked(namespace, locks, inventory), inventory)
    owners = [key.removeprefix("uid/") for key in locks if key.startswith("uid/")]
    pods = {pod.uid: pod for pod in (*stop.pods, *inventory.pods_of(owners))}
    # A hand-written Shutdown may name a Deployment only: its ReplicaSets' pods belong to it too.
    return Stop(namespace, stop.targets, tuple(pods.values()), {**stop.locks, **locks})


def _locked(namespace: str, locks: Iterable[str], inventory: Inventory) -> list[Workload]:
    """The workloads of the namespace that these keys name or whose uid they hold."""
    found: dict[str, Workload] = {}
    for key in locks:
        prefix, _, name = key.rpartition("/")
        kind = _KINDS.get(prefix)
        item: Item | None = inventory.workload(namespace, kind, name) if kind else None
        if prefix == "uid":
            item = inventory.owner_of(name)
        if isinstance(item, Workload) and item.namespace == namespace:
            found[item.uid] = item
    return sorted(found.values(), key=lambda each: (each.kind, each.name))


def for_labels(namespace: str, labels: Mapping[str, str], inventory: Inventory) -> Stop:
    """What a Shutdown with a `podLabels` scope holds: the pods, and the workloads above them.

    The workloads come to rest too: otherwise their controllers would start the pods again at the
    release, and a release starts nothing.
    """
    pods = [pod for pod in inventory.pods_in(namespace) if carries(pod.labels, labels)]
    owners = {pod.owner for pod in pods}
    targets = [
        workload
        for workload in inventory.workloads(namespace)
        if owners & set(owner_uids(workload, inventory))
    ]
    loose = _loose(pods, targets, inventory)
    return Stop(namespace, tuple(targets), tuple(pods), pod_labels=labels, loose=loose)


def whole_namespace(namespace: str, inventory: Inventory) -> Stop:
    """Everything in a namespace."""
    targets = tuple(inventory.workloads(namespace))
    pods = tuple(inventory.pods_in(namespace))
    loose = _loose(pods, targets, inventory)
    return Stop(namespace, targets, pods, whole_namespace=True, loose=loose)


def merge(first: Stop, second: Stop) -> Stop:
    """Both stops of one namespace as one."""
    targets = {each.uid: each for each in (*first.targets, *second.targets)}
    pods = {each.uid: each for each in (*first.pods, *second.pods)}
    return Stop(
        first.namespace,
        tuple(targets.values()),
        tuple(pods.values()),
        {**first.locks, **second.locks},
        first.whole_namespace or second.whole_namespace,
        first.pod_labels or second.pod_labels,
        loose=first.loose | second.loose,
    )


def for_shutdown(kind: str, namespace: str, spec: Mapping[str, Any], inventory: Inventory) -> Plan:
    """What an existing Shutdown or ClusterShutdown holds now, from its spec alone."""
    if kind == "ClusterShutdown":
        places = [whole_namespace(each, inventory) for each in spec.get("namespaces") or ()]
        names = spec.get("nodes") or {}
        nodes = tuple(inventory.nodes[name] for name in names if name in inventory.nodes)
        return Plan((*places, *((Stop("", nodes=nodes),) if nodes else ())))
    scope = spec.get("scope") or {}
    if scope.get("wholeNamespace"):
        return Plan((whole_namespace(namespace, inventory),))
    stop = for_locks(namespace, spec.get("locks") or {}, inventory)
    if scope.get("podLabels"):
        stop = merge(stop, for_labels(namespace, scope["podLabels"], inventory))
    return Plan((stop,))


def holds_pod(stop: Stop, pod: Pod) -> bool:
    """Whether the stop covers this pod: the Python form of the lock's rule for pods."""
    return pod.namespace == stop.namespace and holds(
        pod,
        locks=stop.locks,
        whole_namespace=stop.whole_namespace,
        labels=stop.pod_labels,
    )


def lock_key(workload: Workload) -> str:
    """The key that holds a workload by name, as the admission policy computes it."""
    return f"{WORKLOADS[workload.kind].key}/{workload.name}"


def owner_uids(workload: Workload, inventory: Inventory) -> list[str]:
    """The uids whose pods belong to the workload: its own and its ReplicaSets'."""
    return [workload.uid, *(child.uid for child in inventory.children(workload.uid))]


def _stop(namespace: str, targets: Iterable[Workload], inventory: Inventory) -> Stop:
    chosen = tuple(targets)
    locks: dict[str, str] = {}
    owners: list[str] = []
    for workload in chosen:
        label = f"{workload.kind}/{workload.name}"[:64]
        locks |= dict.fromkeys(_keys(workload, inventory), label)
        owners += owner_uids(workload, inventory)
    return Stop(namespace, chosen, tuple(inventory.pods_of(owners)), locks)


def _keys(workload: Workload, inventory: Inventory) -> list[str]:
    """The keys that hold a workload: by name, by uid, and its ReplicaSets that have pods.

    A ReplicaSet is held through its Deployment as long as it names it as its owner; its own key
    matters once it is orphaned. The ten old ones that a Deployment keeps have nothing to hold.
    """
    live = (child for child in inventory.children(workload.uid) if inventory.pods_of([child.uid]))
    own = [lock_key(workload), f"uid/{workload.uid}"]
    return own + [
        key for each in live for key in (f"{REPLICASETS.key}/{each.name}", f"uid/{each.uid}")
    ]


def _parts(targets: Sequence[Workload], inventory: Inventory) -> list[list[Workload]]:
    """The targets in groups whose keys fit into one Shutdown each."""
    parts: list[list[Workload]] = []
    room = 0
    for workload in targets:
        needed = len(_keys(workload, inventory))
        if needed > room:
            parts.append([])
            room = MOST_LOCKS
        parts[-1].append(workload)
        room -= needed
    return parts


def _loose(
    pods: Iterable[Pod], targets: Iterable[Workload], inventory: Inventory
) -> frozenset[str]:
    owned = {uid for workload in targets for uid in owner_uids(workload, inventory)}
    return frozenset(pod.uid for pod in pods if pod.owner not in owned)


def _match(
    queries: Sequence[TargetQuery], inventory: Inventory
) -> tuple[list[Workload], list[Refused]]:
    found: dict[str, Workload] = {}
    missing = []
    for query in queries:
        hits = _hits(query, inventory)
        found |= {workload.uid: workload for workload in hits}
        if not hits:
            missing.append(Refused(_describe(query), Refusal.NOT_FOUND))
    return list(found.values()), missing


def _hits(query: TargetQuery, inventory: Inventory) -> list[Workload]:
    if query.name is not None:  # most do: the cost must not grow with the namespace
        named = inventory.workload(query.namespace, query.kind, query.name)
        return [] if named is None else [named]
    return [
        workload
        for workload in inventory.workloads(query.namespace, query.kind)
        if query.matches(workload.name, workload.labels)
    ]


def _nodes(queries: Sequence[TargetQuery], inventory: Inventory) -> Plan:
    found: dict[str, Node] = {}
    refused = []
    for query in queries:
        hits = [n for n in inventory.nodes.values() if query.matches(n.name, n.labels)]
        if not hits:
            refused.append(Refused(_describe(query), Refusal.NOT_FOUND))
        for node in hits:
            if node.control_plane:
                refused.append(Refused(f"node {node.name}", Refusal.PROTECTED))
            else:
                found[node.name] = node
    stops = (Stop("", nodes=tuple(found.values())),) if found else ()
    return Plan(stops, tuple(refused), len(inventory.nodes))


def _describe(query: TargetQuery) -> str:
    place = f" in {query.namespace}" if query.namespace else ""
    if query.name is not None:
        return f"{query.kind} {query.name}{place}"
    labels = ",".join(f"{key}={value}" for key, value in sorted((query.labels or {}).items()))
    return f"{query.kind} with {labels}{place}"
