"""How a stop of category Graceful begins: no new requests, then time to answer those under way.

    cut       traffic that leads to the held pods alone                    cutting.py
    drained   twice in a row nothing was under way, or no pod is left, or the drain is over

Then the sequence goes on as for any stop (stop.py), with the pods' own grace, within `terminate`. When each
was reached stands in the Shutdown's status: whoever comes next, another replica or this one after a
restart, goes on from there and waits for nothing twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from killswitch.core import grace, projections, times
from killswitch.core.errors import KillSwitchError
from killswitch.core.grace import Grace, UnderWay
from killswitch.core.readings import Answer, Blindness, NoAnswer
from killswitch.core.resources import PODS
from killswitch.core.stops import Stop, holds_pod
from killswitch.ports import Clock, Json, SignalSource
from killswitch.reactor.cutting import cut
from killswitch.reactor.shared import SharedLists

if TYPE_CHECKING:
    from killswitch.reactor.stop import Outcome, Run

_LOOK = 1.0
"""Seconds between two looks at what is under way; a drain that ends is not overlooked by them."""
_CALM = 2
"""Looks in a row that must see nothing under way."""
_ASKED = 2.0
"""Seconds for which the answer to a look is waited for."""
Told = Callable[[], Awaitable[None]]


async def nobody() -> None:
    """Tell nobody."""


class Draining:
    """The beginning of graceful stops."""

    def __init__(
        self,
        lists: SharedLists,
        clock: Clock,
        source: SignalSource | None,
        holds: "Callable[[Json, Outcome], Awaitable[bool]]",
    ) -> None:
        """Without a source what is under way is not known, and drains are waited for to their end.

        `holds` says whether a stop is still engaged, as etcd has it.
        """
        self._lists = lists
        self._clock = clock
        self._source = source
        self._holds = holds

    async def drain(self, run: "Run", terms: Grace) -> bool:
        """Whether it is drained; False when the run is over, or where it holds no more."""
        if "drained" in run.outcome.stages:
            return True
        if "cut" not in run.outcome.stages:
            await cut(self._lists, self._clock, run.shutdown, run.stops, run.outcome.note)
            run.reached("cut")
            await run.told()  # before anything is waited for
        if not await self._wait(run, terms):
            return False
        run.reached("drained")
        await run.told()
        return True

    async def _wait(self, run: "Run", terms: Grace) -> bool:
        outcome, began = run.outcome, run.outcome.stages["cut"]
        end = self._clock.monotonic() + grace.remaining(began, terms.drain, self._clock.now())
        calm = 0
        while self._clock.monotonic() < end:
            if not await self._holds(run.shutdown, outcome):
                return False
            if await self._none_left(run.stops):
                return True
            if terms.in_flight:
                heard = await self._ask(terms.in_flight, began)
                outcome.in_flight = heard.words
                calm = calm + 1 if heard.nothing else 0
                if calm == _CALM:
                    return True
            now = self._clock.monotonic()
            if now >= run.until:
                return now >= end
            await self._clock.sleep(max(0.0, min(_LOOK, end - now, run.until - now)))
        return await self._holds(run.shutdown, outcome)

    async def _none_left(self, stops: Sequence[Stop]) -> bool:
        """Whether somebody else has ended them all: a stop that does not wait, for one."""
        try:
            for stop in (each for each in stops if each.namespace):
                for body in (await self._lists.list(PODS, stop.namespace)).items:
                    pod = projections.pod(body)
                    if pod is not None and holds_pod(stop, pod):
                        return False
        except KillSwitchError:
            return False
        return True

    async def _ask(self, query: str, cut_at: float) -> UnderWay:
        answer: Answer | NoAnswer = NoAnswer(Blindness.TIMEOUT, "no answer in time")
        if self._source is None:
            return UnderWay(None, "unknown: nobody here asks for it")
        try:
            async with asyncio.timeout(_ASKED):
                answer = await self._source.measure(query)
        except TimeoutError:
            pass
        return grace.under_way(answer, self._clock.now() - cut_at)


def recall(shutdown: Json, outcome: "Outcome") -> None:
    """Take up the stages that anybody has reached before."""
    stored = (shutdown.get("status") or {}).get("stages") or {}
    for stage in ("cut", "drained"):
        if stage in stored:
            outcome.stages.setdefault(stage, times.seconds(stored[stage]))
