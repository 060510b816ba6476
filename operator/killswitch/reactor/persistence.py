"""Keep trying while the API server is away: a stop that began is finished, however long it takes.

An error that the server *answered* (a webhook that fails) is another matter: it may last for ever
and concern this one request only, so it is repeated for a moment and then told.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from killswitch.core.errors import OverloadedError, ServerError, UnavailableError
from killswitch.ports import Clock

T = TypeVar("T")
_FIRST, _LONGEST = 0.02, 1.0
_ANSWERED = 1.0
"""Seconds for which an answered 5xx is repeated."""


async def persistently(
    clock: Clock,
    act: Callable[[], Awaitable[T]],
    *,
    within: float = float("inf"),
    answered: float = _ANSWERED,
) -> T:
    """The result of `act`, repeated while nothing is known; a refusal or conflict is an answer.

    Only for idempotent acts: a lost answer may hide a success. UnavailableError or OverloadedError
    after `within` seconds; ServerError when the server has answered so for `answered` seconds.
    """
    pause, began = _FIRST, clock.monotonic()
    while True:
        try:
            return await act()
        except (OverloadedError, UnavailableError, ServerError) as error:
            longest = min(within, answered) if isinstance(error, ServerError) else within
            if clock.monotonic() - began >= longest:
                raise
            asked = error.retry_after if isinstance(error, OverloadedError) else pause
        await clock.sleep(min(asked, _LONGEST))
        pause = min(pause * 2, _LONGEST)
