"""`latency`: how long stops took, stage by stage, from stored Shutdowns and their evidence.

Needs no metrics server and no process of ours: only what is stored is shown, and what nobody
recorded is said to be missing, never guessed. Moments are those of the clocks that recorded them:
the reactor's, and for `sample` that of who took the sample.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.references import shown
from killswitch.cli.screen import Cell, Screen, Span, Tone
from killswitch.core import conditions, durations, evidence, times
from killswitch.core.conditions import ShutdownCondition
from killswitch.core.errors import NotFoundError, RefusedError
from killswitch.core.resources import CLUSTER_SHUTDOWNS, RECORDS, SHUTDOWNS, Resource
from killswitch.ports import Json

_STAGES = {
    "sample": "sample taken → read",
    "decision": "read → decided",
    "lock": "decided → the Shutdown was accepted",
    "delete": "decided → the last pod DELETE was accepted",
    "record": "decided → what was there was stored",
    "scale": "decided → every workload was scaled to 0",
    "proof": "decided → a dry-run restart was denied",
    "stop": "decided → the reactor saw no pod left",
    "verified": "decided → the manager saw no pod left",
}
_OF_STATUS = {
    "lock": "locked",
    "delete": "deleted",
    "record": "recorded",
    "scale": "scaled",
    "proof": "proven",
    "stop": "stopped",
}
_SHOWN = ("sample", "decision", "lock", "delete", "stop", "verified")
"""Columns of the stops one by one."""
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_OPERATOR_NAMESPACE = "killswitch-system"
_BAR = 20
_SHORTEST = 0.0001
"""Seconds at the left end of a logarithmic bar."""


@dataclass(frozen=True, slots=True)
class Took:
    """One stop: when it was decided, how its decisive signal arrived, seconds by stage."""

    name: str
    argument: str
    """As kubectl takes it."""
    decided: float
    path: str
    seconds: Mapping[str, float]


@dataclass(slots=True)
class _Stored:
    """What the user may see of stops."""

    shutdowns: list[Json] = field(default_factory=list)
    evidence: dict[str, Json] = field(default_factory=dict)
    """By the Shutdown's uid."""
    hidden: list[str] = field(default_factory=list)


async def latency(session: Session, screen: Screen, *, everywhere: bool, last: int) -> ExitCode:
    """Print figures per stage, then the last stops one by one."""
    stored = await _gather(session, "" if everywhere else session.namespace)
    found = [took(each, stored.evidence.get(each["metadata"]["uid"])) for each in stored.shutdowns]
    stops = sorted((each for each in found if each is not None), key=lambda each: -each.decided)
    figures = summary(stops)
    rows: list[Sequence[Cell]] = [
        (stage, str(values["stops"]), *_times(values), _logarithmic(values), words)
        for stage, words in _STAGES.items()
        if (values := figures[stage])["stops"]
    ]
    headers: tuple[str, ...] = (
        "STAGE",
        "STOPS",
        "P50",
        "P90",
        "P99",
        "MAX",
        "P50 TO MAX, LOG",
        "MEASURED",
    )
    screen.table(headers, rows)
    if stops[:last]:
        screen.line()
        headers = ("DECIDED", "SHUTDOWN", "PATH", *(each.upper() for each in _SHOWN), "")
        screen.table(headers, _one_by_one(stops[:last]))
    _remarks(screen, stored, stops, everywhere=everywhere)
    answer = {
        "stages": figures,
        "stops": [_value(each) for each in stops[:last]],
        "measured": len(stops),
        "unmeasured": len(found) - len(stops),
        "hidden": stored.hidden,
    }
    screen.answer(answer, [each.argument for each in stops[:last]])
    return ExitCode.OK


def took(shutdown: Json, statement: Json | None) -> Took | None:
    """What is recorded of one stop; None where not even its decision is."""
    observed = shutdown.get("status") or {}
    stages = observed.get("stages") or {}
    if not stages.get("decided"):
        return None
    decided = times.seconds(stages["decided"])
    seconds = {
        name: times.seconds(stages[stage]) - decided
        for name, stage in _OF_STATUS.items()
        if stages.get(stage)
    }
    path = "person" if not shutdown["spec"].get("policy") else "-"
    if statement is not None and (signal := evidence.decisive(statement)) is not None:
        path = signal.get("path") or "-"
        read = times.seconds(signal["readAt"])
        seconds["decision"] = times.seconds(statement["decidedAt"]) - read
        if signal.get("sampledAt"):
            seconds["sample"] = read - times.seconds(signal["sampledAt"])
    if (verified := _verified(observed)) is not None:
        seconds["verified"] = verified - decided
    metadata = shutdown["metadata"]
    resource = SHUTDOWNS if shutdown["kind"] == SHUTDOWNS.kind else CLUSTER_SHUTDOWNS
    # Clocks step, also backwards: nothing took less than no time.
    floored = {stage: max(0.0, value) for stage, value in seconds.items()}
    return Took(
        shown(resource, metadata["name"], metadata.get("namespace", "")),
        f"{resource.kind.lower()}.{resource.group}/{metadata['name']}",
        decided,
        path,
        floored,
    )


def summary(stops: Iterable[Took]) -> dict[str, dict[str, Any]]:
    """Per stage how many stops recorded it, and percentiles (nearest rank, seconds)."""
    found: dict[str, dict[str, Any]] = {}
    chosen = list(stops)
    for stage in _STAGES:
        values = sorted(each.seconds[stage] for each in chosen if stage in each.seconds)
        found[stage] = {"stops": len(values)}
        if values:
            found[stage] |= {name: _rank(values, share) for name, share in _SHARES.items()}
    return found


def _rank(values: Sequence[float], share: float) -> float:
    return round(values[math.ceil(share * len(values)) - 1], 6)


def _verified(observed: Mapping[str, Any]) -> float | None:
    """When it was verified; None if it is not, or is *again*: then the first time is not stored."""
    found = conditions.find(observed.get("conditions") or (), ShutdownCondition.VERIFIED)
    if found is None or found["status"] != "True" or " again, " in found["message"]:
        return None
    return times.seconds(found["lastTransitionTime"])


async def _gather(session: Session, namespace: str) -> _Stored:
    """Shutdowns and their evidence; what the user may not list is remembered as hidden."""
    stored = _Stored()
    records: list[Json] = []
    missing: list[NotFoundError] = []

    async def look(resource: Resource, place: str, into: list[Json]) -> None:
        try:
            into += (await session.cluster.list(resource, place)).items
        except RefusedError as error:
            stored.hidden.append(f"{resource.plural}: {error}")
        except NotFoundError as error:
            missing.append(error)

    looks = [
        look(SHUTDOWNS, namespace, stored.shutdowns),
        look(CLUSTER_SHUTDOWNS, "", stored.shutdowns),
        look(RECORDS, namespace, records),
    ]
    if namespace:  # where the evidence of ClusterShutdowns of nodes is
        looks.append(look(RECORDS, _OPERATOR_NAMESPACE, records))
    await asyncio.gather(*looks)
    if len(missing) == len(looks):
        raise missing[0]
    if len(stored.hidden) == len(looks):
        raise RefusedError(stored.hidden[0])
    for each in records:
        if statement := each["spec"].get("evidence"):
            stored.evidence[each["spec"]["shutdownUid"]] = statement
    stored.hidden.sort()
    return stored


def _times(values: Mapping[str, float]) -> list[str]:
    return [durations.text(values[name]) for name in _SHARES]


def _logarithmic(values: Mapping[str, float]) -> str:
    """A bar to the median, thin on to the maximum; its whole length is five minutes."""
    full = math.log(300 / _SHORTEST)
    ends = [
        round(_BAR * min(1.0, math.log(max(values[name], _SHORTEST) / _SHORTEST) / full))
        for name in ("p50", "max")
    ]
    return ("█" * ends[0] + "─" * (ends[1] - ends[0])).ljust(_BAR)


def _one_by_one(stops: Sequence[Took]) -> list[Sequence[Cell]]:
    slowest = max((max(each.seconds.values(), default=0.0) for each in stops), default=0.0)
    rows: list[Sequence[Cell]] = []
    for each in stops:
        cells = [
            durations.text(each.seconds[stage]) if stage in each.seconds else "-"
            for stage in _SHOWN
        ]
        end = max(each.seconds.get("verified", 0.0), each.seconds.get("stop", 0.0))
        bar = "█" * round(_BAR * end / slowest) if slowest else ""
        rows.append((f"{times.text(each.decided)[:19]}Z", each.name, each.path, *cells, bar))
    return rows


def _remarks(screen: Screen, stored: _Stored, stops: Sequence[Took], *, everywhere: bool) -> None:
    where = "in the cluster" if everywhere else "here"
    if not stored.shutdowns:
        screen.line(f"Nothing to show: no stop is stored {where}.")
    elif not stops:
        screen.line(f"Nothing to show: no stop {where} has a recorded decision.")
    without = len(stored.shutdowns) - len(stops)
    if without:
        screen.line(f"{without} without a recorded decision: nobody knows how long they took.")
    for each in stored.hidden:
        screen.line(Span("Hidden from you", Tone.WARN), f": {each}")


def _value(stop: Took) -> dict[str, Any]:
    return {
        "shutdown": stop.name,
        "decided": times.text(stop.decided),
        "path": stop.path,
        "seconds": {name: round(stop.seconds[name], 6) for name in _STAGES if name in stop.seconds},
    }
