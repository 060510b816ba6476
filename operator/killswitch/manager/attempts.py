"""Who tried to start what is held: counted from audit events where the API server posts them, and from Events.

Audit events tell of everybody. Without them only controllers are known, by the Events in which they tell
of their own refusals; one that both tell of is counted by the one that tells of more. Who wrote to a held
object without being refused, such as taking a label off, is told by its `managedFields`. Events live
for an hour; what was counted stays counted.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from killswitch.core import audit, times
from killswitch.core.audit import Key, Tally
from killswitch.core.errors import NotFoundError, RefusedError
from killswitch.core.resources import EVENTS
from killswitch.manager.held import Held
from killswitch.manager.numbers import Numbers
from killswitch.ports import Cluster, Json

_MOST = 50
_OURS = "killswitch"
_STATUS = "status"
_ACCOUNT = re.compile(r"[a-z0-9-]+/[a-z0-9.-]+")
"""`argocd/argocd-server`, as `core.audit` writes a service account."""
_CONTROLLERS = frozenset({"kube-controller-manager"})
"""They write bookkeeping into what they control; what they want is seen by its refusals."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One Event that tells of refusals."""

    uid: str
    who: str
    object: str
    count: int
    last: str


@dataclass(slots=True)
class _Counted:
    """What was counted of one Shutdown's attempts."""

    events: dict[str, int] = field(default_factory=dict)
    """Count of each Event (uid) when it was looked at last."""
    audited: dict[Key, Json] = field(default_factory=dict)
    """By audit events, those of earlier processes included."""
    heard: dict[Key, int] = field(default_factory=dict)
    """How many of them this process had heard of when it looked last."""
    told: dict[tuple[str, str], Json] = field(default_factory=dict)
    """By Events, those of earlier processes included."""
    measured: dict[str, int] = field(default_factory=dict)
    """What the metric knows of each, or earlier processes have told."""


class Attempts:
    """The attempts on every engaged Shutdown. What it forgets at a restart stands in the status."""

    def __init__(self, cluster: Cluster, numbers: Numbers, tally: Tally) -> None:
        """Nothing has been counted. `tally`: what audit events tell, whenever they come."""
        self._cluster = cluster
        self._numbers = numbers
        self._tally = tally
        self._counted: dict[str, _Counted] = {}

    def forget(self, uid: str, stop: str) -> None:
        """This Shutdown, so named by the lock, is gone or released."""
        self._counted.pop(uid, None)
        self._tally.forget(stop)

    async def look(self, shutdown: Json, held: Held) -> list[Json]:
        """`status.attempts`, newest first."""
        uid = shutdown["metadata"]["uid"]
        told = await self._refusals(shutdown)  # before anything is counted: it may fail
        first = uid not in self._counted
        if first:
            self._counted[uid] = _begun(shutdown)
        counted = self._counted[uid]
        self._hear(shutdown, counted)
        self._count(told, counted, first=first)
        denied = _larger(counted.audited.values(), counted.told.values())
        self._measure(denied, counted)
        found = denied + changes(shutdown, held)
        return sorted(found, key=lambda each: str(each["last"]), reverse=True)[:_MOST]

    def _hear(self, shutdown: Json, counted: _Counted) -> None:
        """Add what audit events have told since the last look."""
        since = times.seconds(shutdown["metadata"]["creationTimestamp"])
        for key, heard in self._tally.of(audit.reference(shutdown)).items():
            if heard.last < since:
                continue  # of another one that bore this name
            was = counted.audited.get(key)
            known = counted.heard.get(key, 0)
            news = heard.count - known if heard.count >= known else heard.count  # it forgets, too
            now = news + (was["count"] if was else 0)
            counted.heard[key] = heard.count
            last = max(times.text(heard.last), was["last"] if was else "")
            row = _attempt((key.who, key.object), now, last, "Denied")
            counted.audited[key] = {**row, "fieldManager": key.field_manager}

    def _count(self, refusals: Sequence[Refusal], counted: _Counted, *, first: bool) -> None:
        """Add what Events tell: since the last look, or beyond what was counted before."""
        sums: dict[tuple[str, str], int] = defaultdict(int)
        news: dict[tuple[str, str], int] = defaultdict(int)
        latest: dict[tuple[str, str], str] = {}
        for each in refusals:
            key = each.who, each.object
            sums[key] += each.count
            news[key] += max(0, each.count - counted.events.get(each.uid, 0))
            latest[key] = max(latest.get(key, ""), each.last)
        counted.events = {each.uid: each.count for each in refusals}
        for key, count in sums.items():
            row = counted.told.get(key)
            was, last = (row["count"], row["last"]) if row else (0, "")
            # The first look of this process does not know which of them were counted before.
            now = max(was, count) if first else was + news[key]
            counted.told[key] = _attempt(key, now, max(latest[key], last), "Denied")

    def _measure(self, denied: Sequence[Json], counted: _Counted) -> None:
        """Add to the metric what it does not know yet, whichever way it was told of."""
        for name, count in _sums(denied).items():
            label = next(_label(each) for each in denied if _name(each) == name)
            self._numbers.denied(label, count - counted.measured.get(name, 0))
            counted.measured[name] = max(count, counted.measured.get(name, 0))

    async def _refusals(self, shutdown: Json) -> list[Refusal]:
        found: list[Refusal] = []
        home = shutdown["metadata"].get("namespace", "")
        for place in [home] if home else shutdown["spec"].get("namespaces") or ():
            try:
                page = await self._cluster.list(EVENTS, place, fields="type=Warning")
            except (NotFoundError, RefusedError):
                continue  # no right to read Events: nothing is known of attempts there
            found += refusals(page.items, shutdown)
        return found


def refusals(events: Iterable[Json], shutdown: Json) -> list[Refusal]:
    """Those of the Events that tell of refusals by this Shutdown, in either shape of the API."""
    words = f"held down by {audit.reference(shutdown)} ("
    return [
        _refusal(each) for each in events if words in str(each.get("message") or each.get("note"))
    ]


def _refusal(event: Json) -> Refusal:
    about = event.get("involvedObject") or event.get("regarding") or {}
    source = event.get("source") or event.get("deprecatedSource") or {}
    series = event.get("series") or {}
    who = event.get("reportingComponent") or event.get("reportingController")
    moments = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp") or event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    last = next(each for each in moments if each)
    count = series.get("count") or event.get("count") or event.get("deprecatedCount") or 1
    return Refusal(
        event["metadata"]["uid"],
        str(who or source.get("component") or "unknown")[:253],
        f"{about.get('kind', '')} {about.get('name', '')}"[:320],
        int(count),
        times.text(times.seconds(last)),
    )


def changes(shutdown: Json, held: Held) -> list[Json]:
    """Who has written to the targets since the stop, without being refused, as far as is visible.

    A field manager is known by its last write alone, to the second.
    """
    since = times.seconds(shutdown["metadata"]["creationTimestamp"])
    found: dict[tuple[str, str], float] = {}
    for target in held.targets:
        body = held.bodies.get(target.uid, {})
        for entry in body.get("metadata", {}).get("managedFields") or ():
            at = times.seconds(entry["time"]) if entry.get("time") else 0.0
            if at <= since or not _is_anothers(entry):
                continue
            key = entry["manager"], str(target)
            found[key] = max(found.get(key, 0.0), at)
    return [_attempt(key, 1, times.text(at), "Changed") for key, at in found.items()]


def _attempt(key: tuple[str, str], count: int, last: str, outcome: str) -> Json:
    who, what = key[0][:253], key[1][:320]
    return {"who": who, "object": what, "count": count, "last": last, "outcome": outcome}


def _begun(shutdown: Json) -> _Counted:
    """What earlier processes have counted."""
    begun, denied = _Counted(), []
    for each in shutdown.get("status", {}).get("attempts", ()):
        if each.get("outcome", "Denied") != "Denied":
            continue
        denied.append(each)
        if _is_audited(each):
            begun.audited[Key(each["who"], each["fieldManager"], each["object"])] = each
        else:
            begun.told[each["who"], each["object"]] = each
    begun.measured = _sums(denied)
    return begun


def _larger(audited: Iterable[Json], told: Iterable[Json]) -> list[Json]:
    """Of each who is told of by both, the one that tells of more: neither sees what the other misses.

    Events are aggregated and dropped; audit events come later, and not from every API server, perhaps.
    """
    audited, told = list(audited), list(told)
    most, other = _sums(audited), _sums(told)
    return [
        *(each for each in audited if most[_name(each)] >= other.get(_name(each), 0)),
        *(each for each in told if other[_name(each)] > most.get(_name(each), 0)),
    ]


def _is_audited(attempt: Json) -> bool:
    return bool(attempt.get("fieldManager"))


def _sums(attempts: Iterable[Json]) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for each in attempts:
        sums[_name(each)] += each["count"]
    return sums


def _is_account(attempt: Json) -> bool:
    return _is_audited(attempt) and _ACCOUNT.fullmatch(attempt["who"]) is not None


def _label(attempt: Json) -> str:
    """Without the namespace of a service account: controllers do not say it in their Events."""
    who = str(attempt["who"])
    return who.rpartition("/")[2] if _is_account(attempt) else who


def _name(attempt: Json) -> str:
    """Of controllers the letters: `daemonset-controller` is `daemon-set-controller` as an account."""
    if _is_audited(attempt) and not _is_account(attempt):
        return str(attempt["who"])
    return "".join(each for each in _label(attempt).lower() if each.isalnum())


def _is_anothers(entry: Mapping[str, object]) -> bool:
    who = str(entry.get("manager", ""))
    return (
        not who.startswith(_OURS)
        and who not in _CONTROLLERS
        and entry.get("subresource", "") != _STATUS
    )
