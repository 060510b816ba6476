from killswitch.signals.watchdog import Silence, Watchdog


def test_a_path_is_silent_after_its_tolerance() -> None:
    """The tolerance itself is not silence; never heard of and lost are told apart."""
    dog = Watchdog()
    dog.expect("a", 3.0, 10.0)
    dog.expect("b", 5.0, 10.0)
    dog.heard("a", 11.0)
    assert dog.silent(14.0) == ()
    assert dog.silent(14.5) == (Silence("a", 11.0, ever=True),)
    assert dog.silent(16.0) == (Silence("a", 11.0, ever=True), Silence("b", 10.0, ever=False))
    assert [each.message(16.0) for each in dog.silent(16.0)] == [
        "a: last heard of 5.0 s ago",
        "b: never heard of; expected since 6.0 s ago",
    ]


def test_expecting_again_does_not_hide_silence() -> None:
    """Only its tolerance changes."""
    dog = Watchdog()
    dog.expect("a", 3.0, 0.0)
    dog.expect("a", 4.0, 100.0)
    assert dog.is_silent("a", 4.5)
    assert not dog.is_silent("a", 4.0)


def test_an_unexpected_path_is_silent_and_hearing_it_changes_nothing() -> None:
    """Whoever made it up gets no state here."""
    dog = Watchdog()
    assert not dog.heard("x", 1.0)
    assert dog.is_silent("x", 1.0)
    dog.expect("x", 1.0, 1.0)
    dog.forget("x")
    assert dog.silent(100.0) == ()


def test_time_that_goes_backwards_takes_nothing_back() -> None:
    """The latest hearing counts."""
    dog = Watchdog()
    dog.expect("a", 3.0, 0.0)
    assert dog.heard("a", 10.0)
    assert dog.heard("a", 5.0)
    assert not dog.is_silent("a", 12.0)
    assert dog.is_silent("a", float("nan"))
