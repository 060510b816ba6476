"""`make cluster`: a control plane, kwok with GPU nodes and Prometheus, until Ctrl-C.

With `--operator` killswitch is installed there by its chart, and its processes run on this machine
with the chart's service accounts; alice, bob and carol answer for a namespace.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tests.cluster import binaries
from tests.cluster.binaries import CannotBuildError
from tests.cluster.control_plane import ControlPlane
from tests.cluster.prometheus import Exporter, Prometheus
from tests.demo.stage import Stage

PLACE = "model-serving"
"""The namespace of the README and of policies/, which people get with the operator."""


class _AskedToEndError(Exception):
    """SIGINT or SIGTERM came; raised wherever the program is, also in the midst of a build."""


def main() -> None:
    """Start, say how to use it, wait, clean up."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--for", dest="seconds", type=float, help="end by itself after so long")
    parser.add_argument("--nodes", type=int, default=4, help="how many GPU nodes kwok plays")
    parser.add_argument("--apply", nargs="*", default=[], help="files or folders to apply")
    parser.add_argument("--operator", action="store_true", help="install killswitch and run it")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ask_to_end)
    started = time.monotonic()
    try:
        helm = binaries.locate(["helm"], _say)["helm"]
        with ControlPlane(report=_say) as running:
            running.add_gpu_nodes(options.nodes)
            for file in options.apply:
                _say(running.kubectl("apply", "--server-side", "-f", file).stdout.rstrip())
            with (
                _prometheus(running) as prometheus,
                _operator(running, prometheus, wanted=options.operator) as lines,
            ):
                _say(f"ready after {time.monotonic() - started:.1f} s")
                _usage(running, helm, prometheus, lines)
                threading.Event().wait(options.seconds)
    except _AskedToEndError:
        _say("ended, nothing left behind")
    except subprocess.CalledProcessError as error:
        sys.exit(error.stderr or str(error))
    except (CannotBuildError, AssertionError) as error:
        sys.exit(str(error))


def _ask_to_end(_number: int, _frame: FrameType | None) -> None:
    # Asked once, it cleans up undisturbed; whatever were left dies with this process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise _AskedToEndError


@contextlib.contextmanager
def _prometheus(running: ControlPlane) -> Iterator[Prometheus]:
    """A Prometheus that scrapes one exporter."""
    exporter = Exporter()
    exporter.set("exporter_up", 1)
    prometheus = Prometheus(
        running.directory / "prometheus", {exporter.address: {}}, scrape_interval="1s"
    )
    try:
        prometheus.start()
        yield prometheus
    finally:
        prometheus.stop(kill=True)
        exporter.close()


@contextlib.contextmanager
def _operator(
    running: ControlPlane, prometheus: Prometheus, *, wanted: bool
) -> Iterator[list[str]]:
    """Killswitch installed and running, if wanted; what there is to say about it."""
    if not wanted:
        yield ["killswitch is not installed: make cluster OPERATOR=1 installs it and runs it"]
        return
    folder = running.directory / "operator"
    folder.mkdir()
    stage = Stage(running, prometheus, folder)
    try:
        _say("installing killswitch by its chart …")
        stage.install(f"prometheus.url={prometheus.url}")
        stage.run_operator()
        running.kubectl("create", "namespace", PLACE)
        stage.people(PLACE)
        names = ("alice", "bob", "carol")
        who = [f"  {name}: KUBECONFIG={running.user(name).kubeconfig}" for name in names]
        yield [
            f"killswitch runs: two reactors and a manager; their logs: {folder}/*.log",
            f"people who may stop and release in namespace {PLACE}:",
            *who,
            "try: kubectl apply -f policies/vllm-runaway-tokens.yaml; kubectl get ksp -A",
        ]
    finally:
        stage.stop_operator(kill=True)


def _usage(running: ControlPlane, helm: Path, prometheus: Prometheus, lines: list[str]) -> None:
    """How to use what is up now."""
    programs = [running.kubectl_path, helm, Path(sys.executable)]
    folders = dict.fromkeys(str(each.parent) for each in programs)
    _say(f"  export KUBECONFIG={running.admin.kubeconfig}")
    _say(f"  export PATH={':'.join(folders)}:$PATH")
    _say(f"  Prometheus: {prometheus.url}")
    for line in lines:
        _say(f"  {line}")
    _say("  try: kubectl get nodes; Ctrl-C ends it and cleans up")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
