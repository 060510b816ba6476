"""The keys by which a Shutdown holds a workload, what is below it, and their pods."""

from killswitch.core.inventory import Child, Inventory, Pod, Workload
from killswitch.core.resources import DEPLOYMENTS, PODS
from killswitch.core.ties import NOTHING, Tied

MOST_LOCKS = 4000
"""Keys that one Shutdown may have: what the CRD's schema allows."""


def by_name(workload: Workload | Child) -> str:
    """The key that holds it by name, as the admission policy computes it."""
    resource = workload.kind.resource if isinstance(workload, Workload) else workload.resource
    return f"{resource.key}/{workload.name}"


def of_pod(pod: Pod) -> str:
    """The key that holds one pod by name."""
    return f"{PODS.key}/{pod.name}"


def owner_uids(workload: Workload, inventory: Inventory) -> list[str]:
    """The uids whose pods belong to the workload: its own, and of all that is below it."""
    return [workload.uid, *(each.uid for each in inventory.below(workload.uid))]


def holding(workload: Workload, inventory: Inventory, tied: Tied = NOTHING) -> list[str]:
    """The keys that hold a workload: by name, by uid, and so what is below it and makes pods.

    A ReplicaSet is held through its Deployment as long as it names it as its owner; its own key
    matters once it is orphaned. The ten old ones that a Deployment keeps have nothing to hold.
    Nothing new is made below what is held: where all do not fit into a Shutdown, uids are enough.
    What a plan found tied to it is held here too, but for workloads: they are targets of their own.
    """
    live = [
        each
        for each in inventory.below(workload.uid)
        if isinstance(each, Workload)
        or inventory.children(each.uid)
        or inventory.pods_of([each.uid])
        or not _is_deployments(each, inventory)
    ]
    needed = [by_name(workload), *(f"uid/{each.uid}" for each in (workload, *live)), *beside(tied)]
    names = [by_name(each) for each in live]
    return [*needed, *names[: max(0, MOST_LOCKS - len(needed))]]


def beside(tied: Tied) -> list[str]:
    """The keys that hold what a workload steers and is no workload itself."""
    bare = [of_pod(pod) for pod in tied.pods if not pod.owner]
    return [*(f"uid/{owner}" for owner in tied.owners), *bare]


def _is_deployments(child: Child, inventory: Inventory) -> bool:
    """Whether its pods are known by the Deployment's name: what others scale up is not."""
    owner = inventory.owner_of(child.owner)
    return isinstance(owner, Workload) and owner.kind.resource.key == DEPLOYMENTS.key
