"""The figures of one run as two pictures: each beside its baseline, and what grows with what.

`draw` takes the lines that `make bench` prints; `make bench OUT=folder` calls it. A figure takes part in the second picture
when its line says what it grows with (`grows_with`) and where it was measured (`at`): the dashed
line shows what growing in proportion would look like, so what rises above it grows faster.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from bench.figures import Figure

_MET, _MISSED, _NO_AIM = "#1a7f37", "#cf222e", "#57606a"
_COLUMNS = 3


def draw(lines: Iterable[str], folder: Path) -> list[Path]:
    """The files written: the lines, `beside.svg` and `growth.svg`, less what has no figure."""
    lines = list(lines)
    parsed = [json.loads(line) for line in lines if line.strip()]
    machine: dict[str, Any] = next((each["machine"] for each in parsed if "machine" in each), {})
    figures = [each for each in parsed if "name" in each]
    # The same figures give the same bytes: no random ids, no date.
    mpl.rcParams.update({"svg.hashsalt": "killswitch", "svg.fonttype": "none", "font.size": 9})
    sheets = {"beside.svg": _beside(figures), "growth.svg": _growth(figures)}
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "figures.jsonl"]
    written[0].write_text("\n".join(lines) + "\n")
    for name, sheet in sheets.items():
        if sheet is None:
            continue
        sheet.supxlabel(_machine(machine), fontsize=7, color=_NO_AIM)
        sheet.savefig(folder / name, metadata={"Date": None})
        written.append(folder / name)
    return written


def _beside(figures: Sequence[Figure]) -> Sheet | None:
    """Ratios to the baseline of the same run."""
    shown = [each for each in figures if each.get("ratio")]
    if not shown:
        return None
    sheet = Sheet(figsize=(9, 1.2 + 0.28 * len(shown)), layout="constrained")
    axes = sheet.add_subplot()
    ratios = [each["ratio"] for each in shown]
    places = range(len(shown))
    axes.barh(places, [math.log10(each) for each in ratios], color=[_colour(f) for f in shown])
    axes.set_yticks(places, [each["name"] for each in shown])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    for place, each in zip(places, shown, strict=True):
        words = f" {each['ratio']:.3g} × · {each['value']:.4g} {each['unit']}"
        aim = f" · aim {each['aim']}" if each["aim"] else ""
        axes.text(max(0.0, math.log10(each["ratio"])), place, words + aim, va="center", fontsize=7)
    low, high = math.floor(math.log10(min(*ratios, 1))), math.ceil(math.log10(max(*ratios, 1)))
    axes.set_xticks(range(low, high + 1), [f"{10.0**tick:g} ×" for tick in range(low, high + 1)])
    axes.set_xlim(low, high + 0.8 * max(1, high - low))
    axes.set_title("Each figure beside its baseline (green: aim met, red: not, grey: no aim)")
    axes.spines[["top", "right"]].set_visible(False)
    return sheet


def _growth(figures: Sequence[Figure]) -> Sheet | None:
    """Values against what they grow with, both logarithmic."""
    groups: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for each in figures:
        if "grows_with" in each:
            name = str(each.get("growth_of", each["name"]))
            groups[name, each["grows_with"], each["unit"]].append((each["at"], each["value"]))
    if not groups:
        return None
    rows = math.ceil(len(groups) / _COLUMNS)
    sheet = Sheet(figsize=(3.4 * _COLUMNS, 0.4 + 2.6 * rows), layout="constrained")
    for number, ((name, what, unit), points) in enumerate(sorted(groups.items()), start=1):
        _curve(sheet.add_subplot(rows, _COLUMNS, number), sorted(points), name, what, unit)
    return sheet


def _curve(
    axes: Axes, points: Sequence[tuple[float, float]], name: str, what: str, unit: str
) -> None:
    xs, ys = zip(*points, strict=True)
    axes.plot(xs, ys, "o-", color="#0969da")
    axes.plot(xs, [ys[0] * x / xs[0] for x in xs], "--", color=_NO_AIM, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(name, fontsize=9)
    axes.set_xlabel(what)
    axes.set_ylabel(unit)
    axes.grid(visible=True, which="major", linewidth=0.3)


def _colour(figure: Figure) -> str:
    return {True: _MET, False: _MISSED, None: _NO_AIM}[figure["met"]]


def _machine(machine: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())
