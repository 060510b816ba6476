"""Every kind on the command line, at any level: on an API server that serves kinds beyond the built-in ones.

Their controllers do not run here: what is seen is what the command plans, writes and says.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from killswitch.core.resources import Resource
from tests.cli.conftest import STOPPING, Stage
from tests.cluster import crds
from tests.cluster.control_plane import ControlPlane
from tests.kernel import fixtures

Json = dict[str, Any]
ENGINES = Resource("example.com", "v1", "engines", "Engine")
CHARTS = Resource("example.com", "v1", "charts", "Chart")
_NUMBERS = itertools.count(1)
_SERVING = "/apis/serving.kserve.io/v1beta1"
_ALL = [
    *STOPPING,
    {
        "apiGroups": ["serving.kserve.io", "example.com", "kueue.x-k8s.io", "keda.sh"],
        "resources": ["*"],
        "verbs": ["get", "list", "patch"],
    },
]
"""Rules of someone who may also stop these kinds; not those of other groups."""


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane of its own: other tests' would see these kinds."""
    with ControlPlane() as running:
        running.add_gpu_nodes(2, gpus=64, prefix="cli")
        fixtures.install(running)
        scale = {"specReplicasPath": ".spec.pool.size", "statusReplicasPath": ".status.replicas"}
        engines = crds.open_definition(ENGINES)
        engines["spec"]["versions"][0]["subresources"]["scale"] = scale
        crds.install(running)
        crds.install(running, [engines, crds.open_definition(CHARTS)])
        yield running


@pytest.fixture
def stage(plane: ControlPlane) -> Stage:
    """A fresh governed namespace where alice, bob and carol may stop, release and restore."""
    name = f"kinds-{next(_NUMBERS)}"
    body = {"metadata": {"name": name, "labels": {"killswitch.dev/governed": "true"}}}
    assert plane.api().create("/api/v1/namespaces", body).status == 201
    made = Stage(plane, name)
    made.grant("people", _ALL, "alice", "bob", "carol")
    return made


def service(stage: Stage, name: str = "llm") -> Json:
    """An InferenceService, and the Deployment that its controller would have made."""
    made = stage.create(
        _SERVING,
        "inferenceservices",
        _object("serving.kserve.io/v1beta1", "InferenceService", name),
    )
    owner = {
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": name,
        "uid": made["metadata"]["uid"], "controller": True,
    }  # fmt: skip
    stage.deployment(f"{name}-predictor", replicas=1)
    path = f"/apis/apps/v1/namespaces/{stage.namespace}/deployments/{name}-predictor"
    change = {"metadata": {"ownerReferences": [owner]}}
    assert stage.control_plane.api().patch(path, change).status == 200
    return made


def stopped(stage: Stage, name: str = "llm") -> bool:
    """Whether the InferenceService carries the annotation by which KServe stops it."""
    body = stage.get(f"{_SERVING} inferenceservices/{name}")
    annotations = body["metadata"].get("annotations") or {}
    return bool(annotations.get("serving.kserve.io/stop") == "true")


@pytest.mark.parametrize(
    "named",
    [
        "isvc/llm",
        "inferenceservices.serving.kserve.io/llm",
        "deployment/llm-predictor",
        "rs/POD'S",
        "pod/POD",
    ],
)
def test_whatever_is_named_the_top_is_planned_and_said(stage: Stage, named: str) -> None:
    """By its short name, as kubectl prints it, or by anything below it."""
    service(stage)
    (pod,) = stage.pods()
    named = named.replace("POD'S", pod.rpartition("-")[0]).replace("POD", pod)
    done = stage.run("plan", "-w", named)
    assert done.returncode == 0, done.stderr
    assert "inferenceservice/llm" in done.stdout
    assert ("belongs to InferenceService llm: all of it stops" in done.stdout) == (
        "llm-predictor" in named
    )
    assert "Rests with: KServe 0.15.1" in done.stdout


def test_a_stop_by_a_pod_rests_the_top_and_holds_all_below(stage: Stage) -> None:
    """And `why` of anything below names the holder, and what it belongs to."""
    service(stage)
    (pod,) = stage.pods()
    done = stage.run("stop", "-w", f"pod/{pod}", "--reason", "leaks")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (stage.pods(), stopped(stage)) == ([], True)
    (made,) = stage.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"]
    assert {"inferenceservices.serving.kserve.io/llm", "deployments.apps/llm-predictor"} <= set(
        made["spec"]["locks"]
    )
    name = made["metadata"]["name"]
    for what in ("isvc/llm", "deploy/llm-predictor"):
        told = stage.run("why", what).stdout
        assert f"Held by Shutdown {stage.namespace}/{name}, approvals 0/2: leaks" in told
    assert (
        "at rest (metadata.annotations.serving.kserve.io/stop: true)"
        in stage.run("why", "isvc/llm").stdout
    )
    below = stage.run("why", "deploy/llm-predictor").stdout
    assert "Belongs to InferenceService llm: with it, all of that stops" in below


def test_a_kind_that_only_this_cluster_knows_is_scaled_by_its_own_path(stage: Stage) -> None:
    """Found through discovery, by plural or singular, by someone who may read definitions."""
    for name in ("a", "b"):
        engine(stage, name)
    done = stage.run(
        "stop", "-w", "engines.example.com/a", "-w", "engine.example.com/b", "--reason", "r",
        "--deadline", "5s", by=stage.control_plane.admin,
    )  # fmt: skip
    assert [size(stage, name) for name in "ab"] == [0, 0], done.stdout + done.stderr
    records = stage.get("/apis/killswitch.dev/v1alpha1 shutdownrecords")["items"]
    targets = [each for record in records for each in record["spec"].get("targets", ())]
    assert [each["replicas"] for each in targets] == [3, 3]
    why = stage.run("why", "engine.example.com/a", by=stage.control_plane.admin).stdout
    assert "0 of 0 replicas ready" in why
    assert "Held by Shutdown" in why


def test_a_count_that_may_not_be_read_is_not_lost(stage: Stage) -> None:
    """Where it stands is in the definition; whoever may not read that locks, and scales nothing."""
    engine(stage, "a")
    planned = stage.run("plan", "-w", "engine.example.com/a").stdout
    assert "No rest: Engine.example.com a: its definition may not be read" in planned
    stage.run("stop", "-w", "engine.example.com/a", "--reason", "r", "--deadline", "2s")
    assert size(stage, "a") == 3
    path = f"/apis/example.com/v1/namespaces/{stage.namespace}/engines/a/scale"
    raised = stage.control_plane.api().patch(path, {"spec": {"replicas": 4}}, dry_run=True)
    assert "held down by Shutdown" in raised.message


def engine(stage: Stage, name: str) -> None:
    """An Engine of three, whose count stands where its definition says."""
    body = _object("example.com/v1", "Engine", name) | {"spec": {"pool": {"size": 3}}}
    stage.create("/apis/example.com/v1", "engines", body)


def size(stage: Stage, name: str) -> int:
    """How many it asks for."""
    return int(stage.get(f"/apis/example.com/v1 engines/{name}")["spec"]["pool"]["size"])


def test_a_kind_without_a_state_of_rest_is_said_to_start_at_the_release(stage: Stage) -> None:
    """It is locked, and what belongs to it stops; no more is promised."""
    stage.create("/apis/example.com/v1", "charts", _object("example.com/v1", "Chart", "x"))
    done = stage.run("plan", "-w", "charts.example.com/x")
    words = "No rest: Chart.example.com x: nothing is known of how it rests: a release lets"
    assert words in done.stdout


def test_a_kind_that_the_cluster_lacks_is_named(stage: Stage) -> None:
    """Exit 1, and where to look."""
    done = stage.run("stop", "-w", "engine.example.org/x", "--reason", "r")
    words = "engine.example.org: the cluster does not serve this kind"
    assert (done.returncode, words in done.stderr) == (1, True), done.stderr
    assert "kubectl api-resources" in done.stderr
    why = stage.run("why", "engine.example.org/x")
    assert (why.returncode, "the cluster does not serve this kind" in why.stderr) == (1, True)


def test_an_owner_that_is_not_followed_is_named(stage: Stage) -> None:
    """It may start what it owns as soon as it is released."""
    made = stage.create("/apis/example.com/v1", "charts", _object("example.com/v1", "Chart", "x"))
    stage.deployment("vllm", replicas=1)
    owner = {
        "apiVersion": "example.com/v1", "kind": "Chart", "name": "x",
        "uid": made["metadata"]["uid"], "controller": True,
    }  # fmt: skip
    path = f"/apis/apps/v1/namespaces/{stage.namespace}/deployments/vllm"
    change = {"metadata": {"ownerReferences": [owner]}}
    assert stage.control_plane.api().patch(path, change).status == 200
    answer = stage.json("plan", "-w", "deployment/vllm")
    (above,) = answer["blastRadius"]["above"]
    assert (above["top"], above["stopped"]) == ("Chart.example.com x", False)


def test_a_kind_that_may_not_be_listed_is_said_only_where_it_matters(stage: Stage) -> None:
    """A Deployment's plan is whole without knowing Ray; an InferenceService's or a namespace's is not."""
    stage.deployment("vllm", replicas=1)
    service(stage)
    assert "rayservices.ray.io" not in stage.run("plan", "-w", "deployment/vllm").stdout
    for flags in (["-w", "isvc/llm"], ["--all"]):
        assert "rayservices.ray.io" in stage.run("plan", *flags).stdout
    done = stage.run("plan", "-w", "rayservice/x")
    assert "RayService x in" in done.stdout or "Not seen" in done.stdout


def test_an_image_is_stopped_in_every_governed_namespace(stage: Stage) -> None:
    """One Shutdown in each, all of them named in one answer; other images run on."""
    plane = stage.control_plane
    other = Stage(plane, f"{stage.namespace}-copy")
    labels = {"killswitch.dev/governed": "true"}
    body = {"metadata": {"name": other.namespace, "labels": labels}}
    assert plane.api().create("/api/v1/namespaces", body).status == 201
    for each in (stage, other):
        each.create(
            "/apis/apps/v1", "deployments", _imaged("leaked", f"leaked-{stage.namespace}:1")
        )
        each.create("/apis/apps/v1", "deployments", _imaged("fine", "fine:1"))
        each.placed(2)
    pattern = f"leaked-{stage.namespace}"
    planned = stage.raw("plan", "--image", pattern, "--everywhere", by=plane.admin)
    assert "in every governed namespace: 2 workloads with 2 pods" in planned.stdout
    done = stage.raw(
        "stop", "--image", f"{pattern}*", "--everywhere", "--reason", "leaked", "-o", "json",
        by=plane.admin,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for each in (stage, other):
        assert (each.replicas("leaked"), each.replicas("fine")) == (0, 1)
        (made,) = each.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"]
        assert "deployments.apps/leaked" in made["spec"]["locks"]
    assert done.stdout.count('"verified": true') == 2


def test_who_may_not_list_everywhere_is_told_so(stage: Stage) -> None:
    """Nothing is stopped in the part that happens to be seen."""
    done = stage.run("stop", "--image", "x", "--everywhere", "--reason", "r")
    assert (done.returncode, "namespaces is forbidden" in done.stderr) == (3, True)


def test_the_plan_names_who_starts_it_again(stage: Stage) -> None:
    """Paused or not, as --quiet says; what rests at 0 is no danger."""
    stage.deployment("vllm", replicas=1)
    scaled = _object("keda.sh/v1alpha1", "ScaledObject", "wake")
    scaled["spec"] = {"scaleTargetRef": {"name": "vllm"}}
    stage.create("/apis/keda.sh/v1alpha1", "scaledobjects", scaled)
    (fighter,) = stage.json("plan", "-w", "deploy/vllm", by="alice")["blastRadius"]["fighters"]
    assert (fighter["targets"], fighter["paused"]) == (["Deployment vllm"], True)
    done = stage.run("stop", "-w", "deploy/vllm", "--quiet", "none", "--reason", "r", "--dry-run")
    assert "not paused: a release starts it; pause it: --quiet keda" in done.stdout


def _object(api_version: str, kind: str, name: str) -> Json:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": {}}


def _imaged(name: str, image: str) -> Json:
    labels = {"app": name}
    return {
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "server", "image": image}]},
            },
        },
    }
