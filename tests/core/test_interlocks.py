from dataclasses import replace

import pytest

from killswitch.core import interlocks
from killswitch.core.caps import Cap, Spending
from killswitch.core.interlocks import Cause, Inhibition, Interlock, Request
from killswitch.core.stops import Plan, Refusal, Refused, Stop
from tests.core.builders import NOW, pod, workload

STOP = Stop("prod", (workload("a"), workload("b")), (pod("p"),))
PERMITTED = Request(
    dry_run=False,
    bypass=None,
    cooldown_ends=None,
    plan=Plan((STOP,), eligible=4),
    max_targets=10,
    max_percent=100,
    now=NOW,
)


def plan(*refused: Refused, targets: int = 2, eligible: int = 4) -> Plan:
    """A plan with that many targets."""
    stop = Stop("prod", tuple(workload(str(number)) for number in range(targets)))
    return Plan((stop,) if targets else (), refused, eligible)


def test_nothing_inhibits_an_ordinary_fire() -> None:
    """Every interlock lets it pass, so the chain does."""
    assert interlocks.inhibition(PERMITTED) is None
    assert [each(PERMITTED) for each in interlocks.CHAIN] == [None] * 8


FAILING: list[tuple[Interlock, dict[str, object], Inhibition]] = [
    (
        interlocks.bypass,
        {"bypass": "alice until 12:00: maintenance"},
        Inhibition(Cause.BYPASSED, "alice until 12:00: maintenance"),
    ),
    (
        interlocks.cooldown,
        {"cooldown_ends": NOW + 90},
        Inhibition(Cause.COOLDOWN, "released recently; may fire again from 2027-01-15T08:01:30Z"),
    ),
    (
        interlocks.bounds,
        {"plan": plan(Refused("namespace kube-system", Refusal.PROTECTED))},
        Inhibition(
            Cause.OUT_OF_BOUNDS,
            "the plan would leave its bounds: namespace kube-system (Protected)",
        ),
    ),
    (
        interlocks.something,
        {"plan": plan(Refused("Deployment x in prod", Refusal.NOT_FOUND), targets=0)},
        Inhibition(Cause.NOTHING_TO_STOP, "nothing matches: Deployment x in prod"),
    ),
    (
        interlocks.absolute_cap,
        {"max_targets": 1},
        Inhibition(Cause.TOO_MANY, "2 targets, limits.maxTargets is 1"),
    ),
    (
        interlocks.percent_cap,
        {"max_percent": 49},
        Inhibition(Cause.TOO_LARGE_A_SHARE, "2 of 4 (50 %), limits.maxPercent is 49"),
    ),
    (
        interlocks.common_cap,
        {"spending": Spending(Cap(targets=9), spent=8, adding=2, everything=0)},
        Inhibition(
            Cause.CAP,
            "8 stopped by policies within 60 min 0 s, 2 more would be 10: cap.targets is 9",
        ),
    ),
    (
        interlocks.mode,
        {"dry_run": True},
        Inhibition(Cause.DRY_RUN, "mode is DryRun; it would stop 2 targets with 1 pods"),
    ),
]
"""In the order of the chain."""


def test_the_order_of_the_chain() -> None:
    """People's decisions come first; DryRun comes last, so that it predicts what Enforce does."""
    assert [each for each, _, _ in FAILING] == list(interlocks.CHAIN)


@pytest.mark.parametrize(("interlock", "changes", "expected"), FAILING)
def test_each_interlock_says_why(
    interlock: Interlock, changes: dict[str, object], expected: Inhibition
) -> None:
    """The reason names what a person can act upon, with the numbers in it."""
    request = replace(PERMITTED, **changes)  # type: ignore[arg-type]
    assert expected == interlock(request)
    assert expected == interlocks.inhibition(request)


def test_an_inhibited_freeze_is_told_as_one() -> None:
    """Nobody should read that something would have been stopped."""
    dry = interlocks.mode(replace(PERMITTED, dry_run=True, freezes=True))
    cold = interlocks.cooldown(replace(PERMITTED, cooldown_ends=NOW + 90, freezes=True))
    assert dry is not None
    assert dry.message == "mode is DryRun; it would freeze 2 targets with 1 pods"
    assert cold is not None
    assert cold.message == "let go recently; may freeze again from 2027-01-15T08:01:30Z"


@pytest.mark.parametrize("first", range(len(FAILING)))
def test_the_first_that_fails_is_shown(first: int) -> None:
    """With everything from here on failing, the earliest reason wins."""
    failing: dict[str, object] = {}
    for _, changes, _ in reversed(FAILING[first:]):
        failing |= changes
    found = interlocks.inhibition(replace(PERMITTED, **failing))  # type: ignore[arg-type]
    assert found is not None
    assert FAILING[first][2].cause is found.cause


@pytest.mark.parametrize(
    "changes",
    [
        {"cooldown_ends": NOW},
        {"max_targets": 2},
        {"max_percent": 50},
        {"plan": plan(Refused("Deployment x in prod", Refusal.NOT_FOUND))},
    ],
)
def test_the_limit_itself_is_permitted(changes: dict[str, object]) -> None:
    """Cooldown over, as many as allowed, and a missing target beside others do not inhibit."""
    assert interlocks.inhibition(replace(PERMITTED, **changes)) is None  # type: ignore[arg-type]


def test_a_namespace_of_bare_pods_is_something() -> None:
    """Pods of kinds that killswitch does not count as targets are stopped like all others."""
    stop = Stop("prod", pods=(pod("ray-worker"),), whole_namespace=True)
    assert interlocks.inhibition(replace(PERMITTED, plan=Plan((stop,)))) is None


def test_an_empty_namespace_is_nothing() -> None:
    """A fire that stops nothing would look like success."""
    found = interlocks.inhibition(
        replace(PERMITTED, plan=Plan((Stop("prod", whole_namespace=True),)))
    )
    assert found == Inhibition(Cause.NOTHING_TO_STOP, "nothing matches: no target")
