"""Find who would start a stop's targets again, and quiet those that it names, while it holds.

Never on the way of a stop: the lock holds without it. What stood there is recorded before the first
write; a fighter that somebody wakes while the stop holds is quieted again. The restore resumes them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from killswitch.api import recording
from killswitch.core import fighters
from killswitch.core.catalogue import Catalogue
from killswitch.core.errors import UNSEEN, ConflictError, KillSwitchError, RefusedError
from killswitch.core.fighters import Fighter, State
from killswitch.core.kinds import Setting, patch
from killswitch.core.resources import RECORDS, Resource
from killswitch.manager import claims
from killswitch.manager.held import Held
from killswitch.manager.places import Places
from killswitch.manager.recorded import Records
from killswitch.ports import Clock, Cluster, Json

_MOST = 50
Recorded = Mapping[str, frozenset[str]]
"""Fields (JSON pointers) whose former value is stored, by uid."""
_FRESH = 5.0
"""Seconds for which listed fighters answer for other Shutdowns, too."""


@dataclass(frozen=True, slots=True)
class Found:
    """One fighter, in words."""

    name: str
    state: State
    message: str = ""

    def as_status(self) -> Json:
        """In wire form."""
        return {"name": self.name, "state": str(self.state), "message": self.message[:1024]}


@dataclass(frozen=True, slots=True)
class _Listed:
    at: float
    bodies: list[Json]
    blind: str


class Fighters:
    """The fighters of every engaged Shutdown."""

    def __init__(self, cluster: Cluster, clock: Clock, places: Places, records: Records) -> None:
        """Nothing has been listed."""
        self._cluster = cluster
        self._clock = clock
        self._places = places
        self._records = records
        self._listed: dict[tuple[str, str], _Listed] = {}

    async def look(self, shutdown: Json, held: Held) -> list[Json]:
        """Quiet those that the stop names; all of them as `status.fighters`, the loud ones first."""
        targets = [held.bodies[each.uid] for each in held.workloads if each.uid in held.bodies]
        if not targets:
            return []
        catalogue = await self._places.catalogue()
        recorded = await self._recorded(shutdown)
        found: list[Found] = []
        present: list[tuple[Fighter, Json]] = []
        for fighter in fighters.TABLE:
            resource = _served(fighter, catalogue)
            if resource is None:
                continue
            for body in await self._matching(fighter, resource, targets, found):
                present.append((fighter, body))
                found.append(await self._one(shutdown, fighter, resource, body, recorded))
        found += _unknown(held, targets, present)
        found.sort(key=lambda each: (each.state is not State.UNQUIETED, each.name))
        return [each.as_status() for each in found[:_MOST]]

    async def _matching(
        self, fighter: Fighter, resource: Resource, targets: Sequence[Json], found: list[Found]
    ) -> list[Json]:
        """The fighters of one kind that start any of these targets; a kind that is hidden is said."""
        places = {each["metadata"]["namespace"] for each in targets}
        matching = []
        for place in [""] if fighter.everywhere else sorted(places):
            listed = await self._list(resource, place)
            if listed.blind:
                words = f"may not be seen, so nobody knows whether one would: {listed.blind}"
                found.append(Found(f"any {resource.kind} {place}".strip(), State.UNQUIETED, words))
            matching += [
                body for body in listed.bodies if any(fighter.starts(body, t) for t in targets)
            ]
        return matching

    async def _list(self, resource: Resource, namespace: str) -> _Listed:
        now, key = self._clock.monotonic(), (resource.key, namespace)
        known = self._listed.get(key)
        if known is None or now - known.at > _FRESH:
            self._listed = {k: each for k, each in self._listed.items() if now - each.at <= _FRESH}
            try:
                page = await self._cluster.list(resource, namespace)
                known = _Listed(now, page.items, "")
            except UNSEEN as error:
                known = _Listed(now, [], str(error))
            self._listed[key] = known
        return known

    async def _one(
        self, shutdown: Json, fighter: Fighter, resource: Resource, body: Json, recorded: Recorded
    ) -> Found:
        """How this one stands, quieted if the stop wants that."""
        name = fighters.title(fighter, body)
        judged = fighter.judge(body)
        stored = recorded.get(body["metadata"]["uid"], frozenset())
        if judged.rests:
            way = _standing(fighter, body)
            if way and all(each.pointer in stored for each in way):
                return Found(name, State.QUIETED, _told(way))
            return Found(name, State.RESTING, judged.words)
        if not fighter.quiet:
            return Found(name, State.UNQUIETED, judged.words)
        if fighter.quiet not in shutdown["spec"].get("quiet", ()):
            words = f"{judged.words}; {fighter.quiet} is not in spec.quiet"
            return Found(name, State.UNQUIETED, words)
        try:
            way = await self._quiet(shutdown, fighter, resource, body, stored)
        except KillSwitchError as error:  # best effort: the lock holds
            return Found(name, State.UNQUIETED, f"{judged.words}; could not be quieted: {error}")
        self._listed.pop((resource.key, body["metadata"]["namespace"]), None)
        self._listed.pop((resource.key, ""), None)
        return Found(name, State.QUIETED, _told(way) + judged.words.partition(";")[2])

    async def _quiet(
        self,
        shutdown: Json,
        fighter: Fighter,
        resource: Resource,
        body: Json,
        stored: frozenset[str],
    ) -> tuple[Setting, ...]:
        """Record what stands there, then write; which fields were written."""
        metadata = body["metadata"]
        place, name = metadata["namespace"], metadata["name"]
        for way in fighter.ways:
            change = patch((each.path, each.rest) for each in way)
            # A version that does not know a field drops it without an error: tried before it is done.
            tried = await self._cluster.patch(resource, name, change, place, dry_run=True)
            if not _is_quiet(tried, way):
                continue
            if any(each.pointer not in stored for each in way):
                await self._record(shutdown, fighter, body, way)
            if _is_quiet(await self._cluster.patch(resource, name, change, place), way):
                return way
        raise RefusedError("its version knows none of the fields by which it could be", 422)

    async def _record(
        self, shutdown: Json, fighter: Fighter, body: Json, way: Iterable[Setting]
    ) -> None:
        """Store what stands in these fields, once."""
        metadata = body["metadata"]
        places = self._records.places(shutdown)
        home = metadata["namespace"] if metadata["namespace"] in places else places[-1]
        entry: Json = {
            "kind": fighter.kind,
            "name": metadata["name"],
            "uid": metadata["uid"],
            "generation": metadata.get("generation", 0),
            "settings": recording.of_settings([(each, each.read(body)) for each in way]),
        }
        if metadata["namespace"] != home:
            entry["namespace"] = metadata["namespace"]
        for number in range(1000):
            record = recording.of_fighters(shutdown, [entry], home, number=number)
            try:
                await self._cluster.create(RECORDS, record, home)
            except ConflictError:
                continue  # the number is taken, by an earlier one
            return
        raise RefusedError("there are a thousand records of fighters", 422)

    async def _recorded(self, shutdown: Json) -> Recorded:
        """What is stored of fighters, by this stop or one that held before it."""
        others = await self._records.others(shutdown)
        holders = {shutdown["metadata"]["uid"], *claims.held_records_at(shutdown, others)}
        found: dict[str, frozenset[str]] = {}
        for each in await self._records.entries(shutdown):
            if each.holder in holders and fighters.recorded(each.record["kind"]):
                fields = {setting["field"] for setting in each.record.get("settings") or ()}
                uid = each.record["uid"]
                found[uid] = found.get(uid, frozenset()) | fields
        return found


def _served(fighter: Fighter, catalogue: Catalogue) -> Resource | None:
    return None if fighter.resource is None else catalogue.serves(fighter.resource.key)


def _standing(fighter: Fighter, body: Json) -> tuple[Setting, ...]:
    """The fields by which it is quiet now."""
    return next((way for way in fighter.ways if _is_quiet(body, way)), ())


def _is_quiet(body: Json, way: Iterable[Setting]) -> bool:
    return all(each.read(body) == each.rest for each in way)


def _told(way: Sequence[Setting]) -> str:
    if not way:
        return ""
    return ", ".join(
        f"{'.'.join(each.path)} taken away" if each.rest is None else str(each) for each in way
    )


def _unknown(
    held: Held, targets: Sequence[Json], present: Sequence[tuple[Fighter, Json]]
) -> Iterable[Found]:
    """Controllers and GitOps that the targets name and nobody can see here."""
    tops = {each.uid for each in held.targets}
    owners = {body["metadata"]["uid"] for _, body in present}
    for target in targets:
        metadata = target["metadata"]
        title = f"{target['kind']} {metadata['namespace']}/{metadata['name']}"
        above = [each for each in metadata.get("ownerReferences") or () if each.get("controller")]
        if metadata["uid"] in tops and above:
            uid = above[0]["uid"]
            if held.inventory.owner_of(uid) is None and uid not in owners:
                words = f"controls {title}, and its kind is not followed: it may start it again"
                yield Found(fighters.owner(target), State.UNQUIETED, words)
        for claim in fighters.claimants(target):
            if not any(fighters.is_claimed_by(claim, *each) for each in present):
                words = f"{title} says that it applies it; it is not to be seen in this cluster"
                yield Found(f"{claim[0]} {claim[1]}", State.UNQUIETED, words)


def after_restore(before: Sequence[Json], resumed: Sequence[str]) -> list[Json]:
    """`status.fighters` once these were given back."""
    return [
        {**each, "state": str(State.RESUMED)}
        if each["name"] in resumed and each["state"] == State.QUIETED
        else dict(each)
        for each in before
    ]
