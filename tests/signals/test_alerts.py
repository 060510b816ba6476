import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.core.errors import MalformedError
from killswitch.core.readings import Path, Verdict
from killswitch.signals.alerts import (
    Alert,
    Batch,
    PolicyReference,
    from_alertmanager,
    from_prometheus,
    tripped,
)

NOW = 1_800_000_000.0
OURS = {
    "alertname": "KillSwitchFire",
    "killswitch_policy": "uid-1",
    "killswitch_generation": "3",
    "killswitch_signal": "queue",
    "killswitch_metric": "abc",
}


def sent(**changes: Any) -> dict[str, Any]:
    """One alert as Prometheus 3 posts it."""
    return {
        "labels": dict(OURS),
        "annotations": {"value": "42.5"},
        "startsAt": "2027-01-15T08:00:00.123456789Z",
        "endsAt": "2027-01-15T08:00:04.1Z",
        "generatorURL": "http://prometheus/graph?g0.expr=x",
        **changes,
    }


def prometheus(*alerts: object) -> Batch:
    """Parsed as its body."""
    return from_prometheus(json.dumps(alerts).encode())


def test_an_alert_of_prometheus_is_taken_whole() -> None:
    """Labels, value, both times and the reference; nanoseconds are cut to microseconds."""
    expected = Alert(
        name="KillSwitchFire",
        labels=tuple(sorted(OURS.items())),
        value=42.5,
        starts_at=NOW + 0.123456,
        ends_at=NOW + 4.1,
        reference=PolicyReference("uid-1", 3, "queue"),
    )
    assert prometheus(sent()) == Batch((expected,))
    assert expected.metric == "abc"


@pytest.mark.parametrize(("after", "firing"), [(4.0, True), (4.1, False), (5.0, False)])
def test_an_end_in_the_past_is_how_prometheus_says_resolved(after: float, firing: bool) -> None:
    """A future end is until when it is believed."""
    (alert,) = prometheus(sent()).alerts
    assert alert.firing(NOW + after) is firing


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e+06", 1e6), ("+Inf", math.inf), ("-Inf", -math.inf), ("NaN", None), ("much", None)],
)
def test_values_are_as_go_writes_them(text: str, value: float | None) -> None:
    """What is no number is no value; the alert counts all the same."""
    (alert,) = prometheus(sent(annotations={"value": text})).alerts
    assert alert.value == value
    (bare,) = prometheus(sent(annotations=None)).alerts
    assert bare.value is None


def test_the_alert_of_somebody_else_has_no_reference() -> None:
    """Even with our labels on it: only our rule's alert names a policy."""
    (alert,) = prometheus(sent(labels={**OURS, "alertname": "HighLoad"})).alerts
    assert alert.reference is None


@pytest.mark.parametrize(
    "broken",
    [
        7,
        {},
        sent(labels=None),
        sent(labels=["a"]),
        sent(labels={"a": "b"}),
        sent(labels={**OURS, "x": 1}),
        sent(labels={**OURS, "x": "y" * 9000}),
        sent(labels={**OURS, **{str(n): "" for n in range(200)}}),
        sent(labels={**OURS, "killswitch_policy": ""}),
        sent(labels={**OURS, "killswitch_generation": "0"}),
        sent(labels={**OURS, "killswitch_generation": "-3"}),
        sent(labels={**OURS, "killswitch_generation": "²"}),
        sent(labels={**OURS, "killswitch_generation": "9" * 19}),
        sent(annotations="none"),
        sent(startsAt=None),
        sent(startsAt="0001-01-01T00:00:00Z"),
        sent(startsAt="yesterday"),
        sent(startsAt="2027-01-15T08:00:00"),
        sent(startsAt=12),
        sent(endsAt="9999-12-31T23:59:59"),
    ],
)
def test_one_broken_alert_does_not_silence_the_others(broken: object) -> None:
    """Nobody sends a batch twice: what can be read counts, the rest is counted."""
    batch = prometheus(broken, sent())
    assert (batch.malformed, len(batch.alerts)) == (1, 1)


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"\xff", b"null", b"[" * 5000])
def test_a_body_that_is_no_array_is_malformed(body: bytes) -> None:
    """One error for all of it."""
    with pytest.raises(MalformedError):
        from_prometheus(body)


def webhook(**changes: Any) -> bytes:
    """A body of Alertmanager 0.25."""
    alert = sent(status="firing", endsAt="0001-01-01T00:00:00Z", fingerprint="f")
    content = {"version": "4", "status": "firing", "receiver": "ks", "truncatedAlerts": 2}
    return json.dumps({**content, "alerts": [alert], **changes}).encode()


def test_a_webhook_of_alertmanager_is_taken_whole() -> None:
    """Year 1 is no end; what it left out is told."""
    batch = from_alertmanager(webhook())
    (alert,) = batch.alerts
    assert (alert.ends_at, batch.truncated) == (None, 2)
    assert alert.firing(NOW * 2)
    assert alert.reference == PolicyReference("uid-1", 3, "queue")


def test_resolved_without_an_end_does_not_fire() -> None:
    """The status is believed."""
    alert = sent(status="resolved", endsAt="0001-01-01T00:00:00Z")
    (parsed,) = from_alertmanager(webhook(alerts=[alert])).alerts
    assert not parsed.firing(NOW + 1)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        webhook(version="3"),
        webhook(version=4),
        webhook(alerts=None),
        webhook(truncatedAlerts=-1),
        webhook(truncatedAlerts=True),
    ],
)
def test_another_webhook_is_malformed(body: bytes) -> None:
    """Version 4 alone is understood."""
    with pytest.raises(MalformedError):
        from_alertmanager(body)


def test_a_firing_alert_is_a_tripped_reading() -> None:
    """With its value, and without a sample time: the start of an alert is none."""
    (alert,) = prometheus(sent()).alerts
    reading = tripped(alert, "queue", NOW)
    assert (reading.signal, reading.verdict) == ("queue", Verdict.TRIPPED)
    assert (reading.value, reading.sampled_at, reading.read_at) == (42.5, None, NOW)
    assert (reading.path, reading.lasting) == (Path.ALERT, True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
fields = st.sampled_from(["labels", "annotations", "startsAt", "endsAt", "status"])
mangled = st.dictionaries(fields, json_values, max_size=3).map(lambda changes: sent(**changes))
bodies = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda content: json.dumps(content).encode()),
    st.lists(mangled | json_values, max_size=3).map(lambda content: json.dumps(content).encode()),
    st.integers(0, 400).map(lambda cut: json.dumps([sent()]).encode()[:cut]),
)


@settings(max_examples=300, deadline=None)
@given(body=bodies)
def test_arbitrary_bytes_raise_nothing_else(body: bytes) -> None:
    """MalformedError or a batch that accounts for every entry."""
    for parse in (from_prometheus, from_alertmanager):
        try:
            batch = parse(body)
        except MalformedError:
            continue
        assert batch.malformed >= 0
        assert all(math.isfinite(alert.starts_at) for alert in batch.alerts)
