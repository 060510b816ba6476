"""What a node guard's report says, and whether it is to be believed. Pure.

A guard's word stands in for a look that nobody else can take: whether a pod is frozen, and whether a
static pod, which no DELETE ends, is dead. So it counts only while the guard goes on giving it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from killswitch.core import times
from killswitch.core.inventory import Pod

Json = Mapping[str, Any]
SILENT = 120.0
"""Seconds without a new report after which a guard counts as absent. It reports every 30."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a guard says of one pod."""

    state: str
    order: tuple[str, str, str]
    """Kind, namespace of the pod and name of the order that it carried out."""
    done: float | None
    """When the kernel said so, in seconds since the epoch by the node's clock; None: not yet."""
    message: str = ""
    pod: str = ""
    """Its name: it may be gone."""
    seen: float | None = None
    """When the guard heard of the order, by the same clock."""
    processes: int = 0
    """How many were frozen or killed."""

    @property
    def took(self) -> float | None:
        """Seconds from the order heard to the state proven; None: not yet."""
        if self.done is None or self.seen is None:
            return None
        return max(0.0, self.done - self.seen)

    @property
    def frozen(self) -> bool:
        """Whether nothing of the pod computes: it is frozen, or dead by a stronger order."""
        return self.state in {"Frozen", "Dead"} and self.done is not None


@dataclass(frozen=True, slots=True)
class Report:
    """One node's report."""

    node: str
    renewed: float | None = None
    """Seconds since the epoch, by the node's clock."""
    words: Mapping[str, Word] = field(default_factory=dict)
    """By the pod's uid."""

    def live(self, now: float) -> bool:
        """Whether the guard counts as there. One whose clock is off by more than `SILENT` does not.

        A time that lies ahead must not be believed: it would outlive its guard by as much.
        """
        return self.renewed is not None and abs(now - self.renewed) <= SILENT

    def frozen(self, pod: Pod) -> bool:
        """Whether it says that nothing of this pod computes."""
        word = self.words.get(pod.uid)
        return word is not None and word.frozen

    def dead(self, pod: Pod, shutdown: Json) -> bool:
        """Whether it says, since this Shutdown was made, that no process of this pod is left.

        By whichever order: a guard names one, though several may hold the pod, and it may have died
        before, at the end of a Freeze or while the node was cut off.
        """
        word, metadata = self.words.get(pod.uid), shutdown["metadata"]
        if word is None or self.renewed is None or word.state != "Dead" or word.done is None:
            return False
        return self.renewed >= times.seconds(metadata["creationTimestamp"])


def report(body: Json) -> Report:
    """The report in a NodeGuard. Of several entries about a pod the first is what is true now."""
    status = body.get("status") or {}
    entries = reversed(status.get("pods") or ())
    return Report(
        node=body["metadata"]["name"],
        renewed=_moment(status.get("renewedAt")),
        words={each["uid"]: _word(each) for each in entries},
    )


def _word(entry: Json) -> Word:
    return Word(
        state=entry["state"],
        order=(entry["orderKind"], entry["namespace"], entry["orderName"]),
        done=_moment(entry.get("doneAt")),
        message=entry.get("message", ""),
        pod=entry["pod"],
        seen=_moment(entry["seenAt"]),
        processes=entry.get("processes", 0),
    )


def _moment(text: str | None) -> float | None:
    return None if text is None else times.seconds(text)
