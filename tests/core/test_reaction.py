"""The worst case is the sum of its parts, and unknown where a part is."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.core import exporters, reaction
from killswitch.core.conditions import Reason
from killswitch.core.reaction import Delay, Feed, Feeds, PolicyReaction, Route, SignalReaction
from killswitch.core.readings import Blindness, NoAnswer

SLOW, FAST = Feed("a", 15.0, "job slow"), Feed("a", 1.0, "job fast")
DCGM = Feed("DCGM_FI_DEV_POWER_USAGE", 15.0, "job dcgm")
NOTHING = NoAnswer(Blindness.ABSENT, "no target exposes a yet")


def poll(*feeds: Feed, every: float = 1.0, timeout: float = 2.0) -> Route:
    """These feeds, polled."""
    return reaction.polled(feeds, every=every, timeout=timeout)


def policy(*signals: SignalReaction, needed: int = 1) -> PolicyReaction:
    """A policy of these signals."""
    return PolicyReaction(signals, needed)


def one(*routes: Route, name: str = "load", hold_down: float = 0.0) -> SignalReaction:
    """A signal that arrives so."""
    return SignalReaction(name, routes, wait(None, hold_down=hold_down))


def wait(feeds: Feeds | None, **more: Any) -> tuple[Delay, ...]:
    """What comes after the first reading, of samples that live a minute."""
    terms: dict[str, Any] = {"hold_down": 0.0, "max_age": 60.0, "poll": 3.0, "believed": False}
    return reaction.held(feeds, **{**terms, **more})


def test_a_polled_signal() -> None:
    """Scrape, poll and its timeout, each named."""
    route = poll(SLOW)
    assert route.worst == 18.0
    expected = (
        "poll: 18.0 s = 15.0 s scrape of job slow + 3.0 s poll (each 1.0 s, answered within 2.0 s)"
    )
    assert str(route) == expected


def test_the_slowest_feed_counts() -> None:
    """Any series may be the one that crosses."""
    assert poll(FAST, SLOW).worst == poll(SLOW, FAST).worst == 18.0


def test_a_scrape_takes_its_time_too() -> None:
    """Rounded up, so that the status does not change with every scrape."""
    assert poll(Feed("a", 1.0, "job a", took=0.012)).worst == pytest.approx(4.02)


@pytest.mark.parametrize(
    ("took", "expected"),
    [(0.0, 0.0), (0.001, 0.001), (0.0011, 0.002), (0.3, 0.5), (0.7, 1.0), (1.0, 1.0), (6.0, 10.0)],
)
def test_rounding_up(took: float, expected: float) -> None:
    """To 1, 2 or 5 times a power of ten."""
    assert reaction.rounded_up(took) == pytest.approx(expected)


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_a_rounded_bound_is_a_bound(seconds: float) -> None:
    """Never below what it bounds, never far above."""
    assert seconds <= reaction.rounded_up(seconds) <= 2.51 * seconds


def test_the_other_paths() -> None:
    """An alert waits for its evaluation, remote write for its queue, an event for nothing."""
    assert reaction.alerted((SLOW,), every=0.1).worst == pytest.approx(15.15)
    assert reaction.written((SLOW,)).worst == pytest.approx(15.05)
    assert reaction.posted().worst == pytest.approx(0.01)


def test_own_scrapes_need_no_prometheus() -> None:
    """Their interval and deadline count, and the exporter's own clock where it has one."""
    assert reaction.scraped("vllm:num_requests_running", 0.1).worst == pytest.approx(1.1)
    assert reaction.scraped("vllm:num_requests_running", 60.0).worst == pytest.approx(70.0)
    assert reaction.scraped(DCGM.metric, 0.1).worst == pytest.approx(31.1)
    down = reaction.polled(NoAnswer(Blindness.UNREACHABLE, "it is down"), every=1.0, timeout=2.0)
    both = one(down, reaction.scraped("x", 0.1))
    assert both.worst == pytest.approx(1.1)


def test_an_alert_of_others_is_unknown_and_says_why() -> None:
    """Their rule, their group, their Alertmanager."""
    found = one(reaction.told())
    assert found.worst is None
    assert "a rule that is not ours" in str(found)


def test_recording_rules_add_their_intervals() -> None:
    """What is recorded waits for the rule after the scrape."""
    assert poll(Feed("a", 15.0, "job a", recorded=30.0)).worst == 48.0


def test_an_exporter_with_its_own_clock_adds_it() -> None:
    """A change just after the collection is exposed with the next one, scraped after that."""
    route = poll(DCGM)
    assert route.worst == 48.0
    assert "30.0 s dcgm-exporter's own interval (its default) + 15.0 s scrape" in str(route)


def test_changes_that_were_seen_prove_a_faster_exporter() -> None:
    """Whoever follows the cure is not warned for ever. A quiet series proves nothing."""
    quick = Feed(DCGM.metric, 1.0, "job dcgm", renewed=1.0)
    assert poll(quick).worst == 5.0
    assert "as its changes show" in str(poll(quick))
    quiet = Feed(DCGM.metric, 1.0, "job dcgm", renewed=150.0)
    assert poll(quiet).worst == 34.0


@pytest.mark.parametrize(
    ("metric", "every"),
    [
        ("DCGM_FI_DEV_GPU_UTIL", 30.0),
        ("ray_serve_num_http_requests", 10.0),
        ("container_network_transmit_bytes_total", 15.0),
        ("nv_gpu_utilization", 2.0),
        ("guardrails_requests_blocked", 60.0),
        ("nv_inference_request_success", None),
        ("vllm:num_requests_running", None),
        ("kube_pod_container_status_restarts_total", None),
    ],
)
def test_exporters(metric: str, every: float | None) -> None:
    """Known by the names of their metrics; what serves its present state is not among them."""
    found = exporters.of(metric)
    assert (found and found.every) == every


@pytest.mark.parametrize("known", [NOTHING, NoAnswer(Blindness.TIMEOUT, "")])
def test_what_is_not_known_is_unknown(known: Feeds) -> None:
    """With the reason; never a shorter time."""
    route = reaction.polled(known, every=1.0, timeout=2.0)
    assert route.worst is None
    assert str(route) == f"poll: unknown: {getattr(known, 'detail', '') or 'Timeout'}"
    assert one(route).worst is None
    assert str(policy(one(route))).startswith("unknown: signal load: ")


def test_a_signal_is_as_fast_as_its_fastest_known_path() -> None:
    """The first arrival wins; hold-down comes after any, to the reactor's next look."""
    alert = reaction.alerted((SLOW,), every=1.0)
    assert one(poll(SLOW), alert).worst == alert.worst
    assert one(poll(SLOW), hold_down=30.0).worst == pytest.approx(48.05)


NEVER = {
    "a hold-down that starts anew": ({"hold_down": 30.0, "max_age": 5.0}, True),
    "a hold-down that may start anew": ({"hold_down": 30.0, "max_age": 8.0}, True),
    "a hold-down that lives through the gap": ({"hold_down": 30.0, "max_age": 9.0}, False),
    "a hold-down that ends before the gap": ({"hold_down": 1.0, "max_age": 5.0}, False),
    "a hold-down without gaps": ({"hold_down": 30.0, "max_age": 15.0}, False),
    "no hold-down": ({"max_age": 5.0}, False),
    "polls that may miss each sample": ({"max_age": 5.0, "poll": 6.0}, True),
    "a gap that counts as tripped": (
        {"hold_down": 30.0, "max_age": 5.0, "believed": True},
        False,
    ),
}


@pytest.mark.parametrize("case", NEVER)
def test_samples_that_are_stale_before_the_next_one_comes(case: str) -> None:
    """Each 15 s one: what may never count has no bound, and the cure is named."""
    terms, never = NEVER[case]
    signal = SignalReaction("load", (poll(SLOW),), wait((SLOW,), **terms))
    assert (signal.worst == math.inf) is never
    found = reaction.timely(policy(signal), 100.0)
    if not never:
        assert found[1] is True
        return
    assert found[1:3] == (False, Reason.MAX_AGE_SHORT)
    assert found[3].startswith("never, signal load: 15.0 s scrape of job slow + 3.0 s poll")
    assert found[3].endswith("the next comes 15.0 s after it: raise maxAge")
    assert policy(signal, one(poll(FAST))).worst == 4.0


def test_what_is_recorded_is_spaced_by_its_rule() -> None:
    """Not by the scrape of what the rule reads."""
    assert wait((Feed("a", 1.0, "job a", recorded=60.0),), hold_down=30.0, max_age=10.0)[
        0
    ].seconds == (math.inf)
    assert wait((Feed("a", 60.0, "job a", recorded=1.0),), hold_down=30.0, max_age=10.0)[
        0
    ].seconds == pytest.approx(30.05)


@pytest.mark.parametrize("feeds", [None, NOTHING])
def test_unknown_feeds_say_nothing_of_staleness(feeds: Feeds | None) -> None:
    """An event has none."""
    assert wait(feeds, max_age=0.001) == ()


def test_a_path_that_nobody_confirmed_bounds_nothing() -> None:
    """Remote write is faster, if Prometheus writes to us; nobody knows that here."""
    written = reaction.written((SLOW,))
    assert one(poll(SLOW), written).worst == 18.0
    assert "not counted: only if Prometheus writes to us" in str(written)
    assert one(written).worst is None


def test_a_policy_is_as_fast_as_its_quorum() -> None:
    """The M-th fastest signal completes it."""
    signals = one(poll(SLOW), name="a"), one(poll(FAST), name="b"), one(poll(DCGM), name="c")
    assert [policy(*signals, needed=n).worst for n in (1, 2, 3)] == [4.0, 18.0, 48.0]


def test_an_unknown_signal_matters_where_the_quorum_needs_it() -> None:
    """Two known signals complete a quorum of two, whatever the third does."""
    blind = one(reaction.polled(NOTHING, every=1.0, timeout=2.0), name="x")
    signals = one(poll(SLOW), name="a"), blind, one(poll(FAST), name="b")
    assert policy(*signals, needed=2).worst == 18.0
    assert policy(*signals, needed=3).worst is None


SLOW_POLL = poll(Feed("a", 0.1, "job a"), every=20.0)
BY_CAUSE = {
    "exporter": (one(poll(DCGM)), Reason.EXPORTER_SLOW, "-c 1000"),
    "scrape": (one(poll(SLOW)), Reason.SCRAPE_SLOW, "scrape job slow more often"),
    "recording": (
        one(poll(Feed("a", 1.0, "job a", recorded=60.0))),
        Reason.EVALUATION_SLOW,
        "shorten the interval of the recording rules' groups",
    ),
    "poll": (one(SLOW_POLL), Reason.POLL_SLOW, "pollInterval"),
    "evaluation": (
        one(reaction.alerted((FAST,), every=60.0)),
        Reason.EVALUATION_SLOW,
        "shorten the interval of the rule group",
    ),
    "detector": (
        SignalReaction("load", (poll(FAST),), (reaction.detected(60.0),)),
        Reason.DETECTOR_SLOW,
        "shorten the detector's `every`",
    ),
    "hold-down": (one(poll(FAST), hold_down=30.0), Reason.HOLD_DOWN_LONG, "shorten `for`"),
}


@pytest.mark.parametrize("case", BY_CAUSE)
def test_a_wish_that_is_missed_names_what_hinders_it(case: str) -> None:
    """The longest part, and its cure."""
    signal, reason, cure = BY_CAUSE[case]
    type_, status, found, message = reaction.timely(policy(signal), 5.0)
    assert (type_, status, found) == ("Timely", False, reason)
    assert cure in message
    assert "reactWithin 5.0 s is missed mostly by" in message
    assert "which alone is too long" in message


def test_a_wish_can_be_missed_by_many_small_parts() -> None:
    """No part alone is too long; the longest is named all the same."""
    message = reaction.timely(policy(one(poll(SLOW))), 16.0)[3]
    assert "alone" not in message


def test_a_wish_that_is_met() -> None:
    """Up to and including the wish."""
    assert reaction.timely(policy(one(poll(SLOW))), 18.0)[1:3] == (True, Reason.IN_TIME)
    assert reaction.timely(policy(one(reaction.posted())), 0.01)[1] is True
    assert reaction.timely(policy(one(reaction.posted())), 0.005)[1:3] == (False, Reason.PATH_SLOW)


def test_a_wish_about_the_unknown() -> None:
    """Neither met nor missed."""
    blind = one(reaction.polled(NOTHING, every=1.0, timeout=2.0))
    found = reaction.timely(policy(blind), 5.0)
    assert found[1:3] == (None, Reason.REACTION_UNKNOWN)
    assert found[3] == "unknown: signal load: no target exposes a yet"
