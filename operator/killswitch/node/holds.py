"""What the guard has in hand for one pod's cgroup, and how that reads in its report. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from killswitch.core import times
from killswitch.core.containment import Resident, Want

Json = Mapping[str, Any]

SLOW = 1.0
"""Seconds after which what is not done is told as failed; it is tried again all the same."""
_HASTY, _BUSY = 0.02, 0.1
"""Seconds between tries in the first second, and then."""
_PATIENT_AFTER, _PATIENT = 60.0, 1.0
_LONGEST = 512
NO_CGROUP = (
    "no cgroup of this pod is to be found: it has not started or has finished; if it runs,"
    " KILLSWITCH_CGROUP_ROOT is not its kubelet's --cgroup-root"
)


@dataclass(frozen=True, slots=True)
class Cause:
    """By what a pod is held, and until when at most."""

    kind: str
    name: str
    orders: tuple[str, ...]
    """Uids of all orders that hold it, that of the one named first."""
    ends: float | None = None
    """When the last Freeze comes to its end, by the guard's own clock; None where any other order
    holds it, too."""
    at_end: Want = Want.RUN
    """What the pod is to be then, unless something is known that wants otherwise."""


@dataclass(slots=True)
class Hold:
    """A pod that is to be frozen or dead, by which order, and how far that is."""

    who: Resident
    want: Want
    cause: Cause
    seen_at: float
    """Wall clock, in seconds, when the order was taken up."""
    since: float
    """The same by the guard's own clock, by which it paces itself."""
    done_at: float | None = None
    processes: int = 0
    """How many were frozen or killed."""
    message: str = ""
    """What is in the way."""
    former: str = ""
    """How many processes it could have before it was closed; empty where it never was."""
    found: bool = False
    """Whether its cgroup has ever been seen."""
    gone: bool = False
    """Its cgroup was seen, and has vanished: nothing of it runs."""
    again: float = 0.0
    """When it is to be tried again, by the guard's own clock."""
    unwanted_since: float | None = None
    """Since when no order wants it, by the same."""

    def done(self, wall: float) -> None:
        """It is as wanted; the first time counts."""
        self.done_at = wall if self.done_at is None else self.done_at
        self.message = ""

    def undone(self) -> None:
        """It is not, any more."""
        self.done_at, self.gone = None, False

    def postpone(self, now: float, message: str = "") -> None:
        """Try again in a while: soon at first, each second after a minute."""
        self.message = message
        age = now - self.since
        if age > _PATIENT_AFTER:
            self.again = now + _PATIENT
        else:
            self.again = now + (_HASTY if age < SLOW else _BUSY)

    def report(self, now: float) -> Json | None:
        """Its entry in the report; None while it is too early to say."""
        if self.done_at is None:
            return entry(self, "Failed", None) if now - self.since >= SLOW else None
        dead = self.gone or self.want is Want.KILL
        return entry(self, "Dead" if dead else "Frozen", self.done_at)


def entry(hold: Hold, state: str, at: float | None, message: str = "") -> Json:
    """A report's entry of this state (Frozen, Dead, Thawed, reached at that time; Failed, never)."""
    found: dict[str, Any] = {
        "namespace": hold.who.pod.namespace,
        "pod": hold.who.pod.name,
        "uid": hold.who.pod.uid,
        "state": state,
        "orderKind": hold.cause.kind,
        "orderName": hold.cause.name,
        "seenAt": times.text(hold.seen_at),
        "processes": hold.processes,
    }
    if at is not None:
        found["doneAt"] = times.text(at)
    if text := message or hold.message:
        found["message"] = text[:_LONGEST]
    return found
