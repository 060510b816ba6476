"""What is there now of the objects that records name; or why that cannot be seen."""

from dataclasses import dataclass

from killswitch.core import kinds
from killswitch.core.catalogue import Catalogue
from killswitch.core.errors import ANSWERED
from killswitch.core.fighters import Fighter
from killswitch.core.resources import NODES, SERVICES, Resource
from killswitch.manager.claims import Target
from killswitch.ports import Cluster, Json


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a record, and the Shutdown that wrote it."""

    place: str
    record: Json
    holder: str

    @property
    def namespace(self) -> str:
        """Where the object itself is."""
        return str(self.record.get("namespace") or self.place)


class Sight:
    """What is there now of the kinds that records name, each listed once."""

    def __init__(self, cluster: Cluster, catalogue: Catalogue) -> None:
        """Nothing has been listed; the catalogue says what is served."""
        self._cluster = cluster
        self._catalogue = catalogue
        self._listed: dict[tuple[str, str], tuple[dict[str, Json], str]] = {}

    async def target(self, entry: Entry) -> tuple[Target, str]:
        """The recorded target as it is now; or why that cannot be seen."""
        name = entry.record["kind"]
        if name == NODES.kind:
            return Target(entry.place, entry.record, entry.holder, None), ""
        kind = self._catalogue.find(name)
        if kind is None:
            guess = kinds.recorded(name)
            target = Target(entry.namespace, entry.record, entry.holder, None, guess)
            return target, f"{target.name}: the cluster does not serve its kind"
        bodies, blind = await self._bodies(kind.resource, entry.namespace)
        body = bodies.get(entry.record["name"])
        target = Target(entry.namespace, entry.record, entry.holder, body, kind)
        return target, f"{target.name}: {blind}" if blind else ""

    async def touched(
        self, entry: Entry, fighter: Fighter | None
    ) -> tuple[Resource | None, dict[str, Json], str]:
        """The resource of a Service or fighter, what is there of it, or why that cannot be seen."""
        if fighter is not None and fighter.resource is not None:
            resource = self._catalogue.serves(fighter.resource.key)
        elif entry.record["kind"] == SERVICES.kind:
            resource = SERVICES
        else:
            kind = self._catalogue.find(entry.record["kind"])
            resource = None if kind is None else kind.resource
        if resource is None:
            return None, {}, "the cluster does not serve its kind"
        bodies, blind = await self._bodies(resource, entry.namespace)
        return resource, bodies, blind

    async def bodies_of(self, fighter: Fighter, namespace: str) -> dict[str, Json]:
        """The fighters of this kind there, by name; none where they are not served or seen."""
        served = self._catalogue.serves(fighter.resource.key) if fighter.resource else None
        return {} if served is None else (await self._bodies(served, namespace))[0]

    async def admitted_by_others(self, namespace: str) -> frozenset[str]:
        """Uids of jobs there that start when somebody else admits them: Kueue has a Workload for each."""
        found: set[str] = set()
        for name, known in kinds.TABLE.items():
            kind = self._catalogue.find(name) if known.with_owner else None
            if kind is not None:
                bodies, _ = await self._bodies(kind.resource, namespace)
                for body in bodies.values():
                    owners = body["metadata"].get("ownerReferences") or ()
                    found |= {each["uid"] for each in owners if each.get("controller")}
        return frozenset(found)

    async def _bodies(self, resource: Resource, namespace: str) -> tuple[dict[str, Json], str]:
        key = resource.key, namespace
        if key not in self._listed:
            try:
                page = await self._cluster.list(resource, namespace)
                self._listed[key] = {each["metadata"]["name"]: each for each in page.items}, ""
            except ANSWERED as error:
                self._listed[key] = {}, str(error)
        return self._listed[key]
