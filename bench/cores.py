"""A node and a control plane on cores of their own, as on machines of their own.

On one machine both, and this process, would take each other's time in the very milliseconds that
are measured: a node that stops its pods does not run the API server.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_ALL = sorted(os.sched_getaffinity(0))
_NODE, _REST = set(_ALL[len(_ALL) // 2 :]), set(_ALL[: len(_ALL) // 2]) or set(_ALL)


def told() -> str:
    """What a figure says of it."""
    return f"{len(_NODE)} the node's, {len(_REST)} the control plane's" if len(_ALL) > 1 else "one"


@contextlib.contextmanager
def given_to_the_node() -> Iterator[None]:
    """Whatever this process starts within runs on the node's cores."""
    with _on(_NODE):
        yield


@contextlib.contextmanager
def given_to_the_rest(pids: Iterable[int]) -> Iterator[None]:
    """This process and these run on the other cores; these stay there."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), _REST)
    with _on(_REST):
        yield


@contextlib.contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
