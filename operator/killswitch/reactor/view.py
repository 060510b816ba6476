"""The reactor's view of the cluster: small projections kept current by reflectors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from killswitch.api.common import ENGAGED_LABEL
from killswitch.core import conditions, projections, times
from killswitch.core.conditions import ShutdownCondition
from killswitch.core.inventory import Inventory, Item
from killswitch.ports import Json

Listener = Callable[[Json], None]


def engaged(shutdown: Mapping[str, Any]) -> bool:
    """Whether a Shutdown locks: labelled so, and not enough approvals. As the lock computes it."""
    spec = shutdown["spec"]
    labelled = (shutdown["metadata"].get("labels") or {}).get(ENGAGED_LABEL) == "true"
    return labelled and len(spec.get("approvals") or {}) < spec["requiredApprovals"]


@dataclass(slots=True)
class InventorySink:
    """Pods, workloads, ReplicaSets or nodes as items of the inventory."""

    inventory: Inventory
    project: Callable[[Json], Item | None]

    def put(self, body: Json) -> None:
        """Add or replace; an object without projection (a finished pod) is forgotten."""
        item = self.project(body)
        if item is None:
            self.inventory.remove(body["metadata"]["uid"])
        else:
            self.inventory.put(item)

    def remove(self, uid: str) -> None:
        """Forget."""
        self.inventory.remove(uid)


@dataclass(slots=True)
class NamespaceSink:
    """Labels of namespaces by name."""

    inventory: Inventory
    _names: dict[str, str] = field(default_factory=dict)

    def put(self, body: Json) -> None:
        """Keep the labels."""
        metadata = body["metadata"]
        self._names[metadata["uid"]] = metadata["name"]
        self.inventory.namespaces[metadata["name"]] = metadata.get("labels") or {}

    def remove(self, uid: str) -> None:
        """Forget."""
        name = self._names.pop(uid, None)
        if name is not None:
            self.inventory.namespaces.pop(name, None)


def _nobody(_body: Json) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class ObjectSink:
    """Whole objects by uid (policies, Shutdowns, bypasses: few and small), with a listener."""

    changed: Listener
    removed: Listener
    objects: dict[str, Json] = field(default_factory=dict)

    def put(self, body: Json) -> None:
        """Keep and tell."""
        body["metadata"].pop("managedFields", None)
        self.objects[body["metadata"]["uid"]] = body
        self.changed(body)

    def remove(self, uid: str) -> None:
        """Forget and tell."""
        body = self.objects.pop(uid, None)
        if body is not None:
            self.removed(body)


class View:
    """Everything a decision looks at."""

    def __init__(
        self,
        *,
        policies_changed: Listener,
        policies_removed: Listener,
        shutdowns_changed: Listener,
        shutdowns_removed: Listener,
    ) -> None:
        """The listeners are called after the view holds the change."""
        self.policies = ObjectSink(policies_changed, policies_removed)
        self.shutdowns = ObjectSink(shutdowns_changed, shutdowns_removed)
        self.bypasses = ObjectSink(_nobody, _nobody)
        self.inventory = Inventory()

    def shutdowns_of(self, policy_uid: str) -> list[Json]:
        """Every stored Shutdown and ClusterShutdown of a policy, engaged or not."""
        found = self.shutdowns.objects.values()
        return [s for s in found if (s["spec"].get("policy") or {}).get("uid") == policy_uid]

    def released_at(self, policy_uid: str) -> float | None:
        """When people last released a Shutdown of this policy, or None: never, as far as known."""
        moments = []
        for shutdown in self.shutdowns_of(policy_uid):
            observed = shutdown.get("status", {}).get("conditions", ())
            if conditions.holds(observed, ShutdownCondition.RELEASED):
                found = conditions.find(observed, ShutdownCondition.RELEASED)
                moments.append(times.seconds((found or {})["lastTransitionTime"]))
        return max(moments, default=None)

    def bypass(self, namespace: str, policy: str, now: float) -> str | None:
        """Who suspends this policy until when and why; None when nobody does."""
        for body in self.bypasses.objects.values():
            spec = body["spec"]
            here = body["metadata"]["namespace"] == namespace and spec["policy"] == policy
            if here and times.seconds(spec["until"]) > now:
                return f"bypassed by {spec['requestedBy']} until {spec['until']}: {spec['reason']}"
        return None


PROJECTIONS = {
    "Pod": projections.pod,
    "Deployment": projections.workload,
    "StatefulSet": projections.workload,
    "ReplicaSet": projections.child,
    "Node": projections.node,
}
