"""Events over a sliding window, against a plain count of all of them."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.core.readings import Blindness, Path, Reading, Verdict
from killswitch.core.windows import EventRule, Window
from tests.core.builders import NOW

RULE = EventRule("jailbreak", "guard", at_least=3, within=60.0)
ALIVE = EventRule("jailbreak", "guard", heartbeat=10.0)


def window(rule: EventRule = RULE, *times: float, count: int = 1) -> Window:
    """A window with events at these moments, in seconds from NOW."""
    found = Window(rule, NOW)
    for each in times:
        found.add(NOW + each, count, "n-1 from guard")
    return found


def verdict(found: Window, after: float) -> Verdict:
    """What it says so many seconds after NOW."""
    return found.reading("s", NOW + after, read_at=NOW + after).verdict


def test_enough_events_trip_and_time_clears() -> None:
    """Three within a minute; a minute after the first of them only two are left."""
    found = window(RULE, 0, 10, 20)
    message = "at least 3 jailbreak within 60 s, 3 trip; the last n-1 from guard"
    expected = Reading("s", Verdict.TRIPPED, message, NOW + 20, None, 3.0, NOW + 20, Path.EVENT)
    assert expected == found.reading("s", NOW + 20, read_at=NOW + 20)
    assert found.due(NOW + 20) == NOW + 60
    assert (verdict(found, 60), verdict(found, 60.1)) == (Verdict.TRIPPED, Verdict.CLEAR)


def test_one_event_may_count_for_many() -> None:
    """A sender that would flood sends one with a count."""
    assert verdict(window(RULE, 0, count=2), 0) is Verdict.CLEAR
    assert verdict(window(RULE, 0, count=3), 0) is Verdict.TRIPPED


def test_a_flood_is_remembered_in_bounded_room() -> None:
    """No more entries than could matter."""
    found = window(RULE, *range(50))
    assert found.reading("s", NOW + 50, read_at=NOW + 50).value == 3
    assert verdict(found, 49 + 58) is Verdict.TRIPPED
    assert verdict(found, 49 + 59) is Verdict.CLEAR


@pytest.mark.parametrize("heard", [True, False])
def test_silence_is_unknown(heard: bool) -> None:
    """Not heard yet is no answer, silence is an Unknown that counts as the policy says."""
    found = Window(ALIVE, NOW)
    first = found.reading("s", NOW + 1, read_at=NOW + 1)
    assert (first.verdict, first.reason) == (Verdict.UNKNOWN, Blindness.NEVER_READ)
    if heard:
        found.heard(NOW + 5)
        assert verdict(found, 15) is Verdict.CLEAR
    silent = found.reading("s", NOW + 15.1, read_at=NOW + 15.1)
    assert (silent.verdict, silent.reason) == (Verdict.UNKNOWN, Blindness.SILENT)
    found.heard(NOW + 16)
    assert verdict(found, 16) is Verdict.CLEAR


def test_a_trip_outlives_the_silence_of_its_source() -> None:
    """What was said is not taken back by saying nothing."""
    found = window(ALIVE, 0)
    assert verdict(found, 30) is Verdict.TRIPPED
    assert verdict(found, 61) is Verdict.UNKNOWN


moments = st.lists(
    st.tuples(st.integers(0, 50), st.integers(-80, 0), st.integers(1, 4)), max_size=30
)


@given(events=moments, at_least=st.integers(1, 5))
def test_dropping_what_cannot_matter_changes_no_verdict(
    events: list[tuple[int, int, int]], at_least: int
) -> None:
    """Late and out of order, looked at after each: the same as counting all that arrived."""
    found = Window(EventRule("t", at_least=at_least, within=60.0), NOW)
    arrivals = list(accumulate(step for step, _, _ in events))
    for number, now in enumerate(arrivals, 1):
        _, age, count = events[number - 1]
        found.add(NOW + now + age, count, "x")
        seen = [
            many
            for arrived, (_, late, many) in zip(arrivals[:number], events, strict=False)
            if now - (arrived + late) <= 60
        ]
        assert (sum(seen) >= at_least) == (verdict(found, now) is Verdict.TRIPPED)
