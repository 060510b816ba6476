"""The reactor at rest: memory and CPU with 100 policies and 5000 pods, and what each adds.

Runs `killswitch reactor` as a process of its own, as the chart does, against a real Prometheus,
and reads its memory and CPU time from the kernel.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, figure
from bench.scene import pod_spec
from bench.setting import Setting
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.resources import PODS, POLICIES
from killswitch.reactor.fan_out import fan_out
from tests.cluster.prometheus import Exporter, Prometheus

POLICY_COUNT, POD_COUNT = 100, 5000
_PLACE = "bench-rest"
_SECONDS = 30.0


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named reactor_*."""
    exporter = Exporter()
    exporter.set("bench_tokens", 1)
    with tempfile.TemporaryDirectory(prefix="killswitch-") as folder:
        prometheus = Prometheus(Path(folder), {exporter.address: {}}, scrape_interval="1s")
        prometheus.start()
        try:
            prometheus.wait_for_sample("bench_tokens")
            empty, _ = _observe(setting, prometheus.url, seconds=2)
            asyncio.run(_scene(setting, pods=POD_COUNT, policies=0))
            pods_only, _ = _observe(setting, prometheus.url, seconds=2)
            asyncio.run(_scene(setting, pods=0, policies=POLICY_COUNT))
            full, cpu = _observe(setting, prometheus.url, seconds=_SECONDS)
        finally:
            prometheus.stop(kill=True)
            exporter.close()
    yield figure("reactor_rss", full, "MB", aim="<= 150", met=full <= 150)
    yield figure("reactor_cpu", cpu, "% of a core", aim="<= 3", met=cpu <= 3)
    yield figure("reactor_rss_empty", empty, "MB")
    yield figure("reactor_kb_per_pod", 1000 * (pods_only - empty) / POD_COUNT, "kB")
    yield figure("reactor_kb_per_policy", 1000 * (full - pods_only) / POLICY_COUNT, "kB")


def _observe(setting: Setting, prometheus_url: str, *, seconds: float) -> tuple[float, float]:
    """Megabytes of memory and percent of a core of a reactor that has settled."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(setting.control_plane.admin.kubeconfig),
        "KILLSWITCH_PROMETHEUS_URL": prometheus_url,
    }
    command = [sys.executable, "-m", "killswitch", "reactor"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            time.sleep(8)  # listing, first polls, first status writes
            before, start = cpu_seconds(process.pid), time.monotonic()
            time.sleep(seconds)
            used = cpu_seconds(process.pid) - before
            return megabytes(process.pid), 100 * used / (time.monotonic() - start)
        finally:
            process.terminate()


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(each for each in status.splitlines() if each.startswith("VmRSS:"))
    return int(line.split()[1]) / 1000


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _scene(setting: Setting, *, pods: int, policies: int) -> None:
    """Pods without nodes (nothing writes their status) and policies with a query each."""
    async with setting.cluster() as cluster:
        if pods:
            await setting.namespace(cluster, _PLACE)
        await fan_out(range(pods), lambda number: _pod(cluster, number), width=32)
        await fan_out(range(policies), lambda number: _policy(cluster, number), width=16)


async def _pod(cluster: KubernetesApi, number: int) -> None:
    spec = {**pod_spec(), "schedulerName": "nobody"}
    metadata = {"name": f"pod-{number}", "labels": {"app": f"server-{number}"}}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    await cluster.create(PODS, body, _PLACE)


async def _policy(cluster: KubernetesApi, number: int) -> None:
    query = f'max(bench_tokens{{job="models"}}) + {number}'
    body = {
        "apiVersion": POLICIES.api_version,
        "kind": POLICIES.kind,
        "metadata": {"name": f"policy-{number}"},
        "spec": {
            "mode": "Enforce",
            "owner": "bench",
            "backup": "bench",
            "targets": [{"kind": "Deployment", "name": f"server-{number}"}],
            "signals": [
                {
                    "name": "tokens",
                    "prometheus": {"query": query, "above": "100000"},
                    "onNoData": "Hold",
                }
            ],
        },
    }
    await cluster.create(POLICIES, body, _PLACE)
