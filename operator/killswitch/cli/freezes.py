"""What a stored Freeze says about itself, in the words of `status`, `why` and `thaw`."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from killswitch.cli.board import Judged, Standing, observed
from killswitch.cli.connect import Session
from killswitch.core import conditions, containment, durations, locks, reports
from killswitch.core.conditions import FreezeCondition
from killswitch.core.errors import KillSwitchError
from killswitch.core.names import ENGAGED_LABEL
from killswitch.core.resources import FREEZES

Json = Mapping[str, Any]


async def in_force(session: Session) -> list[dict[str, Any]]:
    """Freezes of the namespace that hold something, as far as the user may see. Never raises."""
    labels = f"{ENGAGED_LABEL}=true"
    with contextlib.suppress(KillSwitchError):
        found = (await session.cluster.list(FREEZES, session.namespace, labels=labels)).items
        return [each for each in found if containment.freeze_in_force(each)]
    return []


def ended(body: Json) -> bool:
    """Whether it holds nothing any more, as the manager saw it."""
    over = conditions.holds(observed(body), FreezeCondition.ENDED)
    return over or not locks.labelled(body)


def judged(body: Json, now: float) -> Judged:
    """Where it stands; the most binding fact first."""
    spec, found = body["spec"], observed(body)
    if ended(body):
        over = conditions.find(found, FreezeCondition.ENDED)
        return Judged(Standing.ENDED, over["message"] if over else "it holds nothing any more")
    if spec.get("thaw"):
        return Judged(Standing.THAWING, f"by {spec['thaw']['by']}: {spec['thaw']['reason']}")
    if left(body, now) <= 0:
        then = "its pods go on" if spec["onExpiry"] == "Thaw" else "its pods are stopped and held"
        return Judged(Standing.EXPIRED, f"its time is over: {then}")
    frozen = conditions.find(found, FreezeCondition.FROZEN)
    if frozen is None:
        return Judged(Standing.NOT_FROZEN, "no operator has reported on it; guards act without")
    if frozen["status"] != "True":
        return Judged(Standing.NOT_FROZEN, frozen["message"])
    return Judged(Standing.FROZEN, "")


def left(body: Json, now: float) -> float:
    """Seconds until its end."""
    return containment.remaining(body, now)


def end(body: Json, now: float) -> str:
    """When and in what it ends: `4 min 2 s, then thaw`."""
    length = left(body, now)
    lasting = durations.text(length) if length > 0 else "over"
    return f"{lasting}, then {body['spec']['onExpiry'].lower()}"


def counts(body: Json, guards: Iterable[Json] | None) -> str:
    """`3/4`: frozen of covered, as the manager saw it; where it has not looked, `3/?` by guards.

    `?` where the guards are not known either.
    """
    seen = body.get("status") or {}
    if seen.get("observedGeneration"):
        return f"{seen.get('frozen', 0)}/{seen.get('pods', 0)}"
    if guards is None:
        return "?"
    order = (body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
    words = (word for each in guards for word in reports.report(each).words.values())
    return f"{sum(word.order == order and word.frozen for word in words)}/?"


def value(body: Json, now: float) -> dict[str, Any]:
    """A Freeze for programs."""
    spec, seen = body["spec"], body.get("status") or {}
    looked = bool(seen.get("observedGeneration"))
    found = judged(body, now)
    return {
        "kind": body["kind"],
        "namespace": body["metadata"]["namespace"],
        "name": body["metadata"]["name"],
        "standing": str(found.standing),
        "why": found.why,
        "conditions": {each["type"]: each["status"] for each in observed(body)},
        "pods": seen.get("pods", 0) if looked else None,
        "frozen": seen.get("frozen", 0) if looked else None,
        "until": spec["until"],
        "secondsLeft": round(left(body, now), 3),
        "onExpiry": spec["onExpiry"],
        "requestedBy": spec["requestedBy"],
        "reason": spec["reason"],
        "thaw": spec.get("thaw"),
    }
