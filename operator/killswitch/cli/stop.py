"""`stop`: one human action, with the person's own rights; works with every process of ours dead.

Govern the namespace if needed, plan from lists, create the Shutdown (from then on the API server
holds the lock), then run the same stop sequence as the reactor and say what was observed. A
failure after the lock never hides that the lock holds.
"""

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from killswitch.api import orders
from killswitch.api.orders import Order, Terms
from killswitch.cli import plan as planning
from killswitch.cli import scope as scopes
from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.observe import BOUNDARIES, Observed
from killswitch.cli.outcome import Progress, conclude
from killswitch.cli.problems import PROGRAM, Problem, said
from killswitch.cli.render import told
from killswitch.cli.scope import Scope
from killswitch.cli.screen import Screen
from killswitch.core import durations
from killswitch.core.errors import KillSwitchError, RefusedError, UnavailableError
from killswitch.core.kinds import NAMESPACES
from killswitch.core.plans import Plan, Refusal
from killswitch.ports import Json
from killswitch.reactor.stop import Outcome, StopSequence

_RECORDS_NAMESPACE = "killswitch-system"
_LABEL_SPREADS = 2.0
"""Seconds within which every API server knows a namespace's new label."""
_MARGIN = 2.0
"""Seconds beyond the deadline for the last look."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the person asked for."""

    scope: Scope
    reason: str
    approvals: int
    deadline: str


async def stop(session: Session, screen: Screen, request: Request) -> ExitCode:
    """Lock, stop, observe."""
    decided = session.clock.now()
    me, observed = await asyncio.gather(
        session.cluster.whoami(), planning.look(session, request.scope)
    )
    planning.govern_in_thought(observed)
    plan = scopes.plan(request.scope, session.namespace, observed.inventory, BOUNDARIES)
    planning.show(screen, request.scope, plan, observed, session.namespace)
    _require(plan, observed, request, session.namespace)
    for name in observed.ungoverned:
        await _govern(session, name)
    order = _order(plan, request, me, decided)
    shutdown = await _engage(session, order, observed)
    outcome = Outcome(stages={"decided": decided})
    progress = Progress(screen, outcome, decided)
    outcome.stages["locked"] = session.clock.now()
    progress.locked(shutdown)
    await _execute(session, shutdown, order, outcome, progress)
    progress.rest()
    ended = await conclude(session, screen, shutdown, order.stops, outcome)
    missing = [told(each) for each in plan.refused]
    if ended is ExitCode.OK and missing:
        screen.line(f"But not everything that was named could be stopped: {'; '.join(missing)}")
        return ExitCode.ERROR
    return ended


def _require(plan: Plan, observed: Observed, request: Request, namespace: str) -> None:
    """Something to hold, or a Problem that says why there is nothing."""
    if plan.stops:
        return
    what = f"stop {request.scope}"
    if observed.unseen and not any(r.reason is Refusal.PROTECTED for r in plan.refused):
        cure = f"stop without looking: {PROGRAM} stop --all -n {namespace} --reason …"
        raise Problem(what, "; ".join(observed.unseen), cure, ExitCode.REFUSED)
    why = "; ".join(told(each) for each in plan.refused) or "nothing matches"
    raise Problem(what, why, f"see what is there: {PROGRAM} plan --all -n {namespace}")


async def _govern(session: Session, namespace: str) -> None:
    body = {"metadata": {"labels": {BOUNDARIES.governed_label: "true"}}}
    try:
        await session.cluster.patch(NAMESPACES, namespace, body)
    except RefusedError as error:
        why = f"the lock applies in governed namespaces only, and you may not govern: {said(error)}"
        cure = (
            f"someone who may change namespaces runs: {PROGRAM} govern {namespace}; "
            f"meanwhile without a lock that people hold: {PROGRAM} break-glass --bare -n {namespace}"
        )
        raise Problem(f"govern namespace {namespace}", why, cure, ExitCode.REFUSED) from error


def _order(plan: Plan, request: Request, me: str, decided: float) -> Order:
    """A scope gives one stop of one place, and that is one order."""
    terms = Terms(me, request.reason, request.approvals, request.deadline)
    return orders.for_stops(name(me, decided), plan.stops, terms)[0]


def name(me: str, moment: float) -> str:
    """`alice-20261124t155003-123` for alice@example.org or system:serviceaccount:prod:alice."""
    short = me.rpartition(":")[2].partition("@")[0].lower()
    # At most 30, since the name becomes a label's value and others are derived from it.
    short = re.sub(r"[^a-z0-9]+", "-", short)[:30].strip("-") or "person"
    text = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dt%H%M%S-%f")
    return f"{short}-{text[:-3]}"


async def _engage(session: Session, order: Order, observed: Observed) -> Json:
    """The engaged Shutdown. A label set a moment ago may not have reached the admission yet."""
    sequence = StopSequence(session.cluster, session.clock, records_namespace=_RECORDS_NAMESPACE)
    until = session.clock.monotonic() + _LABEL_SPREADS
    while True:
        try:
            return await sequence.engage(order)
        except RefusedError as error:
            if not observed.ungoverned or session.clock.monotonic() >= until:
                raise _refused(order, error, observed) from error
        except UnavailableError:
            # A lost answer may hide a success; the name is the same, so asking again is safe.
            if session.clock.monotonic() >= until:
                raise
        await session.clock.sleep(0.05)


def _refused(order: Order, error: RefusedError, observed: Observed) -> Problem:
    what = f"create {order.resource.kind} {order.name}"
    place = f" -n {order.namespace}" if order.namespace else ""
    why = f"{said(error)}. Nothing was locked and nothing was touched"
    check = f"kubectl auth can-i create {order.resource.plural}.{order.resource.group}{place}"
    bare = f"or stop with the rights that you have: {PROGRAM} break-glass --bare{place}"
    cure = f"see whether you may: {check}; {bare}"
    if order.namespace in observed.assumed:
        cure = f"is it governed? If not: {PROGRAM} govern {order.namespace}; {cure}"
    return Problem(what, why, cure, ExitCode.REFUSED)


async def _execute(
    session: Session, shutdown: Json, order: Order, outcome: Outcome, progress: Progress
) -> None:
    """Run the sequence; whatever stops it is noted, since by now the lock holds."""
    sequence = StopSequence(session.cluster, session.clock, records_namespace=_RECORDS_NAMESPACE)
    seconds = durations.seconds(shutdown["spec"]["deadline"])
    until = session.clock.monotonic() + seconds
    try:
        async with asyncio.timeout(seconds + _MARGIN):
            await sequence.execute(
                shutdown, order.stops, until=until, report=progress.reached, outcome=outcome
            )
    except TimeoutError:
        outcome.note("the API server stopped answering before the end was seen")
    except KillSwitchError as error:
        outcome.note(str(error))
    except ExceptionGroup as group:
        known, other = group.split(KillSwitchError)
        if other is not None:
            raise
        outcome.problems += [str(each) for each in (known.exceptions if known else ())]
