"""`make bench`: every figure as one JSON line, with the machine it was measured on.

The lines are all that goes to standard output; standard error ends with them as a table.

Each module is skipped unless one of its figures can match ONLY; each that asks a control plane
gets one of its own, so that one does not measure what another left behind.
"""

import argparse
import contextlib
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from bench import plot, table
from bench.figures import Figure
from bench.setting import Setting, machine
from killswitch.telemetry import logs
from tests.cluster.control_plane import ControlPlane

MODULES = {
    "one_target": "bench.one_target",
    "thousand": "bench.thousand",
    "mass": "bench.mass",
    "start": "bench.start",
    "delete": "bench.deletion",
    "admission": "bench.admission",
    "poll": "bench.signals",
    "bound": "bench.reaction",
    "remote_write": "bench.remote_write",
    "remote_write_latency": "bench.remote_write_latency",
    "alert": "bench.alert_latency",
    "exposition": "bench.exposition",
    "scrape": "bench.scrape",
    "reactor": "bench.reactor_rest",
    "node": "bench.real_node",
    "node_fan_out": "bench.fan_out",
    "detector": "bench.detectors",
    "engine": "bench.engine",
    "kind": "bench.kinds",
    "fighters": "bench.fighters",
    "plan": "bench.plans",
}
"""How the names of a module's figures begin, and the module."""

WITHOUT = {
    "poll",
    "bound",
    "scrape",
    "detector",
    "engine",
    "alert",
    "remote_write_latency",
}
"""Those that ask no control plane, so none is started for them."""


def main() -> None:
    """Measure what was asked for, print each figure as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default="", help="only figures whose name contains this")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="for how long the fighters push (20)"
    )
    parser.add_argument("--out", type=Path, help="folder to write the lines and their plots to")
    arguments = parser.parse_args()
    logs.log_to_stderr()
    lines = [json.dumps({"machine": machine()})]
    print(lines[0], flush=True)
    figures = []
    for line in _figures(arguments.only, arguments.seconds):
        lines.append(json.dumps(line))
        print(lines[-1], flush=True)
        figures.append(line)
    if not figures:
        print(f"no figure's name contains {arguments.only!r}", file=sys.stderr, flush=True)
        return
    table.show(figures, Console(stderr=True))
    if arguments.out is not None:
        for path in plot.draw(lines, arguments.out):
            print(f"# {path}", file=sys.stderr)


def _figures(only: str, seconds: float) -> Iterator[Figure]:
    """Each figure whose name contains `only`, as soon as it is known."""
    for prefix, name in MODULES.items():
        if only and only not in prefix and not only.startswith(prefix):
            continue
        print(f"# {name} …", file=sys.stderr, flush=True)
        with contextlib.ExitStack() as until_done:
            setting = Setting(ControlPlane(), seconds=seconds)
            until_done.callback(setting.control_plane.stop)
            if prefix not in WITHOUT:
                setting.control_plane.start()
                setting.prepare()
            for line in importlib.import_module(name).measure(setting):
                if only in line["name"]:
                    yield line


if __name__ == "__main__":
    main()
