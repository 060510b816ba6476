"""Interlocks: conditions that a fire requires. The first that fails inhibits, with its reason.

`CHAIN` lists them in the order in which they are asked: what people decided comes before what
killswitch measured, so that the reason shown is the one a person can act upon.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from killswitch.core import times
from killswitch.core.caps import Spending
from killswitch.core.stops import Plan, Refusal


class Cause(StrEnum):
    """Why a demand is inhibited."""

    DRY_RUN = "DryRun"
    BYPASSED = "Bypassed"
    COOLDOWN = "Cooldown"
    NOTHING_TO_STOP = "NothingToStop"
    OUT_OF_BOUNDS = "OutOfBounds"
    TOO_MANY = "TooManyTargets"
    TOO_LARGE_A_SHARE = "TooLargeAShare"
    CAP = "CapReached"
    REFUSED = "EngagementRefused"  # not an interlock: the API server said no
    DEFECT = "InternalError"  # nor this: killswitch itself failed to judge the policy


@dataclass(frozen=True, slots=True)
class Inhibition:
    """A demand that is not acted upon, and why."""

    cause: Cause
    message: str


@dataclass(frozen=True, slots=True)
class Request:
    """Everything an interlock may look at. Times are seconds since the epoch."""

    dry_run: bool
    bypass: str | None
    """Who bypasses until when and why, if a bypass is in force."""
    cooldown_ends: float | None
    plan: Plan
    max_targets: int
    max_percent: int
    now: float
    spending: Spending | None = None
    """What it would add to what all policies have stopped lately; None where no cap is set."""
    freezes: bool = False
    """Whether it is about freezing the targets for a while, not about stopping them."""


Interlock = Callable[[Request], Inhibition | None]


def mode(request: Request) -> Inhibition | None:
    """A policy in DryRun decides and reports, it does not act."""
    if not request.dry_run:
        return None
    plan = request.plan
    act = "freeze" if request.freezes else "stop"
    message = f"mode is DryRun; it would {act} {plan.count} targets with {plan.pods} pods"
    return Inhibition(Cause.DRY_RUN, message)


def bypass(request: Request) -> Inhibition | None:
    """A person suspended the policy."""
    return Inhibition(Cause.BYPASSED, request.bypass) if request.bypass else None


def cooldown(request: Request) -> Inhibition | None:
    """What people let go is not taken again by the next sample: they get the agreed time first."""
    if request.cooldown_ends is None or request.now >= request.cooldown_ends:
        return None
    ends = times.text(round(request.cooldown_ends))
    what = "let go recently; may freeze" if request.freezes else "released recently; may fire"
    return Inhibition(Cause.COOLDOWN, f"{what} again from {ends[:19]}Z")


def bounds(request: Request) -> Inhibition | None:
    """Protected or ungoverned places are never stopped; a plan that meets one is not half done."""
    outside = [
        each
        for each in request.plan.refused
        if each.reason in {Refusal.PROTECTED, Refusal.UNGOVERNED, Refusal.LAST_OF_PROTECTED}
    ]
    if not outside:
        return None
    names = ", ".join(f"{each.what} ({each.reason})" for each in outside[:5])
    return Inhibition(Cause.OUT_OF_BOUNDS, f"the plan would leave its bounds: {names}")


def something(request: Request) -> Inhibition | None:
    """A fire that stops nothing would look like success."""
    if request.plan.count or request.plan.pods:  # a namespace may hold pods of other kinds only
        return None
    names = ", ".join(each.what for each in request.plan.refused[:5]) or "no target"
    return Inhibition(Cause.NOTHING_TO_STOP, f"nothing matches: {names}")


def absolute_cap(request: Request) -> Inhibition | None:
    """No more targets than `limits.maxTargets`."""
    if request.plan.count <= request.max_targets:
        return None
    message = f"{request.plan.count} targets, limits.maxTargets is {request.max_targets}"
    return Inhibition(Cause.TOO_MANY, message)


def percent_cap(request: Request) -> Inhibition | None:
    """No larger a share than `limits.maxPercent`."""
    plan = request.plan
    if plan.percent <= request.max_percent:
        return None
    share = f"{plan.count} of {plan.eligible} ({plan.percent:.0f} %)"
    return Inhibition(
        Cause.TOO_LARGE_A_SHARE, f"{share}, limits.maxPercent is {request.max_percent}"
    )


def common_cap(request: Request) -> Inhibition | None:
    """No more than all policies together may stop within a window. A freeze is no stop."""
    if request.spending is None or request.freezes or not request.spending.beyond:
        return None
    return Inhibition(Cause.CAP, request.spending.beyond)


CHAIN: tuple[Interlock, ...] = (
    bypass,
    cooldown,
    bounds,
    something,
    absolute_cap,
    percent_cap,
    common_cap,
    # Last, so that a dry run shows every other reason first: it must predict what Enforce does.
    mode,
)


def beyond(plan: Plan, *, max_targets: int, max_percent: int) -> Inhibition | None:
    """Which bound of a policy its plan breaks, or None: what may be ordered in advance, too."""
    request = Request(
        dry_run=False,
        bypass=None,
        cooldown_ends=None,
        plan=plan,
        max_targets=max_targets,
        max_percent=max_percent,
        now=0.0,
    )
    found = (interlock(request) for interlock in (bounds, absolute_cap, percent_cap))
    return next((each for each in found if each is not None), None)


def inhibition(request: Request) -> Inhibition | None:
    """The first interlock that fails, or None: the fire is permitted."""
    for interlock in CHAIN:
        found = interlock(request)
        if found is not None:
            return found
    return None
