"""Tasks: many independent requests with few in flight, and an end to whatever is under way."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def cancel(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Return when each of these has ended, by cancellation or by itself."""
    under_way = list(tasks)
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


async def fan_out(
    items: Iterable[T],
    act: Callable[[T], Awaitable[object]],
    *,
    width: int,
    patience: float = float("inf"),
) -> None:
    """Return when `act` has ended for every item; the first exception cancels the rest.

    `width` are under way at once. One that takes longer than `patience` seconds makes room for
    another, for as many as `width` at most.

    Workers pull from one iterator: a task per item would delay even the first of 1000 requests
    by the time it takes to make all tasks (measured: 56 to 478 ms).
    """
    todo = list(items)
    if len(todo) == 1:  # the smallest stop is the most common one: no task stands in its way
        await act(todo[0])
        return
    source = iter(todo)
    spare = width
    later = asyncio.get_running_loop().call_later

    async with asyncio.TaskGroup() as group:

        async def worker() -> None:
            nonlocal spare
            for item in source:
                replaced = False

                def replace() -> None:
                    nonlocal replaced, spare
                    if spare:
                        spare -= 1
                        replaced = True
                        group.create_task(worker())

                overdue = None if patience == float("inf") else later(patience, replace)
                try:
                    await act(item)
                finally:
                    if overdue is not None:
                        overdue.cancel()
                if replaced:
                    spare += 1
                    return

        for _ in range(min(width, len(todo))):
            group.create_task(worker())
