"""Step 2 of a stop: delete pods, all at once, each within one second or what a graceful stop leaves.

One slow or dead target never delays another. Pods are asked for in turns, one of each owner; a
request that hangs makes room for the next; and once nothing has been answered for a moment, the
sequence goes on while what hangs is still waited for.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from types import TracebackType
from typing import Self

from killswitch.core import grace, manifests
from killswitch.core.errors import (
    ConflictError,
    NotFoundError,
    RefusedError,
    ServerError,
    TimedOutError,
)
from killswitch.core.inventory import Pod
from killswitch.core.resources import PODS
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor.fan_out import cancel, fan_out
from killswitch.reactor.persistence import persistently

WIDTH = 32
PATIENCE = 0.25
"""Seconds after which a request without an answer makes room for another."""
_SILENCE = 1.0
"""Seconds without any answer after which nobody waits for the deletions any more."""


Was = dict[str, tuple[Pod, Json | None]]
"""Each bare pod by uid, with what it was when it was asked to go; None: it had gone before."""


def _nobody() -> None:
    """Tell nobody."""


class Deletions:
    """What one stop asks to be deleted. Leaving the context cuts off what is not answered yet."""

    def __init__(
        self, cluster: Cluster, clock: Clock, note: Callable[[str], None], was: Was | None = None
    ) -> None:
        """`note` takes what was refused, in words; `was` what bare pods were."""
        self._cluster = cluster
        self._clock = clock
        self._note = note
        self._tasks: list[asyncio.Task[None]] = []
        self._under_way: set[str] = set()
        self._answered = clock.monotonic()
        self._was: Was = {} if was is None else was

    async def __aenter__(self) -> Self:
        """Nothing is asked yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Whoever comes next lists again and asks again."""
        await cancel(self._tasks)

    async def ask(
        self,
        pods: Sequence[Pod],
        accepted: Callable[[], None] = _nobody,
        *,
        left: float = 0.0,
    ) -> None:
        """Return when all were answered, or nothing was for a moment; then the rest goes on.

        `accepted` is called as soon as each was accepted, or had become needless. Mirror pods are
        left alone, and so are those whose deletion is under way. Pods get their own grace where
        so many seconds are `left`; of one that has begun to end this takes nothing back.
        """
        todo = [p for p in pods if not p.mirror and p.uid not in self._under_way]
        self._under_way |= {pod.uid for pod in todo}
        self._answered = self._clock.monotonic()
        task = asyncio.create_task(self._delete_all(todo, accepted, left))
        self._tasks.append(task)
        silent = 0.0
        while not task.done() and silent < _SILENCE:
            await asyncio.wait({task}, timeout=_SILENCE - silent)
            silent = self._clock.monotonic() - self._answered
        if task.done():
            task.result()  # a defect of ours is not passed over

    async def _delete_all(
        self, pods: Sequence[Pod], accepted: Callable[[], None], left: float
    ) -> None:
        refused = False

        async def delete(pod: Pod) -> None:
            nonlocal refused
            try:
                refused = not await self._delete(pod, left) or refused
            finally:
                self._under_way.discard(pod.uid)

        await fan_out(in_turns(pods), delete, width=WIDTH, patience=PATIENCE)
        if not refused:
            accepted()

    async def _delete(self, pod: Pod, left: float) -> bool:
        """Whether it was accepted, or needless; the uid sees to it that no other pod is hit."""
        bare = manifests.bare(pod)

        async def once() -> None:
            try:
                given = grace.given(pod.grace, left)
                found = await self._cluster.delete(
                    PODS, pod.name, pod.namespace, grace=given, uid=pod.uid
                )
            except (NotFoundError, ConflictError):  # gone, or another's by now
                if bare:
                    self._was.setdefault(pod.uid, (pod, None))
                return
            if bare and found.get("kind") == PODS.kind:  # who asks it to go is told what it was
                self._was[pod.uid] = (pod, found)

        try:
            # A webhook that fails is not waited for: others' turns come first, and the sweep's.
            await persistently(self._clock, once, answered=0.0)
        except TimedOutError as error:
            self._note(f"could not delete pod {pod.namespace}/{pod.name}: {error}")
            return False
        except (RefusedError, ServerError) as error:  # all else goes on: the lock holds
            self._answered = self._clock.monotonic()
            self._note(f"could not delete pod {pod.namespace}/{pod.name}: {error}")
            return False
        self._answered = self._clock.monotonic()
        return True


def in_turns(pods: Iterable[Pod]) -> list[Pod]:
    """One pod of each owner, then the second of each, and so on."""
    owners: dict[str, list[Pod]] = defaultdict(list)
    for pod in pods:
        owners[pod.owner].append(pod)
    return [pod for turn in zip_longest(*owners.values()) for pod in turn if pod is not None]
