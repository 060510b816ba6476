"""The stop sequence, in the order that measurements dictate: lock, delete, bring to rest, prove.

    engage    1 create the Shutdown: the API server has agreed, recorded and locked   engaging.py
    execute     Graceful: cut the traffic, let what is under way end                  draining.py
              2 delete the pods with one second of grace; Graceful: first their own   deleting.py
              3 record what was there, then scale to 0, or what rest is for a kind    records.py
              4 prove the lock by a refused dry run, sweep until no pod is left       proof.py

Nodes are stopped in another order: nodes.py.

Lock before delete: otherwise controllers re-create pods during the stop. Pods before scale: a
controller's own delete, with the workload's long grace, would otherwise win. Every step may be
repeated, by this process or another one; nothing depends on memory. The reactor runs it when a
policy fires and for every engaged Shutdown it finds; the command line runs it with a person's
own token. It must not decide anything: what is stopped stands in the Shutdown.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from killswitch.api.orders import Order
from killswitch.api.recording import Touched
from killswitch.core import blind_spots, grace, kinds, manifests, projections
from killswitch.core.blind_spots import NotKnown
from killswitch.core.errors import (
    KillSwitchError,
    NotFoundError,
    RefusedError,
    ServerError,
    TimedOutError,
)
from killswitch.core.grace import Grace
from killswitch.core.inventory import Pod, Workload
from killswitch.core.kinds import Verb
from killswitch.core.locks import engaged
from killswitch.core.resources import CLUSTER_SHUTDOWNS, PODS, SHUTDOWNS
from killswitch.core.stops import Stop, holds_pod
from killswitch.ports import Clock, Cluster, Json, SignalSource
from killswitch.reactor import draining, engaging, proof, records
from killswitch.reactor.deleting import PATIENCE, WIDTH, Deletions, Was
from killswitch.reactor.draining import Draining, Told
from killswitch.reactor.fan_out import fan_out
from killswitch.reactor.nodes import NodeSequence
from killswitch.reactor.persistence import persistently
from killswitch.reactor.proof import Trial
from killswitch.reactor.records import at_rest
from killswitch.reactor.shared import SharedLists

_TRIAL = 1.0
"""Seconds for which one round tries to prove the lock."""

Report = Callable[[str, float], None]
Unseen = Callable[[], Sequence[str]]


@dataclass(slots=True)
class Outcome:
    """What the sequence saw. `stages` maps stage names to seconds since the epoch."""

    stages: dict[str, float] = field(default_factory=dict)
    targets: int = 0
    pods: int = 0
    left: tuple[Pod, ...] = ()
    problems: list[str] = field(default_factory=list)
    in_flight: str = ""
    """What was last heard of the requests under way; Graceful."""
    hurries_at: float | None = None
    """When (monotonic) pods must have ended by themselves; None: from the start."""
    was: Was = field(default_factory=dict)
    """The bare pods that were asked to go, until their manifests are recorded."""
    not_known: NotKnown = field(default_factory=NotKnown)
    """The targets of whose pods nothing is known, so that none left proves nothing of them."""
    traced: set[str] = field(default_factory=set)
    """uids of targets below which pods, or what makes them, were seen: it may be gone later."""
    unprovable: bool = False
    """Nothing there could be started as a trial, so the lock stays unproven."""
    proof: str = ""
    """By whom a dry-run restart was denied."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the deletions were answered or are not waited for any more: what can wait, may go."""

    def waits(self, now: float) -> bool:
        """Whether it lets something end by itself at this moment (monotonic)."""
        return self.hurries_at is not None and now < self.hurries_at and not self.stopped

    def left_for_pods(self, now: float) -> float:
        """Seconds in which pods that are asked to go at this moment may end by themselves."""
        return self.hurries_at - now if self.hurries_at is not None and self.waits(now) else 0.0

    def note(self, problem: str) -> None:
        """Keep a problem once."""
        if problem not in self.problems:
            self.problems.append(problem)

    @property
    def stopped(self) -> bool:
        """An etcd list showed no pod of the targets, after the lock was tried."""
        return "stopped" in self.stages

    @property
    def finished(self) -> bool:
        """Nothing is left to do: stopped, at rest, and proven where that can be."""
        return (
            self.stopped
            and "scaled" in self.stages
            and ("proven" in self.stages or self.unprovable)
        )


def _all_seen() -> Sequence[str]:
    """Who plans from lists has seen what is there."""
    return ()


def _silent(_stage: str, _at: float) -> None:
    """Report to nobody."""


@dataclass(slots=True)
class Run:
    """One run of the sequence: what it is about, until when (monotonic), and who is told."""

    shutdown: Json
    stops: Sequence[Stop]
    outcome: Outcome
    until: float
    clock: Clock
    report: Report = _silent
    told: Told = draining.nobody
    resting: set[str] = field(default_factory=set)
    """uids of the targets that are at rest."""

    @property
    def pods(self) -> list[Pod]:
        """Those that were known when it began."""
        return [pod for stop in self.stops for pod in stop.pods]

    def reached(self, stage: str) -> None:
        """A stage was reached, now or before."""
        self.outcome.stages.setdefault(stage, self.clock.now())
        self.report(stage, self.outcome.stages[stage])


class StopSequence:
    """The steps of one stop over a cluster. Remembers nothing between calls."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        *,
        records_namespace: str,
        source: SignalSource | None = None,
    ) -> None:
        """Records of cluster-wide stops of nodes go to `records_namespace`.

        `source` is asked for requests under way; without it graceful stops wait their whole drain.
        """
        self._cluster = cluster
        self._lists = SharedLists(cluster)
        self._clock = clock
        self._nodes = NodeSequence(
            self._lists, clock, records_namespace=records_namespace, holds=self._holds
        )
        self._draining = Draining(self._lists, clock, source, self._holds)

    async def engage(self, order: Order) -> Json:
        """The engaged Shutdown of this order; see `engaging.engage` for what else may come."""
        return await engaging.engage(self._cluster, order)

    async def execute(
        self,
        shutdown: Json,
        stops: Sequence[Stop],
        *,
        until: float,
        report: Report = _silent,
        outcome: Outcome | None = None,
        told: Told = draining.nobody,
        unseen: Unseen = _all_seen,
    ) -> Outcome:
        """Steps 2 to 4; returns when nothing is left, or at `until` (monotonic) with what is.

        `told` stores what was reached before something is waited for. `unseen` says what of it cannot
        be seen: then it is not known that all is at rest.
        """
        run = Run(
            shutdown, stops, outcome or Outcome(), until, self._clock, report=report, told=told
        )
        outcome = run.outcome
        if any(stop.nodes for stop in stops):  # of one ClusterShutdown, which has nothing else
            await self._nodes.execute(run)
            return outcome
        outcome.targets = sum(len(stop.targets) for stop in stops)
        outcome.pods = max(outcome.pods, sum(len(stop.pods) for stop in stops))
        outcome.traced |= {
            each.uid for stop in stops for each in stop.targets if each.uid not in stop.untraced
        }
        outcome.not_known = blind_spots.not_known(stops, outcome.traced)
        terms = grace.of(shutdown)
        if terms is not None and not await self._ease(run, terms):
            return outcome
        async with Deletions(self._cluster, self._clock, outcome.note, outcome.was) as deletions:
            left = outcome.left_for_pods(self._clock.monotonic())
            await deletions.ask(run.pods, lambda: run.reached("deleted"), left=left)
            outcome.asked.set()
            recorded = await self._record_all(run)
            bare = len(outcome.was)
            if not await self._holds(shutdown, outcome):
                return outcome
            resting = [
                await self._rest(stop, uids or set(), run.resting, outcome)
                for stop, uids in zip(stops, recorded, strict=True)
            ]
            hidden = unseen()
            for each in hidden:
                outcome.note(each)
            # What cannot be seen yet may come to be: until then this is not over.
            if all(resting) and not hidden and not outcome.not_known.unseen:
                run.reached("scaled")
            async with asyncio.TaskGroup() as group:
                group.create_task(self._prove(run))
                swept = group.create_task(self._sweep(run, deletions))
        if len(outcome.was) > bare:  # one slipped in before the lock
            await self._record_all(run)
        if swept.result():  # said only once the lock has been tried
            run.reached("stopped")
        return outcome

    async def _ease(self, run: Run, terms: Grace) -> bool:
        """Whether the pods of a graceful stop may be asked to go now: it is drained."""
        outcome = run.outcome
        draining.recall(run.shutdown, outcome)
        if outcome.hurries_at is None:  # until it is known when: no sooner than all of it lasts
            outcome.hurries_at = self._clock.monotonic() + terms.drain + terms.terminate
        async with asyncio.TaskGroup() as group:
            counted = any(each.kind.counted for stop in run.stops for each in stop.targets)
            if counted and "proven" not in outcome.stages:  # others once they are at rest
                group.create_task(self._prove(run))
            drained = group.create_task(self._draining.drain(run, terms))
        if not drained.result():
            return False
        left = grace.remaining(outcome.stages["drained"], terms.terminate, self._clock.now())
        outcome.hurries_at = min(outcome.hurries_at, self._clock.monotonic() + left)
        return True

    async def _prove(self, run: Run) -> None:
        """Step 4a."""
        within = min(run.until, self._clock.monotonic() + _TRIAL)
        trial, words = await proof.prove(self._cluster, self._clock, run.stops, run.resting, within)
        if trial is Trial.DENIED:
            run.outcome.proof, run.outcome.unprovable = words, False
            run.reached("proven")
            return
        run.outcome.note(words)
        run.outcome.unprovable = trial is Trial.IMPOSSIBLE

    async def _holds(self, shutdown: Json, outcome: Outcome) -> bool:
        """Whether it still locks, as etcd has it; not knowing is a no.

        Without this, a reactor that was cut off for a while could delete and scale down what
        people have released and restored meanwhile.
        """
        metadata = shutdown["metadata"]
        resource = SHUTDOWNS if shutdown["kind"] == SHUTDOWNS.kind else CLUSTER_SHUTDOWNS
        try:
            current = await self._cluster.get(
                resource, metadata["name"], metadata.get("namespace", "")
            )
        except KillSwitchError as error:
            outcome.note(f"whether it still holds is not known: {error}")
            return False
        if current["metadata"]["uid"] == metadata["uid"] and engaged(current):
            return True
        outcome.note("released meanwhile")
        return False

    async def _record_all(self, run: Run) -> list[set[str] | None]:
        """Step 3a, for each stop."""
        recorded = [await self._record(run.shutdown, stop, run.outcome) for stop in run.stops]
        if None not in recorded:
            run.reached("recorded")
        return recorded

    async def _record(self, shutdown: Json, stop: Stop, outcome: Outcome) -> set[str] | None:
        """Step 3a: uids of the targets whose former state is stored; None if it could not be."""
        bare = [(pod, was) for pod, was in outcome.was.values() if holds_pod(stop, pod)]
        kept = [manifests.of(pod, was) for pod, was in bare if was is not None]
        items: list[Touched] = [*stop.targets, *kept]
        try:
            stored = await records.store(self._lists, self._clock, shutdown, items, stop.namespace)
        except (
            NotFoundError,
            RefusedError,
            ServerError,
            TimedOutError,
        ) as error:  # no namespace, no right, …
            outcome.note(f"what was there could not be recorded: {error}")
            return None
        full = {each.uid for each in kept if each.manifest is None}
        for pod in (pod for pod, _ in bare if pod.uid in full or pod.uid not in stored):
            outcome.note(f"pod {pod.namespace}/{pod.name} cannot be made again: no manifest")
        return stored

    async def _rest(
        self, stop: Stop, recorded: set[str], resting: set[str], outcome: Outcome
    ) -> bool:
        """Step 3b: bring targets to rest, as their kinds do; whether all could be.

        The uids of those that are go to `resting`.

        An unrecorded workload is not scaled: its count would be lost, and the lock holds it.
        """
        accepted = True

        async def rest(item: Workload) -> None:
            nonlocal accepted
            try:
                await self._to_rest(item)
                resting.add(item.uid)
            except NotFoundError:
                return  # deleted meanwhile: nothing runs
            except KillSwitchError as error:
                # Not repeated here: by the time the API server is back it may be released.
                outcome.note(f"could not rest {item}: {error}")
                accepted = False

        def left_alone(item: Workload) -> bool:
            # Scaling a StatefulSet with whenScaled: Delete would delete its volumes. The lock
            # holds it down just as well at its old count.
            return at_rest(item) or item.deletes_volumes or not item.kind.settings

        resting |= {each.uid for each in stop.targets if at_rest(each)}
        missing = [w for w in stop.targets if w.uid not in recorded and not left_alone(w)]
        todo = [each for each in stop.targets if each not in missing and not left_alone(each)]
        await fan_out(todo, rest, width=WIDTH, patience=PATIENCE)
        return accepted and not missing

    async def _to_rest(self, workload: Workload) -> None:
        kind = workload.kind
        if kind.verb is Verb.SCALE:
            zero = {"spec": {"replicas": 0}}
            await self._cluster.patch(
                kind.resource, workload.name, zero, workload.namespace, subresource="scale"
            )
            return
        body = kinds.patch((each.path, each.rest) for each in kind.settings)
        after = await self._cluster.patch(kind.resource, workload.name, body, workload.namespace)
        # A CRD that does not know the field drops it without an error.
        ignored = [each for each in kind.settings if each.read(after) != each.rest]
        if ignored:
            gate = f" (it needs {kind.since})" if kind.since else ""
            raise RefusedError(f"the cluster's {kind} knows no {ignored[0]}{gate}", 422)

    async def _sweep(self, run: Run, deletions: Deletions) -> bool:
        """Step 4b: list from etcd, delete what slipped in, until none is left."""
        outcome, until = run.outcome, run.until
        pause = 0.05
        shortened: set[str] = set()
        while await self._holds(run.shutdown, outcome):
            try:
                outcome.left = await persistently(self._clock, lambda: self._left(run.stops))
            except (RefusedError, ServerError, TimedOutError) as error:
                outcome.note(f"what is left could not be seen: {error}")
                return False
            if not outcome.left:
                return True
            left = outcome.left_for_pods(self._clock.monotonic())
            # Terminating ones too, once: a second delete can only shorten a running grace.
            shorter = set() if left else {p.uid for p in outcome.left} - shortened
            again = [p for p in outcome.left if not p.terminating or p.uid in shorter]
            shortened |= shorter
            await deletions.ask(again, left=left)
            now = self._clock.monotonic()
            if now >= until:
                return False
            ends = outcome.hurries_at if left and outcome.hurries_at is not None else until
            await self._clock.sleep(min(pause, max(0.0, ends - now)))
            pause = min(pause * 1.5, 1.0)
        return False

    async def _left(self, stops: Sequence[Stop]) -> tuple[Pod, ...]:
        left: list[Pod] = []
        for stop in stops:
            for body in (await self._lists.list(PODS, stop.namespace)).items:
                pod = projections.pod(body)
                if pod is not None and holds_pod(stop, pod):
                    left.append(pod)
        return tuple(left)
