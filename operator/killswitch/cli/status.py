"""`status`: the board of policies, their signals, bypasses, Shutdowns, Freezes and node guards.

Read from stored objects only, so it answers with every process of ours dead, and then says that
nobody has looked.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from killswitch.cli import board, fleet, freezes, pressure
from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.fleet import Fleet
from killswitch.cli.screen import Cell, Screen, Span, Tone
from killswitch.core import conditions, times
from killswitch.core.conditions import PolicyCondition, ShutdownCondition
from killswitch.core.errors import NotFoundError, RefusedError
from killswitch.core.resources import (
    BYPASSES,
    CLUSTER_POLICIES,
    CLUSTER_SHUTDOWNS,
    FREEZES,
    POLICIES,
    SHUTDOWNS,
    Resource,
)
from killswitch.ports import Json

_KINDS = (POLICIES, CLUSTER_POLICIES, SHUTDOWNS, CLUSTER_SHUTDOWNS, FREEZES, BYPASSES)
_VERDICTS = {"Tripped": Tone.BAD, "Clear": Tone.GOOD, "Unknown": Tone.WARN}


@dataclass(slots=True)
class Stored:
    """Everything of ours that the user may see."""

    items: dict[str, list[Json]] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    unseen: set[str] = field(default_factory=set)
    """Kinds that are hidden."""
    missing: int = 0

    def of(self, *resources: Resource) -> list[Json]:
        """Objects of these kinds, by namespace and name."""
        found = [each for resource in resources for each in self.items.get(resource.kind, ())]
        return sorted(
            found, key=lambda b: (b["metadata"].get("namespace", ""), b["metadata"]["name"])
        )


async def status(session: Session, screen: Screen, *, everywhere: bool) -> ExitCode:
    """Print the board."""
    namespace = "" if everywhere else session.namespace
    stored, guards = await asyncio.gather(gather(session, namespace), fleet.look(session))
    if stored.missing == len(_KINDS):
        raise NotFoundError("the server could not find the requested resource")
    if len(stored.hidden) == len(_KINDS):
        raise RefusedError(stored.hidden[0])
    now = session.clock.now()
    judged = [
        (each, board.policy(each, bypass(each, stored, now)))
        for each in stored.of(POLICIES, CLUSTER_POLICIES)
    ]
    shutdowns = [(each, board.shutdown(each)) for each in stored.of(SHUTDOWNS, CLUSTER_SHUTDOWNS)]
    frozen = [each for each in stored.of(FREEZES) if not freezes.ended(each)]
    stored.hidden += [guards.hidden] if guards.hidden else []
    _policies(screen, judged, now)
    _shutdowns(screen, shutdowns, now)
    pressure.say_all(screen, [body for body, _ in shutdowns])
    _freezes(screen, frozen, guards, now)
    fleet.say(screen, guards, now)
    _remarks(screen, stored, namespace)
    answer = {
        "policies": [policy_value(body, verdict) for body, verdict in judged],
        "shutdowns": [shutdown_value(body, verdict) for body, verdict in shutdowns],
        "freezes": [freezes.value(body, now) for body in frozen],
        "nodeGuards": fleet.value(guards, now),
        "hidden": stored.hidden,
    }
    shown = [*(body for body, _ in (*judged, *shutdowns)), *frozen]
    names = [f"{b['kind'].lower()}.killswitch.dev/{b['metadata']['name']}" for b in shown]
    screen.answer(answer, names)
    return ExitCode.OK


async def gather(session: Session, namespace: str) -> Stored:
    """All kinds at once; what the user may not list is remembered as hidden."""
    stored = Stored()

    async def look(resource: Resource) -> None:
        place = namespace if resource.namespaced else ""
        try:
            stored.items[resource.kind] = (await session.cluster.list(resource, place)).items
        except RefusedError as error:
            stored.hidden.append(f"{resource.plural}: {error}")
            stored.unseen.add(resource.kind)
        except NotFoundError:
            stored.missing += 1

    await asyncio.gather(*(look(each) for each in _KINDS))
    stored.hidden.sort()
    return stored


def bypass(policy: Json, stored: Stored, now: float) -> str | None:
    """Who suspends this policy until when and why."""
    metadata = policy["metadata"]
    for each in stored.of(BYPASSES):
        spec = each["spec"]
        here = each["metadata"]["namespace"] == metadata.get(
            "namespace", each["metadata"]["namespace"]
        )
        if here and spec["policy"] == metadata["name"] and times.seconds(spec["until"]) > now:
            return f"by {spec['requestedBy']} until {spec['until']}: {spec['reason']}"
    return None


def signals(body: Json, now: float) -> list[Sequence[Cell]]:
    """Rows of a policy's signals: verdict, value, age, words."""
    rows: list[Sequence[Cell]] = []
    known = {each["name"]: each for each in (body.get("status") or {}).get("signals") or ()}
    for signal in body["spec"]["signals"]:
        found = known.get(signal["name"])
        if found is None:
            rows.append(
                (signal["name"], Span("never read", Tone.WARN), "-", "-", "nobody has asked it")
            )
            continue
        verdict = Span(found["verdict"], _VERDICTS.get(found["verdict"], Tone.BAD))
        words = (
            f"{found['reason']}: {found['message']}" if found.get("reason") else found["message"]
        )
        value = found.get("value") or "-"
        rows.append(
            (signal["name"], verdict, value, board.age(found.get("observedAt"), now), words)
        )
    return rows


def policy_value(body: Json, judged: board.Judged) -> dict[str, Any]:
    """A policy for programs."""
    found = {each["type"]: each["status"] for each in board.observed(body)}
    return {
        "kind": body["kind"],
        "namespace": body["metadata"].get("namespace", ""),
        "name": body["metadata"]["name"],
        "standing": str(judged.standing),
        "why": judged.why,
        "mode": body["spec"].get("mode", "DryRun"),
        "conditions": found,
        "signals": (body.get("status") or {}).get("signals") or [],
        "reaction": (body.get("status") or {}).get("reaction"),
    }


def shutdown_value(body: Json, judged: board.Judged) -> dict[str, Any]:
    """A Shutdown for programs."""
    spec, seen = body["spec"], body.get("status") or {}
    return {
        "kind": body["kind"],
        "namespace": body["metadata"].get("namespace", ""),
        "name": body["metadata"]["name"],
        "standing": str(judged.standing),
        "why": judged.why,
        "conditions": {each["type"]: each["status"] for each in board.observed(body)},
        "remaining": seen.get("remaining"),
        "approvals": sorted(spec.get("approvals") or {}),
        "requiredApprovals": spec["requiredApprovals"],
        "requestedBy": spec["requestedBy"],
        "reason": spec["reason"],
        "createdAt": body["metadata"]["creationTimestamp"],
        **pressure.value(body),
    }


def _policies(screen: Screen, judged: Sequence[tuple[Json, board.Judged]], now: float) -> None:
    rows: list[Sequence[Cell]] = []
    signal_rows: list[Sequence[Cell]] = []
    for body, verdict in judged:
        name, place = body["metadata"]["name"], board.place(body)
        demand = conditions.find(board.observed(body), PolicyCondition.DEMANDED)
        votes = demand["message"] if demand else "not judged yet"
        mode = body["spec"].get("mode", "DryRun")
        ready = board.mark(body, PolicyCondition.READY)
        reaction = board.reaction(body)
        rows.append((place, name, verdict.cell, mode, ready, votes, reaction, verdict.why))
        signal_rows += [(place, name, *row) for row in signals(body, now)]
    headers = ("NAMESPACE", "POLICY", "STANDING", "MODE", "READY", "VOTES", "REACTION", "WHY")
    screen.table(headers, rows)
    if rows:
        screen.line()
    screen.table(
        ("NAMESPACE", "POLICY", "SIGNAL", "VERDICT", "VALUE", "SINCE", "IN WORDS"), signal_rows
    )
    if signal_rows:
        screen.line()


def _shutdowns(screen: Screen, judged: Sequence[tuple[Json, board.Judged]], now: float) -> None:
    rows: list[Sequence[Cell]] = []
    for body, verdict in judged:
        left = (body.get("status") or {}).get("remaining")
        rows.append(
            (
                board.place(body),
                body["metadata"]["name"],
                verdict.cell,
                board.mark(body, ShutdownCondition.LOCKED),
                board.mark(body, ShutdownCondition.VERIFIED),
                "?" if left is None else str(left),
                board.approvals(body),
                board.mark(body, ShutdownCondition.RESTORED),
                board.age(body["metadata"]["creationTimestamp"], now),
                body["spec"]["requestedBy"],
                _short(body["spec"]["reason"]),
            )
        )
    headers = (
        "NAMESPACE",
        "SHUTDOWN",
        "STANDING",
        "LOCKED",
        "VERIFIED",
        "LEFT",
        "APPROVALS",
        "RESTORED",
        "AGE",
        "BY",
        "REASON",
    )
    screen.table(headers, rows)


def _freezes(screen: Screen, frozen: Sequence[Json], guards: Fleet, now: float) -> None:
    rows: list[Sequence[Cell]] = []
    for body in frozen:
        judged = freezes.judged(body, now)
        rows.append(
            (
                board.place(body),
                body["metadata"]["name"],
                judged.cell,
                freezes.counts(body, None if guards.hidden else guards.bodies),
                freezes.end(body, now),
                body["spec"]["requestedBy"],
                _short(body["spec"]["reason"]),
                _short(judged.why),
            )
        )
    headers = ("NAMESPACE", "FREEZE", "STANDING", "FROZEN", "ENDS IN", "BY", "REASON", "WHY")
    if rows:
        screen.line()
    screen.table(headers, rows)


def _remarks(screen: Screen, stored: Stored, namespace: str) -> None:
    where = f"in {namespace}" if namespace else "in the cluster"
    if not stored.of(POLICIES, CLUSTER_POLICIES):
        seen = _none("policy", where, stored, POLICIES, CLUSTER_POLICIES)
        watched = "nothing watches" if seen.all else "whether something watches cannot be seen"
        screen.line(Span(seen.text, Tone.WARN), f": {watched}; people can stop")
    if not stored.of(SHUTDOWNS, CLUSTER_SHUTDOWNS):
        seen = _none("Shutdown", where, stored, SHUTDOWNS, CLUSTER_SHUTDOWNS)
        held = "nothing is held" if seen.all else "whether something is held cannot be seen"
        screen.line(f"{seen.text}: {held}")
    for each in stored.hidden:
        screen.line(Span("Hidden from you", Tone.WARN), f": {each}")


class _Seen(NamedTuple):
    """What is known about an empty list."""

    text: str
    all: bool


def _none(noun: str, where: str, stored: Stored, own: Resource, cluster: Resource) -> _Seen:
    """`No policy in prod`, as far as the user may see: what is hidden is not claimed absent."""
    if own.kind in stored.unseen:
        return _Seen(f"{own.plural} {where} are hidden from you", all=False)
    if cluster.kind in stored.unseen:
        return _Seen(f"No {noun} {where}, and {cluster.plural} are hidden from you", all=False)
    return _Seen(f"No {noun} {where}", all=True)


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
