"""What comes to rest, and goes, when workloads, pods, labels or a whole namespace are stopped."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from killswitch.core import lock_keys, ties
from killswitch.core.inventory import Inventory, Item, Node, Pod, Workload
from killswitch.core.locks import carries
from killswitch.core.resources import PODS
from killswitch.core.stops import Stop
from killswitch.core.ties import Tied

_NOTHING: Mapping[str, Tied] = MappingProxyType({})


def of_workloads(
    namespace: str,
    targets: Iterable[Workload],
    inventory: Inventory,
    steered: Mapping[str, Tied] = _NOTHING,
) -> Stop:
    """These workloads with their pods, held by their keys; what each steers, by uid, beside it."""
    chosen = tuple(targets)
    locks: dict[str, str] = {}
    owners: list[str] = []
    beside: list[Pod] = []
    keys: list[str] = []
    for workload in chosen:
        label = f"{workload.kind}/{workload.name}"[:64]
        tied = steered.get(workload.uid, ties.NOTHING)
        locks |= dict.fromkeys(lock_keys.holding(workload, inventory, tied), label)
        owners += lock_keys.owner_uids(workload, inventory)
        beside += tied.pods
        keys += lock_keys.beside(tied)
    # A CronJob and a Job below it have pods in common.
    found = [*inventory.pods_of(dict.fromkeys(owners)), *beside]
    return Stop(
        namespace,
        chosen,
        tuple({pod.uid: pod for pod in found}.values()),
        locks,
        loose=frozenset(pod.uid for pod in beside if not pod.owner),
        beside=frozenset(keys),
    )


def with_steered(
    chosen: Iterable[Workload], inventory: Inventory
) -> tuple[list[Workload], Mapping[str, Tied]]:
    """What a plan brings to rest for the chosen, what they steer included; and what steers what, by uid."""
    targets = rested(chosen, inventory)
    found: dict[str, Tied] = {}
    while new := [each for each in targets if each.steers and each.uid not in found]:
        found |= {each.uid: ties.of(each, inventory) for each in new}
        tied = [other for each in new for other in found[each.uid].workloads]
        targets = rested([*targets, *tied], inventory)
    return targets, found


def of_bare_pods(namespace: str, pods: Iterable[Pod]) -> Stop:
    """Pods that belong to no workload that is known, each held by its name."""
    chosen = tuple(pods)
    locks = {lock_keys.of_pod(pod): f"{PODS.kind}/{pod.name}"[:64] for pod in chosen}
    return Stop(namespace, (), chosen, locks, loose=frozenset(pod.uid for pod in chosen))


def for_labels(namespace: str, labels: Mapping[str, str], inventory: Inventory) -> Stop:
    """What a Shutdown with a `podLabels` scope holds: the pods, and the workloads above them.

    The workloads come to rest too: otherwise their controllers would start the pods again at the
    release, and a release starts nothing.
    """
    pods = [pod for pod in inventory.pods_in(namespace) if carries(pod.labels, labels)]
    targets = above(pods, inventory)
    loose = _loose(pods, targets, inventory)
    return Stop(namespace, tuple(targets), tuple(pods), pod_labels=labels, loose=loose)


def whole_namespace(namespace: str, inventory: Inventory) -> Stop:
    """Everything in a namespace."""
    targets = rested(inventory.workloads(namespace), inventory)
    pods = tuple(inventory.pods_in(namespace))
    loose = _loose(pods, targets, inventory)
    return Stop(namespace, tuple(targets), pods, whole_namespace=True, loose=loose)


def above(pods: Iterable[Pod], inventory: Inventory) -> list[Workload]:
    """What these pods belong to, at the top, with what that leaves running."""
    tops = [inventory.top(owner) for owner in {pod.owner for pod in pods if pod.owner}]
    return rested((each for each in tops if each is not None), inventory)


def rested(chosen: Iterable[Workload], inventory: Inventory) -> list[Workload]:
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
        if isinstance(each, Workload)
        and (each.kind.with_owner or _is_left(each, workload, inventory))
    ]


def _is_left(each: Workload, top: Workload, inventory: Inventory) -> bool:
    """Whether all workloads from the top down to it leave what is below them running."""
    above: Item | None = each
    seen = set[str]()
    while not isinstance(above, Node | None) and above.uid not in seen:
        seen.add(above.uid)
        above = inventory.owner_of(above.owner)
        if isinstance(above, Workload) and not above.kind.leaves_children:
            return False
        if above is not None and above.uid == top.uid:
            return True
    return False


def _loose(
    pods: Iterable[Pod], targets: Iterable[Workload], inventory: Inventory
) -> frozenset[str]:
    owned = {uid for workload in targets for uid in lock_keys.owner_uids(workload, inventory)}
    return frozenset(pod.uid for pod in pods if pod.owner not in owned)
