"""Who pushes against a stop, and who would start its targets at the release, as its status says."""

from collections.abc import Sequence
from typing import Any

from killswitch.cli import board, render
from killswitch.cli.screen import Screen, Span, Tone
from killswitch.core.locks import engaged
from killswitch.core.words import several
from killswitch.ports import Json

_SHOWN = 5
_TONES = {"Quieted": Tone.GOOD, "Resting": Tone.GOOD, "Resumed": Tone.DIM}
"""What is not quieted is bad."""
_WORDS = {
    "Quieted": "paused until the restore",
    "Resting": "does nothing at 0",
    "Unquieted": "starts it as soon as it is released",
    "Resumed": "given back",
}


def fighters(body: Json, *states: str) -> list[Json]:
    """What was found that starts the targets by itself; all, or those in one of these states."""
    found = (body.get("status") or {}).get("fighters") or []
    return [each for each in found if not states or each["state"] in states]


def attempts(body: Json) -> list[Json]:
    """Who tried to start what is held, or wrote something else of it, the most persistent first."""
    found = (body.get("status") or {}).get("attempts") or []
    return sorted(found, key=lambda each: (-each["count"], each["who"], each["object"]))


def say_fighters(screen: Screen, body: Json) -> None:
    """Each with its state."""
    found = fighters(body)
    for each in found[:_SHOWN]:
        words = each.get("message") or _WORDS.get(each["state"], "")
        tone = _TONES.get(each["state"], Tone.BAD)
        screen.line(Span(each["state"], tone), f": {each['name']}: {words}")
    render.more(screen, found, _SHOWN)


def say_attempts(screen: Screen, body: Json, now: float) -> None:
    """Each with how often, and when last."""
    found = attempts(body)
    for each in found[:_SHOWN]:
        what = "Denied by the lock" if _denied(each) else "Written since"
        screen.line(f"{what}: {_attempt(each)}, last {board.age(each['last'], now)} ago")
    render.more(screen, found, _SHOWN)


def say_in_flight(screen: Screen, body: Json) -> None:
    """How many requests are under way while a graceful stop drains."""
    seen = body.get("status") or {}
    if seen.get("inFlight") and not (seen.get("stages") or {}).get("drained"):
        screen.line(f"Draining: {seen['inFlight']} requests under way when last asked")


def warn(screen: Screen, body: Json, *, last: bool) -> None:
    """Before an approval: what a release would start. `last`: this approval releases."""
    for each in fighters(body, "Unquieted"):
        when = "This approval releases" if last else "At the release"
        then = f": {each['name']} then starts it" if last else f": {each['name']} starts it"
        why = f" ({each['message']})" if each.get("message") else ""
        screen.line(Span(when, Tone.WARN), f"{then}{why}")
    for each in fighters(body, "Quieted", "Resting"):
        words = each.get("message") or _WORDS[each["state"]]
        screen.line(f"Stays quiet: {each['name']}: {words}")


def say_all(screen: Screen, bodies: Sequence[Json]) -> None:
    """For `status`: one line for each Shutdown that is pushed against, or would be at the release."""
    for body in bodies:
        if not engaged(body):
            continue
        name = f"{board.place(body)}/{body['metadata']['name']}"
        loud = [each["name"] for each in fighters(body, "Unquieted")]
        if loud:
            words = f": at its release start it: {several(loud, _SHOWN)}"
            screen.line(Span("Not quiet", Tone.WARN), f": {name}{words}")
        tried = [each for each in attempts(body) if _denied(each)]
        if tried:
            count = sum(each["count"] for each in tried)
            whole = f"{times(count)}: " if len(tried) > 1 else ""
            words = several([_attempt(each) for each in tried], _SHOWN)
            screen.line(f"Denied: {name}: {whole}{words}")
        seen = body.get("status") or {}
        if seen.get("inFlight") and not (seen.get("stages") or {}).get("drained"):
            screen.line(f"Draining: {name}: {seen['inFlight']} requests under way")


def value(body: Json) -> dict[str, Any]:
    """The same for programs."""
    return {
        "fighters": fighters(body),
        "attempts": attempts(body),
        "inFlight": (body.get("status") or {}).get("inFlight") or None,
    }


def _denied(attempt: Json) -> bool:
    return bool(attempt.get("outcome", "Denied") == "Denied")


def _attempt(each: Json) -> str:
    return f"{each['who']} for {each['object']}, {times(each['count'])}"


def times(count: int) -> str:
    """`once`, `2 times`."""
    return "once" if count == 1 else f"{count} times"
