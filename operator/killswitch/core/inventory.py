"""What runs in the cluster, as small projections with the indexes that plans need.

The reactor keeps one alive from its watches; the command line fills one from lists. It is a plain
data structure: no I/O, no clock.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from killswitch.core import kinds
from killswitch.core.kinds import Kind, Scalar
from killswitch.core.resources import Resource


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that is not finished. Terminating counts as alive."""

    namespace: str
    name: str
    uid: str
    node: str
    owner: str
    """uid of the controlling owner, empty for a bare pod."""
    labels: Mapping[str, str]
    keys: tuple[str, ...] = ()
    """Every lock key that covers it, as the admission policy computes them."""
    gpus: int = 0
    terminating: bool = False
    mirror: bool = False
    """A static pod's image in the API: deleting it stops nothing."""
    addresses: tuple[str, ...] = ()
    """Its own IPs, as its kubelet reported them."""
    images: tuple[str, ...] = ()
    """Of its containers, as their specs name them."""
    ready: bool = False
    grace: int = 30
    """Seconds that it asks for to end by itself."""
    tolerates: bool = False
    """Whether it stays on a node that bears the `NoExecute` taint of a stop."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What makes pods, or makes what makes them: anything that can be brought to rest."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    generation: int
    labels: Mapping[str, str]
    template_digest: str
    values: tuple[Scalar, ...] = ()
    """What stands in each of its kind's settings."""
    owner: str = ""
    """uid of what controls it, empty at the top."""
    deletes_volumes: bool = False
    """`whenScaled: Delete`: scaling it down would delete its volume claims."""
    steers: Mapping[str, str] = field(default_factory=dict)
    """The labels of what runs because of it and is not below it; empty: it says none."""
    host: str = ""
    """The name of what makes its pods, among others; empty: it says none."""

    @property
    def replicas(self) -> int | None:
        """How many it asks for; None is absent, which means 1, or a kind without a count."""
        count = self.values[0] if self.kind.counted else None
        return count if isinstance(count, int) else None

    @property
    def at_rest(self) -> bool:
        """Whether it stands as a stop leaves it; a kind that cannot rest never does."""
        settings = self.kind.settings
        return bool(settings) and self.values == tuple(each.rest for each in settings)

    def __str__(self) -> str:
        """`Deployment vllm`."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Child:
    """What stands between a workload and its pods, such as a Deployment's ReplicaSet."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    owner: str


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a node."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        """`killswitch.dev/stopped=zone-1:NoExecute`, as kubectl writes it."""
        return f"{self.key}={self.value}:{self.effect}"


@dataclass(frozen=True, slots=True)
class Node:
    """A node."""

    name: str
    uid: str
    labels: Mapping[str, str]
    unschedulable: bool
    gpus: int = 0
    control_plane: bool = False
    ready: bool = False
    taints: tuple[Taint, ...] = ()
    """Those of `killswitch.dev/`."""


Item = Pod | Workload | Child | Node
_K = TypeVar("_K")
_T = TypeVar("_T")


@dataclass(slots=True)
class Inventory:
    """All projections by uid, with the indexes that plans need. Namespaces hold their labels."""

    namespaces: dict[str, Mapping[str, str]] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
    """Kinds of workloads that cannot be seen, by name, and why: plans are blind to them."""
    seen: frozenset[str] = frozenset()
    """Keys of the resources of which all objects are here, or that the cluster does not serve."""
    _items: dict[str, Item] = field(default_factory=dict)
    _workloads: dict[str, dict[str, Workload]] = field(default_factory=lambda: defaultdict(dict))
    _named: dict[tuple[str, str], dict[str, Workload]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    _children: dict[str, dict[str, Child | Workload]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    _between: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """uids of children by namespace, name of their kind, and name."""
    _kinds: dict[str, str] = field(default_factory=dict)
    _pods_by_owner: dict[str, dict[str, Pod]] = field(default_factory=lambda: defaultdict(dict))
    _pods_by_namespace: dict[str, dict[str, Pod]] = field(default_factory=lambda: defaultdict(dict))
    _bearing: dict[tuple[str, str, str], dict[str, Item]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """By namespace, label and value, for the labels of ties alone."""

    def put(self, item: Item) -> None:
        """Add or replace one projection."""
        self.remove(item.uid)
        self._items[item.uid] = item
        for borne in _borne(item):
            self._bearing[borne][item.uid] = item
        match item:
            case Pod():
                self._pods_by_owner[item.owner][item.uid] = item
                self._pods_by_namespace[item.namespace][item.uid] = item
            case Workload():
                self._workloads[item.namespace][item.uid] = item
                self._named[item.namespace, item.kind.name][item.name] = item
                self._kinds[item.kind.resource.key] = item.kind.name
                if item.owner:
                    self._children[item.owner][item.uid] = item
            case Child():
                self._children[item.owner][item.uid] = item
                self._between[_place(item)] = item.uid
            case Node():
                self.nodes[item.name] = item

    def remove(self, uid: str) -> None:
        """Forget one projection; unknown uids are fine."""
        item = self._items.pop(uid, None)
        for borne in _borne(item):
            _drop(self._bearing, borne, uid)
        match item:
            case Pod():
                _drop(self._pods_by_owner, item.owner, uid)
                _drop(self._pods_by_namespace, item.namespace, uid)
            case Workload():
                _drop(self._workloads, item.namespace, uid)
                _drop(self._children, item.owner, uid)
                key = item.namespace, item.kind.name
                if self._named.get(key, {}).get(item.name) is item:  # not its successor
                    _drop(self._named, key, item.name)
            case Child():
                _drop(self._children, item.owner, uid)
                if self._between.get(_place(item)) == uid:  # not its successor
                    del self._between[_place(item)]
            case Node():
                if self.nodes.get(item.name) is item:  # not one that joined again by its name
                    del self.nodes[item.name]
            case None:
                pass

    def workloads(self, namespace: str, kind: str | None = None) -> Iterator[Workload]:
        """Workloads of a namespace, of one kind or of all, by kind and name."""
        found = self._workloads.get(namespace, {}).values()
        chosen = (each for each in found if kind in (None, each.kind.name))
        return iter(sorted(chosen, key=lambda each: (each.kind.name, each.name)))

    def workload(self, namespace: str, kind: str, name: str) -> Workload | None:
        """The workload of this name, however many there are."""
        return self._named.get((namespace, kind), {}).get(name)

    def above(self, namespace: str, kind: str, name: str) -> Workload | None:
        """The workload at the top of what stands between one and its pods, such as its ReplicaSet."""
        uid = self._between.get((namespace, kind, name))
        return None if uid is None else self.top(uid)

    def keyed(self, namespace: str, key: str) -> Workload | None:
        """The workload that a lock key holds by name: `deployments.apps/vllm`."""
        prefix, _, name = key.rpartition("/")
        kind = self._kinds.get(prefix)
        return None if kind is None else self.workload(namespace, kind, name)

    def count(self, namespace: str, kinds: Iterable[str]) -> int:
        """How many workloads of these kinds a namespace has."""
        return sum(len(self._named.get((namespace, kind), ())) for kind in kinds)

    def children(self, owner: str) -> list[Child | Workload]:
        """What this uid controls, pods apart."""
        return list(self._children.get(owner, {}).values())

    def below(self, owner: str) -> list[Child | Workload]:
        """All that this uid controls, through as many steps as there are, pods apart.

        A cycle of owners, which nothing forbids, is walked once. A pod may own what makes further
        pods: the leader of a LeaderWorkerSet's group owns the StatefulSet of its workers.
        """
        found: dict[str, Child | Workload] = {}
        waiting, seen = [owner], set[str]()
        while waiting:
            uid = waiting.pop()
            if uid in seen:
                continue
            seen.add(uid)
            for each in self.children(uid):
                if each.uid != owner:
                    found[each.uid] = each
                waiting.append(each.uid)
            waiting += self._children.keys() & self._pods_by_owner.get(uid, {}).keys()
        return list(found.values())

    def workloads_of(self, targets: Iterable[Workload]) -> list[Workload]:
        """These workloads and all that are below them, each once."""
        found: dict[str, Workload] = {}
        for target in targets:
            found[target.uid] = target
            found |= {e.uid: e for e in self.below(target.uid) if isinstance(e, Workload)}
        return list(found.values())

    def top(self, uid: str) -> Workload | None:
        """The highest workload that is known above this uid, or at it; None where none is.

        A controller that cannot be seen ends the walk: what is known below it is acted upon.
        """
        highest, seen = None, set[str]()
        item = self._items.get(uid)
        while isinstance(item, Workload | Child | Pod) and item.uid not in seen:
            seen.add(item.uid)
            if isinstance(item, Workload):
                highest = item
            item = self._items.get(item.owner)
        return highest

    def pods_of(self, owners: Iterable[str]) -> list[Pod]:
        """Pods controlled by any of these uids."""
        return [pod for uid in owners for pod in self._pods_by_owner.get(uid, {}).values()]

    def pods_in(self, namespace: str) -> list[Pod]:
        """All pods of a namespace."""
        return list(self._pods_by_namespace.get(namespace, {}).values())

    def bearing(self, namespace: str, labels: Mapping[str, str]) -> list[Pod | Workload]:
        """Workloads and pods of a namespace with all these labels, each the label of a tie."""
        places = [(namespace, label, value) for label, value in labels.items()]
        fewest = min((self._bearing.get(each, {}) for each in places), key=len, default={})
        return [
            each
            for each in fewest.values()
            if isinstance(each, Pod | Workload) and labels.items() <= each.labels.items()
        ]

    def pods_on(self, nodes: Collection[str]) -> list[Pod]:
        """All pods on any of these nodes, by a look at every pod."""
        found = self._pods_by_namespace.values()
        return [pod for pods in found for pod in pods.values() if pod.node in nodes]

    def owner_of(self, uid: str) -> Item | None:
        """The projection with this uid, if known."""
        return self._items.get(uid)

    def __len__(self) -> int:
        """How many projections it holds."""
        return len(self._items)


def _borne(item: Item | None) -> list[tuple[str, str, str]]:
    """Where it stands in the index of labels."""
    if not isinstance(item, Pod | Workload):
        return []
    labels = item.labels
    return [(item.namespace, key, labels[key]) for key in kinds.TIE_LABELS if key in labels]


def _place(child: Child) -> tuple[str, str, str]:
    resource = child.resource
    return child.namespace, kinds.named(resource.kind, resource.group), child.name


def _drop(index: dict[_K, dict[str, _T]], key: _K, entry: str) -> None:
    entries = index.get(key)
    if entries is not None:
        entries.pop(entry, None)
        if not entries:
            del index[key]
