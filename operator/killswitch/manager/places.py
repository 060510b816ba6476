"""Namespaces by what they hold: listed with every kind that the cluster serves, as the reactor sees them.

Plans of policies, fighters, and what of a stop would start at its release are judged by this. A kind that
cannot be listed is named with the reason; nothing else waits for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from killswitch.core import kinds, projections
from killswitch.core.catalogue import Catalogue
from killswitch.core.errors import UNSEEN, UnavailableError
from killswitch.core.inventory import Inventory, Item
from killswitch.core.kinds import Kind
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.resources import NAMESPACES, PODS, Resource
from killswitch.discovery import Discovery
from killswitch.ports import Clock, Cluster, Json

FRESH = 5.0
"""Seconds for which a listed namespace answers for others, too."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """What one namespace held."""

    at: float
    found: list[tuple[Kind | Resource, Json]]
    unseen: dict[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """What some namespaces held when they were listed."""

    inventory: Inventory
    bodies: dict[str, Json] = field(default_factory=dict)
    """Workloads, children and pods by uid, whole."""
    pods: tuple[Json, ...] = ()


class Places:
    """Namespaces, each listed once for all who ask within some seconds."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        """Nothing has been listed."""
        self._cluster = cluster
        self._clock = clock
        self._discovery = Discovery(cluster, clock)
        self._wanted: frozenset[str] = frozenset()
        self._listed: dict[str, _Listed] = {}

    async def catalogue(self, names: Iterable[str] = ()) -> Catalogue:
        """The kinds that the cluster serves; `names` are those beyond the table that are asked for.

        UnavailableError until it could be asked: what it lacks is not known before.
        """
        new = {*names} - kinds.TABLE.keys() - kinds.NO_KINDS - self._wanted
        if new:
            self._wanted |= new
            self._listed.clear()
        found = await self._discovery.look(self._wanted)
        if not self._discovery.asked:
            raise UnavailableError("the API server has not said yet which kinds it serves")
        return found

    async def see(self, namespaces: Iterable[str], kinds_named: Iterable[str] = ()) -> Seen:
        """What these namespaces hold, all of them taken for governed."""
        catalogue = await self.catalogue(kinds_named)
        seen = Seen(Inventory())
        pods: list[Json] = []
        for namespace in namespaces:
            place = await self._list(namespace, catalogue)
            # Who asks has made sure of it: a policy is Ready where its namespaces are governed.
            seen.inventory.namespaces[namespace] = {GOVERNED_LABEL: "true"}
            seen.inventory.unseen |= place.unseen
            for what, body in place.found:
                _put(seen, what, body)
                if isinstance(what, Kind) and what.resource == PODS:
                    pods.append(body)
        named = {*kinds_named} - kinds.NO_KINDS
        missing = {each for each in named if catalogue.find(each) is None}
        seen.inventory.unseen |= dict.fromkeys(missing, "the cluster does not serve this kind")
        return Seen(seen.inventory, seen.bodies, tuple(pods))

    async def governed(self, protected: frozenset[str]) -> list[str]:
        """Every namespace that is governed and not protected, by name."""
        found = (await self._cluster.list(NAMESPACES, labels=f"{GOVERNED_LABEL}=true")).items
        return sorted({each["metadata"]["name"] for each in found} - protected)

    async def _list(self, namespace: str, catalogue: Catalogue) -> _Listed:
        now = self._clock.monotonic()
        self._listed = {name: each for name, each in self._listed.items() if now - each.at < FRESH}
        if namespace not in self._listed:
            wanted: dict[str, Kind | Resource] = {**catalogue.kinds}
            others = ((name, catalogue.find(name)) for name in self._wanted)
            wanted |= {name: kind for name, kind in others if kind is not None}
            wanted |= {each.key: each for each in catalogue.links}
            listed = _Listed(now, [], {})
            for name, what in wanted.items():
                resource = what.resource if isinstance(what, Kind) else what
                try:
                    page = await self._cluster.list(resource, namespace)
                except UNSEEN as error:
                    listed.unseen[name] = str(error)
                    continue
                listed.found.extend((what, body) for body in page.items)
            self._listed[namespace] = listed
        return self._listed[namespace]


def _put(seen: Seen, what: Kind | Resource, body: Json) -> None:
    item: Item | None
    if isinstance(what, Resource):
        item = projections.child(what, body)
    elif what.resource == PODS:
        item = projections.pod(body)
    else:
        item = projections.workload(what, body)
    if item is not None:
        seen.inventory.put(item)
        seen.bodies[item.uid] = body
