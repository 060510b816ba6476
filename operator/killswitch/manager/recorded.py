"""What is recorded of a Shutdown's targets, and whose it is to bring each of them back.

Restores work by this, and so does whoever asks what a Shutdown holds: records outlive the pods by which
a scope found its targets.

A record is not believed because it is there: people who may stop write some, and whoever they are, the
manager's rights are not theirs. It counts of what the Shutdown holds, and of a fighter that starts such a
thing; all else is named and left alone. Of two records of one target the earlier counts.
"""

from collections.abc import Iterable, Sequence

from killswitch.core import audit, fighters, undoing
from killswitch.core.conditions import Reason
from killswitch.core.errors import UnavailableError
from killswitch.core.fighters import Fighter
from killswitch.core.kinds import Verb
from killswitch.core.names import CUT_KEY
from killswitch.core.resources import CLUSTER_SHUTDOWNS, NODES, RECORDS, SHUTDOWNS
from killswitch.manager import claims, held
from killswitch.manager.claims import Share, Target
from killswitch.manager.places import Places
from killswitch.manager.present import Present, Touched, Work
from killswitch.manager.sight import Entry, Sight
from killswitch.ports import Cluster, Json

_SUSPEND = "suspend"
_FOREIGN = "is recorded, but not of this Shutdown: left alone"


class Records:
    """Reads what is recorded."""

    def __init__(self, cluster: Cluster, places: Places, *, records_namespace: str) -> None:
        """Keeps no state."""
        self._cluster = cluster
        self._places = places
        self._records_namespace = records_namespace

    async def work(self, shutdown: Json) -> Work:
        """Every target that is recorded of what the Shutdown held, by whose it is to restore."""
        look = _Look(shutdown, await self.others(shutdown))
        entries = await self.entries(shutdown)
        catalogue = await self._places.catalogue(each.record["kind"] for each in entries)
        sight = Sight(self._cluster, catalogue)
        everything, targets, touched = [], [], []
        for entry in entries:
            if fighters.recorded(entry.record["kind"]) or undoing.is_cut(entry.record):
                touched.append(entry)
                continue
            target, blind = await sight.target(entry)
            own = entry.holder == look.uid
            if blind and (own or entry.holder in look.truthful):
                look.work.waits.append((Reason.KIND_UNSEEN, blind))
            everything.append(target)
            if not blind:
                targets.append(target)
        targets = await self._believed(look, targets)
        look.assign(targets)
        for present in look.work.workloads:
            await self._ceil(present, sight)
            await self._leave_to_queue(look, present, sight)
        believed = {each.record["uid"] for each in targets}
        for entry in touched:
            await self._touch(look, entry, sight, everything, believed)
        return look.work

    async def targets(self, shutdown: Json) -> list[Target]:
        """Every recorded workload that the Shutdown holds and that can be seen."""
        look = _Look(shutdown, await self.others(shutdown))
        entries = await self.entries(shutdown)
        catalogue = await self._places.catalogue(each.record["kind"] for each in entries)
        sight = Sight(self._cluster, catalogue)
        found = []
        for entry in entries:
            if entry.record["kind"] == NODES.kind or fighters.recorded(entry.record["kind"]):
                continue
            target, blind = await sight.target(entry)
            if not blind:
                found.append(target)
        return await self._believed(look, found)

    async def others(self, shutdown: Json) -> list[Json]:
        """Every other Shutdown that may cover the same targets, engaged or not."""
        found = [*(await self._cluster.list(CLUSTER_SHUTDOWNS)).items]
        for place in self.places(shutdown):
            found += (await self._cluster.list(SHUTDOWNS, place)).items
        return [each for each in found if each["metadata"]["uid"] != shutdown["metadata"]["uid"]]

    def places(self, shutdown: Json) -> list[str]:
        """Where records of what the Shutdown holds may be."""
        home = shutdown["metadata"].get("namespace") or self._records_namespace
        return list(dict.fromkeys([home, *(shutdown["spec"].get("namespaces") or {})]))

    async def entries(self, shutdown: Json) -> list[Entry]:
        """All that is recorded in these places, whoever recorded it; the earliest first."""
        return [
            Entry(place, entry, record["spec"]["shutdownUid"])
            for place in self.places(shutdown)
            for record in sorted((await self._cluster.list(RECORDS, place)).items, key=_written)
            for entry in record["spec"].get("targets") or ()
        ]

    async def _ceil(self, present: Present, sight: Sight) -> None:
        """Learn how many replicas the target's autoscalers allow at this moment."""
        if not present.kind.counted:
            return
        for fighter in (each for each in fighters.TABLE if each.ceiling):
            for body in (await sight.bodies_of(fighter, present.namespace)).values():
                allowed = fighters.most(fighter, body)
                if allowed is None or not fighter.starts(body, present.body):
                    continue
                if present.ceiling is None or allowed < present.ceiling:
                    present.ceiling, present.ceiling_of = allowed, fighters.title(fighter, body)

    async def _leave_to_queue(self, look: "_Look", present: Present, sight: Sight) -> None:
        """Leave `suspend` of a job to Kueue where that admits it: it would be suspended again at once.

        Its pods would start outside the quota until then, again at each look, without end.
        """
        left = [each for each in present.fields if each.path[-1] == _SUSPEND]
        if not left:
            return
        if present.body["metadata"]["uid"] in await sight.admitted_by_others(present.namespace):
            present.fields = [each for each in present.fields if each not in left]
            path = ".".join(left[0].path)
            look.work.remarks.append(f"{present.name}: {path} is left to Kueue, which admits it")

    async def _touch(
        self,
        look: "_Look",
        entry: Entry,
        sight: Sight,
        targets: Sequence[Target],
        believed: set[str],
    ) -> None:
        """Put one cut Service or quieted fighter where it belongs."""
        own = entry.holder == look.uid
        fighter = fighters.recorded(entry.record["kind"])
        if not own and entry.holder not in look.truthful:
            return
        resource, bodies, blind = await sight.touched(entry, fighter)
        title = f"{entry.record['kind']} {entry.namespace}/{entry.record['name']}"
        if blind or resource is None:
            if own:
                look.work.waits.append((Reason.KIND_UNSEEN, f"{title}: {blind}"))
            return
        body = bodies.get(entry.record["name"])
        if body is None or body["metadata"]["uid"] != entry.record["uid"]:
            if own:
                look.work.vanished.append(title)
            return
        served = [
            each
            for each in targets
            if each.body is not None
            and (
                fighter.starts(body, each.body)
                if fighter is not None
                else _selects(body, each.body)
            )
        ]
        ours = any(each.record["uid"] in believed for each in served)
        if not own and not ours:
            return  # it is about targets of another Shutdown alone
        if fighter is not None and not ours and not await self._starts(look, fighter, body):
            look.work.remarks.append(f"{title} {_FOREIGN}")
            return
        found = undoing.fields(entry.record, entry.holder)
        touched = Touched(
            resource,
            entry.namespace,
            entry.record["name"],
            body,
            found,
            gitops=fighter is not None and fighter.everywhere,
        )
        look.assign_touched(touched, served, fighter)

    async def _believed(self, look: "_Look", targets: Iterable[Target]) -> list[Target]:
        """Those that the Shutdown holds, by its lock or scope, or below what these hold."""
        found = []
        for each in targets:
            if claims.holds(look.shutdown, each):
                found.append(each)
            elif each.holder == look.uid:
                standing = await self._standing(look) if each.body is not None else {}
                if each.body is not None and each.body["metadata"]["uid"] in standing:
                    found.append(each)
                else:
                    look.work.remarks.append(f"{each.name} {_FOREIGN}")
        return found

    async def _starts(self, look: "_Look", fighter: Fighter, body: Json) -> bool:
        """Whether it starts anything that the Shutdown holds, be it recorded or not."""
        return any(fighter.starts(body, each) for each in (await self._standing(look)).values())

    async def _standing(self, look: "_Look") -> dict[str, Json]:
        """The workloads that the Shutdown holds now by itself, and all below them, by uid."""
        if look.standing is None:
            found = await held.look(self._places, (), look.shutdown)
            if found.hidden:  # what is not seen is not foreign: the restore asks again
                raise UnavailableError(f"what it holds is not known: {found.hidden}")
            uids = [each.uid for each in found.workloads]
            look.standing = {uid: found.bodies[uid] for uid in uids if uid in found.bodies}
        return look.standing


class _Look:
    """One look at one Shutdown: who else there is, and the work as far as it was found."""

    def __init__(self, shutdown: Json, others: list[Json]) -> None:
        self.shutdown = shutdown
        self.others = others
        self.uid = shutdown["metadata"]["uid"]
        self.truthful = {self.uid, *claims.held_records_at(shutdown, others)}
        """Shutdowns whose records are the truth of what this one holds."""
        self._living = {self.uid, *(each["metadata"]["uid"] for each in others)}
        self.standing: dict[str, Json] | None = None
        """The workloads that it holds now, by uid; None: not looked yet."""
        self.work = Work()

    def assign(self, targets: Iterable[Target]) -> None:
        """Put each target where it belongs; what is recorded twice is brought back once."""
        found: dict[str, Target] = {}
        orphans: list[Target] = []
        for target in targets:
            own = target.holder == self.uid
            if target.holder not in self._living:
                orphans.append(target)
            elif own or target.holder in self.truthful:
                uid = target.record["uid"]
                if uid not in found or (own and found[uid].holder != self.uid):
                    found[uid] = target
        for target in found.values():
            self._one(target)
        for target in orphans:
            if target.record["uid"] not in found and (words := _orphan(target)):
                self.work.orphans.append(words)

    def _one(self, target: Target) -> None:
        whose, decisive = claims.share(self.shutdown, self.others, target)
        if whose is not Share.OURS:
            self._elsewhere(target.name, whose, decisive)
        elif target.record["kind"] == NODES.kind:
            self.work.nodes.append(target.record)
        elif target.kind.verb is Verb.RECREATE:
            self._pod(target)
        elif target.body is None:
            self.work.vanished.append(target.name)
        else:
            recorded = undoing.fields(target.record, target.holder, target.kind)
            self.work.workloads.append(Present(target, target.body, recorded))
            if not target.kind.settings:
                words = f"{target.name} has no rest that was to be undone: its controller starts it"
                self.work.remarks.append(words)

    def _pod(self, target: Target) -> None:
        if target.body is not None:
            self.work.remarks.append(f"{target.name} is there")
        elif target.record.get("manifest"):
            self.work.pods.append(target)
        else:
            self.work.vanished.append(target.name)

    def _elsewhere(self, name: str, whose: Share, decisive: Json) -> None:
        title = audit.reference(decisive)
        match whose:
            case Share.DONE:
                self.work.returned.append(f"{name} came back with {title}")
            case Share.LATER:
                words = (
                    f"{name} was stopped again by {title}: the restore of that one brings it back"
                )
                self.work.waits.append((Reason.SUPERSEDED, words))
            case _:
                words = f"{name} is held by {title} too: its restore must be ordered as well"
                self.work.waits.append((Reason.HELD_ELSEWHERE, words))

    def assign_touched(
        self, touched: Touched, served: Sequence[Target], fighter: Fighter | None
    ) -> None:
        """Put a Service or a fighter where it belongs: it waits for all of the targets that it serves."""
        rivals = [
            other for other in self.others if any(claims.covers(other, each) for each in served)
        ]
        whose, decisive = claims.among(self.shutdown, rivals)
        if whose is Share.OURS:
            kept = self.work.traffic if fighter is None else self.work.fighters
            if all(each.title != touched.title for each in kept):
                kept.append(touched)
        else:
            self._elsewhere(touched.title, whose, decisive)


def _written(record: Json) -> tuple[str, str]:
    metadata = record["metadata"]
    return metadata["creationTimestamp"], metadata["name"]


def _orphan(target: Target) -> str | None:
    """What a deleted Shutdown recorded of a workload that still stands at 0; None otherwise.

    It is named and not used: the deletion may lie years back, and the count be another by now.
    """
    if target.body is None or target.record["kind"] == NODES.kind:
        return None
    present = Present(
        target, target.body, undoing.fields(target.record, target.holder, target.kind)
    )
    if not present.down or target.body["metadata"]["uid"] != target.record["uid"]:
        return None
    if not present.kind.counted:
        return f"{present.name} was stopped by a deleted Shutdown"
    return f"{present.name} had {present.recorded} replicas when a deleted Shutdown stopped it"


def _selects(service: Json, workload: Json) -> bool:
    """Whether a Service (or InferencePool) without its cut selects the pods of a workload."""
    selector = dict((service.get("spec") or {}).get("selector") or {})
    selector = dict(selector.get("matchLabels") or selector)
    wanted = {key: value for key, value in selector.items() if key != CUT_KEY}
    return claims.makes_pods_with(workload, wanted)
