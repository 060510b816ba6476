"""`stop`: one human action, with the person's own rights; works with every process of ours dead.

Govern the namespace if needed, plan from lists, create the Shutdown (from then on the API server
holds the lock), then run the same stop sequence as the reactor and say what was observed. A
failure after the lock never hides that the lock holds.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from killswitch.api import orders
from killswitch.api.orders import Order, Terms
from killswitch.cli import hopeless, kernel, testimony
from killswitch.cli import plan as planning
from killswitch.cli import scope as scopes
from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.observe import BOUNDARIES, Observed
from killswitch.cli.outcome import Progress, conclude
from killswitch.cli.problems import PROGRAM, Interrupted, Problem, said
from killswitch.cli.references import argument, shown
from killswitch.cli.render import told
from killswitch.cli.scope import Scope
from killswitch.cli.screen import Screen
from killswitch.core import durations
from killswitch.core.errors import KillSwitchError, RefusedError, ServerError, UnavailableError
from killswitch.core.plans import Plan
from killswitch.core.resources import CLUSTER_SHUTDOWNS, NAMESPACES, SHUTDOWNS
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
    try:
        plan, order, shutdown = await _lock(session, screen, request, decided)
    except ServerError as error:
        raise hopeless.failed(request.scope, session.namespace, error) from error
    outcome = Outcome(stages={"decided": decided, "locked": session.clock.now()})
    try:
        return await _carry_out(session, screen, shutdown, order, plan, outcome=outcome)
    except asyncio.CancelledError:  # Ctrl-C
        raise _interrupted(request, shutdown) from None


async def _lock(
    session: Session, screen: Screen, request: Request, decided: float
) -> tuple[Plan, Order, Json]:
    """The plan, the order and the engaged Shutdown; a Problem where nothing was locked."""
    scope, namespace = request.scope, session.namespace
    me, observed, lacking = await asyncio.gather(
        session.cluster.whoami(),
        planning.look(session, scope),
        kernel.lacking(session.cluster, CLUSTER_SHUTDOWNS if scope.nodes else SHUTDOWNS),
    )
    if lacking and namespace not in BOUNDARIES.protected:
        raise hopeless.no_kernel(scope, namespace, lacking)
    planning.govern_in_thought(observed)
    plan = scopes.plan(scope, namespace, observed.inventory, BOUNDARIES)
    planning.show(screen, scope, plan, observed, namespace)
    terms = Terms(
        me,
        request.reason,
        request.approvals,
        request.deadline,
        node_action=scope.node_action,
    )
    if not plan.stops:
        own = name(me, decided)
        raise await hopeless.nothing(session, scope, plan, observed, name=own, terms=terms)
    for each in observed.ungoverned:
        await govern(session, each)
    # A scope gives one stop of one place, and that is one order.
    order = orders.for_stops(name(me, decided), plan.stops, terms)[0]
    return plan, order, await _engage(session, order, observed)


async def _carry_out(
    session: Session,
    screen: Screen,
    shutdown: Json,
    order: Order,
    plan: Plan,
    *,
    outcome: Outcome,
) -> ExitCode:
    """Everything after the lock."""
    progress = Progress(
        screen, outcome, outcome.stages["decided"], nodes=any(stop.nodes for stop in order.stops)
    )
    progress.locked(shutdown)
    async with asyncio.TaskGroup() as group:
        group.create_task(testimony.begun(session, shutdown, outcome))
        group.create_task(_execute(session, shutdown, order, outcome, progress))
    progress.rest()
    ended = await conclude(session, screen, shutdown, order.stops, outcome)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_MARGIN):
            await testimony.ended(session, shutdown, outcome)
    missing = [told(each) for each in plan.refused]
    if ended is ExitCode.OK and missing:
        screen.line(f"But not everything that was named could be stopped: {'; '.join(missing)}")
        return ExitCode.ERROR
    return ended


def _interrupted(request: Request, shutdown: Json) -> Interrupted:
    """What holds though the person has stopped looking."""
    resource = SHUTDOWNS if shutdown["kind"] == SHUTDOWNS.kind else CLUSTER_SHUTDOWNS
    names = shutdown["metadata"]["name"], shutdown["metadata"].get("namespace", "")
    needed = shutdown["spec"]["requiredApprovals"]
    people = "1 person approves" if needed == 1 else f"{needed} people approve"
    why = (
        f"by Ctrl-C; {shown(resource, *names)} is engaged and holds until {people}. "
        "What was not stopped by now is left to the operator, where one runs"
    )
    cure = f"see how far it came: {PROGRAM} why {argument(resource, *names)}"
    return Interrupted(f"stop {request.scope}, after the lock", why, cure)


async def govern(session: Session, namespace: str) -> None:
    """Set the label; a Problem with the way without it where the user may not."""
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


def name(me: str, moment: float) -> str:
    """`alice-20261124t155003-123` for alice@example.org or system:serviceaccount:prod:alice."""
    short = me.rpartition(":")[2].partition("@")[0].lower()
    # At most 30, since the name becomes a label's value and others are derived from it.
    short = re.sub(r"[^a-z0-9]+", "-", short)[:30].strip("-") or "person"
    text = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dt%H%M%S-%f")
    return f"{short}-{text[:-3]}"


async def _engage(session: Session, order: Order, observed: Observed) -> Json:
    """The engaged Shutdown."""
    sequence = StopSequence(session.cluster, session.clock, records_namespace=_RECORDS_NAMESPACE)
    try:
        return await insist(session, observed, lambda: sequence.engage(order))
    except RefusedError as error:
        raise hopeless.refused(order, error, observed) from error


async def insist(
    session: Session, observed: Observed, create: Callable[[], Awaitable[Json]]
) -> Json:
    """What `create` gives, asked again while a failure may pass or hide a success.

    A label set a moment ago may not have reached the admission yet.
    """
    until = session.clock.monotonic() + _LABEL_SPREADS
    while True:
        try:
            return await create()
        except RefusedError:
            if not observed.ungoverned or session.clock.monotonic() >= until:
                raise
        except (ServerError, UnavailableError):
            # Either may hide a success; the name is the same, so asking again is safe.
            if session.clock.monotonic() >= until:
                raise
        await session.clock.sleep(0.05)


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
        outcome.note("the API server gave no usable answer before the deadline")
    except KillSwitchError as error:
        outcome.note(str(error))
    except ExceptionGroup as group:
        known, other = group.split(KillSwitchError)
        if other is not None:
            raise
        outcome.problems += [str(each) for each in (known.exceptions if known else ())]
