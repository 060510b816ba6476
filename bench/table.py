"""The figures of one run as a table that people read, printed when all are known."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.figures import Figure

_MET = {True: Text("yes", "green"), False: Text("no", "bold red"), None: Text("")}


def show(figures: Sequence[Figure], console: Console) -> None:
    """Name, value, unit, baseline, ratio, aim and whether it was met, one row a figure."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("figure", no_wrap=True)  # a name in pieces is of no use
    for name in ("value", "unit", "baseline", "ratio", "aim", "met"):
        right = name in {"value", "baseline", "ratio"}
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "aim")
    for each in figures:
        table.add_row(
            each["name"],
            _number(each["value"]),
            each["unit"],
            _number(each["baseline"]),
            _number(each["ratio"]),
            Text(each["aim"]),
            _MET[each["met"]],
        )
    console.print(table)


def _number(value: float | None) -> str:
    """Four significant digits, no exponent; empty where there is no number."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
