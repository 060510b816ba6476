"""What every command checks of its own options before anything is asked of the API server."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import typer

from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import Problem
from killswitch.cli.screen import Screen
from killswitch.core import durations


@contextlib.contextmanager
def usage(screen: Screen) -> Iterator[None]:
    """Tell a problem found before anything was asked of the API server, and exit."""
    try:
        yield
    except Problem as problem:
        screen.problem(problem)
        raise typer.Exit(int(problem.code)) from problem


def duration(option: str, text: str) -> float:
    """Its seconds; Problem (usage) where it is none."""
    try:
        return durations.seconds(text)
    except ValueError as error:
        raise Problem(f"read {option}", str(error), "write e.g. 90s", ExitCode.USAGE) from error


def given(reason: str) -> None:
    """Problem (usage) where the reason says nothing."""
    if not reason.strip():
        raise Problem("act without a reason", "it is empty", "say why in words", ExitCode.USAGE)


def named(text: str, *, cluster: bool) -> str:
    """A Shutdown's name as a reference: with --cluster a ClusterShutdown's."""
    return f"cluster/{text}" if cluster and "/" not in text else text


@dataclass(frozen=True, slots=True)
class Gently:
    """Stop category 1: how long what is under way may take to end."""

    drain: str = "30s"
    terminate: str = "30s"
    in_flight: str | None = None


_HOUR = 3600.0
_QUIETED = {"keda": "KEDA", "argocd": "ArgoCD", "flux": "Flux"}


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
