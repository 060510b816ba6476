"""When a stop is left alone, by what its status says."""

import pytest

from killswitch.ports import Json
from killswitch.reactor.finisher import finished


def shutdown(stopped: str, verified: str, remaining: int, *stages: str) -> Json:
    """A Shutdown of which these words were said: `NoPodsLeft` is True, others are False."""
    conditions = [
        {"type": type_, "status": str(reason == "NoPodsLeft"), "reason": reason}
        for type_, reason in (("Stopped", stopped), ("Verified", verified))
        if reason
    ]
    times = dict.fromkeys(stages, "2026-01-01T00:00:00.000Z")
    return {"status": {"conditions": conditions, "remaining": remaining, "stages": times}}


@pytest.mark.parametrize(
    ("stopped", "verified", "remaining", "done"),
    [
        ("NoPodsLeft", "", 0, True),
        ("NoPodsLeft", "NoPodsLeft", 0, True),
        ("NoPodsLeft", "PodsNotKnown", 0, True),
        ("NoPodsLeft", "Stopping", 2, True),  # said before the pods were gone
        ("NoPodsLeft", "DeadlineExceeded", 2, False),
        ("NoPodsLeft", "CameBack", 1, False),
        ("NoPodsLeft", "Ungoverned", 1, False),
        ("NoPodsLeft", "Ungoverned", 0, True),
        ("PodsNotKnown", "", 0, True),
        ("PodsNotKnown", "PodsNotKnown", 0, True),
        ("PodsNotKnown", "DeadlineExceeded", 1, False),
        ("PodsNotKnown", "Stopping", 1, False),  # they can be seen by now
        ("PodsNotKnown", "Stopping", 0, True),
        ("Stopping", "", 0, False),
    ],
)
def test_a_stop_is_taken_up_again_for_whatever_is_seen_to_be_left(
    stopped: str, verified: str, remaining: int, done: bool
) -> None:
    """Whatever the verification calls it."""
    assert finished(shutdown(stopped, verified, remaining, "scaled")) == done
    assert not finished(shutdown(stopped, verified, remaining))
