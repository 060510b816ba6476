"""Plans: what a stop would touch, and what it refuses to touch and why. Plan = execution.

`for_policy` expands a policy's targets; `for_locks` reads back what an existing Shutdown holds,
so that a second reactor, or one that starts later, finishes exactly what was engaged. Both give
the same `Stop` value, which the reactor executes and the command line prints.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from killswitch.core import nodes
from killswitch.core.inventory import Child, Inventory, Node, Pod, Workload
from killswitch.core.kinds import Proof, key_owns_nothing
from killswitch.core.locks import carries, holds
from killswitch.core.nodes import NodeAction
from killswitch.core.resources import DEPLOYMENTS, PODS

T = TypeVar("T")
MOST_LOCKS = 4000
"""Keys that one Shutdown may have: what the CRD's schema allows."""


class Refusal(StrEnum):
    """Why something that matched is not part of the plan."""

    PROTECTED = "Protected"  # kube-system, the operator's own namespace, control plane nodes
    UNGOVERNED = "Ungoverned"  # the lock does not apply there, so a stop would not hold
    NOT_FOUND = "NotFound"  # nothing of that name or label exists
    LAST_OF_PROTECTED = "LastOfProtected"  # emptying the node would end a protected workload
    UNSEEN = "Unseen"  # the kind is not served, or may not be listed: what is of it is not known


@dataclass(frozen=True, slots=True)
class Refused:
    """One thing the plan leaves alone."""

    what: str
    reason: Refusal


@dataclass(frozen=True, slots=True)
class TargetQuery:
    """One entry of a policy's `targets`, in core terms. Node targets have no namespace.

    A `Pod` target is about what is above the pods, too; without a namespace it looks in every
    governed one.
    """

    kind: str
    """Name of the kind (`kinds.named`), or Pod, Namespace, Node."""
    namespace: str = ""
    name: str | None = None
    labels: Mapping[str, str] | None = None
    image: str | None = None
    """Of pods: an image whole, or without tag and digest; `*` stands for any characters."""

    def matches(self, name: str, labels: Mapping[str, str], images: Iterable[str] = ()) -> bool:
        """Whether an object of the right kind is meant. No name, labels or image means all."""
        if self.name is not None:
            return name == self.name
        if self.image is not None:
            return any(_is_image(each, self.image) for each in images)
        return self.labels is None or carries(labels, self.labels)


def _is_image(image: str, wanted: str) -> bool:
    bare = image.partition("@")[0]
    repository = bare if ":" not in bare.rpartition("/")[2] else bare.rpartition(":")[0]
    return any(fnmatchcase(each, wanted) for each in (image, bare, repository))


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
    untraced: frozenset[str] = frozenset()
    """uids of those targets of whose pods nothing is known: that none is found proves nothing."""

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
        targets = {each.uid for stop in self.stops for each in stop.targets}
        return len(targets) + sum(len(stop.nodes) + len(stop.loose) for stop in self.stops)

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
    queries: Sequence[TargetQuery],
    inventory: Inventory,
    boundaries: Boundaries,
    *,
    node_action: str = "",
) -> Plan:
    """What a policy with these targets would stop now; of nodes by this action (empty: Cordon)."""
    if all(query.kind == "Node" for query in queries):
        action = NodeAction(node_action or NodeAction.CORDON)
        return _nodes(queries, inventory, boundaries, action)
    stops, refused, eligible = [], _blind(queries, inventory), 0
    for namespace in _places(queries, inventory, boundaries):
        reason = boundaries.refusal(namespace, inventory)
        if reason is not None:
            refused.append(Refused(f"namespace {namespace}", reason))
            continue
        here = [query for query in queries if query.namespace in {namespace, ""}]
        kinds = None if any(q.kind == "Namespace" for q in here) else {q.kind for q in here}
        if kinds is None:
            stops.append(whole_namespace(namespace, inventory))
            eligible += stops[-1].count
            continue
        targets, pods, missing = _match(here, namespace, inventory)
        eligible += _eligible(namespace, kinds, targets, inventory)
        refused += missing
        found = [_stop(namespace, part, inventory) for part in _parts(targets, inventory)]
        stops += _with_bare([part for stop in found for part in _split(stop)], namespace, pods)
    return Plan(tuple(stops), tuple(refused), eligible)


def _places(
    queries: Sequence[TargetQuery], inventory: Inventory, boundaries: Boundaries
) -> list[str]:
    """The namespaces that the queries are about, each once."""
    named = dict.fromkeys(query.namespace for query in queries if query.namespace)
    if any(not query.namespace for query in queries):
        named |= dict.fromkeys(
            each
            for each in sorted(inventory.namespaces)
            if boundaries.refusal(each, inventory) is None
        )
    return list(named)


def _blind(queries: Sequence[TargetQuery], inventory: Inventory) -> list[Refused]:
    """The kinds that are named and cannot be seen, each once, with the reason."""
    kinds = dict.fromkeys(query.kind for query in queries)
    return [
        Refused(f"{kind}: {inventory.unseen[kind]}", Refusal.UNSEEN)
        for kind in kinds
        if kind in inventory.unseen
    ]


def _eligible(
    namespace: str, kinds: set[str], targets: Iterable[Workload], inventory: Inventory
) -> int:
    """How many workloads of these kinds there are; for pods, what they belong to.

    What rests beside a target, as the Jobs of a CronJob do, counts here as it does there: otherwise
    one of one would be more than all.
    """
    if PODS.kind in kinds:
        return whole_namespace(namespace, inventory).count
    beside = sum((inventory.top(each.uid) or each).uid != each.uid for each in targets)
    return inventory.count(namespace, kinds) + beside


def not_held(plan: Plan, holders: Iterable[tuple[str, str, Mapping[str, Any]]]) -> tuple[Stop, ...]:
    """The stops of the plan that none of these engaged Shutdowns holds wholly.

    A holder is its kind, namespace and spec. A lock may be held by one Shutdown and its neighbour
    by another: what counts is that each target has some holder.
    """
    locks: dict[str, set[str]] = {}
    places: set[str] = set()
    held_nodes: set[str] = set()
    for kind, namespace, spec in holders:
        if kind == "ClusterShutdown":
            places |= set(spec.get("namespaces") or ())
            held_nodes |= set(spec.get("nodes") or ())
            continue
        locks.setdefault(namespace, set()).update(spec.get("locks") or ())
        if (spec.get("scope") or {}).get("wholeNamespace"):
            places.add(namespace)

    parts = Counter(each.uid for stop in plan.stops for each in stop.targets)

    def held(stop: Stop) -> bool:
        if stop.nodes:
            return all(node.name in held_nodes for node in stop.nodes)
        if stop.namespace in places:
            return True
        keys = locks.get(stop.namespace, set())
        if any(parts[each.uid] > 1 for each in stop.targets) and not stop.locks.keys() <= keys:
            return False  # another part of a target that is too large for one Shutdown
        # By name and by uid: one that was re-created under its name is held by the name, but its
        # pods' owner is another, so it is engaged anew.
        return (
            not stop.whole_namespace
            and all({lock_key(each), f"uid/{each.uid}"} <= keys for each in stop.targets)
            and all(pod_key(pod) in keys for pod in stop.pods if pod.uid in stop.loose)
        )

    return tuple(stop for stop in plan.stops if not held(stop))


def for_locks(namespace: str, locks: Mapping[str, str], inventory: Inventory) -> Stop:
    """What an engaged Shutdown with these lock keys holds now, under any of its keys."""
    stop = _stop(namespace, _locked(namespace, locks, inventory), inventory)
    owners = [key.removeprefix("uid/") for key in locks if key.startswith("uid/")]
    held = [*stop.pods, *inventory.pods_of(owners)]
    if any(key.startswith(f"{PODS.key}/") for key in locks):
        held += [pod for pod in inventory.pods_in(namespace) if pod_key(pod) in locks]
    # A hand-written Shutdown may name a Deployment only: its ReplicaSets' pods belong to it too.
    pods = {pod.uid: pod for pod in held}
    loose = frozenset(pod.uid for pod in pods.values() if pod_key(pod) in locks)
    held_locks = {**stop.locks, **locks}
    untraced = stop.untraced
    return Stop(
        namespace, stop.targets, tuple(pods.values()), held_locks, loose=loose, untraced=untraced
    )


def _locked(namespace: str, locks: Iterable[str], inventory: Inventory) -> list[Workload]:
    """The workloads of the namespace that these keys name or whose uid they hold.

    What is below another one of them comes to rest by it, as when it was planned.
    """
    found: dict[str, Workload] = {}
    for key in locks:
        prefix, _, name = key.rpartition("/")
        held = inventory.owner_of(name) if prefix == "uid" else inventory.keyed(namespace, key)
        if isinstance(held, Workload) and held.namespace == namespace:
            found[held.uid] = held
    return _rested(found.values(), inventory)


def _rested(chosen: Iterable[Workload], inventory: Inventory) -> list[Workload]:
    """Those of the chosen that are brought to rest: the highest, and what they leave running."""
    highest = {each.uid: each for each in chosen}
    below = {
        child.uid
        for each in highest.values()
        for child in inventory.below(each.uid)
        if child.uid in highest and each.uid not in {c.uid for c in inventory.below(child.uid)}
    }
    found = {uid: each for uid, each in highest.items() if uid not in below}
    for each in tuple(found.values()):
        found |= {child.uid: child for child in _left_running(each, inventory)}
    return sorted(found.values(), key=lambda each: (each.kind.name, each.name))


def _left_running(workload: Workload, inventory: Inventory) -> list[Workload]:
    """What below a workload does not come to rest with it."""
    return [
        each
        for each in inventory.below(workload.uid)
        if isinstance(each, Workload) and (workload.kind.leaves_children or each.kind.with_owner)
    ]


def for_labels(namespace: str, labels: Mapping[str, str], inventory: Inventory) -> Stop:
    """What a Shutdown with a `podLabels` scope holds: the pods, and the workloads above them.

    The workloads come to rest too: otherwise their controllers would start the pods again at the
    release, and a release starts nothing.
    """
    pods = [pod for pod in inventory.pods_in(namespace) if carries(pod.labels, labels)]
    targets = _above(pods, inventory)
    loose = _loose(pods, targets, inventory)
    return Stop(namespace, tuple(targets), tuple(pods), pod_labels=labels, loose=loose)


def _above(pods: Iterable[Pod], inventory: Inventory) -> list[Workload]:
    """What these pods belong to, at the top, with what that leaves running."""
    tops = [inventory.top(owner) for owner in {pod.owner for pod in pods if pod.owner}]
    return _rested((each for each in tops if each is not None), inventory)


def whole_namespace(namespace: str, inventory: Inventory) -> Stop:
    """Everything in a namespace."""
    targets = _rested(inventory.workloads(namespace), inventory)
    pods = tuple(inventory.pods_in(namespace))
    loose = _loose(pods, targets, inventory)
    return Stop(namespace, tuple(targets), pods, whole_namespace=True, loose=loose)


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
        untraced=first.untraced | second.untraced,
    )


def for_shutdown(kind: str, namespace: str, spec: Mapping[str, Any], inventory: Inventory) -> Plan:
    """What an existing Shutdown or ClusterShutdown holds now, from its spec alone."""
    if kind == "ClusterShutdown":
        places = [whole_namespace(each, inventory) for each in spec.get("namespaces") or ()]
        names = spec.get("nodes") or {}
        held = tuple(inventory.nodes[name] for name in names if name in inventory.nodes)
        return Plan((*places, *((Stop("", nodes=held),) if held else ())))
    scope = spec.get("scope") or {}
    if scope.get("wholeNamespace"):
        return Plan((whole_namespace(namespace, inventory),))
    stop = for_locks(namespace, spec.get("locks") or {}, inventory)
    if scope.get("podLabels"):
        stop = merge(stop, for_labels(namespace, scope["podLabels"], inventory))
    return Plan((stop,))


def named(spec: Mapping[str, Any]) -> frozenset[str]:
    """Keys of the resources of which a Shutdown holds objects by name: `deployments.apps`.

    Pods apart, and what can own none, such as a ConfigMap that somebody's lock names: nothing of it
    comes to rest.
    """
    keys = {key.rpartition("/")[0] for key in spec.get("locks") or ()} - {"uid", PODS.key}
    return frozenset(key for key in keys if not key_owns_nothing(key))


def unseen(spec: Mapping[str, Any], inventory: Inventory) -> list[str]:
    """What of an existing Shutdown cannot be seen, so that it may not be at rest; in sentences."""
    hidden = sorted(named(spec) - inventory.seen)
    found = [f"{key} cannot be seen yet" for key in hidden]
    if "locks" not in spec or spec.get("scope"):  # whatever is there
        found += [f"{kind} cannot be seen: {why}" for kind, why in inventory.unseen.items()]
    return found if not spec.get("nodes") else []


def restless(stops: Iterable[Stop], inventory: Inventory) -> list[Workload]:
    """What a release would start: targets, and what is below them, that still ask for pods.

    A controller that ignores the field that should bring it to rest leaves such behind, and so does
    a kind that has none.
    """
    held = inventory.workloads_of(each for stop in stops for each in stop.targets)
    found = (each for each in held if each.kind.settings and not each.at_rest)
    return sorted(found, key=lambda each: (each.kind.name, each.name))


def _untraced(workload: Workload, inventory: Inventory) -> bool:
    """Whether nothing is known of its pods.

    A kind that no test has run may make them through others that nobody here knows.
    """
    kind = workload.kind
    if not kind.owns_pods:
        return True
    if kind.proof is not Proof.SCHEMA:
        return False
    return not inventory.below(workload.uid) and not inventory.pods_of([workload.uid])


@dataclass(frozen=True, slots=True)
class NotKnown:
    """The targets of some stops of whose pods nothing is known."""

    names: tuple[str, ...] = ()
    alone: bool = False
    """Some stop holds nothing else: then that no pod is left may not be said of it."""

    def __str__(self) -> str:
        """A sentence with the cure; empty where there are none."""
        if not self.names:
            return ""
        more = f" and {len(self.names) - 5} more" if len(self.names) > 5 else ""
        return (
            f"the pods of {', '.join(self.names[:5])}{more} are not known: name what makes them (a Job,"
            " a Deployment), or the labels of the pods, as targets too"
        )


def not_known(stops: Iterable[Stop], traced: Collection[str] = ()) -> NotKnown:
    """Of whose pods nothing is known; `traced` are uids below which some were seen before.

    Who holds a whole namespace, or pods by their labels, knows which pods are meant. Where what makes
    the pods is held too, as the cure says, the stop is about those.
    """
    names: list[str] = []
    alone = False
    for stop in stops:
        if stop.whole_namespace or stop.pod_labels is not None:
            continue
        blind = [e for e in stop.targets if e.uid in stop.untraced and e.uid not in traced]
        names += map(str, blind)
        bare = any(key.startswith(f"{PODS.key}/") for key in stop.locks)
        alone |= bool(blind) and len(blind) == len(stop.targets) and not bare
    return NotKnown(tuple(names), alone)


def holds_pod(stop: Stop, pod: Pod) -> bool:
    """Whether the stop covers this pod: the Python form of the lock's rule for pods."""
    return pod.namespace == stop.namespace and holds(
        pod,
        locks=stop.locks,
        whole_namespace=stop.whole_namespace,
        labels=stop.pod_labels,
    )


def lock_key(workload: Workload | Child) -> str:
    """The key that holds it by name, as the admission policy computes it."""
    resource = workload.kind.resource if isinstance(workload, Workload) else workload.resource
    return f"{resource.key}/{workload.name}"


def pod_key(pod: Pod) -> str:
    """The key that holds one pod by name."""
    return f"{PODS.key}/{pod.name}"


def owner_uids(workload: Workload, inventory: Inventory) -> list[str]:
    """The uids whose pods belong to the workload: its own, and of all that is below it."""
    return [workload.uid, *(each.uid for each in inventory.below(workload.uid))]


def _stop(namespace: str, targets: Iterable[Workload], inventory: Inventory) -> Stop:
    chosen = tuple(targets)
    locks: dict[str, str] = {}
    owners: list[str] = []
    for workload in chosen:
        label = f"{workload.kind}/{workload.name}"[:64]
        locks |= dict.fromkeys(_keys(workload, inventory), label)
        owners += owner_uids(workload, inventory)
    # A CronJob and a Job below it have pods in common.
    pods = tuple(inventory.pods_of(dict.fromkeys(owners)))
    untraced = frozenset(each.uid for each in chosen if _untraced(each, inventory))
    return Stop(namespace, chosen, pods, locks, untraced=untraced)


def _keys(workload: Workload, inventory: Inventory) -> list[str]:
    """The keys that hold a workload: by name, by uid, and so what is below it and makes pods.

    A ReplicaSet is held through its Deployment as long as it names it as its owner; its own key
    matters once it is orphaned. The ten old ones that a Deployment keeps have nothing to hold.
    Nothing new is made below what is held: where all do not fit into a Shutdown, uids are enough.
    """
    live = [
        each
        for each in inventory.below(workload.uid)
        if isinstance(each, Workload)
        or inventory.children(each.uid)
        or inventory.pods_of([each.uid])
        or not _is_deployments(each, inventory)
    ]
    needed = [lock_key(workload), *(f"uid/{each.uid}" for each in (workload, *live))]
    names = [lock_key(each) for each in live]
    return [*needed, *names[: max(0, MOST_LOCKS - len(needed))]]


def _is_deployments(child: Child, inventory: Inventory) -> bool:
    """Whether its pods are known by the Deployment's name: what others scale up is not."""
    owner = inventory.owner_of(child.owner)
    return isinstance(owner, Workload) and owner.kind.resource.key == DEPLOYMENTS.key


def _of_pods(namespace: str, pods: Iterable[Pod]) -> Stop:
    """Pods that belong to no workload that is known, each held by its name."""
    chosen = tuple(pods)
    locks = {pod_key(pod): f"{PODS.kind}/{pod.name}"[:64] for pod in chosen}
    return Stop(namespace, (), chosen, locks, loose=frozenset(pod.uid for pod in chosen))


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


def _split(stop: Stop) -> list[Stop]:
    """A target with more below it than fits into one Shutdown, as several that each hold it.

    So every part is read back as one of this target, and what is below is held by one of them.
    """
    if len(stop.locks) <= MOST_LOCKS:
        return [stop]
    (target,) = stop.targets
    own = {key: stop.locks[key] for key in (lock_key(target), f"uid/{target.uid}")}
    others = [key for key in stop.locks if key not in own]
    pods: dict[str, list[Pod]] = {}
    for pod in stop.pods:
        pods.setdefault(f"uid/{pod.owner}", []).append(pod)
    parts: list[Stop] = []
    for some in _chunks(others, MOST_LOCKS - len(own)):
        keys = some if parts else [*own, *some]
        held = tuple(pod for key in keys for pod in pods.get(key, ()))
        locks = own | {key: stop.locks[key] for key in some}
        parts.append(Stop(stop.namespace, stop.targets, held, locks, untraced=stop.untraced))
    return parts


def _with_bare(stops: list[Stop], namespace: str, pods: Sequence[Pod]) -> list[Stop]:
    """The stops of a namespace with its bare pods: in the last one where they fit."""
    bare = [_of_pods(namespace, some) for some in _chunks(pods, MOST_LOCKS)]
    if stops and len(bare) == 1 and len(stops[-1].locks) + len(bare[0].locks) <= MOST_LOCKS:
        return [*stops[:-1], merge(stops[-1], bare[0])]
    return [*stops, *bare]


def _chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _loose(
    pods: Iterable[Pod], targets: Iterable[Workload], inventory: Inventory
) -> frozenset[str]:
    owned = {uid for workload in targets for uid in owner_uids(workload, inventory)}
    return frozenset(pod.uid for pod in pods if pod.owner not in owned)


def _match(
    queries: Sequence[TargetQuery], namespace: str, inventory: Inventory
) -> tuple[list[Workload], list[Pod], list[Refused]]:
    """What the queries mean: workloads to bring to rest, pods without any, and who means nothing."""
    found: dict[str, Workload] = {}
    bare: dict[str, Pod] = {}
    missing = []
    for query in queries:
        hits, pods = _hits(query, namespace, inventory)
        found |= {workload.uid: workload for workload in hits}
        bare |= {pod.uid: pod for pod in pods}
        if not hits and not pods and query.namespace and query.kind not in inventory.unseen:
            missing.append(Refused(_describe(query), Refusal.NOT_FOUND))
    return _rested(found.values(), inventory), list(bare.values()), missing


def _hits(
    query: TargetQuery, namespace: str, inventory: Inventory
) -> tuple[list[Workload], list[Pod]]:
    """The workloads at the top of what one query means, and the pods that have none."""
    if query.kind == PODS.kind:
        pods = [
            pod
            for pod in inventory.pods_in(namespace)
            if query.matches(pod.name, pod.labels, pod.images)
        ]
        bare = [pod for pod in pods if inventory.top(pod.owner) is None]
        return _above(pods, inventory), bare
    if query.name is not None:  # most do: the cost must not grow with the namespace
        named = inventory.workload(namespace, query.kind, query.name) or inventory.above(
            namespace, query.kind, query.name
        )
        chosen = [] if named is None else [named]
    else:
        chosen = [
            workload
            for workload in inventory.workloads(namespace, query.kind)
            if query.matches(workload.name, workload.labels)
        ]
    return [inventory.top(each.uid) or each for each in chosen], []


def _nodes(
    queries: Sequence[TargetQuery],
    inventory: Inventory,
    boundaries: Boundaries,
    action: NodeAction,
) -> Plan:
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
    last = nodes.last_of_protected(found.keys(), inventory, boundaries.protected, action)
    for name, what in sorted(last.items()):
        refused.append(Refused(f"node {name}, last of {what}", Refusal.LAST_OF_PROTECTED))
        del found[name]
    pods = _leaving(found.keys(), inventory, boundaries, action)
    stops = (Stop("", pods=pods, nodes=tuple(found.values())),) if found else ()
    return Plan(stops, tuple(refused), len(inventory.nodes))


def _leaving(
    names: Collection[str], inventory: Inventory, boundaries: Boundaries, action: NodeAction
) -> tuple[Pod, ...]:
    """The pods that go from these nodes."""
    if not action.empties:
        return ()
    governed = {
        each for each in inventory.namespaces if boundaries.refusal(each, inventory) is None
    }
    on = inventory.pods_on(names)
    return tuple(pod for pod in on if not nodes.stays(pod, action, governed))


def _describe(query: TargetQuery) -> str:
    place = f" in {query.namespace}" if query.namespace else ""
    if query.name is not None:
        return f"{query.kind} {query.name}{place}"
    if query.image is not None:
        return f"{query.kind} of image {query.image}{place}"
    labels = ",".join(f"{key}={value}" for key, value in sorted((query.labels or {}).items()))
    return f"{query.kind} with {labels}{place}"
