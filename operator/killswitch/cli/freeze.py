"""`freeze`: containment for a while, by the person's own rights; node guards carry it out.

Nothing here freezes anything: the Freeze is created, and the reports of the guards say what came
of it. A freeze that cannot work is refused before anything is changed.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from killswitch.api import orders
from killswitch.api.orders import FreezeTerms, Order
from killswitch.cli import freezes, freezing, guards, kernel, render
from killswitch.cli import plan as planning
from killswitch.cli import scope as scopes
from killswitch.cli.connect import Session
from killswitch.cli.creating import govern, insist, object_name
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.freezing import Prospect, Request
from killswitch.cli.observe import BOUNDARIES
from killswitch.cli.problems import PROGRAM, Interrupted
from killswitch.cli.references import argument, shown
from killswitch.cli.screen import Screen, Span, Tone
from killswitch.core import conditions, durations, locks
from killswitch.core.conditions import FreezeCondition
from killswitch.core.errors import ConflictError, KillSwitchError, RefusedError
from killswitch.core.inventory import Pod
from killswitch.core.reports import Word
from killswitch.core.resources import FREEZES
from killswitch.ports import Json

_LONGEST = 5.0
"""Seconds within which guards freeze and report: they report once a second at most."""
_LOOK = 0.25
_SHOWN = 20


@dataclass(slots=True)
class Seen:
    """What the guards have said of the pods that were to be frozen."""

    frozen: dict[str, Word | None] = field(default_factory=dict)
    """By uid; None where only the operator says so."""
    failed: dict[str, str] = field(default_factory=dict)
    """What went wrong last, by uid."""
    counted: tuple[int, int] | None = None
    """Frozen and covered, as the operator says that all are: for who may not list the pods."""

    def count(self, seen: Prospect) -> tuple[int, int]:
        """How many are frozen, of how many."""
        return self.counted or (len(self.frozen), len(seen.pods))


async def show(session: Session, screen: Screen, request: Request) -> ExitCode:
    """What `freeze` would do, or why it would not. Changes nothing."""
    seen = await _look(session, screen, request)
    value = render.value(seen.plan, seen.observed.inventory)
    reached = guards.reach_value(seen.pods, seen.guards, seen.now)
    answer = {**value, "nodeGuards": reached, "warnings": _warnings(seen)}
    screen.answer(answer, planning.names(seen.plan))
    return ExitCode.OK


async def freeze(session: Session, screen: Screen, request: Request) -> ExitCode:
    """Order, observe."""
    begun = session.clock.now()
    seen = await _look(session, screen, request)
    for each in seen.observed.ungoverned:
        await govern(session, each)
    body = await _order(session, request, seen, begun)
    _step(session, screen, begun, "ordered", _named(body))
    try:
        outcome = await _observe(session, body, seen)
    except asyncio.CancelledError:  # Ctrl-C
        raise _interrupted(request, body) from None
    _step(session, screen, begun, "seen", _observed(body, seen, outcome))
    others = await _others(session, body, seen)
    return _conclude(session, screen, request, body, seen, outcome=outcome, others=others)


async def _others(session: Session, body: Json, seen: Prospect) -> list[Json]:
    """Other Freezes in force over the same pods that end in a stop: this one does not prevent it."""
    return [
        each
        for each in await freezes.in_force(session)
        if each["metadata"]["uid"] != body["metadata"]["uid"]
        and each["spec"]["onExpiry"] == "Stop"
        and any(locks.covers(each, pod) for pod in seen.pods)
    ]


async def _look(session: Session, screen: Screen, request: Request) -> Prospect:
    """What it would meet, shown; a Problem where it cannot work."""
    scope, namespace = request.scope, session.namespace
    who, observed, lacking, unlocked = await asyncio.gather(
        freezing.asker(session),
        planning.look(session, scope),
        kernel.lacking(session.cluster, FREEZES),
        kernel.lacking(session.cluster),
    )
    if (lacking or unlocked) and namespace not in BOUNDARIES.protected:
        raise freezing.not_installed(request, namespace, lacking or unlocked)
    planning.govern_in_thought(observed)
    plan = scopes.plan(scope, namespace, observed.inventory, BOUNDARIES, observed.catalogue)
    planning.show(screen, scope, plan, observed, namespace, act="Freeze", held="Covered")
    seen = await freezing.prospect(session, who, plan, observed, request.seconds)
    freezing.refuse(request, seen, namespace)
    for word, words in freezing.warnings(seen):
        screen.line(Span(word, Tone.WARN), f": {words}")
    planning.say_parts(screen, planning.parts(plan, observed))
    return seen


def _warnings(seen: Prospect) -> list[str]:
    told = freezing.warnings(seen)
    parted = planning.parts(seen.plan, seen.observed)
    return [*(f"{word}: {words}" for word, words in told), *(f"Parted: {each}" for each in parted)]


async def _order(session: Session, request: Request, seen: Prospect, begun: float) -> Json:
    """The Freeze as the API server has it."""
    until = seen.asker.now(session) + request.seconds
    terms = FreezeTerms(seen.asker.name, request.reason, until, request.then, request.approvals)
    # A scope gives one stop of one place, and that is one order.
    order = orders.freeze_for_stops(object_name(seen.asker.name, begun), seen.plan.stops, terms)[0]
    try:
        return await insist(session, seen.observed, lambda: _create(session, order))
    except RefusedError as error:
        raise freezing.not_ordered(request, session.namespace, error) from error


async def _create(session: Session, order: Order) -> Json:
    try:
        return await session.cluster.create(order.resource, order.body, order.namespace)
    except ConflictError:  # the answer to an attempt before this one was lost
        return await session.cluster.get(order.resource, order.name, order.namespace)


async def _observe(session: Session, body: Json, seen: Prospect) -> Seen:
    """Look until every pod that a guard watches is frozen, at most for `_LONGEST`."""
    outcome = Seen()
    until = session.clock.monotonic() + _LONGEST
    while True:
        if seen.guards.unknown or seen.observed.blind:
            over = await _ask_operator(session, body, seen, outcome)
        else:
            left = [pod for pod in seen.reach.guarded if pod.uid not in outcome.frozen]
            over = not await _ask_guards(session, left, outcome)
        if over or session.clock.monotonic() >= until:
            return outcome
        await session.clock.sleep(_LOOK)


async def _ask_guards(session: Session, pods: Iterable[Pod], outcome: Seen) -> list[Pod]:
    """Those of the pods that are not frozen yet."""
    asked = list(pods)
    found = await guards.of_nodes(session, (pod.node for pod in asked))
    for pod in asked:
        word = found.word(pod)
        if word is not None and word.frozen:
            outcome.frozen[pod.uid] = word
        elif word is not None and word.state == "Failed":
            outcome.failed[pod.uid] = word.message
    return [pod for pod in asked if pod.uid not in outcome.frozen]


async def _ask_operator(session: Session, body: Json, seen: Prospect, outcome: Seen) -> bool:
    """Whether the manager has read that all are frozen, where the user may not read it."""
    metadata = body["metadata"]
    try:
        current = await session.cluster.get(FREEZES, metadata["name"], metadata["namespace"])
    except KillSwitchError:  # the Freeze is in force all the same
        return False
    said = current.get("status") or {}
    if not conditions.holds(said.get("conditions") or (), FreezeCondition.FROZEN):
        return False
    outcome.frozen.update(dict.fromkeys((pod.uid for pod in seen.pods), None))
    outcome.counted = said.get("frozen", 0), said.get("pods", 0)
    return True


def _observed(body: Json, seen: Prospect, outcome: Seen) -> str:
    slowest = _slowest(body, seen, outcome)
    frozen, pods = outcome.count(seen)
    words = f"{frozen} of {pods} pods are frozen"
    if slowest is None:
        return words
    node, took = slowest
    return f"{words}; the slowest {durations.text(took)} from the order heard on {node}"


def _slowest(body: Json, seen: Prospect, outcome: Seen) -> tuple[str, float] | None:
    """Of those that were frozen for this Freeze: what was frozen before took no time."""
    order = (FREEZES.kind, body["metadata"]["namespace"], body["metadata"]["name"])
    words = ((pod.node, outcome.frozen.get(pod.uid)) for pod in seen.pods)
    took = [
        (node, word.took)
        for node, word in words
        if word is not None and word.order == order and word.took is not None
    ]
    return max(took, key=lambda each: each[1], default=None)


def _conclude(
    session: Session,
    screen: Screen,
    request: Request,
    body: Json,
    seen: Prospect,
    *,
    outcome: Seen,
    others: Sequence[Json],
) -> ExitCode:
    """The last words and the exit code: OK only for what was observed."""
    left = {pod.uid: _why(pod, seen, outcome) for pod in seen.pods if pod.uid not in outcome.frozen}
    frozen, _ = outcome.count(seen)
    done = frozen > 0 and not left
    spec, place = body["spec"], (body["metadata"]["name"], body["metadata"]["namespace"])
    then = "they go on" if spec["onExpiry"] == "Thaw" else "they are stopped and held"
    end = f"until {spec['until']} (for {durations.text(request.seconds)}), then {then}"
    if done:
        screen.line(Span("Frozen", Tone.GOOD), f": {render.count(frozen, 'pod')}, {end}")
    else:
        named = (
            f"{render.count(len(left), 'pod')} of {len(seen.pods)}"
            if left
            else "no pod was seen frozen"
        )
        words = f": {named}; what is frozen is so {end}"
        screen.line(Span("Not frozen", Tone.BAD), words)
    _name(screen, seen.pods, left)
    stopping = [each["metadata"]["name"] for each in others]
    for each in others:
        name, end = each["metadata"]["name"], each["spec"]["until"]
        again = f"{PROGRAM} thaw {name} -n {session.namespace} --reason …"
        words = f": Freeze {name} stops them at {end} all the same; if not meant: {again}"
        screen.line(Span("Ends in a stop", Tone.WARN), words)
    screen.line(f"End it: {PROGRAM} thaw {argument(FREEZES, *place)} --reason …")
    flags = f"{request.scope.flags} -n {session.namespace}"
    screen.line(
        f"Prolong it: {PROGRAM} freeze {flags} --for … --then {request.then.lower()} --reason …"
    )
    screen.line(f"For good: {freezing.instead(request.scope, session.namespace)}")
    answer = _answer(body, seen, outcome, left, done=done)
    answer |= {"warnings": _warnings(seen), "stoppedBy": stopping}
    screen.answer(answer, f"freeze.{FREEZES.group}/{place[0]}")
    return ExitCode.OK if done else ExitCode.NOT_VERIFIED


def _why(pod: Pod, seen: Prospect, outcome: Seen) -> str:
    if pod.uid in outcome.failed:
        return f"its guard failed: {outcome.failed[pod.uid]}"
    if not pod.node:
        return "it has no node yet; it is frozen as it starts, where a guard is"
    if seen.guards.unknown:
        return "nobody has said that it is frozen"
    if seen.guards.live(pod.node, seen.now):
        return "its guard has not said that it is frozen"
    return "no live node guard"


def _name(screen: Screen, pods: Iterable[Pod], left: Mapping[str, str]) -> None:
    named = [pod for pod in pods if pod.uid in left]
    for pod in named[:_SHOWN]:
        where = f" on {pod.node}" if pod.node else ""
        screen.line(f"  pod {pod.namespace}/{pod.name}{where}: {left[pod.uid]}")
    render.more(screen, named, _SHOWN)


def _answer(
    body: Json, seen: Prospect, outcome: Seen, left: Mapping[str, str], *, done: bool
) -> Json:
    slowest = _slowest(body, seen, outcome)
    return {
        "kind": body["kind"],
        "namespace": body["metadata"]["namespace"],
        "name": body["metadata"]["name"],
        "frozen": done,
        "until": body["spec"]["until"],
        "onExpiry": body["spec"]["onExpiry"],
        "pods": outcome.count(seen)[1],
        "frozenPods": outcome.count(seen)[0],
        "slowest": None if slowest is None else {"node": slowest[0], "seconds": round(slowest[1], 6)},
        "left": [
            {"namespace": pod.namespace, "pod": pod.name, "node": pod.node, "why": left[pod.uid]}
            for pod in seen.pods
            if pod.uid in left
        ],
    }  # fmt: skip


def _step(session: Session, screen: Screen, begun: float, stage: str, words: str) -> None:
    after = durations.text(max(0.0, session.clock.now() - begun))
    screen.line(f"  {after:>9}  ", Span(f"{stage:<9}", Tone.GOOD), words)


def _named(body: Json) -> str:
    return shown(FREEZES, body["metadata"]["name"], body["metadata"]["namespace"])


def _interrupted(request: Request, body: Json) -> Interrupted:
    """What holds though the person has stopped looking."""
    why = f"by Ctrl-C; {_named(body)} is in force until {body['spec']['until']}"
    place = argument(FREEZES, body["metadata"]["name"], body["metadata"]["namespace"])
    cure = f"see how far it came: {PROGRAM} why freeze/{place}"
    return Interrupted(f"freeze {request.scope}, after the order", why, cure)
