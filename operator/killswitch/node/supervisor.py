"""A parent that keeps a guard alive: a frozen pod must not outlive the guard that ends its Freeze.

It forks before any thread exists, never executes another program, starts a dead guard again after
50 ms, and after five deaths within ten seconds does the last resort itself and gives up: the kubelet
then starts the container anew. SIGTERM is passed on; the guard decides what to leave behind.
"""

import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable

_PAUSE = 0.05
_DEATHS, _WITHIN = 5, 10.0
_OURS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
_LOG = logging.getLogger(__name__)


def supervise(work: Callable[[int], int], last_resort: Callable[[], None]) -> int:
    """Exit status for this process: 0 when the guard left as asked, 1 when it could not be kept.

    `work` is the guard: it gets a descriptor that reads as ended once this process is gone, and
    returns its exit status. It begins with signals blocked, until it can handle them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)
    gc.collect()
    gc.freeze()  # pages that both processes share stay shared
    deaths: deque[float] = deque(maxlen=_DEATHS)
    alive, ours = os.pipe()
    with os.fdopen(ours, "wb"):
        while True:
            status, asked = _once(work, alive, ours)
            if asked:
                if status:  # it did not get to leaving as it should
                    last_resort()
                return 1 if status else 0
            _LOG.error("the guard died", extra={"status": status})
            deaths.append(time.monotonic())
            if len(deaths) == _DEATHS and deaths[-1] - deaths[0] < _WITHIN:
                _LOG.error("the guard cannot be kept alive: last resort")
                last_resort()
                return 1
            time.sleep(_PAUSE)


def _once(work: Callable[[int], int], alive: int, ours: int) -> tuple[int, bool]:
    """One guard's life: its exit status, and whether it had been asked to leave."""
    child = os.fork()
    if child == 0:
        os.close(ours)
        _be_the_guard(work, alive)
    asked = False
    while True:
        number = signal.sigwait(_OURS)
        if number != signal.SIGCHLD:
            asked = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), asked


def _be_the_guard(work: Callable[[int], int], alive: int) -> None:
    """Never returns: the child must not go on with its parent's business."""
    status = 1
    try:
        status = work(alive)
    except BaseException:  # noqa: BLE001  # whatever it is
        _LOG.exception("the guard failed")
    finally:
        sys.stderr.flush()
        os._exit(status)
