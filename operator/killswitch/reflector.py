"""List and watch one resource for ever; no deletion is missed.

After every list the reflector compares with what it knew and reports what has gone; a watch that
ends, errs, expires (410) or falls silent leads to a new list or a new watch, after a jittered
pause that only a change or a minute of watching brings back to its shortest. Written for the kill
path: it never raises and never stops by itself, and an object that nobody can read is logged and
left out.
"""

import asyncio
import random
from collections.abc import Iterable
from typing import Protocol

import structlog

from killswitch.core.errors import ExpiredError, KillSwitchError
from killswitch.core.resources import Resource
from killswitch.ports import Change, Clock, Cluster, Json

_FIRST, _LONGEST = 0.05, 2.0
_SOUND = 60.0
_LOG = structlog.get_logger(__name__)


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
        self,
        cluster: Cluster,
        clock: Clock,
        resource: Resource,
        sink: Sink,
        *,
        namespace: str = "",
        fields: str = "",
        longest: float = _LONGEST,
    ) -> None:
        """Nothing is asked until `run`. Without a namespace, those of all namespaces.

        `longest`: seconds between two attempts, in the end.
        """
        self._longest = longest
        self._namespace = namespace
        self._cluster = cluster
        self._clock = clock
        self._resource = resource
        self._sink = sink
        self._fields = fields
        self._known: set[str] = set()
        self._blind = False
        self.failure = ""
        """Why it cannot list or watch now; empty while it can."""
        self.synced = asyncio.Event()
        self.heard = clock.monotonic()
        """When the API server last said anything (monotonic): the age of this view."""

    @property
    def kind(self) -> str:
        """What it mirrors."""
        return self._resource.kind

    @property
    def known(self) -> frozenset[str]:
        """Of what it has put into the sink and not taken out: uids."""
        return frozenset(self._known)

    def inherit(self, uids: Iterable[str]) -> None:
        """Take over what another one, whose `run` is over, has put into the same sink."""
        self._known.update(uids)

    def forget(self) -> None:
        """Take everything out of the sink again; `run` is over."""
        for uid in self._known:
            self._sink.remove(uid)
        self._known = set()

    async def run(self) -> None:
        """Mirror until cancelled."""
        pause, version = _FIRST, ""
        while True:
            began = self._clock.monotonic()
            try:
                version = version or await self._list()
                async for change in self._cluster.watch(
                    self._resource, version, namespace=self._namespace, fields=self._fields
                ):
                    version, pause = self._take(change), _FIRST
                # The server closes a watch every few minutes: go on from where it ended.
            except KillSwitchError as error:
                # 410, or an error after which nothing says that the version is still good.
                version = ""
                self._told(error)
            if self._clock.monotonic() - began > _SOUND:
                pause = _FIRST
                if version:
                    continue
            # Replicas must not come back in step after an outage.
            await self._clock.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret
            pause = min(pause * 2, self._longest)

    async def _list(self) -> str:
        page = await self._cluster.list(
            self._resource, namespace=self._namespace, fields=self._fields
        )
        seen = set()
        for number, body in enumerate(page.items):
            seen.add(body["metadata"]["uid"])
            self._put(body)
            if number % 500 == 499:
                await asyncio.sleep(0)  # a long list must not keep a decision waiting
        for uid in self._known - seen:
            self._sink.remove(uid)
        self._known = seen
        self.heard = self._clock.monotonic()
        self.synced.set()
        self._told(None)
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
            self._put(change.object)
        return str(metadata["resourceVersion"])

    def _told(self, error: KillSwitchError | None) -> None:
        """Log the first of a row of failures, and the end of it."""
        kind, blind = self._resource.kind, error is not None
        self.failure = "" if error is None else str(error)
        if blind and not self._blind and not isinstance(error, ExpiredError):
            _LOG.warning("cannot watch", kind=kind, error=str(error))
            self._blind = True
        elif not blind and self._blind:
            _LOG.info("watching again", kind=kind)
            self._blind = False

    def _put(self, body: Json) -> None:
        try:
            self._sink.put(body)
        except Exception:  # noqa: BLE001  # one odd object must not blind the others
            metadata = body["metadata"]
            name = f"{metadata.get('namespace', '')}/{metadata['name']}"
            _LOG.exception("an object cannot be read", kind=self._resource.kind, name=name)
