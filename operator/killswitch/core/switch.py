"""THE state table of the switch: one policy, one state, and every way it can change.

Facts are stored in the API server; the state is derived from them and never persisted. A reactor
that starts while a Shutdown of the policy is engaged sees ENGAGED at once and is LATCHED; a
second reactor that engages first makes this one LATCHED the same way. Nothing but people's
release (an event that arrives as a fact about the Shutdown) leaves LATCHED: signals that clear,
a policy that is edited or disabled and a restart do not.

Each pair of state and event stands in `TABLE`; a pair that is missing is a bug and raises
TransitionError. The diagram in docs/reference/switch.md is generated from the table by `diagram`.
"""

from dataclasses import dataclass
from enum import StrEnum

from killswitch.core.errors import TransitionError


class State(StrEnum):
    """Where a policy stands."""

    DISARMED = "Disarmed"  # Disabled or not Ready: signals are not judged
    ARMED = "Armed"  # watching
    PENDING = "Pending"  # enough signals tripped, hold-down running
    INHIBITED = "Inhibited"  # demanded, but an interlock says no
    FIRING = "Firing"  # the order to engage is out, not yet acknowledged
    LATCHED = "Latched"  # a Shutdown is engaged


class Event(StrEnum):
    """What happened to it."""

    DISABLED = "Disabled"  # mode Disabled, or the policy is not Ready
    CLEARED = "Cleared"  # no demand and none pending
    TRIPPED = "Tripped"  # pending: enough signals tripped, not all for long enough
    FORBIDDEN = "Forbidden"  # demanded, and an interlock inhibits
    PERMITTED = "Permitted"  # demanded, and nothing inhibits
    REFUSED = "Refused"  # the API server did not accept the Shutdown
    ENGAGED = "Engaged"  # an engaged Shutdown of this policy exists


class Effect(StrEnum):
    """What the transition asks for."""

    NOTHING = "Nothing"
    ENGAGE = "Engage"  # create the Shutdown, then stop
    REPORT = "Report"  # tell people that a demand was inhibited, and by what


@dataclass(frozen=True, slots=True)
class Transition:
    """Where an event leads and what it asks for."""

    state: State
    effect: Effect = Effect.NOTHING


_S, _E = State, Event
_QUIET = {
    _E.DISABLED: Transition(_S.DISARMED),
    _E.CLEARED: Transition(_S.ARMED),
    _E.TRIPPED: Transition(_S.PENDING),
    _E.ENGAGED: Transition(_S.LATCHED),
}
"""What these events do is the same in every state that is not waiting for an answer."""
_FIRE = {_E.PERMITTED: Transition(_S.FIRING, Effect.ENGAGE)}
_INHIBIT = {_E.FORBIDDEN: Transition(_S.INHIBITED, Effect.REPORT)}

TABLE: dict[State, dict[Event, Transition]] = {
    _S.DISARMED: _QUIET | _FIRE | _INHIBIT,
    _S.ARMED: _QUIET | _FIRE | _INHIBIT,
    _S.PENDING: _QUIET | _FIRE | _INHIBIT,
    # Still inhibited: people were told once, at the transition.
    _S.INHIBITED: _QUIET | _FIRE | {_E.FORBIDDEN: Transition(_S.INHIBITED)},
    # While the order is out only its answer moves the switch: a signal that clears within these
    # milliseconds (seconds, while the API server is away) does not call the order back, and
    # nothing is ordered twice.
    _S.FIRING: {event: Transition(_S.FIRING) for event in Event}
    | {_E.ENGAGED: Transition(_S.LATCHED), _E.REFUSED: Transition(_S.ARMED)},
    # The engaged Shutdown is the fact behind LATCHED: as long as it exists every judgement of
    # the policy is ENGAGED, so any other event means that people have released it.
    _S.LATCHED: _QUIET | _FIRE | _INHIBIT,
}


def move(state: State, event: Event) -> Transition:
    """The transition of this pair; TransitionError where the table has none."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise TransitionError(f"{state} does not expect {event}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram, self-loops without effect left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.DISARMED}"]
    for state, row in TABLE.items():
        for event, to in row.items():
            if to.state is state and to.effect is Effect.NOTHING:
                continue
            label = event if to.effect is Effect.NOTHING else f"{event} / {to.effect}"
            lines.append(f"    {state} --> {to.state}: {label}")
    return "\n".join(lines)
