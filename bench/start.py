"""From the start of a reactor until it is ready: its CPU seconds, with policies and pods there.

The reactor runs in a process of its own that ends as soon as every policy is judged and its
status written; the seconds of the API server in the same time are printed beside them. A tenth
and a hundredth of the policies and pods first, to show the growth.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from bench import ready_bytes
from bench.figures import Figure, figure
from bench.reactor_rest import cpu_seconds, megabytes
from bench.scene import Anything, Quiet, pod_spec, policy
from bench.setting import Setting, identity
from killswitch.adapters import credentials
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.resources import PODS, POLICIES
from killswitch.reactor.run import Reactor

SIZES = (10, 100, 1000)
"""Policies, with twenty pods each."""
PODS_EACH = 20
PLACES = 50
_CONNECTIONS = 64
_REPEATS = 3


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named start_*."""
    plane = setting.control_plane
    asyncio.run(_namespaces(setting))
    there = 0
    for size in SIZES:
        asyncio.run(_fill(setting, there, size))
        there = size
        time.sleep(3)  # until the server's own caches have settled
        runs = []
        for _ in range(_REPEATS):
            before = cpu_seconds(plane.pid("kube-apiserver"))
            told = _start(setting)
            told["server"] = cpu_seconds(plane.pid("kube-apiserver")) - before
            runs.append(told)
        best = sorted(runs, key=lambda run: run["ready_cpu"])[len(runs) // 2]
        aimed = size == SIZES[-1]
        yield figure(
            f"start_{size}_policies_cpu",
            best["ready_cpu"],
            "s",
            aim="<= 2 s" if aimed else "",
            met=best["ready_cpu"] <= 2 if aimed else None,
            pods=size * PODS_EACH,
            grows_with="policies, 20 pods each",
            at=size,
            growth_of="start: own CPU",
            imports_s=round(best["imported_cpu"], 2),
            wall_s=round(best["ready_wall"], 2),
            with_status_written_cpu_s=round(best["written_cpu"], 2),
            with_status_written_wall_s=round(best["written_wall"], 2),
            api_server_cpu_s=round(best["server"], 2),
            rss_mb=round(best["rss_mb"], 1),
        )


def _start(setting: Setting) -> dict[str, float]:
    environment = {**os.environ, "KUBECONFIG": str(setting.control_plane.admin.kubeconfig)}
    result = subprocess.run(
        [sys.executable, "-m", "bench.start", setting.username],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


async def _namespaces(setting: Setting) -> None:
    async with setting.cluster() as cluster:
        for number in range(PLACES):
            await setting.namespace(cluster, f"bench-start-{number}")


async def _fill(setting: Setting, there: int, size: int) -> None:
    """Policies from `there` to `size`, each with its pods, which no node is found for."""
    requests = []
    for number in range(there, size):
        place, token = f"bench-start-{number % PLACES}", setting.authorization
        body = policy(f"server-{number}", f"bench_start_{number}")
        requests.append(ready_bytes.request("POST", POLICIES.path(place), token, body))
        for replica in range(PODS_EACH):
            spec = {**pod_spec(), "schedulerName": "nobody"}
            metadata = {
                "name": f"server-{number}-{replica}",
                "labels": {"app": f"server-{number}"},
                # As a ReplicaSet's pods have; no controller is asked, so nobody collects them.
                "annotations": {"bench": "start"},
            }
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            requests.append(ready_bytes.request("POST", PODS.path(place), token, pod))
    async with ready_bytes.pool(setting.server, setting.tls, _CONNECTIONS) as pool:
        assert set(await pool.send_all(requests)) == {201}


async def _observe(username: str) -> None:
    """Run a reactor until every status is written; print what that took."""
    told = {"imported_cpu": time.process_time()}
    start = time.monotonic()
    async with KubernetesApi(credentials.load()) as cluster:
        reactor = Reactor(
            cluster, SystemClock(), Quiet(), Anything(), identity(username), poll_interval=3600.0
        )
        task = asyncio.create_task(reactor.run())
        await reactor.ready.wait()
        told |= {"ready_cpu": time.process_time(), "ready_wall": time.monotonic() - start}
        while reactor.engine.dirty:
            await asyncio.sleep(0.05)
        told |= {"written_cpu": time.process_time(), "written_wall": time.monotonic() - start}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    told["rss_mb"] = megabytes(os.getpid())
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(_observe(sys.argv[1]))
