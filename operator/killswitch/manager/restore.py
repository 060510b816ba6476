"""Bring back exactly what was there: canary, soak, then the recorded count. Never more.

Level-triggered: each look compares what was recorded with what is, does the next step and returns
what to say. The only memory is `status.stages.canaryReady`, so a manager that starts in the middle
goes on. What changed meanwhile is shown and needs a person's `acceptDrift`; what somebody else has
scaled meanwhile is left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from killswitch.api.common import GOVERNED_LABEL
from killswitch.core import durations, projections, times
from killswitch.core.conditions import Reason
from killswitch.core.errors import NotFoundError, RefusedError
from killswitch.core.kinds import NODES, RECORDS, WORKLOADS
from killswitch.ports import Clock, Cluster, Json

_HELD = "held down by"
_SOON = 0.5


@dataclass(slots=True)
class Present:
    """One recorded workload as it is now."""

    namespace: str
    record: Json
    body: Json

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

    def drift(self) -> str | None:
        """What changed since it was recorded, in a sentence."""
        if self.body["metadata"]["uid"] != self.record["uid"]:
            return f"{self.name} was re-created"
        if projections.workload(self.body).template_digest != self.record["templateDigest"]:
            return f"{self.name} has another pod template"
        return None


@dataclass(frozen=True, slots=True)
class Step:
    """What a look at a restore amounts to."""

    done: bool
    reason: Reason
    message: str
    canary_ready: str | None = None
    again: float | None = _SOON
    """Seconds until the next look."""


@dataclass(slots=True)
class Recorded:
    """Everything that one Shutdown recorded."""

    workloads: list[tuple[str, Json]] = field(default_factory=list)
    nodes: list[Json] = field(default_factory=list)


class Restorer:
    """The flow of one Shutdown's restore."""

    def __init__(self, cluster: Cluster, clock: Clock, *, records_namespace: str) -> None:
        """Keeps no state."""
        self._cluster = cluster
        self._clock = clock
        self._records_namespace = records_namespace

    async def look(self, shutdown: Json) -> Step:
        """Do the next step of a released Shutdown whose restore was asked for."""
        recorded = await self._recorded(shutdown)
        if not recorded.workloads and not recorded.nodes:
            return Step(
                done=True,
                reason=Reason.COMPLETE,
                message="nothing was recorded here: an earlier Shutdown holds the record",
                again=None,
            )
        present, vanished = await self._present(recorded)
        drift = [found for each in present if (found := each.drift())]
        if drift and not shutdown["spec"]["restore"].get("acceptDrift"):
            words = "; ".join(drift[:10])
            cure = "look at it, then: kubectl killswitch restore --accept-drift"
            return Step(done=False, reason=Reason.DRIFT, message=f"{words}. {cure}", again=5.0)
        try:
            await self._open_nodes(recorded.nodes)
            return await self._stages(shutdown, present, vanished, len(recorded.nodes))
        except RefusedError as error:
            if _HELD not in str(error):
                raise
            return Step(done=False, reason=Reason.HELD_ELSEWHERE, message=str(error), again=2.0)

    async def _stages(
        self, shutdown: Json, present: Sequence[Present], vanished: Sequence[str], nodes: int
    ) -> Step:
        terms = shutdown["spec"]["restorePolicy"]
        canary = int(terms["canaryReplicas"])
        ready_since = shutdown.get("status", {}).get("stages", {}).get("canaryReady")
        if ready_since is None:
            waiting = await self._raise(present, canary)
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
        waiting = await self._raise(present, None)
        if waiting:
            return Step(
                done=False,
                reason=Reason.FULL,
                message=f"waits for {waiting}",
                canary_ready=ready_since,
            )
        return Step(
            done=True,
            reason=Reason.COMPLETE,
            message=_summary(present, vanished, nodes),
            canary_ready=ready_since,
            again=None,
        )

    async def _raise(self, present: Sequence[Present], limit: int | None) -> str:
        """Raise each workload to its recorded count, at most to `limit`; who is not ready yet."""
        waiting = []
        for each in present:
            want = each.recorded if limit is None else min(limit, each.recorded)
            # Only from where this restore left it: any other count is somebody else's decision.
            ours = each.replicas == 0 or (limit is None and each.replicas < want)
            if ours and each.replicas < want:
                body = {"spec": {"replicas": want}}
                resource = WORKLOADS[each.record["kind"]]
                await self._cluster.patch(
                    resource, each.record["name"], body, each.namespace, subresource="scale"
                )
                waiting.append(each.name)
            elif each.ready < min(want, each.replicas):
                waiting.append(each.name)
        return ", ".join(waiting[:5])

    async def _open_nodes(self, nodes: Sequence[Json]) -> None:
        """Uncordon what was open before; what was cordoned already stays so."""
        for record in nodes:
            try:
                body = await self._cluster.get(NODES, record["name"])
            except NotFoundError:
                continue
            labels = body["metadata"].get("labels") or {}
            if labels.get(GOVERNED_LABEL) != "true":
                continue  # done before, or taken over by a person
            change: Json = {"metadata": {"labels": {GOVERNED_LABEL: None}}}
            if not record.get("unschedulable"):
                change["spec"] = {"unschedulable": None}
            await self._cluster.patch(NODES, record["name"], change)

    async def _recorded(self, shutdown: Json) -> Recorded:
        metadata = shutdown["metadata"]
        places = [metadata.get("namespace") or self._records_namespace]
        places += shutdown["spec"].get("namespaces") or {}
        recorded = Recorded()
        for place in dict.fromkeys(places):
            for record in (await self._cluster.list(RECORDS, place)).items:
                if record["spec"]["shutdownUid"] != metadata["uid"]:
                    continue
                for target in record["spec"].get("targets") or ():
                    if target["kind"] == "Node":
                        recorded.nodes.append(target)
                    else:
                        recorded.workloads.append((place, target))
        return recorded

    async def _present(self, recorded: Recorded) -> tuple[list[Present], list[str]]:
        present, vanished = [], []
        for namespace, target in recorded.workloads:
            try:
                body = await self._cluster.get(WORKLOADS[target["kind"]], target["name"], namespace)
            except NotFoundError:
                vanished.append(f"{target['kind']} {namespace}/{target['name']}")
            else:
                present.append(Present(namespace, target, body))
        return present, vanished


def _summary(present: Sequence[Present], vanished: Sequence[str], nodes: int) -> str:
    others = [each for each in present if each.replicas != each.recorded]
    parts = [f"{len(present) - len(others)} workloads at their recorded count"]
    parts += [f"{nodes} nodes as they were"] if nodes else []
    parts += [
        f"{each.name} stands at {each.replicas} by somebody else, recorded {each.recorded}"
        for each in others[:5]
    ]
    parts += [f"{name} is gone" for name in vanished[:5]]
    return "; ".join(parts)
