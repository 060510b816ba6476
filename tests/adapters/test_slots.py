"""Requests in flight are bounded, locks wait for nobody, and a hung request keeps nobody out."""

import asyncio

import pytest

from killswitch.adapters.slots import Slot, Slots


async def take(slots: Slots, count: int, *, lock: bool = False) -> list[Slot]:
    """That many, without waiting."""
    async with asyncio.timeout(5):
        return [await slots.take(lock=lock) for _ in range(count)]


async def settle() -> None:
    """Let woken tasks run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_are_taken_than_there_are() -> None:
    """The next waits until one is given back."""
    slots = Slots(4, patience=60)
    taken = await take(slots, 3)
    waiting = asyncio.create_task(slots.take())
    await settle()
    assert not waiting.done()
    taken.pop().give()
    await settle()
    assert waiting.done()


async def test_a_lock_finds_a_slot_where_nothing_else_does() -> None:
    """A quarter is kept for locks."""
    slots = Slots(4, patience=60)
    await take(slots, 3)
    other = asyncio.create_task(slots.take())
    await take(slots, 1, lock=True)
    await settle()
    assert not other.done()
    other.cancel()


async def test_a_lock_passes_those_that_wait() -> None:
    """It comes last and goes first."""
    slots = Slots(1, patience=60)
    (taken,) = await take(slots, 1)
    order: list[str] = []

    async def run(name: str, *, lock: bool) -> None:
        slot = await slots.take(lock=lock)
        order.append(name)
        slot.give()

    tasks = [asyncio.create_task(run("delete", lock=False))]
    await settle()
    tasks.append(asyncio.create_task(run("lock", lock=True)))
    await settle()
    taken.give()
    await asyncio.gather(*tasks)
    assert order == ["lock", "delete"]


async def test_a_hung_request_lends_its_slot() -> None:
    """Others go on though none was given back; how many is bounded."""
    slots = Slots(1, patience=0.01)
    hung = await take(slots, 4)  # one, and three more that are lent
    waiting = asyncio.create_task(slots.take())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    hung.pop().give()
    async with asyncio.timeout(5):
        await waiting


@pytest.mark.parametrize("given", [False, True], ids=["before its turn", "at its turn"])
async def test_who_is_cancelled_while_waiting_costs_no_slot(*, given: bool) -> None:
    """The same many are free afterwards."""
    slots = Slots(1, patience=60)
    (taken,) = await take(slots, 1)
    waiting = asyncio.create_task(slots.take())
    await settle()
    if given:
        taken.give()  # wakes it, but it is cancelled before it runs
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    if not given:
        taken.give()
    await take(slots, 1)
