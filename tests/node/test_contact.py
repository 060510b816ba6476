"""What counts as contact and as silence, and what follows when the link is back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from killswitch.core.errors import TimedOutError
from killswitch.node import contact as module
from killswitch.node.api import Contact, Server, Session
from killswitch.node.contact import CLOSE, RELAXED, Lookout
from killswitch.node.news import Heard, News, Silent
from killswitch.node.terms import GAP

PATIENCE = 4.0
"""Seconds that an API server lets a look wait that does not answer."""


class Bench(Session):
    """A lookout whose control plane answers or does not, as a test says."""

    def __init__(self) -> None:
        """It answers; a thousand seconds after the machine started."""
        self.now = 1000.0
        self.contact = Contact(lambda: self.now)
        super().__init__(Server("", Path(), Path()), self.contact)
        self.answers = True
        self.asked = 0
        self.meanwhile: Callable[[], None] = lambda: None
        self.told: list[News | str] = []
        self.lookout = Lookout(
            self, self.contact, self.told.append, lambda: self.told.append("returned")
        )

    def ping(self, timeout: float) -> None:
        """At once, or never."""
        self.asked += 1
        if self.answers:
            self.contact.heard()
            return
        self.now += timeout
        self.meanwhile()
        raise TimedOutError("it does not answer")

    def look(self, *, answers: bool) -> News | str:
        """What is told first of the next look, when its time has come."""
        self.answers = answers
        self.told.clear()
        self.now += self.lookout.look()
        return self.told[0]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Of one node: nobody to keep out of step with."""
    monkeypatch.setattr(module, "_SPREAD", 0.0)
    return Bench()


def test_an_answer_is_told_with_its_time(bench: Bench) -> None:
    """The next look is after the interval, which is shorter while an order counts the silence."""
    assert bench.look(answers=True) == Heard(1000.0)
    assert bench.now == 1000.0 + RELAXED
    bench.lookout.interval = CLOSE
    bench.look(answers=True)
    assert bench.now == 1000.0 + RELAXED + CLOSE


def test_silence_is_told_when_it_is_known_and_looked_for_often(bench: Bench) -> None:
    """After the patience of the look, not before it."""
    assert bench.look(answers=False) == Silent(1000.0 + PATIENCE)
    assert bench.now < 1000.0 + PATIENCE + CLOSE


def test_where_another_thread_was_answered_lately_nobody_is_asked(bench: Bench) -> None:
    """Watches and reports are contact enough; what is half an interval old is not."""
    bench.contact.at = bench.now - 0.4 * RELAXED
    assert bench.look(answers=False) == Heard(1000.0)
    assert bench.asked == 0
    bench.contact.at = bench.now - 0.6 * RELAXED
    assert isinstance(bench.look(answers=False), Silent)
    assert bench.asked == 1


def test_what_another_thread_hears_during_a_look_in_vain_is_contact(bench: Bench) -> None:
    """This connection alone was the trouble."""
    bench.meanwhile = bench.contact.heard
    assert bench.look(answers=False) == Heard(1000.0 + PATIENCE)


def test_others_are_told_that_the_link_is_back_before_the_guard_is(bench: Bench) -> None:
    """Once; and not after a single look in vain, which is no reason to list everything anew."""
    bench.look(answers=False)
    assert isinstance(bench.look(answers=True), Heard)
    for _ in range(2):
        bench.look(answers=False)
    assert bench.look(answers=True) == "returned"
    assert [type(each) for each in bench.told] == [str, Heard]
    assert isinstance(bench.look(answers=True), Heard)


@pytest.mark.parametrize("interval", [RELAXED, CLOSE])
def test_all_of_the_silence_that_a_lookout_observes_counts(bench: Bench, interval: float) -> None:
    """From an answer to the look that finds none there is less than is taken for sleep."""
    bench.lookout.interval = interval
    heard = bench.look(answers=True)
    silent = bench.look(answers=False)
    assert isinstance(heard, Heard)
    assert isinstance(silent, Silent)
    assert silent.at - heard.at < GAP
