"""From gathered facts to the event that the switch is given. Pure: time comes in."""

from dataclasses import dataclass

from killswitch.core.interlocks import Inhibition
from killswitch.core.quorum import Tally
from killswitch.core.switch import Event


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a decision looks at, and nothing else."""

    enabled: bool
    """Mode is not Disabled and the policy is valid."""
    engaged: bool
    """An engaged Shutdown of this policy exists."""
    tally: Tally
    inhibition: Inhibition | None
    """Asked only when demanded; None then means permitted."""


def event(facts: Facts) -> Event:
    """What happened, most binding fact first: a lock that exists outranks every signal."""
    if facts.engaged:
        return Event.ENGAGED
    if not facts.enabled:
        return Event.DISABLED
    if facts.tally.demanded:
        return Event.FORBIDDEN if facts.inhibition else Event.PERMITTED
    if facts.tally.pending:
        return Event.TRIPPED
    return Event.CLEARED
