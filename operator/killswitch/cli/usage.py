"""What every command checks of its own options before anything is asked of the API server."""

import contextlib
from collections.abc import Iterator

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
