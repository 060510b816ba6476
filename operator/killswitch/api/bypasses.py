"""Bypass: a person suspends a policy for a while, with a reason, and it always ends."""

from pydantic import Field

from killswitch.api.common import (
    Conditions,
    Model,
    Name,
    Object,
    Reason,
    Rule,
    User,
    WrittenTime,
    rules,
)


class BypassSpec(Model):
    """Which policy, why, until when."""

    model_config = rules(Rule("self == oldSelf", "a Bypass is immutable: end it, make another"))

    policy: Name = Field(description="Name of the KillSwitchPolicy in this namespace.")
    requested_by: User = Field(description="Who suspends: the own username.")
    reason: Reason = Field(description="Why it is safe to look away.")
    until: WrittenTime = Field(
        description="When the policy counts again, whatever happens: at most 30 days ahead."
    )


class BypassStatus(Model):
    """What is observed about a bypass."""

    conditions: Conditions = []


class Bypass(Object):
    """Suspends one policy until a given time."""

    spec: BypassSpec
    status: BypassStatus = BypassStatus()
