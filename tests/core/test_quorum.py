import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.core.quorum import Meaning, Span, Tally, VotingRule, tally, tripped_since
from killswitch.core.readings import Blindness, Reading, Verdict, never_read
from tests.core.builders import NOW, reading

TRIPPED, CLEAR, UNKNOWN = Verdict.TRIPPED, Verdict.CLEAR, Verdict.UNKNOWN


class Voting:
    """Signals followed through time as the engine does it."""

    def __init__(self, *rules: VotingRule, needed: int = 1) -> None:
        self.rules, self.needed = rules, needed
        self.since: dict[str, Span] = {}

    def at(self, seconds: float, *verdicts: Verdict) -> Tally:
        """The tally when these verdicts were read at that moment."""
        named = zip(self.rules, verdicts, strict=True)
        return self.given(
            seconds, {rule.signal: reading(rule.signal, each, seconds) for rule, each in named}
        )

    def given(self, seconds: float, readings: Mapping[str, Reading]) -> Tally:
        """The tally of these readings at that moment."""
        self.since = tripped_since(self.rules, readings, self.since, now=seconds)
        return tally(self.rules, readings, self.since, needed=self.needed, now=seconds)


def rule(
    name: str = "a",
    meaning: Meaning = Meaning.HOLD,
    hold_down: float = 0.0,
    patience: float = 60.0,
    keep_firing: float = 0.0,
) -> VotingRule:
    """How one signal votes."""
    return VotingRule(name, meaning, hold_down, patience, keep_firing)


@pytest.mark.parametrize(
    ("meaning", "demanded"), [(Meaning.HOLD, False), (Meaning.ALERT, False), (Meaning.FIRE, True)]
)
def test_unknown_counts_only_where_the_policy_says_fire(meaning: Meaning, demanded: bool) -> None:
    """Missing data is no vote unless people decided that it is one."""
    found = Voting(rule(meaning=meaning)).at(0, UNKNOWN)
    assert demanded is found.demanded
    assert [each.signal for each in found.blind] == ["a"]


@pytest.mark.parametrize("meaning", Meaning)
def test_never_read_is_no_vote(meaning: Meaning) -> None:
    """A reactor that starts, or a policy that is edited, does not fire before its first answer."""
    voting = Voting(rule(meaning=meaning))
    assert not voting.given(0, {"a": never_read("a", 0)}).demanded
    assert voting.since == {}


@pytest.mark.parametrize("meaning", Meaning)
def test_warming_up_is_no_vote(meaning: Meaning) -> None:
    """A detector that starts has no opinion; under Fire that would stop a model for starting."""
    voting = Voting(rule(meaning=meaning))
    assert not voting.given(0, {"a": reading("a", UNKNOWN, 0, Blindness.WARMING_UP)}).demanded
    assert voting.since == {}


@pytest.mark.parametrize("meaning", Meaning)
@pytest.mark.parametrize(
    "reason",
    [each for each in Blindness if each not in {Blindness.NEVER_READ, Blindness.WARMING_UP}],
)
def test_every_blindness_has_the_same_meaning(meaning: Meaning, reason: Blindness) -> None:
    """`onNoData` is asked about missing data, not about its cause."""
    found = Voting(rule(meaning=meaning)).given(0, {"a": reading("a", UNKNOWN, 0, reason)})
    assert (meaning is Meaning.FIRE) == found.demanded


def test_hold_down_runs_from_the_first_tripped_reading() -> None:
    """It counts at the moment its time is over, not before."""
    voting = Voting(rule(hold_down=30))
    first = voting.at(100, TRIPPED)
    assert (first.demanded, first.pending, first.due) == (False, True, 130.0)
    late = voting.at(129.9, TRIPPED)
    assert (late.demanded, late.pending, late.due) == (False, True, 130.0)
    done = voting.at(130, TRIPPED)
    assert (done.demanded, done.pending, done.due) == (True, False, None)


def test_clear_ends_the_hold_down() -> None:
    """One Clear reading starts it anew."""
    voting = Voting(rule(hold_down=30))
    voting.at(100, TRIPPED)
    voting.at(129, CLEAR)
    assert voting.at(131, TRIPPED).due == 161


@pytest.mark.parametrize("meaning", [Meaning.HOLD, Meaning.ALERT])
def test_one_lost_poll_does_not_restart_the_hold_down(meaning: Meaning) -> None:
    """Unknown neither counts nor clears while it lasts."""
    voting = Voting(rule(meaning=meaning, hold_down=30))
    voting.at(100, TRIPPED)
    lost = voting.at(131, UNKNOWN)
    assert (lost.demanded, lost.pending) == (False, False)
    assert voting.at(132, TRIPPED).demanded


@pytest.mark.parametrize("meaning", [Meaning.HOLD, Meaning.ALERT])
def test_a_long_blindness_starts_the_hold_down_anew(meaning: Meaning) -> None:
    """Nobody knows what the signal did meanwhile: one tripped sample after it is not `for` long."""
    voting = Voting(rule(meaning=meaning, hold_down=30, patience=15))
    voting.at(100, TRIPPED)
    voting.at(115, UNKNOWN)
    assert "a" in voting.since
    voting.at(116, UNKNOWN)
    assert voting.since == {}
    assert voting.at(3700, TRIPPED).due == 3730


def test_unknown_that_fires_observes_the_hold_down() -> None:
    """A short outage of Prometheus does not fire a policy that says Fire with patience."""
    voting = Voting(rule(meaning=Meaning.FIRE, hold_down=30))
    assert voting.at(100, UNKNOWN).pending
    assert voting.at(130, UNKNOWN).demanded


def test_tripped_and_unknown_share_one_hold_down_under_fire() -> None:
    """Both are the same vote, so going blind does not restart the clock."""
    voting = Voting(rule(meaning=Meaning.FIRE, hold_down=30))
    voting.at(100, TRIPPED)
    assert voting.at(130, UNKNOWN).demanded


@pytest.mark.parametrize("needed", [1, 2, 3])
@pytest.mark.parametrize("verdicts", list(itertools.product(Verdict, repeat=3)))
def test_m_of_n(needed: int, verdicts: tuple[Verdict, ...]) -> None:
    """Every combination of three signals against every quorum."""
    voting = Voting(rule("a"), rule("b"), rule("c"), needed=needed)
    found = voting.at(0, *verdicts)
    assert (verdicts.count(TRIPPED) >= needed) is found.demanded
    assert not found.pending  # without hold-downs nothing waits
    assert verdicts.count(UNKNOWN) == len(found.blind)


def test_quorum_waits_for_the_slowest_signal_it_needs() -> None:
    """Two of three: the second hold-down to end makes the quorum, the third is not awaited."""
    rules = (rule("a", hold_down=10), rule("b", hold_down=20), rule("c", hold_down=60))
    voting = Voting(*rules, needed=2)
    assert voting.at(0, TRIPPED, TRIPPED, TRIPPED).due == 10
    assert voting.at(10, TRIPPED, TRIPPED, TRIPPED).pending
    found = voting.at(20, TRIPPED, TRIPPED, TRIPPED)
    assert found.demanded
    assert str(found) == "2 of 3 tripped, 2 required"


@given(
    steps=st.lists(st.tuples(st.floats(0.1, 20), st.sampled_from(Verdict)), max_size=30),
    hold_down=st.floats(0, 40),
    meaning=st.sampled_from(Meaning),
)
def test_a_vote_that_counts_was_never_clear_for_its_hold_down(
    steps: list[tuple[float, Verdict]], hold_down: float, meaning: Meaning
) -> None:
    """Whatever the sequence of readings, no Clear lies within the hold-down before a demand."""
    voting, now, last_clear = Voting(rule(meaning=meaning, hold_down=hold_down)), NOW, -1.0
    for step, verdict in steps:
        now += step
        if verdict is CLEAR:
            last_clear = now
        if voting.at(now, verdict).demanded:
            assert verdict is not CLEAR
            assert now - last_clear >= hold_down


def test_a_vote_is_kept_after_it_has_cleared() -> None:
    """As Prometheus' keep_firing_for: counted from the reading that cleared, anew each time."""
    voting = Voting(rule(hold_down=10, keep_firing=30))
    voting.at(0, TRIPPED)
    assert voting.at(10, TRIPPED).demanded
    assert voting.at(12, CLEAR).demanded
    assert voting.at(41, CLEAR).demanded
    assert voting.at(41.5, TRIPPED).demanded
    assert voting.at(42, CLEAR).demanded
    assert voting.at(71, UNKNOWN).demanded
    assert not voting.at(72, CLEAR).demanded
    assert voting.since == {}


def test_only_a_vote_that_counted_is_kept() -> None:
    """Prometheus keeps firing alerts, not pending ones."""
    voting = Voting(rule(hold_down=10, keep_firing=30))
    voting.at(0, TRIPPED)
    assert not voting.at(9, CLEAR).pending
    assert voting.since == {}


@pytest.mark.parametrize("verdict", [UNKNOWN, CLEAR])
def test_a_vote_that_was_unseen_has_not_counted(verdict: Verdict) -> None:
    """Its hold-down ended while nobody knew anything: nothing is kept, or blindness would fire."""
    voting = Voting(rule(hold_down=10, keep_firing=30))
    voting.at(0, TRIPPED)
    voting.at(1, UNKNOWN)
    assert not voting.at(11, verdict).demanded


def test_kept_votes_make_a_quorum_of_signals_that_take_turns() -> None:
    """Two signals that flap against each other are both meant."""
    voting = Voting(rule("a", keep_firing=5), rule("b", keep_firing=5), needed=2)
    assert not voting.at(0, TRIPPED, CLEAR).demanded
    assert voting.at(3, CLEAR, TRIPPED).demanded
    assert not voting.at(9, CLEAR, CLEAR).demanded
