"""The view of Freezes: whose they are, when they are over whatever the clock does, and since when."""

from typing import Any

from killswitch.core import times
from killswitch.ports import Json
from killswitch.reactor.freezes import Freezes
from tests.fakes.clock import FakeClock


def view(clock: FakeClock) -> Freezes:
    """An empty view of reactors that are called so."""
    return Freezes(clock, "reactor", lambda _: None, lambda _: None)


def frozen(clock: FakeClock, *, by: str = "reactor", seconds: float = 60, **more: Any) -> Json:
    """A Freeze of policy `p`, created now."""
    metadata = {
        "uid": "f",
        "name": "f",
        "labels": {"killswitch.dev/engaged": "true"},
        "creationTimestamp": times.text(clock.now()),
    }
    spec = {
        "requestedBy": by,
        "until": times.text(clock.now() + seconds),
        "onExpiry": "Stop",
        "policy": {"uid": "p"},
    }
    status = more.pop("status", {})
    return {"kind": "Freeze", "metadata": metadata, "spec": {**spec, **more}, "status": status}


def test_what_somebody_else_requested_is_no_policys_freeze() -> None:
    """Whoever may freeze may write any policy's uid: it latches nothing, and starts no cooldown."""
    clock = FakeClock()
    seen = view(clock)
    seen.stored.put(frozen(clock, by="mallory"))
    assert seen.of_policy("p") == []
    seen.stored.put(frozen(clock, by="mallory", thaw={"by": "mallory", "reason": "r"}))
    seen.stored.remove("f")
    assert seen.ended_at("p") is None


async def test_its_end_is_counted_in_elapsed_time_from_its_first_sight() -> None:
    """A wall clock that jumps later neither ends it nor prolongs it."""
    clock = FakeClock()
    seen = view(clock)
    body = frozen(clock)
    seen.stored.put(body)
    clock.set_back(-7200)
    assert seen.holds(body)
    clock.set_back(9999)
    await clock.advance(59)
    assert (seen.holds(body), list(seen.ending())) == (True, [])
    await clock.advance(1)
    assert (seen.holds(body), list(seen.ending())) == (False, [body])
    await clock.advance(5)
    assert seen.ended_at("p") == clock.now() - 5


async def test_one_whose_end_lies_back_at_its_first_sight_ended_then() -> None:
    """A start must not begin its cooldown anew."""
    clock = FakeClock()
    body = frozen(clock)
    end = clock.now() + 60
    await clock.advance(3600)
    seen = view(clock)
    seen.stored.put(body)
    assert (seen.holds(body), seen.ended_at("p")) == (False, end)


async def test_a_thaw_counts_from_its_first_sight_until_it_is_written_down() -> None:
    """Then from what the manager wrote; and never later again."""
    clock = FakeClock()
    seen = view(clock)
    body = frozen(clock)
    seen.stored.put(body)
    assert seen.ended_at("p") is None
    await clock.advance(10)
    thawed = {**body, "spec": {**body["spec"], "thaw": {"by": "bob", "reason": "r"}}}
    seen.stored.put(thawed)
    at = clock.now()
    await clock.advance(100)
    assert seen.ended_at("p") == at
    ended = {"type": "Ended", "status": "True", "lastTransitionTime": times.text(at - 1)}
    seen.stored.put({**thawed, "status": {"conditions": [ended]}})
    assert seen.ended_at("p") == at - 1


def test_whoever_deletes_one_that_holds_thaws() -> None:
    """Its policy is told of it though nothing is stored any more."""
    clock = FakeClock()
    seen = view(clock)
    seen.stored.put(frozen(clock))
    seen.stored.remove("f")
    assert (seen.of_policy("p"), seen.ended_at("p")) == ([], clock.now())


def test_what_has_ended_is_not_ended_again() -> None:
    """By the condition, and by the label that the manager took off."""
    clock = FakeClock()
    seen = view(clock)
    over = {"type": "Ended", "status": "True", "lastTransitionTime": times.text(clock.now())}
    seen.stored.put(frozen(clock, seconds=-5, status={"conditions": [over]}))
    assert list(seen.ending()) == []
    bare = frozen(clock, seconds=-5)
    bare["metadata"]["labels"] = {}
    seen.stored.put(bare)
    assert list(seen.ending()) == []
