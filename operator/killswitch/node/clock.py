"""The guard's two clocks: what people read, and what nobody sets and no sleep stops."""

import time
from collections.abc import Callable
from typing import NamedTuple


def boottime() -> float:
    """Seconds since the machine started, those it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock(NamedTuple):
    """Both of them."""

    wall: Callable[[], float] = time.time
    boot: Callable[[], float] = boottime
