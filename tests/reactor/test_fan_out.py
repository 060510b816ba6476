"""Few in flight, none waited for that hangs."""

import asyncio

import pytest

from killswitch.reactor.fan_out import fan_out


async def test_no_more_are_under_way_than_the_width() -> None:
    """And every item is acted on once."""
    under_way, most = 0, 0
    done: list[int] = []

    async def act(item: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        done.append(item)

    await fan_out(range(100), act, width=7)
    assert sorted(done) == list(range(100))
    assert most == 7


async def test_items_that_hang_make_room_for_the_others() -> None:
    """As many hang as would fill the width; all others are done all the same."""
    released = asyncio.Event()
    done: list[int] = []

    async def act(item: int) -> None:
        if item < 4:
            await released.wait()
        done.append(item)

    task = asyncio.create_task(fan_out(range(50), act, width=4, patience=0.01))
    async with asyncio.timeout(5):
        while len(done) < 46:
            await asyncio.sleep(0.01)
    assert not task.done()
    released.set()
    await task
    assert sorted(done) == list(range(50))


async def test_what_hangs_may_at_most_double_the_width() -> None:
    """A server that is slow altogether must not be flooded."""
    begun = 0

    async def act(_item: int) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(fan_out(range(100), act, width=4, patience=0.01))
    await asyncio.sleep(0.2)
    assert begun == 8
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_first_defect_ends_it() -> None:
    """The others are cancelled."""

    async def act(item: int) -> None:
        if item:
            await asyncio.Event().wait()
        raise ValueError("so")

    with pytest.raises(ExceptionGroup):
        await fan_out(range(3), act, width=2)
