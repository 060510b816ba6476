"""`stop`: one human action, with the person's own rights; works with every process of ours dead.

Govern the namespace if needed, plan from lists, create the Shutdown (from then on the API server
holds the lock), then run the same stop sequence as the reactor and say what was observed. A
failure after the lock never hides that the lock holds.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from killswitch.api import orders
from killswitch.api.actions import QUIET, Graceful
from killswitch.api.orders import Order, Terms
from killswitch.cli import confirm, hopeless, kernel, testimony
from killswitch.cli import plan as planning
from killswitch.cli import scope as scopes
from killswitch.cli.connect import Session
from killswitch.cli.creating import govern, insist, object_name
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.manner import Gently
from killswitch.cli.observe import BOUNDARIES, Observed
from killswitch.cli.outcome import Ended, Progress, conclude, held_until
from killswitch.cli.problems import PROGRAM, Interrupted, Problem
from killswitch.cli.references import argument, shown
from killswitch.cli.render import told
from killswitch.cli.scope import Scope
from killswitch.cli.screen import Screen
from killswitch.cli.surroundings import Ask
from killswitch.core import blast, grace, holdings
from killswitch.core.errors import (
    InvalidPolicyError,
    KillSwitchError,
    RefusedError,
    ServerError,
)
from killswitch.core.resources import CLUSTER_SHUTDOWNS, SHUTDOWNS
from killswitch.core.stops import Plan
from killswitch.ports import Json, SignalSource
from killswitch.reactor.stop import Outcome, StopSequence

_RECORDS_NAMESPACE = "killswitch-system"
_MARGIN = 2.0
"""Seconds beyond the deadline for the last look."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the person asked for."""

    scope: Scope
    reason: str
    approvals: int
    deadline: str
    gently: Gently | None = None
    quiet: tuple[str, ...] = tuple(QUIET)
    accept_loss: bool = False
    prometheus: str | None = None

    @property
    def ask(self) -> Ask:
        """What is to be shown before somebody agrees."""
        return Ask(self.prometheus, self.quiet)


@dataclass(slots=True)
class _Engaged:
    """One Shutdown of this stop, from its lock on."""

    order: Order
    shutdown: Json
    outcome: Outcome
    progress: Progress
    prometheus: str | None = None
    unseen: tuple[str, ...] = ()
    """What of it could not be looked at, so that it is not known that all is at rest."""


async def show(session: Session, screen: Screen, request: Request) -> ExitCode:
    """Only the plan."""
    return await planning.for_scope(session, screen, request.scope, request.ask)


async def stop(session: Session, screen: Screen, request: Request) -> ExitCode:
    """Lock, stop, observe."""
    try:
        prepared = await _prepare(session, screen, request)
        plan, engaged, refused = await _lock(session, screen, request, prepared)
    except ServerError as error:
        raise hopeless.failed(request.scope, session.namespace, error) from error
    try:
        ended = await asyncio.gather(*(_carry_out(session, screen, each) for each in engaged))
    except asyncio.CancelledError:  # Ctrl-C
        raise _interrupted(request, engaged) from None
    answers = [each.answer for each in ended]
    screen.answer(
        answers[0] if len(answers) == 1 and not refused else {"stops": answers},
        [each.name for each in ended],
    )
    missing = [told(each) for each in plan.refused]
    if missing:
        screen.line(f"But not everything that was named could be stopped: {'; '.join(missing)}")
    for problem in refused:
        screen.problem(problem)
    worst = max((each.code for each in ended), default=ExitCode.ERROR)
    return worst if worst or not (missing or refused) else ExitCode.ERROR


async def _prepare(session: Session, screen: Screen, request: Request) -> "_Prepared":
    """The plan, shown and, where something would be lost for good, agreed to."""
    scope, namespace = request.scope, session.namespace
    _check(request)
    me, observed, lacking = await asyncio.gather(
        session.cluster.whoami(),
        planning.look(session, scope),
        kernel.lacking(session.cluster, CLUSTER_SHUTDOWNS if scope.nodes else SHUTDOWNS),
    )
    if lacking and namespace not in BOUNDARIES.protected:
        raise hopeless.no_kernel(scope, namespace, lacking)
    planning.govern_in_thought(observed)
    plan = scopes.plan(scope, namespace, observed.inventory, BOUNDARIES, observed.catalogue)
    found = planning.show(screen, scope, plan, observed, namespace)
    losses = blast.losses(plan)
    if losses and not request.accept_loss:
        if confirm.possible(screen):
            await planning.around(session, screen, plan, observed, found, request.ask)
        confirm.loss(screen, f"stop {scope}", losses)
    return _Prepared(me, plan, observed)


@dataclass(frozen=True, slots=True)
class _Prepared:
    me: str
    plan: Plan
    observed: Observed


def _check(request: Request) -> None:
    """Problem (usage) where the query for requests under way cannot work."""
    if request.gently is None or not request.gently.in_flight:
        return
    from killswitch.adapters.promql import PromqlChecker

    try:
        PromqlChecker().check("--in-flight", request.gently.in_flight)
    except InvalidPolicyError as error:
        raise Problem("read --in-flight", error.problem, error.cure, ExitCode.USAGE) from error


async def _lock(
    session: Session, screen: Screen, request: Request, prepared: _Prepared
) -> tuple[Plan, list[_Engaged], list[Problem]]:
    """The plan, its engaged Shutdowns and those that were not let in; a Problem where none was."""
    plan, observed, decided = prepared.plan, prepared.observed, session.clock.now()
    terms = _terms(prepared.me, request)
    own = object_name(prepared.me, decided)
    if not plan.stops:
        raise await hopeless.nothing(session, request.scope, plan, observed, name=own, terms=terms)
    for each in observed.ungoverned:
        await govern(session, each)
    made = orders.for_stops(own, plan.stops, terms)
    several = len(made) > 1

    async def lock(order: Order) -> _Engaged | Problem:
        try:
            shutdown = await _engage(session, order, observed)
        except Problem as problem:
            return problem
        outcome = Outcome(stages={"decided": decided, "locked": session.clock.now()})
        nodes = any(stop.nodes for stop in order.stops)
        place = order.name if len({o.namespace for o in made}) < len(made) else order.namespace
        progress = Progress(
            screen,
            outcome,
            decided,
            nodes=nodes,
            place=place if several else "",
            graceful=request.gently is not None,
        )
        progress.locked(shutdown)
        unseen = tuple(holdings.unseen(shutdown["spec"], observed.inventory))
        return _Engaged(order, shutdown, outcome, progress, request.prometheus, unseen)

    answers = await asyncio.gather(*(lock(order) for order in made))
    engaged = [each for each in answers if isinstance(each, _Engaged)]
    refused = [each for each in answers if isinstance(each, Problem)]
    if not engaged:
        raise refused[0]
    return plan, engaged, refused


def _terms(me: str, request: Request) -> Terms:
    graceful = None
    if request.gently is not None:
        graceful = Graceful(
            # Of nodes no traffic is cut: their pods are evicted at once.
            drain="0s" if request.scope.nodes else request.gently.drain,
            terminate=request.gently.terminate,
            in_flight=request.gently.in_flight,
        )
    return Terms(
        me,
        request.reason,
        request.approvals,
        request.deadline,
        graceful=graceful,
        quiet=request.quiet,
        node_action=request.scope.node_action,
    )


async def _carry_out(session: Session, screen: Screen, engaged: _Engaged) -> Ended:
    """Everything after the lock."""
    shutdown, order, outcome = engaged.shutdown, engaged.order, engaged.outcome
    async with asyncio.TaskGroup() as group:
        group.create_task(testimony.begun(session, shutdown, outcome))
        group.create_task(_execute(session, engaged))
    engaged.progress.rest()
    ended = await conclude(
        session, screen, shutdown, order.stops, outcome, place=engaged.progress.place
    )
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_MARGIN):
            await testimony.ended(session, shutdown, outcome)
    return ended


def _interrupted(request: Request, engaged: Sequence[_Engaged]) -> Interrupted:
    """What holds though the person has stopped looking."""
    shutdown = engaged[0].shutdown
    resource = SHUTDOWNS if shutdown["kind"] == SHUTDOWNS.kind else CLUSTER_SHUTDOWNS
    names = shutdown["metadata"]["name"], shutdown["metadata"].get("namespace", "")
    more = f", as {len(engaged) - 1} more are," if len(engaged) > 1 else ""
    why = (
        f"by Ctrl-C; {shown(resource, *names)} is engaged{more} and holds {held_until(shutdown)}. "
        "What was not stopped by now is left to the operator, where one runs"
    )
    cure = f"see how far it came: {PROGRAM} why {argument(resource, *names)}"
    if len(engaged) > 1:
        cure = f"see how far they came: {PROGRAM} status -A"
    return Interrupted(f"stop {request.scope}, after the lock", why, cure)


async def _engage(session: Session, order: Order, observed: Observed) -> Json:
    """The engaged Shutdown."""
    sequence = StopSequence(session.cluster, session.clock, records_namespace=_RECORDS_NAMESPACE)
    try:
        return await insist(session, observed, lambda: sequence.engage(order))
    except RefusedError as error:
        raise hopeless.refused(order, error, observed) from error


async def _execute(session: Session, engaged: _Engaged) -> None:
    """Run the sequence; whatever stops it is noted, since by now the lock holds."""
    shutdown, outcome = engaged.shutdown, engaged.outcome
    seconds = grace.longest(shutdown["spec"])
    until = session.clock.monotonic() + seconds

    async def told() -> None:
        await testimony.begun(session, shutdown, outcome)

    try:
        with _source(engaged.prometheus) as source:
            sequence = StopSequence(
                session.cluster,
                session.clock,
                records_namespace=_RECORDS_NAMESPACE,
                source=source,
            )
            async with asyncio.timeout(seconds + _MARGIN):
                await sequence.execute(
                    shutdown,
                    engaged.order.stops,
                    until=until,
                    report=engaged.progress.reached,
                    outcome=outcome,
                    told=told,
                    unseen=lambda: engaged.unseen,
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


@contextlib.contextmanager
def _source(url: str | None) -> Iterator[SignalSource | None]:
    """Whom to ask for requests under way; nobody, where no Prometheus was named."""
    if url is None:
        yield None
        return
    from killswitch.adapters.prometheus import PrometheusSource

    source = PrometheusSource(url)
    try:
        yield source
    finally:
        source.close()
