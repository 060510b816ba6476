"""How a stop goes, as its options say: at once or gracefully, and who is paused after it."""

from dataclasses import dataclass

from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import Problem
from killswitch.cli.usage import duration

_HOUR = 3600.0
_QUIETED = {"keda": "KEDA", "argocd": "ArgoCD", "flux": "Flux"}


@dataclass(frozen=True, slots=True)
class Gently:
    """Stop category 1: how long what is under way may take to end."""

    drain: str = "30s"
    terminate: str = "30s"
    in_flight: str | None = None


def gently(
    *, graceful: bool, drain: str | None, terminate: str | None, in_flight: str | None
) -> Gently | None:
    """How a graceful stop goes, None for one at once; Problem (usage) where the options disagree."""
    given = {"--drain": drain, "--terminate": terminate, "--in-flight": in_flight}
    if not graceful:
        lone = [option for option, text in given.items() if text is not None]
        if lone:
            why = "a stop at once has no time for it"
            raise Problem(
                f"use {lone[0]}", why, f"add --graceful, or leave {lone[0]} out", ExitCode.USAGE
            )
        return None
    found = Gently(drain or "30s", terminate or "30s", in_flight)
    shortest = {"--drain": 0.0, "--terminate": 1.0}
    for option, text in (("--drain", found.drain), ("--terminate", found.terminate)):
        if not shortest[option] <= duration(option, text) <= _HOUR:
            why = f"{text} is not from {shortest[option]:g}s to 1h"
            raise Problem(f"read {option}", why, "write e.g. 30s", ExitCode.USAGE)
    return found


def paused(text: str) -> tuple[str, ...]:
    """Who is paused after a stop; Problem (usage) for a name that is not known."""
    names = [each.strip().lower() for each in text.split(",") if each.strip()]
    if names in ([], ["none"]):
        return ()
    unknown = [each for each in names if each not in _QUIETED]
    if unknown:
        cure = f"write some of {','.join(_QUIETED)}, or none"
        raise Problem("read --quiet", f"{unknown[0]!r} is nobody to pause", cure, ExitCode.USAGE)
    return tuple(dict.fromkeys(_QUIETED[each] for each in names))
