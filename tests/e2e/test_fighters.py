"""Whoever starts targets again by itself: held, attributed, quieted after the stop, resumed last.

The HPA is the controller manager's own, KEDA its real operator (slow). GitOps self-heal is a loop of
server-side applies every 200 ms, which obeys the switch of its Argo CD Application or Flux
Kustomization as the real ones do; people and scripts are twenty accounts that scale ten times a second.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core import fighters
from killswitch.core.fighters import Fighter, State
from killswitch.core.kinds import TABLE
from killswitch.core.resources import DEPLOYMENTS, Resource
from killswitch.core.resources import NODES as NODE_OBJECTS
from killswitch.ports import Json
from tests.cluster import crds, stand_ins
from tests.cluster.control_plane import ControlPlane
from tests.cluster.examples import KUEUE_JOB, LABELS, NAME, Example, examples
from tests.cluster.keda import Keda, scaled_object
from tests.cluster.prometheus import Exporter, Prometheus
from tests.cluster.stand_ins import News, Pusher, Switch
from tests.e2e.field import NODES, SHUTDOWN, Field, essence, plane_with_everything, taken
from tests.reactor.harness import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
_PRESSURE = 5.0
"""Seconds for which everybody pushes against a stop."""
_NUMBERS = itertools.count(1)
HPAS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
SCALED_OBJECTS = next(each for each in crds.FIGHTERS if each.kind == "ScaledObject")
WRITERS = 20


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane that serves every kind, whose HPA controller looks every second."""
    with plane_with_everything("--horizontal-pod-autoscaler-sync-period=1s") as running:
        yield running


@pytest.fixture
async def field(plane: ControlPlane) -> AsyncIterator[Field]:
    """A fresh governed namespace with a running reactor and a manager that looks often."""
    async with taken(plane, f"fighters-{next(_NUMBERS)}", verify_interval=2.0) as ready:
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


@dataclass(frozen=True, slots=True)
class Contest:
    """What a fighter fights for, which of its own objects makes it fight, and who plays it."""

    example: Example
    own: tuple[Resource, str]
    quiet: str = ""
    """How `spec.quiet` names it."""
    pushers: tuple[Pusher, ...] = ()
    state: State = State.UNQUIETED
    """How it stands while nobody quiets it."""
    attempts: str = ""
    """Whose attempts are counted, as the Events of refusals name them; empty: nobody tells of any."""


def gitops(
    fighter: Fighter,
    spec: Json,
    tells: str,
    *,
    annotations: Json | None = None,
    labels: Json | None = None,
) -> Callable[[str], Contest]:
    """Self-heal of the Deployment, until the fighter's own object is switched off."""

    def contest(namespace: str) -> Contest:
        assert fighter.resource is not None
        resource, wanted = fighter.resource, stand_ins.deployment(NAME, 2, LABELS)
        wanted["metadata"]["annotations"] = _placed(annotations or {}, namespace)
        wanted["metadata"]["labels"] = {**LABELS, **_placed(labels or {}, namespace)}
        own = {"metadata": {"name": "gitops"}, "spec": spec}
        example = Example(TABLE["Deployment"], wanted, 2, around=((resource, own),), made=True)
        switch = Switch(resource, namespace, "gitops", fighter.ways[0][0])
        heal = stand_ins.self_heal("gitops-controller", [(DEPLOYMENTS, wanted)], namespace, switch)
        heal.tells = News(tells, resource, "gitops"), namespace
        return Contest(example, (resource, "gitops"), fighter.quiet, (heal,))

    return contest


QUIETED: Mapping[Fighter, Callable[[str], Contest]] = {
    fighters.ARGO_CD: gitops(
        fighters.ARGO_CD,
        {"syncPolicy": {"automated": {"selfHeal": True}}},
        "OperationCompleted",
        annotations={
            "argocd.argoproj.io/tracking-id": f"gitops:apps/Deployment:NAMESPACE/{NAME}",
        },
    ),
    fighters.KUSTOMIZATION: gitops(
        fighters.KUSTOMIZATION,
        {"path": "./models", "prune": True},
        "ReconciliationFailed",
        labels={
            "kustomize.toolkit.fluxcd.io/name": "gitops",
            "kustomize.toolkit.fluxcd.io/namespace": "NAMESPACE",
        },
    ),
    fighters.HELM_RELEASE: gitops(
        fighters.HELM_RELEASE,
        {"driftDetection": {"mode": "enabled"}},
        "DriftCorrectionFailed",
        labels={
            "helm.toolkit.fluxcd.io/name": "gitops",
            "helm.toolkit.fluxcd.io/namespace": "NAMESPACE",
        },
    ),
}
"""Who starts targets by itself at the release, unless the stop quiets it."""


@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.parametrize("fighter", list(QUIETED), ids=str)
async def test_one_that_fights_is_held_quieted_if_asked_and_resumed_last(
    plane: ControlPlane, field: Field, fighter: Fighter, quiet: bool
) -> None:
    """Quieted, a release starts nothing, and the restore gives back its switch as it was.

    Not quieted it is told beforehand, and starts its own at the release.
    """
    contest = QUIETED[fighter](field.namespace)
    (pusher,) = contest.pushers
    async with stand_ins.pushing(plane, pusher):
        before, made = await set_up(field, contest)
        await field.policy(contest.example.target, action={"quiet": [contest.quiet] * quiet})
        await field.trip()
        if quiet:
            await eventually(lambda: _stands(field, contest, State.QUIETED))
        else:
            await eventually(lambda: _stands(field, contest, State.UNQUIETED))
            await eventually(lambda: _attributed(field, pusher.name))
        count = len(pusher.denied)
        await asyncio.sleep(_PRESSURE)
        assert (len(pusher.denied) > count) is not quiet
        assert field.witness.recreated == []
        await field.release()
        if not quiet:
            await field.running(2)
            assert essence(await field.get(contest.example)) == before
            return
        await asyncio.sleep(_PRESSURE)
        assert await field.scene.bench.pods() == []
        await field.restore()
        await field.running(2)
        await eventually(lambda: _is(field, {State.RESUMED}))
        writes = pusher.writes
        await eventually(lambda: _more(pusher, writes))
        assert essence(await field.get(contest.example)) == before
    assert essence(await own(field, contest)) == made


def knative(_namespace: str) -> Contest:
    """A request always waits for the Service."""
    example = examples(NODES)["Service.serving.knative.dev"]
    assert fighters.KNATIVE.resource is not None
    own = (fighters.KNATIVE.resource, f"{NAME}-00001")
    # The count that it insists on stands all the time: its ReplicaSet is who is refused.
    return Contest(example, own, attempts="replicaset-controller")


def kueue(namespace: str) -> Contest:
    """A Job that is admitted, and somebody who wants its Workload to be active."""
    resource, name = TABLE["Workload.kueue.x-k8s.io"].resource, f"job-{NAME}"

    async def activate(cluster: KubernetesApi) -> object:
        return await cluster.patch(resource, name, {"spec": {"active": True}}, namespace)

    somebody = (Pusher("somebody", activate, every=0.1),)
    return Contest(KUEUE_JOB, (resource, name), pushers=somebody, state=State.RESTING)


def engine(_namespace: str) -> Contest:
    """A Deployment that a parent of no known kind keeps at its own count."""
    resource = stand_ins.ENGINES
    around = ((resource, {"metadata": {"name": NAME}, "spec": {}}),)
    made = Example(
        TABLE["Deployment"], {}, 2, around=around, made=True, stand_ins=(stand_ins.ENGINE,)
    )
    return Contest(made, (resource, NAME), attempts=stand_ins.ENGINE.name)


def scaled_job(_namespace: str) -> Contest:
    """A trigger that is always active; the stop pauses the ScaledJob above the Jobs."""
    example = examples(NODES)["ScaledJob"]
    return Contest(example, (example.resource, NAME), state=State.RESTING)


UNQUIETED: Mapping[Fighter, Callable[[str], Contest]] = {
    fighters.KNATIVE: knative,
    fighters.KUEUE: kueue,
    fighters.SCALED_JOB: scaled_job,
    fighters.OWNER: engine,
}
"""Who has no switch, or rests because the stop itself sees to that."""


@pytest.mark.parametrize("fighter", list(UNQUIETED), ids=str)
async def test_one_without_a_switch_is_held_and_told(
    plane: ControlPlane, field: Field, fighter: Fighter
) -> None:
    """It stands in the status before anybody releases; what is restored is as it was."""
    contest = UNQUIETED[fighter](field.namespace)
    crds.install(plane, [crds.open_definition(stand_ins.ENGINES)])
    async with stand_ins.playing(plane, field.namespace, *contest.example.stand_ins):
        before, made = await set_up(field, contest)
        await field.policy(contest.example.target)
        await field.trip()
        await eventually(lambda: _stands(field, contest, contest.state))
        async with stand_ins.pushing(plane, *contest.pushers):
            await asyncio.sleep(_PRESSURE)
        assert all(each.denied and not each.writes for each in contest.pushers)
        if contest.attempts:
            await eventually(lambda: _attributed(field, contest.attempts))
        assert field.witness.recreated == []
        await field.release()
        if contest.state is State.UNQUIETED:
            await field.running(contest.example.pods)
        else:
            await asyncio.sleep(_PRESSURE)
            assert await field.scene.bench.pods() == []
        await field.restore()
        await field.running(contest.example.pods)
        assert essence(await field.get(contest.example)) == before
        assert essence(await own(field, contest)) == made


async def test_the_vertical_autoscaler_needs_no_quieting(plane: ControlPlane, field: Field) -> None:
    """It evicts pods, finds none while the stop holds, and goes on with those that come back."""
    example, evictor = deployment(), stand_ins.pod_evictor(field.namespace)
    async with stand_ins.pushing(plane, evictor):
        before = essence(await field.set_up(example))
        await field.policy(example.target)
        await field.trip()
        writes = evictor.writes
        await asyncio.sleep(_PRESSURE)
        assert (evictor.writes, field.witness.recreated) == (writes, [])
        await field.release()
        await field.restore()
        await field.running(2)
        await eventually(lambda: _more(evictor, writes))
        assert essence(await field.get(example)) == before


async def test_people_who_scale_are_refused_by_name_and_need_no_quieting(
    plane: ControlPlane, field: Field
) -> None:
    """The refusal names the Shutdown; what they wanted meanwhile is not what comes back."""
    example, people = deployment(), writers(field.namespace)
    before = essence(await field.set_up(example))
    await field.policy(example.target)
    await field.trip()
    async with stand_ins.pushing(plane, *people):
        await asyncio.sleep(_PRESSURE)
    assert all(each.denied and not each.writes for each in people)
    told = f"held down by Shutdown {field.namespace}/{SHUTDOWN}"
    assert all(told in each.denied[0].message for each in people)
    assert field.witness.recreated == []
    await field.release()
    await field.restore()
    await field.running(2)
    assert essence(await field.get(example)) == before


async def test_nodes_that_fall_idle_go_away_and_a_restore_waits_for_new_ones(
    plane: ControlPlane, field: Field
) -> None:
    """The stop stays verified without its nodes; the pods of the restore are what brings some."""
    pool = f"pool-{field.namespace}"
    bringer = stand_ins.node_bringer(pool, field.namespace)
    remover = stand_ins.node_remover(pool, field.namespace)
    example = deployment()
    example.body["spec"]["template"]["spec"]["nodeSelector"] = {stand_ins.POOL: pool}
    async with stand_ins.pushing(plane, bringer, remover):
        before = essence(await field.set_up(example))
        await field.policy(example.target)
        await field.trip()
        await eventually(lambda: _more(remover, 0))
        brought = bringer.writes
        await asyncio.sleep(_PRESSURE)
        assert (bringer.writes, field.witness.recreated) == (brought, [])
        await field.condition("Verified", "True")
        await field.release()
    field.scene.order_restore(SHUTDOWN)
    await eventually(lambda: _pods(field))
    await asyncio.sleep(_PRESSURE)
    await field.condition("Restored", "False")
    async with stand_ins.pushing(plane, bringer, remover):
        await field.condition("Restored", "True", "Complete")
        await field.running(2)
        assert essence(await field.get(example)) == before
        nodes = (await field.cluster.list(NODE_OBJECTS, labels=f"{stand_ins.POOL}={pool}")).items
    assert [each["spec"].get("unschedulable", False) for each in nodes] == [False]


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


async def set_up(field: Field, contest: Contest) -> tuple[Json, Json]:
    """What it fights for and its own object, both at work, as they are to be found again."""
    before = essence(await field.set_up(contest.example))
    return before, essence(await own(field, contest))


async def own(field: Field, contest: Contest) -> Json:
    """The fighter's own object."""
    resource, name = contest.own
    return await field.cluster.get(resource, name, field.namespace)


async def _stands(field: Field, contest: Contest, state: State) -> bool:
    """Whether `status.fighters` shows just this one so."""
    resource, name = contest.own
    told = (await field.shutdown())["status"].get("fighters") or ()
    names = {each["name"] for each in told if each["state"] == state}
    return bool(names & {f"{resource.kind} {field.namespace}/{name}", f"{resource.kind} {name}"})


def _placed(texts: Json, namespace: str) -> Json:
    return {key: text.replace("NAMESPACE", namespace) for key, text in texts.items()}
