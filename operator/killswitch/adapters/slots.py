"""A bound on requests in flight that neither keeps a lock waiting nor lets a hung request hold it.

Locks pass everything that waits, and a quarter of the slots is kept for them. A request that has
had no answer for a moment lends its slot to the next: one slow target must not delay another. How
many may be lent at once is bounded too, so that a server which is slow altogether is not flooded.
"""

import asyncio
from collections import deque

_PATIENCE = 0.25
"""Seconds after which a request without an answer lends its slot."""


class Slots:
    """Take one for each request; give it back when the request has ended."""

    def __init__(self, size: int, *, patience: float = _PATIENCE) -> None:
        """At most `size` at once, and three times as many more that are overdue."""
        self._free = size
        self._reserved = size // 4
        self._to_lend = 3 * size
        self._patience = patience
        self._locks: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    async def take(self, *, lock: bool = False) -> "Slot":
        """A slot, as soon as one is free; `lock` is for requests that engage."""
        waiting = self._locks if lock else self._others
        if waiting or not self._has_room(lock=lock):
            turn = asyncio.get_running_loop().create_future()
            waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # it had been given one already
                    self.release()
                raise
        else:
            self._free -= 1
        return Slot(self, self._patience)

    def release(self) -> None:
        """One more is free."""
        self._free += 1
        for waiting, lock in ((self._locks, True), (self._others, False)):
            while waiting and self._has_room(lock=lock):
                turn = waiting.popleft()
                if not turn.done():
                    self._free -= 1
                    turn.set_result(None)

    def lend(self) -> bool:
        """Whether an overdue request's slot could be lent; `repay` when it has ended."""
        if not self._to_lend:
            return False
        self._to_lend -= 1
        self.release()
        return True

    def repay(self) -> None:
        """An overdue request has ended."""
        self._to_lend += 1

    def _has_room(self, *, lock: bool) -> bool:
        return self._free > (0 if lock else self._reserved)


class Slot:
    """One request's permission to be in flight."""

    __slots__ = ("_lent", "_patience", "_slots", "_timer")

    def __init__(self, slots: Slots, patience: float) -> None:
        """Its request begins now."""
        self._slots = slots
        self._patience = patience
        self._lent = False
        self._timer = asyncio.get_running_loop().call_later(patience, self._overdue)

    def give(self) -> None:
        """The request has ended."""
        self._timer.cancel()
        if self._lent:
            self._slots.repay()
        else:
            self._slots.release()

    def _overdue(self) -> None:
        self._lent = self._slots.lend()
        if not self._lent:
            self._timer = asyncio.get_running_loop().call_later(self._patience, self._overdue)
