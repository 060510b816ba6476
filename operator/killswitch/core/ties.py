"""Ties: what runs because of a workload that does not own it, as `kinds.Tie` says.

What is tied is stopped beside it, held by its own keys. The labels on both sides can be changed by
others than who stops: by them somebody escapes, or draws others in. So a tie is followed once, by the
plan, whose targets caps and people judge; what a Shutdown holds by then never grows by it. Of a stop in
force a tie only says that something runs which is not held (docs/threat-model.md).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from killswitch.core import kinds
from killswitch.core.inventory import Inventory, Pod, Workload
from killswitch.core.locks import carries


@dataclass(frozen=True, slots=True)
class Tied:
    """What one workload steers."""

    workloads: tuple[Workload, ...] = ()
    """Each at the top of what owns it."""
    owners: tuple[str, ...] = ()
    """uids of what makes pods of it, and is of a kind that is not seen."""
    pods: tuple[Pod, ...] = ()
    """Those that belong to no workload that is seen."""


NOTHING = Tied()


def of(workload: Workload, inventory: Inventory) -> Tied:
    """What it steers now; nothing for what owns its pods."""
    if not workload.steers:
        return NOTHING
    tops: dict[str, Workload] = {}
    owners: dict[str, None] = {}
    pods: dict[str, Pod] = {}
    for each in inventory.bearing(workload.namespace, workload.steers):
        if each.uid == workload.uid:
            continue
        if (top := inventory.top(each.uid)) is not None:
            tops[top.uid] = top
        elif isinstance(each, Pod):
            pods[each.uid] = each
            if each.owner:
                owners[each.owner] = None
        if isinstance(each, Workload) and _stands_for_unseen(each, inventory):
            owners[each.owner] = None
    pods |= {pod.uid: pod for pod in inventory.pods_of(owners)}
    tops.pop(workload.uid, None)
    return Tied(tuple(tops.values()), tuple(owners), tuple(pods.values()))


def not_held(
    workload: Workload, targets: Collection[str], pods: Collection[str], inventory: Inventory
) -> bool:
    """Whether it steers what runs, or asks to, and is not among the uids that a stop holds."""
    tied = of(workload, inventory)
    others = [each for each in tied.workloads if each.uid not in targets]
    if any(each.kind.settings and not each.at_rest for each in others):
        return True
    owners = {each.uid for top in others for each in (top, *inventory.below(top.uid))}
    return any(pod.uid not in pods for pod in (*tied.pods, *inventory.pods_of(owners)))


def steered(pod: Pod, workloads: Iterable[Workload]) -> bool:
    """Whether one of these steers a pod of their namespace, by its labels."""
    return any(each.steers and carries(pod.labels, each.steers) for each in workloads)


def known(workload: Workload, targets: Collection[Workload], inventory: Inventory) -> bool:
    """Whether its tie leads to its pods, in a stop of these targets."""
    tie = workload.kind.tie
    if tie is None:
        return False
    if tie.host:
        return _host_held(workload, tie.host, targets, inventory)
    if not workload.steers or _hidden(workload, inventory):
        return False
    # What asks for replicas and is at 0 by the stop may have had some, by other labels than these.
    return not workload.kind.counted or of(workload, inventory) != Tied()


def _host_held(
    workload: Workload, host: str, targets: Collection[Workload], inventory: Inventory
) -> bool:
    """Whether what runs it is stopped too; all that may run it, where it does not say which."""
    if workload.host:
        named = inventory.workload(workload.namespace, host, workload.host)
        there = [] if named is None else [named]
    else:
        there = list(inventory.workloads(workload.namespace, host))
    stopped = {each.uid for each in targets}
    return bool(there) and all(each.uid in stopped for each in there)


def _hidden(workload: Workload, inventory: Inventory) -> bool:
    """Whether something that it steers may have pods that nobody here sees.

    Of what stands for a job of a kind that is not followed, only the pods that the job owns itself
    are found.
    """
    wanted = workload.steers
    saying = [k.name for k in kinds.TABLE.values() if wanted.keys() & dict(k.borne).keys()]
    if any(name in inventory.unseen for name in saying):
        return True
    return any(
        _stands_for_unseen(each, inventory) and not inventory.pods_of([each.owner])
        for each in inventory.bearing(workload.namespace, wanted)
        if isinstance(each, Workload)
    )


def _stands_for_unseen(each: Workload, inventory: Inventory) -> bool:
    return each.kind.with_owner and bool(each.owner) and inventory.owner_of(each.owner) is None
