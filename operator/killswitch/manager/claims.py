"""Which Shutdown brings a recorded target back when several cover it.

Release changes nothing that runs, so a restore that was ordered before another stop must not wake
up when that stop is merely released. The rule needs no clock: *a target comes back when every
Shutdown that covers it and is not restored has had its restore ordered, and the latest of them
brings it back, in its own stages.* Order decides only whose stages those are: nothing starts by it.

`creationTimestamp` has whole seconds: of one second that one is the later whose lock was seen later
(`status.stages.locked`); the uid settles the rest. This orders Shutdowns and not their targets, and is
the same whichever of them asks: otherwise each might leave a target to the other for ever.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from killswitch.core import conditions, kinds
from killswitch.core.conditions import ShutdownCondition
from killswitch.core.kinds import Kind
from killswitch.ports import Json


class Share(StrEnum):
    """What a Shutdown's restore has to do with one target."""

    OURS = "Ours"  # this restore brings it back
    LATER = "Later"  # a later Shutdown covers it: its restore brings it back
    EARLIER = "Earlier"  # an earlier one covers it, whose restore nobody has ordered
    DONE = "Done"  # a later Shutdown has brought it back


@dataclass(frozen=True, slots=True)
class Target:
    """One recorded workload or node, and what it is now."""

    place: str
    """The workload's namespace; of a node, the record's."""
    record: Json
    holder: str
    """uid of the Shutdown that recorded it."""
    body: Json | None
    """None: gone."""
    served: Kind | None = None
    """Its kind as the cluster serves it, where that was looked up."""

    @property
    def kind(self) -> Kind:
        """Of a workload."""
        return self.served or kinds.recorded(self.record["kind"])

    @property
    def name(self) -> str:
        """`Deployment prod/vllm`, or `Node gpu-1`."""
        place = "" if self.record["kind"] == "Node" else f"{self.place}/"
        return f"{self.record['kind']} {place}{self.record['name']}"


def share(shutdown: Json, others: Iterable[Json], target: Target) -> tuple[Share, Json]:
    """This Shutdown's share in the target, and the Shutdown that decides it."""
    rivals = [each for each in others if covers(each, target)]
    return among(shutdown, rivals)


def among(shutdown: Json, rivals: Sequence[Json]) -> tuple[Share, Json]:
    """The same of what all of these Shutdowns cover."""
    latest = max([shutdown, *rivals], key=_order)
    if latest is not shutdown:
        return (Share.DONE if restored(latest) else Share.LATER, latest)
    for each in rivals:
        if not restored(each) and not each["spec"].get("restore"):
            return (Share.EARLIER, each)
    return (Share.OURS, shutdown)


def _order(shutdown: Json) -> tuple[str, str, str]:
    metadata, stages = shutdown["metadata"], shutdown.get("status", {}).get("stages", {})
    return metadata["creationTimestamp"], stages.get("locked") or "", metadata["uid"]


def covers(shutdown: Json, target: Target) -> bool:
    """Whether a Shutdown or ClusterShutdown holds (or held) the target."""
    spec, record = shutdown["spec"], target.record
    if record["kind"] == "Node":
        return record["name"] in (spec.get("nodes") or {})
    if shutdown["kind"] == "ClusterShutdown":
        return target.place in (spec.get("namespaces") or {})
    if shutdown["metadata"]["namespace"] != target.place:
        return False
    locks, scope = spec.get("locks") or {}, spec.get("scope") or {}
    keys = (f"{target.kind.resource.key}/{record['name']}", f"uid/{record['uid']}")
    return (
        bool(scope.get("wholeNamespace"))
        or any(key in locks for key in keys)
        or makes_pods_with(target.body or _manifest(record), scope.get("podLabels"))
    )


def holds(shutdown: Json, target: Target) -> bool:
    """Whether lock or scope of a Shutdown reach what a record leads to, whatever uid it names.

    What is gone and cannot be made again is taken for held: nothing is done about it.
    """
    body, record = target.body, target.record
    if body is not None:
        target = replace(target, record={**record, "uid": body["metadata"]["uid"]})
    elif record["kind"] != "Node" and not record.get("manifest"):
        return True
    return covers(shutdown, target)


def _manifest(record: Json) -> Json | None:
    return json.loads(record["manifest"]) if record.get("manifest") else None


def makes_pods_with(workload: Json | None, labels: Mapping[str, str] | None) -> bool:
    """Whether the pods of a workload, or a pod itself, bear all of these labels; none is none."""
    if workload is None or not labels:
        return False
    spec = workload.get("spec") or {}
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    pod = workload if "containers" in spec else spec.get("template") or job.get("template") or {}
    made = (pod.get("metadata") or {}).get("labels") or {}
    return all(made.get(key) == value for key, value in labels.items())


def restored(shutdown: Json) -> bool:
    """Whether its restore is complete."""
    observed = shutdown.get("status", {}).get("conditions", ())
    return conditions.holds(observed, ShutdownCondition.RESTORED)


def held_records_at(shutdown: Json, others: Sequence[Json]) -> set[str]:
    """The Shutdowns (uids) whose records were the truth when this one was engaged.

    A stop does not record anew what a Shutdown that is not restored has recorded.
    """
    engaged = shutdown["metadata"]["creationTimestamp"]
    return {
        each["metadata"]["uid"]
        for each in others
        if each["metadata"]["creationTimestamp"] <= engaged and not _restored_before(each, engaged)
    }


def _restored_before(shutdown: Json, moment: str) -> bool:
    observed = shutdown.get("status", {}).get("conditions", ())
    found = conditions.find(observed, ShutdownCondition.RESTORED)
    done = found is not None and found["status"] == "True"
    # Both are UTC; compared to the second, which is all that `moment` has.
    return done and found is not None and found["lastTransitionTime"][:19] < moment[:19]
