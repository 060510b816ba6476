"""All fighters against one stop: pods re-created, and what their pushing costs the API server.

The HPA of the controller manager (looking every second), the real KEDA operator with a trigger
that stays active, a GitOps loop of server-side applies at 5/s, twenty accounts that scale the target
ten times a second, and a Knative stand-in whose Deployment stays at 1. The stop quiets nobody. What
is counted are requests as the API server's own metrics have them, under the lock and before the
stop, when everybody gets what he asks for.
"""

import asyncio
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, figure
from bench.kinds import sees
from bench.scene import policy, reactor
from bench.setting import Setting
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.readings import Answer
from killswitch.core.resources import DEPLOYMENTS, PODS, POLICIES
from tests.cluster import crds, stand_ins
from tests.cluster.control_plane import QUICK
from tests.cluster.examples import NAME, examples
from tests.cluster.keda import Keda, scaled_object
from tests.cluster.prometheus import Exporter, Prometheus
from tests.e2e.field import Witness
from tests.e2e.test_fighters import HPAS, SCALED_OBJECTS, deployment, hpa, writers

_PLACE = "bench-fighters"
_REQUESTS = re.compile(r'^apiserver_request_total\{[^}]*code="(\d+)"[^}]*\} (\S+)$', re.MULTILINE)


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named fighters_*."""
    plane = setting.control_plane
    plane.restart_controller_manager(*QUICK, "--horizontal-pod-autoscaler-sync-period=1s")
    crds.install(plane)
    exporter = Exporter()
    exporter.set("waiting_requests", 5)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        with (
            Prometheus(directory / "prometheus", {exporter.address: {}}) as prometheus,
            Keda(plane, directory),
        ):
            prometheus.wait_for_sample("waiting_requests")
            found = asyncio.run(_measure(setting, prometheus.url))
    exporter.close()
    seconds, recreated = setting.seconds, found["recreated"]
    met = recreated == 0
    yield figure("fighters_recreated", recreated, "pods", aim="0", met=met, seconds=seconds)
    under, before = found["under"], found["before"]
    name = "fighters_requests_under_lock"
    yield figure(name, under, "per s", baseline=before, seconds=seconds)
    yield figure("fighters_denied_under_lock", found["denied"], "per s", seconds=seconds)
    # All but the scripted pushers, which never slow down: every controller, kwok and the reactor.
    others = found["controllers"]
    yield figure("fighters_controllers_under_lock", others, "per s", seconds=seconds)


async def _measure(setting: Setting, prometheus: str) -> dict[str, float]:
    plane = setting.control_plane
    example, parent = deployment(), examples(1)["Service.serving.knative.dev"]
    async with setting.cluster() as cluster:
        await setting.namespace(cluster, _PLACE)
        for resource, body in (
            (DEPLOYMENTS, example.body),
            (parent.resource, parent.body),
            (HPAS, hpa(2, 5)),
            (
                SCALED_OBJECTS,
                scaled_object("keda", {"name": "fed"}, prometheus, "waiting_requests"),
            ),
            (DEPLOYMENTS, stand_ins.deployment("fed", 1, {"app": "fed"})),
        ):
            kind = {"apiVersion": resource.api_version, "kind": resource.kind}
            await cluster.create(resource, {**kind, **body}, _PLACE)
        heal = stand_ins.self_heal("gitops-controller", [(DEPLOYMENTS, example.body)], _PLACE, None)
        witness = Witness(cluster, _PLACE)
        async with (
            witness.watching(),
            stand_ins.playing(plane, _PLACE, *parent.stand_ins),
            stand_ins.pushing(plane, heal, *writers(_PLACE)) as pushers,
            reactor(setting, cluster) as running,
        ):
            await asyncio.sleep(5)  # until all of them push
            before, _ = await _rates(setting, min(10.0, setting.seconds))
            targets = [example.target, parent.target, {"kind": "Deployment", "name": "fed"}]
            body = policy(NAME, _PLACE, targets, action={"quiet": []})  # nobody is paused
            created = await cluster.create(POLICIES, body, _PLACE)
            while not sees(running.engine, created, parent, _PLACE):
                await asyncio.sleep(0.05)
            running.engine.intake.deliver(_PLACE, Answer((1.0,), 0.0))
            await _gone(cluster)
            pushed = sum(len(each.denied) for each in pushers)
            under, denied = await _rates(setting, setting.seconds)
            pushed = sum(len(each.denied) for each in pushers) - pushed
            recreated = len(witness.recreated)
    return {
        "before": before,
        "under": under,
        "denied": denied,
        "controllers": under - pushed / setting.seconds,
        "recreated": recreated,
    }


async def _gone(cluster: KubernetesApi) -> None:
    async with asyncio.timeout(120):
        while (await cluster.list(PODS, _PLACE)).items:
            await asyncio.sleep(0.2)


async def _rates(setting: Setting, seconds: float) -> tuple[float, float]:
    """Requests a second, and those of them that were answered 403."""
    first = _requests(setting)
    await asyncio.sleep(seconds)
    last = _requests(setting)
    return (last[0] - first[0]) / seconds, (last[1] - first[1]) / seconds


def _requests(setting: Setting) -> tuple[float, float]:
    text = setting.control_plane.api().get("/metrics").message
    found = [(code, float(count)) for code, count in _REQUESTS.findall(text)]
    return sum(count for _, count in found), sum(count for code, count in found if code == "403")
