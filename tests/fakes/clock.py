"""Port `Clock` that stands still until a test steps it."""

import asyncio
import heapq
import itertools

_SETTLE = 20
"""Turns of the loop that a woken task gets to reach its next sleep."""


class FakeClock:
    """Time that passes only in `advance`. It starts at an arbitrary whole second."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._start = start
        self._passed = 0.0
        self._numbers = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._start + self._passed

    def monotonic(self) -> float:
        """Seconds stepped so far."""
        return self._passed

    def set_back(self, seconds: float) -> None:
        """The wall clock is set back by so much (forward, if negative); elapsed time is not."""
        self._start -= seconds

    @property
    def sleepers(self) -> int:
        """How many tasks sleep."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Return once that many seconds were stepped; at least one turn of the loop passes."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._passed + seconds, next(self._numbers), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Step time; sleepers wake in order, each at its own moment."""
        end = self._passed + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._passed = max(self._passed, due)
            if not future.done():  # done means that its task was cancelled
                future.set_result(None)
            await self._settle()
        self._passed = end

    async def _settle(self) -> None:
        for _ in range(_SETTLE):
            await asyncio.sleep(0)
