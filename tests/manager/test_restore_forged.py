"""Records that somebody forged: the manager's rights bring back nothing that the Shutdown did not hold."""

import json

import pytest

from killswitch.adapters import credentials
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core import manifests, projections
from killswitch.core.resources import DEPLOYMENTS, NAMESPACES, PODS, RECORDS, SHUTDOWNS
from killswitch.ports import Json
from killswitch.reactor import records
from killswitch.reactor.shared import SharedLists
from tests.cluster.control_plane import ControlPlane, User
from tests.manager import things
from tests.manager.harness import Scene
from tests.manager.test_fighters import APPLICATIONS, KUSTOMIZATIONS, SCALED, keda
from tests.manager.test_restore_kinds import TERMS, let_go
from tests.reactor.harness import deployment

pytestmark = pytest.mark.cluster
NOTHING = {"deployments.apps/nothing": ""}


@pytest.fixture(scope="module", autouse=True)
def served(kernel: ControlPlane) -> None:
    """The API server serves them."""
    things.install(kernel)


async def forge(scene: Scene, suffix: str, *entries: Json) -> None:
    """A record of the Shutdown `stop` that says this, by whoever may write anything."""
    stop = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
    spec = {"shutdown": "stop", "shutdownUid": stop["metadata"]["uid"], "targets": list(entries)}
    await things.create(scene, RECORDS, {"metadata": {"name": f"forged-{suffix}"}, "spec": spec})


def _entry(kind: str, body: Json, **more: object) -> Json:
    metadata = body["metadata"]
    return {"kind": kind, "name": metadata["name"], "uid": metadata["uid"], **more}


async def test_a_forged_record_moves_nothing_that_the_shutdown_does_not_hold(
    scene: Scene, account: User
) -> None:
    """GitOps of another namespace, an idle Deployment and a privileged pod stay as they are; each is named."""
    cluster, other = scene.bench.cluster, f"{scene.namespace}-infra"
    await cluster.create(NAMESPACES, {"metadata": {"name": other}})
    idle = await cluster.create(DEPLOYMENTS, deployment("idle", 0), scene.namespace)
    gitops = []
    for resource, spec in ((KUSTOMIZATIONS, {"suspend": True}), (APPLICATIONS, {})):
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "spec": spec}
        created = await cluster.create(resource, {**body, "metadata": {"name": "infra"}}, other)
        gitops.append((resource, created))
    automated = json.dumps({"prune": True, "selfHeal": True})
    container = {"name": "c", "image": "i", "securityContext": {"privileged": True}}
    manifest = {"metadata": {"name": "evil"}, "spec": {"containers": [container]}}
    async with scene.manager(account=account):
        await scene.stopped(locks=NOTHING, restorePolicy=TERMS)
        digest = "sha256:0"
        settings = (
            [{"field": "/spec/suspend", "was": "false"}],
            [{"field": "/spec/syncPolicy/automated", "was": automated}],
        )
        await forge(
            scene,
            "all",
            _entry("Deployment", idle, replicas=3, templateDigest=digest),
            {"kind": "Pod", "name": "evil", "uid": "u", "manifest": json.dumps(manifest)},
            *(
                _entry(f"{each.kind}.{each.group}", body, namespace=other, settings=fields)
                for (each, body), fields in zip(gitops, settings, strict=True)
            ),
        )
        let_go(scene, acceptDrift=True)
        message = await scene.condition("stop", "Restored", "True", "Complete")
    assert await scene.bench.replicas("idle") == 0
    assert [each["metadata"]["name"] for each in (await cluster.list(PODS, other)).items] == []
    assert await scene.bench.pods() == []
    for resource, before in gitops:
        assert (await cluster.get(resource, "infra", other))["spec"] == before["spec"]
    for name in (
        f"Deployment {scene.namespace}/idle",
        f"Pod {scene.namespace}/evil",
        f"Kustomization.kustomize.toolkit.fluxcd.io {other}/infra",
        f"Application.argoproj.io {other}/infra",
    ):
        assert f"{name} is recorded, but not of this Shutdown: left alone" in message


async def test_a_uid_that_is_held_lends_itself_to_no_other_name(scene: Scene) -> None:
    """The lock holds an object; a record that puts its uid beside another's name is of neither."""
    held = await scene.bench.cluster.create(DEPLOYMENTS, deployment("a", 0), scene.namespace)
    await scene.bench.deployment("idle", 0)
    locks = {f"uid/{held['metadata']['uid']}": ""}
    async with scene.manager():
        await scene.stopped(locks=locks, restorePolicy=TERMS)
        entry = {"kind": "Deployment", "name": "idle", "replicas": 3, "templateDigest": "sha256:0"}
        await forge(scene, "uid", {**entry, "uid": held["metadata"]["uid"]})
        let_go(scene, acceptDrift=True)
        message = await scene.condition("stop", "Restored", "True", "Complete")
    assert await scene.bench.replicas("idle") == 0
    assert f"Deployment {scene.namespace}/idle is recorded, but not of this Shutdown" in message


async def test_what_is_recorded_later_does_not_count(scene: Scene) -> None:
    """The stop writes first; whoever knows its uid comes after it."""
    await scene.bench.deployment("vllm", 2)
    async with scene.manager():
        await scene.stopped(restorePolicy=TERMS)
        record = (await scene.bench.cluster.list(RECORDS, scene.namespace)).items[0]
        first = next(iter(record["spec"]["targets"]))
        # Its name comes after: of one second the name decides.
        stop = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
        spec = {**record["spec"], "targets": [{**first, "replicas": 9}]}
        assert spec["shutdownUid"] == stop["metadata"]["uid"]
        await things.create(scene, RECORDS, {"metadata": {"name": "zzz"}, "spec": spec})
        let_go(scene)
        await scene.condition("stop", "Restored", "True", "Complete")
    assert await scene.bench.replicas("vllm") == 2


async def test_a_fighter_that_starts_nothing_of_the_shutdown_stays_paused(scene: Scene) -> None:
    """In its own namespace, too."""
    await scene.bench.deployment("vllm", 1)
    paused = "autoscaling.keda.sh/paused-replicas"
    fighter = await keda(scene, **{paused: "0"})
    async with scene.manager():
        await scene.stopped(locks=NOTHING, restorePolicy=TERMS)
        fields = [{"field": f"/metadata/annotations/{paused.replace('/', '~1')}"}]
        await forge(scene, "keda", _entry("ScaledObject.keda.sh", fighter, settings=fields))
        let_go(scene)
        message = await scene.condition("stop", "Restored", "True", "Complete")
    after = await scene.bench.cluster.get(SCALED, "vllm", scene.namespace)
    assert after["metadata"]["annotations"] == {paused: "0"}
    assert "not of this Shutdown" in message


async def test_without_the_right_to_make_pods_they_are_left_to_people(
    scene: Scene, account: User
) -> None:
    """The restore of all else is complete, and names them."""
    await scene.bench.deployment("vllm", 1)
    lone: Json = {
        "metadata": {"name": "lone"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    await scene.bench.cluster.create(PODS, lone, scene.namespace)
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/killswitch-manager"
    api = scene.kernel.api()
    before = api.get(role).body["rules"]
    fewer = [
        each for each in before if each["resources"] != ["pods"] or "create" not in each["verbs"]
    ]
    assert len(fewer) == len(before) - 1
    assert api.patch(role, {"rules": fewer}).status == 200
    try:
        async with scene.manager(account=account):
            locks = {"deployments.apps/vllm": "", "pods/lone": ""}
            await scene.stopped(locks=locks, restorePolicy=TERMS)
            let_go(scene)
            message = await scene.condition("stop", "Restored", "True", "Complete")
    finally:
        assert api.patch(role, {"rules": before}).status == 200
    assert await scene.bench.replicas("vllm") == 1
    assert f"Pod {scene.namespace}/lone is not made again: the manager may not" in message


async def test_a_manifest_that_may_not_be_recorded_keeps_nothing_else_from_being_so(
    scene: Scene,
) -> None:
    """A person who stops may not make pods: the pod is stopped without its manifest, and told of."""
    place, kernel = scene.namespace, scene.kernel
    killswitch = "shutdowns.killswitch.dev,shutdownrecords.killswitch.dev"
    role = ("--verb=create,list", f"--resource={killswitch}", "-n", place)
    kernel.kubectl("create", "role", "stops", *role)
    kernel.kubectl("create", "rolebinding", "stops", "--role=stops", "--user=dave", "-n", place)
    lone: Json = {
        "metadata": {"name": "lone"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    bodies = [
        await scene.bench.cluster.create(PODS, {**lone, "metadata": {"name": name}}, place)
        for name in ("lone", "other")
    ]
    pods = [pod for body in bodies if (pod := projections.pod(body))]
    items = [manifests.of(pods[0], bodies[0]), manifests.BarePod(pods[1], None)]
    await scene.stopped(locks=NOTHING)
    stop = await scene.bench.cluster.get(SHUTDOWNS, "stop", place)
    credential = credentials.load(kubeconfig=str(kernel.user("dave").kubeconfig))
    async with KubernetesApi(credential) as cluster:
        stored = await records.store(SharedLists(cluster), SystemClock(), stop, items, place)
    (record,) = (await scene.bench.cluster.list(RECORDS, place)).items
    assert [each["name"] for each in record["spec"]["targets"]] == ["lone", "other"]
    assert not any("manifest" in each for each in record["spec"]["targets"])
    assert stored == {pods[1].uid}
