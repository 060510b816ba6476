"""Judge at once; what is too much for one turn of the loop is judged in the next ones.

One sample may concern a thousand policies. Judging them in one go would keep the first lock's
bytes back until the last policy is judged (measured: 850 ms), and every answer with them.
"""

import asyncio
from collections.abc import Callable

from killswitch.reactor.watched import Watched

_AT_ONCE = 8
"""Policies judged in one turn of the loop: about two milliseconds' worth."""


class Turns:
    """Calls `judge` for each policy, in the order of their coming, once each while it waits."""

    def __init__(self, judge: Callable[[Watched], None]) -> None:
        """`judge` reads what holds when it is called, and passes over a policy that is gone."""
        self._judge = judge
        self._judged = 0
        self._waiting: dict[str, Watched] = {}

    def __call__(self, watched: Watched) -> None:
        """Something is new for this policy."""
        if self._judged >= _AT_ONCE:
            self._waiting[watched.policy.uid] = watched
            return
        if not self._judged:
            try:
                asyncio.get_running_loop().call_soon(self._next)
            except RuntimeError:  # no loop runs, so nothing waits for its turn
                self._judge(watched)
                return
        self._judged += 1
        self._judge(watched)

    def _next(self) -> None:
        """Another turn of the loop."""
        self._judged = 0
        for uid in list(self._waiting)[:_AT_ONCE]:
            self(self._waiting.pop(uid))
