"""What a release of a Shutdown would start by itself: said while it holds, before anybody approves."""

from collections.abc import Iterable, Sequence

from killswitch.core.inventory import Inventory, Workload
from killswitch.core.words import several

BEGINS = "a release would start "
"""How the sentence begins that names it."""


def starts(targets: Iterable[Workload], inventory: Inventory) -> list[Workload]:
    """The targets, and what is below them, that do not rest, by kind and name."""
    found = (each for each in inventory.workloads_of(targets) if not _rests(each, inventory))
    return sorted(found, key=lambda each: (each.kind.name, each.name))


def sentence(names: Sequence[str]) -> str:
    """That a release would start these; empty where there are none."""
    return f"{BEGINS}{several(names)}" if names else ""


def _rests(workload: Workload, inventory: Inventory) -> bool:
    """Whether its controller leaves it stopped.

    A kind that cannot rest tells it by what its controller has brought to rest below it. Where nothing
    is seen there, or the stop itself brought that to rest, nothing is known: so it may start.
    """
    kind = workload.kind
    if kind.settings:
        return workload.at_rest
    below = [each for each in inventory.below(workload.uid) if isinstance(each, Workload)]
    return bool(below) and not kind.leaves_children
