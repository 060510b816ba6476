"""What runs in the cluster, as small projections with the indexes that plans need.

The reactor keeps one alive from its watches; the command line fills one from lists. It is a plain
data structure: no I/O, no clock.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar


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


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment or StatefulSet."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    labels: Mapping[str, str]
    replicas: int | None
    """`spec.replicas`; None is absent, which means 1."""
    template_digest: str
    deletes_volumes: bool = False
    """`whenScaled: Delete`: scaling it down would delete its volume claims."""


@dataclass(frozen=True, slots=True)
class Child:
    """A ReplicaSet: pods name it as their owner, it names the Deployment."""

    namespace: str
    name: str
    uid: str
    owner: str


@dataclass(frozen=True, slots=True)
class Node:
    """A node."""

    name: str
    uid: str
    labels: Mapping[str, str]
    unschedulable: bool
    gpus: int = 0
    control_plane: bool = False


Item = Pod | Workload | Child | Node
_K = TypeVar("_K")
_T = TypeVar("_T")


@dataclass(slots=True)
class Inventory:
    """All projections by uid, with the indexes that plans need. Namespaces hold their labels."""

    namespaces: dict[str, Mapping[str, str]] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    _items: dict[str, Item] = field(default_factory=dict)
    _workloads: dict[str, dict[str, Workload]] = field(default_factory=lambda: defaultdict(dict))
    _named: dict[tuple[str, str], dict[str, Workload]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    _children: dict[str, dict[str, Child]] = field(default_factory=lambda: defaultdict(dict))
    _pods_by_owner: dict[str, dict[str, Pod]] = field(default_factory=lambda: defaultdict(dict))
    _pods_by_namespace: dict[str, dict[str, Pod]] = field(default_factory=lambda: defaultdict(dict))

    def put(self, item: Item) -> None:
        """Add or replace one projection."""
        self.remove(item.uid)
        self._items[item.uid] = item
        match item:
            case Pod():
                self._pods_by_owner[item.owner][item.uid] = item
                self._pods_by_namespace[item.namespace][item.uid] = item
            case Workload():
                self._workloads[item.namespace][item.uid] = item
                self._named[item.namespace, item.kind][item.name] = item
            case Child():
                self._children[item.owner][item.uid] = item
            case Node():
                self.nodes[item.name] = item

    def remove(self, uid: str) -> None:
        """Forget one projection; unknown uids are fine."""
        item = self._items.pop(uid, None)
        match item:
            case Pod():
                _drop(self._pods_by_owner, item.owner, uid)
                _drop(self._pods_by_namespace, item.namespace, uid)
            case Workload():
                _drop(self._workloads, item.namespace, uid)
                key = item.namespace, item.kind
                if self._named.get(key, {}).get(item.name) is item:  # not its successor
                    _drop(self._named, key, item.name)
            case Child():
                _drop(self._children, item.owner, uid)
            case Node():
                if self.nodes.get(item.name) is item:  # not one that joined again by its name
                    del self.nodes[item.name]
            case None:
                pass

    def workloads(self, namespace: str, kind: str | None = None) -> Iterator[Workload]:
        """Workloads of a namespace, of one kind or of all, by kind and name."""
        found = self._workloads.get(namespace, {}).values()
        chosen = (each for each in found if kind in (None, each.kind))
        return iter(sorted(chosen, key=lambda each: (each.kind, each.name)))

    def workload(self, namespace: str, kind: str, name: str) -> Workload | None:
        """The workload of this name, however many there are."""
        return self._named.get((namespace, kind), {}).get(name)

    def count(self, namespace: str, kinds: Iterable[str]) -> int:
        """How many workloads of these kinds a namespace has."""
        return sum(len(self._named.get((namespace, kind), ())) for kind in kinds)

    def children(self, owner: str) -> list[Child]:
        """ReplicaSets of a Deployment."""
        return list(self._children.get(owner, {}).values())

    def pods_of(self, owners: Iterable[str]) -> list[Pod]:
        """Pods controlled by any of these uids."""
        return [pod for uid in owners for pod in self._pods_by_owner.get(uid, {}).values()]

    def pods_in(self, namespace: str) -> list[Pod]:
        """All pods of a namespace."""
        return list(self._pods_by_namespace.get(namespace, {}).values())

    def owner_of(self, uid: str) -> Item | None:
        """The projection with this uid, if known."""
        return self._items.get(uid)

    def __len__(self) -> int:
        """How many projections it holds."""
        return len(self._items)


def _drop(index: dict[_K, dict[str, _T]], key: _K, entry: str) -> None:
    entries = index.get(key)
    if entries is not None:
        entries.pop(entry, None)
        if not entries:
            del index[key]
