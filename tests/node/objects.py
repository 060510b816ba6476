"""Objects as the API server has them, and a guard whose time is told, on real cgroups."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from killswitch.core import times
from killswitch.core.resources import (
    CLUSTER_SHUTDOWNS,
    FREEZES,
    PODS,
    SHUTDOWNS,
    STANDING_ORDERS,
    Resource,
)
from killswitch.node.cgroups import Cgroups
from killswitch.node.clock import Clock
from killswitch.node.guard import Guard, Report
from killswitch.node.memory import Memory
from killswitch.node.news import Changed, Gone, Heard, Listed, Silent, Unlisted
from killswitch.node.residents import Residents
from killswitch.node.terms import Terms
from killswitch.node.watching import ORDERS

Json = dict[str, Any]
START = times.seconds("2026-01-01T00:00:00Z")
RESOURCES = {each.kind: each for each in (*ORDERS, PODS)}
OF_NODE = [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n", "controller": True}]


def pod(name: str, uid: str = "", namespace: str = "prod", **metadata: Any) -> Json:
    """A pod's metadata."""
    found = {
        "name": name,
        "namespace": namespace,
        "uid": uid or str(uuid.uuid4()),
        "labels": {"app": name},
        "creationTimestamp": times.text(START - 60),
    }
    return {"kind": "Pod", "metadata": {**found, **metadata}}


def order(resource: Resource, name: str = "o", namespace: str = "prod", **spec: Any) -> Json:
    """An order in force that holds the whole namespace."""
    metadata = {
        "name": name,
        "uid": f"{resource.kind}-{namespace}-{name}",
        "labels": {"killswitch.dev/engaged": "true"},
        "creationTimestamp": times.text(START),
    }
    if resource.namespaced:
        metadata["namespace"] = namespace
    terms = {"scope": {"wholeNamespace": True}, "requiredApprovals": 1}
    return {"kind": resource.kind, "metadata": metadata, "spec": {**terms, **spec}}


def shutdown(name: str = "stop", **spec: Any) -> Json:
    """An engaged Shutdown."""
    return order(SHUTDOWNS, name, **spec)


def freeze(name: str = "hold", seconds: float = 300, then: str = "Thaw", **spec: Any) -> Json:
    """A Freeze that ends this many seconds after `START`."""
    return order(FREEZES, name, until=times.text(START + seconds), onExpiry=then, **spec)


def standing(then: str = "Freeze", after: str = "30s", name: str = "p") -> Json:
    """A StandingOrder."""
    return order(STANDING_ORDERS, name, onIsolation=then, after=after)


def cluster_shutdown(*namespaces: str) -> Json:
    """A ClusterShutdown over namespaces."""
    return order(CLUSTER_SHUTDOWNS, namespaces=dict.fromkeys(namespaces, ""))


@dataclass
class Desk:
    """A guard that looks when a test says so, at the time that the test says."""

    cgroups: Cgroups
    own: str = ""
    protected: frozenset[str] = frozenset({"kube-system"})
    wall: float = START
    boot: float = 1000.0
    memory: Memory | None = None
    report: Report | None = None
    asked: list[str] = field(default_factory=list)
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        """A guard that knows nothing yet."""
        self.guard = Guard(
            self.cgroups,
            Residents(self.own, self.protected),
            Terms(),
            boot_id="this",
            clock=Clock(lambda: self.wall, lambda: self.boot),
            remember=lambda memory: setattr(self, "memory", memory),
            report=lambda report: setattr(self, "report", report),
            list_anew=lambda: self.asked.append("list anew"),
        )

    def successor(self) -> "Desk":
        """Another process, with nothing but what this one remembered."""
        assert self.memory is not None
        made = Desk(self.cgroups, self.own, self.protected, self.wall, self.boot)
        made.guard.recall(self.memory)
        return made

    def lists(self, *bodies: Json, forbidden: Resource | None = None) -> "Desk":
        """Complete lists of everything, but of what is forbidden: these are all there is. Then a look."""
        for resource in RESOURCES.values():
            if resource is forbidden:
                self.guard.observe(Unlisted(resource, "403: forbidden"))
                continue
            found = tuple(each for each in bodies if each["kind"] == resource.kind)
            self.guard.observe(Listed(resource, found))
        return self.look()

    def add(self, *bodies: Json) -> "Desk":
        """Events of watches, then a look."""
        for body in bodies:
            self.guard.observe(Changed(RESOURCES[body["kind"]], body))
        return self.look()

    def remove(self, *bodies: Json) -> "Desk":
        """The same of what has gone."""
        for body in bodies:
            self.guard.observe(Gone(RESOURCES[body["kind"]], body["metadata"]["uid"]))
        return self.look()

    def look(self, after: float = 0.0) -> "Desk":
        """Time passes, by both clocks; then a look."""
        self.wall, self.boot = self.wall + after, self.boot + after
        self.guard.look()
        return self

    def alone(self, seconds: int) -> "Desk":
        """Heard now, and for so long not any more; a look each second."""
        self.guard.observe(Heard(self.boot))
        for _ in range(seconds):
            self.look(1)
            self.guard.observe(Silent(self.boot))
        return self.look()

    def until(self, true: Callable[[], bool]) -> bool:
        """Look on until that is so: what dies takes a moment."""
        for _ in range(200):
            if true():
                return True
            self.look(0.05)
        return False

    def entry(self, body: Json) -> Json:
        """A pod's latest entry in the report; empty when there is none."""
        pods = self.report.pods if self.report else ()
        return dict(next((e for e in pods if e["uid"] == body["metadata"]["uid"]), {}))

    def states(self, *bodies: Json) -> list[str]:
        """What is reported of these pods."""
        return [self.entry(each).get("state", "") for each in bodies]
