"""Workloads of whose pods nothing is known: of them "no pod is left" proves nothing."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from killswitch.core import ties
from killswitch.core.inventory import Inventory, Pod, Workload
from killswitch.core.kinds import BUILT_IN_GROUPS, TABLE, Kind, Proof
from killswitch.core.stops import Stop
from killswitch.core.words import several


def untraced(namespace: str, targets: Collection[Workload], inventory: Inventory) -> dict[str, str]:
    """The uids of the targets whose pods are not known, in a stop of all of these.

    Each with what cannot be seen between the two, and why; empty where that is not known either.
    """
    found: dict[str, str] = {}
    for each in targets:
        if hidden := _hidden(each, inventory):
            found[each.uid] = hidden
        elif _hides_pods(each, targets, inventory):
            found[each.uid] = ""
    # Where all that runs there has an owner that is seen, nothing runs behind what is not.
    if any(found.values()) and not _has_orphans(namespace, inventory):
        led = {each.uid for each in targets if _leads_to_pods(each, inventory)}
        found = {uid: hidden for uid, hidden in found.items() if not hidden or uid not in led}
    return found


def _hides_pods(workload: Workload, targets: Collection[Workload], inventory: Inventory) -> bool:
    """Whether nothing is known of its pods, though all is seen that is known to lead to them.

    A kind that no test has run may make them through others that nobody here knows.
    """
    kind = workload.kind
    if not kind.owns_pods:
        return not ties.known(workload, targets, inventory)
    if kind.proof is not Proof.SCHEMA:
        return False
    return not inventory.below(workload.uid) and not inventory.pods_of([workload.uid])


def _hidden(workload: Workload, inventory: Inventory) -> str:
    """What of that through which it may make its pods cannot be seen, and why."""
    through = workload.kind.through
    return ", ".join(
        f"{name} ({inventory.unseen[name]})" for name in through if name in inventory.unseen
    )


def _leads_to_pods(workload: Workload, inventory: Inventory) -> bool:
    """Whether pods are found below it, or what makes them without anything else between."""
    below = inventory.below(workload.uid)
    makers = (each.kind for each in below if isinstance(each, Workload))
    return any(not kind.through and not kind.with_owner for kind in makers) or bool(
        inventory.pods_of([workload.uid, *(each.uid for each in below)])
    )


def _has_orphans(namespace: str, inventory: Inventory) -> bool:
    """Whether something there has an owner that is not seen: it may be anybody's."""
    owners = {pod.owner for pod in inventory.pods_in(namespace) if not pod.mirror}
    owners |= {each.owner for each in inventory.workloads(namespace)}
    return any(inventory.owner_of(uid) is None for uid in owners - {""})


@dataclass(frozen=True, slots=True)
class NotKnown:
    """The targets of some stops of whose pods nothing is known."""

    names: tuple[str, ...] = ()
    makers: tuple[str, ...] = ()
    """What may make them, as far as that is known."""
    unseen: Mapping[str, str] = field(default_factory=dict)
    """By target, what stands between and cannot be seen, with the reason: it may come to be seen."""
    hidden: tuple[str, ...] = ()
    """The kinds that the stop rests on and that cannot be seen now, each with the reason."""

    def __bool__(self) -> bool:
        """Whether there are some: then that no pod is left may not be said."""
        return bool(self.names or self.hidden)

    def __str__(self) -> str:
        """A sentence with the cure; empty where there are none."""
        if self.hidden:
            return f"whose pods are left is not known: {'; '.join(self.hidden)}"
        if not self.names:
            return ""
        cures = [f"let killswitch list {each}" for each in dict.fromkeys(self.unseen.values())]
        if self.unseen.keys() < {*self.names}:
            makers = ", ".join((*self.makers, "any kind between them"))
            cures.append(f"name what makes them ({makers}) as a target too")
        cure = ", ".join((*cures, "or name their namespace"))
        return f"the pods of {several(self.names)} are not known: {cure}"


def not_known(stops: Iterable[Stop], traced: Collection[str] = ()) -> NotKnown:
    """Of whose pods nothing is known; `traced` are uids below which some were seen before.

    Who holds a whole namespace, or pods by their labels, knows which pods are meant. What else a stop
    holds makes them known only where they are found below it: then they are not untraced.
    """
    blind = [
        (each, stop.untraced[each.uid])
        for stop in stops
        if not stop.whole_namespace and stop.pod_labels is None
        for each in stop.targets
        if each.uid in stop.untraced and each.uid not in traced
    ]
    makers = dict.fromkeys(
        f"the {each.kind.tie.host} {each.host or 'that runs it'}"
        for each, _ in blind
        if each.kind.tie is not None and each.kind.tie.host
    )
    unseen = {str(each): why for each, why in blind if why}
    return NotKnown(tuple(str(each) for each, _ in blind), tuple(makers), unseen)


def hidden(named: Collection[Kind], pods: Iterable[Pod], inventory: Inventory) -> tuple[str, ...]:
    """The unseen kinds on which a stop of these kinds rests, each with the reason.

    Its own; and, where pods belong to what is not there to be seen, whatever may stand between. Below
    a kind of Kubernetes itself stand such kinds alone.
    """
    unseen = inventory.unseen
    found = {each.name for each in named} & unseen.keys()
    if unseen.keys() - found and any(_is_lost(pod, inventory) for pod in pods):
        plain = all(each.resource.group in BUILT_IN_GROUPS for each in named)
        found |= {name for name in unseen if not plain or _is_built_in(name)}
    return tuple(_sentences(found, unseen))


def concerned(named: Collection[str], unseen: Mapping[str, str]) -> str:
    """Why some of these kinds cannot be seen, in a sentence; empty: all can."""
    return "; ".join(_sentences({*named} & unseen.keys(), unseen))


def _sentences(names: Iterable[str], unseen: Mapping[str, str]) -> list[str]:
    return [f"{name} cannot be seen: {unseen[name]}" for name in sorted(names)]


def _is_built_in(name: str) -> bool:
    kind = TABLE.get(name)
    return kind is not None and kind.resource.group in BUILT_IN_GROUPS


def _is_lost(pod: Pod, inventory: Inventory) -> bool:
    """Whether its line of owners ends at one that is not there to be seen."""
    seen: set[str] = set()
    owner = "" if pod.mirror else pod.owner
    while owner and owner not in seen:
        seen.add(owner)
        item = inventory.owner_of(owner)
        if item is None:
            return True
        owner = getattr(item, "owner", "")
    return False
