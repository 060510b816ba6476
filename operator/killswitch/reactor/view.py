"""The reactor's view of the cluster: small projections kept current by reflectors."""

import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from killswitch.core import caps, conditions, holdings, times
from killswitch.core.caps import Fire
from killswitch.core.conditions import ShutdownCondition
from killswitch.core.inventory import Inventory, Item
from killswitch.core.locks import released
from killswitch.ports import Json

Listener = Callable[[Json], None]
_TRANSITION = ("type", "status", "lastTransitionTime")


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
    """Whole objects by uid (Shutdowns, bypasses: few and small), with a listener."""

    changed: Listener
    removed: Listener
    objects: dict[str, Json] = field(default_factory=dict)

    def expect(self, body: Json) -> None:
        """Keep what was just created, unless the watch has told of it already: that is newer.

        The watch may come late where much happens: what is engaged must not be ordered again.
        """
        if body["metadata"]["uid"] not in self.objects:
            self.put(body)

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


@dataclass(slots=True)
class PolicySink:
    """Of each policy by uid what its next status needs; the rest is its listener's to keep."""

    changed: Listener
    removed: Listener
    transitions: dict[str, list[Json]] = field(default_factory=dict)
    """Type, status and last transition of each of its conditions."""

    def put(self, body: Json) -> None:
        """Keep and tell."""
        observed = body.get("status", {}).get("conditions", ())
        self.transitions[body["metadata"]["uid"]] = [
            {name: sys.intern(each[name]) for name in _TRANSITION} for each in observed
        ]
        self.changed(body)

    def remove(self, uid: str) -> None:
        """Forget and tell."""
        if self.transitions.pop(uid, None) is not None:
            self.removed({"metadata": {"uid": uid}})


class View:
    """Everything a decision looks at."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        username: str,
        policies_changed: Listener,
        policies_removed: Listener,
        shutdowns_changed: Listener,
        shutdowns_removed: Listener,
    ) -> None:
        """The listeners are called after the view holds the change. `now` is wall time.

        `username` is the reactors': only what they requested counts as a policy's own. The API
        server checks the requester; which policy it was for is nothing but that one's word.
        """
        self._now = now
        self._username = username
        self._tell_changed, self._tell_removed = shutdowns_changed, shutdowns_removed
        self._of_policy: dict[str, dict[str, Json]] = defaultdict(dict)
        self._seen_released: dict[str, float] = {}
        self.policies = PolicySink(policies_changed, policies_removed)
        self.shutdowns = ObjectSink(self._shutdown_changed, self._shutdown_removed)
        self.bypasses = ObjectSink(_nobody, _nobody)
        self.inventory = Inventory()

    def shutdowns_of(self, policy_uid: str) -> list[Json]:
        """Every stored Shutdown and ClusterShutdown of a policy, engaged or not."""
        return list(self._of_policy.get(policy_uid, {}).values())

    def fires(self) -> list[Fire]:
        """What every stored Shutdown of a policy counts for, whichever policy, engaged or not."""
        stored = (each for uid, of in self._of_policy.items() if uid for each in of.values())
        found = (caps.fire(each, partial(self._planned, each)) for each in stored)
        return [each for each in found if each is not None]

    def _planned(self, shutdown: Json) -> int:
        """How many targets it holds now."""
        namespace = shutdown["metadata"].get("namespace", "")
        return holdings.for_shutdown(
            shutdown["kind"], namespace, shutdown["spec"], self.inventory
        ).count

    def released_at(self, policy_uid: str) -> float | None:
        """When people last released a Shutdown of this policy, or None: never, as far as known.

        Counted from the approvals, as the lock does: until the manager has written the moment
        down, and with no manager at all, it is when this reactor saw the last of them.
        """
        moments = [self._released_at(each) for each in self.shutdowns_of(policy_uid)]
        return max((each for each in moments if each is not None), default=None)

    def _released_at(self, shutdown: Json) -> float | None:
        uid = shutdown["metadata"]["uid"]
        if not released(shutdown):
            return None
        observed = shutdown.get("status", {}).get("conditions", ())
        found = conditions.find(observed, ShutdownCondition.RELEASED)
        if found is not None and found["status"] == "True":
            return _moment(found["lastTransitionTime"])
        return self._seen_released.setdefault(uid, self._now())

    def bypass(self, namespace: str, policy: str, now: float) -> str | None:
        """Who suspends this policy until when and why; None when nobody does.

        One whose end cannot be read suspends nothing: looking away must be certain to end.
        """
        for body in self.bypasses.objects.values():
            spec = body["spec"]
            here = body["metadata"]["namespace"] == namespace and spec["policy"] == policy
            if here and (_moment(spec["until"]) or 0.0) > now:
                return f"bypassed by {spec['requestedBy']} until {spec['until']}: {spec['reason']}"
        return None

    def _shutdown_changed(self, body: Json) -> None:
        self._of_policy[self._policy_of(body)][body["metadata"]["uid"]] = body
        self._released_at(body)  # the moment at which it was first seen so counts
        self._tell_changed(body)

    def _shutdown_removed(self, body: Json) -> None:
        uid, policy = body["metadata"]["uid"], self._policy_of(body)
        self._seen_released.pop(uid, None)
        self._of_policy[policy].pop(uid, None)
        if not self._of_policy[policy]:
            del self._of_policy[policy]
        self._tell_removed(body)

    def _policy_of(self, shutdown: Json) -> str:
        """The uid of the policy that fired it; empty for anybody else's stop."""
        spec = shutdown["spec"]
        if spec["requestedBy"] != self._username:
            return ""
        return str((spec.get("policy") or {}).get("uid", ""))


def _moment(text: str) -> float | None:
    try:
        return times.seconds(text)
    except ValueError:
        return None
