from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.signals.alerts import Alert, PolicyReference
from killswitch.signals.episodes import SOURCES, Arrival, Episodes

NOW = 1_800_000_000.0
REFERENCE = PolicyReference("uid", 3, "queue")


def alert(
    *, start: float = 0.0, ends: float | None = 4.0, replica: str = "a", **changes: object
) -> Alert:
    """One of the policy's alerts, times relative to NOW."""
    reference = replace(REFERENCE, **changes)  # type: ignore[arg-type]  # test builder
    end = None if ends is None else NOW + ends
    labels = (("alertname", "KillSwitchFire"), ("replica", replica))
    return Alert("KillSwitchFire", labels, 1.0, NOW + start, end, reference)


@pytest.fixture
def episodes() -> Episodes:
    """Expecting one signal of one generation."""
    found = Episodes()
    found.expect([REFERENCE])
    return found


def test_the_first_arrival_counts_and_others_only_keep_it_alive(episodes: Episodes) -> None:
    """From one Prometheus, another one and Alertmanager alike."""
    assert episodes.arrive(alert(), NOW) is Arrival.BEGAN
    assert episodes.arrive(alert(ends=5.0), NOW + 1) is Arrival.REPEATED
    assert episodes.arrive(alert(start=0.3, replica="b"), NOW + 1) is Arrival.REPEATED
    assert episodes.arrive(alert(ends=None, replica="c"), NOW + 1) is Arrival.REPEATED
    assert episodes.tripped == {REFERENCE}
    assert episodes.counts == {Arrival.BEGAN: 1, Arrival.REPEATED: 3}


def test_it_ends_when_the_last_of_its_alerts_is_resolved(episodes: Episodes) -> None:
    """One replica that still fires is believed."""
    episodes.arrive(alert(), NOW)
    episodes.arrive(alert(start=0.3, replica="b"), NOW)
    assert episodes.arrive(alert(ends=1.0), NOW + 1) is Arrival.RESOLVED
    assert episodes.tripped == {REFERENCE}
    assert episodes.arrive(alert(start=0.3, ends=1.0, replica="b"), NOW + 1) is Arrival.ENDED
    assert episodes.tripped == frozenset()
    assert episodes.arrive(alert(ends=1.0), NOW + 1) is Arrival.RESOLVED


def test_not_repeated_until_its_end_is_gone(episodes: Episodes) -> None:
    """Told once; a repetition just in time prevents it."""
    episodes.arrive(alert(ends=4.0), NOW)
    episodes.arrive(alert(ends=6.0), NOW + 2)
    episodes.arrive(alert(ends=5.0), NOW + 2)  # overtaken on the way: shortens nothing
    assert episodes.gone(NOW + 5.9) == ()
    assert episodes.gone(NOW + 6.0) == (REFERENCE,)
    assert episodes.gone(NOW + 7.0) == ()
    assert episodes.tripped == frozenset()


def test_a_lost_episode_resumes_without_beginning_again(episodes: Episodes) -> None:
    """Same start: acted upon already. Another start: a new episode."""
    episodes.arrive(alert(), NOW)
    episodes.gone(NOW + 10)
    assert episodes.arrive(alert(ends=20.0), NOW + 11) is Arrival.RESUMED
    assert episodes.tripped == {REFERENCE}
    episodes.arrive(alert(ends=12.0), NOW + 12)
    assert episodes.arrive(alert(start=13.0, ends=20.0), NOW + 13) is Arrival.BEGAN


def test_an_alert_that_came_too_late_does_not_hide_the_next(episodes: Episodes) -> None:
    """Delayed beyond its end it looks resolved; repeated in time it fires."""
    assert episodes.arrive(alert(ends=4.0), NOW + 5) is Arrival.RESOLVED
    assert episodes.arrive(alert(ends=10.0), NOW + 6) is Arrival.BEGAN


def test_alertmanager_may_change_the_start_of_what_it_resolves(episodes: Episodes) -> None:
    """It merges the starts of several senders; an alert without an end ends all the same."""
    episodes.arrive(alert(start=5.0, ends=None), NOW + 5)
    assert episodes.arrive(alert(start=3.0, ends=6.0), NOW + 6) is Arrival.ENDED


def test_without_an_end_it_is_not_believed_for_ever(episodes: Episodes) -> None:
    """Neither with an end in the year 9999."""
    episodes.arrive(alert(ends=None), NOW)
    episodes.arrive(alert(ends=1e11, replica="b"), NOW)
    assert episodes.gone(NOW + 4.4 * 3600) == ()
    assert episodes.gone(NOW + 4.5 * 3600) == (REFERENCE,)


@pytest.mark.parametrize(
    ("changes", "arrival"),
    [
        ({"policy": "other"}, Arrival.UNKNOWN_POLICY),
        ({"signal": "other"}, Arrival.UNKNOWN_SIGNAL),
        ({"generation": 2}, Arrival.OLDER_GENERATION),
        ({"generation": 4}, Arrival.NEWER_GENERATION),
    ],
)
def test_the_unexpected_is_counted_and_changes_nothing(
    episodes: Episodes, changes: dict[str, object], arrival: Arrival
) -> None:
    """Firing or resolved."""
    assert episodes.arrive(alert(**changes), NOW) is arrival  # type: ignore[arg-type]  # as above
    assert episodes.tripped == frozenset()
    assert episodes.counts == {arrival: 1}


def test_an_alert_of_nobodys_policy_is_not_ours(episodes: Episodes) -> None:
    """Somebody else's rule."""
    assert episodes.arrive(replace(alert(), reference=None), NOW) is Arrival.NOT_OURS


def test_a_new_generation_forgets_what_the_old_one_said(episodes: Episodes) -> None:
    """And the same expectation again forgets nothing."""
    episodes.arrive(alert(), NOW)
    episodes.expect([REFERENCE])
    assert episodes.tripped == {REFERENCE}
    newer = replace(REFERENCE, generation=4)
    episodes.expect([newer])
    assert episodes.tripped == frozenset()
    assert episodes.arrive(alert(), NOW) is Arrival.OLDER_GENERATION
    assert episodes.arrive(alert(generation=4), NOW) is Arrival.BEGAN


def test_series_beyond_the_bound_are_not_kept(episodes: Episodes) -> None:
    """The signal is tripped anyway; room comes back when one ends."""
    for number in range(SOURCES):
        episodes.arrive(alert(replica=str(number)), NOW)
    assert episodes.arrive(alert(replica="more"), NOW) is Arrival.CROWDED
    episodes.arrive(alert(replica="0", ends=1.0), NOW + 1)
    assert episodes.arrive(alert(replica="more"), NOW + 1) is Arrival.REPEATED


words = st.builds(
    alert,
    start=st.sampled_from([0.0, 1.0, 2.0]),
    ends=st.sampled_from([None, 1.0, 3.0, 6.0]),
    replica=st.sampled_from(["a", "b"]),
    generation=st.sampled_from([2, 3, 4]),
)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(words, st.sampled_from([0.0, 0.5, 2.0])), max_size=30))
def test_what_is_tripped_had_a_live_alert_of_its_generation(
    steps: list[tuple[Alert, float]],
) -> None:
    """Whatever arrives in whatever order; and each Began starts from not tripped."""
    episodes, now = Episodes(), NOW
    episodes.expect([REFERENCE])
    for word, passed in steps:
        now += passed
        before = episodes.tripped
        arrival = episodes.arrive(word, now)
        if arrival in {Arrival.BEGAN, Arrival.RESUMED}:
            assert before == frozenset()
            assert word.firing(now)
        if REFERENCE in episodes.tripped - before:
            assert word.reference == REFERENCE
        episodes.gone(now)
    episodes.gone(now + 5 * 3600)
    assert episodes.tripped == frozenset()
