"""What a policy is about now: its plan as the reactor would make it, and what freezing needs of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from killswitch.api.compiled import CompiledPolicy
from killswitch.core import interlocks, lock_keys, plans, projections
from killswitch.core.interlocks import Inhibition
from killswitch.core.inventory import Child, Inventory, Pod
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.resources import DEPLOYMENTS, REPLICASETS
from killswitch.core.stops import Boundaries, Plan, Stop, holds_pod
from killswitch.manager.places import Places, Seen
from killswitch.ports import Json


@dataclass(frozen=True, slots=True)
class Targets:
    """The stops of the policy's plan, and what would be frozen by them."""

    stops: tuple[Stop, ...] = ()
    templates: Mapping[str, Json] = field(default_factory=dict)
    """Pod templates by what people call their owner; a pod without such an owner by itself."""
    pods: tuple[Pod, ...] = ()
    """Those that have a node."""
    beyond: Inhibition | None = None
    """The bound that the plan breaks: then the policy neither freezes nor stops anything."""
    unseen: Mapping[str, str] = field(default_factory=dict)
    """Kinds that cannot be seen there, and why."""
    bare: tuple[Pod, ...] = ()
    """Pods that would stop and belong to no workload."""


async def look(places: Places, policy: CompiledPolicy, protected: frozenset[str]) -> Targets:
    """What the policy is about; any error of the core means that it is not known."""
    names = await namespaces(places, policy, protected)
    seen = await places.see(names, {query.kind for query in policy.queries})
    boundaries = Boundaries(protected, GOVERNED_LABEL)
    return _targets(policy, seen, plans.for_policy(policy.queries, seen.inventory, boundaries))


async def namespaces(
    places: Places, policy: CompiledPolicy, protected: frozenset[str]
) -> list[str]:
    """Where its targets may be: what it names, and every governed one if it looks everywhere."""
    named = dict.fromkeys(query.namespace for query in policy.queries if query.namespace)
    if not policy.node_action and any(not query.namespace for query in policy.queries):
        named |= dict.fromkeys(await places.governed(protected))
    return list(named)


def _targets(policy: CompiledPolicy, seen: Seen, plan: Plan) -> Targets:
    stops = tuple(_lasting(stop, seen.inventory) for stop in plan.stops)
    templates = {
        f"{each.kind} {each.namespace}/{each.name}": _template(seen.bodies[each.uid])
        for stop in stops
        for each in stop.targets
    }
    owners = {(each.namespace, lock_keys.by_name(each)) for stop in stops for each in stop.targets}
    pods, bare = [], []
    for body in seen.pods:
        pod = projections.pod(body)
        if pod is None or not any(holds_pod(stop, pod) for stop in stops):
            continue
        if not owners & {(pod.namespace, key) for key in pod.keys}:
            templates[f"Pod {pod.namespace}/{pod.name}"] = body
        if seen.inventory.top(pod.owner) is None:
            bare.append(pod)
        if pod.node:
            pods.append(pod)
    beyond = interlocks.beyond(plan, max_targets=policy.max_targets, max_percent=policy.max_percent)
    return Targets(stops, templates, tuple(pods), beyond, dict(seen.inventory.unseen), tuple(bare))


def _lasting(stop: Stop, inventory: Inventory) -> Stop:
    """The stop without the ReplicaSets of Deployments, whose name covers their pods, also later ones.

    So a standing order need not change with every rollout.
    """
    keys = {
        key
        for target in stop.targets
        for each in inventory.below(target.uid)
        if isinstance(each, Child) and each.resource.key == REPLICASETS.key
        if _is_deployments(each, inventory)
        for key in (lock_keys.by_name(each), f"uid/{each.uid}")
    }
    if not keys:
        return stop
    return replace(stop, locks={k: v for k, v in stop.locks.items() if k not in keys})


def _is_deployments(child: Child, inventory: Inventory) -> bool:
    above = inventory.owner_of(child.owner)
    kind = getattr(above, "kind", None)
    return kind is not None and kind.resource.key == DEPLOYMENTS.key


def _template(workload: Json) -> Json:
    """What its pods are made from; empty where its kind has no such thing in one place."""
    return dict((workload.get("spec") or {}).get("template") or {})
