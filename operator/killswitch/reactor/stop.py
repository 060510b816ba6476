"""The stop sequence, in the order that measurements dictate (design: lock, delete, scale, prove).

    engage    1 create the Shutdown: the API server has agreed, recorded and locked
    execute   2 delete the pods with one second of grace
              3 record what was there, then scale to 0 (never an unrecorded workload)
              4 prove the lock by a refused dry run, then sweep until no pod is left

Lock before delete: otherwise controllers re-create pods during the stop. Pods before scale: a
controller's own delete, with the workload's long grace, would otherwise win. Every step may be
repeated, by this process or another one; nothing depends on memory. The reactor runs it when a
policy fires and for every engaged Shutdown it finds; the command line runs it with a person's
own token. It must not decide anything: what is stopped stands in the Shutdown.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from killswitch.api import orders
from killswitch.api.common import GOVERNED_LABEL
from killswitch.api.orders import Order
from killswitch.core import conditions, projections
from killswitch.core.conditions import ShutdownCondition
from killswitch.core.errors import (
    ConflictError,
    KillSwitchError,
    NotFoundError,
    RefusedError,
)
from killswitch.core.inventory import Node, Pod, Workload
from killswitch.core.kinds import CLUSTER_SHUTDOWNS, NODES, PODS, RECORDS, SHUTDOWNS, WORKLOADS
from killswitch.core.plans import Stop, holds_pod
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor.fan_out import fan_out
from killswitch.reactor.persistence import persistently
from killswitch.reactor.view import engaged

GRACE = 1
"""Seconds. Never 0: a forced delete says gone while the process may run on."""
_WIDTH = 32
_SUPPLEMENTS = 10
_TRIAL = 1.0
"""Seconds for which one round tries to prove the lock."""
_DENIAL = "held down by"
"""How the lock's own message begins; any other refusal proves nothing about the lock."""

Report = Callable[[str, float], None]


class Trial(Enum):
    """What a dry-run restart met."""

    DENIED = auto()  # by the lock, in its own words
    ALLOWED = auto()
    UNCERTAIN = auto()  # refused, but not in the lock's words
    IMPOSSIBLE = auto()  # there is nothing to restart, or no right to try


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
    """The steps of one stop over a cluster. Holds no state between calls."""

    def __init__(self, cluster: Cluster, clock: Clock, *, records_namespace: str) -> None:
        """Records of cluster-wide stops of nodes go to `records_namespace`."""
        self._cluster = cluster
        self._clock = clock
        self._records_namespace = records_namespace

    async def engage(self, order: Order) -> Json:
        """The engaged Shutdown, created now or by another replica a moment ago.

        Where that one holds less, or the name belongs to somebody else's Shutdown, a supplement
        under the next free name is created and returned instead.
        RefusedError: nothing was locked and nothing may be touched. ConflictError: this decision's
        Shutdown is released already, so the caller's view is old; or no name was free.
        """
        spec: Json = order.body["spec"]
        for name in (order.name, *(f"{order.name}-more-{n}" for n in range(1, _SUPPLEMENTS))):
            metadata = {**order.body["metadata"], "name": name}
            body = {**order.body, "metadata": metadata, "spec": spec}
            try:
                return await self._cluster.create(order.resource, body, order.namespace)
            except ConflictError:
                existing = await self._cluster.get(order.resource, name, order.namespace)
            if not _same_decision(spec, existing["spec"]):
                continue
            if not engaged(existing):
                raise ConflictError(f"{order.resource.kind} {name} exists and is released")
            missing = _missing(spec, existing["spec"])
            if not missing:
                return existing
            spec = {**spec, **missing}
        raise ConflictError(f"no name like {order.name} is free for this {order.resource.kind}")

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

        def reached(stage: str) -> None:
            outcome.stages.setdefault(stage, self._clock.now())
            report(stage, outcome.stages[stage])

        outcome.targets = sum(len(stop.targets) + len(stop.nodes) for stop in stops)
        outcome.pods = max(outcome.pods, sum(len(stop.pods) for stop in stops))
        pods = [pod for stop in stops for pod in stop.pods]
        if await self._delete(pods, outcome):
            reached("deleted")
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

        async def prove() -> None:
            if await self._prove(stops, outcome, min(until, self._clock.monotonic() + _TRIAL)):
                reached("proven")

        async def sweep() -> None:
            if await self._sweep(shutdown, stops, outcome, until):
                reached("stopped")

        async with asyncio.TaskGroup() as group:
            group.create_task(prove())
            group.create_task(sweep())
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

    async def _delete(self, pods: Sequence[Pod], outcome: Outcome) -> bool:
        """Step 2: one second of grace for each pod, identified by uid so none else is hit.

        Whether every deletion was accepted, or had become needless.
        """
        accepted = True

        async def delete(pod: Pod) -> None:
            async def once() -> None:
                await self._cluster.delete(PODS, pod.name, pod.namespace, grace=GRACE, uid=pod.uid)

            nonlocal accepted
            what = f"delete pod {pod.namespace}/{pod.name}"
            with contextlib.suppress(NotFoundError, ConflictError):  # gone, or another's by now
                accepted = await self._or_problem(once, what, outcome) and accepted

        await fan_out((pod for pod in pods if not pod.mirror), delete, width=_WIDTH)
        return accepted

    async def _record(self, shutdown: Json, stop: Stop, outcome: Outcome) -> set[str] | None:
        """Step 3a: uids of the targets whose former state is stored, here or by an earlier stop.

        What an earlier, unrestored stop recorded stays the truth while that stop holds, and after
        its release as long as the target is still at rest. One that people have started again by
        hand meanwhile is recorded anew. None when it could not be stored.
        """
        namespace = stop.namespace or self._records_namespace
        items: list[Workload | Node] = [*stop.targets, *stop.nodes]
        while True:
            try:
                recorded, chunks = await persistently(
                    self._clock, lambda: self._recorded(shutdown, items, namespace)
                )
            except RefusedError as error:
                outcome.note(f"the records could not be read: {error}")
                return None
            missing = [item for item in items if item.uid not in recorded]
            try:
                for body in orders.target_records(shutdown, missing, namespace, first=chunks):
                    await self._create_record(body, namespace)
            except ConflictError:
                continue  # another replica wrote this chunk: look again
            except (NotFoundError, RefusedError) as error:  # no such namespace, or no right
                outcome.note(f"what was there could not be recorded: {error}")
                return None
            return recorded | {item.uid for item in missing}

    async def _create_record(self, body: Json, namespace: str) -> None:
        await persistently(self._clock, lambda: self._cluster.create(RECORDS, body, namespace))

    async def _recorded(
        self, shutdown: Json, items: Sequence[Workload | Node], namespace: str
    ) -> tuple[set[str], int]:
        """Targets recorded by unrestored stops, and how many chunks this stop has already."""
        records = (await self._cluster.list(RECORDS, namespace)).items
        holders = await self._unrestored(namespace)
        at_rest = {item.uid for item in items if _at_rest(item)}
        recorded: set[str] = set()
        chunks = 0
        for record in records:
            spec, holder = record["spec"], record["spec"]["shutdownUid"]
            own = holder == shutdown["metadata"]["uid"]
            chunks += own and "targets" in spec
            targets = {target["uid"] for target in spec.get("targets") or ()}
            if own or holders.get(holder):
                recorded |= targets
            elif holder in holders:
                recorded |= targets & at_rest
        return recorded, chunks

    async def _unrestored(self, namespace: str) -> dict[str, bool]:
        """Shutdowns by uid that are not restored, and whether each still holds."""
        found = [*(await self._cluster.list(SHUTDOWNS, namespace)).items]
        with contextlib.suppress(RefusedError):  # a person may lack this right, cluster-wide
            found += (await self._cluster.list(CLUSTER_SHUTDOWNS)).items
        return {
            each["metadata"]["uid"]: engaged(each)
            for each in found
            if not conditions.holds(
                each.get("status", {}).get("conditions", ()), ShutdownCondition.RESTORED
            )
        }

    async def _rest(self, stop: Stop, recorded: set[str], outcome: Outcome) -> bool:
        """Step 3b: bring targets to rest, 0 replicas or cordoned; whether all could be.

        An unrecorded workload is not scaled: its count would be lost, and the lock holds it. An
        unrecorded node is cordoned all the same: cordoning is the stop, and a restore that finds
        no record leaves it to people.
        """
        accepted = True

        async def rest(item: Workload | Node) -> None:
            nonlocal accepted
            act = self._cordon(item) if isinstance(item, Node) else self._to_zero(item)
            what = f"{item.kind if isinstance(item, Workload) else 'node'} {item.name}"
            try:
                await act()
            except NotFoundError:
                return  # deleted meanwhile: nothing runs
            except KillSwitchError as error:
                # Not repeated here: by the time the API server is back it may be released.
                outcome.note(f"could not rest {what}: {error}")
                accepted = False

        def resting(item: Workload | Node) -> bool:
            # Scaling a StatefulSet with whenScaled: Delete would delete its volumes. The lock
            # holds it down just as well at its old count.
            return _at_rest(item) or (isinstance(item, Workload) and item.deletes_volumes)

        items: list[Workload | Node] = [*stop.targets, *stop.nodes]
        missing = [w for w in stop.targets if w.uid not in recorded and not resting(w)]
        todo = [item for item in items if item not in missing and not resting(item)]
        await fan_out(todo, rest, width=_WIDTH)
        return accepted and not missing

    def _to_zero(self, workload: Workload) -> Callable[[], Any]:
        body = {"spec": {"replicas": 0}}
        resource = WORKLOADS[workload.kind]
        return lambda: self._cluster.patch(
            resource, workload.name, body, workload.namespace, subresource="scale"
        )

    def _cordon(self, node: Node) -> Callable[[], Any]:
        # The label makes the node lock apply to it (see api/admission).
        labels = {GOVERNED_LABEL: "true"}
        body = {"metadata": {"labels": labels}, "spec": {"unschedulable": True}}
        return lambda: self._cluster.patch(NODES, node.name, body)

    async def _prove(self, stops: Sequence[Stop], outcome: Outcome, until: float) -> bool:
        """Step 4a: a dry-run restart of each stop is refused by the lock.

        False when it is not refused by `until`, and where nothing may be tried: then the lock
        is not proven, which the outcome says, and the sweep still looks for pods.
        """
        for stop in stops:
            place, pause = stop.namespace or "these nodes", 0.005
            while True:
                trial, words = await persistently(self._clock, lambda stop=stop: self._try(stop))  # type: ignore[misc]
                if trial is Trial.DENIED:
                    break
                if trial is Trial.IMPOSSIBLE:
                    outcome.note(f"the lock could not be tried in {place}: {words}")
                    outcome.unprovable = True
                    return False
                if self._clock.monotonic() >= until:
                    outcome.note(f"the lock does not deny a restart in {place} {words}".rstrip())
                    return False
                await self._clock.sleep(pause)
                pause = min(2 * pause, 0.25)
        return True

    async def _try(self, stop: Stop) -> tuple[Trial, str]:
        """What a dry-run restart met, and in which words."""
        words = "nothing to restart"
        for attempt in _restarts(self._cluster, stop):
            try:
                await attempt()
            except (NotFoundError, ConflictError):
                continue
            except RefusedError as error:
                words = str(error)
                if _DENIAL in words:
                    return Trial.DENIED, words
                if error.code == 422:  # its policies are not loaded yet: it may be seconds
                    return Trial.UNCERTAIN, f"in the lock's words: {words}"
                continue  # no right to do it: try the next way
            return Trial.ALLOWED, ""
        return Trial.IMPOSSIBLE, words

    async def _sweep(
        self, shutdown: Json, stops: Sequence[Stop], outcome: Outcome, until: float
    ) -> bool:
        """Step 4b: list from etcd, delete what slipped in, until none is left."""
        pause = 0.05
        shortened: set[str] = set()
        while await self._holds(shutdown, outcome):
            try:
                outcome.left = await persistently(self._clock, lambda: self._left(stops))
            except RefusedError as error:
                outcome.note(f"what is left could not be seen: {error}")
                return False
            if not outcome.left:
                return True
            # Terminating ones too, once: a second delete can only shorten a running grace.
            again = [p for p in outcome.left if not p.terminating or p.uid not in shortened]
            shortened |= {pod.uid for pod in again}
            await self._delete(again, outcome)
            if self._clock.monotonic() >= until:
                return False
            await self._clock.sleep(pause)
            pause = min(pause * 1.5, 1.0)
        return False

    async def _left(self, stops: Sequence[Stop]) -> tuple[Pod, ...]:
        left: list[Pod] = []
        for stop in stops:
            if not stop.namespace:
                continue
            for body in (await self._cluster.list(PODS, stop.namespace)).items:
                pod = projections.pod(body)
                if pod is not None and holds_pod(stop, pod):
                    left.append(pod)
        return tuple(left)

    async def _or_problem(self, act: Callable[[], Any], what: str, outcome: Outcome) -> bool:
        """Whether it was accepted; a refusal is noted, and the other steps go on: the lock holds.

        NotFoundError and ConflictError pass through: what they mean differs by step.
        """
        try:
            await persistently(self._clock, act)
        except RefusedError as error:
            outcome.note(f"could not {what}: {error}")
            return False
        return True


def _at_rest(item: Workload | Node) -> bool:
    """Whether it is as a stop leaves it."""
    if isinstance(item, Node):
        return item.unschedulable and item.labels.get(GOVERNED_LABEL) == "true"
    return item.replicas == 0


def _restarts(cluster: Cluster, stop: Stop) -> list[Callable[[], Any]]:
    """Dry runs that would restart something held: the narrowest rights first."""
    if stop.nodes:
        body = {"spec": {"unschedulable": False}}
        return [
            lambda node=node: cluster.patch(NODES, node.name, body, dry_run=True)  # type: ignore[misc]
            for node in stop.nodes[:3]
        ]
    raised = {"spec": {"replicas": max((t.replicas or 1 for t in stop.targets), default=1) + 1}}
    ways: list[Callable[[], Any]] = [
        lambda target=target: cluster.patch(  # type: ignore[misc]
            WORKLOADS[target.kind],
            target.name,
            raised,
            target.namespace,
            subresource="scale",
            dry_run=True,
        )
        for target in stop.targets[:3]
    ]
    probe = _probe_pod(stop)
    return [*ways, lambda: cluster.create(PODS, probe, stop.namespace, dry_run=True)]


def _probe_pod(stop: Stop) -> Json:
    """A pod that the lock must refuse; only ever created as a dry run."""
    metadata: Json = {"name": "killswitch-probe", "labels": dict(stop.pod_labels or {})}
    owner = next((key for key in stop.locks if key.startswith("uid/")), None)
    if owner is not None:
        metadata["ownerReferences"] = [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "killswitch-probe",
                "uid": owner.removeprefix("uid/"),
                "controller": True,
            }
        ]
    container = {"name": "probe", "image": "killswitch.invalid/probe"}
    spec = {"containers": [container], "restartPolicy": "Never"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _same_decision(spec: Json, existing: Mapping[str, Any]) -> bool:
    """Whether an existing Shutdown is this order's own, under terms that are no weaker."""
    mine, theirs = spec.get("policy") or {}, existing.get("policy") or {}
    if mine.get("uid") != theirs.get("uid") or mine.get("episode") != theirs.get("episode"):
        return False
    if not mine and spec["requestedBy"] != existing["requestedBy"]:
        return False
    return bool(existing["requiredApprovals"] >= spec["requiredApprovals"])


def _missing(spec: Json, held: Mapping[str, Any]) -> Json:
    """What the order holds and the existing Shutdown does not; empty when it is covered."""
    if (held.get("scope") or {}).get("wholeNamespace"):
        return {}
    missing: Json = {}
    if spec.get("scope") and spec["scope"] != held.get("scope"):
        missing["scope"] = spec["scope"]
    for part in ("locks", "nodes", "namespaces"):
        lacking = {k: v for k, v in (spec.get(part) or {}).items() if k not in held.get(part, {})}
        if lacking:
            missing[part] = lacking
    return missing
