"""Which objects to look at, and when: one level-triggered queue for all flows.

A key is looked at when it is woken or due; a look that fails is repeated with a growing pause, and
what is already waiting is not queued twice. kopf's events wake keys, and so does a periodic relist,
because kopf misses deletions and drops events whose handler failed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from killswitch.core.errors import KillSwitchError
from killswitch.core.resources import Resource
from killswitch.ports import Clock

_FIRST, _LONGEST = 0.2, 30.0
_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """One object."""

    resource: Resource
    namespace: str
    name: str


Look = Callable[[Key], Awaitable[float | None]]
"""Reconcile one object; seconds until it wants to be looked at again, or None."""


class Rounds:
    """The queue and the task that works it off."""

    def __init__(self, clock: Clock, look: Look, *, width: int = 8) -> None:
        """At most `width` objects are looked at together, each by one look at a time."""
        self._clock = clock
        self._look = look
        self._slots = asyncio.Semaphore(width)
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._busy: set[Key] = set()
        self._woken = asyncio.Event()

    def wake(self, key: Key, after: float = 0.0) -> None:
        """Look at it in `after` seconds, or earlier if that was planned."""
        due = self._clock.monotonic() + after
        self._due[key] = min(due, self._due.get(key, due))
        self._woken.set()

    async def run(self) -> None:
        """Look at what is due until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                now = self._clock.monotonic()
                ready = [k for k, due in self._due.items() if due <= now and k not in self._busy]
                for key in ready:
                    del self._due[key]
                    self._busy.add(key)
                    group.create_task(self._one(key))
                await self._wait()

    async def _wait(self) -> None:
        self._woken.clear()
        waiting = [due for key, due in self._due.items() if key not in self._busy]
        if not waiting:
            await self._woken.wait()
            return
        pause = max(0.0, min(waiting) - self._clock.monotonic())
        try:
            async with asyncio.timeout(pause):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _one(self, key: Key) -> None:
        try:
            async with self._slots:
                again = await self._look(key)
            self._failures.pop(key, None)
        except KillSwitchError as error:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            again = min(_FIRST * 2**failures, _LONGEST)
            _LOG.warning("look failed", key=f"{key.resource.kind} {key.name}", error=str(error))
        except Exception:  # noqa: BLE001  # one odd object must not end the manager
            again = _LONGEST
            _LOG.exception("look failed", key=f"{key.resource.kind} {key.name}")
        finally:
            self._busy.discard(key)
            self._woken.set()
        if again is not None:
            self.wake(key, again)
