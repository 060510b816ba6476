"""Read the past of detectors from the source, so that a restart or an edit costs no warm-up.

Off the kill path: few requests at a time, and what they bring is learned in small portions between
which everything else goes on. While the source cannot be asked and nothing has arrived that would
be missed, it is tried again; otherwise a failure means that the detector warms up live.
"""

import asyncio
from collections.abc import Collection

import structlog

from killswitch.core.readings import NoAnswer
from killswitch.ports import Clock, SignalSource
from killswitch.reactor.detecting import Detecting

_AT_ONCE = 4
"""Requests under way: half of the source's threads stay free for polls."""
_AGAIN = 1.0
"""Seconds between two attempts."""
_PORTION = 500
"""Samples learned at a time, about two milliseconds; one moment of many series is not parted."""
_LOG = structlog.get_logger(__name__)


class Recaller:
    """Sees to it that each detector begins, with its past if that can be had."""

    def __init__(self, source: SignalSource, clock: Clock) -> None:
        """Nothing is asked yet."""
        self._source = source
        self._clock = clock
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._tasks: dict[Detecting, asyncio.Task[None]] = {}

    def ask(self, waiting: Collection[Detecting]) -> None:
        """Read the past of exactly these."""
        for each in self._tasks.keys() - set(waiting):
            self._tasks.pop(each).cancel()
        for each in waiting:
            if each not in self._tasks:
                self._tasks[each] = asyncio.create_task(self._read(each))

    def stop(self) -> None:
        """Ask nothing more."""
        self.ask(())

    async def _read(self, detecting: Detecting) -> None:
        try:
            failure = await self._recalled(detecting)
        except Exception as error:  # a defect of ours must not keep it from beginning
            _LOG.exception("a past could not be read", query=detecting.signal.query)
            failure = repr(error)
        if not detecting.begun:
            detecting.begin(self._clock.monotonic(), failure)

    async def _recalled(self, detecting: Detecting) -> str:
        """Why it is not known; empty when it is."""
        query, past = detecting.signal.query, detecting.past
        while True:
            async with self._turn:
                found = await self._source.recall(query, past.span, past.step)
            if not isinstance(found, NoAnswer):
                break
            if detecting.missing:
                return f"{found.reason}, {found.detail}"
            await self._clock.sleep(_AGAIN)
        learned = 0
        for answer in found:
            if detecting.begun:
                return ""  # it lost its patience
            detecting.recall(answer, self._clock.monotonic())
            learned += len(answer.values)
            if learned >= _PORTION:
                learned = 0
                await self._clock.sleep(0)
        return ""
