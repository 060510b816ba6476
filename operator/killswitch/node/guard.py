"""The node guard: observe, decide, act, remember, report; in this order, in one thread.

    news ─► observe (knowledge) ─► decide (core/containment) ─► act (hands) ─► tell

Level-triggered: each look compares what orders want with what is held, so a look that failed, a
crash and a lost event are repaired by the next. Nothing is written or sent before the acts are done.
"""

import dataclasses
import queue
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from killswitch.core import times
from killswitch.core.containment import Want
from killswitch.core.resources import STANDING_ORDERS
from killswitch.node.cgroups import Cgroups
from killswitch.node.clock import Clock
from killswitch.node.hands import Hands
from killswitch.node.holds import Hold
from killswitch.node.knowledge import Knowledge, Wanted
from killswitch.node.memory import Held, Memory
from killswitch.node.news import Heard, Leave, Listed, News
from killswitch.node.residents import Residents
from killswitch.node.terms import Terms

Json = Mapping[str, Any]
Queue = queue.SimpleQueue[News]

_RENEW = 30.0
"""Seconds between two reports at most, new or not: after two minutes a guard counts as absent."""
_MOST_PODS = 250
"""In a report."""


class Report(NamedTuple):
    """What the node's NodeGuard is to say."""

    renewed_at: float
    """Wall clock, in seconds, when the guard said so: one that hangs says nothing."""
    cgroups: str
    driver: str
    pods: tuple[Json, ...]
    isolation: Json | None
    problems: tuple[str, ...]


class Guard:
    """All state of one node's guard."""

    def __init__(
        self,
        cgroups: Cgroups,
        residents: Residents,
        terms: Terms,
        *,
        boot_id: str,
        clock: Clock | None = None,
        remember: Callable[[Memory], None] = lambda _: None,
        report: Callable[[Report], None] = lambda _: None,
        list_anew: Callable[[], None] = lambda: None,
    ) -> None:
        clock = clock or Clock()
        self.knowledge = Knowledge(residents, terms, clock)
        self.hands = Hands(cgroups, self.knowledge, clock)
        self._clock = clock
        self._terms = terms
        self._boot_id = boot_id
        self._remember = remember
        self._report = report
        self._list_anew = list_anew
        self._isolation: dict[str, Any] | None = None
        self._notes: list[str] = []
        self._told_at = 0.0

    def run(self, news: Queue, successor: Callable[[], bool]) -> None:
        """Guard until somebody asks it to leave."""
        self.look()
        while True:
            told = self._await(news)
            for each in told:
                self.observe(each)
            # Pods' statuses change all the time, what is decided by hardly ever.
            if self.knowledge.changed or self._clock.boot() >= self._due():
                self.look()
            if any(isinstance(each, Leave) for each in told):
                self.leave(successor=successor())
                return

    def observe(self, news: News) -> None:
        """Take in what another thread has to say."""
        self.knowledge.observe(news, self.hands.holds.keys())
        if isinstance(news, Listed):
            self.hands.sweep_soon()
        elif isinstance(news, Heard) and self.knowledge.behind:
            self.knowledge.behind = False
            self._list_anew()

    def look(self) -> None:
        """Make the node as it is wanted, then tell."""
        wanted = self.knowledge.decide(self.hands.holds)
        self.hands.work(wanted)
        self._note_isolation(wanted)
        if self.knowledge.changed or self.hands.changed:
            self._tell()
        elif self._clock.boot() - self._told_at >= _RENEW:
            self._renew()

    def leave(self, *, successor: bool) -> None:
        """Before this process ends: with nobody to end a Freeze, what is frozen runs again.

        What an order stopped stays closed, what only the isolation did is reopened: no release will
        ever do that. With a successor nothing is changed.
        """
        if not successor:
            why = "the guard was stopped and has no successor"
            self.hands.thaw_all(why)
            self.hands.reopen_unstopped(why)
        self._tell()

    def last_resort(self) -> None:
        """By memory alone, for when guards die one after the other: finish kills, thaw the rest."""
        self.look()
        self.hands.thaw_all("guards died one after the other")
        self._tell()

    def recall(self, memory: Memory) -> None:
        """Begin with what an earlier process knew: it holds until lists say otherwise."""
        self._terms.deadlines = dict(memory.deadlines)
        self._terms.jitter = memory.jitter
        self._terms.silence, self._terms.looked = memory.silence, memory.looked
        self.knowledge.recall(memory.orders, memory.pods, memory.ghosts)
        self.hands.history.extend(memory.history)
        self.hands.limits = dict(memory.limits)
        self._isolation = dict(memory.isolation) if memory.isolation else None
        pods = {each.pod.uid: each for each in self.knowledge.residents.touchable()}
        for held in memory.held:
            if who := pods.get(held.uid):
                fields = {each.name: getattr(held, each.name) for each in dataclasses.fields(held)}
                fields |= {"want": Want(held.want), "since": self._clock.boot()}
                del fields["uid"]
                self.hands.take_back(who, Hold(who, **fields))

    def note(self, problem: str) -> None:
        """Tell this in every report."""
        self._notes.append(problem)

    def _note_isolation(self, wanted: Mapping[str, Wanted]) -> None:
        """What the silence has led to, and when it ended."""
        alone = [each for each in wanted.values() if each.cause.kind == STANDING_ORDERS.kind]
        now = self._clock.wall()
        if alone:
            if self._isolation is None or "ended" in self._isolation:
                self._isolation = {"since": times.text(now - self._terms.silence)}
            kill = any(each.want is Want.KILL for each in alone)
            self._isolation["action"] = "Kill" if kill else "Freeze"
            self._isolation["pods"] = max(self._isolation.get("pods", 0), len(alone))
        elif self._isolation and "ended" not in self._isolation and self.knowledge.in_contact:
            self._isolation["ended"] = times.text(now)
            self.hands.changed = True

    def _tell(self) -> None:
        self.knowledge.changed = self.hands.changed = False
        self._remember(self._memory())
        self._renew()

    def _renew(self) -> None:
        self._told_at = self._clock.boot()
        self._report(self._summary())

    def _memory(self) -> Memory:
        return Memory(
            self._boot_id,
            orders=tuple(self.knowledge.orders),
            pods=tuple(self.knowledge.residents.bodies()),
            ghosts=tuple(self.knowledge.residents.ghosts()),
            held=tuple(_kept(hold) for hold in self.hands.holds.values()),
            deadlines=dict(self._terms.deadlines),
            jitter=self._terms.jitter,
            silence=self._terms.silence,
            looked=self._terms.looked,
            limits=self.hands.limits,
            history=tuple(self.hands.history),
            isolation=self._isolation and dict(self._isolation),
        )

    def _summary(self) -> Report:
        now = self._clock.boot()
        current = [hold.report(now) for hold in self.hands.holds.values()]
        pods = [*(each for each in current if each), *reversed(self.hands.history)]
        return Report(
            self._clock.wall(),
            self.hands.cgroups.version,
            self.hands.cgroups.driver,
            tuple(pods[:_MOST_PODS]),
            self._isolation and dict(self._isolation),
            (*self._notes, *self.knowledge.problems()),
        )

    def _due(self) -> float:
        """Boot time of the next look, whatever is told."""
        end = self._terms.next_end()
        look = min(self.hands.next_look(), self._told_at + _RENEW)
        return look if end is None else min(look, end)

    def _await(self, news: Queue) -> list[News]:
        """All that has come; nothing when it is time for a look without any."""
        told = []
        try:
            told.append(news.get(timeout=max(0.0, self._due() - self._clock.boot())))
            while True:
                told.append(news.get_nowait())
        except queue.Empty:
            return told


def _kept(hold: Hold) -> Held:
    return Held(
        uid=hold.who.pod.uid,
        want=int(hold.want),
        cause=hold.cause,
        seen_at=hold.seen_at,
        done_at=hold.done_at,
        processes=hold.processes,
        former=hold.former,
        found=hold.found,
    )
