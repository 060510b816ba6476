"""`approve` and `restore`: the two acts by which people take a stop back.

The API server counts and refuses; nothing here decides. Refusals are explained from facts that
the command reads afterwards, never from the wording of the message.
"""

from collections.abc import Mapping
from typing import Any

from killswitch.access import allowed
from killswitch.cli import find, pressure
from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import PROGRAM, Problem, explained
from killswitch.cli.references import argument, shown
from killswitch.cli.screen import Screen, Span, Tone
from killswitch.core import conditions, durations, locks
from killswitch.core.conditions import Reason, ShutdownCondition
from killswitch.core.errors import RefusedError
from killswitch.core.resources import Resource
from killswitch.ports import Json

_LOOK = 0.5
"""Seconds between two looks of --wait."""
_REMIND = 10.0
"""Seconds after which --wait says again what it waits for."""


async def approve(session: Session, screen: Screen, text: str, reason: str) -> ExitCode:
    """Add the own approval; say how many are still needed."""
    resource, body = await find.shutdown(session, text)
    me = await session.cluster.whoami()
    name, namespace = body["metadata"]["name"], body["metadata"].get("namespace", "")
    if not locks.engaged(body):
        screen.line("It is released already: no approval is missing.")
    elif me in (body["spec"].get("approvals") or {}):
        screen.line(f"You ({me}) have approved already.")
    else:
        pressure.warn(screen, body, last=locks.lacking(body) == 1)
        change = {"spec": {"approvals": {me: {"reason": reason}}}}
        try:
            body = await session.cluster.patch(resource, name, change, namespace)
        except RefusedError as error:
            raise await _not_approved(session, resource, body, me, error) from error
    _say_count(screen, resource, body)
    screen.answer(_consent(body), f"{resource.kind.lower()}.{resource.group}/{name}")
    return ExitCode.OK


async def restore(
    session: Session, screen: Screen, text: str, reason: str, *, accept_drift: bool
) -> ExitCode:
    """Order the restore; it is a second act, after release."""
    resource, body = await find.shutdown(session, text)
    me = await session.cluster.whoami()
    name, namespace = body["metadata"]["name"], body["metadata"].get("namespace", "")
    change = _restore_order(body, me, reason, accept_drift=accept_drift)
    if change is None:
        by = body["spec"]["restore"]["by"]
        screen.line(
            f"{shown(resource, name, namespace)} is being restored already, ordered by {by}."
        )
    else:
        try:
            body = await session.cluster.patch(
                resource, name, {"spec": {"restore": change}}, namespace
            )
        except RefusedError as error:
            raise await _not_restored(session, resource, body, me, error) from error
        what = shown(resource, name, namespace)
        pressure.say_fighters(screen, body)
        screen.line(
            Span("Restore ordered", Tone.GOOD), f" for {what} by {me}; the operator carries it out."
        )
    screen.answer(_consent(body), f"{resource.kind.lower()}.{resource.group}/{name}")
    return ExitCode.OK


async def wait(session: Session, screen: Screen, text: str, *, longest: str) -> ExitCode:
    """Follow the restore until it is complete, at most for `longest`."""
    resource, body = await find.shutdown(session, text)
    begun = session.clock.monotonic()
    until = begun + durations.seconds(longest)
    told: str | None = None
    told_at = begun
    while True:
        found = (body.get("status") or {}).get("conditions") or ()
        restored = conditions.find(found, ShutdownCondition.RESTORED)
        reason, said = _progress(restored)
        now = session.clock.monotonic()
        after = durations.text(now - begun)
        if conditions.holds(found, ShutdownCondition.RESTORED):
            screen.line(Span("Restored", Tone.GOOD), f": what was there runs again, {after}")
            return ExitCode.OK
        if reason != told or now - told_at >= _REMIND:
            screen.line(f"  {after:>9}  {said}")
            told, told_at = reason, now
        if now >= until:
            target = argument(resource, body["metadata"]["name"], session.namespace)
            cure = f"see what it waits for: {PROGRAM} why {target}"
            raise Problem("see the restore complete", said, cure, ExitCode.NOT_VERIFIED)
        await session.clock.sleep(_LOOK)
        body = await session.cluster.get(resource, body["metadata"]["name"], session.namespace)


def _progress(restored: Mapping[str, Any] | None) -> tuple[str, str]:
    """The reason, by which progress is told apart, and the words for it."""
    if restored is None or restored["reason"] == Reason.NOT_REQUESTED:
        return "", "ordered; no operator has begun"  # that condition is from before the order
    return restored["reason"], f"{restored['reason']}: {restored['message']}"


def _people(count: int, which: str) -> str:
    """`1 other person`, `2 more people`."""
    return f"{count} {which} {'person' if count == 1 else 'people'}"


def _restore_order(body: Json, me: str, reason: str, *, accept_drift: bool) -> Json | None:
    """The order to write, or None where the same is ordered already."""
    before = body["spec"].get("restore")
    if before is None:
        return {"by": me, "reason": reason, "acceptDrift": accept_drift}
    if accept_drift and not before.get("acceptDrift"):
        return {**before, "acceptDrift": True}
    return None


def _say_count(screen: Screen, resource: Resource, body: Json) -> None:
    name, namespace = body["metadata"]["name"], body["metadata"].get("namespace", "")
    given, lacking = sorted(body["spec"].get("approvals") or {}), locks.lacking(body)
    counted = f"{len(given)} of {body['spec']['requiredApprovals']} ({', '.join(given)})"
    target = argument(resource, name, namespace)
    if lacking:
        people = _people(lacking, "more")
        screen.line(Span("Approved", Tone.GOOD), f": {counted}; the lock still holds.")
        screen.line(f"Next: {people} must run: {PROGRAM} approve {target} --reason …")
    else:
        screen.line(Span("Released", Tone.GOOD), f": {counted}; nothing has been started by this.")
        screen.line(f"Next: bring it back: {PROGRAM} restore {target} --reason …")


async def _not_approved(
    session: Session, resource: Resource, body: Json, me: str, error: RefusedError
) -> Problem:
    name, namespace = body["metadata"]["name"], body["metadata"].get("namespace", "")
    what = f"approve {shown(resource, name, namespace)}"
    target = argument(resource, name, namespace)
    again = f"{PROGRAM} approve {target} --reason …"
    if me.startswith(("system:serviceaccount:", "system:node:")):
        why = f"you are {me}: only people approve, no service account or node"
        return Problem(what, why, f"log in as a person, then: {again}", ExitCode.REFUSED)
    if me == body["spec"]["requestedBy"]:
        why = f"you ({me}) requested this stop, and nobody releases their own"
        return Problem(
            what,
            why,
            f"ask {_people(locks.lacking(body), 'other')} to run: {again}",
            ExitCode.REFUSED,
        )
    if not await allowed(session.cluster, "release", resource, name, namespace):
        return no_verb(what, "release", resource, me, namespace)
    return explained(what, error, namespace)


async def _not_restored(
    session: Session, resource: Resource, body: Json, me: str, error: RefusedError
) -> Problem:
    name, namespace = body["metadata"]["name"], body["metadata"].get("namespace", "")
    what = f"restore {shown(resource, name, namespace)}"
    target = argument(resource, name, namespace)
    if locks.engaged(body):
        lacking = locks.lacking(body)
        needed = "1 more approval is" if lacking == 1 else f"{lacking} more approvals are"
        why = f"it is not released: {needed} needed"
        cure = f"others run: {PROGRAM} approve {target} --reason …"
        return Problem(what, why, cure, ExitCode.REFUSED)
    if not await allowed(session.cluster, "restore", resource, name, namespace):
        return no_verb(what, "restore", resource, me, namespace)
    return explained(what, error, namespace)


def no_verb(what: str, verb: str, resource: Resource, me: str, namespace: str) -> Problem:
    """The API server refused for want of a verb that only its admission policies know."""
    place = f" in {namespace}" if namespace else ""
    why = f"you ({me}) lack the verb {verb} on {resource.plural}.{resource.group}{place}"
    check = f"kubectl auth can-i {verb} {resource.plural}.{resource.group}"
    check += f" -n {namespace}" if namespace else ""
    cure = f"someone who has it does it, or an administrator grants it; check with: {check}"
    return Problem(what, why, cure, ExitCode.REFUSED)


def _consent(body: Json) -> Json:
    spec = body["spec"]
    return {
        "kind": body["kind"],
        "namespace": body["metadata"].get("namespace", ""),
        "name": body["metadata"]["name"],
        "approvals": spec.get("approvals") or {},
        "requiredApprovals": spec["requiredApprovals"],
        "released": not locks.engaged(body),
        "restore": spec.get("restore"),
        "fighters": pressure.fighters(body),
    }
