"""What a decision says about itself: evidence for the record, a reason for people."""

from killswitch.api.compiled import CompiledPolicy
from killswitch.core import times
from killswitch.core.quorum import Tally, Vote
from killswitch.core.stops import Plan
from killswitch.ports import Json


def statement(
    policy: CompiledPolicy, tally: Tally, plan: Plan, replica: str, decided: float, *, act: str
) -> Json:
    """The content of the evidence record, in wire form; its digest goes into the order.

    `act`: what is done with the targets, `stops` or `freezes`.
    """
    return {
        "decidedAt": times.text(decided),
        "decidedBy": replica,
        "quorum": str(tally)[:32],
        "signals": [_vote(policy, vote) for vote in tally.votes],
        "summary": f"{policy} generation {policy.generation}: {tally}; "
        f"{act} {plan.count} targets with {plan.pods} pods and {plan.gpus} GPUs",
    }


def reason(policy: CompiledPolicy, tally: Tally) -> str:
    """One sentence for everyone whom the lock denies."""
    tripped = [
        f"{vote.reading.signal} ({vote.reading.message})" for vote in tally.votes if vote.counted
    ]
    return f"{policy}: {', '.join(tripped)}"[:1024]


def _vote(policy: CompiledPolicy, vote: Vote) -> Json:
    reading = vote.reading
    signal = next(each for each in policy.signals if each.name == reading.signal)
    found: Json = {
        "name": reading.signal,
        "verdict": str(reading.verdict),
        "counted": vote.counted,
        "threshold": signal.trips,
        "query": signal.query,
        "readAt": times.text(reading.read_at),
        "message": reading.message[:1024],
        "path": str(reading.path),
        # Written even when empty: the API server would add these defaults, and the digest is of
        # what is stored.
        "reason": str(reading.reason or ""),
        "value": "" if reading.value is None else f"{reading.value:g}",
    }
    if reading.sampled_at is not None:
        found["sampledAt"] = times.text(reading.sampled_at)
    return found
