"""`make cluster`: a control plane, kwok with GPU nodes and Prometheus, until Ctrl-C."""

import argparse
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.cluster.binaries import CannotBuildError
from tests.cluster.control_plane import ControlPlane
from tests.cluster.prometheus import Exporter, Prometheus


def main() -> None:
    """Start, say how to use it, wait, clean up."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--for", dest="seconds", type=float, help="end by itself after so long")
    parser.add_argument("--apply", nargs="*", default=[], help="files or folders to apply")
    options = parser.parse_args()
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    started = time.monotonic()
    try:
        with ControlPlane(report=_say) as running:
            _up(running, options.apply, asked, options.seconds, started)
    except CannotBuildError as error:
        sys.exit(str(error))


def _up(
    running: ControlPlane,
    files: list[str],
    asked: threading.Event,
    seconds: float | None,
    started: float,
) -> None:
    running.add_gpu_nodes(4)
    for file in files:
        running.kubectl("apply", "--server-side", "-f", file)
    exporter = Exporter()
    exporter.set("exporter_up", 1)
    with tempfile.TemporaryDirectory(prefix="killswitch-") as folder:
        prometheus = Prometheus(Path(folder), {exporter.address: {}}, scrape_interval="1s")
        prometheus.start()
        _say(f"ready after {time.monotonic() - started:.1f} s")
        _say(f"  export KUBECONFIG={running.admin.kubeconfig}")
        _say(f"  export PATH={running.kubectl_path.parent}:$PATH")
        _say(f"  Prometheus: {prometheus.url}")
        _say("  try: kubectl get nodes; Ctrl-C ends it and cleans up")
        asked.wait(seconds)
        prometheus.stop(kill=True)
        exporter.close()


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
