"""One thread per watched resource: list, watch, and tell the guard; for ever, whatever fails.

A failure of any sort leads to a new list, after a short and jittered pause: a list is what says that
something has gone. Objects are cut down to what the guard decides by.
"""

import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from killswitch.core.errors import KillSwitchError, NotFoundError, RefusedError
from killswitch.core.names import ENGAGED_LABEL, MIRROR_ANNOTATION
from killswitch.core.resources import (
    CLUSTER_SHUTDOWNS,
    FREEZES,
    PODS,
    SHUTDOWNS,
    STANDING_ORDERS,
    Resource,
)
from killswitch.node.api import JSON, METADATA, Session, failure_of
from killswitch.node.news import Changed, Gone, Listed, News, Unlisted

Json = Mapping[str, Any]

ORDERS = (SHUTDOWNS, CLUSTER_SHUTDOWNS, FREEZES, STANDING_ORDERS)
_IN_FORCE = {"labelSelector": f"{ENGAGED_LABEL}=true"}
_METADATA = ("name", "namespace", "uid", "labels", "creationTimestamp", "deletionTimestamp")
_SPEC = (
    *("locks", "scope", "namespaces"),
    *("approvals", "requiredApprovals"),
    *("until", "onExpiry", "thaw"),
    *("onIsolation", "after"),
)

_FIRST, _LONGEST = 0.05, 2.0
"""Seconds until a failed request is tried again."""
_REFUSED = 10.0
"""The same after a refusal: people must act first."""
_ABSENT = 1.0, 30.0
"""The same where the kind is not known: it may be about to be installed, or not to be there at all."""
_WATCH_SECONDS = (240, 290)
"""How long a watch lasts: below the usual five minutes of load balancers, not all in step."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Feed:
    """What is watched."""

    resource: Resource
    selector: Mapping[str, str]

    @property
    def metadata_only(self) -> bool:
        """Pods are known by their metadata alone: no spec, no environment, no status."""
        return self.resource is PODS


def feeds(node: str) -> tuple[Feed, ...]:
    """Everything that a node's guard must know. Orders that are history are never sent."""
    return (
        Feed(SHUTDOWNS, _IN_FORCE),
        Feed(CLUSTER_SHUTDOWNS, _IN_FORCE),
        Feed(FREEZES, _IN_FORCE),
        Feed(STANDING_ORDERS, {}),
        Feed(PODS, {"fieldSelector": f"spec.nodeName={node}"}),
    )


class Watcher:
    """One resource. `run` belongs to a thread of its own; `resume` may be called by any."""

    def __init__(self, session: Session, feed: Feed, tell: Callable[[News], None]) -> None:
        self._session = session
        self._feed = feed
        self._tell = tell
        self._anew = threading.Event()
        self._well = True

    def resume(self) -> None:
        """List again at once: the link is back, and a watch may not have noticed that it was cut."""
        self._anew.set()  # before the cut, which ends nothing where nothing is connected
        self._session.cut()

    def run(self) -> None:
        """Tell of this resource until the process ends."""
        pause, absent, version = _FIRST, _ABSENT[0], ""
        while True:
            try:
                version = "" if self._anew.is_set() else version
                version = version or self._list()
                for latest in self._watch(version):
                    version, pause = latest, _FIRST
                # The server ends a watch every few minutes: go on from there.
                wait = _FIRST
            except NotFoundError as error:
                version, wait = "", absent
                absent = min(absent * 2, _ABSENT[1])
                self._failed(error, absent=True)
            except RefusedError as error:
                version, wait = "", _REFUSED
                self._failed(error)
            except KillSwitchError as error:
                # Guards must not come back in step after an outage.
                version, wait = "", pause * random.uniform(0.5, 1.0)  # noqa: S311  # no secret
                pause = min(pause * 2, _LONGEST)
                self._failed(error)
            self._anew.wait(wait)

    def _list(self) -> str:
        self._anew.clear()
        accept = METADATA.format("List") if self._feed.metadata_only else JSON
        page = self._session.get(self._feed.resource.path(), self._feed.selector, accept)
        bodies = tuple(self._trimmed(each) for each in page.get("items") or ())
        self._tell(Listed(self._feed.resource, bodies))
        if not self._well:
            self._well = True
            _LOG.info("watching again", extra={"kind": self._feed.resource.kind})
        return str(page["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> Iterator[str]:
        """Versions to go on from."""
        query = {
            **self._feed.selector,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*_WATCH_SECONDS)),  # noqa: S311  # no secret
        }
        accept = METADATA.format("") if self._feed.metadata_only else JSON
        events = self._session.watch(self._feed.resource.path(), query, accept)
        if self._anew.is_set():  # asked for while there was nothing yet to be cut
            self._session.close()
            return
        for event in events:
            body = event["object"]
            match event["type"]:
                case "ADDED" | "MODIFIED":
                    self._tell(Changed(self._feed.resource, self._trimmed(body)))
                case "DELETED":
                    self._tell(Gone(self._feed.resource, body["metadata"]["uid"]))
                case "ERROR":
                    raise failure_of(body)
                case _:
                    pass
            yield str(body["metadata"]["resourceVersion"])

    def _trimmed(self, body: Json) -> Json:
        return trimmed(self._feed.resource.kind, body)

    def _failed(self, error: KillSwitchError, *, absent: bool = False) -> None:
        """Tell the first of a row of failures."""
        if self._well:
            self._well = False
            kind = self._feed.resource.kind
            _LOG.warning("cannot watch", extra={"kind": kind, "error": str(error)})
            self._tell(Unlisted(self._feed.resource, str(error), absent))


def trimmed(kind: str, body: Json) -> Json:
    """What the guard decides by; the rest would only be held in memory."""
    metadata = {key: body["metadata"][key] for key in _METADATA if key in body["metadata"]}
    if owners := body["metadata"].get("ownerReferences"):
        metadata["ownerReferences"] = owners
    if mirror := (body["metadata"].get("annotations") or {}).get(MIRROR_ANNOTATION):
        metadata["annotations"] = {MIRROR_ANNOTATION: mirror}
    if kind == PODS.kind:
        return {"kind": kind, "metadata": metadata}
    spec = {key: body["spec"][key] for key in _SPEC if key in body["spec"]}
    observed = body.get("status", {}).get("conditions") or ()
    conditions = [{"type": each["type"], "status": each["status"]} for each in observed]
    return {"kind": kind, "metadata": metadata, "spec": spec, "status": {"conditions": conditions}}
