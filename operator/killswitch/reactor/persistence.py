"""Keep trying while the API server is away: a stop that began is finished, however long it takes.

An error that the server *answered* (a webhook that fails), or a request that it does not answer in
time (a webhook that hangs), is another matter: it may last for ever and concern this one request
only, so it is repeated for a moment and then told.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from killswitch.core.errors import (
    OverloadedError,
    ServerError,
    TimedOutError,
    UnavailableError,
)
from killswitch.ports import Clock

T = TypeVar("T")
_FIRST, _LONGEST = 0.02, 1.0
_ASKED = 10.0
"""Longest wait that an API server can ask for by Retry-After."""
_ANSWERED = 1.0
"""Seconds for which an answered 5xx is repeated, or a request that hangs."""


async def persistently(
    clock: Clock,
    act: Callable[[], Awaitable[T]],
    *,
    within: float = float("inf"),
    answered: float = _ANSWERED,
) -> T:
    """The result of `act`, repeated while nothing is known; a refusal or conflict is an answer.

    Only for idempotent acts: a lost answer may hide a success. UnavailableError or OverloadedError
    after `within` seconds; ServerError or TimedOutError once it was so for `answered` seconds.
    """
    pause, began = _FIRST, clock.monotonic()
    while True:
        try:
            return await act()
        except (OverloadedError, UnavailableError, ServerError) as error:
            particular = isinstance(error, ServerError | TimedOutError)
            longest = min(within, answered) if particular else within
            if clock.monotonic() - began >= longest:
                raise
            wait = pause
            if isinstance(error, OverloadedError):
                wait = min(max(pause, error.retry_after), _ASKED)
        await clock.sleep(min(wait, max(0.0, longest - (clock.monotonic() - began))))
        pause = min(pause * 2, _LONGEST)
