"""A shared list is never older than what whoever reads it has asked for."""

import asyncio
from typing import Any

import pytest

from killswitch.core.errors import UnavailableError
from killswitch.core.resources import PODS
from killswitch.ports import Page
from killswitch.reactor.shared import SharedLists


class Slow:
    """Each list ends when the test says so, and tells its number."""

    def __init__(self) -> None:
        self.begun = 0
        self.ends = asyncio.Semaphore(0)
        self.fails = False

    async def list(self, resource: Any, namespace: str = "", **_: Any) -> Page:
        """The next number as its version."""
        self.begun += 1
        number = self.begun
        await self.ends.acquire()
        if self.fails:
            raise UnavailableError("away")
        return Page([], str(number))


async def settle() -> None:
    """Let tasks run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_asks_while_one_is_under_way_gets_the_next() -> None:
    """And all who do get the same one."""
    cluster = Slow()
    lists = SharedLists(cluster)  # type: ignore[arg-type]
    first = asyncio.create_task(lists.list(PODS, "n"))
    await settle()
    later = [asyncio.create_task(lists.list(PODS, "n")) for _ in range(20)]
    await settle()
    assert cluster.begun == 1
    cluster.ends.release()
    await settle()
    last = asyncio.create_task(lists.list(PODS, "n"))  # the second is under way already
    await settle()
    cluster.ends.release()
    cluster.ends.release()
    assert (await first).version == "1"
    assert {(await each).version for each in later} == {"2"}
    assert (await last).version == "3"


async def test_one_that_is_cut_off_takes_it_from_nobody() -> None:
    """Cancelled readers leave the others theirs."""
    cluster = Slow()
    lists = SharedLists(cluster)  # type: ignore[arg-type]
    readers = [asyncio.create_task(lists.list(PODS, "n")) for _ in range(3)]
    await settle()
    readers[0].cancel()
    cluster.ends.release()
    assert (await readers[1]).version == "1"
    assert (await readers[2]).version == "1"


async def test_an_error_is_told_to_all_and_the_next_asks_again() -> None:
    """Nobody waits for a list that will not come."""
    cluster = Slow()
    lists = SharedLists(cluster)  # type: ignore[arg-type]
    cluster.fails = True
    readers = [asyncio.create_task(lists.list(PODS, "n")) for _ in range(3)]
    await settle()
    cluster.ends.release()
    for reader in readers:
        with pytest.raises(UnavailableError):
            await reader
    cluster.fails = False
    cluster.ends.release()
    assert (await lists.list(PODS, "n")).version == "2"


async def test_other_places_are_other_lists() -> None:
    """Nothing waits for a neighbour's."""
    cluster = Slow()
    lists = SharedLists(cluster)  # type: ignore[arg-type]
    readers = [asyncio.create_task(lists.list(PODS, place)) for place in ("a", "b")]
    await settle()
    assert cluster.begun == 2
    cluster.ends.release()
    cluster.ends.release()
    await asyncio.gather(*readers)
