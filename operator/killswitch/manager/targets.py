"""What a policy is about now, as its standing orders and its condition `Freezable` need it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from killswitch.api.compiled import CompiledPolicy
from killswitch.core import plans, projections
from killswitch.core.inventory import Inventory, Pod
from killswitch.core.kinds import PODS, WORKLOADS
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.plans import Boundaries, Stop
from killswitch.ports import Cluster, Json


@dataclass(frozen=True, slots=True)
class Targets:
    """The stops of the policy's plan, and what would be frozen by them."""

    stops: tuple[Stop, ...] = ()
    templates: Mapping[str, Json] = field(default_factory=dict)
    """Pod templates by what people call their owner; a pod without such an owner by itself."""
    pods: tuple[Pod, ...] = ()
    """Those that have a node."""


async def targets(cluster: Cluster, policy: CompiledPolicy, protected: frozenset[str]) -> Targets:
    """Listed anew; any error of the core means that they are not known.

    ReplicaSets are left out: a Deployment's name covers their pods, also of those that come later,
    so that an order need not change with every rollout.
    """
    inventory, bodies, listed = Inventory(), {}, []
    for namespace in dict.fromkeys(query.namespace for query in policy.queries if query.namespace):
        # Who asks has made sure of it: a policy is Ready where its namespaces are governed.
        inventory.namespaces[namespace] = {GOVERNED_LABEL: "true"}
        for resource in WORKLOADS.values():
            for body in (await cluster.list(resource, namespace)).items:
                bodies[body["metadata"]["uid"]] = body
                inventory.put(projections.workload(body))
        listed += (await cluster.list(PODS, namespace)).items
    plan = plans.for_policy(policy.queries, inventory, Boundaries(protected, GOVERNED_LABEL))
    templates = {
        f"{each.kind} {each.namespace}/{each.name}": bodies[each.uid]["spec"]["template"]
        for stop in plan.stops
        for each in stop.targets
    }
    owners = {
        (each.namespace, plans.lock_key(each)) for stop in plan.stops for each in stop.targets
    }
    pods = []
    for body in listed:
        pod = projections.pod(body)
        if pod is None or not any(plans.holds_pod(stop, pod) for stop in plan.stops):
            continue
        if not owners & {(pod.namespace, key) for key in pod.keys}:
            templates[f"Pod {pod.namespace}/{pod.name}"] = body
        if pod.node:
            pods.append(pod)
    return Targets(plan.stops, templates, tuple(pods))
