"""Ties: what runs because of a workload that does not own it, as `kinds.Tie` says.

What is tied is stopped beside it, held by its own keys. Its labels are the word of those who made it:
Kueue and Dynamo know it by them, too.
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


def of(workload: Workload, inventory: Inventory) -> Tied:
    """What it steers now, by a look at its whole namespace; nothing for what owns its pods."""
    if not workload.steers:
        return Tied()
    tops: dict[str, Workload] = {}
    owners: dict[str, None] = {}
    pods: dict[str, Pod] = {}
    for each in inventory.workloads(workload.namespace):
        if each.uid == workload.uid or not carries(each.labels, workload.steers):
            continue
        top = inventory.top(each.uid) or each
        tops[top.uid] = top
        if _stands_for_unseen(each, inventory):
            owners[each.owner] = None
    for pod in inventory.pods_in(workload.namespace):
        if not carries(pod.labels, workload.steers):
            continue
        if (above := inventory.top(pod.uid)) is not None:
            tops[above.uid] = above
            continue
        pods[pod.uid] = pod
        if pod.owner:
            owners[pod.owner] = None
    pods |= {pod.uid: pod for pod in inventory.pods_of(owners)}
    tops.pop(workload.uid, None)
    return Tied(tuple(tops.values()), tuple(owners), tuple(pods.values()))


def followed(chosen: Iterable[Workload], inventory: Inventory) -> list[Workload]:
    """The chosen, and the workloads that they steer, each once."""
    found = {each.uid: each for each in chosen}
    for each in tuple(found.values()):
        found |= {tied.uid: tied for tied in of(each, inventory).workloads}
    return list(found.values())


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
    there = [
        each
        for each in inventory.workloads(workload.namespace, host)
        if workload.host in {"", each.name}
    ]
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
        for each in inventory.workloads(workload.namespace)
        if carries(each.labels, wanted)
    )


def _stands_for_unseen(each: Workload, inventory: Inventory) -> bool:
    return each.kind.with_owner and bool(each.owner) and inventory.owner_of(each.owner) is None
