"""`thaw`: what is frozen goes on before its time. One act, by whoever froze or holds the verb thaw.

The API server decides; refusals are explained from facts that are read afterwards.
"""

import contextlib
import re
from collections.abc import Iterable

from killswitch.access import allowed
from killswitch.cli import freezes, guards, observe
from killswitch.cli.connect import Session
from killswitch.cli.consent import no_verb
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.guards import Guards
from killswitch.cli.problems import PROGRAM, Problem, explained, not_installed
from killswitch.cli.references import argument, parse, shown
from killswitch.cli.screen import Screen, Span, Tone
from killswitch.core import conditions, locks
from killswitch.core.conditions import FreezeCondition, Reason
from killswitch.core.errors import KillSwitchError, NotFoundError, RefusedError
from killswitch.core.inventory import Pod
from killswitch.core.names import ENGAGED_LABEL
from killswitch.core.resources import CLUSTER_SHUTDOWNS, FREEZES, SHUTDOWNS
from killswitch.ports import Json

_LONGEST = 5.0
"""Seconds within which guards let go and report."""
_LOOK = 0.25


async def thaw(session: Session, screen: Screen, text: str, reason: str) -> ExitCode:
    """Order it, and look until nothing is frozen by it any more."""
    name = parse(text, allowed=(FREEZES,)).name
    body = await _find(session, name)
    me = await session.cluster.whoami()
    what = shown(FREEZES, name, session.namespace)
    if freezes.ended(body):
        raise _over(body, what, session.namespace)
    if body["spec"].get("thaw"):
        screen.line(f"{what} is being thawed already, ordered by {body['spec']['thaw']['by']}.")
    else:
        change = {"spec": {"thaw": {"by": me, "reason": reason}}}
        try:
            body = await session.cluster.patch(FREEZES, name, change, session.namespace)
        except RefusedError as error:
            raise await _refused(session, name, me, error) from error
        screen.line(Span("Thaw ordered", Tone.GOOD), f" for {what} by {me}.")
    pods = await observe.covered(session, body)
    holders = await _holders(session, pods or [])
    # What another order keeps from computing is not this one's to let go.
    free = [p for p in pods or () if not any(locks.covers(each, p) for each in holders)]
    body, left = await _observe(session, body, None if pods is None else free)
    return _conclude(session, screen, body, holders, left)


async def _find(session: Session, name: str) -> Json:
    try:
        return await session.cluster.get(FREEZES, name, session.namespace)
    except NotFoundError as error:
        if not_installed(error):
            raise
        why = f"there is none of that name in namespace {session.namespace}"
        found = await freezes.in_force(session)
        if not found:
            cure = f"no Freeze is in force there; see elsewhere: {PROGRAM} status -A"
            raise Problem(f"thaw {name}", why, cure) from error
        named = ", ".join(
            f"{each['metadata']['name']} (until {each['spec']['until']})" for each in found
        )
        raise Problem(f"thaw {name}", why, f"in force there: {named}") from error


def _over(body: Json, what: str, namespace: str) -> Problem:
    """It holds nothing any more."""
    found = conditions.find(
        (body.get("status") or {}).get("conditions") or (), FreezeCondition.ENDED
    )
    why = f"it has ended: {found['message']}" if found else "it has ended"
    cure = f"nothing is left to thaw by it; see what else holds: {PROGRAM} status -n {namespace}"
    if found is not None and found["reason"] == Reason.STOPPED:
        # The reactor names it last of all, and only there: it may have had to take another name.
        named = re.search(r"Shutdown (\S+)", found["message"])
        name = named[1] if named else f"{body['metadata']['name']}-expired"
        stop = argument(SHUTDOWNS, name, namespace)
        cure = f"it has become a stop, which people release: {PROGRAM} approve {stop} --reason …"
    return Problem(f"thaw {what}", why, cure)


async def _refused(session: Session, name: str, me: str, error: RefusedError) -> Problem:
    namespace = session.namespace
    what = f"thaw {shown(FREEZES, name, namespace)}"
    if me.startswith(("system:serviceaccount:", "system:node:")):
        why = f"you are {me}: only people thaw, no service account or node"
        again = f"{PROGRAM} thaw {argument(FREEZES, name, namespace)} --reason …"
        return Problem(what, why, f"log in as a person, then: {again}", ExitCode.REFUSED)
    for verb in ("thaw", "patch"):
        if not await allowed(session.cluster, verb, FREEZES, name, namespace):
            return no_verb(what, verb, FREEZES, me, namespace)
    return explained(what, error, namespace)


async def _observe(
    session: Session, body: Json, pods: list[Pod] | None
) -> tuple[Json, list[Pod] | None]:
    """The Freeze at last, and the pods that it still freezes; None where nobody has said."""
    until = session.clock.monotonic() + _LONGEST
    while True:
        found = await guards.of_nodes(session, (pod.node for pod in pods or ()))
        left = None if pods is None or found.unknown else _still(pods, body, found)
        metadata = body["metadata"]
        body = await session.cluster.get(FREEZES, metadata["name"], metadata["namespace"])
        # The manager writes the end at once, and guards report what they did up to a second later.
        told = left == [] or (left is None and freezes.ended(body))
        if told or session.clock.monotonic() >= until:
            return body, left
        await session.clock.sleep(_LOOK)


def _still(pods: Iterable[Pod], body: Json, found: Guards) -> list[Pod]:
    order = (FREEZES.kind, body["metadata"]["namespace"], body["metadata"]["name"])
    words = ((pod, found.word(pod)) for pod in pods)
    return [
        pod for pod, word in words
        if word is not None and word.order == order and word.state in {"Frozen", "Failed"}
    ]  # fmt: skip


def _conclude(
    session: Session, screen: Screen, body: Json, holders: list[Json], left: list[Pod] | None
) -> ExitCode:
    what = shown(FREEZES, body["metadata"]["name"], session.namespace)
    done = left == [] or (not left and freezes.ended(body))
    if done:
        screen.line(Span("Thawed", Tone.GOOD), f": nothing is frozen by {what} any more.")
    else:
        unseen = "whether its pods go on could not be seen: what its guards say is not known"
        words = unseen if left is None else f"{_count(len(left))} still frozen by it"
        screen.line(Span("Not seen thawed", Tone.BAD), f": {words}")
        for pod in left or ():
            screen.line(f"  pod {pod.namespace}/{pod.name} on {pod.node}")
        screen.line(f"Next: see whether its guards live: {PROGRAM} status -n {session.namespace}")
    held = [(each["kind"], each["metadata"]["name"]) for each in holders]
    for kind, name in held:
        verb = "thaw" if kind == FREEZES.kind else "approve"
        flag = " --cluster" if kind == CLUSTER_SHUTDOWNS.kind else f" -n {session.namespace}"
        again = f"{PROGRAM} {verb} {name}{flag} --reason …"
        screen.line(Span("Still held", Tone.WARN), f": by {kind} {name}: {again}")
    answer = {
        "kind": body["kind"],
        "namespace": session.namespace,
        "name": body["metadata"]["name"],
        "thaw": body["spec"].get("thaw"),
        "thawed": done,
        "left": None if left is None else [f"{pod.namespace}/{pod.name}" for pod in left],
        "heldBy": [f"{kind}/{name}" for kind, name in held],
    }
    screen.answer(answer, f"freeze.{FREEZES.group}/{body['metadata']['name']}")
    return ExitCode.OK if done else ExitCode.NOT_VERIFIED


async def _holders(session: Session, pods: list[Pod]) -> list[Json]:
    """What else keeps these pods from computing."""
    labels = f"{ENGAGED_LABEL}=true"
    found = await freezes.in_force(session)
    for kind in (SHUTDOWNS, CLUSTER_SHUTDOWNS):
        with contextlib.suppress(KillSwitchError):
            items = (await session.cluster.list(kind, session.namespace, labels=labels)).items
            found += [each for each in items if locks.engaged(each)]
    return [each for each in found if any(locks.covers(each, pod) for pod in pods)]


def _count(pods: int) -> str:
    return "1 pod is" if pods == 1 else f"{pods} pods are"
