"""What a policy is about now, as its standing orders and its condition `Freezable` need it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from killswitch.api.compiled import CompiledPolicy
from killswitch.core import interlocks, plans, projections
from killswitch.core.catalogue import Catalogue
from killswitch.core.interlocks import Inhibition
from killswitch.core.inventory import Inventory, Pod, Workload
from killswitch.core.kinds import Kind
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.plans import Boundaries, Stop
from killswitch.core.resources import PODS
from killswitch.ports import Clock, Cluster, Json

_FRESH = 5.0
"""Seconds for which a listed namespace answers for other policies, too."""


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


@dataclass(frozen=True, slots=True)
class _Place:
    """What a namespace held when it was listed."""

    listed: float
    workloads: list[tuple[Kind, Json]]
    pods: list[Json]


class Places:
    """Namespaces by what they hold, each listed once for all policies of one round."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        """Nothing has been listed."""
        self._cluster = cluster
        self._clock = clock
        self._places: dict[str, _Place] = {}

    async def targets(self, policy: CompiledPolicy, protected: frozenset[str]) -> Targets:
        """What the policy is about; any error of the core means that it is not known."""
        names = dict.fromkeys(query.namespace for query in policy.queries if query.namespace)
        return _targets(policy, {name: await self._place(name) for name in names}, protected)

    async def _place(self, namespace: str) -> _Place:
        now = self._clock.monotonic()
        self._places = {
            name: each for name, each in self._places.items() if now - each.listed < _FRESH
        }
        if namespace not in self._places:
            workloads: list[tuple[Kind, Json]] = []
            for kind in Catalogue.built_in().kinds.values():
                if kind.resource is not PODS:
                    found = (await self._cluster.list(kind.resource, namespace)).items
                    workloads += [(kind, body) for body in found]
            pods = (await self._cluster.list(PODS, namespace)).items
            self._places[namespace] = _Place(now, workloads, pods)
        return self._places[namespace]


def _targets(
    policy: CompiledPolicy, places: Mapping[str, _Place], protected: frozenset[str]
) -> Targets:
    """ReplicaSets are left out: a Deployment's name covers their pods, also of those that come later.

    So an order need not change with every rollout.
    """
    inventory, bodies = Inventory(), {}
    for namespace, place in places.items():
        # Who asks has made sure of it: a policy is Ready where its namespaces are governed.
        inventory.namespaces[namespace] = {GOVERNED_LABEL: "true"}
        for kind, body in place.workloads:
            item = projections.workload(kind, body)
            if isinstance(item, Workload):
                bodies[body["metadata"]["uid"]] = body
                inventory.put(item)
    plan = plans.for_policy(policy.queries, inventory, Boundaries(protected, GOVERNED_LABEL))
    templates = {
        f"{each.kind} {each.namespace}/{each.name}": _template(bodies[each.uid])
        for stop in plan.stops
        for each in stop.targets
    }
    owners = {
        (each.namespace, plans.lock_key(each)) for stop in plan.stops for each in stop.targets
    }
    pods = []
    for body in (each for place in places.values() for each in place.pods):
        pod = projections.pod(body)
        if pod is None or not any(plans.holds_pod(stop, pod) for stop in plan.stops):
            continue
        if not owners & {(pod.namespace, key) for key in pod.keys}:
            templates[f"Pod {pod.namespace}/{pod.name}"] = body
        if pod.node:
            pods.append(pod)
    beyond = interlocks.beyond(plan, max_targets=policy.max_targets, max_percent=policy.max_percent)
    return Targets(plan.stops, templates, tuple(pods), beyond)


def _template(workload: Json) -> Json:
    """What its pods are made from; empty where its kind has no such thing in one place."""
    return dict((workload.get("spec") or {}).get("template") or {})
