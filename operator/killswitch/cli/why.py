"""`why`: the story of a Shutdown or a Freeze, of a policy's standing, or of a workload that does not start.

Told from stored facts in the order in which they happened; what is not known is said to be so.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from killswitch.cli import board, contained, decided, find, guards, observe, pressure
from killswitch.cli import status as overview
from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.observe import Observed
from killswitch.cli.problems import PROGRAM, Problem
from killswitch.cli.references import argument, is_ours, parse, shown, workload
from killswitch.cli.scope import Named, kind_name
from killswitch.cli.screen import Cell, Screen, Span, Tone
from killswitch.core import conditions, durations, holdings, kinds, lock_keys, projections, times
from killswitch.core.conditions import ShutdownCondition
from killswitch.core.errors import KillSwitchError
from killswitch.core.inventory import Pod
from killswitch.core.kinds import Kind
from killswitch.core.locks import engaged, lacking
from killswitch.core.names import ENGAGED_LABEL
from killswitch.core.resources import (
    CLUSTER_POLICIES,
    CLUSTER_SHUTDOWNS,
    EVENTS,
    FREEZES,
    PODS,
    POLICIES,
    REPLICASETS,
    SHUTDOWNS,
    Resource,
)
from killswitch.core.stops import holds_pod
from killswitch.core.words import several
from killswitch.ports import Json

_STAGES = (
    "decided", "locked", "cut", "drained", "deleted", "recorded", "scaled", "proven", "stopped",
)  # fmt: skip
_FIGHTERS = 5


async def why(session: Session, screen: Screen, text: str) -> ExitCode:
    """Tell the story of whatever is named."""
    if not is_ours(text):
        return await _workload(session, screen, Named(*workload(text)))
    orders = (SHUTDOWNS, CLUSTER_SHUTDOWNS, FREEZES)
    reference = parse(text, allowed=(*orders, POLICIES, CLUSTER_POLICIES))
    resource, name = reference.resource, reference.name
    if resource is None or resource in orders:
        kind, body = await find.order(session, text)
        if kind == FREEZES:
            return await contained.freeze(session, screen, body)
        return await _shutdown(session, screen, kind, body)
    return await _policy(session, screen, resource, name)


async def _shutdown(session: Session, screen: Screen, resource: Resource, body: Json) -> ExitCode:
    name, namespace = body["metadata"]["name"], body["metadata"].get("namespace", "")
    evidence, events, now, did = await asyncio.gather(
        decided.evidence(session, resource, body),
        _denied(session, name, namespace),
        _live(session, body),
        guards.of_all(session),
    )
    static = [pod for pod in now or () if pod.mirror]
    now = None if now is None else [pod for pod in now if not pod.mirror]
    judged = board.shutdown(body)
    remark = f": {judged.why}" if judged.why else ""
    screen.line(Span(shown(resource, name, namespace), Tone.STRONG), "  ", judged.cell, remark)
    decided.say(screen, body, evidence)
    _stages(screen, body)
    _leftovers(screen, body)
    contained.say_killed(screen, body, did, static)
    if now is not None:
        screen.line(f"Now: {_pods_now(now)}")
    pressure.say_in_flight(screen, body)
    _people(screen, body)
    pressure.say_fighters(screen, body)
    if pressure.attempts(body):
        pressure.say_attempts(screen, body, session.clock.now())
    else:  # no operator counts them: what controllers wrote themselves
        for each in events:
            screen.line("Denied by the lock: ", each)
    screen.line(f"Next: {_next(resource, body)}")
    answer = overview.shutdown_value(body, judged)
    stages = (body.get("status") or {}).get("stages") or {}
    pods = None if now is None else [f"{pod.namespace}/{pod.name}" for pod in now]
    more = {"evidence": evidence, "stages": stages, "denied": events, "podsNow": pods}
    killed = contained.killed_value(body, did, static)
    screen.answer({**answer, **more, **killed}, name)
    return ExitCode.OK


async def _policy(session: Session, screen: Screen, resource: Resource, name: str) -> ExitCode:
    namespace = session.namespace if resource.namespaced else ""
    body = await session.cluster.get(resource, name, namespace)
    stored = await overview.gather(session, namespace)
    now = session.clock.now()
    judged = board.policy(body, overview.bypass(body, stored, now))
    remark = f": {judged.why}" if judged.why else ""
    screen.line(Span(shown(resource, name, namespace), Tone.STRONG), "  ", judged.cell, remark)
    rows: list[Sequence[Cell]] = [
        (each["type"], each["status"], each["reason"], each["message"])
        for each in board.observed(body)
    ]
    screen.table(("CONDITION", "STATUS", "REASON", "IN WORDS"), rows)
    screen.table(("SIGNAL", "VERDICT", "VALUE", "SINCE", "IN WORDS"), overview.signals(body, now))
    _reaction(screen, body)
    mine = [each for each in stored.of(SHUTDOWNS, CLUSTER_SHUTDOWNS) if _made_by(each, body)]
    for each in mine:
        screen.line(
            f"Fired: {_named(each)}  ", board.shutdown(each).cell, f": {each['spec']['reason']}"
        )
    target = f"{name} -n {namespace}" if namespace else name
    flag = "--policy" if resource.namespaced else "--cluster-policy"
    screen.line(f"Next: what it would stop now: {PROGRAM} plan {flag} {target}")
    answer = overview.policy_value(body, judged)
    screen.answer({**answer, "shutdowns": [_named(each) for each in mine]}, name)
    return ExitCode.OK


def _reaction(screen: Screen, body: Json) -> None:
    """How long it takes to decide, and by which paths."""
    reaction = (body.get("status") or {}).get("reaction")
    if reaction is None:
        screen.line("Reaction: not reckoned yet")
        return
    screen.line(f"Reaction: {reaction['message']}")
    for signal in reaction.get("signals") or ():
        for path in signal.get("paths") or ():
            screen.line(f"  {signal['name']} by {path}")


async def _workload(session: Session, screen: Screen, named: Named) -> ExitCode:
    catalogue, failure = await session.kinds()
    beyond = frozenset({kind_name(named, catalogue)}) - kinds.TABLE.keys()
    if beyond:  # asked for by name, it is known where its count stands
        catalogue, failure = await session.kinds(beyond)
    kind = catalogue.find(kind_name(named, catalogue))
    if kind is None:
        why = failure or "the cluster does not serve this kind"
        cure = "see which it serves: kubectl api-resources --namespaced"
        raise Problem(f"find {named.kind}/{named.name}", why, cure)
    place = session.namespace
    body = await session.cluster.get(kind.resource, named.name, place)
    seen, frozen = await asyncio.gather(
        observe.namespaces(session, [place], beyond),
        contained.of_workload(session, body),
    )
    holders = await _holders(session, seen, kind, body)
    screen.line(Span(f"{kind.name} {place}/{named.name}", Tone.STRONG), f"  {_state(kind, body)}")
    top = seen.inventory.top(body["metadata"]["uid"])
    if top is None and (owner := projections.controller(body["metadata"])):
        top = seen.inventory.top(owner)  # of a pod, which is no workload
    if top is not None and top.uid != body["metadata"]["uid"]:
        screen.line(f"Belongs to {top}: with it, all of that stops")
    for each in holders:
        given = board.approvals(each)
        screen.line(
            "Held by ",
            Span(_named(each), Tone.STRONG),
            f", approvals {given}: {each['spec']['reason']}",
        )
    contained.say_frozen(screen, frozen)
    if holders:
        resource = SHUTDOWNS if holders[0]["kind"] == SHUTDOWNS.kind else CLUSTER_SHUTDOWNS
        screen.line(f"Next: {_next(resource, holders[0])}")
    elif not frozen:
        screen.line("No engaged Shutdown holds it: killswitch does not keep it from running.")
    answer = {
        "holders": [_named(e) for e in holders],
        "belongsTo": str(top) if top is not None and top.uid != body["metadata"]["uid"] else None,
        "freezes": contained.frozen_value(frozen),
    }
    names = [_named(each) for each in (*holders, *(found.body for found in frozen))]
    screen.answer(answer, names)
    return ExitCode.OK


async def _holders(session: Session, seen: Observed, kind: Kind, body: Json) -> list[Json]:
    """Engaged Shutdowns whose rule covers it, what it belongs to, or a pod that it would make."""
    labels = f"{ENGAGED_LABEL}=true"
    stored = list((await session.cluster.list(SHUTDOWNS, session.namespace, labels=labels)).items)
    with contextlib.suppress(KillSwitchError):  # cluster-wide stops are not everybody's to see
        stored += (await session.cluster.list(CLUSTER_SHUTDOWNS, labels=labels)).items
    uid = body["metadata"]["uid"]
    pod = projections.pod(body) if kind.name == PODS.kind else _made(kind, body)
    found = []
    for each in stored:
        place = each["metadata"].get("namespace", "")
        plan = holdings.for_shutdown(each["kind"], place, each["spec"], seen.inventory)
        named = any(
            uid in lock_keys.owner_uids(target, seen.inventory)
            for stop in plan.stops
            for target in stop.targets
        )
        holds = pod is not None and any(holds_pod(stop, pod) for stop in plan.stops)
        if engaged(each) and (named or holds):
            found.append(each)
    return found


def _made(kind: Kind, body: Json) -> Pod:
    """A pod as the workload would make one, as far as locks look at it."""
    metadata, template = body["metadata"], body
    for part in kind.template or ():
        template = template.get(part) or {}
    labels = (template.get("metadata") or {}).get("labels") or {} if kind.template else {}
    keys = (f"uid/{metadata['uid']}", f"{kind.resource.key}/{metadata['name']}")
    return Pod(metadata["namespace"], "", "", "", metadata["uid"], labels, keys)


async def _live(session: Session, body: Json) -> list[Pod] | None:
    """Pods of what is held that run at this moment; None where that cannot be looked at."""
    places = [body["metadata"].get("namespace"), *(body["spec"].get("namespaces") or ())]
    chosen = [place for place in places if place]
    if not chosen:
        return None
    try:
        seen = await observe.namespaces(session, chosen)
    except KillSwitchError:
        return None
    if seen.hidden.keys() & {PODS.key, REPLICASETS.key}:
        return None
    plan = holdings.for_shutdown(body["kind"], chosen[0], body["spec"], seen.inventory)
    return [pod for stop in plan.stops for pod in stop.pods]


async def _denied(session: Session, name: str, namespace: str) -> list[str]:
    """Who ran against the lock, as far as their controllers wrote Warning events about it."""
    if not namespace:
        return []
    try:
        events = (await session.cluster.list(EVENTS, namespace, fields="type=Warning")).items
    except KillSwitchError:
        return []
    marks = (f"Shutdown {namespace}/{name} ", f"Shutdown {namespace}/{name}(")
    found: dict[str, int] = {}
    for event in events:
        if any(mark in event.get("message", "") for mark in marks):
            what = event["involvedObject"]
            source = (event.get("source") or {}).get("component") or event.get("reportingComponent")
            key = f"{source or 'unknown'} for {what['kind']} {what['name']}"
            found[key] = found.get(key, 0) + int(event.get("count") or 1)
    most = sorted(found.items(), key=lambda each: (-each[1], each[0]))[:_FIGHTERS]
    return [f"{who}, {pressure.times(count)}" for who, count in most]


def _pods_now(pods: Sequence[Pod]) -> str:
    if not pods:
        return "no pod of it runs"
    named = several([f"{pod.name} on {pod.node or 'no node yet'}" for pod in pods])
    return f"{len(pods)} of its pods exist: {named}"


def _stages(screen: Screen, body: Json) -> None:
    stages = (body.get("status") or {}).get("stages") or {}
    reached = [(name, times.seconds(stages[name])) for name in _STAGES if stages.get(name)]
    if not reached:
        screen.line("Stages: not reported yet (the lock holds from the creation on)")
        return
    start = reached[0][1]
    steps = (f"{name} +{durations.text(max(0.0, at - start))}" for name, at in reached[1:])
    screen.line(f"Stages: {reached[0][0]} {stages[reached[0][0]]}, {', '.join(steps)}")


def _leftovers(screen: Screen, body: Json) -> None:
    seen = body.get("status") or {}
    verified = conditions.find(board.observed(body), ShutdownCondition.VERIFIED)
    if verified is not None:
        took = f", {seen['elapsed']}" if seen.get("elapsed") else ""
        screen.line(f"Verified: {verified['status']}: {verified['message']}{took}")
    for each in seen.get("leftovers") or ():
        screen.line(
            f"  left: pod {each['namespace']}/{each['pod']} on {each.get('node') or 'no node'}"
        )


def _people(screen: Screen, body: Json) -> None:
    given = body["spec"].get("approvals") or {}
    for who, approval in sorted(given.items()):
        screen.line(f"Approved by {who}: {approval['reason']}")
    if needed := lacking(body):
        screen.line(
            f"Approvals: {board.approvals(body)}, {needed} more needed, not {body['spec']['requestedBy']}'s"
        )
    order = body["spec"].get("restore")
    if order:
        screen.line(f"Restore ordered by {order['by']}: {order['reason']}")


def _next(resource: Resource, body: Json) -> str:
    target = argument(resource, body["metadata"]["name"], body["metadata"].get("namespace", ""))
    if conditions.holds(board.observed(body), ShutdownCondition.RESTORED):
        return f"nothing; it may be deleted: kubectl delete {resource.plural}.{resource.group} {target}"
    if engaged(body):
        return f"let go: {PROGRAM} approve {target} --reason …"
    if body["spec"].get("restore"):
        return f"follow it: {PROGRAM} restore {target} --reason … --wait"
    return f"bring it back: {PROGRAM} restore {target} --reason …"


def _made_by(shutdown: Json, policy: Json) -> bool:
    return bool((shutdown["spec"].get("policy") or {}).get("uid") == policy["metadata"]["uid"])


def _named(shutdown: Json) -> str:
    kinds = {each.kind: each for each in (SHUTDOWNS, CLUSTER_SHUTDOWNS, FREEZES)}
    resource, metadata = kinds[shutdown["kind"]], shutdown["metadata"]
    return shown(resource, metadata["name"], metadata.get("namespace", ""))


def _state(kind: Kind, body: Json) -> str:
    """`1 of 2 replicas ready`, `at rest (spec.suspend: true)`, or the phase of a pod."""
    seen = body.get("status") or {}
    if kind.name == PODS.kind:
        return str(seen.get("phase", "not started"))
    if kind.counted:
        wanted = kind.settings[0].read(body)
        return f"{seen.get('readyReplicas', 0)} of {1 if wanted is None else wanted} replicas ready"
    if not kind.settings:
        return "has no state of rest"
    settings = ", ".join(str(each) for each in kind.settings)
    resting = all(each.read(body) == each.rest for each in kind.settings)
    return f"at rest ({settings})" if resting else f"not at rest (that would be {settings})"
