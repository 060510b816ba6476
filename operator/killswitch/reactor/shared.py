"""Lists read from etcd, shared by all who asked before the reading began.

A mass event finishes many stops of one namespace at the same time. Each must look for itself, and
later than its own writes; a list that begins after all of them have asked serves them all. Without
this, the stops of a namespace would cost the square of their number.
"""

import asyncio

from killswitch.core.resources import Resource
from killswitch.ports import Cluster, Page

_Key = tuple[Resource, str]


class SharedLists:
    """`Cluster.list`, with at most one list of a kind and namespace under way and one to come."""

    def __init__(self, cluster: Cluster) -> None:
        """Nothing is asked yet."""
        self.cluster = cluster
        self._under_way: dict[_Key, asyncio.Task[Page]] = {}
        self._to_come: dict[_Key, asyncio.Task[Page]] = {}

    async def list(self, resource: Resource, namespace: str = "") -> Page:
        """All objects, as of a moment after this call; others read the same page: do not change it."""
        key = resource, namespace
        task = self._to_come.get(key)
        if task is None:
            task = asyncio.create_task(self._read(key, self._under_way.get(key)))
            task.add_done_callback(_seen)
            self._to_come[key] = task
        return await asyncio.shield(task)  # whoever is cut off takes it from nobody else

    async def _read(self, key: _Key, before: "asyncio.Task[Page] | None") -> Page:
        if before is not None:
            await asyncio.wait({before})
        # From here on it is too late to join: what is written now may not be in it.
        task = self._under_way[key] = self._to_come.pop(key)
        try:
            return await self.cluster.list(*key)
        finally:
            if self._under_way.get(key) is task:
                del self._under_way[key]


def _seen(task: "asyncio.Task[Page]") -> None:
    """Nobody may be left who waits for the error."""
    if not task.cancelled():
        task.exception()
