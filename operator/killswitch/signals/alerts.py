"""Alerts as Prometheus and Alertmanager post them, parsed into frozen values.

Prometheus 2 and 3 post a JSON array to `/api/v2/alerts`, seeing us as one more Alertmanager;
Alertmanager posts its webhook, version 4. Only alerts of the rules that `signals.rules` generates
name a policy; what somebody else's rules fire is parsed and left alone. Who may post is decided
before these bytes get here: whoever may, can name a policy in labels and so demand a stop.

Nothing here knows the time. Whether an alert still fires is `Alert.firing(now)`, by its end.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from killswitch.core import times
from killswitch.core.errors import MalformedError
from killswitch.core.readings import Path, Reading, Verdict

FIRE = "KillSwitchFire"
HEARTBEAT = "KillSwitchHeartbeat"
BLIND = "KillSwitchBlind"

POLICY = "killswitch_policy"
GENERATION = "killswitch_generation"
SIGNAL = "killswitch_signal"
METRIC = "killswitch_metric"
"""Label names are prefixed, so that no label of a metric and no `external_labels` collides."""

VALUE = "value"
"""The annotation with what was measured. In a label each value would be a new alert."""

_MOST_LABELS = 128
_LONGEST_TEXT = 8192
_LARGEST_GENERATION = 2**63
_WEBHOOK_VERSION = "4"


@dataclass(frozen=True, slots=True, order=True)
class PolicyReference:
    """Which signal of which generation of which policy an alert speaks for."""

    policy: str
    """Uid of the policy: its name may meanwhile belong to another one."""
    generation: int
    signal: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert, as sent. Times are seconds since the epoch by the sender's clock."""

    name: str
    labels: tuple[tuple[str, str], ...]
    """Sorted by name; together they are the alert's identity."""
    value: float | None
    """What was measured, where an annotation carries it; never NaN."""
    starts_at: float
    """When its rule first was true: an evaluation time, not the time of a sample."""
    ends_at: float | None
    """Its end: in the past when resolved, otherwise until when it is believed without repetition.

    None: it has no end yet (Alertmanager says so of a firing alert).
    """
    reference: PolicyReference | None
    """None: not of a rule for a policy."""

    def firing(self, now: float) -> bool:
        """Whether it has not ended; Prometheus marks a resolved alert by an end in the past."""
        return self.ends_at is None or self.ends_at > now

    @property
    def metric(self) -> str:
        """The measurement that its rule is about; empty where no label says so."""
        return dict(self.labels).get(METRIC, "")


@dataclass(frozen=True, slots=True)
class Batch:
    """The alerts of one request."""

    alerts: tuple[Alert, ...]
    malformed: int = 0
    """Entries that are no alerts. One of them must not silence the others: nobody sends twice."""
    truncated: int = 0
    """Alerts that Alertmanager left out (`max_alerts` of its webhook)."""


def from_prometheus(body: bytes) -> Batch:
    """What Prometheus posted to `/api/v2/alerts`; MalformedError if it is no JSON array."""
    return _batch(_list(_json(body), "the body"))


def from_alertmanager(body: bytes) -> Batch:
    """What Alertmanager's webhook posted; MalformedError if it is not version 4 of that."""
    content = _object(_json(body), "the body")
    if content.get("version") != _WEBHOOK_VERSION:
        raise MalformedError(f'version is not "{_WEBHOOK_VERSION}"')
    truncated = content.get("truncatedAlerts", 0)
    if not _is_count(truncated):
        raise MalformedError("truncatedAlerts is not a number of alerts")
    return _batch(_list(content.get("alerts"), "alerts"), truncated)


def tripped(alert: Alert, signal: str, now: float) -> Reading:
    """The reading of a signal whose alert fires, received at `now`; it lasts until that is over.

    There is none for a resolved alert: that nothing fires is Clear only for who knows that the
    metric is there, and Prometheus does not say that here.
    """
    value = "its value" if alert.value is None else f"{alert.value:g}"
    message = f"{value} is beyond the threshold, says Prometheus by alert"
    return Reading(
        signal,
        Verdict.TRIPPED,
        message,
        now,
        value=alert.value,
        path=Path.ALERT,
        lasting=True,
    )


def _json(body: bytes) -> object:
    try:
        content: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"not JSON: {str(error)[:200]}") from None
    return content


def _list(content: object, what: str) -> list[Any]:
    if not isinstance(content, list):
        raise MalformedError(f"{what} is not an array")
    return content


def _object(content: object, what: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise MalformedError(f"{what} is not an object")
    return content


def _batch(entries: list[Any], truncated: int = 0) -> Batch:
    alerts = []
    for entry in entries:
        try:
            alerts.append(_alert(_object(entry, "an alert")))
        except MalformedError:
            continue
    return Batch(tuple(alerts), len(entries) - len(alerts), truncated)


def _alert(content: dict[str, Any]) -> Alert:
    labels = _texts(content.get("labels"), "labels")
    annotations = _texts(content.get("annotations") or {}, "annotations")
    if not labels.get("alertname"):
        raise MalformedError("labels have no alertname")
    starts_at = _time(content.get("startsAt"))
    if starts_at is None:
        raise MalformedError("startsAt is missing")
    ends_at = _time(content.get("endsAt"))
    if content.get("status") == "resolved" and ends_at is None:
        ends_at = starts_at  # resolved without saying when: not firing in any case
    return Alert(
        name=labels["alertname"],
        labels=tuple(sorted(labels.items())),
        value=_value(annotations.get(VALUE)),
        starts_at=starts_at,
        ends_at=ends_at,
        reference=_reference(labels),
    )


def _texts(content: object, what: str) -> dict[str, str]:
    texts = _object(content, what)
    if len(texts) > _MOST_LABELS:
        raise MalformedError(f"{what} are more than {_MOST_LABELS}")
    for name, text in texts.items():
        if not isinstance(text, str):
            raise MalformedError(f"{what} hold something that is not text")
        if len(name) + len(text) > _LONGEST_TEXT:
            raise MalformedError(f"{what} hold more than {_LONGEST_TEXT} characters in one")
    return texts


def _time(content: object) -> float | None:
    """Seconds since the epoch; None for no time, which Go writes as the year 1."""
    if content is None or content == "":
        return None
    if not isinstance(content, str):
        raise MalformedError("a time is not text")
    try:
        seconds = times.seconds(content)
    except (ValueError, OverflowError):
        raise MalformedError("a time is not RFC 3339") from None
    return seconds if seconds > 0 else None


def _value(text: str | None) -> float | None:
    try:
        value = math.nan if text is None else float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _reference(labels: Mapping[str, str]) -> PolicyReference | None:
    """The policy of one of our own rules' alerts; None for every other alert."""
    if labels["alertname"] != FIRE:
        return None
    policy, signal = labels.get(POLICY, ""), labels.get(SIGNAL, "")
    number = labels.get(GENERATION, "")
    if not (policy and signal and number.isascii() and number.isdigit() and len(number) < 20):
        raise MalformedError("an alert of ours names no policy, generation and signal")
    generation = int(number)
    if not 0 < generation < _LARGEST_GENERATION:
        raise MalformedError("an alert of ours has an impossible generation")
    return PolicyReference(policy, generation, signal)


def _is_count(content: object) -> bool:
    return isinstance(content, int) and not isinstance(content, bool) and content >= 0
