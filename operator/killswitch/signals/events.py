"""Events of guardrails and misuse classifiers: who sent it, is it new, what does it say.

`verify` is the whole decision about one `POST /v1/events`, without I/O: authenticate, then the
time, then the body, then the allowance, then the nonce, so that nothing is parsed for strangers
and nothing is remembered of what was refused.

Signed as the Standard Webhooks specification says: `webhook-signature: v1,<base64>` is the
HMAC-SHA256 of `<webhook-id>.<webhook-timestamp>.<body>`, and the id is the nonce. With a bearer
token instead, id and time are in the body.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from killswitch.core import times
from killswitch.core.errors import MalformedError
from killswitch.signals.keys import BearerTokens, SigningKeys, signatures
from killswitch.signals.limits import Limits
from killswitch.signals.nonces import Nonces, Seen
from killswitch.signals.refusals import Reason, Refusal

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
AUTHORIZATION = "authorization"
WINDOW = 30.0
"""Seconds by which a sender's clock may differ from ours, both ways."""

# Without a full stop, which separates the parts of what is signed.
_ID = re.compile(r"[A-Za-z0-9_:-]{1,128}")
_SECONDS = re.compile(r"[0-9]{1,12}")
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LONGEST_TEXT = 256
_MOST_LABELS = 32
_LARGEST_COUNT = 10**9
_FIELDS = frozenset(
    {"type", "source", "time", "id", "namespace", "model", "labels", "count", "severity"}
)


class Severity(StrEnum):
    """How grave the sender takes it to be."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Event:
    """One authenticated event, seen for the first time. Times are seconds since the epoch."""

    type: str
    source: str
    id: str
    time: float
    """When it happened, says the sender; a repeated attempt has a newer timestamp than this."""
    received_at: float
    namespace: str | None = None
    model: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    count: int = 1
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """Both ways to prove who speaks."""

    signing: SigningKeys
    bearer: BearerTokens


@dataclass(frozen=True, slots=True)
class _Proven:
    """An authenticated request; id and timestamp are None where only the body has them."""

    source: str
    id: str | None
    timestamp: float | None


def verify(
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    keys: Keys,
    seen: Nonces,
    limits: Limits,
    window: float = WINDOW,
) -> Event | Refusal:
    """The event, whose nonce is remembered from now on, or why it is refused.

    `headers` has lower-case names, or does not care.
    """
    proven = _authenticated(headers, body, keys)
    if isinstance(proven, Refusal):
        return proven
    if proven.timestamp is not None and (late := _mistimed(proven.timestamp, now, window)):
        return late
    try:
        content = _content(body)
        event = _event(content, proven, now)
    except MalformedError as error:
        return Refusal(Reason.MALFORMED, str(error))
    if content.get("id", event.id) != event.id:
        return Refusal(Reason.ID_MISMATCH, f"id of the body is not {ID}")
    return _unfit(event, proven, window) or _admitted(event, seen, limits)


def _authenticated(headers: Mapping[str, str], body: bytes, keys: Keys) -> _Proven | Refusal:
    if headers.get(SIGNATURE) is not None:
        return _signed(headers, body, keys.signing)
    authorization = headers.get(AUTHORIZATION)
    if authorization is None:
        return Refusal(Reason.NO_CREDENTIALS, f"neither {SIGNATURE} nor {AUTHORIZATION} was sent")
    source = keys.bearer.source(authorization)
    if source is None:
        return _BAD_CREDENTIALS
    return _Proven(source, None, None)


def _signed(headers: Mapping[str, str], body: bytes, keys: SigningKeys) -> _Proven | Refusal:
    identifier, timestamp = headers.get(ID, ""), headers.get(TIMESTAMP, "")
    if not _ID.fullmatch(identifier):
        return Refusal(Reason.BAD_ID, f"{ID} is not 1 to 128 of A-Z a-z 0-9 _ : -")
    if not _SECONDS.fullmatch(timestamp):
        return Refusal(Reason.BAD_TIMESTAMP, f"{TIMESTAMP} is not whole seconds since the epoch")
    content = f"{identifier}.{timestamp}.".encode() + body
    source = keys.source(signatures(headers[SIGNATURE]), content)
    if source is None:
        return _BAD_CREDENTIALS
    return _Proven(source, identifier, float(timestamp))


_BAD_CREDENTIALS = Refusal(Reason.BAD_CREDENTIALS, "no key of any source fits this request")


def _mistimed(timestamp: float, now: float, window: float) -> Refusal | None:
    """Inside, the window's ends included, is None."""
    off = now - timestamp
    if off > window:
        message = f"the timestamp is {off:.0f} s old, allowed are {window:g} s"
        return Refusal(Reason.TOO_OLD, message)
    if -off > window:
        message = f"the timestamp is {-off:.0f} s in the future, allowed are {window:g} s"
        return Refusal(Reason.TOO_NEW, message)
    return None


def _content(body: bytes) -> dict[str, Any]:
    try:
        content: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedError("the body is not JSON") from None
    if not isinstance(content, dict):
        raise MalformedError("the body is not an object")
    # A misspelt namespace would widen what an event is about: nothing unknown is passed over.
    if not _FIELDS.issuperset(content):
        raise MalformedError(f"known fields are {', '.join(sorted(_FIELDS))}; there is another")
    return content


def _event(content: dict[str, Any], proven: _Proven, now: float) -> Event:
    time = _time(content.get("time"))
    identifier = proven.id or _matching(content, "id", _ID)
    if time is None and proven.timestamp is None:
        raise MalformedError("time is missing: with a bearer token it is required")
    if identifier is None:
        raise MalformedError("id is missing: with a bearer token it is required")
    return Event(
        type=_required(content, "type", _TYPE),
        source=_required(content, "source", re.compile(r".{1,256}")),
        id=identifier,
        time=time if time is not None else proven.timestamp or now,
        received_at=now,
        namespace=_matching(content, "namespace", _NAMESPACE),
        model=_short(content.get("model"), "model"),
        labels=_labels(content.get("labels")),
        count=_count(content.get("count", 1)),
        severity=_severity(content.get("severity")),
    )


def _unfit(event: Event, proven: _Proven, window: float) -> Refusal | None:
    """Why a well-formed event is not believed."""
    if event.source != proven.source:
        return Refusal(Reason.WRONG_SOURCE, "the key belongs to another source than the body says")
    late = _mistimed(event.time, event.received_at, window)
    # A signed event may be an old one sent again; its age is the policy's to judge, by maxAge.
    if late is not None and late.reason is Reason.TOO_OLD and proven.timestamp is not None:
        return None
    return late


def _admitted(event: Event, seen: Nonces, limits: Limits) -> Event | Refusal:
    now, replayed = event.received_at, "this id was received before; do not send it again"
    # Replays are told apart first: whoever overheard one must not use up the source's allowance.
    if seen.knows(event.source, event.id):
        return Refusal(Reason.REPLAYED, replayed)
    wait = limits.take(event.source, now)
    if wait > 0:
        return Refusal(Reason.RATE_LIMITED, "too many events of this source", wait)
    match seen.add(event.source, event.id, now):
        case Seen.REPEATED:
            return Refusal(Reason.REPLAYED, replayed)
        case Seen.FULL:
            return Refusal(Reason.NONCES_FULL, "too many events of this source to remember", 1.0)
        case Seen.NEW:
            return event


def _time(content: object) -> float | None:
    if content is None:
        return None
    try:
        if isinstance(content, str):
            return times.seconds(content)
    except (ValueError, OverflowError):
        pass
    raise MalformedError("time is not RFC 3339 with a time zone, as in 2026-11-24T15:00:00Z")


def _matching(content: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str | None:
    text = content.get(name)
    if text is None:
        return None
    if not (isinstance(text, str) and pattern.fullmatch(text)):
        raise MalformedError(f"{name} does not match {pattern.pattern}")
    return text


def _required(content: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    text = _matching(content, name, pattern)
    if text is None:
        raise MalformedError(f"{name} is missing")
    return text


def _short(content: object, what: str) -> str | None:
    if content is None:
        return None
    if not (isinstance(content, str) and 0 < len(content) <= _LONGEST_TEXT):
        raise MalformedError(f"{what} is not text of 1 to {_LONGEST_TEXT} characters")
    if not content.isprintable():
        raise MalformedError(f"{what} has characters that cannot be printed")
    return content


def _labels(content: object) -> tuple[tuple[str, str], ...]:
    if content is None:
        return ()
    if not isinstance(content, dict) or len(content) > _MOST_LABELS:
        raise MalformedError(f"labels are not an object of at most {_MOST_LABELS}")
    pairs = (
        (_short(name, "a label's name"), _short(text, "a label")) for name, text in content.items()
    )
    return tuple(sorted((name, text) for name, text in pairs if name and text))


def _count(content: object) -> int:
    if isinstance(content, int) and not isinstance(content, bool) and 0 < content <= _LARGEST_COUNT:
        return content
    raise MalformedError(f"count is not a whole number from 1 to {_LARGEST_COUNT}")


def _severity(content: object) -> Severity | None:
    try:
        return None if content is None else Severity(str(content))
    except ValueError:
        raise MalformedError(f"severity is not one of {', '.join(Severity)}") from None
