"""KillSwitchPolicy and ClusterKillSwitchPolicy: what is watched, when to stop, what and how."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from killswitch.api.actions import Action, Limits, Release, Restore
from killswitch.api.common import (
    Conditions,
    Duration,
    Model,
    Object,
    Rule,
    Timestamp,
    User,
    map_list,
    rules,
)
from killswitch.api.signals import Signal
from killswitch.api.targets import ClusterTarget, Target


class Mode(StrEnum):
    """What a policy may do."""

    ENFORCE = "Enforce"
    DRY_RUN = "DryRun"
    DISABLED = "Disabled"


# A message with both numbers would need a message expression, whose cost the API server
# estimates from the largest possible list and refuses.
_QUORUM_RULE = Rule(
    "self.quorum <= size(self.signals)", "quorum is more than the number of signals"
)
_WISH_RULE = Rule(
    "!has(self.reactWithin) || self.quorum <= self.signals.filter("
    "s, duration(s.__for__) < duration(self.reactWithin)).size()",
    "reactWithin can never be met: too many signals have a `for` as long; shorten it or raise"
    " reactWithin",
)


_RUNG_RULE = Rule(
    "!has(self.action.freeze) || !has(self.action.freeze.quorum)"
    " || self.action.freeze.quorum < self.quorum",
    "action.freeze.quorum must be less than quorum: with as many signals the targets are stopped",
)
_LONE_RULE = Rule(
    "self.mode != 'Enforce' || self.allowDetectorAlone ||"
    # A freeze that thaws by itself is what a detector's suspicion is good for.
    " !(has(self.action.freeze) && self.action.freeze.onExpiry == 'Stop'"
    " ? (has(self.action.freeze.quorum) ? self.action.freeze.quorum : self.quorum) == 1"
    " : self.quorum == 1 && self.action.type != 'Freeze') ||"
    " !self.signals.exists(s, (has(s.prometheus) && has(s.prometheus.detector))"
    " || (has(s.metric) && has(s.metric.detector)))",
    "a detector would stop the targets alone: require a quorum with a signal that watches something"
    " else, write mode: DryRun, or accept false stops with allowDetectorAlone: true",
)


class PolicyTerms(Model):
    """What both policy kinds have in common."""

    mode: Mode = Field(
        default=Mode.DRY_RUN,
        description="Enforce acts; DryRun decides and reports, never acts; Disabled is off.",
    )
    signals: Annotated[list[Signal], Field(json_schema_extra=map_list("name"))] = Field(
        min_length=1, max_length=16, description="What is watched."
    )
    quorum: int = Field(
        default=1, ge=1, le=16, description="How many signals must be tripped to fire."
    )
    react_within: Duration | None = Field(
        default=None,
        description="Wish: the longest time from a threshold's crossing to the decision. Condition "
        "Timely says whether it is met, and what hinders it; nothing is disarmed by it.",
    )
    allow_detector_alone: bool = Field(
        default=False,
        description="Whether detectors on one source may stop the targets by themselves. Most of "
        "what is unusual is harmless: true accepts false stops.",
    )
    action: Action = Field(default=Action(), description="What is done.")
    limits: Limits = Field(default=Limits(), description="The most one fire may stop.")
    cooldown: Duration = Field(
        default="10m", description="Least time between a release and the next fire."
    )
    release: Release = Field(default=Release(), description="Who lets go.")
    restore: Restore = Field(default=Restore(), description="How it comes back.")
    owner: User = Field(description="Person or team that answers for this policy.")
    backup: User = Field(description="Who answers when the owner cannot be reached.")
    risk_domain: str | None = Field(
        default=None, max_length=63, description="Risk domain it protects against."
    )
    review_by: str | None = Field(
        default=None,
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        max_length=10,
        description="Date by which people look at it again.",
    )


class KillSwitchPolicySpec(PolicyTerms):
    """Stops workloads of its own namespace."""

    model_config = rules(
        _QUORUM_RULE,
        _WISH_RULE,
        _RUNG_RULE,
        _LONE_RULE,
        Rule(
            "self.signals.all(s, !has(s.metric) || !has(s.metric.scrape)"
            " || !has(s.metric.scrape.namespace))",
            "a KillSwitchPolicy scrapes Services of its own namespace: leave scrape.namespace out",
        ),
        Rule(
            "self.action.type in ['Stop', 'Freeze'] && size(self.action.escalation) == 0",
            "a KillSwitchPolicy is about workloads: action.type Stop or Freeze, and no escalation",
        ),
    )

    targets: list[Target] = Field(
        min_length=1,
        max_length=32,
        description="Workloads of this namespace.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class ClusterKillSwitchPolicySpec(PolicyTerms):
    """Stops workloads in named namespaces, whole namespaces, or cordons nodes."""

    model_config = rules(
        _QUORUM_RULE,
        _WISH_RULE,
        _RUNG_RULE,
        _LONE_RULE,
        Rule(
            "self.signals.all(s, !has(s.metric) || !has(s.metric.scrape)"
            " || has(s.metric.scrape.namespace))",
            "scrape.namespace is missing: a ClusterKillSwitchPolicy names the Service's namespace",
        ),
        Rule(
            "self.targets.all(t, (t.kind == 'Node') == !(self.action.type in ['Stop', 'Freeze']))",
            "Node targets go with action.type Cordon, Drain, Taint or Quarantine, all others with Stop"
            " or Freeze",
        ),
    )

    targets: list[ClusterTarget] = Field(
        min_length=1,
        max_length=32,
        description="What is stopped.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class PathStatus(Model):
    """One path on which a signal may be told of by itself, beside the poll."""

    path: str = Field(max_length=320, description="Name of the path.")
    state: Literal["Awaited", "Heard", "Silent"] = Field(
        description="Awaited: not heard of yet. Silent: not heard of for too long, or not steadily since."
    )
    message: str = Field(default="", max_length=1024, description="Why it is silent.")
    last_heard: Timestamp | None = Field(default=None, description="When it was last heard of.")


class SignalStatus(Model):
    """The last reading of one signal."""

    name: str = Field(max_length=63, description="Name of the signal.")
    verdict: Literal["Tripped", "Clear", "Unknown"] = Field(description="What it says.")
    reason: str = Field(default="", max_length=64, description="Why it is Unknown.")
    value: str = Field(default="", max_length=64, description="The value that was compared.")
    message: str = Field(default="", max_length=1024, description="In one sentence.")
    observed_at: Timestamp | None = Field(default=None, description="When it was read.")
    paths: Annotated[list[PathStatus], Field(max_length=8, json_schema_extra=map_list("path"))] = (
        Field(default=[], description="The paths that were ever heard of, beside the poll.")
    )


class SignalReaction(Model):
    """How one signal arrives."""

    name: str = Field(max_length=63, description="Name of the signal.")
    worst: str = Field(
        default="",
        max_length=64,
        description="Longest time until it counts, hold-down included; `never` where it may not "
        "count at all, empty where unknown.",
    )
    paths: list[Annotated[str, Field(max_length=1024)]] = Field(
        default=[],
        max_length=8,
        description="Its paths with the parts of their time, or why that is unknown.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class Reaction(Model):
    """How long the policy takes to decide, at the longest, while everything works.

    From the moment at which what is measured crosses its threshold. What a query itself averages,
    such as `[5m]`, comes on top.
    """

    worst: str = Field(
        default="",
        max_length=64,
        description="That of the signal which completes the quorum; `never`, or empty where unknown.",
    )
    message: str = Field(default="", max_length=2048, description="Its parts, in one sentence.")
    signals: Annotated[
        list[SignalReaction], Field(max_length=16, json_schema_extra=map_list("name"))
    ] = Field(default=[], description="Each signal.")


class CapStatus(Model):
    """The cap over all policies that the reactor keeps to."""

    targets: int = Field(default=0, ge=0, description="Most workloads, and most nodes; 0: none.")
    percent: int = Field(default=0, ge=0, le=100, description="The same as a share; 0: none.")
    window: Duration = Field(description="How long a stop counts.")


class PolicyStatus(Model):
    """What is observed about a policy."""

    observed_generation: int = Field(default=0, ge=0, description="The generation last judged.")
    conditions: Conditions = []
    signals: Annotated[
        list[SignalStatus], Field(max_length=16, json_schema_extra=map_list("name"))
    ] = Field(default=[], description="The last reading of each signal.")
    reaction: Reaction | None = Field(
        default=None, description="How long it takes to decide, at the longest."
    )
    cap: CapStatus | None = Field(
        default=None, description="What all policies together may stop; absent: no such cap."
    )


class KillSwitchPolicy(Object):
    """Watches signals and stops workloads of its namespace when they trip."""

    spec: KillSwitchPolicySpec
    status: PolicyStatus = PolicyStatus()


class ClusterKillSwitchPolicy(Object):
    """Watches signals and stops namespaces or workloads, or cordons nodes, when they trip."""

    spec: ClusterKillSwitchPolicySpec
    status: PolicyStatus = PolicyStatus()
