"""`killswitch plan --all` over 5000 Deployments, each with its ReplicaSet and pod: the whole command.

Nothing runs there: the objects are written as their controllers would, so that the scene stands in
a minute. Beside the command, what of it is planning: the rest are lists, start and printing.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, figure
from bench.scene import deployment, pod_spec
from bench.setting import Setting, identity
from killswitch.adapters import credentials
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core import plans
from killswitch.core.inventory import Inventory
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.projections import PROJECTIONS
from killswitch.core.queries import TargetQuery
from killswitch.core.resources import DEPLOYMENTS, NAMESPACES, PODS, REPLICASETS, Resource
from killswitch.ports import Json
from killswitch.reactor.fan_out import fan_out
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kernel import apply

WORKLOADS = 5000
ROUNDS = 5
AIM = 2.0
_PLACE = "bench-plan"


def measure(_setting: Setting) -> Iterator[Figure]:
    """Figures named plan_*."""
    with ControlPlane(controllers=False, scheduler=False, kwok=False) as plane:
        apply(plane)
        planning = asyncio.run(_scene(plane))
        command = [str(Path(sys.executable).with_name("killswitch")), "plan", "--all"]
        command += ["--namespace", _PLACE]
        command += ["--kubeconfig", str(plane.admin.kubeconfig)]
        whole = statistics.median(_timed(command) for _ in range(ROUNDS))
    yield figure(
        "plan_5000_workloads",
        whole,
        "s",
        aim=f"<= {AIM:g} s",
        met=whole <= AIM,
        workloads=WORKLOADS,
    )
    yield figure("plan_5000_workloads_planning", 1000 * planning, "ms", workloads=WORKLOADS)


def _timed(command: list[str]) -> float:
    """Seconds of the command, which must name them all."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took = time.perf_counter() - started
    assert f"{WORKLOADS} workloads" in done.stdout.splitlines()[0], done.stdout[:200]
    return took


async def _scene(plane: ControlPlane) -> float:
    """Write the objects; median seconds of planning alone."""
    loaded = credentials.load(kubeconfig=str(plane.admin.kubeconfig))
    async with KubernetesApi(loaded) as cluster:
        metadata = {"name": _PLACE, "labels": {GOVERNED_LABEL: "true"}}
        await cluster.create(
            NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        )
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        accounts = Resource("", "v1", "serviceaccounts", "ServiceAccount")
        await cluster.create(accounts, account, _PLACE)
        await fan_out(range(WORKLOADS), lambda each: _workload(cluster, each), width=32)
        inventory = Inventory(namespaces={_PLACE: {GOVERNED_LABEL: "true"}})
        for resource in (DEPLOYMENTS, REPLICASETS, PODS):
            for body in (await cluster.list(resource, _PLACE)).items:
                if (item := PROJECTIONS[resource.key](body)) is not None:
                    inventory.put(item)
    query = TargetQuery("Deployment", _PLACE, labels={"bench": "plan"})
    boundaries = identity("bench").boundaries
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        plan = plans.for_policy([query], inventory, boundaries)
        times.append(time.perf_counter() - started)
        assert (plan.count, plan.pods) == (WORKLOADS, WORKLOADS)
    return statistics.median(times)


async def _workload(cluster: KubernetesApi, number: int) -> None:
    """A Deployment with what its controllers would have made of it."""
    name = f"server-{number}"
    owner = await cluster.create(DEPLOYMENTS, deployment(name, bench="plan"), _PLACE)
    template = owner["spec"]["template"]
    spec = {key: owner["spec"][key] for key in ("replicas", "selector", "template")}
    body = _below(REPLICASETS, f"{name}-abc", owner, {"spec": spec})
    middle = await cluster.create(REPLICASETS, body, _PLACE)
    pod = _below(PODS, f"{name}-abc-1", middle, {"spec": pod_spec()})
    pod["metadata"]["labels"] = template["metadata"]["labels"]
    await cluster.create(PODS, pod, _PLACE)


def _below(resource: Resource, name: str, owner: Json, more: Json) -> Json:
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    metadata = {"name": name, "ownerReferences": [reference]}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **more}
