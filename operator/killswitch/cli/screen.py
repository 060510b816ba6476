"""Where answers go: words and tables for people, JSON or YAML for programs.

On a terminal `rich` draws colours and tables; anywhere else the same words come as plain aligned
columns, and `rich` is not even imported. Every tone has its word, so nothing is said by colour
alone: a log, a printer and a colour-blind reader see the same state.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import typer

from killswitch.cli.options import Format
from killswitch.cli.problems import Problem


class Tone(StrEnum):
    """How a piece of text is meant; the value is its style on a terminal."""

    PLAIN = ""
    STRONG = "bold"
    DIM = "dim"
    GOOD = "bold green"
    WARN = "bold black on yellow"
    BAD = "bold white on red"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text and how it is meant."""

    text: str
    tone: Tone = Tone.PLAIN

    def __str__(self) -> str:
        """The text alone."""
        return self.text


Cell = str | Span


@dataclass(slots=True)
class Screen:
    """One command's output in the format asked for."""

    format: Format = Format.TABLE
    progress: bool = False
    """Whether lines still appear, on stderr, when a program reads stdout: for what takes time."""
    _console: Any = field(default=None, init=False)

    @property
    def for_people(self) -> bool:
        """Whether words and tables are wanted on standard output."""
        return self.format is Format.TABLE

    def line(self, *spans: Cell) -> None:
        """One line of words: progress and answers."""
        if not self.for_people:
            if self.progress:
                typer.echo("".join(map(str, spans)), err=True)
        elif sys.stdout.isatty():
            self._rich().print(_assembled(spans), soft_wrap=True)
        else:
            typer.echo("".join(map(str, spans)))

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """A table on a terminal, aligned columns elsewhere; nothing where there are no rows."""
        if not self.for_people or not rows:
            return
        if sys.stdout.isatty():
            self._rich().print(_table(headers, rows))
            return
        texts = [list(headers), *([str(cell) for cell in row] for row in rows)]
        widths = [max(len(row[column]) for row in texts) for column in range(len(headers))]
        for row in texts:
            cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
            typer.echo("  ".join(cells).rstrip())

    def answer(self, value: Mapping[str, Any], name: str | Sequence[str] = "") -> None:
        """The machine-readable answer; `name` is what `-o name` prints. People have read theirs."""
        match self.format:
            case Format.JSON:
                typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
            case Format.YAML:
                import yaml

                typer.echo(
                    yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True).rstrip()
                )
            case Format.NAME:
                for each in [name] if isinstance(name, str) else name:
                    typer.echo(each)
            case Format.TABLE:
                pass

    def problem(self, problem: Problem) -> None:
        """What was not possible, why, and the next command, on standard error."""
        tty = sys.stderr.isatty()
        typer.echo(
            typer.style(
                f"{problem.headline}: {problem.what}.", bold=tty, fg="red" if tty else None
            ),
            err=True,
        )
        typer.echo(f"Why: {problem.why}", err=True)
        typer.echo(f"Next: {problem.cure}", err=True)

    def _rich(self) -> Any:
        if self._console is None:
            from rich.console import Console

            self._console = Console(highlight=False)
        return self._console


def _assembled(spans: Sequence[Cell]) -> Any:
    from rich.text import Text

    parts = (Text(str(s), style=s.tone.value if isinstance(s, Span) else "") for s in spans)
    return Text().join(parts)


def _table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(*headers, box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(_assembled([cell]) for cell in row))
    return table
