from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.signals.watchdog import PathState, Watchdog


def silent(dog: Watchdog, path: str, now: float) -> bool:
    """Whether this expected path is silent."""
    state = dog.state(path, now)
    assert state is not None
    return state.silent


def test_a_path_is_silent_after_its_tolerance() -> None:
    """The tolerance itself is not silence; never heard of and lost are told apart."""
    dog = Watchdog()
    dog.expect("a", 3.0, 10.0)
    dog.expect("b", 5.0, 10.0)
    dog.heard("a", 11.0)
    assert dog.states(14.0) == (
        PathState("a", silent=False, seconds=3.0, ever=True, tolerance=3.0),
        PathState("b", silent=False, seconds=4.0, ever=False, tolerance=5.0),
    )
    assert [each.silent for each in dog.states(14.5)] == [True, False]
    assert [each.message for each in dog.states(16.0)] == [
        "a: last heard of 5.0 s ago",
        "b: never heard of; expected since 6.0 s ago",
    ]


def test_expecting_again_does_not_hide_silence() -> None:
    """Only its tolerance changes."""
    dog = Watchdog()
    dog.expect("a", 3.0, 0.0)
    dog.expect("a", 4.0, 100.0)
    assert silent(dog, "a", 4.5)
    assert not silent(dog, "a", 4.0)


def test_an_unexpected_path_is_not_known_and_hearing_it_changes_nothing() -> None:
    """Whoever made it up gets no state here."""
    dog = Watchdog()
    assert not dog.heard("x", 1.0)
    dog.complained("x", "why")
    assert dog.state("x", 1.0) is None
    dog.expect("x", 1.0, 1.0)
    dog.forget("x")
    assert dog.states(100.0) == ()


def test_time_that_goes_backwards_takes_nothing_back() -> None:
    """The latest hearing counts."""
    dog = Watchdog()
    dog.expect("a", 3.0, 0.0)
    assert dog.heard("a", 3.0)
    assert dog.heard("a", 1.0)
    assert not silent(dog, "a", 5.0)
    assert silent(dog, "a", float("nan"))


def test_a_complaint_is_no_sign_of_health() -> None:
    """It is told until the path says something better."""
    dog = Watchdog()
    dog.expect("a", 3.0, 0.0)
    dog.heard("a", 1.0)
    dog.complained("a", "it sees nothing")
    state = dog.state("a", 5.0)
    assert state is not None
    assert (state.silent, state.message) == (True, "a: last heard of 4.0 s ago (it sees nothing)")
    dog.heard("a", 6.0)
    state = dog.state("a", 6.0)
    assert state is not None
    assert state.message == "a: last heard of 0.0 s ago, not steadily for 3 s yet"


def test_once_silent_it_must_be_heard_for_its_tolerance() -> None:
    """A gap on the way starts that again."""
    dog = Watchdog()
    dog.expect("a", 3.0, 0.0)
    heard = {10.0: True, 12.0: True, 16.0: True, 18.0: True, 18.9: True, 19.0: False, 20.0: False}
    found = {}
    for now in heard:
        dog.heard("a", now)
        found[now] = silent(dog, "a", now)
    assert found == heard


moments = st.lists(st.floats(0.01, 8.0), max_size=40)


@settings(max_examples=300, deadline=None)
@given(gaps=moments)
def test_a_flapping_path_is_told_of_rarely(gaps: list[float]) -> None:
    """Silence lasts at least as long as the tolerance, and nothing overdue is called heard."""
    dog, tolerance = Watchdog(), 2.0
    dog.expect("a", tolerance, 0.0)
    now, last, changes, before = 0.0, 0.0, [], False
    for gap in gaps:
        for step in range(1, 11):
            moment = now + gap * step / 10
            if step == 10:
                dog.heard("a", moment)
                last = moment
            found = silent(dog, "a", moment)
            assert found or moment - last <= tolerance
            if found is not before:
                changes.append((moment, found))
                before = found
        now += gap
    for (fell, what), (rose, _) in pairwise(changes):
        assert not what or rose - fell >= tolerance - 1e-6
