"""`plan`: what a policy, or a person with these flags, would stop now. Changes nothing."""

from collections.abc import Sequence
from dataclasses import replace

from killswitch.api.acceptance import accept
from killswitch.api.compiled import CompiledPolicy
from killswitch.api.policies import Mode
from killswitch.cli import caps, guards, observe, radius, render, scope, surroundings
from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.observe import BOUNDARIES, Observed
from killswitch.cli.scope import Scope
from killswitch.cli.screen import Screen, Span, Tone
from killswitch.cli.surroundings import Ask
from killswitch.core import blast, interlocks, kinds, plans, ranks
from killswitch.core.blast import Blast
from killswitch.core.caps import Spending
from killswitch.core.interlocks import Inhibition, Request
from killswitch.core.queries import TargetQuery
from killswitch.core.ranks import Part
from killswitch.core.resources import CLUSTER_POLICIES, NAMESPACES, NODES, PODS, POLICIES
from killswitch.core.stops import Plan
from killswitch.ports import Json

_ASK = Ask()
_NO_WORKLOADS = frozenset({PODS.kind, NAMESPACES.kind, NODES.kind})
"""Kinds of targets that are no kinds of workloads."""


async def for_scope(session: Session, screen: Screen, chosen: Scope, ask: Ask = _ASK) -> ExitCode:
    """What `stop` with the same flags would do."""
    observed = await look(session, chosen)
    govern_in_thought(observed)
    plan = scope.plan(chosen, session.namespace, observed.inventory, BOUNDARIES, observed.catalogue)
    found = show(screen, chosen, plan, observed, session.namespace)
    answer = await _reach(session, screen, plan, observed)
    whole = await around(session, screen, plan, observed, found, ask)
    more = {"unseen": observed.unseen, "governsFirst": observed.ungoverned}
    screen.answer({**answer, "blastRadius": whole, **more}, names(plan))
    return ExitCode.OK


async def for_policy(
    session: Session, screen: Screen, name: str, *, cluster: bool, ask: Ask = _ASK
) -> ExitCode:
    """What the policy would stop if it fired now, and whether its limits let it."""
    resource = CLUSTER_POLICIES if cluster else POLICIES
    body = await session.cluster.get(resource, name, session.namespace)
    policy = accept(body, lambda _field, _query: None)
    seen = await _look_for(session, policy.queries, policy.node_action)
    plan = plans.for_policy(
        policy.queries, seen.inventory, BOUNDARIES, node_action=policy.node_action
    )
    cap = await caps.spending(session, body, plan)
    found = interlocks.inhibition(_request(policy, plan, session.clock.now(), cap))
    screen.line(f"If {policy} fired now, it would stop {render.summary(plan)}:")
    render.show(screen, plan, seen.inventory)
    _remarks(screen, seen, policy.queries, plan)
    reached = blast.of(plan, seen.inventory, policy.queries, seen.owners)
    radius.say(screen, reached)
    answer = await _reach(session, screen, plan, seen)
    ask = replace(ask, quiet=policy.quiet)
    whole = await around(session, screen, plan, seen, reached, ask)
    screen.line(
        f"Limits: {plan.count} of at most {policy.max_targets} targets; "
        f"{plan.percent:.0f} % of {plan.eligible} eligible, at most {policy.max_percent} %"
    )
    caps.say(screen, body, cap)
    _verdict(screen, found)
    answer["limits"] = {"maxTargets": policy.max_targets, "maxPercent": policy.max_percent}
    answer["inhibited"] = (
        None if found is None else {"cause": str(found.cause), "message": found.message}
    )
    screen.answer({**answer, "blastRadius": whole, "unseen": seen.unseen}, names(plan))
    return ExitCode.OK


async def look(session: Session, chosen: Scope) -> Observed:
    """The lists that this scope needs."""
    if chosen.nodes:
        return await observe.nodes(session, chosen.node_action)
    wanted: frozenset[str] = frozenset()
    if any(each.kind not in kinds.TABLE for each in chosen.workloads):
        wanted = chosen.beyond((await session.kinds())[0])
    if chosen.everywhere:
        return await observe.everywhere(session, wanted)
    return await observe.namespaces(session, [session.namespace], wanted)


async def _look_for(session: Session, queries: Sequence[TargetQuery], node_action: str) -> Observed:
    """The lists that a policy's targets need."""
    if all(query.kind == NODES.kind for query in queries):
        return await observe.nodes(session, node_action)
    wanted = frozenset(q.kind for q in queries) - kinds.TABLE.keys() - _NO_WORKLOADS
    if any(not query.namespace for query in queries):
        return await observe.everywhere(session, wanted)
    return await observe.namespaces(session, (query.namespace for query in queries), wanted)


def asked(chosen: Scope, observed: Observed, namespace: str) -> list[TargetQuery]:
    """What the scope names, its labels included."""
    labels = [TargetQuery(PODS.kind, namespace, labels=chosen.labels)] if chosen.labels else []
    return [*chosen.queries(namespace, observed.catalogue), *labels]


def govern_in_thought(observed: Observed) -> None:
    """Plan as if the namespaces were governed, since a stop governs them first."""
    for name in observed.ungoverned:
        labels = observed.inventory.namespaces[name]
        observed.inventory.namespaces[name] = {**labels, BOUNDARIES.governed_label: "true"}


def show(
    screen: Screen,
    chosen: Scope,
    plan: Plan,
    observed: Observed,
    namespace: str,
    *,
    act: str = "Stop",
    held: str = "Held",
) -> Blast:
    """The plan of a scope in words; what more is known of it."""
    place = chosen.place or ("" if chosen.nodes else f" in {namespace}")
    screen.line(Span(f"{act} {chosen}{place}", Tone.STRONG), f": {render.summary(plan)}")
    render.show(screen, plan, observed.inventory, held=held)
    for name in observed.ungoverned:
        if name not in BOUNDARIES.protected:
            screen.line(
                f"Governed first: namespace {name} (label {BOUNDARIES.governed_label}=true)"
            )
    queries = asked(chosen, observed, namespace)
    _remarks(screen, observed, queries, plan)
    found = blast.of(plan, observed.inventory, queries, observed.owners)
    if held == "Held":  # a freeze loses nothing and brings nothing to rest
        radius.say(screen, found)
    return found


async def around(  # noqa: PLR0917 - what is known, in the order in which it was found
    session: Session, screen: Screen, plan: Plan, observed: Observed, found: Blast, ask: Ask
) -> Json:
    """Say what stands around the plan; the whole blast radius for programs."""
    seen = await surroundings.look(session, plan, observed, ask)
    whole = blast.beside(found, plan, observed.inventory, seen.around)
    radius.say_around(screen, whole, seen)
    return {} if screen.for_people else radius.value(whole, seen)


async def _reach(session: Session, screen: Screen, plan: Plan, observed: Observed) -> Json:
    """Say how fast the plan's pods stop and which ranks it parts; the plan for programs."""
    pods = [pod for stop in plan.stops for pod in stop.pods]
    found, now = await guards.of_nodes(session, (pod.node for pod in pods)), session.clock.now()
    guards.say_reach(screen, pods, found, now)
    parted = parts(plan, observed)
    say_parts(screen, parted)
    value = {} if screen.for_people else render.value(plan, observed.inventory)
    guarded = guards.reach_value(pods, found, now)
    return {**value, "nodeGuards": guarded, "partedRanks": [str(each) for each in parted]}


def parts(plan: Plan, observed: Observed) -> list[Part]:
    """The groups of ranks that the plan takes apart."""
    places = dict.fromkeys(stop.namespace for stop in plan.stops if stop.namespace)
    everything = [pod for place in places for pod in observed.inventory.pods_in(place)]
    return ranks.parts((pod for stop in plan.stops for pod in stop.pods), everything)


def say_parts(screen: Screen, parted: Sequence[Part]) -> None:
    """That the others may give up on those that are meant."""
    for each in parted:
        said = f": {each} only: the others wait for them, and end when their timeouts trip"
        screen.line(Span("Parted", Tone.WARN), said)


def _remarks(
    screen: Screen, observed: Observed, queries: Sequence[TargetQuery], plan: Plan
) -> None:
    """What could not be looked at and may hide a part of it."""
    hiding = observed.hides(queries, plan)
    refused = [key for key in hiding if key in observed.refused]
    if refused:
        words = f": {', '.join(refused)}: you may not list them, so what is of them is not known"
        screen.line(Span("Not seen", Tone.WARN), words)
    for key in hiding:
        if key not in observed.refused:
            screen.line(Span("Not seen", Tone.WARN), f": {key}: {observed.hidden[key]}")


def _verdict(screen: Screen, found: Inhibition | None) -> None:
    if found is None:
        screen.line(Span("Would act", Tone.GOOD), ": within its limits")
    else:
        screen.line(Span("Would not act", Tone.WARN), f": {found.cause}: {found.message}")


def _request(policy: CompiledPolicy, plan: Plan, now: float, spending: Spending | None) -> Request:
    """The interlocks about the plan itself; cooldown and bypasses are `status`'s to tell."""
    return Request(
        dry_run=policy.mode is Mode.DRY_RUN,
        bypass="mode is Disabled" if policy.mode is Mode.DISABLED else None,
        cooldown_ends=None,
        plan=plan,
        max_targets=policy.max_targets,
        max_percent=policy.max_percent,
        now=now,
        spending=spending,
    )


def names(plan: Plan) -> list[str]:
    """What `-o name` prints of it."""
    workloads = [f"{each.kind.word}/{each.name}" for stop in plan.stops for each in stop.targets]
    return [*workloads, *(f"node/{node.name}" for stop in plan.stops for node in stop.nodes)]
