"""What `make bench` prints: JSON lines for programs, a table for people, each on its own stream."""

import io
import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from bench import plot, table
from bench.figures import at_most, figure
from bench.setting import machine

ROOT = Path(__file__).resolve().parents[2]


def test_standard_output_holds_json_lines_alone() -> None:
    """The machine comes first; what is said to people goes to standard error."""
    result = subprocess.run(
        [sys.executable, "-m", "bench", "--only", "no such figure"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["machine"].keys() == machine().keys()
    assert "no figure's name contains 'no such figure'" in result.stderr


def test_the_machine_is_told_by_what_makes_it_fast() -> None:
    """A figure without the processor's model and the memory says little."""
    told = machine()
    assert isinstance(told["cpu"], str)
    assert told["cpu"]
    assert isinstance(told["memory_gib"], float)
    assert told["memory_gib"] > 0


def test_the_table_has_every_column_in_the_order_of_the_line() -> None:
    """A figure without baseline and aim has empty cells there."""
    out = io.StringIO()
    figures = [
        at_most("lock_p50", 3.14159, "ms", baseline=2.0, times=1.5),
        at_most("delete_p50", 2.0, "ms", baseline=2.0, times=1.5),
        figure("targets", 12345.6, "per s"),
    ]
    table.show(figures, Console(file=out, width=100))
    rows = [line.split() for line in out.getvalue().splitlines() if line.strip()]
    assert rows[0] == ["figure", "value", "unit", "baseline", "ratio", "aim", "met"]
    assert ["lock_p50", "3.142", "ms", "2", "1.571", "<=", "1.5", "x", "no"] in rows
    assert ["delete_p50", "2", "ms", "2", "1", "<=", "1.5", "x", "yes"] in rows
    assert ["targets", "12,346", "per", "s"] in rows


def test_the_lines_become_pictures(tmp_path: Path) -> None:
    """One bar per figure with a baseline, one curve per growth; the same lines give the same bytes."""
    figures = [
        at_most("lock_p50", 3.0, "ms", baseline=2.0, times=1.2),
        figure("cpu_10", 1.0, "%", grows_with="policies", at=10, growth_of="cpu"),
        figure("cpu_100", 1.1, "%", grows_with="policies", at=100, growth_of="cpu"),
    ]
    lines = [json.dumps({"machine": {"cpus": 2}}), *map(json.dumps, figures)]
    first, second = (plot.draw(lines, tmp_path / name) for name in "ab")
    assert [path.name for path in first] == ["figures.jsonl", "beside.svg", "growth.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[0].read_text().splitlines() == lines
    beside, growth = (path.read_text() for path in first[1:])
    assert "lock_p50" in beside
    assert "aim &lt;= 1.2 x" in beside
    assert "cpu" in growth
    assert "policies" in growth
    assert "cpus 2" in growth


def test_figures_without_baseline_or_growth_have_no_picture(tmp_path: Path) -> None:
    """The lines are kept all the same."""
    written = plot.draw([json.dumps(figure("targets", 1.0, "per s"))], tmp_path)
    assert [path.name for path in written] == ["figures.jsonl"]
