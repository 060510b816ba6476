"""What the demo shows: chapters, commands with their answers, measured times."""

import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Screen:
    """Prints as the demo goes."""

    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    started: float = field(default_factory=time.monotonic)
    times: list[tuple[str, str]] = field(default_factory=list)

    def chapter(self, title: str) -> None:
        """A new part of the story."""
        passed = f"{time.monotonic() - self.started:5.1f} s"
        self.console.print(f"\n[bold]{title}[/bold]  [dim]{passed}[/dim]")

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(f"  {text}", markup=False)

    def command(self, person: str, line: str, answer: str, *, limit: int = 14) -> None:
        """A command as somebody types it, and what it answers."""
        self.console.print(f"  [cyan]{person}$[/cyan] ", end="")
        self.console.print(line, markup=False)
        lines = [each for each in answer.strip().splitlines() if each.strip()]
        for each in lines[:limit]:
            self.console.print(f"    {each}", markup=False)
        if len(lines) > limit:
            self.console.print(f"    … {len(lines) - limit} more lines")

    def measured(self, what: str, took: str) -> None:
        """Keep a time for the table at the end."""
        self.times.append((what, took))

    def table(self) -> None:
        """All measured times."""
        table = Table(title="Measured in this run", title_justify="left")
        table.add_column("what")
        table.add_column("time", justify="right")
        for what, took in self.times:
            table.add_row(what, took)
        self.console.print()
        self.console.print(table)
