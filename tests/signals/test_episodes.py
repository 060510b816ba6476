import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.signals.alerts import Alert
from killswitch.signals.episodes import LONGEST, SOURCES, Arrival, Episode

NOW = 1_800_000_000.0


def alert(*, start: float = 0.0, ends: float | None = 4.0, replica: str = "a") -> Alert:
    """An alert, times relative to NOW."""
    end = None if ends is None else NOW + ends
    labels = (("alertname", "KillSwitchFire"), ("replica", replica))
    return Alert("KillSwitchFire", labels, 1.0, NOW + start, end, None)


class Heard:
    """An episode and the time since NOW."""

    def __init__(self) -> None:
        self.episode = Episode()

    def arrive(self, sent: Alert, after: float = 0.0, *, stepped: float = 0.0) -> Arrival:
        """It arrives so long after NOW; `stepped` is how far wall time was set meanwhile."""
        return self.episode.arrive(sent, now=NOW + after + stepped, monotonic=after)

    def ended(self, after: float) -> bool:
        """Whether the episode ends by time so long after NOW."""
        return self.episode.expire(after)


@pytest.fixture
def heard() -> Heard:
    """Nothing has arrived."""
    return Heard()


def test_the_first_arrival_counts_and_others_only_keep_it_alive(heard: Heard) -> None:
    """From one Prometheus, another one and Alertmanager alike."""
    assert heard.arrive(alert()) is Arrival.BEGAN
    assert heard.arrive(alert(ends=5.0), 1) is Arrival.REPEATED
    assert heard.arrive(alert(start=0.3, replica="b"), 1) is Arrival.REPEATED
    assert heard.arrive(alert(ends=None, replica="c"), 1) is Arrival.REPEATED
    assert heard.episode.live == 3


def test_it_ends_when_the_last_of_its_alerts_is_resolved(heard: Heard) -> None:
    """One replica that still fires is believed."""
    heard.arrive(alert())
    heard.arrive(alert(start=0.3, replica="b"))
    assert heard.arrive(alert(ends=1.0), 1) is Arrival.RESOLVED
    assert heard.episode.live == 1
    assert heard.arrive(alert(start=0.3, ends=1.0, replica="b"), 1) is Arrival.ENDED
    assert heard.arrive(alert(ends=1.0), 1) is Arrival.RESOLVED
    assert heard.episode.live == 0


def test_it_ends_when_nobody_repeats_it(heard: Heard) -> None:
    """Told once; a repetition just in time prevents it, an overtaken one shortens nothing."""
    heard.arrive(alert(ends=4.0))
    heard.arrive(alert(ends=6.0), 2)
    heard.arrive(alert(ends=5.0), 2)
    assert not heard.ended(5.9)
    assert heard.ended(6.0)
    assert not heard.ended(7.0)
    assert heard.arrive(alert(ends=12.0), 8) is Arrival.BEGAN


def test_an_alert_that_came_too_late_does_not_hide_the_next(heard: Heard) -> None:
    """Delayed beyond its end it looks resolved; repeated in time it fires."""
    assert heard.arrive(alert(ends=4.0), 5) is Arrival.RESOLVED
    assert heard.arrive(alert(ends=10.0), 6) is Arrival.BEGAN


def test_alertmanager_may_change_the_start_of_what_it_resolves(heard: Heard) -> None:
    """It merges the starts of several senders; an alert without an end ends all the same."""
    heard.arrive(alert(start=5.0, ends=None), 5)
    assert heard.arrive(alert(start=3.0, ends=6.0), 6) is Arrival.ENDED


def test_without_an_end_it_is_not_believed_for_ever(heard: Heard) -> None:
    """Neither with an end in the year 9999."""
    heard.arrive(alert(ends=None))
    heard.arrive(alert(ends=1e11, replica="b"))
    assert not heard.ended(LONGEST - 1)
    assert heard.ended(LONGEST)


@pytest.mark.parametrize("stepped", [-3600.0, 3600.0])
def test_a_clock_that_steps_changes_no_life(heard: Heard, stepped: float) -> None:
    """Back an hour, the alert does not live an hour; ahead, it does not end at once."""
    heard.arrive(alert(ends=4.0))
    assert not heard.ended(3.9)
    heard.arrive(alert(start=stepped, ends=6.0 + stepped, replica="b"), 2, stepped=stepped)
    assert not heard.ended(5.9)
    assert heard.ended(6.0)


def test_series_beyond_the_bound_are_not_kept(heard: Heard) -> None:
    """The signal is tripped anyway; room comes back when one ends."""
    for number in range(SOURCES):
        heard.arrive(alert(replica=str(number)))
    assert heard.arrive(alert(replica="more")) is Arrival.CROWDED
    heard.arrive(alert(replica="0", ends=1.0), 1)
    assert heard.arrive(alert(replica="more"), 1) is Arrival.REPEATED


words = st.builds(
    alert,
    start=st.sampled_from([0.0, 1.0, 2.0]),
    ends=st.sampled_from([None, 1.0, 3.0, 6.0]),
    replica=st.sampled_from(["a", "b"]),
)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(words, st.sampled_from([0.0, 0.5, 2.0])), max_size=30))
def test_it_lives_exactly_from_began_to_its_end(steps: list[tuple[Alert, float]]) -> None:
    """Whatever arrives in whatever order: Began, then Ended or expired, one after the other."""
    heard, now, living = Heard(), 0.0, False
    for word, passed in steps:
        now += passed
        if heard.ended(now):
            assert living
            living = False
        arrival = heard.arrive(word, now)
        if arrival is Arrival.BEGAN:
            assert not living
            assert word.firing(NOW + now)
        if arrival is Arrival.ENDED:
            assert living
        living = arrival is Arrival.BEGAN or (living and arrival is not Arrival.ENDED)
        assert living == bool(heard.episode.live)
    assert heard.ended(now + LONGEST + 1) == living
