"""What benchmarks build their scenes of: Deployments, policies, a reactor tripped by hand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from bench.setting import Setting
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.readings import Answer
from killswitch.core.resources import DEPLOYMENTS, POLICIES
from killswitch.ports import Json
from killswitch.reactor.run import Reactor


class Quiet:
    """A signal source that always answers 0: the bench trips policies by hand."""

    async def measure(self, query: str) -> Answer:
        """Zero, fresh."""
        return Answer((0.0,), 0.1)

    async def recall(self, query: str, span: float, step: float) -> tuple[Answer, ...]:
        """Nothing."""
        return ()


class Anything:
    """A query checker that accepts everything."""

    def check(self, field: str, query: str) -> dict[str, str]:
        """Nothing to say."""
        return {}


@contextlib.asynccontextmanager
async def reactor(setting: Setting, cluster: KubernetesApi) -> AsyncIterator[Reactor]:
    """A running reactor that has seen everything; its policies are tripped by hand."""
    running = Reactor(
        cluster, SystemClock(), Quiet(), Anything(), setting.identity(), poll_interval=3600.0
    )
    task = asyncio.create_task(running.run())
    await running.ready.wait()
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def pod_spec() -> Json:
    """A pod that kwok runs."""
    return {
        "containers": [{"name": "server", "image": "bench.invalid/server"}],
        "tolerations": [{"operator": "Exists"}],
    }


def deployment(name: str, **labels: str) -> Json:
    """A Deployment of one such pod."""
    labels = {"app": name, **labels}
    return {
        "apiVersion": DEPLOYMENTS.api_version,
        "kind": DEPLOYMENTS.kind,
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec()},
        },
    }


def policy(name: str, query: str, targets: list[dict[str, str]] | None = None, **spec: Any) -> Json:
    """A policy that stops its targets when the query answers more than 0.5.

    They are the Deployment of its name unless others are given.
    """
    signal = {"name": "s", "prometheus": {"query": query, "above": "0.5"}, "onNoData": "Hold"}
    return {
        "apiVersion": POLICIES.api_version,
        "kind": POLICIES.kind,
        "metadata": {"name": name},
        "spec": {
            "mode": "Enforce",
            "owner": "bench",
            "backup": "bench",
            "targets": targets or [{"kind": "Deployment", "name": name}],
            "signals": [signal],
            **spec,
        },
    }
