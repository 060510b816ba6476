"""Plans of nodes: which are stopped, which are refused and why, and which pods go from them."""

from collections.abc import Collection, Sequence

from killswitch.core import nodes
from killswitch.core.inventory import Inventory, Node, Pod
from killswitch.core.nodes import NodeAction
from killswitch.core.queries import TargetQuery
from killswitch.core.stops import Boundaries, Plan, Refusal, Refused, Stop


def for_nodes(
    queries: Sequence[TargetQuery],
    inventory: Inventory,
    boundaries: Boundaries,
    action: NodeAction,
) -> Plan:
    """What this action would do with the nodes that these queries mean."""
    found: dict[str, Node] = {}
    refused = []
    for query in queries:
        hits = [n for n in inventory.nodes.values() if query.matches(n.name, n.labels)]
        if not hits:
            refused.append(Refused(str(query), Refusal.NOT_FOUND))
        for node in hits:
            if node.control_plane:
                refused.append(Refused(f"node {node.name}", Refusal.PROTECTED))
            else:
                found[node.name] = node
    last = nodes.last_of_protected(found.keys(), inventory, boundaries.protected, action)
    for name, what in sorted(last.items()):
        refused.append(Refused(f"node {name}, last of {what}", Refusal.LAST_OF_PROTECTED))
        del found[name]
    pods = _leaving(found.keys(), inventory, boundaries, action)
    stops = (Stop("", pods=pods, nodes=tuple(found.values())),) if found else ()
    return Plan(stops, tuple(refused), len(inventory.nodes))


def _leaving(
    names: Collection[str], inventory: Inventory, boundaries: Boundaries, action: NodeAction
) -> tuple[Pod, ...]:
    """The pods that go from these nodes."""
    if not action.empties:
        return ()
    governed = {
        each for each in inventory.namespaces if boundaries.refusal(each, inventory) is None
    }
    on = inventory.pods_on(names)
    return tuple(pod for pod in on if not nodes.stays(pod, action, governed))
