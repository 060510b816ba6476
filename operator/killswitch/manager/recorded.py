"""What is recorded of a Shutdown's targets, beside what they are now, and whose it is to bring back.

Restores work by this, and so does whoever asks what a Shutdown holds: records outlive the pods by which
a scope found its targets.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from killswitch.core import fighters, kinds, projections, undoing
from killswitch.core.catalogue import Catalogue
from killswitch.core.conditions import Reason
from killswitch.core.errors import NotFoundError, RefusedError
from killswitch.core.fighters import Fighter
from killswitch.core.kinds import Kind, Verb
from killswitch.core.names import CUT_KEY
from killswitch.core.resources import (
    CLUSTER_SHUTDOWNS,
    NODES,
    RECORDS,
    SERVICES,
    SHUTDOWNS,
    Resource,
)
from killswitch.core.undoing import Field
from killswitch.manager import claims
from killswitch.manager.claims import Share, Target
from killswitch.manager.places import Places
from killswitch.ports import Cluster, Json

REPORTS_READY = frozenset(
    {
        "deployments.apps",
        "statefulsets.apps",
        "replicasets.apps",
        "replicationcontrollers",
        "rollouts.argoproj.io",
        "leaderworkersets.leaderworkerset.x-k8s.io",
        "stormservices.orchestration.aibrix.ai",
    }
)
"""Kinds whose controllers count ready replicas: where they say nothing, none is ready."""


@dataclass(slots=True)
class Present:
    """One recorded workload as it is now."""

    target: Target
    body: Json
    fields: list[Field] = field(default_factory=list)
    """What a stop wrote into it, of kinds without a count."""
    ceiling: int | None = None
    """The most replicas that its autoscaler allows now; None: any number, as far as is known."""
    ceiling_of: str = ""

    @property
    def kind(self) -> Kind:
        """Its kind, as the cluster serves it."""
        return self.target.kind

    @property
    def namespace(self) -> str:
        """Where it is."""
        return self.target.place

    @property
    def name(self) -> str:
        """`Deployment prod/vllm`."""
        return self.target.name

    @property
    def recorded(self) -> int:
        """How many replicas were there; absent meant 1."""
        return int(self.target.record.get("replicas", 1))

    @property
    def wanted(self) -> int:
        """How many may come back: what was there, and no more than its autoscaler allows."""
        return self.recorded if self.ceiling is None else min(self.recorded, self.ceiling)

    @property
    def replicas(self) -> int:
        """How many are asked for now."""
        found = self.kind.settings[0].read(self.body)
        return found if isinstance(found, int) else 1

    @property
    def ready(self) -> int | None:
        """How many are ready now; None: its controller does not say."""
        status = self.body.get("status") or {}
        if status and self.kind.resource.key in REPORTS_READY:
            return int(status.get("readyReplicas", 0))
        for name in ("readyReplicas", "availableReplicas", "replicas"):
            if isinstance(status.get(name), int):
                return int(status[name])
        return None

    @property
    def down(self) -> bool:
        """Whether it stands as the stop left it, and did not before."""
        if self.kind.counted:
            return self.replicas == 0 < self.recorded
        return any(each.stands(self.body) for each in self.fields)

    @property
    def settled(self) -> bool:
        """Of a kind without a count: whether its controller has followed, as far as it says."""
        status, metadata = self.body.get("status") or {}, self.body["metadata"]
        if "numberReady" in status:  # a DaemonSet
            seen = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
            return bool(seen and status["numberReady"] >= status["desiredNumberScheduled"])
        observed = status.get("conditions") or ()
        return not any(
            each.get("type") == "Ready" and each["status"] != "True" for each in observed
        )

    def drift(self) -> str | None:
        """What changed since it was recorded, in a sentence."""
        if not self.kind.settings:  # nothing is written, so nothing can go wrong by it
            return None
        record = self.target.record
        if self.body["metadata"]["uid"] != record["uid"]:
            return f"{self.name} was re-created"
        if projections.template_digest(self.kind, self.body) != record["templateDigest"]:
            what = "pod template" if self.kind.template else "spec"
            return f"{self.name} has another {what}"
        return None

    def differs(self) -> str:
        """How somebody else has changed what the stop wrote, in a sentence; empty: nobody has."""
        if not self.kind.counted:
            found = [words for each in self.fields if (words := each.conflict(self.body))]
            return f"{self.name}: {', '.join(found)}, left so" if found else ""
        if self.replicas == self.recorded:
            return ""
        if self.replicas == self.wanted:
            limit = f"its {self.ceiling_of} allows no more"
            return f"{self.name} stands at {self.replicas}, {limit}, recorded {self.recorded}"
        return f"{self.name} stands at {self.replicas} by somebody else, recorded {self.recorded}"


@dataclass(slots=True)
class Touched:
    """A Service whose traffic was cut, or a fighter that was quieted."""

    resource: Resource
    namespace: str
    name: str
    body: Json
    fields: list[Field]
    gitops: bool = False

    @property
    def title(self) -> str:
        """`ScaledObject prod/vllm`."""
        return f"{self.resource.kind} {self.namespace}/{self.name}"

    @property
    def conflicts(self) -> list[str]:
        """What somebody else has made of it."""
        found = [words for each in self.fields if (words := each.conflict(self.body))]
        return [f"{self.title}: {', '.join(found)}, left so"] if found else []


@dataclass(slots=True)
class Work:
    """What one Shutdown's restore has to do, and what is others' to do."""

    workloads: list[Present] = field(default_factory=list)
    nodes: list[Json] = field(default_factory=list)
    pods: list[Target] = field(default_factory=list)
    """Pods that nobody owned and that are gone, to be made again."""
    traffic: list[Touched] = field(default_factory=list)
    fighters: list[Touched] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    """Brought back by a later Shutdown's restore."""
    waits: list[tuple[Reason, str]] = field(default_factory=list)
    """Why a target is not this restore's to bring back, now."""
    orphans: list[str] = field(default_factory=list)
    """At 0 and recorded by nobody but a Shutdown that was deleted."""
    remarks: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing at all is recorded of what the Shutdown held."""
        parts = (self.workloads, self.nodes, self.pods, self.traffic, self.fighters)
        return not (any(parts) or self.vanished or self.returned or self.waits or self.remarks)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a record, and the Shutdown that wrote it."""

    place: str
    record: Json
    holder: str

    @property
    def namespace(self) -> str:
        """Where the object itself is."""
        return str(self.record.get("namespace") or self.place)


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
        sight = _Sight(self._cluster, catalogue)
        generations = _generations(entries)
        everything, targets, touched = [], [], []
        for entry in entries:
            if fighters.recorded(entry.record["kind"]) or undoing.is_cut(entry.record):
                touched.append(entry)
                continue
            target, blind = await sight.target(entry, generations[entry.record["uid"]])
            own = entry.holder == look.uid
            if blind and (own or entry.holder in look.truthful):
                look.work.waits.append((Reason.KIND_UNSEEN, blind))
            everything.append(target)
            if not blind and (own or claims.covers(shutdown, target)):
                targets.append(target)
        look.assign(targets)
        for present in look.work.workloads:
            await self._ceil(present, sight)
        held = {each.record["uid"] for each in targets}
        for entry in touched:
            await self._touch(look, entry, sight, everything, held)
        return look.work

    async def targets(self, shutdown: Json) -> list[Target]:
        """Every recorded workload that the Shutdown covers and that can be seen."""
        entries = await self.entries(shutdown)
        catalogue = await self._places.catalogue(each.record["kind"] for each in entries)
        sight = _Sight(self._cluster, catalogue)
        found = []
        for entry in entries:
            if entry.record["kind"] == NODES.kind or fighters.recorded(entry.record["kind"]):
                continue
            target, blind = await sight.target(entry, {})
            own = entry.holder == shutdown["metadata"]["uid"]
            if not blind and (own or claims.covers(shutdown, target)):
                found.append(target)
        return found

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

    async def entries(self, shutdown: Json) -> list[_Entry]:
        """All that is recorded in these places, whoever recorded it."""
        return [
            _Entry(place, entry, record["spec"]["shutdownUid"])
            for place in self.places(shutdown)
            for record in (await self._cluster.list(RECORDS, place)).items
            for entry in record["spec"].get("targets") or ()
        ]

    async def _ceil(self, present: Present, sight: "_Sight") -> None:
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

    async def _touch(
        self,
        look: "_Look",
        entry: _Entry,
        sight: "_Sight",
        targets: Sequence[Target],
        held: set[str],
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
        if not own and not any(each.record["uid"] in held for each in served):
            return  # it is about targets of another Shutdown alone
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


class _Look:
    """One look at one Shutdown: who else there is, and the work as far as it was found."""

    def __init__(self, shutdown: Json, others: list[Json]) -> None:
        self.shutdown = shutdown
        self.others = others
        self.uid = shutdown["metadata"]["uid"]
        self.truthful = {self.uid, *claims.held_records_at(shutdown, others)}
        """Shutdowns whose records are the truth of what this one holds."""
        self._living = {self.uid, *(each["metadata"]["uid"] for each in others)}
        self.work = Work()

    def assign(self, targets: Iterable[Target]) -> None:
        """Put each target where it belongs; what is recorded twice is brought back once."""
        found: dict[str, Target] = {}
        orphans: list[Target] = []
        for target in targets:
            own = target.holder == self.uid
            if target.holder not in self._living:
                orphans.append(target)
            elif own or (target.holder in self.truthful and target.record["uid"] not in found):
                found[target.record["uid"]] = target
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
        title = claims.title(decisive)
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


class _Sight:
    """What is there now of the kinds that records name, each listed once."""

    def __init__(self, cluster: Cluster, catalogue: Catalogue) -> None:
        self._cluster = cluster
        self._catalogue = catalogue
        self._listed: dict[tuple[str, str], tuple[dict[str, Json], str]] = {}

    async def target(self, entry: _Entry, generations: dict[str, int]) -> tuple[Target, str]:
        """The recorded target as it is now; or why that cannot be seen."""
        name = entry.record["kind"]
        if name == NODES.kind:
            return Target(entry.place, entry.record, entry.holder, None, generations), ""
        kind = self._catalogue.find(name)
        if kind is None:
            guess = kinds.recorded(name)
            target = Target(entry.place, entry.record, entry.holder, None, generations, guess)
            return target, f"{target.name}: the cluster does not serve its kind"
        bodies, blind = await self._bodies(kind.resource, entry.namespace)
        body = bodies.get(entry.record["name"])
        target = Target(entry.place, entry.record, entry.holder, body, generations, kind)
        return target, f"{target.name}: {blind}" if blind else ""

    async def touched(
        self, entry: _Entry, fighter: Fighter | None
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

    async def _bodies(self, resource: Resource, namespace: str) -> tuple[dict[str, Json], str]:
        key = resource.key, namespace
        if key not in self._listed:
            try:
                page = await self._cluster.list(resource, namespace)
                self._listed[key] = {each["metadata"]["name"]: each for each in page.items}, ""
            except (NotFoundError, RefusedError) as error:
                self._listed[key] = {}, str(error)
        return self._listed[key]


def _generations(entries: Iterable[_Entry]) -> dict[str, dict[str, int]]:
    """Target → Shutdown → generation of the target that it recorded, all by uid."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for each in entries:
        found[each.record["uid"]][each.holder] = each.record.get("generation", 0)
    return found


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
