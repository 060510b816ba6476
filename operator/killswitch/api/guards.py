"""What node guards read and write: standing orders for when they are cut off, and their reports."""

from typing import Annotated, Any, Literal

from pydantic import Field

from killswitch.api.common import (
    Duration,
    Model,
    Name,
    Object,
    Rule,
    Timestamp,
    rules,
)
from killswitch.api.shutdowns import WHOLE, LockKey, Scope
from killswitch.core.lock_keys import MOST_LOCKS

_ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}


class OrderingPolicy(Model):
    """The policy that a standing order is of."""

    kind: Literal["KillSwitchPolicy", "ClusterKillSwitchPolicy"] = Field(
        description="Kind of the policy."
    )
    name: Name = Field(description="Name of the policy.")
    uid: str = Field(max_length=64, description="uid of the policy.")


class StandingOrderSpec(Model):
    """Which pods, after how long, what then."""

    model_config = rules(
        Rule("has(self.locks) || has(self.scope)", "a StandingOrder needs locks, a scope, or both"),
        Rule(
            "duration(self.after) >= duration('30s')",
            "after is at least 30s: an API server that restarts is no isolation",
        ),
    )

    policy: OrderingPolicy = Field(description="The policy that it is of.")
    on_isolation: Literal["Freeze", "Kill"] = Field(
        description="What a guard does with these pods while its node is cut off."
    )
    after: Duration = Field(description="How long the control plane has been away before that.")
    locks: dict[LockKey, Annotated[str, Field(max_length=64)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_LOCKS,
        json_schema_extra=WHOLE,
        description="Whose pods, by the keys of a Shutdown.",
    )
    scope: Scope | None = Field(default=None, description="Which pods without naming them.")


class StandingOrder(Object):
    """What node guards do by themselves while they are cut off; written by the manager alone."""

    spec: StandingOrderSpec


class NodeGuardSpec(Model):
    """Which node."""

    node: Name = Field(description="Name of the node; also the name of this object.")


class GuardedPod(Model):
    """What a guard did with one pod."""

    namespace: Name = Field(description="Namespace of the pod.")
    pod: Name = Field(description="Name of the pod.")
    uid: str = Field(max_length=64, description="uid of the pod.")
    state: Literal["Frozen", "Dead", "Thawed", "Failed"] = Field(
        description="As read back from the kernel: Dead means that no process is left in the pod's"
        " cgroups."
    )
    order_kind: Literal["Shutdown", "ClusterShutdown", "Freeze", "StandingOrder"] = Field(
        description="Kind of the order that was carried out."
    )
    order_name: Name = Field(description="Its name.")
    seen_at: Timestamp = Field(description="When the guard heard of the order.")
    done_at: Timestamp | None = Field(
        default=None, description="When the kernel said so; absent while it has not."
    )
    processes: int = Field(default=0, ge=0, description="Processes frozen or killed.")
    message: str = Field(default="", max_length=512, description="What went wrong.")


class Isolation(Model):
    """The last time that the node was cut off for longer than a standing order allows."""

    since: Timestamp = Field(description="The last answer of the API server before.")
    ended: Timestamp | None = Field(default=None, description="The first one after.")
    action: Literal["Freeze", "Kill"] = Field(description="The strongest that was ordered.")
    pods: int = Field(default=0, ge=0, description="How many pods that was done with.")


class NodeGuardStatus(Model):
    """The guard's report."""

    renewed_at: Timestamp | None = Field(default=None, description="When it last reported.")
    version: str = Field(default="", max_length=64, description="Version of the guard.")
    cgroups: str = Field(default="", max_length=8, description="v1 or v2.")
    driver: str = Field(default="", max_length=16, description="cgroupfs or systemd.")
    pods: Annotated[list[GuardedPod], Field(max_length=250, json_schema_extra=_ATOMIC)] = Field(
        default=[],
        description="Pods of the node that it acted on, and the last others. Of several entries"
        " about one pod the first is what is so now.",
    )
    isolation: Isolation | None = Field(default=None, description="The last one.")
    problems: list[Annotated[str, Field(max_length=512)]] = Field(
        default=[],
        max_length=10,
        description="What keeps it from doing its work.",
        json_schema_extra=_ATOMIC,
    )


class NodeGuard(Object):
    """One node's guard: that it is there, and what it did. Written by it alone."""

    spec: NodeGuardSpec
    status: NodeGuardStatus = NodeGuardStatus()
