"""Ask each distinct query at a steady pace and hand its answer to whoever depends on it.

Polling must never crowd out deciding and stopping, which share the processor with it. So there is
a most of questions a second; beyond it the queries take turns, and each is asked less often.
"""

import asyncio
import math
import zlib
from collections.abc import Callable, Collection

import structlog

from killswitch.core.pacing import MOST_PER_SECOND, turns
from killswitch.core.readings import Answer, NoAnswer
from killswitch.ports import Clock, SignalSource
from killswitch.reactor.fan_out import cancel

_LOG = structlog.get_logger(__name__)
Deliver = Callable[[str, Answer | NoAnswer], None]


class Poller:
    """Polls identical queries once, however many policies ask them."""

    def __init__(
        self,
        source: SignalSource,
        clock: Clock,
        deliver: Deliver,
        *,
        interval: float,
        most_per_second: float = MOST_PER_SECOND,
    ) -> None:
        """`deliver` is called with the query and its answer. Times are seconds."""
        self._source = source
        self._clock = clock
        self._deliver = deliver
        self._interval = interval
        self._most_per_second = most_per_second
        self._turns: list[list[str]] = [[]]
        self._wanted: frozenset[str] = frozenset()
        self._under_way: dict[str, asyncio.Task[None]] = {}

    @property
    def pace(self) -> float:
        """Seconds between two polls of the same query."""
        return self._interval * len(self._turns)

    def ask(self, queries: Collection[str]) -> None:
        """Poll exactly these from now on; new ones at once."""
        wanted = frozenset(queries)
        new = wanted - self._wanted
        self._wanted = wanted
        count = turns(len(wanted), interval=self._interval, most_per_second=self._most_per_second)
        self._turns = [[] for _ in range(count)]
        for query in wanted:
            # The same turn in every replica and after an edit, so that no query is left out.
            self._turns[zlib.crc32(query.encode()) % count].append(query)
        for query in new:
            self._start(query)

    async def run(self) -> None:
        """Poll until cancelled.

        All queries of a turn are asked in the same moment, so that the source may ask them
        together. A slow answer stretches nothing: its query misses turns, the others do not.
        """
        turn = 0
        try:
            while True:
                now = self._clock.monotonic()
                turn = max(turn, math.floor(now / self._interval)) + 1
                await self._clock.sleep(turn * self._interval - now)
                for query in self._turns[turn % len(self._turns)]:
                    self._start(query)
        finally:
            await cancel(list(self._under_way.values()))

    def _start(self, query: str) -> None:
        if query not in self._under_way:
            self._under_way[query] = asyncio.create_task(self._poll(query))

    async def _poll(self, query: str) -> None:
        try:
            answer = await self._source.measure(query)
            if query in self._wanted:
                self._deliver(query, answer)
        except Exception:
            # A defect of ours must not end the polling: silence would look like health.
            _LOG.exception("a poll failed", query=query)
        finally:
            del self._under_way[query]
