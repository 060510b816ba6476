"""Short ways to build what the core's tests talk about."""

from collections.abc import Iterable, Mapping
from typing import Any

from killswitch.core import plans
from killswitch.core.inventory import Child, Inventory, Item, Node, Pod, Workload
from killswitch.core.kinds import TABLE
from killswitch.core.queries import TargetQuery
from killswitch.core.readings import Answer, Blindness, NoAnswer, Reading, Verdict
from killswitch.core.resources import REPLICASETS
from killswitch.core.stops import Boundaries, Plan

GOVERNED = "killswitch.dev/governed"
BOUNDARIES = Boundaries(frozenset({"kube-system", "killswitch-system"}), GOVERNED)
NOW = 1_800_000_000.0


def workload(name: str, namespace: str = "prod", kind: str = "Deployment", **more: Any) -> Workload:
    """A workload whose uid tells where it is."""
    replicas = more.pop("replicas", 1)
    fields: dict[str, Any] = {"generation": 1, "labels": {}, "template_digest": "-"}
    found = TABLE[kind]
    values = (replicas,) if found.counted else (None,) * len(found.settings)
    fields |= {"values": values, **more}
    return Workload(found, namespace, name, f"{kind}.{namespace}.{name}", **fields)


def replica_set(owner: Workload, suffix: str) -> Child:
    """A ReplicaSet of a Deployment."""
    name = f"{owner.name}-{suffix}"
    return Child(
        REPLICASETS, owner.namespace, name, f"ReplicaSet.{owner.namespace}.{name}", owner.uid
    )


def pod(name: str, owner: Workload | Child | None = None, **more: Any) -> Pod:
    """A pod of a workload or ReplicaSet, or a bare one, with the keys its owner gives it."""
    place = owner.namespace if owner else more.pop("namespace", "prod")
    uid = owner.uid if owner else ""
    keys = (f"uid/{uid}",) if uid else ()
    fields: dict[str, Any] = {"node": "n1", "labels": {}, "keys": keys}
    return Pod(place, name, f"Pod.{place}.{name}", owner=uid, **{**fields, **more})


def node(name: str, **more: Any) -> Node:
    """A worker that takes pods."""
    fields: dict[str, Any] = {"labels": {}, "unschedulable": False}
    return Node(name, f"Node.{name}", **{**fields, **more})


def inventory(*items: Item, governed: Iterable[str] = ("prod",)) -> Inventory:
    """An inventory with these items and governed namespaces."""
    filled = Inventory()
    for name in governed:
        filled.namespaces[name] = {GOVERNED: "true"}
    for item in items:
        filled.put(item)
    return filled


def deployment(
    name: str, namespace: str = "prod", pods: int = 1, labels: Mapping[str, str] | None = None
) -> list[Item]:
    """A Deployment with one ReplicaSet and its pods."""
    owner = workload(name, namespace, labels=labels or {})
    child = replica_set(owner, "abc")
    return [owner, child, *(pod(f"{child.name}-{number}", child) for number in range(pods))]


def reading(
    signal: str, verdict: Verdict, at: float = NOW, reason: Blindness | None = None
) -> Reading:
    """A reading of that verdict; Unknown ones are timeouts unless told otherwise."""
    if verdict is Verdict.UNKNOWN and reason is None:
        reason = Blindness.TIMEOUT
    return Reading(signal, verdict, "for the test", at, reason)


def answer(*values: float, age: float | None = 1.0, warnings: tuple[str, ...] = ()) -> Answer:
    """An answer that is a second old."""
    return Answer(values, age, warnings)


def no_answer(reason: Blindness) -> NoAnswer:
    """Nothing, for that reason."""
    return NoAnswer(reason, "for the test")


def planned(held: Inventory, *queries: TargetQuery) -> Plan:
    """What a policy with these targets would stop."""
    return plans.for_policy(queries, held, BOUNDARIES)


def names(items: Iterable[Item]) -> list[str]:
    """Names, sorted."""
    return sorted(item.name for item in items)


def by_name(name: str, kind: str = "Deployment", namespace: str = "prod") -> TargetQuery:
    """A target by its name."""
    return TargetQuery(kind, namespace, name)
