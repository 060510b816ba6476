"""Who decided a Shutdown or a Freeze and on which evidence, for `why`."""

from collections.abc import Mapping, Sequence
from typing import Any

from killswitch.cli.connect import Session
from killswitch.cli.screen import Cell, Screen, Span, Tone
from killswitch.core.errors import KillSwitchError
from killswitch.core.names import SHUTDOWN_LABEL
from killswitch.core.resources import RECORDS, Resource
from killswitch.ports import Json

_OPERATOR_NAMESPACE = "killswitch-system"


async def evidence(session: Session, resource: Resource, body: Json) -> Json | None:
    """The evidence record, or None: a person's stop, or not readable."""
    if "evidenceDigest" not in body["spec"]:
        return None
    namespace = body["metadata"].get("namespace") or _OPERATOR_NAMESPACE
    labels = f"{SHUTDOWN_LABEL}={body['metadata']['uid']}"
    try:
        records = (await session.cluster.list(RECORDS, namespace, labels=labels)).items
    except KillSwitchError:
        return None
    own = (each["spec"] for each in records if each["spec"].get("shutdownKind") == resource.kind)
    found = (each["evidence"] for each in own if each.get("evidence"))
    return next(found, None)


def say(screen: Screen, body: Json, found: Mapping[str, Any] | None) -> None:
    """The requester or the policy, the moment, the reason, and how each signal voted."""
    spec, made = body["spec"], body["metadata"]["creationTimestamp"]
    policy = spec.get("policy")
    if policy is None:
        screen.line(f"Decided by {spec['requestedBy']} at {made}: {spec['reason']}")
        return
    name = f"{policy['kind']} {policy['name']} generation {policy['generation']}"
    screen.line(f"Decided by {name}, firing {policy['episode']}, at {made}: {spec['reason']}")
    if found is None:
        screen.line(Span("Evidence", Tone.WARN), ": the record is not there or not readable by you")
        return
    screen.line(
        f"Evidence: {found['quorum']}; decided at {found['decidedAt']} by {found['decidedBy']}"
    )
    rows: list[Sequence[Cell]] = [
        (
            each["name"],
            each["verdict"],
            each.get("value") or "-",
            each.get("threshold") or "-",
            "yes" if each["counted"] else "no",
            each.get("path") or "-",
            each.get("message", ""),
        )
        for each in found.get("signals") or ()
    ]
    screen.table(("SIGNAL", "VERDICT", "VALUE", "TRIPS", "COUNTED", "PATH", "IN WORDS"), rows)
