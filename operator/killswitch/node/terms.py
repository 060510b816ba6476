"""The guard's sense of time: when a Freeze ends, and for how long the control plane has been away.

Both count in seconds of CLOCK_BOOTTIME, which nobody sets and which goes on while a machine sleeps:
the wall clock is asked once, when a Freeze is first seen. Silence counts only what was observed: a
guard that was stopped or asleep for an hour has not heard an hour of silence. What an earlier process
observed is added to when it was just now, and acted upon only by one that has asked itself. Pure.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from killswitch.core import containment

Json = Mapping[str, Any]

GAP = 20.0
"""Most seconds that lie between two looks for the control plane; more was not observed."""


@dataclass(slots=True)
class Terms:
    """What is known of time. `now` is set before each decision."""

    jitter: float = 0.0
    """Share of an order's patience that is added, 0 to 0.1: nodes must not act as one. It is kept."""
    deadlines: dict[str, float] = field(default_factory=dict)
    """Boot time at which each Freeze ends, by its uid."""
    silence: float = 0.0
    """Seconds of observed silence."""
    looked: float | None = None
    """Boot time of the last look for the control plane, also by an earlier process."""
    now: float = 0.0
    _asked: bool = False
    """Whether this process has looked itself."""

    def meet(self, freeze: Json, *, wall: float, boot: float) -> None:
        """Fix the end of a Freeze that is seen for the first time; later looks change nothing."""
        uid = freeze["metadata"]["uid"]
        if uid not in self.deadlines:
            self.deadlines[uid] = boot + containment.remaining(freeze, wall)

    def keep(self, uids: Container[str]) -> None:
        """Forget the ends of all other Freezes."""
        for uid in [each for each in self.deadlines if each not in uids]:
            del self.deadlines[uid]

    def next_end(self) -> float | None:
        """Boot time of the next end of a Freeze, or None."""
        return min((each for each in self.deadlines.values() if each > self.now), default=None)

    def heard(self, at: float) -> None:
        """The control plane answers."""
        self.silence, self.looked, self._asked = 0.0, at, True

    def silent(self, at: float) -> None:
        """It was asked and does not."""
        gap = GAP if self.looked is None else max(0.0, at - self.looked)
        if self._asked:
            self.silence += min(gap, GAP)
        elif gap >= GAP:
            self.silence = 0.0
        self.looked, self._asked = at, True

    def expired(self, freeze: Json) -> bool:
        """Whether a Freeze has come to its end."""
        return self.now >= self.deadlines[freeze["metadata"]["uid"]]

    def isolated(self, order: Json) -> bool:
        """Whether the silence has lasted for as long as a StandingOrder says, and lasts."""
        return self._asked and self.silence >= containment.patience(order) * (1 + self.jitter)

    @property
    def term(self) -> containment.Term:
        """The same for the decision."""
        return containment.Term(expired=self.expired, isolated=self.isolated)
