"""Ask each distinct query at a steady pace and hand its answer to whoever depends on it."""

import asyncio
import math
from collections.abc import Callable, Iterable

import structlog

from killswitch.core.readings import Answer, NoAnswer
from killswitch.ports import Clock, SignalSource

_LOG = structlog.get_logger(__name__)
Deliver = Callable[[str, Answer | NoAnswer], None]


class Poller:
    """Polls identical queries once, however many policies ask them."""

    def __init__(
        self, source: SignalSource, clock: Clock, deliver: Deliver, *, interval: float
    ) -> None:
        """`deliver` is called with the query and its answer."""
        self._source = source
        self._clock = clock
        self._deliver = deliver
        self._interval = interval
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def ask(self, queries: Iterable[str]) -> None:
        """Poll exactly these from now on; new ones at once."""
        wanted = set(queries)
        for query in self._tasks.keys() - wanted:
            self._tasks.pop(query).cancel()
        for query in wanted - self._tasks.keys():
            self._tasks[query] = asyncio.create_task(self._poll(query))

    async def _poll(self, query: str) -> None:
        while True:
            try:
                self._deliver(query, await self._source.measure(query))
            except Exception:
                # A defect of ours must not end the polling: silence would look like health.
                _LOG.exception("a poll failed", query=query)
            # All queries wake in the same moments, so that the source may ask them together. A
            # slow answer does not stretch the interval; missed rounds are skipped, not caught up.
            now = self._clock.monotonic()
            await self._clock.sleep((math.floor(now / self._interval) + 1) * self._interval - now)

    def stop(self) -> None:
        """Ask nothing more."""
        self.ask(())
