"""Stop category 1, Graceful: how long servers may answer, and end by themselves. Pure.

What is under way is believed to be nothing only by fresh samples of the time after the cut: not
knowing is not 0.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from killswitch.core import durations, times
from killswitch.core.readings import Answer, NoAnswer

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Grace:
    """The terms of one graceful stop, in seconds."""

    drain: float
    terminate: float
    in_flight: str = ""
    """The query for the requests under way; empty: the drain is waited for."""


def of(shutdown: Json) -> Grace | None:
    """Its terms; None where it is Immediate."""
    spec = shutdown["spec"]
    if spec.get("category") != "Graceful":
        return None
    terms = spec["graceful"]
    return Grace(
        durations.seconds(terms["drain"]),
        durations.seconds(terms["terminate"]),
        terms.get("inFlight", ""),
    )


def longest(spec: Json) -> float:
    """Seconds until what is left is named: the deadline, after what a graceful stop takes before it."""
    terms = spec.get("graceful") or {}
    parts = (spec["deadline"], terms.get("drain", "0s"), terms.get("terminate", "0s"))
    return sum(durations.seconds(each) for each in parts)


def began(shutdown: Json) -> float:
    """When the time of a stop began to count: at the decision; of a person's, when it was created."""
    stages = (shutdown.get("status") or {}).get("stages") or {}
    return times.seconds(stages.get("decided") or shutdown["metadata"]["creationTimestamp"])


SHORTEST = 1
"""Seconds of grace. Never 0: a forced delete says gone while the process may run on."""


def given(own: int, left: float) -> int:
    """Seconds that a pod gets which is asked to go now: its own, but not beyond what is left.

    At once, since a kubelet that has begun to wait for a pod does not heed a shorter grace
    afterwards (kubernetes#113606).
    """
    return max(SHORTEST, min(own, math.ceil(left)))


def remaining(since: float, lasts: float, now: float) -> float:
    """Seconds until the end of what began then, by a clock that may be wrong: never more than `lasts`."""
    return min(max(0.0, since + lasts - now), lasts)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What was heard of the requests under way."""

    requests: float | None
    """None: not known."""
    words: str

    @property
    def nothing(self) -> bool:
        """Whether it is certain that there are none."""
        return self.requests == 0


def under_way(answer: Answer | NoAnswer, since_cut: float) -> UnderWay:
    """What an answer says that came so many seconds after the cut."""
    if isinstance(answer, NoAnswer):
        return UnderWay(None, f"unknown: {answer.reason}")
    if not answer.values:
        return UnderWay(None, "unknown: no series")
    if not all(math.isfinite(each) and each >= 0 for each in answer.values):
        return UnderWay(None, "unknown: not a count")
    total = sum(answer.values)
    if total:
        return UnderWay(total, f"{total:g}")
    if answer.missing is not None:
        return UnderWay(None, f"unknown: a part does not answer ({answer.missing.reason})")
    if answer.oldest_age is None or not answer.oldest_age < since_cut:
        return UnderWay(None, "unknown: 0 before the cut")
    return UnderWay(0.0, "0")
