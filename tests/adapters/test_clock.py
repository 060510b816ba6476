"""One contract for the real clock and the fake, then what only the fake can do."""

import asyncio
import time

import pytest

from killswitch.adapters.clock import SystemClock
from killswitch.ports import Clock
from tests.fakes.clock import FakeClock


async def passing(clock: Clock, seconds: float) -> None:
    """Let that much time pass."""
    if isinstance(clock, FakeClock):
        await clock.advance(seconds)
    else:
        await asyncio.sleep(seconds)


@pytest.mark.parametrize("make", [SystemClock, FakeClock])
async def test_contract(make: type[SystemClock | FakeClock]) -> None:
    """Both times go on together; a sleeper wakes after its time and not before."""
    clock = make()
    now, monotonic = clock.now(), clock.monotonic()
    sleeper = asyncio.ensure_future(clock.sleep(0.05))
    await passing(clock, 0.01)
    assert not sleeper.done()
    await asyncio.wait_for(asyncio.gather(sleeper, passing(clock, 0.1)), 5)
    assert clock.monotonic() - monotonic >= 0.05
    assert clock.now() - now >= 0.04
    await asyncio.wait_for(clock.sleep(0), 1)


def test_the_system_clock_is_the_systems() -> None:
    """Wall time for people, monotonic time for deadlines."""
    clock = SystemClock()
    assert clock.now() == pytest.approx(time.time(), abs=5)
    assert clock.monotonic() == pytest.approx(time.monotonic(), abs=5)


async def test_the_fake_wakes_each_at_its_moment() -> None:
    """In order, a sleeper that sleeps again included; a cancelled one is passed over."""
    clock, seen = FakeClock(start=100.0), list[tuple[str, float]]()

    async def every(name: str, seconds: float) -> None:
        while True:
            await clock.sleep(seconds)
            seen.append((name, clock.now()))

    tasks = [asyncio.create_task(every("three", 3)), asyncio.create_task(every("two", 2))]
    cancelled = asyncio.create_task(every("never", 1))
    await clock.advance(0)
    assert clock.sleepers == 3
    cancelled.cancel()
    await clock.advance(6)
    # Equal moments go by who fell asleep first.
    assert seen == [
        ("two", 102.0),
        ("three", 103.0),
        ("two", 104.0),
        ("three", 106.0),
        ("two", 106.0),
    ]
    assert (clock.now(), clock.monotonic()) == (106.0, 6.0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, cancelled, return_exceptions=True)
