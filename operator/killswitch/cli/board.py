"""What stored objects say about themselves, in the few words that `status` and `why` show.

A policy that would not act must never look like one that would: each standing has its own word
and tone, and what nobody has looked at is said to be so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from killswitch.cli.screen import Span, Tone
from killswitch.core import conditions, times
from killswitch.core.conditions import PolicyCondition, Reason, ShutdownCondition
from killswitch.core.locks import engaged

Json = Mapping[str, Any]


class Standing(StrEnum):
    """Where a policy, a Shutdown or a Freeze stands, in one word."""

    ARMED = "ARMED"
    FIRED = "FIRED"
    BLIND = "BLIND"
    INHIBITED = "INHIBITED"
    BYPASSED = "BYPASSED"
    DRY_RUN = "DRY RUN"
    DISABLED = "DISABLED"
    NOT_ARMED = "NOT ARMED"
    STALE = "STALE"
    UNSEEN = "NOT SEEN"
    HELD = "HELD"
    NOT_VERIFIED = "NOT VERIFIED"
    RELEASED = "RELEASED"
    RESTORING = "RESTORING"
    RESTORED = "RESTORED"
    FROZEN = "FROZEN"
    NOT_FROZEN = "NOT FROZEN"
    THAWING = "THAWING"
    EXPIRED = "EXPIRED"
    ENDED = "ENDED"


_DENIES_NOT = "does not deny"
"""How reactor.proof says that a trial was let through: that lock is open."""
_TONES = {
    Standing.ARMED: Tone.GOOD,
    Standing.HELD: Tone.GOOD,
    Standing.FROZEN: Tone.GOOD,
    Standing.RESTORED: Tone.DIM,
    Standing.ENDED: Tone.DIM,
    Standing.RELEASED: Tone.STRONG,
    Standing.RESTORING: Tone.STRONG,
    Standing.THAWING: Tone.STRONG,
    Standing.EXPIRED: Tone.STRONG,
    Standing.DRY_RUN: Tone.WARN,
    Standing.BYPASSED: Tone.WARN,
    Standing.INHIBITED: Tone.WARN,
}
"""Everything else is bad."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A standing with its reason in words."""

    standing: Standing
    why: str

    @property
    def cell(self) -> Span:
        """The word with its tone."""
        return Span(self.standing.value, _TONES.get(self.standing, Tone.BAD))


def observed(body: Json) -> list[Json]:
    """The object's conditions."""
    return list((body.get("status") or {}).get("conditions") or ())


def policy(body: Json, bypass: str | None) -> Judged:
    """Whether a policy would act now; the most binding fact first."""
    for judge in (_fired, _switched_off, _not_looked_at, _withheld, _hampered):
        found = judge(body, bypass)
        if found is not None:
            return found
    return Judged(Standing.ARMED, "")


def _fired(body: Json, _bypass: str | None) -> Judged | None:
    fired = conditions.find(observed(body), PolicyCondition.FIRED)
    if fired is None or fired["status"] != "True":
        return None
    return Judged(Standing.FIRED, fired["message"])


def _switched_off(body: Json, _bypass: str | None) -> Judged | None:
    ready = conditions.find(observed(body), PolicyCondition.READY)
    if body["spec"].get("mode") == "Disabled":
        return Judged(Standing.DISABLED, "mode is Disabled: signals are not acted upon")
    if ready is not None and ready["status"] == "False":
        return Judged(Standing.NOT_ARMED, f"{ready['reason']}: {ready['message']}")
    return None


def _not_looked_at(body: Json, _bypass: str | None) -> Judged | None:
    found = observed(body)
    if not found:
        return Judged(Standing.UNSEEN, "no operator has looked at it: nothing watches")
    generation = body["metadata"].get("generation", 0)
    if any(each.get("observedGeneration", 0) < generation for each in found):
        return Judged(Standing.STALE, "edited since the operator last looked at it")
    return None


def _withheld(body: Json, bypass: str | None) -> Judged | None:
    if body["spec"].get("mode", "DryRun") == "DryRun":
        return Judged(Standing.DRY_RUN, "decides and reports, never acts")
    if bypass is not None:
        return Judged(Standing.BYPASSED, bypass)
    armed = conditions.find(observed(body), PolicyCondition.ARMED)
    if armed is None or armed["status"] != "True":
        why = "the lock has not been proven" if armed is None else armed["message"]
        return Judged(Standing.NOT_ARMED, why)
    return None


def _hampered(body: Json, _bypass: str | None) -> Judged | None:
    found = observed(body)
    inhibited = conditions.find(found, PolicyCondition.INHIBITED)
    if inhibited is not None and inhibited["status"] == "True":
        return Judged(Standing.INHIBITED, f"{inhibited['reason']}: {inhibited['message']}")
    seen = conditions.find(found, PolicyCondition.SIGNALS_AVAILABLE)
    if seen is None or seen["status"] != "True":
        return Judged(Standing.BLIND, seen["message"] if seen else "no signal has been read")
    return None


def shutdown(body: Json) -> Judged:
    """What a Shutdown holds or held; the lock itself is read from the spec, as the API server does."""
    found = observed(body)
    if conditions.holds(found, ShutdownCondition.RESTORED):
        return Judged(Standing.RESTORED, "what was there runs again")
    if body["spec"].get("restore"):
        restored = conditions.find(found, ShutdownCondition.RESTORED)
        why = restored["message"] if restored else "restore ordered, not begun"
        return Judged(Standing.RESTORING, why)
    if not engaged(body):
        return Judged(Standing.RELEASED, "may be restored; nothing restarts by itself")
    verified = conditions.find(found, ShutdownCondition.VERIFIED) or conditions.find(
        found, ShutdownCondition.STOPPED
    )
    if verified is None:
        return Judged(Standing.NOT_VERIFIED, "locked; no operator has reported on it")
    if verified["status"] != "True":
        return Judged(Standing.NOT_VERIFIED, verified["message"])
    return Judged(Standing.HELD, "")


def approvals(body: Json) -> str:
    """`1/2`: given and needed, from the spec, since that is what the lock counts."""
    return f"{len(body['spec'].get('approvals') or {})}/{body['spec']['requiredApprovals']}"


def mark(body: Json, type_: str) -> Span:
    """`yes`, `no`, `not proven` or `?` for a condition."""
    found = conditions.find(observed(body), type_)
    if found is None or found["status"] == "Unknown":
        return Span("?", Tone.DIM)
    if found["reason"] == Reason.LOCK_NOT_PROVEN and _DENIES_NOT not in found["message"]:
        return Span("not proven", Tone.WARN)  # nothing was tried (docs/decisions/0006)
    return Span("yes", Tone.GOOD) if found["status"] == "True" else Span("no", Tone.BAD)


def reaction(body: Json) -> str:
    """Longest time until the policy decides, as the manager reckons it; `?` where unknown."""
    return str(((body.get("status") or {}).get("reaction") or {}).get("worst") or "?")


def age(timestamp: str | None, now: float) -> str:
    """How long ago, in words; `?` where nobody knows."""
    if not timestamp:
        return "?"
    passed = max(0, round(now - times.seconds(timestamp)))
    for unit, length, smaller in (("d", 86400, "h"), ("h", 3600, "m"), ("m", 60, "")):
        if passed >= length:
            count, rest = divmod(passed, length)
            part = rest // {"h": 3600, "m": 60}.get(smaller, 1)
            return f"{count}{unit}{part}{smaller}" if smaller and part else f"{count}{unit}"
    return f"{passed}s"


def place(body: Json) -> str:
    """Namespace, or `(cluster)`."""
    return str(body["metadata"].get("namespace") or "(cluster)")
