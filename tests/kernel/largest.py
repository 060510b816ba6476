"""`python -m tests.kernel.largest`: what the largest Shutdown weighs and how long it takes.

One JSON line for each size; nothing is asserted, the machine may be busy.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

from tests.cluster.control_plane import ControlPlane
from tests.kernel.fixtures import install
from tests.kernel.objects import pod, pods, shutdown, shutdowns

KEYS = 4000
SIZES = {"usual names": (len("deployments.apps/") + 30, 20), "longest": (290, 64)}
"""How long each key and each value is."""


def locks(key: int, value: int) -> dict[str, str]:
    """As many keys as a Shutdown may have, keys and values of this length."""
    return {f"deployments.apps/{number:0{key - 17}}": "v" * value for number in range(KEYS)}


def measure(kernel: ControlPlane, namespace: str) -> Iterator[dict[str, Any]]:
    """Figures of each size: bytes sent and stored, create, a pod beside it, denial."""
    api = kernel.api()
    for name, size in SIZES.items():
        body = shutdown(name.replace(" ", "-"), "admin", locks=locks(*size))
        before = _pod_create(kernel, namespace)
        began = time.perf_counter()
        made = api.create(shutdowns(namespace), body)
        took = time.perf_counter() - began
        stored = json.dumps(made.body, separators=(",", ":"))
        yield {
            "name": name,
            "keys": KEYS,
            "status": made.status,
            "sent_bytes": len(json.dumps(body, separators=(",", ":"))),
            "stored_bytes": len(stored),
            "create_ms": round(took * 1000, 1),
            "pod_create_before_ms": before,
            "pod_create_beside_ms": _pod_create(kernel, namespace),
        }


def _pod_create(kernel: ControlPlane, namespace: str) -> float:
    times = []
    for _ in range(20):
        began = time.perf_counter()
        kernel.api().create(pods(namespace), pod("p"), dry_run=True)
        times.append(time.perf_counter() - began)
    return round(sorted(times)[10] * 1000, 2)


def main() -> None:
    """Start a control plane, measure, print."""
    with ControlPlane(kwok=False, scheduler=False) as running:
        install(running)
        labels = {"killswitch.dev/governed": "true"}
        body = {"metadata": {"name": "largest", "labels": labels}}
        assert running.api().create("/api/v1/namespaces", body).status == 201
        time.sleep(1)  # its service account
        for line in measure(running, "largest"):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
