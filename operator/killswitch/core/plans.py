"""Plans: what a stop would touch, and what it refuses to touch and why. Plan = execution.

The reactor executes the stops of a plan, and the command line prints them. `holdings` reads the same
stops back from the Shutdowns that were made of them.
"""

from collections.abc import Collection, Iterable, Sequence

from killswitch.core import node_plans, resting, splitting
from killswitch.core.inventory import Inventory, Pod, Workload
from killswitch.core.nodes import NodeAction
from killswitch.core.queries import TargetQuery
from killswitch.core.resources import PODS
from killswitch.core.stops import Boundaries, Plan, Refusal, Refused
from killswitch.core.ties import Tied


def for_policy(
    queries: Sequence[TargetQuery],
    inventory: Inventory,
    boundaries: Boundaries,
    *,
    node_action: str = "",
) -> Plan:
    """What a policy with these targets would stop now; of nodes by this action (empty: Cordon)."""
    if all(query.kind == "Node" for query in queries):
        action = NodeAction(node_action or NodeAction.CORDON)
        return node_plans.for_nodes(queries, inventory, boundaries, action)
    stops, refused, eligible = [], _blind(queries, inventory), 0
    for namespace in _places(queries, inventory, boundaries):
        reason = boundaries.refusal(namespace, inventory)
        if reason is not None:
            refused.append(Refused(f"namespace {namespace}", reason))
            continue
        here = [query for query in queries if query.namespace in {namespace, ""}]
        kinds = None if any(q.kind == "Namespace" for q in here) else {q.kind for q in here}
        if kinds is None:
            stops.append(resting.whole_namespace(namespace, inventory))
            eligible += stops[-1].count
            continue
        chosen, pods, missing = _match(here, namespace, inventory)
        targets, steered = resting.with_steered(chosen, inventory)
        eligible += _eligible(namespace, kinds, targets, inventory, steered.values())
        refused += missing
        stops += splitting.parts(namespace, targets, pods, inventory, steered)
    return Plan(tuple(stops), tuple(refused), eligible)


def _places(
    queries: Sequence[TargetQuery], inventory: Inventory, boundaries: Boundaries
) -> list[str]:
    """The namespaces that the queries are about, each once."""
    named = dict.fromkeys(query.namespace for query in queries if query.namespace)
    if any(not query.namespace for query in queries):
        named |= dict.fromkeys(
            each
            for each in sorted(inventory.namespaces)
            if boundaries.refusal(each, inventory) is None
        )
    return list(named)


def _blind(queries: Sequence[TargetQuery], inventory: Inventory) -> list[Refused]:
    """The kinds that are named and cannot be seen, each once, with the reason."""
    kinds = dict.fromkeys(query.kind for query in queries)
    return [
        Refused(f"{kind}: {inventory.unseen[kind]}", Refusal.UNSEEN)
        for kind in kinds
        if kind in inventory.unseen
    ]


def _eligible(
    namespace: str,
    kinds: set[str],
    targets: Iterable[Workload],
    inventory: Inventory,
    tied: Collection[Tied],
) -> int:
    """How many workloads of these kinds there are; for pods, what they belong to.

    What rests beside a target, as the Jobs of a CronJob or of a queue do, counts here as it does
    there: otherwise one of one would be more than all.
    """
    if PODS.kind in kinds:
        return resting.whole_namespace(namespace, inventory).count
    steered = {
        each.uid for found in tied for each in found.workloads if each.kind.name not in kinds
    }
    loose = {pod.uid for found in tied for pod in found.pods if not pod.owner}
    beside = sum(
        each.uid in steered or (inventory.top(each.uid) or each).uid != each.uid for each in targets
    )
    return inventory.count(namespace, kinds) + beside + len(loose)


def _match(
    queries: Sequence[TargetQuery], namespace: str, inventory: Inventory
) -> tuple[list[Workload], list[Pod], list[Refused]]:
    """What the queries mean: workloads, pods without any, and who means nothing."""
    found: dict[str, Workload] = {}
    bare: dict[str, Pod] = {}
    missing = []
    for query in queries:
        hits, pods = _hits(query, namespace, inventory)
        found |= {workload.uid: workload for workload in hits}
        bare |= {pod.uid: pod for pod in pods}
        if not hits and not pods and query.namespace and query.kind not in inventory.unseen:
            missing.append(Refused(str(query), Refusal.NOT_FOUND))
    return list(found.values()), list(bare.values()), missing


def _hits(
    query: TargetQuery, namespace: str, inventory: Inventory
) -> tuple[list[Workload], list[Pod]]:
    """The workloads at the top of what one query means, and the pods that have none."""
    if query.kind == PODS.kind:
        pods = [
            pod
            for pod in inventory.pods_in(namespace)
            if query.matches(pod.name, pod.labels, pod.images)
        ]
        bare = [pod for pod in pods if inventory.top(pod.owner) is None]
        return resting.above(pods, inventory), bare
    if query.name is not None:  # most do: the cost must not grow with the namespace
        named = inventory.workload(namespace, query.kind, query.name) or inventory.above(
            namespace, query.kind, query.name
        )
        chosen = [] if named is None else [named]
    else:
        chosen = [
            workload
            for workload in inventory.workloads(namespace, query.kind)
            if query.matches(workload.name, workload.labels)
        ]
    return [inventory.top(each.uid) or each for each in chosen], []
