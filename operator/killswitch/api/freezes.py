"""Freeze: containment on the node for a while. It ends by itself, in the state that it names."""

from typing import Annotated, Literal

from pydantic import Field

from killswitch.api.common import (
    Conditions,
    Model,
    Object,
    Reason,
    Rule,
    User,
    WrittenTime,
    rules,
)
from killswitch.api.shutdowns import (
    WHOLE,
    Leftover,
    LockKey,
    PolicyReference,
    Scope,
    unchanged,
)
from killswitch.core.lock_keys import MOST_LOCKS


class Thaw(Model):
    """A person's order to let it go on before its end."""

    by: User = Field(description="Who thaws: the own username.")
    reason: Reason = Field(description="Why it may go on.")


class FreezeSpec(Model):
    """What is frozen, until when, what then."""

    model_config = rules(
        Rule("has(self.locks) || has(self.scope)", "a Freeze needs locks, a scope, or both"),
        *(
            unchanged(field, optional=False)
            for field in ("requestedBy", "reason", "until", "onExpiry", "requiredApprovals")
        ),
        *(
            unchanged(field, optional=True)
            for field in ("policy", "evidenceDigest", "locks", "scope")
        ),
        Rule(
            "!has(oldSelf.thaw) || (has(self.thaw) && self.thaw == oldSelf.thaw)",
            "thaw is set once: to freeze again, make another Freeze",
        ),
    )

    requested_by: User = Field(
        description="Who freezes: the requester's own username, checked by the API server."
    )
    reason: Reason = Field(description="Why.")
    until: WrittenTime = Field(
        description="When it ends, whatever happens: at most 24 hours ahead. To prolong it, make"
        " another Freeze."
    )
    on_expiry: Literal["Thaw", "Stop"] = Field(
        description="What then: Thaw lets the pods go on, Stop makes a Shutdown of the same."
    )
    required_approvals: int = Field(
        default=2, ge=1, le=5, description="Of the Shutdown that onExpiry: Stop makes."
    )
    locks: dict[LockKey, Annotated[str, Field(max_length=64)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_LOCKS,
        json_schema_extra=WHOLE,
        description="Whose pods are frozen, by the keys of a Shutdown. Nothing is locked.",
    )
    scope: Scope | None = Field(default=None, description="What is frozen without naming it.")
    policy: PolicyReference | None = Field(
        default=None, description="The policy that fired; absent when a person froze."
    )
    evidence_digest: str | None = Field(
        default=None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        max_length=71,
        description="Digest of the evidence record, fixed at the moment of decision.",
    )
    thaw: Thaw | None = Field(
        default=None,
        description="Set once, by whoever froze or by someone with the verb thaw.",
    )


class FreezeStatus(Model):
    """What is observed about a Freeze."""

    observed_generation: int = Field(default=0, ge=0, description="The generation last judged.")
    conditions: Conditions = []
    pods: int = Field(
        default=0, ge=0, description="Pods that it covers; after its end those that are not let go."
    )
    frozen: int = Field(default=0, ge=0, description="Those that node guards report as frozen.")
    leftovers: list[Leftover] = Field(
        default=[],
        max_length=20,
        description="The first pods that are not reported as frozen, with their nodes.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class Freeze(Object):
    """Stops all computation of pods for a while, in place, and keeps their memory."""

    spec: FreezeSpec
    status: FreezeStatus = FreezeStatus()
