"""List and watch one resource for ever; no deletion is missed.

After every list the reflector compares with what it knew and reports what has gone; a watch that
ends, errs, expires (410) or falls silent leads to a new list or a new watch, after a jittered
pause. Written for the kill path: it never raises and never stops by itself.
"""

import asyncio
import random
from typing import Protocol

from killswitch.core.errors import ExpiredError, KillSwitchError
from killswitch.core.kinds import Resource
from killswitch.ports import Change, Clock, Cluster, Json

_FIRST, _LONGEST = 0.05, 2.0


class Sink(Protocol):
    """What a reflector fills."""

    def put(self, body: Json) -> None:
        """An object was added or changed."""
        ...

    def remove(self, uid: str) -> None:
        """An object has gone."""
        ...


class Reflector:
    """One resource, mirrored into a sink."""

    def __init__(
        self, cluster: Cluster, clock: Clock, resource: Resource, sink: Sink, *, fields: str = ""
    ) -> None:
        """Nothing is asked until `run`."""
        self._cluster = cluster
        self._clock = clock
        self._resource = resource
        self._sink = sink
        self._fields = fields
        self._known: set[str] = set()
        self.synced = asyncio.Event()
        self.heard = clock.monotonic()
        """When the API server last said anything (monotonic): the age of this view."""

    async def run(self) -> None:
        """Mirror until cancelled."""
        pause = _FIRST
        version = ""
        while True:
            try:
                version = version or await self._list()
                pause = _FIRST
                async for change in self._cluster.watch(
                    self._resource, version, fields=self._fields
                ):
                    version = self._take(change)
                # The server closes a watch every few minutes: go on from where it ended.
            except ExpiredError:
                version = ""
            except KillSwitchError:
                # After an error nothing says that the version is still good: list again.
                version = ""
                # Replicas must not come back in step after an outage.
                await self._clock.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret
                pause = min(pause * 2, _LONGEST)

    async def _list(self) -> str:
        page = await self._cluster.list(self._resource, fields=self._fields)
        seen = set()
        for number, body in enumerate(page.items):
            seen.add(body["metadata"]["uid"])
            self._sink.put(body)
            if number % 500 == 499:
                await asyncio.sleep(0)  # a long list must not keep a decision waiting
        for uid in self._known - seen:
            self._sink.remove(uid)
        self._known = seen
        self.heard = self._clock.monotonic()
        self.synced.set()
        return page.version

    def _take(self, change: Change) -> str:
        """Apply one change; the version to continue from."""
        self.heard = self._clock.monotonic()
        metadata = change.object["metadata"]
        if change.type == "DELETED":
            self._known.discard(metadata["uid"])
            self._sink.remove(metadata["uid"])
        elif change.type in {"ADDED", "MODIFIED"}:
            self._known.add(metadata["uid"])
            self._sink.put(change.object)
        return str(metadata["resourceVersion"])
