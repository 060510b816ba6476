"""What an engaged Shutdown holds now: its targets and all below them, with what their controllers want."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from killswitch.core import at_release, blind_spots, holdings
from killswitch.core.inventory import Inventory, Workload
from killswitch.manager.claims import Target
from killswitch.manager.places import Places
from killswitch.ports import Json


@dataclass(frozen=True, slots=True)
class Held:
    """The targets of one Shutdown, and what is below them."""

    inventory: Inventory
    targets: tuple[Workload, ...] = ()
    bodies: Mapping[str, Json] = field(default_factory=dict)
    """Of all that is in their namespaces, by uid."""
    hidden: str = ""
    """Why some of its own kinds cannot be seen, so that targets may lack here; empty: all can."""

    @property
    def workloads(self) -> list[Workload]:
        """The targets and every workload below them."""
        return self.inventory.workloads_of(self.targets)

    def starting(self) -> list[str]:
        """What a release would start, in words."""
        tops = {each.uid for each in self.targets}
        return [
            f"{each.kind} {each.namespace}/{each.name}" + ("" if each.uid in tops else " (below)")
            for each in at_release.starts(self.targets, self.inventory)
        ]


async def look(places: Places, recorded: Sequence[Target], shutdown: Json) -> Held:
    """What it holds by its locks and scope, and what is recorded of it; nothing for nodes."""
    namespace = shutdown["metadata"].get("namespace", "")
    names = [namespace] if namespace else list(shutdown["spec"].get("namespaces") or {})
    if not names:
        return Held(Inventory())
    named = {each.record["kind"] for each in recorded}
    seen = await places.see(names, named)
    catalogue = await places.catalogue(named)
    named |= {catalogue.named(key) or "" for key in holdings.named(shutdown["spec"])}
    named = {name for name in named if catalogue.find(name) is not None}
    hidden = blind_spots.concerned(named, seen.inventory.unseen)
    plan = holdings.for_shutdown(shutdown["kind"], namespace, shutdown["spec"], seen.inventory)
    found = {each.uid: each for stop in plan.stops for each in stop.targets}
    for target in recorded:
        item = seen.inventory.owner_of(target.record["uid"])
        if isinstance(item, Workload):
            found[item.uid] = item
    return Held(seen.inventory, tuple(found.values()), seen.bodies, hidden)
