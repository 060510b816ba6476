"""M of N voting with hold-down. Unknown never counts silently.

A vote's hold-down runs from the first reading that was effectively tripped. Clear ends it; an
Unknown under `Hold` or `Alert` neither counts nor ends it, so one lost poll does not restart the
clock of a signal that was tripped before and is tripped after.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from killswitch.core.readings import Blindness, Reading, Verdict


class Meaning(StrEnum):
    """The policy's `onNoData`: what Unknown means to the vote."""

    HOLD = "Hold"
    FIRE = "Fire"
    ALERT = "Alert"


@dataclass(frozen=True, slots=True)
class VotingRule:
    """How one signal takes part."""

    signal: str
    on_no_data: Meaning
    hold_down: float
    """Seconds it must stay tripped before it counts."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One signal's part in the tally."""

    reading: Reading
    tripped: bool
    """Effectively: Tripped, or Unknown where the policy says Fire; never before a first answer."""
    counted: bool
    """Tripped for its whole hold-down."""
    due: float | None
    """When its hold-down ends, if it is tripped and does not count yet."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes of all signals at one moment."""

    votes: tuple[Vote, ...]
    needed: int

    @property
    def counted(self) -> int:
        """How many votes count."""
        return sum(vote.counted for vote in self.votes)

    @property
    def demanded(self) -> bool:
        """Quorum met now: the process asks the switch to act."""
        return self.counted >= self.needed

    @property
    def pending(self) -> bool:
        """Enough signals are tripped, but not all for long enough."""
        return not self.demanded and sum(vote.tripped for vote in self.votes) >= self.needed

    @property
    def blind(self) -> tuple[Reading, ...]:
        """The readings that are Unknown."""
        return tuple(v.reading for v in self.votes if v.reading.verdict is Verdict.UNKNOWN)

    @property
    def due(self) -> float | None:
        """The next moment at which a hold-down ends by time alone."""
        return min((vote.due for vote in self.votes if vote.due is not None), default=None)

    def __str__(self) -> str:
        """`2 of 3 tripped, 2 required`."""
        return f"{self.counted} of {len(self.votes)} tripped, {self.needed} required"


def tripped_since(
    rules: Iterable[VotingRule], readings: Mapping[str, Reading], before: Mapping[str, float]
) -> dict[str, float]:
    """When each effectively tripped signal began to be so, given the same of the last moment."""
    since: dict[str, float] = {}
    for rule in rules:
        reading = readings[rule.signal]
        if _tripped(rule, reading):
            since[rule.signal] = before.get(rule.signal, reading.read_at)
        elif reading.verdict is Verdict.UNKNOWN and rule.signal in before:
            since[rule.signal] = before[rule.signal]
    return since


def tally(
    rules: Iterable[VotingRule],
    readings: Mapping[str, Reading],
    since: Mapping[str, float],
    *,
    needed: int,
    now: float,
) -> Tally:
    """The votes at `now`; `since` comes from `tripped_since`."""
    votes = []
    for rule in rules:
        reading = readings[rule.signal]
        tripped = _tripped(rule, reading)
        end = since[rule.signal] + rule.hold_down if tripped else None
        counted = end is not None and now >= end
        votes.append(Vote(reading, tripped, counted, None if counted else end))
    return Tally(tuple(votes), needed)


def _tripped(rule: VotingRule, reading: Reading) -> bool:
    if reading.reason is Blindness.NEVER_READ:
        # Not a failure to see: a start or an edit would fire before the first answer.
        return False
    if reading.verdict is Verdict.UNKNOWN:
        return rule.on_no_data is Meaning.FIRE
    return reading.verdict is Verdict.TRIPPED
