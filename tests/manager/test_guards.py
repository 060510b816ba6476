"""The mirror of node guards' reports: what is believed, for how long, and who is woken by it."""

import math

import pytest

from killswitch.core import times
from killswitch.core.reports import SILENT
from killswitch.core.resources import FREEZES
from killswitch.manager.guards import Guards
from killswitch.manager.numbers import Numbers
from killswitch.manager.rounds import Key
from killswitch.ports import Json
from tests.fakes.clock import FakeClock


def body(clock: FakeClock, *states: str, node: str = "n1", uid: str = "g1") -> Json:
    """A NodeGuard of now, with a pod in each of these states by Freeze `f`."""
    now = times.text(clock.now())
    pods = [
        {
            "namespace": "prod",
            "pod": f"p{number}",
            "uid": f"u{number}",
            "state": state,
            "orderKind": "Freeze",
            "orderName": "f",
            "seenAt": now,
            "doneAt": now,
        }
        for number, state in enumerate(states)
    ]
    return {"metadata": {"name": node, "uid": uid}, "status": {"renewedAt": now, "pods": pods}}


@pytest.fixture
def clock() -> FakeClock:
    """A clock that the test steps."""
    return FakeClock()


@pytest.fixture
def woken() -> list[Key]:
    """Who was woken."""
    return []


@pytest.fixture
def guards(clock: FakeClock, woken: list[Key]) -> Guards:
    """A mirror that nobody feeds but the test."""
    return Guards(None, clock, lambda key, _after: woken.append(key))  # type: ignore[arg-type]


async def test_a_guard_is_live_while_it_reports(guards: Guards, clock: FakeClock) -> None:
    """By its own time and by ours; listed again unchanged it says nothing new."""
    first = body(clock)
    guards.put(first)
    assert guards.absent(["n1", "n2", "n2"]) == ("n2",)
    await clock.advance(SILENT + 1)
    guards.put(first)
    assert (guards.live("n1"), guards.heard("n1")) == (None, None)
    assert guards.last("n1") is not None
    guards.put(body(clock))
    assert guards.live("n1") is guards.heard("n1") is guards.last("n1") is not None


async def test_a_wall_clock_that_is_set_makes_no_guard_unheard(
    guards: Guards, clock: FakeClock
) -> None:
    """It makes them absent, which is told; what they hold is still known."""
    guards.put(body(clock))
    clock.set_back(-3600)
    assert guards.live("n1") is None
    assert guards.heard("n1") is not None


def test_a_guard_that_was_made_anew_is_not_lost_with_the_old_one(
    guards: Guards, clock: FakeClock
) -> None:
    """A node may join again under its name before the end of its first object is told."""
    guards.put(body(clock, uid="old"))
    guards.put(body(clock, uid="new"))
    guards.remove("old")
    assert guards.live("n1") is not None
    guards.remove("new")
    guards.remove("unknown")
    assert guards.last("n1") is None


def test_a_freeze_is_woken_by_what_is_new_about_it(
    guards: Guards, clock: FakeClock, woken: list[Key]
) -> None:
    """Once for a report, however many pods; not by a heartbeat."""
    key = Key(FREEZES, "prod", "f")
    guards.put(body(clock, "Frozen", "Frozen"))
    assert woken == [key]
    guards.put(body(clock, "Frozen", "Frozen"))
    assert woken == [key]
    guards.put(body(clock, "Frozen", "Thawed"))
    guards.put(body(clock, "Frozen"))
    assert woken == [key] * 3


async def test_the_gauges_say_what_is_known(guards: Guards, clock: FakeClock) -> None:
    """NaN before the first list: no guard is not the same as not knowing."""
    numbers = Numbers()
    numbers.guards(guards.count, guards.frozen)

    def read() -> tuple[float | None, ...]:
        value = numbers.registry.get_sample_value
        states = [value("killswitch_node_guards", {"state": each}) for each in ("live", "silent")]
        return (*states, value("killswitch_frozen_pods"))

    assert all(value is not None and math.isnan(value) for value in read())
    guards._reflector.synced.set()
    assert read() == (0, 0, 0)
    guards.put(body(clock, "Frozen", "Frozen", "Dead", node="old", uid="g0"))
    await clock.advance(SILENT + 1)
    guards.put(body(clock, "Frozen", "Dead"))
    assert read() == (1, 1, 1)
