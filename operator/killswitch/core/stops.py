"""Stops and plans as values: what one Shutdown is about, what a fire would stop, and where at all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from killswitch.core.inventory import Inventory, Node, Pod, Workload
from killswitch.core.locks import holds


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
    untraced: Mapping[str, str] = field(default_factory=dict)
    """uids of those targets whose pods are not known: that none is found proves nothing. Each with what
    cannot be seen between them, and why; empty where that is not known either."""
    tied: frozenset[str] = frozenset()
    """uids of those targets that another one steers without owning them."""
    beside: frozenset[str] = frozenset()
    """Those of the lock keys that hold what a target steers and is no workload that is seen."""

    @property
    def count(self) -> int:
        """What would stop: workloads, nodes, and each pod that belongs to neither."""
        return len(self.targets) + len(self.nodes) + len(self.loose)

    @property
    def gpus(self) -> int:
        """GPUs requested by the pods that would stop."""
        return sum(pod.gpus for pod in self.pods)


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
        untraced={**first.untraced, **second.untraced},
        tied=first.tied | second.tied,
        beside=first.beside | second.beside,
    )


def holds_pod(stop: Stop, pod: Pod) -> bool:
    """Whether the stop covers this pod: the Python form of the lock's rule for pods."""
    return pod.namespace == stop.namespace and holds(
        pod,
        locks=stop.locks,
        whole_namespace=stop.whole_namespace,
        labels=stop.pod_labels,
    )


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
