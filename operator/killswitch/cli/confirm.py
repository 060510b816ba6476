"""The one question that a command may ask: whether what cannot come back may be lost."""

import sys
from collections.abc import Iterable

import typer

from killswitch.cli.problems import Problem
from killswitch.cli.screen import Screen
from killswitch.core.blast import Loss


def possible(screen: Screen) -> bool:
    """Whether somebody sits there who can answer."""
    return screen.for_people and sys.stdin.isatty() and sys.stdout.isatty()


def loss(screen: Screen, what: str, losses: Iterable[Loss]) -> None:
    """Return where a person agrees; Problem where nobody is asked, or the answer is no."""
    if possible(screen):
        if typer.confirm("This cannot be undone by a restore. Stop it all the same?"):
            return
        why = "you did not agree to what would be lost. Nothing was changed"
        raise Problem(what, why, "to stop it without the question: add --accept-loss")
    lost = "; ".join(f"{each.lost} ({', '.join(each.names[:5])})" for each in losses)
    why = f"it would lose for good: {lost}. Nothing was changed"
    raise Problem(what, why, "if that is accepted: add --accept-loss")
