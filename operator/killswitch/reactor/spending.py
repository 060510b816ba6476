"""What policies have stopped lately, as the view shows it, for the cap over all of them."""

from collections.abc import Iterable, Sequence

from killswitch.core import caps
from killswitch.core.caps import Cap, Fire, Spending
from killswitch.core.inventory import Inventory, Workload
from killswitch.core.stops import Boundaries, Stop
from killswitch.reactor.view import View


def spending(
    cap: Cap,
    stops: Sequence[Stop],
    view: View,
    boundaries: Boundaries,
    under_way: Iterable[Fire],
    *,
    now: float,
) -> Spending:
    """What these stops, which are not engaged yet, would add.

    `under_way` is what was ordered a moment ago and may not be stored yet.
    """
    nodes = any(stop.nodes for stop in stops)
    fires = [*view.fires(), *under_way]
    return Spending(
        cap,
        spent=caps.spent(fires, nodes=nodes, now=now, window=cap.window),
        adding=sum(stop.count for stop in stops),
        everything=everything(view.inventory, boundaries, nodes=nodes) if cap.percent else 0,
    )


def everything(inventory: Inventory, boundaries: Boundaries, *, nodes: bool) -> int:
    """All nodes; or all workloads, and pods that nobody owns, in governed namespaces."""
    if nodes:
        return len(inventory.nodes)
    found = 0
    for namespace in inventory.namespaces:
        if boundaries.refusal(namespace, inventory) is None:
            found += sum(_on_top(each, inventory) for each in inventory.workloads(namespace))
            found += sum(not pod.owner for pod in inventory.pods_in(namespace))
    return found


def _on_top(workload: Workload, inventory: Inventory) -> bool:
    return not workload.owner or inventory.top(workload.uid) is workload
