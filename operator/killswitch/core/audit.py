"""Who tried to undo a stop: the refusals of the lock, read from the API server's own audit events.

An Event of `audit.k8s.io/v1` tells of every request, people's and GitOps' too, who write no Events of
their own. Level Metadata suffices: it carries the user, the address with its field manager, the answer,
and an annotation in which the API server names what the lock said. What is read here decides nothing.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from killswitch.core import times
from killswitch.core.errors import MalformedError
from killswitch.core.kinds import TABLE
from killswitch.core.resources import NODES, PODS, REPLICASETS

ANNOTATION = "validation.policy.admission.k8s.io/validation_failure"
"""JSON: every validation that failed, not only the first, which is the one in the answer."""
OTHERS = "others"
"""Whoever, with whatever, on whatever: beyond the number that is kept apart."""

_VERSION = "audit.k8s.io/v1"
_HELD = re.compile(r"held down by (Shutdown [^\s/]+/[^\s/]+|ClusterShutdown [^\s/]+) \(")
_IN_ANSWER = re.compile(r" denied request: " + _HELD.pattern)
_FORBIDDEN = 403
_ACCOUNT = "system:serviceaccount:"
_GENERATED = 5
"""Letters that the API server appends to a `generateName`."""
_KINDS = {each.resource.key: each.resource.kind for each in TABLE.values()} | {
    each.key: each.kind for each in (NODES, PODS, REPLICASETS)
}
_MOST_KEYS = 200
_MOST_STOPS = 1000
_MOST_REQUESTS = 50_000


class Key(NamedTuple):
    """What attempts have in common that are counted as one."""

    who: str
    """`alice`, `alice as bob` where she impersonates him, `argocd/argocd-server` for a service account."""
    field_manager: str
    """Named by the request, else the program by its user agent, as the API server does it."""
    object: str
    """`Deployment vllm`, or `Pod vllm-6c5f-*` where the API server chose the end of the name."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One request that locks refused."""

    request: str
    """The same for every copy of its audit event, and for no other request."""
    by: tuple[str, ...]
    """What held: `Shutdown prod/stop`, `ClusterShutdown all`."""
    key: Key
    at: float
    """Seconds since the epoch."""


@dataclass(slots=True)
class Count:
    """How often, and when."""

    count: int
    first: float
    last: float


def reference(shutdown: Mapping[str, Any]) -> str:
    """How the lock names this Shutdown or ClusterShutdown."""
    metadata = shutdown["metadata"]
    return named(shutdown["kind"], metadata.get("namespace", ""), metadata["name"])


def named(kind: str, namespace: str, name: str) -> str:
    """`Shutdown prod/stop`, `ClusterShutdown all`."""
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def refusals(content: object) -> list[Refusal]:
    """Those in one audit Event or an EventList; MalformedError where it is neither, or is damaged."""
    event = _mapping(content)
    if _said(event) != f"EventList of {_VERSION}":
        return _found(event)
    items = event.get("items")
    if not isinstance(items, list):
        raise MalformedError("items of the EventList is not an array")
    several = []
    for number, each in enumerate(items):
        try:
            # As the API server posts them, they repeat neither kind nor version.
            several += _found({"kind": "Event", "apiVersion": _VERSION, **_mapping(each)})
        except MalformedError as error:
            raise MalformedError(f"items[{number}]: {error}") from None
    return several


def refusal(event: Mapping[str, Any]) -> Refusal | None:
    """The refusal that this audit event tells of; None for every other request, dry runs included.

    MalformedError where it lacks what every audit event has.
    """
    request = _text(event, "auditID")
    answer = _part(event, "responseStatus")
    if answer.get("code") != _FORBIDDEN or not (by := _by(event, answer)):
        return None
    uri = _text(event, "requestURI")
    try:
        query = parse_qs(urlsplit(uri).query)
        at = times.seconds(_text(event, "stageTimestamp"))
    except ValueError as error:
        raise MalformedError(f"requestURI or stageTimestamp cannot be read: {error}") from None
    if "dryRun" in query:
        return None  # it would have changed nothing; the lock is proven like that
    manager = query.get("fieldManager") or [str(event.get("userAgent") or "").split("/")[0].strip()]
    key = Key(
        clean(_who(event), 253),
        clean(manager[0], 128) or "unknown",
        clean(_object(event, answer), 320),
    )
    # A client may choose its auditID, but not when its request came.
    return Refusal(f"{request} {event.get('requestReceivedTimestamp')}", by, key, at)


class Tally:
    """Refusals by stop, each request once; bounded, whatever is told.

    Of one stop 200 keys are kept apart, then whoever else tries is told with `others` for what he does,
    then everybody is `others`; 1000 stops are kept, those that were told of last. A copy counts again
    after 50 000 other refusals.
    """

    def __init__(self) -> None:
        """Nothing is known."""
        self._stops: OrderedDict[str, dict[Key, Count]] = OrderedDict()
        self._seen: OrderedDict[str, None] = OrderedDict()

    def add(self, refusal: Refusal) -> None:
        """Count it, unless it was counted before."""
        if refusal.request in self._seen:
            return
        self._seen[refusal.request] = None
        if len(self._seen) > _MOST_REQUESTS:
            self._seen.popitem(last=False)
        for stop in refusal.by:
            self._count(stop, refusal)

    def of(self, stop: str) -> Mapping[Key, Count]:
        """What was counted against it."""
        return self._stops.get(stop, {})

    def forget(self, stop: str) -> None:
        """It holds no more."""
        self._stops.pop(stop, None)

    def _count(self, stop: str, refusal: Refusal) -> None:
        counts = self._stops.setdefault(stop, {})
        self._stops.move_to_end(stop)
        if len(self._stops) > _MOST_STOPS:
            self._stops.popitem(last=False)
        count = counts.setdefault(_kept(refusal.key, counts), Count(0, refusal.at, refusal.at))
        count.count += 1
        count.first = min(count.first, refusal.at)
        count.last = max(count.last, refusal.at)


def _kept(key: Key, counts: Mapping[Key, Count]) -> Key:
    """As what it is counted: whoever changes his user agent each time hides himself, and nobody else."""
    whoever = Key(key.who, OTHERS, OTHERS)
    for candidate, most in ((key, _MOST_KEYS), (whoever, 2 * _MOST_KEYS)):
        if candidate in counts or len(counts) < most:
            return candidate
    return Key(OTHERS, OTHERS, OTHERS)


def _by(event: Mapping[str, Any], answer: Mapping[str, Any]) -> tuple[str, ...]:
    """All that held it; the answer, which names the first, where the annotation was left out."""
    annotation = _part(event, "annotations").get(ANNOTATION)
    if annotation is None:
        found = _IN_ANSWER.search(str(answer.get("message", "")))
        return (found[1],) if found else ()
    return tuple(dict.fromkeys(_held(annotation)))


def _held(annotation: object) -> Iterator[str]:
    """Only what an admission policy said itself: names of objects, which people choose, are no part."""
    try:
        failures = json.loads(str(annotation))
        for each in failures:
            if found := _HELD.match(str(each.get("message", ""))):
                yield found[1]
    except (ValueError, TypeError, AttributeError):
        raise MalformedError(f"its annotation {ANNOTATION} is no list of failures") from None


def _who(event: Mapping[str, Any]) -> str:
    who = _readable(_text(_part(event, "user"), "username"))
    posed = _part(event, "impersonatedUser").get("username")
    return f"{who} as {_readable(str(posed))}" if posed else who


def _readable(username: str) -> str:
    """`argocd/argocd-server` for `system:serviceaccount:argocd:argocd-server`."""
    if not username.startswith(_ACCOUNT):
        return username
    return username.removeprefix(_ACCOUNT).replace(":", "/", 1)


def _object(event: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    about = _part(event, "objectRef")
    resource, group = str(about.get("resource", "")), str(about.get("apiGroup") or "")
    key = f"{resource}.{group}" if group else resource
    name = str(about.get("name") or "")
    if not name:  # made with `generateName`: every attempt has another one
        made = str(_part(answer, "details").get("name") or "")
        name = f"{made[:-_GENERATED]}*"
    return f"{_KINDS.get(key, key)} {name}"


def _found(event: Mapping[str, Any]) -> list[Refusal]:
    said = _said(event)
    if said != f"Event of {_VERSION}":
        raise MalformedError(f"this is {said}, not Event of {_VERSION}")
    found = refusal(event)
    return [found] if found is not None else []


def _said(content: Mapping[str, Any]) -> str:
    return f"{content.get('kind')} of {content.get('apiVersion')}"


def _mapping(content: object) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise MalformedError("this is no object, let alone an audit event")
    return content


def _part(content: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """That part of it; empty where it is absent."""
    found = content.get(field)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise MalformedError(f"{field} is not an object")
    return found


def _text(content: Mapping[str, Any], field: str) -> str:
    found = content.get(field)
    if not isinstance(found, str) or not found:
        raise MalformedError(f"{field} is missing or not text")
    return found


def clean(text: str, most: int) -> str:
    """At most so many letters of it, as it may stand in a status and on a terminal: callers choose their user agent."""
    return "".join(each if each.isprintable() else "?" for each in text)[:most]
