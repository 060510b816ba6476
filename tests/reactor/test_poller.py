"""Polling: each query at its pace, none left out, and never more than the processor can spare."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from killswitch.core.readings import Answer, NoAnswer
from killswitch.reactor.poller import Poller
from tests.fakes.clock import FakeClock
from tests.fakes.signal_source import FakeSignalSource


class Slow(FakeSignalSource):
    """Answers `slow` only when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def measure(self, query: str) -> Answer | NoAnswer:
        """What was set, at once or later."""
        if query == "slow":
            self.asked.append(query)
            await self.let.wait()
            return Answer((1.0,), 0.0)
        return await super().measure(query)


class Polling:
    """A running poller over time that the test steps."""

    def __init__(self, source: FakeSignalSource, most_per_second: float) -> None:
        self.source, self.clock = source, FakeClock()
        self.delivered: Counter[str] = Counter()
        self.poller = Poller(
            source,
            self.clock,
            lambda query, _answer: self.delivered.update([query]),
            interval=1.0,
            most_per_second=most_per_second,
        )


@contextlib.asynccontextmanager
async def polling(
    source: FakeSignalSource, *, most_per_second: float = 1000
) -> AsyncIterator[Polling]:
    """Ended like a reactor that is cancelled."""
    found = Polling(source, most_per_second)
    task = asyncio.create_task(found.poller.run())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_query_is_asked_at_once_and_then_at_every_interval() -> None:
    """However many ask for it."""
    async with polling(FakeSignalSource()) as each:
        each.poller.ask(["a", "a", "b"])
        await each.clock.advance(3)
        assert each.delivered == {"a": 4, "b": 4}
        each.poller.ask(["b"])
        await each.clock.advance(2)
        assert each.delivered == {"a": 4, "b": 6}


async def test_a_slow_answer_holds_up_no_other_query() -> None:
    """Its own query is not asked twice at a time."""
    source = Slow()
    async with polling(source) as each:
        each.poller.ask(["slow", "quick"])
        await each.clock.advance(5)
        assert each.delivered == {"quick": 6}
        assert source.asked.count("slow") == 1
        source.let.set()
        await each.clock.advance(1)
        assert each.delivered["slow"] >= 1


async def test_beyond_the_most_queries_take_turns() -> None:
    """Each is asked less often, at the same pace, and none is forgotten."""
    async with polling(FakeSignalSource(), most_per_second=10) as each:
        queries = [f"q{number}" for number in range(100)]
        each.poller.ask(queries)
        await each.clock.advance(0)
        assert each.poller.pace == 10
        assert each.delivered.total() == 100  # new ones at once
        each.delivered.clear()
        await each.clock.advance(30)
        assert each.delivered == dict.fromkeys(queries, 3)


async def test_an_answer_that_nobody_waits_for_any_more_is_dropped() -> None:
    """Its policy may have been edited to ask something else."""
    source = Slow()
    async with polling(source) as each:
        each.poller.ask(["slow"])
        await each.clock.advance(0)
        each.poller.ask([])
        source.let.set()
        await each.clock.advance(1)
        assert each.delivered == {}
