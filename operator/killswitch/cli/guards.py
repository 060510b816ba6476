"""Node guards as a command sees them: which nodes have one, and how fast their pods stop by it.

Many may stop in their namespace without reading NodeGuards, which belong to none: then nothing is
claimed, in either direction.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from killswitch.cli import board
from killswitch.cli.connect import Session
from killswitch.cli.screen import Screen, Span, Tone
from killswitch.core import reports, times
from killswitch.core.errors import KillSwitchError, NotFoundError, RefusedError
from killswitch.core.inventory import Pod
from killswitch.core.reports import Report, Word
from killswitch.core.resources import NODE_GUARDS
from killswitch.ports import Json

_FEW = 64
"""Nodes up to which each guard is asked for by name, rather than all of the cluster's listed."""


@dataclass(frozen=True, slots=True)
class Guards:
    """The reports of some nodes, by node."""

    reports: Mapping[str, Report] = field(default_factory=dict)
    unknown: str = ""
    """Why they are not known; empty where they are."""

    def live(self, node: str, now: float) -> bool:
        """Whether a guard of that node has reported lately."""
        return node in self.reports and self.reports[node].live(now)

    def word(self, pod: Pod) -> Word | None:
        """What the guard of its node says of this pod, however old that is."""
        found = self.reports.get(pod.node)
        return None if found is None else found.words.get(pod.uid)

    def of(self, order: Json) -> dict[str, list[Word]]:
        """What they did for this Shutdown, ClusterShutdown or Freeze, by node."""
        kind, metadata = order["kind"], order["metadata"]
        name, place = metadata["name"], metadata.get("namespace", "")
        made = times.seconds(metadata["creationTimestamp"])

        def mine(word: Word) -> bool:
            found, namespace, named = word.order
            # One that was deleted may have had the same name.
            later = word.done is None or word.done >= made
            return (found, named) == (kind, name) and place in ("", namespace) and later

        words = {n: [w for w in r.words.values() if mine(w)] for n, r in self.reports.items()}
        return {node: found for node, found in sorted(words.items()) if found}


@dataclass(frozen=True, slots=True)
class Reach:
    """Pods by how they are reached. Those without a node run nothing yet and are in neither."""

    guarded: tuple[Pod, ...] = ()
    unguarded: tuple[Pod, ...] = ()


async def of_nodes(session: Session, nodes: Iterable[str]) -> Guards:
    """The guards of these nodes, where there are any. Never raises."""
    names = {node for node in nodes if node}
    if len(names) > _FEW:
        every = await of_all(session)
        return Guards({n: r for n, r in every.reports.items() if n in names}, every.unknown)
    try:
        found = await asyncio.gather(*(_guard(session, name) for name in sorted(names)))
    except KillSwitchError as error:
        return _unknown(error)
    return _read(body for body in found if body is not None)


async def of_all(session: Session) -> Guards:
    """All guards of the cluster. Never raises."""
    try:
        return _read(await stored(session))
    except KillSwitchError as error:
        return _unknown(error)


async def stored(session: Session) -> Sequence[Json]:
    """The NodeGuards of the cluster."""
    try:
        return (await session.cluster.list(NODE_GUARDS)).items
    except NotFoundError:  # an older release, without this kind
        return ()


async def _guard(session: Session, name: str) -> Json | None:
    try:
        return await session.cluster.get(NODE_GUARDS, name)
    except NotFoundError:
        return None


def _read(bodies: Iterable[Json]) -> Guards:
    return Guards({body["metadata"]["name"]: reports.report(body) for body in bodies})


def _unknown(error: KillSwitchError) -> Guards:
    hidden = isinstance(error, RefusedError)
    return Guards(unknown="nodeguards are hidden from you" if hidden else f"nodeguards: {error}")


def reach(pods: Iterable[Pod], found: Guards, now: float) -> Reach:
    """The pods that have a node, by whether a live guard watches it."""
    placed = sorted((p for p in pods if p.node), key=lambda p: (p.namespace, p.name))
    guarded = tuple(pod for pod in placed if found.live(pod.node, now))
    return Reach(guarded, tuple(pod for pod in placed if not found.live(pod.node, now)))


def say_reach(screen: Screen, pods: Collection[Pod], found: Guards, now: float) -> None:
    """How fast these pods would stop, by node."""
    if not any(pod.node for pod in pods):
        return
    if found.unknown:
        words = f": not known ({found.unknown}): milliseconds with one, seconds without"
        screen.line(Span("Node guards", Tone.WARN), words)
        return
    split = reach(pods, found, now)
    if split.guarded:
        words = f"{_stop(split.guarded)} in milliseconds: {places(split.guarded, found, now)}"
        screen.line(f"Node guards: {words}")
    if split.unguarded:
        words = f": {_stop(split.unguarded)} in seconds: {places(split.unguarded, found, now)}"
        screen.line(Span("No live node guard", Tone.WARN), words)


def reach_value(pods: Iterable[Pod], found: Guards, now: float) -> dict[str, Any]:
    """The same for programs; None where it is not known."""
    if found.unknown:
        return {"known": False, "why": found.unknown, "milliseconds": None, "seconds": None}
    split = reach(pods, found, now)
    fast, slow = (dict(Counter(p.node for p in each)) for each in (split.guarded, split.unguarded))
    return {"known": True, "why": "", "milliseconds": fast, "seconds": slow}


def places(pods: Iterable[Pod], found: Guards, now: float) -> str:
    """`gpu-1 (2), gpu-2 (1, its guard silent for 5m)`: nodes with how many pods of these."""
    counts = sorted(Counter(pod.node for pod in pods).items())
    return ", ".join(f"{node} ({count}{_silence(node, found, now)})" for node, count in counts)


def _silence(node: str, found: Guards, now: float) -> str:
    known = found.reports.get(node)
    return "" if known is None or known.live(now) else f", its guard {silence(known, now)}"


def silence(guard: Report, now: float) -> str:
    """Of a guard that does not count as there, why, to be put behind its name."""
    if guard.renewed is None:
        return "has never reported"
    if guard.renewed > now:
        return "has a clock that is ahead"
    return f"silent for {board.age(times.text(guard.renewed), now)}"


def _stop(pods: Collection[Pod]) -> str:
    return "1 pod stops" if len(pods) == 1 else f"{len(pods)} pods stop"
