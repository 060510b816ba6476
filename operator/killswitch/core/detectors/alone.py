"""What may stop a model alone.

A threshold on a safety counter says that something forbidden has happened. Every other detector
says that something unusual has happened, and on real series most of what is unusual is harmless
(docs/detectors.md has the figures). So those propose, join a quorum, or run dry, unless people
write down that they accept the false stops.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from killswitch.core.detectors.shape import Kind
from killswitch.core.errors import InvalidPolicyError


@dataclass(frozen=True, slots=True)
class Vote:
    """One signal of a policy: which detector judges it, and what it looks at."""

    signal: str
    kind: Kind
    source: str
    """The query or series: detectors that look at the same one are one witness."""


def safe_alone(kind: Kind) -> bool:
    """Whether this detector may be the only reason for a stop."""
    return kind is Kind.THRESHOLD


def refuse_lone_detectors(
    votes: Iterable[Vote], *, needed: int, enforced: bool, allow_detector_alone: bool
) -> None:
    """InvalidPolicyError if detectors that watch one source could meet the quorum by themselves.

    With a quorum of 1 that is any detector; with 2 it is a pair on the same query, as two opinions
    on one series fail together. Nothing is refused where the policy cannot stop anything
    (`enforced` is False), or where it says `allowDetectorAlone: true`.
    """
    if not enforced or allow_detector_alone:
        return
    detectors = [vote for vote in votes if not safe_alone(vote.kind)]
    on_source = Counter(vote.source for vote in detectors)
    lone = [vote for vote in detectors if on_source[vote.source] >= needed]
    if not lone:
        return
    names = ", ".join(f"{vote.signal} ({vote.kind})" for vote in lone)
    raise InvalidPolicyError(
        "spec.quorum",
        f"{needed} of these would stop the targets on one statistical opinion: {names}",
        "require a second signal that watches something else, write mode: DryRun,"
        " or accept false stops with allowDetectorAlone: true",
    )
