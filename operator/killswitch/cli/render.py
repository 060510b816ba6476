"""A plan in words: the same for `plan`, `stop --dry-run` and `stop`, since plan = execution."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from killswitch.cli.screen import Cell, Screen, Span, Tone
from killswitch.core import lock_keys
from killswitch.core.inventory import Inventory, Pod, Workload
from killswitch.core.stops import Plan, Refusal, Refused, Stop

_WHY = {
    Refusal.PROTECTED: "protected: killswitch never stops it",
    Refusal.UNGOVERNED: "not governed: a stop would not hold there",
    Refusal.NOT_FOUND: "not found",
    Refusal.LAST_OF_PROTECTED: "emptying it would end a protected workload",
    Refusal.UNSEEN: "not seen",
}
_ROWS = 200
"""Rows shown to people; programs get all."""


def more(screen: Screen, found: Sequence[object], most: int) -> None:
    """Say how many lines were left out."""
    if len(found) > most:
        screen.line(f"  and {len(found) - most} more")


def summary(plan: Plan) -> str:
    """`2 workloads with 3 pods and 8 GPUs`, or `1 node with 1 pod`."""
    nodes = sum(len(stop.nodes) for stop in plan.stops)
    if nodes:
        gone = f" with {count(plan.pods, 'pod')}" if plan.pods else ""
        idle = f" and {count(plan.gpus, 'GPU')}" if plan.gpus else ""
        return f"{count(nodes, 'node')}{gone}{idle}"
    workloads, pods = (
        count(sum(len(stop.targets) for stop in plan.stops), "workload"),
        count(plan.pods, "pod"),
    )
    return f"{workloads} with {pods} and {count(plan.gpus, 'GPU')}"


def show(screen: Screen, plan: Plan, inventory: Inventory, *, held: str = "Held") -> None:
    """What would be touched, what not and why. `held` says what is done with what comes later."""
    rows = [row for stop in plan.stops for row in _rows(stop, inventory)]
    screen.table(("NAMESPACE", "WHAT", "REPLICAS", "PODS", "GPUS", "RUNS ON"), rows[:_ROWS])
    if len(rows) > _ROWS:
        screen.line(f"and {len(rows) - _ROWS} more; all of them: -o json")
    for stop in plan.stops:
        if stop.whole_namespace:
            screen.line(f"{held}: everything in namespace {stop.namespace}, new workloads too")
        elif stop.pod_labels:
            screen.line(f"{held}: every pod in {stop.namespace} with {_pairs(stop)}, new ones too")
    for each in plan.refused:
        screen.line(Span("Left alone", Tone.WARN), f": {told(each)}")
    if held != "Held":  # nothing is scaled
        return
    for workload in (each for stop in plan.stops for each in stop.targets if each.deletes_volumes):
        name = f"statefulset/{workload.name} in {workload.namespace}"
        screen.line(f"Remark: {name} keeps its replica count: scaling would delete its volumes")


def told(refused: Refused) -> str:
    """One refusal in words."""
    return f"{refused.what} ({_WHY.get(refused.reason, refused.reason)})"


def value(plan: Plan, inventory: Inventory) -> dict[str, Any]:
    """The plan for programs."""
    return {
        "workloads": [
            _workload(workload, pods)
            for stop in plan.stops
            for workload, pods in _owned(stop, inventory)
        ],
        "pods": [
            {"namespace": pod.namespace, "pod": pod.name, "node": pod.node, "gpus": pod.gpus}
            for stop in plan.stops
            for pod in _sorted(stop.pods)
        ],
        "gpus": plan.gpus,
        "wholeNamespaces": [stop.namespace for stop in plan.stops if stop.whole_namespace],
        "nodes": [node.name for stop in plan.stops for node in stop.nodes],
        "refused": [{"what": each.what, "reason": str(each.reason)} for each in plan.refused],
    }


def _rows(stop: Stop, inventory: Inventory) -> Iterable[Sequence[Cell]]:
    rest = {pod.uid: pod for pod in stop.pods}
    for workload, pods in _owned(stop, inventory):
        for pod in pods:
            rest.pop(pod.uid, None)
        name = f"{workload.kind.word}/{workload.name}"
        yield (stop.namespace, name, _replicas(workload), *_counts(pods))
    if rest and not stop.nodes:
        yield (stop.namespace, "other pods", "-", *_counts(_sorted(rest.values())))
    for node in sorted(stop.nodes, key=lambda each: each.name):
        already = "cordoned already" if node.unschedulable else "schedulable now"
        going = sum(pod.node == node.name for pod in stop.pods)
        gone = str(going) if stop.pods else "-"
        yield ("(cluster)", f"node/{node.name}", "-", gone, str(node.gpus), already)


def _replicas(workload: Workload) -> str:
    if not workload.kind.counted:
        return "-"
    return "1" if workload.replicas is None else str(workload.replicas)


def _counts(pods: Sequence[Pod]) -> tuple[str, str, str]:
    places = Counter(pod.node or "no node yet" for pod in pods)
    where = ", ".join(f"{name} ({count})" for name, count in sorted(places.items())) or "-"
    return str(len(pods)), str(sum(pod.gpus for pod in pods)), where


def _workload(workload: Workload, pods: Sequence[Pod]) -> dict[str, Any]:
    return {
        "namespace": workload.namespace,
        "kind": workload.kind.name,
        "name": workload.name,
        "replicas": workload.replicas,
        "pods": len(pods),
        "gpus": sum(pod.gpus for pod in pods),
        "scaled": workload.kind.counted and not workload.deletes_volumes,
        "rests": [str(each) for each in workload.kind.settings],
    }


def _owned(stop: Stop, inventory: Inventory) -> Iterable[tuple[Workload, list[Pod]]]:
    """The targets, each with its pods of the plan."""
    planned = {pod.uid for pod in stop.pods}
    for workload in stop.targets:
        found = inventory.pods_of(lock_keys.owner_uids(workload, inventory))
        yield workload, _sorted(pod for pod in found if pod.uid in planned)


def _sorted(pods: Iterable[Pod]) -> list[Pod]:
    return sorted(pods, key=lambda pod: (pod.namespace, pod.name))


def _pairs(stop: Stop) -> str:
    return ",".join(f"{key}={text}" for key, text in sorted((stop.pod_labels or {}).items()))


def count(number: int, noun: str) -> str:
    """`1 pod`, `2 pods`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
