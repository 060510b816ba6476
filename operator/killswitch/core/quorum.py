"""M of N voting with hold-down. Unknown never counts silently.

A vote's hold-down runs from the first reading that was effectively tripped. Clear ends it; an
Unknown under `Hold` or `Alert` neither counts nor ends it while the last tripped reading is no
older than the signal's `maxAge`: one lost poll does not restart the clock of a signal that was
tripped before and is tripped after, an hour of blindness does. A vote that has counted may be kept
for a while after it clears (`keep_firing`), so that a value that flaps does not take quorums apart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
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
    patience: float
    """Seconds of Unknown after a tripped reading that do not end its hold-down: `maxAge`."""
    keep_firing: float = 0.0
    """Seconds for which it goes on counting after it has counted and cleared."""


@dataclass(frozen=True, slots=True)
class Span:
    """For how long a signal has been tripped, in seconds that never go backwards."""

    began: float
    seen: float
    """When it was last known to be."""
    cleared: float | None = None
    """When it cleared, while it is kept firing."""
    unseen: bool = False
    """Whether it has been Unknown since `seen`: nobody knows whether it was tripped then."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One signal's part in the tally."""

    reading: Reading
    tripped: bool
    """Effectively: Tripped, or Unknown where the policy says Fire; never before a first answer,
    nor while a detector warms up."""
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
    rules: Iterable[VotingRule],
    readings: Mapping[str, Reading],
    before: Mapping[str, Span],
    *,
    now: float,
) -> dict[str, Span]:
    """Since when each effectively tripped signal is so at `now`, given the same of the last moment.

    `now` is monotonic time, as in `tally`: a clock that is set neither shortens nor stretches a
    hold-down.

    With `keep_firing`, one that had counted stays for so long after it is not tripped any more, as
    Prometheus' `keep_firing_for` (rules/alerting.go).
    """
    since: dict[str, Span] = {}
    for rule in rules:
        reading, span = readings[rule.signal], before.get(rule.signal)
        if _tripped(rule, reading):
            since[rule.signal] = Span(span.began if span is not None else now, now)
        elif span is None:
            continue
        elif (kept := _kept(rule, span, now)) is not None:
            since[rule.signal] = kept
        elif span.cleared is None and _bridges(rule, reading, span, now):
            since[rule.signal] = replace(span, unseen=True)
    return since


def tally(
    rules: Iterable[VotingRule],
    readings: Mapping[str, Reading],
    since: Mapping[str, Span],
    *,
    needed: int,
    now: float,
) -> Tally:
    """The votes at `now`; `since` comes from `tripped_since`."""
    votes = []
    for rule in rules:
        reading = readings[rule.signal]
        span = since.get(rule.signal)
        tripped = _tripped(rule, reading) or (span is not None and span.cleared is not None)
        end = span.began + rule.hold_down if tripped and span is not None else None
        counted = end is not None and now >= end
        votes.append(Vote(reading, tripped, counted, None if counted else end))
    return Tally(tuple(votes), needed)


def _kept(rule: VotingRule, span: Span, now: float) -> Span | None:
    """The span of a signal that is kept firing; None where it is over."""
    cleared = span.cleared
    if cleared is None:
        cleared = span.seen if span.unseen else now
    counted = cleared - span.began >= rule.hold_down
    if not counted or now - cleared >= rule.keep_firing:
        return None
    return replace(span, cleared=cleared)


def _bridges(rule: VotingRule, reading: Reading, span: Span, now: float) -> bool:
    """Whether this Unknown is short enough to leave the hold-down running."""
    return reading.verdict is Verdict.UNKNOWN and now - span.seen <= rule.patience


def _tripped(rule: VotingRule, reading: Reading) -> bool:
    if reading.reason in {Blindness.NEVER_READ, Blindness.WARMING_UP}:
        # Not a failure to see: a start or an edit would fire before the first answer.
        return False
    if reading.verdict is Verdict.UNKNOWN:
        return rule.on_no_data is Meaning.FIRE
    return reading.verdict is Verdict.TRIPPED
