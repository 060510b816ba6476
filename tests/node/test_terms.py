"""When a Freeze ends and what counts as silence."""

import pytest

from killswitch.node.terms import GAP, Terms
from tests.node.objects import START, freeze, standing


def met(seconds: float = 300, wall: float = START, boot: float = 1000.0) -> Terms:
    """Terms that have met one Freeze of that many seconds."""
    terms = Terms(now=boot)
    terms.meet(freeze(seconds=seconds), wall=wall, boot=boot)
    return terms


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_jump_of_the_wall_clock_neither_ends_nor_prolongs_a_freeze(jump: float) -> None:
    """Its end is fixed when it is first seen; seen again at another time, it stays."""
    terms = met()
    terms.meet(freeze(), wall=START + jump, boot=1001.0)
    terms.now = 1299.9
    assert not terms.expired(freeze())
    terms.now = 1300.0
    assert terms.expired(freeze())


def test_a_wall_clock_that_is_behind_gives_no_more_than_was_meant() -> None:
    """Five minutes after its creation at most."""
    terms = met(wall=START - 86_400)
    terms.now = 1300.0
    assert terms.expired(freeze())


def test_a_wall_clock_that_is_ahead_ends_it_at_once() -> None:
    """The safe direction of a Freeze that cannot be timed: what its object names comes early."""
    assert met(wall=START + 86_400).expired(freeze())


def test_the_next_end_is_the_nearest_to_come() -> None:
    """What is over is waited for no more; what is forgotten neither."""
    terms = met()
    assert terms.next_end() == 1300.0
    terms.now = 1300.0
    assert terms.next_end() is None
    terms.now = 1000.0
    terms.keep(set())
    assert terms.next_end() is None


def silent_for(terms: Terms, seconds: float, step: float = 5.0, start: float = 0.0) -> None:
    """Looks that find nobody."""
    terms.heard(start)
    for number in range(1, round(seconds / step) + 1):
        terms.silent(start + number * step)


def test_silence_as_long_as_an_order_says_is_isolation() -> None:
    """Not a look earlier; one answer ends it."""
    terms = Terms()
    silent_for(terms, 25)
    assert not terms.isolated(standing(after="30s"))
    silent_for(terms, 30)
    assert terms.isolated(standing(after="30s"))
    assert not terms.isolated(standing(after="35s"))
    terms.heard(31)
    assert not terms.isolated(standing(after="30s"))


def test_nodes_do_not_act_as_one() -> None:
    """Each is up to a tenth more patient."""
    terms = Terms(jitter=0.1)
    silent_for(terms, 30)
    assert not terms.isolated(standing(after="30s"))
    silent_for(terms, 35)
    assert terms.isolated(standing(after="30s"))


def test_a_guard_that_slept_has_not_heard_an_hour_of_silence() -> None:
    """A suspended machine, a stopped process: only what was observed counts."""
    terms = Terms()
    terms.heard(0)
    terms.silent(3600)
    assert terms.silence == GAP
    assert not terms.isolated(standing(after="30s"))


def test_the_first_look_of_a_process_finds_no_silence_yet() -> None:
    """It knows of none before; what an earlier one has just observed is added to."""
    terms = Terms()
    terms.silent(5000)
    assert terms.silence == 0
    terms = Terms(silence=20, looked=4995)
    terms.silent(5000)
    assert terms.silence == 20
    terms.silent(5010)
    assert terms.isolated(standing(after="30s"))


@pytest.mark.parametrize("looked", [None, 5000 - GAP, 5000 - 86_400.0])
def test_silence_that_an_earlier_process_observed_long_ago_is_none(looked: float | None) -> None:
    """Nobody knows what was in between: it begins anew."""
    terms = Terms(silence=1000, looked=looked)
    terms.silent(5000)
    assert terms.silence == 0
    terms.silent(5010)
    assert terms.silence == 10


def test_a_process_that_has_not_asked_does_not_take_itself_for_isolated() -> None:
    """However long the one before heard nothing: the link may be back. Its own first look says."""
    terms = Terms(silence=1000, looked=4999)
    assert not terms.isolated(standing(after="30s"))
    terms.silent(5000)
    assert terms.isolated(standing(after="30s"))
