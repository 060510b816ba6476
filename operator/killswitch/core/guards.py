"""What node guards report: which nodes have one, and what became of a pod. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from killswitch.core import times
from killswitch.core.kinds import CLUSTER_SHUTDOWNS

Json = Mapping[str, Any]
SILENT_AFTER = 120.0
"""Seconds without a report after which a guard counts as absent; it reports each 30 s."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What one guard did with one pod, as it read back from the kernel."""

    node: str
    namespace: str
    pod: str
    uid: str
    state: str
    """Frozen, Dead, Thawed or Failed; what the guard does, while it has not done it."""
    order_kind: str
    order_name: str
    took: float | None
    """Seconds from the order heard to the state proven, by the guard's own clock; None: not yet."""
    processes: int
    message: str

    @property
    def halted(self) -> bool:
        """Whether the pod computes nothing."""
        return self.state in {"Frozen", "Dead"} and self.took is not None

    def of(self, order: Json) -> bool:
        """Whether it was done for this Shutdown, ClusterShutdown or Freeze."""
        metadata = order["metadata"]
        place = self.namespace if order["kind"] != CLUSTER_SHUTDOWNS.kind else ""
        return (self.order_kind, self.order_name, place) == (
            order["kind"], metadata["name"], metadata.get("namespace", ""),
        )  # fmt: skip


def live(guard: Json, now: float) -> bool:
    """Whether the guard has reported lately."""
    return silent(guard, now) <= SILENT_AFTER


def silent(guard: Json, now: float) -> float:
    """Seconds since its last report; endless where there is none."""
    renewed = (guard.get("status") or {}).get("renewedAt")
    return now - times.seconds(renewed) if renewed else float("inf")


def deeds(guards: Iterable[Json]) -> Iterator[Deed]:
    """All that these NodeGuards report of pods."""
    for guard in guards:
        node = guard["metadata"]["name"]
        for each in (guard.get("status") or {}).get("pods") or ():
            yield Deed(
                node=node,
                namespace=each["namespace"],
                pod=each["pod"],
                uid=each["uid"],
                state=each["state"],
                order_kind=each["orderKind"],
                order_name=each["orderName"],
                took=_took(each),
                processes=each.get("processes", 0),
                message=each.get("message", ""),
            )


def _took(pod: Json) -> float | None:
    done = pod.get("doneAt")
    return max(0.0, times.seconds(done) - times.seconds(pod["seenAt"])) if done else None
