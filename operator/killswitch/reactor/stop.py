"""The stop sequence, in the order that measurements dictate: lock, delete, scale, prove.

    engage    1 create the Shutdown: the API server has agreed, recorded and locked   engaging.py
    execute   2 delete the pods with one second of grace                               deleting.py
              3 record what was there, then scale to 0 (never unrecorded)             records.py
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
from killswitch.core import kinds, projections
from killswitch.core.errors import (
    KillSwitchError,
    NotFoundError,
    RefusedError,
    ServerError,
    TimedOutError,
)
from killswitch.core.inventory import Pod, Workload
from killswitch.core.kinds import Verb
from killswitch.core.locks import engaged
from killswitch.core.plans import Stop, holds_pod
from killswitch.core.resources import CLUSTER_SHUTDOWNS, PODS, SHUTDOWNS
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor import engaging, proof, records
from killswitch.reactor.deleting import PATIENCE, WIDTH, Deletions
from killswitch.reactor.fan_out import fan_out
from killswitch.reactor.nodes import NodeSequence
from killswitch.reactor.persistence import persistently
from killswitch.reactor.proof import Trial
from killswitch.reactor.records import at_rest
from killswitch.reactor.shared import SharedLists

_TRIAL = 1.0
"""Seconds for which one round tries to prove the lock."""

Report = Callable[[str, float], None]


@dataclass(slots=True)
class Outcome:
    """What the sequence saw. `stages` maps stage names to seconds since the epoch."""

    stages: dict[str, float] = field(default_factory=dict)
    targets: int = 0
    pods: int = 0
    left: tuple[Pod, ...] = ()
    problems: list[str] = field(default_factory=list)
    unprovable: bool = False
    """Nothing there could be started as a trial, so the lock stays unproven."""
    proof: str = ""
    """By whom a dry-run restart was denied."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the deletions were answered or are not waited for any more: what can wait, may go."""

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


def _silent(_stage: str, _at: float) -> None:
    """Report to nobody."""


class StopSequence:
    """The steps of one stop over a cluster. Remembers nothing between calls."""

    def __init__(self, cluster: Cluster, clock: Clock, *, records_namespace: str) -> None:
        """Records of cluster-wide stops of nodes go to `records_namespace`."""
        self._cluster = cluster
        self._lists = SharedLists(cluster)
        self._clock = clock
        self._nodes = NodeSequence(
            self._lists, clock, records_namespace=records_namespace, holds=self._holds
        )

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
    ) -> Outcome:
        """Steps 2 to 4; returns when nothing is left, or at `until` (monotonic) with what is."""
        outcome = outcome or Outcome()
        if any(stop.nodes for stop in stops):  # of one ClusterShutdown, which has nothing else
            await self._nodes.execute(shutdown, stops, until=until, report=report, outcome=outcome)
            return outcome

        def reached(stage: str) -> None:
            outcome.stages.setdefault(stage, self._clock.now())
            report(stage, outcome.stages[stage])

        async def prove() -> None:
            within = min(until, self._clock.monotonic() + _TRIAL)
            trial, words = await proof.prove(self._cluster, self._clock, stops, within)
            if trial is Trial.DENIED:
                outcome.proof = words
                reached("proven")
                return
            outcome.note(words)
            outcome.unprovable = trial is Trial.IMPOSSIBLE

        outcome.targets = sum(len(stop.targets) for stop in stops)
        outcome.pods = max(outcome.pods, sum(len(stop.pods) for stop in stops))
        pods = [pod for stop in stops for pod in stop.pods]
        async with Deletions(self._cluster, self._clock, outcome.note) as deletions:
            await deletions.ask(pods, lambda: reached("deleted"))
            outcome.asked.set()
            recorded = [await self._record(shutdown, stop, outcome) for stop in stops]
            if None not in recorded:
                reached("recorded")
            if not await self._holds(shutdown, outcome):
                return outcome
            resting = [
                await self._rest(stop, uids or set(), outcome)
                for stop, uids in zip(stops, recorded, strict=True)
            ]
            if all(resting):
                reached("scaled")
            async with asyncio.TaskGroup() as group:
                group.create_task(prove())
                swept = group.create_task(self._sweep(shutdown, stops, outcome, until, deletions))
        if swept.result():  # said only once the lock has been tried
            reached("stopped")
        return outcome

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

    async def _record(self, shutdown: Json, stop: Stop, outcome: Outcome) -> set[str] | None:
        """Step 3a: uids of the targets whose former state is stored; None if it could not be."""
        try:
            return await records.store(
                self._lists, self._clock, shutdown, stop.targets, stop.namespace
            )
        except (
            NotFoundError,
            RefusedError,
            ServerError,
            TimedOutError,
        ) as error:  # no namespace, no right, …
            outcome.note(f"what was there could not be recorded: {error}")
            return None

    async def _rest(self, stop: Stop, recorded: set[str], outcome: Outcome) -> bool:
        """Step 3b: bring targets to rest; whether all could be.

        An unrecorded workload is not scaled: its count would be lost, and the lock holds it.
        """
        accepted = True

        async def rest(item: Workload) -> None:
            nonlocal accepted
            try:
                await self._to_rest(item)
            except NotFoundError:
                return  # deleted meanwhile: nothing runs
            except KillSwitchError as error:
                # Not repeated here: by the time the API server is back it may be released.
                outcome.note(f"could not rest {item}: {error}")
                accepted = False

        def resting(item: Workload) -> bool:
            # Scaling a StatefulSet with whenScaled: Delete would delete its volumes. The lock
            # holds it down just as well at its old count.
            return at_rest(item) or item.deletes_volumes or not item.kind.settings

        missing = [w for w in stop.targets if w.uid not in recorded and not resting(w)]
        todo = [each for each in stop.targets if each not in missing and not resting(each)]
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

    async def _sweep(
        self,
        shutdown: Json,
        stops: Sequence[Stop],
        outcome: Outcome,
        until: float,
        deletions: Deletions,
    ) -> bool:
        """Step 4b: list from etcd, delete what slipped in, until none is left."""
        pause = 0.05
        shortened: set[str] = set()
        while await self._holds(shutdown, outcome):
            try:
                outcome.left = await persistently(self._clock, lambda: self._left(stops))
            except (RefusedError, ServerError, TimedOutError) as error:
                outcome.note(f"what is left could not be seen: {error}")
                return False
            if not outcome.left:
                return True
            # Terminating ones too, once: a second delete can only shorten a running grace.
            again = [p for p in outcome.left if not p.terminating or p.uid not in shortened]
            shortened |= {pod.uid for pod in again}
            await deletions.ask(again)
            if self._clock.monotonic() >= until:
                return False
            await self._clock.sleep(pause)
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
