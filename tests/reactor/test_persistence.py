"""How long which failure is repeated."""

import asyncio
from collections.abc import Callable

import pytest

from killswitch.core.errors import (
    KillSwitchError,
    OverloadedError,
    RefusedError,
    ServerError,
    TimedOutError,
    UnavailableError,
)
from killswitch.reactor.persistence import persistently
from tests.fakes.clock import FakeClock


class Act:
    """Fails as scripted, then succeeds; notes when it was tried."""

    def __init__(self, clock: FakeClock, *failures: KillSwitchError, always: bool = False) -> None:
        self.tried: list[float] = []
        self._clock = clock
        self._failures = list(failures)
        self._always = always

    async def __call__(self) -> str:
        """The next of the script."""
        self.tried.append(self._clock.monotonic())
        if self._failures:
            raise self._failures[0] if self._always else self._failures.pop(0)
        return "done"


async def play(clock: FakeClock, task: "asyncio.Task[str]", seconds: float) -> None:
    """Step time, a little at a time."""
    for _ in range(int(seconds * 20)):
        await clock.advance(0.05)
        if task.done():
            return


async def test_retry_after_is_honoured() -> None:
    """Not a moment earlier than the API server asked for, and at most ten seconds later."""
    clock = FakeClock()
    act = Act(clock, OverloadedError("slow down", 3.0), OverloadedError("slow down", 3600.0))
    task = asyncio.create_task(persistently(clock, act))
    await play(clock, task, 20)
    assert await task == "done"
    assert act.tried == pytest.approx([0.0, 3.0, 13.0], abs=0.06)


async def test_an_api_server_that_is_away_is_waited_for() -> None:
    """However long."""
    clock = FakeClock()
    act = Act(clock, *[UnavailableError("refused")] * 100)
    task = asyncio.create_task(persistently(clock, act))
    await play(clock, task, 120)
    assert await task == "done"


@pytest.mark.parametrize(
    "failure", [ServerError("500: webhook"), TimedOutError("no answer")], ids=["5xx", "hangs"]
)
@pytest.mark.parametrize("answered", [0.0, 1.0])
async def test_what_concerns_this_request_alone_is_told_after_a_moment(
    failure: KillSwitchError, answered: float
) -> None:
    """A webhook that fails or hangs may do so for ever."""
    clock = FakeClock()
    act = Act(clock, failure, always=True)
    task = asyncio.create_task(persistently(clock, act, answered=answered))
    await play(clock, task, 5)
    with pytest.raises(type(failure)):
        await task
    assert act.tried[-1] == pytest.approx(answered, abs=0.06)


@pytest.mark.parametrize(
    "failure", [lambda: UnavailableError("away"), lambda: OverloadedError("busy", 60.0)]
)
async def test_within_bounds_all_of_it(failure: Callable[[], KillSwitchError]) -> None:
    """A wait that was asked for is cut too: then all is judged anew."""
    clock = FakeClock()
    act = Act(clock, failure(), always=True)
    task = asyncio.create_task(persistently(clock, act, within=5.0))
    await play(clock, task, 8)
    with pytest.raises(KillSwitchError):
        await task
    assert act.tried[-1] == pytest.approx(5.0, abs=0.06)


async def test_a_refusal_is_an_answer() -> None:
    """It is not repeated."""
    clock = FakeClock()
    act = Act(clock, RefusedError("no"))
    with pytest.raises(RefusedError):
        await persistently(clock, act)
    assert len(act.tried) == 1
