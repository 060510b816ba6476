"""The cap over all policies: how much they may stop together within a window of time. Pure.

Limits of a policy bound one fire of it. A wrong threshold in many policies, or a metric on which all
of them rest, is bounded by the cap alone. It is counted from the Shutdowns that are stored, so that it
survives every restart. What people stop, release and restore neither counts nor is held up by it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from killswitch.core import durations, times

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cap:
    """The most that policies may stop together; 0 is no cap."""

    targets: int = 0
    """Workloads, or nodes: each are counted apart."""
    percent: int = 0
    """Of all workloads in governed namespaces, or of all nodes."""
    window: float = 3600.0
    """Seconds. What was stopped earlier counts no more, restored or not."""

    @property
    def on(self) -> bool:
        """Whether there is one."""
        return bool(self.targets or self.percent)


@dataclass(frozen=True, slots=True)
class Fire:
    """One Shutdown that a policy made."""

    at: float
    """Seconds since the epoch, by the API server's clock."""
    targets: int
    nodes: bool = False
    """Whether these are nodes."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What a fire would add to what policies have stopped within the window."""

    cap: Cap
    spent: int
    adding: int
    everything: int
    """What there is in all."""

    @property
    def beyond(self) -> str:
        """Which cap it would go beyond, with the figures; empty where it stays within both.

        A share of nothing is beyond every percentage: what is not known is not stopped on a guess.
        """
        cap, total = self.cap, self.spent + self.adding
        if not self.adding:
            return ""
        within = f"{self.spent} stopped by policies within {durations.text(cap.window)}"
        if cap.targets and total > cap.targets:
            return f"{within}, {self.adding} more would be {total}: cap.targets is {cap.targets}"
        if cap.percent and 100 * total > cap.percent * self.everything:
            whole = f"{total} of {self.everything}"
            return f"{within}, {self.adding} more would be {whole}: cap.percent is {cap.percent}"
        return ""


def spent(fires: Iterable[Fire], *, nodes: bool, now: float, window: float) -> int:
    """How many nodes, or else workloads, were stopped within the window.

    A Shutdown from the future counts: two clocks differ, and it was made a moment ago.
    """
    return sum(each.targets for each in fires if each.nodes is nodes and each.at > now - window)


def fire(shutdown: Json, planned: Callable[[], int]) -> Fire | None:
    """What a stored Shutdown counts for; None if no policy made it.

    As many targets as its reactor reported, or as it names before that. One that holds a namespace
    whole names none: until its reactor has reported, what it would stop now is `planned`.
    """
    spec = shutdown["spec"]
    if not spec.get("policy"):
        return None
    at = times.seconds(shutdown["metadata"]["creationTimestamp"])
    reported = int((shutdown.get("status") or {}).get("targets", 0))
    # A target's keys have one text: by its name, by its uid, and those of what is below it.
    named = len({*(spec.get("locks") or {}).values()}) or len(spec.get("nodes") or ())
    targets = max(reported, named) or planned()
    return Fire(at, max(targets, 1), bool(spec.get("nodes")))
