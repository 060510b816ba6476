"""Workloads of whose pods nothing is known: of them "no pod is left" proves nothing."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from killswitch.core.inventory import Inventory, Workload
from killswitch.core.kinds import Proof
from killswitch.core.resources import PODS
from killswitch.core.stops import Stop
from killswitch.core.words import several


def hides_pods(workload: Workload, inventory: Inventory) -> bool:
    """Whether nothing is known of its pods.

    A kind that no test has run may make them through others that nobody here knows.
    """
    kind = workload.kind
    if not kind.owns_pods:
        return True
    if kind.proof is not Proof.SCHEMA:
        return False
    return not inventory.below(workload.uid) and not inventory.pods_of([workload.uid])


@dataclass(frozen=True, slots=True)
class NotKnown:
    """The targets of some stops of whose pods nothing is known."""

    names: tuple[str, ...] = ()
    alone: bool = False
    """Some stop holds nothing else: then that no pod is left may not be said of it."""

    def __str__(self) -> str:
        """A sentence with the cure; empty where there are none."""
        if not self.names:
            return ""
        return (
            f"the pods of {several(self.names)} are not known: name what makes them (a Job,"
            " a Deployment), or the labels of the pods, as targets too"
        )


def not_known(stops: Iterable[Stop], traced: Collection[str] = ()) -> NotKnown:
    """Of whose pods nothing is known; `traced` are uids below which some were seen before.

    Who holds a whole namespace, or pods by their labels, knows which pods are meant. Where what makes
    the pods is held too, as the cure says, the stop is about those.
    """
    names: list[str] = []
    alone = False
    for stop in stops:
        if stop.whole_namespace or stop.pod_labels is not None:
            continue
        blind = [e for e in stop.targets if e.uid in stop.untraced and e.uid not in traced]
        names += map(str, blind)
        bare = any(key.startswith(f"{PODS.key}/") for key in stop.locks)
        alone |= bool(blind) and len(blind) == len(stop.targets) and not bare
    return NotKnown(tuple(names), alone)
