"""Many independent requests with few in flight, the first one going out at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def fan_out(items: Iterable[T], act: Callable[[T], Awaitable[None]], *, width: int) -> None:
    """Return when `act` has ended for every item; the first exception cancels the rest.

    Workers pull from one iterator: a task per item would delay even the first of 1000 requests
    by the time it takes to make all tasks (measured: 56 to 478 ms).
    """
    source = iter(items)

    async def worker() -> None:
        for item in source:
            await act(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(worker())
