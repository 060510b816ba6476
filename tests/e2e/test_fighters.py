"""Whoever starts targets again by itself: held, attributed, quieted after the stop, resumed last.

The HPA is the controller manager's own, KEDA its real operator (slow). GitOps self-heal is a loop of
server-side applies every 200 ms, which obeys the switch of its Argo CD Application or Flux
Kustomization as the real ones do; people and scripts are twenty accounts that scale ten times a second.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from killswitch.core.kinds import TABLE, Setting
from killswitch.core.resources import DEPLOYMENTS, Resource
from killswitch.ports import Json
from tests.cluster import crds, stand_ins
from tests.cluster.control_plane import ControlPlane
from tests.cluster.examples import LABELS, NAME, Example, examples
from tests.cluster.keda import Keda, scaled_object
from tests.cluster.prometheus import Exporter, Prometheus
from tests.cluster.stand_ins import Pusher, Switch
from tests.e2e.field import NODES, Field, essence, plane_with_everything, taken
from tests.reactor.harness import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
_PRESSURE = 5.0
"""Seconds for which everybody pushes against a stop."""
_NUMBERS = itertools.count(1)
HPAS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
APPLICATIONS, KUSTOMIZATIONS, SCALED_OBJECTS = (
    next(each for each in crds.FIGHTERS if each.kind == kind)
    for kind in ("Application", "Kustomization", "ScaledObject")
)
WRITERS = 20


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane that serves every kind, whose HPA controller looks every second."""
    with plane_with_everything("--horizontal-pod-autoscaler-sync-period=1s") as running:
        yield running


@pytest.fixture
async def field(plane: ControlPlane) -> AsyncIterator[Field]:
    """A fresh governed namespace with a running reactor and manager."""
    async with taken(plane, f"fighters-{next(_NUMBERS)}") as ready:
        yield ready


def hpa(least: int, most: int) -> Json:
    """An HPA of the Deployment, which has no metrics to go by but its bounds."""
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": _UTILISED}}
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    bounds = {"minReplicas": least, "maxReplicas": most}
    spec = {"scaleTargetRef": reference, "metrics": [metric], **bounds}
    kind = {"apiVersion": HPAS.api_version, "kind": HPAS.kind}
    return {**kind, "metadata": {"name": NAME}, "spec": spec}


_UTILISED = {"type": "Utilization", "averageUtilization": 50}


def deployment(**annotations: str) -> Example:
    """The Deployment that all fight for."""
    body = stand_ins.deployment(NAME, 2, LABELS)
    body["metadata"]["annotations"] = annotations
    return Example(TABLE["Deployment"], body, pods=2)


async def test_an_hpa_rests_at_zero_and_goes_on_after_the_restore(field: Field) -> None:
    """It raises what is below its least, but never what stands at 0."""
    example = deployment()
    await field.set_up(example)
    await field.cluster.create(HPAS, hpa(3, 5), field.namespace)
    await field.running(3)
    before = essence(await field.get(example))
    await field.policy(example.target)
    await field.trip()
    await asyncio.sleep(_PRESSURE)
    assert field.witness.recreated == []
    assert "Resting" in await states(field)
    await field.release()
    await asyncio.sleep(_PRESSURE)
    assert await field.scene.bench.pods() == []
    await field.restore()
    await field.running(3)
    assert essence(await field.get(example)) == before


GITOPS = {
    "ArgoCD": (
        APPLICATIONS,
        {"syncPolicy": {"automated": {"selfHeal": True}}},
        Setting(("spec", "syncPolicy", "automated", "enabled"), rest=False),
        {"argocd.argoproj.io/tracking-id": f"gitops:apps/Deployment:NAMESPACE/{NAME}"},
        {},
    ),
    "Flux": (
        KUSTOMIZATIONS,
        {"path": "./models", "prune": True},
        Setting(("spec", "suspend"), rest=True),
        {},
        {
            "kustomize.toolkit.fluxcd.io/name": "gitops",
            "kustomize.toolkit.fluxcd.io/namespace": "NAMESPACE",
        },
    ),
}
"""By its name in `spec.quiet`: its object, what turns it off, and how it marks what is its own."""


@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.parametrize("name", list(GITOPS))
async def test_gitops_self_heal_is_held_quieted_if_asked_and_resumed_last(
    plane: ControlPlane, field: Field, name: str, quiet: bool
) -> None:
    """Quieted, a release starts nothing, and the restore gives back its switch as it was.

    Not quieted it is told beforehand, and starts the target at the release: the count is its own.
    """
    resource, spec, off, annotations, labels = GITOPS[name]
    example = deployment(**_placed(annotations, field))
    example.body["metadata"]["labels"] = {**LABELS, **_placed(labels, field)}
    own = {"apiVersion": resource.api_version, "kind": resource.kind}
    gitops = {**own, "metadata": {"name": "gitops"}, "spec": spec}
    made = essence(await field.cluster.create(resource, gitops, field.namespace))
    switch = Switch(resource, field.namespace, "gitops", off)
    heal = stand_ins.self_heal(
        "gitops-controller", [(DEPLOYMENTS, example.body)], field.namespace, switch
    )
    async with stand_ins.pushing(plane, heal):
        await field.running(2)
        before = essence(await field.get(example))
        await field.policy(example.target, action={"quiet": [name] if quiet else []})
        await field.trip()
        if quiet:
            await eventually(lambda: _is(field, {"Quieted"}))
        else:
            await eventually(lambda: _is(field, {"Unquieted"}))
            count = len(heal.denied)
            await asyncio.sleep(_PRESSURE)
            assert len(heal.denied) > count
        assert field.witness.recreated == []
        await field.release()
        if not quiet:
            await field.running(2)
            assert essence(await field.get(example)) == before
            return
        await asyncio.sleep(_PRESSURE)
        assert await field.scene.bench.pods() == []
        await field.restore()
        await field.running(2)
        await eventually(lambda: _is(field, {"Resumed"}))
        writes = heal.writes
        await eventually(lambda: _more(heal, writes))
        assert essence(await field.get(example)) == before
    assert essence(await field.cluster.get(resource, "gitops", field.namespace)) == made


async def test_all_at_once_against_one_stop(plane: ControlPlane, field: Field) -> None:
    """HPA, self-heal, twenty writers, and a parent that never rests: none starts anything."""
    example, parent = deployment(), examples(NODES)["Service.serving.knative.dev"]
    named = Example(parent.kind, parent.body, parent.pods, stand_ins=parent.stand_ins)
    heal = stand_ins.self_heal(
        "gitops-controller", [(DEPLOYMENTS, example.body)], field.namespace, None
    )
    async with stand_ins.playing(plane, field.namespace, *parent.stand_ins):
        await field.set_up(example)
        body = {"apiVersion": parent.resource.api_version, "kind": parent.resource.kind}
        await field.cluster.create(parent.resource, {**body, **parent.body}, field.namespace)
        await field.cluster.create(HPAS, hpa(2, 5), field.namespace)
        await field.running(3)
        await field.policy(example.target, named.target)
        async with stand_ins.pushing(plane, heal, *writers(field.namespace)) as pushers:
            await field.trip()
            counts = [len(each.denied) for each in pushers]
            await asyncio.sleep(_PRESSURE)
            after = [len(each.denied) for each in pushers]
        assert all(now > then for then, now in zip(counts, after, strict=True))
        assert field.witness.recreated == []
        assert await field.scene.bench.pods() == []
        # The parent's Deployment stays at 1: its ReplicaSet is denied a pod again and again.
        await eventually(lambda: _attributed(field, "replicaset-controller"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("quiet", [True, False])
async def test_the_real_keda(
    prometheus: Prometheus, exporter: Exporter, tmp_path: Path, quiet: bool
) -> None:
    """Its trigger stays active: quieted it rests, otherwise each of its attempts is denied and told."""
    exporter.set("waiting_requests", 5)
    prometheus.wait_for_sample("waiting_requests")
    example = deployment()
    with plane_with_everything() as plane, Keda(plane, tmp_path):
        async with taken(plane, "keda-fights") as field:
            await field.set_up(example)
            wanted = scaled_object(NAME, {"name": NAME}, prometheus.url, "waiting_requests")
            await field.cluster.create(SCALED_OBJECTS, wanted, field.namespace)
            await _awake(field, example)
            made = essence(await field.cluster.get(SCALED_OBJECTS, NAME, field.namespace))
            await field.policy(example.target, action={"quiet": ["KEDA"] if quiet else []})
            await field.trip()
            await eventually(lambda: _is(field, {"Quieted" if quiet else "Unquieted"}))
            await asyncio.sleep(2 * _PRESSURE)
            assert field.witness.recreated == []
            if not quiet:
                await eventually(lambda: _attributed(field, "keda-operator"))
            await field.release()
            if not quiet:
                await eventually(lambda: _pods(field), within=60)
                return
            await asyncio.sleep(2 * _PRESSURE)
            assert await field.scene.bench.pods() == []
            await field.restore()
            await field.running(2)
            assert essence(await field.cluster.get(SCALED_OBJECTS, NAME, field.namespace)) == made


def writers(namespace: str) -> list[Pusher]:
    """Twenty accounts that scale the Deployment up, one faster than the other."""
    return [
        stand_ins.scaler(f"writer-{number}", DEPLOYMENTS, NAME, namespace, 1 + number)
        for number in range(WRITERS)
    ]


async def states(field: Field) -> set[str]:
    """How the fighters of the Shutdown stand."""
    return {each["state"] for each in (await field.shutdown())["status"].get("fighters") or ()}


async def _is(field: Field, wanted: set[str]) -> bool:
    return wanted <= await states(field)


async def _more(pusher: Pusher, than: int) -> bool:
    return pusher.writes > than


async def _attributed(field: Field, who: str) -> bool:
    found = (await field.shutdown())["status"].get("attempts") or ()
    return any(who in each["who"] for each in found)


async def _pods(field: Field) -> bool:
    return bool(await field.scene.bench.pods())


async def _awake(field: Field, example: Example) -> None:
    """Return once KEDA has taken the Deployment over: it has made its HPA."""
    await eventually(lambda: field.cluster.get(HPAS, f"keda-hpa-{NAME}", field.namespace), 60)


def _placed(texts: dict[str, str], field: Field) -> dict[str, str]:
    return {key: text.replace("NAMESPACE", field.namespace) for key, text in texts.items()}
