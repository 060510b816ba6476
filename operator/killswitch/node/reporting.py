"""The node's NodeGuard: what the guard did, and that it lives. One thread, at most once a second.

It writes what the guard says, when it says so: nothing here renews a report for a guard that hangs.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from killswitch import __version__
from killswitch.core import times
from killswitch.core.errors import ConflictError, KillSwitchError, NotFoundError
from killswitch.core.resources import NODE_GUARDS
from killswitch.node.api import Session
from killswitch.node.guard import Report

Json = Mapping[str, Any]

MANAGER = "killswitch-node"
"""Field manager of the status."""
_BATCH = 1.0
"""Seconds between two reports at least."""
_AGAIN = 2.0
_MOST_PROBLEMS = 10
_LONGEST = 512
_LOG = logging.getLogger(__name__)


class Reporter:
    """Writes the latest report to the API server, and again until it is there."""

    def __init__(
        self,
        session: Session,
        node: str,
        *,
        problem: Callable[[], str] = str,
    ) -> None:
        """`problem` says what else is wrong, empty where nothing is."""
        self._session = session
        self._node = node
        self._problem = problem
        self._latest: Report | None = None
        self._changed = threading.Event()
        self._turn = threading.Lock()
        self._well = True

    def report(self, report: Report) -> None:
        """Write this soon."""
        self._latest = report
        self._changed.set()

    def run(self) -> None:
        """Report until the process ends."""
        while True:
            self._changed.wait()
            self._changed.clear()
            sent = self.flush()
            time.sleep(_BATCH if sent else _AGAIN)
            if not sent:
                self._changed.set()

    def flush(self) -> bool:
        """Write the latest report now; whether it is there."""
        report = self._latest
        if report is None:
            return True
        with self._turn:
            try:
                self._write(report)
            except KillSwitchError as error:
                if self._well:
                    _LOG.warning("cannot report", extra={"error": str(error)})
                self._well = False
                return False
            self._well = True
            return True

    def _write(self, report: Report) -> None:
        path = NODE_GUARDS.path(name=self._node, subresource="status")
        body = self._object({"status": self._status(report)})
        try:
            self._session.apply(path, body, MANAGER)
        except NotFoundError:
            try:
                self._session.create(
                    NODE_GUARDS.path(), self._object({"spec": {"node": self._node}})
                )
            except ConflictError:  # a successor was quicker
                _LOG.debug("there is a NodeGuard meanwhile")
            self._session.apply(path, body, MANAGER)

    def _object(self, more: Json) -> Json:
        return {
            "apiVersion": NODE_GUARDS.api_version,
            "kind": NODE_GUARDS.kind,
            "metadata": {"name": self._node},
            **more,
        }

    def _status(self, report: Report) -> Json:
        problems = [each[:_LONGEST] for each in (self._problem(), *report.problems) if each]
        status: dict[str, Any] = {
            "renewedAt": times.text(report.renewed_at),
            "version": __version__,
            "cgroups": report.cgroups,
            "driver": report.driver,
            "pods": list(report.pods),
            "problems": problems[:_MOST_PROBLEMS],
        }
        if report.isolation is not None:
            status["isolation"] = report.isolation
        return status
