"""A stand-in for the node guard of one node: it mirrors orders as a guard would, and freezes nothing.

It speaks with the real guard's identity, so that the API server's rules apply to what it writes,
and decides with the guard's own rules (core/containment).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from killswitch.core import containment, times
from killswitch.core.containment import Orders, Resident, Term, Want
from tests.cli.conftest import Stage, eventually
from tests.cluster.control_plane import ControlPlane
from tests.kernel import guards
from tests.kernel.objects import GROUP

Json = dict[str, Any]
_GUARDS = f"{GROUP}/nodeguards"
_STATES = {Want.FREEZE: "Frozen", Want.KILL: "Dead", Want.RUN: "Thawed"}
TOOK = 0.0031
"""Seconds that it claims for everything it does."""


FREEZE = ("--for", "5m", "--then", "thaw", "--reason", "it may leak")
"""The flags of a Freeze whose terms do not matter."""


def order(stage: Stage, *flags: str, by: str = "dave", code: int = 0) -> Any:
    """Freeze as this person; the JSON answer."""
    return stage.json("freeze", *flags, *FREEZE, by=by, code=code)


class StandIn:
    """The guard of a node, about the pods of one namespace. Use as a context manager."""

    def __init__(self, plane: ControlPlane, node: str, namespace: str) -> None:
        self._plane = plane
        self._node = node
        self._namespace = namespace
        self._api = plane.api(guards.guard(plane, node))
        self._pods: dict[str, Json] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failing: str = ""
        """What it says of every pod that it is to freeze, if anything."""
        self.late = 0.0
        """Seconds between what it does and its report."""

    def __enter__(self) -> Self:
        """Return when it has reported once."""
        body = {
            "apiVersion": "killswitch.dev/v1alpha1",
            "kind": "NodeGuard",
            "metadata": {"name": self._node},
            "spec": {"node": self._node},
        }
        # The API server knows a new role moments after it is stored.
        eventually(lambda: self._api.create(_GUARDS, body).status in {201, 409})
        eventually(lambda: "items" in self._api.get(f"{GROUP}/freezes").body)
        self.tell()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave no report behind: other tests have no guard."""
        self._over.set()
        self._thread.join()
        self._plane.api().delete(f"{_GUARDS}/{self._node}")

    def tell(self, renewed: float | None = None, **status: Any) -> None:
        """Apply the report as it stands."""
        body = guards.report(self._node, *self._pods.values())
        body["status"]["renewedAt"] = times.text(time.time() if renewed is None else renewed)
        body["status"] |= status
        path = f"{_GUARDS}/{self._node}/status"
        answer = self._api.patch(
            path, body, kind="apply", fieldManager="killswitch-node", force="true"
        )
        assert answer.status == 200, answer.message

    def _run(self) -> None:
        while not self._over.wait(0.1):
            if self._look():
                self._over.wait(self.late)
                self.tell()

    def _look(self) -> bool:
        """Whether something has changed since."""
        orders, before = Orders(), dict(self._pods)
        for plural, kind in (("shutdowns", "Shutdown"), ("freezes", "Freeze")):
            for each in self._list(plural):
                orders.put({**each, "kind": kind})
        term = Term(
            expired=lambda freeze: containment.remaining(freeze, time.time()) <= 0,
            isolated=lambda _order: False,
        )
        for who in self._residents():
            wanted, order = containment.want(who, orders, term)
            self._act(who, wanted, order)
        return before != self._pods

    def _act(self, who: Resident, wanted: Want, order: Any) -> None:
        known = self._pods.get(who.pod.uid)
        if order is None and known is None:
            return
        state = "Failed" if self.failing and wanted is Want.FREEZE else _STATES[wanted]
        if known is not None and known["state"] == state:
            return
        named = (
            {"orderKind": order["kind"], "orderName": order["metadata"]["name"]}
            if order is not None
            else {key: known[key] for key in ("orderKind", "orderName")}  # type: ignore[index]
        )
        now = time.time()
        self._pods[who.pod.uid] = {
            "namespace": who.pod.namespace, "pod": who.pod.name, "uid": who.pod.uid,
            "state": state, **named, "seenAt": times.text(now), "doneAt": times.text(now + TOOK),
            "processes": 3, "message": self.failing if state == "Failed" else "",
        }  # fmt: skip

    def _residents(self) -> Iterator[Resident]:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        for body in self._api.get(path).body["items"]:
            who = containment.resident(body)
            if who is not None and who.pod.node == self._node:
                yield who

    def _list(self, plural: str) -> list[Json]:
        found: list[Json] = self._api.get(f"{GROUP}/namespaces/{self._namespace}/{plural}").body[
            "items"
        ]
        return found


@contextmanager
def guarded(plane: ControlPlane, namespace: str, *nodes: str) -> Iterator[list[StandIn]]:
    """Guards of these nodes for as long as the block lasts."""
    with ExitStack() as stack:
        yield [stack.enter_context(StandIn(plane, node, namespace)) for node in nodes]
