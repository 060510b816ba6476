"""What the scope flags of `stop`, `freeze` and `plan` mean, as a plan of the core.

`--workload` locks workloads by name and uid, and what is above them: all of it stops. `--image` means
whatever the pods with that image belong to. `--labels` locks pods by label together with the
workloads that own such pods now (else release alone would let these start them again), `--all`
locks the namespace, `--node` cordons, or what `--action` says.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import Problem
from killswitch.cli.references import workload
from killswitch.core import kinds, plans, resting
from killswitch.core.catalogue import Catalogue
from killswitch.core.inventory import Inventory
from killswitch.core.nodes import NodeAction
from killswitch.core.queries import TargetQuery
from killswitch.core.resources import PODS
from killswitch.core.stops import Boundaries, Plan, Refused, merge

_KINDS = {kind.resource.key: name for name, kind in kinds.TABLE.items()}


@dataclass(frozen=True, slots=True)
class Named:
    """A workload by its kind and name."""

    kind: str
    """Of the table its name there; any other as it was written, with its group."""
    name: str


@dataclass(frozen=True, slots=True)
class Scope:
    """The flags, read."""

    workloads: tuple[Named, ...] = ()
    whole: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    image: str = ""
    everywhere: bool = False
    """In every governed namespace, not in one."""
    node_action: NodeAction = NodeAction.CORDON

    def __str__(self) -> str:
        """In words: `deployment/vllm`, `everything`, `pods with app=vllm`."""
        if self.whole:
            return "everything"
        parts = [f"{each.kind.lower()}/{each.name}" for each in self.workloads]
        parts += [f"node/{name}" for name in self.nodes]
        if self.labels:
            parts.append(f"pods with {self._pairs}")
        if self.image:
            parts.append(f"pods of image {self.image}")
        return ", ".join(parts)

    @property
    def place(self) -> str:
        """Where that is looked for, in words behind it; empty for nodes and in one namespace."""
        return " in every governed namespace" if self.everywhere else ""

    @property
    def flags(self) -> str:
        """The options that name it, for the next command."""
        if self.whole:
            return "--all"
        parts = [f"-w {each.kind.lower()}/{each.name}" for each in self.workloads]
        parts += [f"--node {name}" for name in self.nodes]
        if self.labels:
            parts.append(f"-l {self._pairs}")
        if self.image:
            parts.append(f"--image {shlex.quote(self.image)}")
        parts += ["--everywhere"] if self.everywhere else []
        if self.node_action is not NodeAction.CORDON:
            parts.append(f"--action {self.node_action.lower()}")
        return " ".join(parts) or "-w KIND/NAME"  # keys that no flag can say

    @property
    def _pairs(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self.labels.items())

    def beyond(self, catalogue: Catalogue) -> frozenset[str]:
        """Names of the kinds beyond the table that it is about."""
        names = (kind_name(each, catalogue) for each in self.workloads)
        return frozenset(each for each in names if each not in kinds.TABLE)

    def queries(self, namespace: str, catalogue: Catalogue) -> list[TargetQuery]:
        """What it names, for the planner; without what only its labels mean."""
        if self.nodes:
            return [TargetQuery("Node", name=name) for name in self.nodes]
        if self.whole:
            return [TargetQuery("Namespace", namespace)]
        place = "" if self.everywhere else namespace
        pods = [TargetQuery(PODS.kind, place, image=self.image)] if self.image else []
        named = (
            TargetQuery(kind_name(each, catalogue), namespace, each.name) for each in self.workloads
        )
        return [*named, *pods]


def kind_name(named: Named, catalogue: Catalogue) -> str:
    """The name of its kind; what was written, where the cluster serves no such kind."""
    return named.kind if named.kind in kinds.TABLE else catalogue.called(named.kind) or named.kind


def read(
    workloads: list[str] | None,
    labels: str | None,
    nodes: list[str] | None,
    *,
    whole: bool,
    image: str | None = None,
    everywhere: bool = False,
    act: str = "stop",
    node_action: str = "cordon",
) -> Scope:
    """The scope that the flags name; Problem (usage) where they name none or contradict."""
    given = [bool(workloads or labels), whole, bool(nodes), bool(image)]
    if sum(given) != 1:
        alone = "--all, --image and --node go" if act == "stop" else "--all and --image go"
        why = "nothing is named" if not any(given) else f"{alone} with nothing else"
        cure = f"name what to {act}: --workload deployment/NAME, --labels app=NAME, " + (
            "--image NAME, --all or --node NAME" if act == "stop" else "--image NAME or --all"
        )
        raise Problem(f"know what to {act}", why, cure, ExitCode.USAGE)
    if everywhere and not image:
        why = "--everywhere is about copies: it goes with --image"
        cure = "name one namespace with -n, or the image with --image"
        raise Problem(f"{act} everywhere", why, cure, ExitCode.USAGE)
    chosen = NodeAction(node_action.capitalize())
    if chosen is not NodeAction.CORDON and not nodes:
        why, cure = "--action is about nodes", "name them with --node, or leave --action out"
        raise Problem(f"know what to {act}", why, cure, ExitCode.USAGE)
    named = [Named(*workload(each)) for each in workloads or ()]
    return Scope(
        tuple(named),
        whole,
        _labels(labels),
        tuple(nodes or ()),
        image or "",
        everywhere=everywhere,
        node_action=chosen,
    )


def of_order(spec: Mapping[str, Any]) -> Scope:
    """The scope of a Freeze or Shutdown as flags could name it, for the next command."""
    held = spec.get("scope") or {}
    if held.get("wholeNamespace"):
        return Scope(whole=True)
    locks = spec.get("locks") or {}
    keys = [(*key.rpartition("/")[::2], locks[key]) for key in sorted(locks)]
    found = [
        (Named(_KINDS.get(key, key), name), value)
        for key, name, value in keys
        if key in _KINDS or "." in key  # not uid/…
    ]
    # What is held because it is below another says whose it is: that one's name is enough.
    own = {f"{each.kind}/{each.name}"[:64] for each, _ in found}
    workloads = [
        each
        for each, value in found
        if value not in own or value == f"{each.kind}/{each.name}"[:64]
    ]
    return Scope(tuple(workloads), labels=held.get("podLabels") or {})


def plan(
    scope: Scope,
    namespace: str,
    inventory: Inventory,
    boundaries: Boundaries,
    catalogue: Catalogue | None = None,
) -> Plan:
    """What the scope would stop now, of the kinds that this cluster serves."""
    queries = scope.queries(namespace, catalogue or Catalogue.built_in())
    if not scope.labels:
        return plans.for_policy(queries, inventory, boundaries, node_action=scope.node_action)
    reason = boundaries.refusal(namespace, inventory)
    if reason is not None:
        return Plan((), (Refused(f"namespace {namespace}", reason),))
    queries += [each for each in _owners(scope.labels, namespace, inventory) if each not in queries]
    # Labels that no pod carries yet: the lock still keeps copies from starting.
    by_name = plans.for_policy(queries, inventory, boundaries) if queries else Plan(())
    by_label = resting.for_labels(namespace, scope.labels, inventory)
    merged = merge(by_name.stops[0], by_label) if by_name.stops else by_label
    return Plan((merged, *by_name.stops[1:]), by_name.refused, by_name.eligible)


def _owners(labels: Mapping[str, str], namespace: str, inventory: Inventory) -> list[TargetQuery]:
    tops = (
        inventory.top(pod.owner) for pod in resting.for_labels(namespace, labels, inventory).pods
    )
    found = (TargetQuery(top.kind.name, namespace, top.name) for top in tops if top is not None)
    return list(dict.fromkeys(found))


def _labels(text: str | None) -> dict[str, str]:
    pairs = [part.partition("=") for part in (text or "").split(",") if part]
    for key, equals, _value in pairs:
        if not key or not equals:
            raise Problem(
                f"read labels {text!r}", "they are pairs", "write a=b,c=d", ExitCode.USAGE
            )
    return {key.strip(): value.strip() for key, _, value in pairs}
