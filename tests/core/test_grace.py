"""What is under way is nothing only where that is certain."""

import pytest

from killswitch.core import grace
from killswitch.core.grace import Grace
from killswitch.core.readings import Answer, Blindness, NoAnswer

PARTIAL = NoAnswer(Blindness.UNREACHABLE, "a store is away")


@pytest.mark.parametrize(
    ("answer", "requests", "words"),
    [
        (Answer((0.0, 0.0), 1.0), 0.0, "0"),
        (Answer((2.0, 1.0), 1.0), 3.0, "3"),
        (Answer((2.0,), 600.0), 2.0, "2"),
        (Answer((0.0,), 5.0), None, "unknown: 0 before the cut"),
        (Answer((0.0,), 60.0), None, "unknown: 0 before the cut"),
        (Answer((0.0,), None), None, "unknown: 0 before the cut"),
        (Answer((0.0,), float("nan")), None, "unknown: 0 before the cut"),
        (Answer((), None), None, "unknown: no series"),
        (Answer((0.0, float("nan")), 1.0), None, "unknown: not a count"),
        (Answer((-1.0, 1.0), 1.0), None, "unknown: not a count"),
        (
            Answer((0.0,), 1.0, missing=PARTIAL),
            None,
            "unknown: a part does not answer (Unreachable)",
        ),
        (Answer((4.0,), 1.0, missing=PARTIAL), 4.0, "4"),
        (NoAnswer(Blindness.TIMEOUT, "late"), None, "unknown: Timeout"),
    ],
)
def test_not_knowing_is_never_nothing(
    answer: Answer | NoAnswer, requests: float | None, words: str
) -> None:
    """Five seconds after the cut: only a fresh, whole 0 is one."""
    heard = grace.under_way(answer, since_cut=5.0)
    assert (heard.requests, heard.words) == (requests, words)
    assert heard.nothing == (requests == 0)


def test_the_terms_of_a_graceful_stop() -> None:
    """In seconds; an Immediate one has none."""
    terms = {"drain": "2m", "terminate": "30s", "inFlight": "sum(running)"}
    graceful = {"spec": {"category": "Graceful", "graceful": terms}}
    assert grace.of(graceful) == Grace(120.0, 30.0, "sum(running)")
    assert grace.of({"spec": {"category": "Immediate"}}) is None
    assert grace.of({"spec": {}}) is None


def test_what_waits_on_purpose_is_not_late_by_that() -> None:
    """Its deadline begins when the last pod should have ended by itself."""
    terms = {"drain": "2m", "terminate": "30s"}
    spec = {"category": "Graceful", "graceful": terms, "deadline": "1m"}
    assert grace.longest(spec) == 210
    assert grace.longest({"deadline": "1m"}) == 60


@pytest.mark.parametrize(
    ("now", "left"), [(100.0, 30.0), (110.0, 20.0), (200.0, 0.0), (10.0, 30.0)]
)
def test_a_clock_that_was_set_prolongs_no_wait(now: float, left: float) -> None:
    """What began at 100 and lasts 30 is never waited for longer than 30."""
    assert grace.remaining(100.0, 30.0, now) == left


@pytest.mark.parametrize(
    ("own", "left", "given"),
    [(30, 60.0, 30), (600, 9.2, 10), (600, 0.0, 1), (0, 60.0, 1), (30, -5.0, 1)],
)
def test_a_pod_gets_its_own_grace_but_not_beyond_the_end(own: int, left: float, given: int) -> None:
    """And never 0, whatever it asks for itself."""
    assert grace.given(own, left) == given


def test_the_deadline_counts_on_top_of_what_a_graceful_stop_takes() -> None:
    """Else one that drains as it should would be called late."""
    at_once = {"deadline": "1m"}
    gently = {"deadline": "1m", "graceful": {"drain": "30s", "terminate": "10s"}}
    assert [grace.longest(each) for each in (at_once, gently)] == [60.0, 100.0]


def test_the_time_of_a_stop_counts_from_the_decision() -> None:
    """Where none was reported, as of a stop by hand, from its creation."""
    shutdown = {"metadata": {"creationTimestamp": "1970-01-01T00:01:40Z"}}
    assert grace.began(shutdown) == 100.0
    assert grace.began(shutdown | {"status": None}) == 100.0
    decided = {"status": {"stages": {"decided": "1970-01-01T00:01:39.5Z"}}}
    assert grace.began(shutdown | decided) == 99.5
