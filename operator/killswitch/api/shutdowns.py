"""Shutdown and ClusterShutdown: one stop, its lock, its approvals, its restore."""

from typing import Annotated, Any, Literal

from pydantic import Field

from killswitch.api.actions import QUIET, Escalation, Graceful, Quieted, Restore
from killswitch.api.common import (
    Conditions,
    Duration,
    LabelKey,
    LabelValue,
    Model,
    Name,
    Object,
    Reason,
    Rule,
    Timestamp,
    User,
    rules,
)
from killswitch.core.lock_keys import MOST_LOCKS

# Room for `inferenceservices.serving.kserve.io/` and a name of 253, while 4000 of these with their
# values, and the longest status, stay below etcd's 1.5 MiB.
LockKey = Annotated[str, Field(min_length=1, max_length=290)]
# Nobody owns a part of what is immutable: without this, field ownership doubles a large Shutdown.
WHOLE: dict[str, Any] = {"x-kubernetes-map-type": "atomic"}


class PolicyReference(Model):
    """The policy that fired, as it was then."""

    kind: Literal["KillSwitchPolicy", "ClusterKillSwitchPolicy"] = Field(
        description="Kind of the policy."
    )
    name: Name = Field(description="Name of the policy.")
    uid: str = Field(max_length=64, description="uid of the policy.")
    generation: int = Field(ge=0, description="Generation that decided.")
    episode: int = Field(ge=1, le=1_000_000, description="Which firing of this policy it is.")


class Approval(Model):
    """One person's consent to release."""

    reason: Reason = Field(description="Why it is safe to let go.")


class RestoreRequest(Model):
    """A person's order to bring back what was stopped."""

    by: User = Field(description="Who asks: the own username.")
    reason: Reason = Field(description="Why now.")
    accept_drift: bool = Field(
        default=False,
        description="Restore workloads whose template or identity changed meanwhile, too.",
    )


class Scope(Model):
    """Locks without naming workloads: for a person's stop, and for copies under other names."""

    model_config = rules(
        Rule(
            "(has(self.wholeNamespace) && self.wholeNamespace) != has(self.podLabels)",
            "a scope is either wholeNamespace: true or podLabels",
        )
    )

    whole_namespace: bool | None = Field(default=None, description="Everything in the namespace.")
    pod_labels: dict[LabelKey, LabelValue] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        json_schema_extra=WHOLE,
        description="Pods with all of these labels.",
    )


_IMMUTABLE = (
    "requestedBy",
    "reason",
    "requiredApprovals",
    "category",
    "quiet",
    "escalation",
    "deadline",
    "restorePolicy",
)


def unchanged(field: str, *, optional: bool) -> Rule:
    """The field is the same before and after; optional ones may not appear or vanish either."""
    same = f"self.{field} == oldSelf.{field}"
    if optional:
        same = f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {same})"
    return Rule(same, f"{field} is immutable: people must be able to trust what engaged")


_LIFECYCLE_RULES = (
    *(unchanged(field, optional=False) for field in _IMMUTABLE),
    Rule(
        "(self.category == 'Graceful') == has(self.graceful)",
        "category Graceful needs graceful, and only that one",
    ),
    unchanged("graceful", optional=True),
    unchanged("policy", optional=True),
    unchanged("evidenceDigest", optional=True),
    Rule(
        "!has(oldSelf.approvals) || (has(self.approvals)"
        " && oldSelf.approvals.all(k, k in self.approvals"
        " && self.approvals[k] == oldSelf.approvals[k]))",
        "approvals are append-only",
    ),
    Rule(
        "!has(oldSelf.restore) || (has(self.restore) && self.restore == oldSelf.restore"
        " || has(self.restore) && self.restore.by == oldSelf.restore.by"
        " && self.restore.reason == oldSelf.restore.reason"
        " && !oldSelf.restore.acceptDrift && self.restore.acceptDrift)",
        "restore is set once; afterwards only acceptDrift may be turned on",
    ),
)


class ShutdownTerms(Model):
    """What both kinds of Shutdown have in common."""

    requested_by: User = Field(
        description="Who engages: the requester's own username, checked by the API server."
    )
    reason: Reason = Field(description="Why, shown to everyone whom the lock denies.")
    required_approvals: int = Field(
        ge=1, le=5, description="The lock holds while fewer people have approved."
    )
    category: Literal["Immediate", "Graceful"] = Field(
        default="Immediate",
        description="Immediate: pods get one second of grace (stop category 0). Graceful: traffic is"
        " cut and what is under way may end first (category 1).",
    )
    graceful: Graceful | None = Field(default=None, description="How long category Graceful takes.")
    quiet: list[Quieted] = Field(
        default=QUIET,
        max_length=3,
        description="Who is paused after the stop, until the restore.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    escalation: list[Escalation] = Field(
        default=[],
        max_length=4,
        description="What is done about nodes whose pods do not go, counted from the deadline.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    deadline: Duration = Field(
        default="1m", description="Not verified by then: what is left is named."
    )
    restore_policy: Restore = Field(default=Restore(), description="How it comes back.")
    policy: PolicyReference | None = Field(
        default=None, description="The policy that fired; absent when a person engaged."
    )
    evidence_digest: str | None = Field(
        default=None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        max_length=71,
        description="Digest of the evidence record, fixed at the moment of decision.",
    )
    approvals: dict[User, Approval] | None = Field(
        default=None,
        max_length=8,
        description="Who consents to release, by username; append-only, the own name only.",
    )
    restore: RestoreRequest | None = Field(
        default=None, description="Set once, after release, by someone with the verb restore."
    )


class ShutdownSpec(ShutdownTerms):
    """A stop within one namespace."""

    model_config = rules(
        *_LIFECYCLE_RULES,
        Rule("has(self.locks) || has(self.scope)", "a Shutdown needs locks, a scope, or both"),
        unchanged("locks", optional=True),
        unchanged("scope", optional=True),
    )

    locks: dict[LockKey, Annotated[str, Field(max_length=64)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_LOCKS,
        json_schema_extra=WHOLE,
        description="What is held: `deployments.apps/name` or `uid/…` of an owner. A map, "
        "since looking up a key costs the same however many there are. The value is free text.",
    )
    scope: Scope | None = Field(default=None, description="What is held without naming it.")


class ClusterShutdownSpec(ShutdownTerms):
    """A stop of whole namespaces, or of nodes."""

    model_config = rules(
        *_LIFECYCLE_RULES,
        Rule(
            "has(self.namespaces) != has(self.nodes)",
            "a ClusterShutdown holds either namespaces or nodes",
        ),
        Rule(
            "!has(self.nodes) || self.category == 'Immediate' || self.nodeAction == 'Drain'",
            "of what is done with nodes only Drain may be Graceful",
        ),
        Rule(
            "!has(self.namespaces) || self.nodeAction == 'Cordon'",
            "nodeAction is about nodes: leave it out where namespaces are held",
        ),
        unchanged("namespaces", optional=True),
        unchanged("nodes", optional=True),
        unchanged("nodeAction", optional=False),
    )

    namespaces: dict[Name, Annotated[str, Field(max_length=64)]] | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        json_schema_extra=WHOLE,
        description="Governed namespaces held as a whole, by name; the value is free text. "
        "One that is not governed is accepted, since the API server cannot look, and is held "
        "only from the moment it is.",
    )
    nodes: dict[Name, Annotated[str, Field(max_length=64)]] | None = Field(
        default=None,
        min_length=1,
        max_length=4000,
        json_schema_extra=WHOLE,
        description="Nodes held cordoned, by name; the value is free text. While held they "
        "keep their `killswitch.dev/` taints and are not deleted.",
    )
    node_action: Literal["Cordon", "Drain", "Taint", "Quarantine"] = Field(
        default="Cordon",
        description="What is done with the nodes: Cordon, Drain (the pods of governed namespaces go),"
        " Taint (NoExecute) or Quarantine (no new pods, all that runs is kept).",
    )


class Fighter(Model):
    """Something that would start the targets again by itself."""

    name: str = Field(max_length=320, description="`ScaledObject prod/vllm`.")
    state: Literal["Quieted", "Resting", "Unquieted", "Resumed"] = Field(
        description="Quieted: paused by this stop. Resting: does nothing at 0. Unquieted: it starts the"
        " targets as soon as they are released. Resumed: given back by the restore."
    )
    message: str = Field(default="", max_length=1024, description="In a sentence.")


class Attempt(Model):
    """Somebody tried to start what is held, and was denied; or changed something else of it."""

    who: str = Field(
        max_length=253,
        description="The person or `namespace/name` of the service account, by the audit log; else"
        " the controller, by its Events; of what is Changed, the field manager.",
    )
    field_manager: str = Field(
        default="",
        max_length=128,
        description="With what, by the audit log: the field manager or the program. Absent where no"
        " audit log told of it.",
    )
    object: str = Field(max_length=320, description="On what: `ReplicaSet vllm-6c5f`.")
    count: int = Field(ge=1, description="How often, as far as was seen.")
    last: Timestamp = Field(description="When it was last seen.")
    outcome: Literal["Denied", "Changed"] = Field(
        default="Denied",
        description="Denied by the lock; or Changed: the object was written since the stop, in fields"
        " that run nothing.",
    )


class Leftover(Model):
    """A pod that is not gone."""

    namespace: Name = Field(description="Namespace of the pod.")
    pod: Name = Field(description="Name of the pod.")
    node: str = Field(default="", max_length=253, description="Where it runs, if scheduled.")


class Stages(Model):
    """When each stage of the stop was reached, as observed by who did it."""

    decided: Timestamp | None = Field(default=None, description="The decision to stop.")
    locked: Timestamp | None = Field(default=None, description="The Shutdown was accepted.")
    deleted: Timestamp | None = Field(default=None, description="Every pod delete was accepted.")
    recorded: Timestamp | None = Field(default=None, description="What was there was stored.")
    scaled: Timestamp | None = Field(default=None, description="Every workload was scaled to 0.")
    cut: Timestamp | None = Field(default=None, description="Traffic was cut (Graceful).")
    drained: Timestamp | None = Field(
        default=None,
        description="Nothing was under way any more, or the drain was over (Graceful).",
    )
    proven: Timestamp | None = Field(default=None, description="A dry-run restart was denied.")
    stopped: Timestamp | None = Field(default=None, description="No pod left in an etcd list.")
    canary_ready: Timestamp | None = Field(
        default=None, description="Every canary of the restore was ready: the soak began."
    )


class ShutdownStatus(Model):
    """What is observed about a stop."""

    observed_generation: int = Field(default=0, ge=0, description="The generation last judged.")
    conditions: Conditions = []
    targets: int = Field(default=0, ge=0, description="Workloads (or nodes) held.")
    pods: int = Field(default=0, ge=0, description="Pods that were there.")
    remaining: int = Field(default=0, ge=0, description="Pods not yet gone.")
    approvals: str = Field(default="", max_length=8, description="Approvals given / required.")
    elapsed: str = Field(
        default="",
        max_length=32,
        description="Decision to verified; `within` whole seconds of the creation where no "
        "decision was recorded.",
    )
    stages: Stages = Field(default=Stages(), description="When each stage was reached.")
    in_flight: str = Field(
        default="", max_length=64, description="Requests under way when last asked (Graceful)."
    )
    fighters: list[Fighter] = Field(
        default=[],
        max_length=50,
        description="Who would start the targets again by itself.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    attempts: list[Attempt] = Field(
        default=[],
        max_length=50,
        description="Who tried to start what is held, and was denied.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    leftovers: list[Leftover] = Field(
        default=[],
        max_length=20,
        description="The first pods that are not gone, with their nodes.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class Shutdown(Object):
    """One stop within a namespace; while engaged it is the lock itself."""

    spec: ShutdownSpec
    status: ShutdownStatus = ShutdownStatus()


class ClusterShutdown(Object):
    """One stop of whole namespaces or nodes; while engaged it is the lock itself."""

    spec: ClusterShutdownSpec
    status: ShutdownStatus = ShutdownStatus()
