"""Ask each distinct query at a steady pace and hand its answer to whoever depends on it."""

import asyncio
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
        due = self._clock.monotonic()
        while True:
            try:
                self._deliver(query, await self._source.measure(query))
            except Exception:
                # A defect of ours must not end the polling: silence would look like health.
                _LOG.exception("a poll failed", query=query)
            # From due time to due time: a slow answer must not stretch the interval. Missed
            # rounds are skipped, not caught up.
            due = max(due + self._interval, self._clock.monotonic())
            await self._clock.sleep(due - self._clock.monotonic())

    def stop(self) -> None:
        """Ask nothing more."""
        self.ask(())
