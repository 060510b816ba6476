"""kopf at the edge: it says which object changed, nothing more.

kopf exits on several stream errors and forgets what its handlers raised, so it runs in a thread
and loop of its own, is started again when it ends, and no truth hangs on its events: `run.py`
lists everything from time to time. Settings follow docs/decisions/0002.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

import kopf
import structlog

from killswitch.core.resources import (
    CLUSTER_POLICIES,
    CLUSTER_SHUTDOWNS,
    FREEZES,
    POLICIES,
    SHUTDOWNS,
    Resource,
)

WATCHED = (POLICIES, CLUSTER_POLICIES, SHUTDOWNS, CLUSTER_SHUTDOWNS, FREEZES)
_LOG = structlog.get_logger(__name__)
_PAUSE = 0.5

Changed = Callable[[Resource, str, str], None]
"""Called from kopf's thread with the resource, namespace and name."""


class _NoDiff(kopf.DiffBaseStorage):
    """Keep no last-handled state: handlers here are level-triggered."""

    def fetch(self, *, body: Any) -> None:
        """Nothing."""

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Nothing."""


class _NoProgress(kopf.ProgressStorage):
    """Keep no progress: nothing is written onto the objects."""

    def fetch(self, *, key: Any, body: Any) -> None:
        """Nothing."""

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Nothing."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """Nothing."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Nothing."""

    def clear(self, *, essence: Any) -> Any:
        """As it was."""
        return essence


class Operator:
    """A kopf operator in its own thread, started again whenever it ends."""

    def __init__(self, changed: Changed) -> None:
        """Nothing runs before `start`."""
        self._changed = changed
        self._ended = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Ask kopf to end and wait a little for it."""
        self._ended.set()
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=8)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                asyncio.run(self._once())
            except Exception as error:  # noqa: BLE001  # kopf raises whatever its stream met
                _LOG.warning("kopf ended", error=repr(error))
            self._ended.wait(_PAUSE)

    async def _once(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        logging.getLogger("kopf").setLevel(logging.WARNING)
        await kopf.operator(
            registry=self._registry(),
            settings=_settings(),
            clusterwide=True,
            standalone=True,
            stop_flag=self._stop,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry, retries=3)
        def login(**kwargs: Any) -> Any:
            return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

        for resource in WATCHED:
            self._watch(registry, resource)
        return registry

    def _watch(self, registry: kopf.OperatorRegistry, resource: Resource) -> None:
        @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)
        async def changed(namespace: str | None, name: str | None, **_: Any) -> None:
            self._changed(resource, namespace or "", name or "")


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.server_timeout = 20
    settings.watching.connect_timeout = 2
    settings.watching.reconnect_backoff = 0.1
    settings.queueing.worker_limit = 64
    settings.queueing.idle_timeout = 0.01
    settings.networking.error_backoffs = [0.05, 0.1, 0.2, *[0.25] * 10_000]
    settings.networking.request_timeout = 5
    settings.persistence.finalizer = "killswitch.dev/never-used"
    settings.persistence.diffbase_storage = _NoDiff()
    settings.persistence.progress_storage = _NoProgress()
    return settings
