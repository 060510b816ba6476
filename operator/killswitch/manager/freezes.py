"""What is seen of a Freeze: which of its pods node guards report as frozen, and that it has ended.

The guards freeze and thaw without any of this, each by its own clock. Here it is written down for people,
and an ended Freeze loses its label, so that guards and caches forget it. They obey that, so an end that came
by itself is written when its time is over by this clock *and* no guard still holds a pod by it: were this
clock ahead, it would let go what is meant to be held.

The end in a stop is the reactor's to say, since only the Shutdown that it makes goes on holding the pods.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from killswitch.core import conditions, containment, locks, times
from killswitch.core.conditions import FreezeCondition, Reason
from killswitch.core.errors import NotFoundError
from killswitch.core.inventory import Pod
from killswitch.core.names import ENGAGED_LABEL
from killswitch.core.reports import Report
from killswitch.core.resources import FREEZES, PODS
from killswitch.core.words import several
from killswitch.manager import events
from killswitch.manager.guards import Guards
from killswitch.manager.rounds import Key
from killswitch.manager.status import Judgement, StatusWriter
from killswitch.manager.verification import Left
from killswitch.ports import Clock, Cluster, Json
from killswitch.settings import Settings

_SLOW, _LEAST = 2.0, 0.05
"""Seconds until the next look while something is missing, and at the least."""
_LATE = 30.0
"""Seconds after its end in which the Shutdown that a Freeze ends in should have been made."""
_ALARMING = {Reason.UNGUARDED, Reason.OVERDUE}
_PASSING = {Reason.FREEZING, Reason.NO_TARGET, Reason.FREEZE_UNKNOWN, Reason.EXPIRED}
"""What passes by itself, or comes again with every new pod: no news, unless it is the end."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The pods that a Freeze covers and that have a node, and what their guards say of them."""

    covered: tuple[Pod, ...]
    left: Left
    """Those that are not reported as frozen."""
    unguarded: tuple[str, ...]
    """Nodes of these that have no live guard."""
    failures: tuple[str, ...] = ()
    """What hinders guards."""

    @property
    def frozen(self) -> int:
        """How many are reported as frozen."""
        return len(self.covered) - self.left.count

    def __str__(self) -> str:
        """`3 of 4 pods frozen, left: pod prod/vllm-0 on gpu-1`."""
        rest = f", left: {self.left}" if self.left.count else ""
        return f"{self.frozen} of {len(self.covered)} pods frozen{rest}"

    def as_status(self) -> Json:
        """The fields of the status."""
        leftovers = self.left.as_status()
        return {"pods": len(self.covered), "frozen": self.frozen, "leftovers": leftovers}


class Freezes:
    """The flow for Freezes."""

    def __init__(self, cluster: Cluster, clock: Clock, guards: Guards, settings: Settings) -> None:
        """Keeps no state."""
        self._cluster = cluster
        self._clock = clock
        self._guards = guards
        self._rest = settings.verify_interval
        self._writer = StatusWriter(cluster, clock)

    async def look(self, key: Key) -> float | None:
        """Bring one Freeze's status up to date; seconds until the next look."""
        try:
            freeze = await self._cluster.get(key.resource, key.name, key.namespace)
        except NotFoundError:
            return None
        now = self._clock.now()
        until = times.seconds(freeze["spec"]["until"])
        end = _end(freeze)
        if end is None and now >= until and freeze["spec"]["onExpiry"] == "Thaw":
            end = await self._expired(freeze)
        if end is not None:
            return await self._look_back(key, freeze, end)
        seen = await self._see(freeze, until)
        frozen = self._frozen(freeze, seen, over=now - until)
        await self._write(freeze, frozen, None, seen)
        if now >= until:
            return _SLOW
        return max(_LEAST, min(self._rest if frozen[1] else _SLOW, until - now))

    async def _expired(self, freeze: Json) -> Judgement | None:
        """The end of one whose time is over; None while a guard still holds, or nobody knows."""
        held = [
            pod
            for pod in await self._covered(freeze)
            if _holds(freeze, pod, self._guards.heard(pod.node))
        ]
        if held or not self._guards.known:
            return None
        words = f"thawed by itself at its end, {freeze['spec']['until']}"
        return (FreezeCondition.ENDED, True, Reason.EXPIRED, words)

    async def _look_back(self, key: Key, freeze: Json, end: Judgement) -> float | None:
        """Write the end down, and what guards have not let go yet."""
        if _settled(freeze):
            return None
        still = tuple(
            pod
            for pod in await self._covered(freeze)
            if _holds(freeze, pod, self._guards.last(pod.node))
        )
        words = "it has ended"
        if still:
            words += f", yet node guards have not said that they let go: {Left(still)}"
        frozen = (FreezeCondition.FROZEN, False, end[2], words)
        await self._write(freeze, frozen, end, Seen(still, Left(), ()))
        if locks.labelled(freeze):  # off the lists of what is in force
            label = {"metadata": {"labels": {ENGAGED_LABEL: "false"}}}
            await self._cluster.patch(key.resource, key.name, label, key.namespace)
        return self._rest if still else None

    async def _covered(self, freeze: Json, until: float = math.inf) -> tuple[Pod, ...]:
        """Its pods that have a node: one without runs nothing. What came after the end is not meant."""
        listed = (await self._cluster.list(PODS, freeze["metadata"]["namespace"])).items
        residents = [each for each in map(containment.resident, listed) if each is not None]
        return tuple(
            each.pod
            for each in residents
            if each.pod.node and each.created <= until and locks.covers(freeze, each.pod)
        )

    async def _see(self, freeze: Json, until: float) -> Seen:
        covered = await self._covered(freeze, until)
        left, failures = [], []
        for pod in covered:
            report = self._guards.live(pod.node)
            if report is None or not report.frozen(pod):
                left.append(pod)
            word = None if report is None else report.words.get(pod.uid)
            if word is not None and word.state == "Failed":
                failures.append(f"the guard of node {pod.node} says: {word.message}")
        unguarded = self._guards.absent(pod.node for pod in left)
        return Seen(covered, Left(tuple(left)), unguarded, tuple(dict.fromkeys(failures)))

    def _frozen(self, freeze: Json, seen: Seen, *, over: float) -> Judgement:
        """Whether all that it covers is frozen; its time is over since so many seconds."""
        type_, until = FreezeCondition.FROZEN, freeze["spec"]["until"]
        if over >= 0:
            return (type_, False, *_awaiting(freeze, seen, late=over >= _LATE))
        if not self._guards.known:
            words = "no report of a node guard has been read yet: may the manager list nodeguards?"
            return (type_, None, Reason.FREEZE_UNKNOWN, words)
        if not seen.covered:
            words = "no pod that it covers has a node: what starts is frozen by the guard there"
            return (type_, False, Reason.NO_TARGET, words)
        if seen.unguarded:
            words = f"no live node guard on {first(seen.unguarded)}; {seen}"
            return (type_, False, Reason.UNGUARDED, words)
        if seen.left.count:
            words = "; ".join([str(seen), *seen.failures[:5]])
            return (type_, False, Reason.FREEZING, words)
        then = "thawed" if freeze["spec"]["onExpiry"] == "Thaw" else "stopped"
        words = f"{len(seen.covered)} pods frozen, {then} at {until}"
        return (type_, True, Reason.ALL_FROZEN, words)

    async def _write(
        self, freeze: Json, frozen: Judgement, end: Judgement | None, seen: Seen
    ) -> None:
        """Write, and tell people of what is new."""
        judgements = [frozen] if end is None else [frozen, end]
        generation = freeze["metadata"].get("generation", 0)
        await self._writer.write(
            FREEZES, freeze, judgements, observedGeneration=generation, **seen.as_status()
        )
        if _is_news(freeze, frozen, end):
            _, _, reason, message = end or frozen
            warning = reason in _ALARMING
            await events.tell(
                self._cluster, self._clock, freeze, str(reason), message, warning=warning
            )


def _is_news(freeze: Json, frozen: Judgement, end: Judgement | None) -> bool:
    """Whether the status as it stood did not say so yet."""
    observed = freeze.get("status", {}).get("conditions", ())
    told = conditions.find(observed, FreezeCondition.FROZEN)
    another = told is None or told["reason"] != frozen[2]
    if end is None:
        return another and frozen[2] not in _PASSING
    return another or not conditions.holds(observed, FreezeCondition.ENDED)


def _holds(freeze: Json, pod: Pod, report: Report | None) -> bool:
    """Whether the guard's report says that this Freeze holds the pod."""
    metadata = freeze["metadata"]
    word = None if report is None else report.words.get(pod.uid)
    order = (FREEZES.kind, metadata["namespace"], metadata["name"])
    return word is not None and (word.state, word.order) == ("Frozen", order)


def _awaiting(freeze: Json, seen: Seen, *, late: bool) -> tuple[str, str]:
    """Reason and message of a Freeze whose time is over and whose end is not there yet."""
    if freeze["spec"]["onExpiry"] == "Thaw":
        words = (
            "its time is over by the manager's clock, node guards have not said that they let go"
        )
        return Reason.EXPIRED, f"{words}; {seen}"
    name, until = f"Shutdown {freeze['metadata']['name']}-expired", freeze["spec"]["until"]
    if not late:
        return Reason.EXPIRED, f"its time is over, {name} is not made yet; {seen}"
    words = f"its time is over since {until} and no reactor has said that it made {name}; {seen}"
    cure = "are the reactor's pods running? kubectl killswitch stop does the same"
    return Reason.OVERDUE, f"{words}; {cure}"


def _end(freeze: Json) -> Judgement | None:
    """Why it was ended, in the words that stand already where somebody has said so."""
    type_, spec = FreezeCondition.ENDED, freeze["spec"]
    before = conditions.find(freeze.get("status", {}).get("conditions", ()), type_)
    if before is not None and before["status"] == "True":
        return (type_, True, before["reason"], before["message"])
    if thaw := spec.get("thaw"):
        return (type_, True, Reason.THAWED, f"thawed by {thaw['by']}: {thaw['reason']}")
    return None


def _settled(freeze: Json) -> bool:
    """Whether the end is written, and nothing is left of it."""
    status = freeze.get("status", {})
    ended = conditions.holds(status.get("conditions", ()), FreezeCondition.ENDED)
    frozen = conditions.find(status.get("conditions", ()), FreezeCondition.FROZEN)
    said = frozen is not None and frozen["status"] == "False" and not status.get("frozen")
    return ended and said and not locks.labelled(freeze)


def first(names: Sequence[str]) -> str:
    """The first five of them."""
    return f"node {several(names)}"
