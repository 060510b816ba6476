import itertools
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from killswitch.core import decisions
from killswitch.core.errors import TransitionError
from killswitch.core.interlocks import Cause, Inhibition
from killswitch.core.quorum import Meaning, Span, VotingRule, tally, tripped_since
from killswitch.core.readings import Verdict
from killswitch.core.switch import TABLE, Effect, Event, State, Transition, diagram, move
from tests.core.builders import reading

EXPECTED: dict[Event, tuple[State, Effect]] = {
    Event.DISABLED: (State.DISARMED, Effect.NOTHING),
    Event.CLEARED: (State.ARMED, Effect.NOTHING),
    Event.TRIPPED: (State.PENDING, Effect.NOTHING),
    Event.FORBIDDEN: (State.INHIBITED, Effect.REPORT),
    Event.PERMITTED: (State.FIRING, Effect.ENGAGE),
    Event.ENGAGED: (State.LATCHED, Effect.NOTHING),
}
"""What an event does in every state that has no exception below. Written apart from the table."""
EXCEPTIONS: dict[tuple[State, Event], tuple[State, Effect]] = {
    (State.INHIBITED, Event.FORBIDDEN): (State.INHIBITED, Effect.NOTHING),
    (State.FIRING, Event.DISABLED): (State.FIRING, Effect.NOTHING),
    (State.FIRING, Event.CLEARED): (State.FIRING, Effect.NOTHING),
    (State.FIRING, Event.TRIPPED): (State.FIRING, Effect.NOTHING),
    (State.FIRING, Event.FORBIDDEN): (State.FIRING, Effect.NOTHING),
    (State.FIRING, Event.PERMITTED): (State.FIRING, Effect.NOTHING),
    (State.FIRING, Event.REFUSED): (State.ARMED, Effect.NOTHING),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair(state: State, event: Event) -> None:
    """Each state answers each event as written here; REFUSED answers an order that is out."""
    expected = EXCEPTIONS.get((state, event)) or EXPECTED.get(event)
    if expected is None:
        with pytest.raises(TransitionError, match=f"{state} does not expect {event}"):
            move(state, event)
    else:
        assert Transition(*expected) == move(state, event)


def test_only_permitted_engages() -> None:
    """No other event may stop anything, whatever the state."""
    engaging = {
        event for row in TABLE.values() for event, to in row.items() if to.effect is Effect.ENGAGE
    }
    assert {Event.PERMITTED} == engaging


def test_nothing_is_ordered_twice() -> None:
    """While the order is out, or the lock stands, no event but a new permission orders."""
    assert all(to.effect is Effect.NOTHING for to in TABLE[State.FIRING].values())
    assert Transition(State.LATCHED) == move(State.LATCHED, Event.ENGAGED)


def test_diagram_shows_every_change() -> None:
    """The drawing in the documentation has exactly the transitions that change or do something."""
    lines = diagram().splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> Disarmed"]
    changes = [
        (state, to.state)
        for state, row in TABLE.items()
        for to in row.values()
        if to.state is not state or to.effect is not Effect.NOTHING
    ]
    assert len(changes) == len(lines) - 2
    assert "    Armed --> Firing: Permitted / Engage" in lines
    assert "    Firing --> Latched: Engaged" in lines
    assert not any(line.startswith("    Latched --> Latched") for line in lines)


class Machine(RuleBasedStateMachine):
    """One policy with two signals, people and an API server, in any order of happenings."""

    RULES = (VotingRule("a", Meaning.HOLD, 5.0, 60.0), VotingRule("b", Meaning.FIRE, 0.0, 60.0))

    @initialize(needed=st.sampled_from([1, 2]))
    def start(self, needed: int) -> None:
        """A reactor that has just started."""
        self.needed, self.now = needed, 0.0
        self.state, self.effect, self.before = State.DISARMED, Effect.NOTHING, State.DISARMED
        self.since: dict[str, Span] = {}
        self.readings = {each.signal: reading(each.signal, Verdict.CLEAR, 0) for each in self.RULES}
        self.enabled, self.locked, self.order_out = True, False, False
        self.inhibition: Inhibition | None = None

    @rule(signal=st.sampled_from("ab"), verdict=st.sampled_from(Verdict))
    def read(self, signal: str, verdict: Verdict) -> None:
        """A sample arrives."""
        self.readings[signal] = reading(signal, verdict, self.now)
        self.judge()

    @rule(seconds=st.floats(0.1, 10))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.judge()

    @rule(enabled=st.booleans())
    def edit(self, enabled: bool) -> None:
        """A person changes the mode."""
        self.enabled = enabled
        self.judge()

    @rule(inhibited=st.booleans())
    def interlock(self, inhibited: bool) -> None:
        """A bypass begins or ends."""
        self.inhibition = Inhibition(Cause.BYPASSED, "test") if inhibited else None
        self.judge()

    @rule(accepted=st.booleans())
    def api_server_answers(self, accepted: bool) -> None:
        """The order that is out is accepted or refused."""
        if not self.order_out:
            return
        self.order_out = False
        self.locked = self.locked or accepted
        if accepted or self.state is State.FIRING:
            self.apply(Event.ENGAGED if accepted else Event.REFUSED)

    @rule()
    def another_replica_engages(self) -> None:
        """A Shutdown of this policy appears. Names are deterministic: it is ours as well."""
        self.locked, self.order_out = True, False
        self.judge()

    @rule()
    def people_release(self) -> None:
        """The Shutdown is no longer engaged."""
        self.locked = False
        self.judge()

    @rule()
    def restart(self) -> None:
        """The reactor forgets everything but what is stored."""
        self.state, self.since, self.order_out = State.DISARMED, {}, False
        self.judge()

    def facts(self) -> decisions.Facts:
        """What a decision sees now."""
        self.since = tripped_since(self.RULES, self.readings, self.since, now=self.now)
        votes = tally(self.RULES, self.readings, self.since, needed=self.needed, now=self.now)
        inhibition = self.inhibition if votes.demanded else None
        return decisions.Facts(self.enabled, self.locked, votes, inhibition)

    def judge(self) -> None:
        """Facts → event → switch."""
        self.apply(decisions.event(self.facts()))

    def apply(self, event: Event) -> None:
        """Move, and check what may never happen."""
        before, transition = self.state, move(self.state, event)
        self.state = transition.state
        if transition.effect is Effect.ENGAGE:
            seen = self.facts()
            assert self.enabled
            assert self.inhibition is None
            assert not self.locked
            assert seen.tally.counted >= self.needed
            assert not self.order_out
            self.order_out = True
        if before is State.LATCHED and self.state is not State.LATCHED:
            assert not self.locked

    @invariant()
    def a_lock_latches(self) -> None:
        """A Shutdown that is engaged is never overlooked, except for an order under way."""
        if self.locked and not self.order_out:
            assert self.state is State.LATCHED


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("inhibition", [None, Inhibition(Cause.COOLDOWN, "test")])
def test_only_a_release_leaves_latched(
    enabled: bool, verdict: Verdict, inhibition: Inhibition | None
) -> None:
    """While a Shutdown is engaged no signal, edit or bypass moves the switch."""
    rules = (VotingRule("a", Meaning.FIRE, 0.0, 60.0),)
    readings = {"a": reading("a", verdict, 0)}
    votes = tally(rules, readings, tripped_since(rules, readings, {}, now=0), needed=1, now=0)
    facts = decisions.Facts(enabled, engaged=True, tally=votes, inhibition=inhibition)
    assert Transition(State.LATCHED) == move(State.LATCHED, decisions.event(facts))
    released = move(State.LATCHED, decisions.event(replace(facts, engaged=False)))
    assert released.state is not State.LATCHED
