"""Keep trying while the API server is away: a stop that began is finished, however long it takes."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from killswitch.core.errors import OverloadedError, UnavailableError
from killswitch.ports import Clock

T = TypeVar("T")
_FIRST, _LONGEST = 0.02, 1.0


async def persistently(clock: Clock, act: Callable[[], Awaitable[T]]) -> T:
    """The result of `act`, repeated while nothing is known; a refusal or conflict is an answer.

    Only for idempotent acts: a lost answer may hide a success.
    """
    pause = _FIRST
    while True:
        try:
            return await act()
        except OverloadedError as error:
            await clock.sleep(min(error.retry_after, _LONGEST))
        except UnavailableError:
            await clock.sleep(pause)
            pause = min(pause * 2, _LONGEST)
