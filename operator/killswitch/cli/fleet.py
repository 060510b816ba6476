"""All node guards at a glance, for `status`: how many nodes have one, and what is wrong with them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from killswitch.cli import guards, render
from killswitch.cli.connect import Session
from killswitch.cli.screen import Screen, Span, Tone
from killswitch.core import reports
from killswitch.core.errors import KillSwitchError
from killswitch.core.resources import NODE_GUARDS, NODES
from killswitch.ports import Json

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Fleet:
    """NodeGuards of the whole cluster."""

    bodies: Sequence[Json] = ()
    nodes: int | None = None
    """How many nodes there are; None where that is hidden from the user."""
    hidden: str = ""
    """Why the guards are not known; empty where they are."""

    def live(self, now: float) -> list[Json]:
        """Guards that have reported lately."""
        return [each for each in self.bodies if reports.report(each).live(now)]

    def silent(self, now: float) -> list[Json]:
        """Guards that have not."""
        return [each for each in self.bodies if not reports.report(each).live(now)]

    def problems(self) -> list[tuple[str, str]]:
        """What guards say keeps them from their work, with their nodes."""
        return [
            (_node(each), problem)
            for each in self.bodies
            for problem in _status(each).get("problems") or ()
        ]

    def isolated(self) -> tuple[str, Json] | None:
        """The last time that a node was cut off for longer than a standing order allows."""
        found = [
            (_node(each), _status(each)["isolation"])
            for each in self.bodies
            if _status(each).get("isolation")
        ]
        return max(found, key=lambda each: str(each[1]["since"]), default=None)


async def look(session: Session) -> Fleet:
    """What the user may see of them. Never raises."""
    found, nodes = await asyncio.gather(_guards(session), _nodes(session))
    return Fleet(found, nodes) if not isinstance(found, str) else Fleet((), nodes, found)


async def _guards(session: Session) -> list[Json] | str:
    try:
        return sorted(await guards.stored(session), key=_node)
    except KillSwitchError as error:
        return f"{NODE_GUARDS.plural}: {error}"


async def _nodes(session: Session) -> int | None:
    try:
        return len((await session.cluster.list(NODES)).items)
    except KillSwitchError:
        return None


def say(screen: Screen, fleet: Fleet, now: float) -> None:
    """How many nodes are guarded, silent guards, their problems, the last isolation."""
    if fleet.hidden:  # said with everything else that is hidden
        return
    live, silent = len(fleet.live(now)), fleet.silent(now)
    of = "" if fleet.nodes is None else f" of {fleet.nodes} nodes"
    if not fleet.bodies:
        words = f": none{of}: stops take seconds, and nothing can be frozen"
        screen.line(Span("Node guards", Tone.WARN), words)
        return
    whole = fleet.nodes in (None, live) and not silent
    screen.line(Span("Node guards", Tone.GOOD if whole else Tone.WARN), f": {live}{of or ' live'}")
    _several(screen, [(_node(each), guards.silence(reports.report(each), now)) for each in silent])
    _several(screen, fleet.problems())
    last = fleet.isolated()
    if last is not None:
        screen.line(f"  last isolation: {last[0]} {_isolation(last[1])}")


def _several(screen: Screen, found: Sequence[tuple[str, str]]) -> None:
    for node, words in found[:_SHOWN]:
        screen.line("  ", Span(node, Tone.WARN), f": {words}")
    render.more(screen, found, _SHOWN)


def _isolation(found: Json) -> str:
    end = f"until {found['ended']}" if found.get("ended") else "and not over"
    pods = "1 pod" if found.get("pods") == 1 else f"{found.get('pods', 0)} pods"
    return f"from {found['since']} {end}: {found.get('action', 'nothing')} of {pods}"


def value(fleet: Fleet, now: float) -> dict[str, Any]:
    """The same for programs."""
    last = fleet.isolated()
    return {
        "known": not fleet.hidden,
        "nodes": fleet.nodes,
        "live": [_node(each) for each in fleet.live(now)],
        "silent": [_node(each) for each in fleet.silent(now)],
        "problems": [{"node": node, "problem": problem} for node, problem in fleet.problems()],
        "lastIsolation": None if last is None else {"node": last[0], **last[1]},
    }


def _node(guard: Json) -> str:
    return str(guard["metadata"]["name"])


def _status(guard: Json) -> Json:
    return guard.get("status") or {}
