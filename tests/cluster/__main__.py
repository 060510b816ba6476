"""`make cluster`: a control plane, kwok with GPU nodes and Prometheus, until Ctrl-C."""

import argparse
import signal
import sys
import threading
import time
from types import FrameType

from tests.cluster.binaries import CannotBuildError
from tests.cluster.control_plane import ControlPlane
from tests.cluster.prometheus import Exporter, Prometheus


class _AskedToEndError(Exception):
    """SIGINT or SIGTERM came; raised wherever the program is, also in the midst of a build."""


def main() -> None:
    """Start, say how to use it, wait, clean up."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--for", dest="seconds", type=float, help="end by itself after so long")
    parser.add_argument("--nodes", type=int, default=4, help="how many GPU nodes kwok plays")
    parser.add_argument("--apply", nargs="*", default=[], help="files or folders to apply")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ask_to_end)
    started = time.monotonic()
    try:
        with ControlPlane(report=_say) as running:
            running.add_gpu_nodes(options.nodes)
            for file in options.apply:
                _say(running.kubectl("apply", "--server-side", "-f", file).stdout.rstrip())
            _watch(running, options.seconds, started)
    except _AskedToEndError:
        _say("ended, nothing left behind")
    except (CannotBuildError, AssertionError) as error:
        sys.exit(str(error))


def _ask_to_end(_number: int, _frame: FrameType | None) -> None:
    # Asked once, it cleans up undisturbed; whatever were left dies with this process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise _AskedToEndError


def _watch(running: ControlPlane, seconds: float | None, started: float) -> None:
    exporter = Exporter()
    exporter.set("exporter_up", 1)
    prometheus = Prometheus(
        running.directory / "prometheus", {exporter.address: {}}, scrape_interval="1s"
    )
    try:
        prometheus.start()
        _say(f"ready after {time.monotonic() - started:.1f} s")
        _say(f"  export KUBECONFIG={running.admin.kubeconfig}")
        _say(f"  export PATH={running.kubectl_path.parent}:$PATH")
        _say(f"  Prometheus: {prometheus.url}")
        _say("  try: kubectl get nodes; Ctrl-C ends it and cleans up")
        threading.Event().wait(seconds)
    finally:
        prometheus.stop(kill=True)
        exporter.close()


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
