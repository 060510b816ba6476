"""What the scope flags of `stop`, `freeze` and `plan` mean, as a plan of the core.

`--workload` locks workloads by name and uid, `--labels` locks pods by label together with the
workloads that own such pods now (else release alone would let these start them again), `--all`
locks the namespace, `--node` cordons.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import Problem
from killswitch.cli.references import parse
from killswitch.core import kinds, plans
from killswitch.core.inventory import Inventory
from killswitch.core.nodes import NodeAction
from killswitch.core.plans import Boundaries, Plan, TargetQuery
from killswitch.core.resources import PODS

_KINDS = {kind.resource.key: name for name, kind in kinds.TABLE.items()}
_WORKLOADS = tuple(kind.resource for kind in kinds.TABLE.values() if kind.resource is not PODS)


@dataclass(frozen=True, slots=True)
class Named:
    """A workload by its kind and name."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Scope:
    """The flags, read."""

    workloads: tuple[Named, ...] = ()
    whole: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    node_action: NodeAction = NodeAction.CORDON

    def __str__(self) -> str:
        """In words: `deployment/vllm`, `everything`, `pods with app=vllm`."""
        if self.whole:
            return "everything"
        parts = [f"{each.kind.lower()}/{each.name}" for each in self.workloads]
        parts += [f"node/{name}" for name in self.nodes]
        if self.labels:
            pairs = ",".join(f"{key}={value}" for key, value in self.labels.items())
            parts.append(f"pods with {pairs}")
        return ", ".join(parts)

    @property
    def flags(self) -> str:
        """The options that name it, for the next command."""
        if self.whole:
            return "--all"
        parts = [f"-w {each.kind.lower()}/{each.name}" for each in self.workloads]
        parts += [f"--node {name}" for name in self.nodes]
        if self.nodes and self.node_action is not NodeAction.CORDON:
            parts.append(f"--action {self.node_action.lower()}")
        if self.labels:
            parts.append(f"-l {','.join(f'{key}={value}' for key, value in self.labels.items())}")
        return " ".join(parts) or "-w KIND/NAME"  # keys that no flag can say


def read(
    workloads: list[str] | None,
    labels: str | None,
    nodes: list[str] | None,
    *,
    whole: bool,
    act: str = "stop",
    node_action: str = "cordon",
) -> Scope:
    """The scope that the flags name; Problem (usage) where they name none or contradict."""
    given = [bool(workloads or labels), whole, bool(nodes)]
    if sum(given) != 1:
        alone = "--all and --node go" if act == "stop" else "--all goes"
        why = "nothing is named" if not any(given) else f"{alone} with nothing else"
        cure = f"name what to {act}: --workload deployment/NAME, --labels app=NAME" + (
            ", --all or --node NAME" if act == "stop" else " or --all"
        )
        raise Problem(f"know what to {act}", why, cure, ExitCode.USAGE)
    chosen = NodeAction(node_action.capitalize())
    if chosen is not NodeAction.CORDON and not nodes:
        why, cure = "--action is about nodes", "name them with --node, or leave --action out"
        raise Problem(f"know what to {act}", why, cure, ExitCode.USAGE)
    named = [_workload(each) for each in workloads or ()]
    return Scope(tuple(named), whole, _labels(labels), tuple(nodes or ()), chosen)


def of_order(spec: Mapping[str, Any]) -> Scope:
    """The scope of a Freeze or Shutdown as flags could name it, for the next command."""
    held = spec.get("scope") or {}
    if held.get("wholeNamespace"):
        return Scope(whole=True)
    names = (key.rpartition("/") for key in sorted(spec.get("locks") or ()))
    workloads = [Named(_KINDS[key], name) for key, _, name in names if key in _KINDS]
    return Scope(tuple(workloads), labels=held.get("podLabels") or {})


def plan(scope: Scope, namespace: str, inventory: Inventory, boundaries: Boundaries) -> Plan:
    """What the scope would stop now."""
    if scope.nodes:
        queries = [TargetQuery("Node", name=name) for name in scope.nodes]
        return plans.for_policy(queries, inventory, boundaries, node_action=scope.node_action)
    if scope.whole:
        return plans.for_policy([TargetQuery("Namespace", namespace)], inventory, boundaries)
    queries = [TargetQuery(each.kind, namespace, each.name) for each in scope.workloads]
    if scope.labels:
        queries += _owners(scope.labels, namespace, inventory, known=queries)
    if not queries:  # labels that no pod carries yet: the lock still keeps copies from starting
        reason = boundaries.refusal(namespace, inventory)
        refused = () if reason is None else (plans.Refused(f"namespace {namespace}", reason),)
        by_name = Plan((), refused)
    else:
        by_name = plans.for_policy(queries, inventory, boundaries)
    if not scope.labels or boundaries.refusal(namespace, inventory) is not None:
        return by_name
    by_label = plans.for_labels(namespace, scope.labels, inventory)
    merged = plans.merge(by_name.stops[0], by_label) if by_name.stops else by_label
    return Plan((merged,), by_name.refused, by_name.eligible)


def _owners(
    labels: Mapping[str, str], namespace: str, inventory: Inventory, known: Iterable[TargetQuery]
) -> list[TargetQuery]:
    found: list[TargetQuery] = []
    for pod in plans.for_labels(namespace, labels, inventory).pods:
        owner = inventory.top(pod.owner)
        if owner is not None:
            found.append(TargetQuery(owner.kind.name, namespace, owner.name))
    return [q for n, q in enumerate(found) if q not in found[:n] and q not in known]


def _workload(text: str) -> Named:
    reference = parse(text, allowed=_WORKLOADS)
    if reference.resource is None:
        cure = f"write deployment/{text} or statefulset/{text}"
        raise Problem(f"read {text!r}", "its kind is missing", cure, ExitCode.USAGE)
    return Named(_KINDS[reference.resource.key], reference.name)


def _labels(text: str | None) -> dict[str, str]:
    pairs = [part.partition("=") for part in (text or "").split(",") if part]
    for key, equals, _value in pairs:
        if not key or not equals:
            raise Problem(
                f"read labels {text!r}", "they are pairs", "write a=b,c=d", ExitCode.USAGE
            )
    return {key.strip(): value.strip() for key, _, value in pairs}
