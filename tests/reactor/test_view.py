"""The view: what a decision is told about releases and bypasses, and who may not blind it."""

from typing import Any

import pytest

from killswitch.ports import Json
from killswitch.reactor.view import View

NOW = 1_800_000_000.0


def _nothing(_body: Json) -> None:
    pass


def view(clock: list[float]) -> View:
    """An empty view whose time is what stands in the list."""
    return View(
        now=lambda: clock[0],
        username="reactor",
        policies_changed=_nothing,
        policies_removed=_nothing,
        shutdowns_changed=_nothing,
        shutdowns_removed=_nothing,
    )


def stop(approvals: int, *, required: int = 2, label: str = "true", **status: Any) -> Json:
    """A Shutdown of policy `p` with that many approvals."""
    people = {f"person-{number}": {"reason": "r"} for number in range(approvals)}
    return {
        "kind": "Shutdown",
        "metadata": {"uid": "s", "name": "p-1", "labels": {"killswitch.dev/engaged": label}},
        "spec": {
            "requestedBy": "reactor",
            "requiredApprovals": required,
            "approvals": people,
            "policy": {"uid": "p"},
        },
        "status": status,
    }


def test_the_last_approval_is_the_release_whoever_writes_it_down() -> None:
    """First as this reactor saw it, then as the manager wrote it, and never later again."""
    clock = [NOW]
    seen = view(clock)
    seen.shutdowns.put(stop(1))
    assert seen.released_at("p") is None
    clock[0] = NOW + 5
    seen.shutdowns.put(stop(2))
    clock[0] = NOW + 60
    assert seen.released_at("p") == NOW + 5
    written = {"type": "Released", "status": "True", "lastTransitionTime": "2027-01-15T08:00:04Z"}
    seen.shutdowns.put(stop(2, conditions=[written]))
    assert seen.released_at("p") == NOW + 4
    assert seen.released_at("other") is None


def test_a_shutdown_that_is_gone_leaves_nothing_behind() -> None:
    """Neither in the index nor in what was remembered of it."""
    seen = view([NOW])
    seen.shutdowns.put(stop(2))
    assert len(seen.shutdowns_of("p")) == 1
    seen.shutdowns.remove("s")
    assert seen.shutdowns_of("p") == []
    assert seen.released_at("p") is None


def test_what_somebody_else_requested_is_nobodys_fire() -> None:
    """Whoever may stop may write any policy's uid: neither its episodes nor its cooldown follow."""
    seen = view([NOW])
    forged = stop(2)
    forged["spec"]["requestedBy"] = "mallory"
    seen.shutdowns.put(forged)
    assert seen.shutdowns_of("p") == []
    assert seen.released_at("p") is None
    seen.shutdowns.remove("s")


def bypass(until: str) -> Json:
    """A bypass of policy `p`."""
    return {
        "metadata": {"uid": "b", "name": "b", "namespace": "n"},
        "spec": {"policy": "p", "until": until, "reason": "r", "requestedBy": "alice"},
    }


@pytest.mark.parametrize(
    ("until", "in_force"),
    [
        ("2099-01-01T00:00:00Z", True),
        ("2099-01-01T00:00:00+02:00", True),
        ("2020-01-01T00:00:00Z", False),
        ("2099-01-01t00:00:00z", False),
        ("2099-01-01T00:00:00+99:00", False),
        ("2099-01-01T00:00:00", False),
        ("tomorrow", False),
        ("", False),
    ],
)
def test_a_bypass_whose_end_cannot_be_read_suspends_nothing(until: str, in_force: bool) -> None:
    """Looking away must be certain to end; and an odd text must not end the reactor."""
    seen = view([NOW])
    seen.bypasses.put(bypass(until))
    assert in_force is (seen.bypass("n", "p", NOW) is not None)
    assert seen.bypass("other", "p", NOW) is None
