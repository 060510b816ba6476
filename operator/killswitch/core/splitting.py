"""Several Shutdowns for what has more keys than one may hold."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from killswitch.core import blind_spots, lock_keys, resting
from killswitch.core.inventory import Inventory, Pod, Workload
from killswitch.core.stops import Stop, merge
from killswitch.core.ties import NOTHING, Tied

T = TypeVar("T")


def parts(
    namespace: str,
    targets: Sequence[Workload],
    bare: Sequence[Pod],
    inventory: Inventory,
    steered: Mapping[str, Tied],
) -> list[Stop]:
    """The stops of these workloads and bare pods of a namespace, none with too many keys.

    `steered` is what each of them steers, by uid. That, and whose pods are known, is of all the stops.
    """
    tied = {each.uid for found in steered.values() for each in found.workloads}
    untraced = blind_spots.untraced(namespace, targets, inventory)
    found: list[Stop] = []
    for group in _groups(targets, inventory, steered):
        stop = resting.of_workloads(namespace, group, inventory, steered)
        uids = frozenset(each.uid for each in group)
        hidden = {uid: why for uid, why in untraced.items() if uid in uids}
        found.append(replace(stop, tied=uids & tied, untraced=hidden))
    return _with_bare([part for stop in found for part in _split(stop)], namespace, bare)


def _groups(
    targets: Sequence[Workload], inventory: Inventory, steered: Mapping[str, Tied]
) -> list[list[Workload]]:
    """The targets in groups whose keys fit into one Shutdown each."""
    found: list[list[Workload]] = []
    room = 0
    for workload in targets:
        tied = steered.get(workload.uid, NOTHING)
        needed = len(lock_keys.holding(workload, inventory, tied))
        if needed > room:
            found.append([])
            room = lock_keys.MOST_LOCKS
        found[-1].append(workload)
        room -= needed
    return found


def _split(stop: Stop) -> list[Stop]:
    """A target with more below it than fits into one Shutdown, as several that each hold it.

    So every part is read back as one of this target, and what is below is held by one of them.
    """
    if len(stop.locks) <= lock_keys.MOST_LOCKS:
        return [stop]
    (target,) = stop.targets
    own = {key: stop.locks[key] for key in (lock_keys.by_name(target), f"uid/{target.uid}")}
    others = [key for key in stop.locks if key not in own]
    pods: dict[str, list[Pod]] = {}
    for pod in stop.pods:
        key = f"uid/{pod.owner}" if pod.owner else lock_keys.of_pod(pod)
        pods.setdefault(key, []).append(pod)
    found: list[Stop] = []
    for some in _chunks(others, lock_keys.MOST_LOCKS - len(own)):
        keys = some if found else [*own, *some]
        held = tuple(pod for key in keys for pod in pods.get(key, ()))
        locks = own | {key: stop.locks[key] for key in some}
        loose = stop.loose & {pod.uid for pod in held}
        beside = stop.beside & locks.keys()
        found.append(replace(stop, pods=held, locks=locks, loose=loose, beside=beside))
    return found


def _with_bare(stops: list[Stop], namespace: str, pods: Sequence[Pod]) -> list[Stop]:
    """The stops of a namespace with its bare pods: in the last one where they fit."""
    bare = [resting.of_bare_pods(namespace, some) for some in _chunks(pods, lock_keys.MOST_LOCKS)]
    if (
        stops
        and len(bare) == 1
        and len(stops[-1].locks) + len(bare[0].locks) <= lock_keys.MOST_LOCKS
    ):
        return [*stops[:-1], merge(stops[-1], bare[0])]
    return [*stops, *bare]


def _chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
