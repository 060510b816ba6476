import itertools

import pytest

from killswitch.core import decisions
from killswitch.core.interlocks import Cause, Inhibition
from killswitch.core.quorum import Meaning, Tally, VotingRule, tally, tripped_since
from killswitch.core.readings import Verdict
from killswitch.core.switch import Event
from tests.core.builders import reading

INHIBITION = Inhibition(Cause.COOLDOWN, "test")


def votes(verdict: Verdict, hold_down: float = 0.0) -> Tally:
    """The tally of one signal with this verdict."""
    rules = (VotingRule("a", Meaning.HOLD, hold_down, 60.0),)
    readings = {"a": reading("a", verdict, 0)}
    return tally(rules, readings, tripped_since(rules, readings, {}, now=0), needed=1, now=0)


DEMANDED, PENDING = votes(Verdict.TRIPPED), votes(Verdict.TRIPPED, 30)
QUIET = (votes(Verdict.CLEAR), votes(Verdict.UNKNOWN))


@pytest.mark.parametrize(
    ("enabled", "votes_", "inhibition"),
    list(itertools.product([True, False], [DEMANDED, PENDING, *QUIET], [None, INHIBITION])),
)
def test_an_engaged_shutdown_outranks_everything(
    enabled: bool, votes_: Tally, inhibition: Inhibition | None
) -> None:
    """The lock is a fact; signals, mode and interlocks are opinions about the next one."""
    facts = decisions.Facts(enabled, engaged=True, tally=votes_, inhibition=inhibition)
    assert Event.ENGAGED is decisions.event(facts)


@pytest.mark.parametrize("votes_", [DEMANDED, PENDING, *QUIET])
def test_a_disabled_policy_is_not_judged(votes_: Tally) -> None:
    """Whatever its signals say."""
    facts = decisions.Facts(enabled=False, engaged=False, tally=votes_, inhibition=None)
    assert Event.DISABLED is decisions.event(facts)


@pytest.mark.parametrize(
    ("votes_", "inhibition", "expected"),
    [
        (DEMANDED, None, Event.PERMITTED),
        (DEMANDED, INHIBITION, Event.FORBIDDEN),
        (PENDING, None, Event.TRIPPED),
        (PENDING, INHIBITION, Event.TRIPPED),
        (QUIET[0], None, Event.CLEARED),
        (QUIET[1], None, Event.CLEARED),
    ],
)
def test_the_tally_decides_otherwise(
    votes_: Tally, inhibition: Inhibition | None, expected: Event
) -> None:
    """Demand asks the interlocks, hold-down waits, everything else is quiet."""
    facts = decisions.Facts(enabled=True, engaged=False, tally=votes_, inhibition=inhibition)
    assert expected is decisions.event(facts)
