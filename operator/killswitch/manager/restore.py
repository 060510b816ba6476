"""Bring back exactly what was there: canary, soak, then the recorded count. Never more.

Level-triggered: each look compares what was recorded with what is, does the next step and returns
what to say. The only memory is `status.stages.canaryReady`, so a manager that starts in the middle
goes on. What changed meanwhile is shown and needs a person's `acceptDrift`; what somebody else has
scaled meanwhile is left alone; what another Shutdown covers too is shared out by `claims.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from killswitch.core import durations, kinds, projections, times
from killswitch.core.conditions import Reason
from killswitch.core.errors import RefusedError
from killswitch.core.kinds import Kind
from killswitch.core.resources import CLUSTER_SHUTDOWNS, NODES, RECORDS, SHUTDOWNS
from killswitch.manager import claims, nodes
from killswitch.manager.claims import Share, Target
from killswitch.ports import Clock, Cluster, Json

_HELD = "held down by"
_SOON, _LATER, _SELDOM = 0.5, 5.0, 30.0


@dataclass(slots=True)
class Present:
    """One recorded workload as it is now."""

    namespace: str
    record: Json
    body: Json

    @property
    def kind(self) -> Kind:
        """Its kind."""
        return kinds.recorded(self.record["kind"])

    @property
    def name(self) -> str:
        """`Deployment prod/vllm`."""
        return f"{self.record['kind']} {self.namespace}/{self.record['name']}"

    @property
    def recorded(self) -> int:
        """How many replicas were there; absent meant 1."""
        return int(self.record.get("replicas", 1))

    @property
    def replicas(self) -> int:
        """How many are asked for now."""
        return int(self.body["spec"].get("replicas", 1))

    @property
    def ready(self) -> int:
        """How many are ready now."""
        return int(self.body.get("status", {}).get("readyReplicas", 0))

    @property
    def down(self) -> bool:
        """Whether it stands at 0 and did not before."""
        return self.replicas == 0 < self.recorded

    def drift(self) -> str | None:
        """What changed since it was recorded, in a sentence."""
        if self.body["metadata"]["uid"] != self.record["uid"]:
            return f"{self.name} was re-created"
        if projections.template_digest(self.kind, self.body) != self.record["templateDigest"]:
            return f"{self.name} has another pod template"
        return None


@dataclass(frozen=True, slots=True)
class Step:
    """What a look at a restore amounts to."""

    done: bool
    reason: Reason
    message: str
    canary_ready: str | None = None
    """Since when the canaries are ready; None forgets an earlier soak."""
    again: float | None = _SOON
    """Seconds until the next look."""


@dataclass(slots=True)
class Work:
    """What one Shutdown's restore has to do, and what is others' to do."""

    workloads: list[Present] = field(default_factory=list)
    nodes: list[Json] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    """Brought back by a later Shutdown's restore."""
    waits: list[tuple[Reason, str]] = field(default_factory=list)
    """Why a target is not this restore's to bring back, now."""
    orphans: list[str] = field(default_factory=list)
    """At 0 and recorded by nobody but a Shutdown that was deleted."""

    @property
    def empty(self) -> bool:
        """Whether nothing at all is recorded of what the Shutdown held."""
        return not (self.workloads or self.nodes or self.vanished or self.returned or self.waits)


class Restorer:
    """The flow of one Shutdown's restore."""

    def __init__(self, cluster: Cluster, clock: Clock, *, records_namespace: str) -> None:
        """Keeps no state."""
        self._cluster = cluster
        self._clock = clock
        self._records_namespace = records_namespace

    async def look(self, shutdown: Json) -> Step:
        """Do the next step of a released Shutdown whose restore was asked for."""
        work = await self._work(shutdown)
        if work.empty:
            return _nothing_recorded(work.orphans)
        drift = [found for each in work.workloads if (found := each.drift())]
        if drift and not shutdown["spec"]["restore"].get("acceptDrift"):
            words = "; ".join(drift[:10])
            cure = "look at it, then: kubectl killswitch restore --accept-drift"
            return Step(done=False, reason=Reason.DRIFT, message=f"{words}. {cure}", again=5.0)
        try:
            await nodes.give_back(self._cluster, shutdown, work.nodes)
            step = await self._stages(shutdown, work) if work.workloads else _complete(work)
        except RefusedError as error:
            if _HELD not in str(error):
                raise
            message = str(error)
            return Step(done=False, reason=Reason.HELD_ELSEWHERE, message=message, again=_LATER)
        return _closed(step, work) if step.done else step

    async def _stages(self, shutdown: Json, work: Work) -> Step:
        terms = shutdown["spec"]["restorePolicy"]
        canary = int(terms["canaryReplicas"])
        ready_since = shutdown.get("status", {}).get("stages", {}).get("canaryReady")
        if ready_since is None or any(each.down for each in work.workloads):
            # At 0 after the soak began: somebody stopped it meanwhile, so it begins anew.
            waiting = await self._raise(work.workloads, canary, {0})
            if waiting:
                return Step(done=False, reason=Reason.CANARY, message=f"waits for {waiting}")
            ready_since = times.text(self._clock.now())
        soaked = self._clock.now() - times.seconds(ready_since)
        left = durations.seconds(terms["soak"]) - soaked
        if left > 0:
            message = f"the canaries are ready; {durations.text(left)} of soak left"
            return Step(
                done=False,
                reason=Reason.SOAKING,
                message=message,
                canary_ready=ready_since,
                again=min(left, 2.0),
            )
        waiting = await self._raise(work.workloads, None, {0, canary})
        if waiting:
            return Step(
                done=False,
                reason=Reason.FULL,
                message=f"waits for {waiting}",
                canary_ready=ready_since,
            )
        return _complete(work, ready_since)

    async def _raise(self, present: Sequence[Present], limit: int | None, ours: set[int]) -> str:
        """Raise each workload to its recorded count, at most to `limit`; who is not ready yet.

        Only from a count in `ours`, where this restore left it: any other is somebody else's
        decision. (A person who chose the canaries' own count cannot be told from this restore.)
        """
        waiting = []
        for each in present:
            want = each.recorded if limit is None else min(limit, each.recorded)
            if each.replicas in ours and each.replicas < want:
                body = {"spec": {"replicas": want}}
                resource = each.kind.resource
                await self._cluster.patch(
                    resource, each.record["name"], body, each.namespace, subresource="scale"
                )
                waiting.append(each.name)
            elif each.ready < min(want, each.replicas):
                waiting.append(each.name)
        return ", ".join(waiting[:5])

    async def _work(self, shutdown: Json) -> Work:
        """Every target that is recorded of what the Shutdown held, by whose it is to restore."""
        metadata = shutdown["metadata"]
        others = await self._others(shutdown)
        truthful = {metadata["uid"], *claims.held_records_at(shutdown, others)}
        living = {metadata["uid"], *(each["metadata"]["uid"] for each in others)}
        found: dict[str, Target] = {}
        orphans: list[Target] = []
        for target in await self._recorded(shutdown):
            own = target.holder == metadata["uid"]
            if target.holder not in living:
                orphans.append(target)
            elif own or (target.holder in truthful and target.record["uid"] not in found):
                found[target.record["uid"]] = target
        work = Work()
        for target in found.values():
            _assign(work, shutdown, others, target)
        for target in orphans:
            if target.record["uid"] not in found and (words := _orphan(target)):
                work.orphans.append(words)
        return work

    async def _others(self, shutdown: Json) -> list[Json]:
        """Every other Shutdown that may cover the same targets, engaged or not."""
        found = [*(await self._cluster.list(CLUSTER_SHUTDOWNS)).items]
        for place in self._places(shutdown):
            found += (await self._cluster.list(SHUTDOWNS, place)).items
        return [each for each in found if each["metadata"]["uid"] != shutdown["metadata"]["uid"]]

    def _places(self, shutdown: Json) -> list[str]:
        home = shutdown["metadata"].get("namespace") or self._records_namespace
        return list(dict.fromkeys([home, *(shutdown["spec"].get("namespaces") or {})]))

    async def _recorded(self, shutdown: Json) -> list[Target]:
        """Every recorded target that the Shutdown covers, whoever recorded it."""
        found = []
        for place in self._places(shutdown):
            records = (await self._cluster.list(RECORDS, place)).items
            present = await self._present(records, place)
            generations = _generations(records)
            for record in records:
                holder = record["spec"]["shutdownUid"]
                own = holder == shutdown["metadata"]["uid"]
                for entry in record["spec"].get("targets") or ():
                    body = present.get((entry["kind"], entry["name"]))
                    seen = generations[entry["uid"]]
                    target = Target(place, entry, holder, body, seen)
                    if own or claims.covers(shutdown, target):
                        found.append(target)
        return found

    async def _present(self, records: Iterable[Json], place: str) -> dict[tuple[str, str], Json]:
        """What is there now of the kinds that these records name, by kind and name."""
        named = {
            entry["kind"] for each in records for entry in each["spec"].get("targets") or ()
        } - {NODES.kind}
        found: dict[tuple[str, str], Json] = {}
        for name in named:
            page = await self._cluster.list(kinds.recorded(name).resource, place)
            found |= {(name, body["metadata"]["name"]): body for body in page.items}
        return found


def _assign(work: Work, shutdown: Json, others: Sequence[Json], target: Target) -> None:
    """Put one target where it belongs."""
    whose, decisive = claims.share(shutdown, others, target)
    name, title = target.name, claims.title(decisive)
    match whose:
        case Share.DONE:
            work.returned.append(f"{name} came back with {title}")
        case Share.LATER:
            words = f"{name} was stopped again by {title}: the restore of that one brings it back"
            work.waits.append((Reason.SUPERSEDED, words))
        case Share.EARLIER:
            words = f"{name} is held by {title} too: its restore must be ordered as well"
            work.waits.append((Reason.HELD_ELSEWHERE, words))
        case Share.OURS:
            if target.record["kind"] == "Node":
                work.nodes.append(target.record)
            elif target.body is None:
                work.vanished.append(name)
            else:
                work.workloads.append(Present(target.place, target.record, target.body))


def _generations(records: Iterable[Json]) -> dict[str, dict[str, int]]:
    """Target → Shutdown → generation of the target that it recorded, all by uid."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for record in records:
        for entry in record["spec"].get("targets") or ():
            found[entry["uid"]][record["spec"]["shutdownUid"]] = entry.get("generation", 0)
    return found


def _orphan(target: Target) -> str | None:
    """What a deleted Shutdown recorded of a workload that still stands at 0; None otherwise.

    It is named and not used: the deletion may lie years back, and the count be another by now.
    """
    if target.body is None or target.record["kind"] == "Node":
        return None
    present = Present(target.place, target.record, target.body)
    if not present.down or target.body["metadata"]["uid"] != target.record["uid"]:
        return None
    return f"{present.name} had {present.recorded} replicas when a deleted Shutdown stopped it"


def _nothing_recorded(orphans: Sequence[str]) -> Step:
    known = "; ".join(orphans[:5])
    words = "nothing is recorded of what this stop held, so nothing comes back by it"
    message = f"{words}; {known}: scale it by hand" if known else words
    return Step(done=False, reason=Reason.NOTHING_RECORDED, message=message, again=_SELDOM)


def _complete(work: Work, canary_ready: str | None = None) -> Step:
    message = _summary(work)
    return Step(
        done=True,
        reason=Reason.COMPLETE,
        message=message,
        canary_ready=canary_ready,
        again=None,
    )


def _closed(step: Step, work: Work) -> Step:
    """The last step, kept open while some target is another restore's, or nobody's."""
    if work.waits:
        reason = work.waits[0][0]
        words = "; ".join(text for _, text in work.waits[:5])
        message = f"{words}; {step.message}" if work.workloads else words
        return replace(
            step, done=False, reason=reason, message=message, canary_ready=None, again=_LATER
        )
    if work.orphans:
        words = f"{'; '.join(work.orphans[:5])}: scale it by hand; {step.message}"
        return replace(
            step, done=False, reason=Reason.NOTHING_RECORDED, message=words, again=_SELDOM
        )
    return step


def _summary(work: Work) -> str:
    others = [each for each in work.workloads if each.replicas != each.recorded]
    parts = []
    if work.workloads or not (work.returned or work.nodes):
        parts.append(f"{len(work.workloads) - len(others)} workloads at their recorded count")
    parts += [f"{len(work.nodes)} nodes as they were"] if work.nodes else []
    parts += [
        f"{each.name} stands at {each.replicas} by somebody else, recorded {each.recorded}"
        for each in others[:5]
    ]
    parts += [f"{name} is gone" for name in work.vanished[:5]]
    parts += work.returned[:5]
    return "; ".join(parts)
