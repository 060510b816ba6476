"""Who tried to start what is held: counted from the Events in which controllers tell of their refusals.

Who wrote to a held object without being refused, such as taking a label off, is told by its
`managedFields`. Events live for an hour; what was counted stays counted.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from killswitch.core import times
from killswitch.core.errors import NotFoundError, RefusedError
from killswitch.core.resources import EVENTS
from killswitch.manager.held import Held
from killswitch.manager.numbers import Numbers
from killswitch.ports import Cluster, Json

_MOST = 50
_OURS = "killswitch"
_STATUS = "status"
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
    told: dict[tuple[str, str], int] = field(default_factory=dict)


class Attempts:
    """The attempts on every engaged Shutdown. What it forgets at a restart stands in the status."""

    def __init__(self, cluster: Cluster, numbers: Numbers) -> None:
        """Nothing has been counted."""
        self._cluster = cluster
        self._numbers = numbers
        self._counted: dict[str, _Counted] = {}

    def forget(self, uids: Iterable[str]) -> None:
        """These Shutdowns are gone or released."""
        for uid in uids:
            self._counted.pop(uid, None)

    async def look(self, shutdown: Json, held: Held) -> list[Json]:
        """`status.attempts`, newest first."""
        uid = shutdown["metadata"]["uid"]
        before = {
            (each["who"], each["object"]): each
            for each in shutdown.get("status", {}).get("attempts", ())
            if each.get("outcome", "Denied") == "Denied"
        }
        first = uid not in self._counted
        counted = self._counted.setdefault(uid, _Counted())
        refusals = await self._refusals(shutdown)
        sums: dict[tuple[str, str], int] = defaultdict(int)
        news: dict[tuple[str, str], int] = defaultdict(int)
        latest: dict[tuple[str, str], str] = {}
        for each in refusals:
            key = each.who, each.object
            sums[key] += each.count
            news[key] += max(0, each.count - counted.events.get(each.uid, 0))
            latest[key] = max(latest.get(key, ""), each.last)
        counted.events = {each.uid: each.count for each in refusals}
        found = []
        for key in {**before, **sums}:
            was = int(before[key]["count"]) if key in before else 0
            # The first look of this process does not know which of them were counted before.
            now = max(was, sums[key]) if first else was + news[key]
            self._numbers.denied(key[0], now - max(was, counted.told.get(key, 0)))
            counted.told[key] = now
            last = max(latest.get(key, ""), before[key]["last"] if key in before else "")
            found.append(_attempt(key, now, last, "Denied"))
        found += changes(shutdown, held)
        return sorted(found, key=lambda each: str(each["last"]), reverse=True)[:_MOST]

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
    metadata = shutdown["metadata"]
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    words = f"held down by {shutdown['kind']} {place}{metadata['name']} ("
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


def _is_anothers(entry: Mapping[str, object]) -> bool:
    who = str(entry.get("manager", ""))
    return (
        not who.startswith(_OURS)
        and who not in _CONTROLLERS
        and entry.get("subresource", "") != _STATUS
    )
