"""Who tried to start what is held: counted from audit events where the API server posts them, and from Events.

Audit events tell of everybody. Without them only controllers are known, by the Events in which they tell
of their own refusals. Who wrote to a held object without being refused, such as taking a label off, is
told by its `managedFields`. Events live for an hour; what was counted stays counted.

Whoever may create Events writes in them what he likes. So they are read with distrust, take nothing away from
what the API server has authenticated, and fill no memory.
"""

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from killswitch.core import audit, times
from killswitch.core.audit import OTHERS, Key, Tally
from killswitch.core.errors import ANSWERED
from killswitch.core.resources import EVENTS
from killswitch.manager.held import Held
from killswitch.manager.numbers import Numbers
from killswitch.ports import Clock, Cluster, Json

_MOST = 50
_MOST_TOLD = 49
"""Rows of one Shutdown by Events; the oldest beyond that are `others`."""
_MOST_COUNT = 1_000_000
"""Of one row: nobody has tried more often within the hour for which an Event lives."""
_FRESH = 5.0
"""Seconds for which the Events of a namespace answer for all its Shutdowns."""
_OURS = "killswitch"
"""The field manager of all that we write to what is held: the adapter's User-Agent."""
_STATUS = "status"
_ACCOUNT = re.compile(r"[a-z0-9-]+/[a-z0-9.-]+")
"""`argocd/argocd-server`, as `core.audit` writes a service account."""
_CONTROLLER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,252}")
"""What a controller may call itself in its Events."""
_HELD = "held down by "
_REST = (OTHERS, OTHERS)
Name = tuple[str, str]
"""Whether it is a person or a controller, and by what it is known."""
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
    measured: dict[Name, int] = field(default_factory=dict)
    """What the metric knows of each, or earlier processes have told."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """The Events of one namespace that tell of refusals by any Shutdown."""

    at: float
    events: list[Json]
    blind: bool


class Attempts:
    """The attempts on every engaged Shutdown. What it forgets at a restart stands in the status."""

    def __init__(self, cluster: Cluster, numbers: Numbers, tally: Tally, clock: Clock) -> None:
        """Nothing has been counted. `tally`: what audit events tell, whenever they come."""
        self._cluster = cluster
        self._numbers = numbers
        self._tally = tally
        self._clock = clock
        self._counted: dict[str, _Counted] = {}
        self._listed: dict[str, _Listed] = {}

    def forget(self, uid: str, stop: str) -> None:
        """This Shutdown, so named by the lock, is gone or released."""
        self._counted.pop(uid, None)
        self._tally.forget(stop)

    async def look(self, shutdown: Json, held: Held) -> list[Json]:
        """`status.attempts`, newest first; what is authenticated is kept before all else."""
        uid = shutdown["metadata"]["uid"]
        told, blind = await self._refusals(shutdown)  # before anything is counted: it may fail
        first = uid not in self._counted
        if first:
            self._counted[uid] = _begun(shutdown)
        counted = self._counted[uid]
        self._hear(shutdown, counted)
        self._count(told, counted, first=first, blind=blind)
        self._measure(counted)
        _fold(counted)
        found = [*_beside(counted), *changes(shutdown, held, self._clock.now())]
        kept = _newest(counted.audited.values())[:_MOST]
        return _newest([*kept, *_newest(found)[: _MOST - len(kept)]])

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

    def _count(
        self, refusals: Sequence[Refusal], counted: _Counted, *, first: bool, blind: bool
    ) -> None:
        """Add what Events tell: since the last look, or beyond what was counted before."""
        sums: dict[tuple[str, str], int] = defaultdict(int)
        news: dict[tuple[str, str], int] = defaultdict(int)
        latest: dict[tuple[str, str], str] = {}
        for each in refusals:
            key = each.who, each.object
            sums[key] += each.count
            news[key] += max(0, each.count - counted.events.get(each.uid, 0))
            latest[key] = max(latest.get(key, ""), each.last)
        known = counted.events if blind else {}  # what is hidden for a while is not news after it
        counted.events = {**known, **{each.uid: each.count for each in refusals}}
        folded = _REST in counted.told
        for key, count in sums.items():
            row = counted.told.get(key)
            if row is None and (not news[key] or (first and folded)):
                continue  # it is among the others
            was, last = (row["count"], row["last"]) if row else (0, "")
            # The first look of this process does not know which of them were counted before.
            now = max(was, count) if first else was + news[key]
            counted.told[key] = _attempt(key, now, max(latest[key], last), "Denied")

    def _measure(self, counted: _Counted) -> None:
        """Add to the metric what it does not know yet: of who is authenticated by that alone."""
        audited = list(counted.audited.values())
        known = {_name(each) for each in audited}
        told = [each for each in _beside(counted) if _name(each) not in known]
        rows = audited + told
        labels = {_name(each): each for each in rows}
        for name, count in _sums(rows).items():
            row, before = labels[name], counted.measured.get(name, 0)
            self._numbers.denied(_label(row), count - before, authenticated=_is_audited(row))
            counted.measured[name] = max(count, before)

    async def _refusals(self, shutdown: Json) -> tuple[list[Refusal], bool]:
        """All that Events tell; and whether some may not be seen now."""
        found: list[Refusal] = []
        blind = False
        home = shutdown["metadata"].get("namespace", "")
        for place in [home] if home else shutdown["spec"].get("namespaces") or ():
            listed = await self._list(place)
            blind = blind or listed.blind
            found += refusals(listed.events, shutdown, self._clock.now())
        return found, blind

    async def _list(self, place: str) -> _Listed:
        now = self._clock.monotonic()
        self._listed = {k: each for k, each in self._listed.items() if now - each.at < _FRESH}
        if place not in self._listed:
            try:
                page = await self._cluster.list(EVENTS, place, fields="type=Warning")
                told = [each for each in page.items if _HELD in _message(each)]
                self._listed[place] = _Listed(now, told, blind=False)
            except ANSWERED:  # no right to read Events: nothing is known of attempts there
                self._listed[place] = _Listed(now, [], blind=True)
        return self._listed[place]


def refusals(events: Iterable[Json], shutdown: Json, now: float) -> list[Refusal]:
    """Those of the Events that tell of refusals by this Shutdown, in either shape of the API.

    Anybody may have written them: moments lie between the Shutdown's creation and `now` (seconds since
    the epoch), counts are bounded, and one that is nonsense is left out.
    """
    words = f"{_HELD}{audit.reference(shutdown)} ("
    since = times.seconds(shutdown["metadata"]["creationTimestamp"])
    found = []
    for each in events:
        if words in _message(each):
            with contextlib.suppress(KeyError, TypeError, AttributeError):
                found.append(_refusal(each, since, now))
    return found


def _message(event: Json) -> str:
    return str(event.get("message") or event.get("note"))


def _refusal(event: Json, since: float, now: float) -> Refusal:
    about = event.get("involvedObject") or event.get("regarding") or {}
    source = event.get("source") or event.get("deprecatedSource") or {}
    series = event.get("series") or {}
    who = event.get("reportingComponent") or event.get("reportingController")
    who = str(who or source.get("component") or "")
    moments = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp") or event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),  # the API server's own
    )
    last = next((at for each in moments if (at := _moment(each)) is not None and at <= now), since)
    count = series.get("count") or event.get("count") or event.get("deprecatedCount")
    return Refusal(
        str(event["metadata"]["uid"]),
        who if _CONTROLLER.fullmatch(who) else "unknown",
        audit.clean(f"{about.get('kind', '')} {about.get('name', '')}", 320),
        min(max(count, 1), _MOST_COUNT) if isinstance(count, int) else 1,
        times.text(max(last, since)),
    )


def _moment(text: object) -> float | None:
    """Seconds since the epoch; None for what is no moment, which the API server lets pass."""
    try:
        return times.seconds(str(text)) if text else None
    except (ValueError, OverflowError):
        return None


def changes(shutdown: Json, held: Held, now: float) -> list[Json]:
    """Who has written to the targets since the stop, without being refused, as far as is visible.

    A field manager is known by its last write alone, to the second. Name and time are the writer's own
    words: a time that cannot be is none, one that is yet to come is `now`.
    """
    since = times.seconds(shutdown["metadata"]["creationTimestamp"])
    found: dict[tuple[str, str], float] = {}
    for target in held.targets:
        body = held.bodies.get(target.uid, {})
        for entry in body.get("metadata", {}).get("managedFields") or ():
            at = min(_moment(entry.get("time")) or 0.0, now)
            if at <= since or not _is_anothers(entry):
                continue
            key = audit.clean(str(entry.get("manager", "")), 253), str(target)
            found[key] = max(found.get(key, 0.0), at)
    return [_attempt(key, 1, times.text(at), "Changed") for key, at in found.items()]


def _attempt(key: tuple[str, str], count: int, last: str, outcome: str) -> Json:
    who, what = key[0][:253], key[1][:320]
    count = min(count, _MOST_COUNT)
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


def _beside(counted: _Counted) -> list[Json]:
    """The rows by Events that stand beside those that are authenticated, and never in their place.

    Of a controller that both tell of, only where its Events tell of more: they are aggregated and
    dropped, audit events come later, and not from every API server, perhaps. Of people none: they
    write no Events.
    """
    audited, told = list(counted.audited.values()), list(counted.told.values())
    proven, own = _sums(audited), _sums(told)
    people = {each["who"] for each in audited if not _is_account(each)}
    return [
        each
        for each in told
        if each["who"] not in people - {OTHERS} and own[_name(each)] > proven.get(_name(each), 0)
    ]


def _fold(counted: _Counted) -> None:
    """Count the oldest rows by Events as `others`, where there are too many: anybody may write them."""
    if len(counted.told) - (_REST in counted.told) <= _MOST_TOLD:
        return
    rest = counted.told.pop(_REST, None)
    known = {_name(each) for each in counted.audited.values()}
    others = [*_newest(counted.told.values())[_MOST_TOLD:], *([rest] if rest else ())]
    for row in others:
        if row is rest:
            continue
        del counted.told[row["who"], row["object"]]
        name = _name(row)
        if name not in known:
            left = counted.measured.get(name, 0) - row["count"]
            counted.measured.pop(name, None)
            if left > 0:
                counted.measured[name] = left
    count = sum(row["count"] for row in others)
    counted.told[_REST] = _attempt(_REST, count, max(row["last"] for row in others), "Denied")
    # What they are was measured as they came.
    name = _name(counted.told[_REST])
    counted.measured[name] = max(count, counted.measured.get(name, 0))


def _newest(attempts: Iterable[Json]) -> list[Json]:
    return sorted(attempts, key=lambda each: str(each["last"]), reverse=True)


def _is_audited(attempt: Json) -> bool:
    return bool(attempt.get("fieldManager"))


def _sums(attempts: Iterable[Json]) -> dict[Name, int]:
    sums: dict[Name, int] = defaultdict(int)
    for each in attempts:
        sums[_name(each)] += each["count"]
    return sums


def _is_account(attempt: Json) -> bool:
    return _is_audited(attempt) and _ACCOUNT.fullmatch(attempt["who"]) is not None


def _label(attempt: Json) -> str:
    """Without the namespace of a service account: controllers do not say it in their Events."""
    who = str(attempt["who"])
    return who.rpartition("/")[2] if _is_account(attempt) else who


def _name(attempt: Json) -> Name:
    """Of controllers the letters: `daemonset-controller` is `daemon-set-controller` as an account."""
    if _is_audited(attempt) and not _is_account(attempt):
        return "person", str(attempt["who"])
    letters = "".join(each for each in _label(attempt).lower() if each.isalnum())
    return "controller", letters


def _is_anothers(entry: Mapping[str, object]) -> bool:
    who = str(entry.get("manager", ""))
    return who != _OURS and who not in _CONTROLLERS and entry.get("subresource", "") != _STATUS
