"""Holdings: what existing Shutdowns hold now, read back from their specs.

So a second reactor, or one that starts later, finishes exactly what was engaged.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from killswitch.core import blind_spots, lock_keys, resting, ties
from killswitch.core.inventory import Inventory, Workload
from killswitch.core.kinds import key_owns_nothing
from killswitch.core.resources import PODS
from killswitch.core.stops import Plan, Stop, merge


def for_shutdown(kind: str, namespace: str, spec: Mapping[str, Any], inventory: Inventory) -> Plan:
    """What an existing Shutdown or ClusterShutdown holds now, from its spec alone."""
    if kind == "ClusterShutdown":
        places = [resting.whole_namespace(each, inventory) for each in spec.get("namespaces") or ()]
        names = spec.get("nodes") or {}
        held = tuple(inventory.nodes[name] for name in names if name in inventory.nodes)
        return Plan((*places, *((Stop("", nodes=held),) if held else ())))
    scope = spec.get("scope") or {}
    if scope.get("wholeNamespace"):
        return Plan((resting.whole_namespace(namespace, inventory),))
    stop = for_locks(namespace, spec.get("locks") or {}, inventory)
    if scope.get("podLabels"):
        stop = merge(stop, resting.for_labels(namespace, scope["podLabels"], inventory))
    return Plan((stop,))


def for_locks(namespace: str, locks: Mapping[str, str], inventory: Inventory) -> Stop:
    """What an engaged Shutdown with these lock keys holds now, under any of its keys.

    What its targets steer is held where it is named, as by a plan: else it is only not known to rest.
    """
    stop = resting.of_workloads(namespace, _locked(namespace, locks, inventory), inventory)
    owners = [key.removeprefix("uid/") for key in locks if key.startswith("uid/")]
    held = [*stop.pods, *inventory.pods_of(owners)]
    if any(key.startswith(f"{PODS.key}/") for key in locks):
        held += [pod for pod in inventory.pods_in(namespace) if lock_keys.of_pod(pod) in locks]
    # A hand-written Shutdown may name a Deployment only: its ReplicaSets' pods belong to it too.
    pods = {pod.uid: pod for pod in held}
    loose = frozenset(pod.uid for pod in pods.values() if lock_keys.of_pod(pod) in locks)
    uids = {each.uid for each in stop.targets}
    unheld = [each for each in stop.targets if ties.not_held(each, uids, pods.keys(), inventory)]
    untraced = dict.fromkeys((each.uid for each in unheld), "")
    untraced |= blind_spots.untraced(namespace, stop.targets, inventory)
    return replace(
        stop,
        pods=tuple(pods.values()),
        locks={**stop.locks, **locks},
        loose=stop.loose | loose,
        untraced=untraced,
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
    return resting.rested(found.values(), inventory)


def not_held(plan: Plan, holders: Iterable[tuple[str, str, Mapping[str, Any]]]) -> tuple[Stop, ...]:
    """The stops of the plan that none of these engaged Shutdowns holds wholly.

    A holder is its kind, namespace and spec. A lock may be held by one Shutdown and its neighbour
    by another: what counts is that each target has some holder, and each key beside it, of what it
    steers. What came to a held queue later and rests there needs none: what it waits for is held.
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
    waiting = {
        each.uid
        for stop in plan.stops
        for each in stop.targets
        if each.uid in stop.tied and each.at_rest
    }

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
            and all(
                {lock_keys.by_name(each), f"uid/{each.uid}"} <= keys
                or each.uid in waiting
                or (each.kind.with_owner and each.owner in waiting)
                for each in stop.targets
            )
            and stop.beside <= keys
            and all(lock_keys.of_pod(pod) in keys for pod in stop.pods if pod.uid in stop.loose)
        )

    return tuple(stop for stop in plan.stops if not held(stop))


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
