"""Kinds and fighters on the session's control plane, and objects of them in a scene."""

from collections.abc import Mapping

from killswitch.core import kinds
from killswitch.core.kinds import Kind
from killswitch.core.resources import Resource
from killswitch.ports import Json
from tests.cluster import crds
from tests.cluster.control_plane import ControlPlane
from tests.kernel.workloads import running, workload
from tests.manager.harness import Scene

ENGINE = kinds.scaled(
    Resource("serving.test.example", "v1", "engines", "Engine"),
    path=("spec", "size"),
    qualified=True,
)
"""A kind that killswitch knows nothing of but that it can be scaled."""
SERVED = (
    "InferenceService",
    "Model.mlops.seldon.io",
    "Server.mlops.seldon.io",
    "LocalQueue",
    "JobSet",
    "Workload.kueue.x-k8s.io",
)
"""Kinds of the table whose definitions these tests install."""
_COUNTED_BY_SERVER = ("generation", "managedFields", "resourceVersion")


def install(plane: ControlPlane) -> None:
    """Serve these kinds, and what fights for them; return when they are."""
    chosen = [crds.definition(each) for each in (*(kinds.TABLE[n] for n in SERVED), ENGINE)]
    fighters = [crds.open_definition(each) for each in crds.FIGHTERS]
    crds.install(plane, [*chosen, *fighters])


async def make(scene: Scene, kind: Kind, name: str = "vllm") -> Json:
    """An object of this kind that runs, as the API server stores it."""
    body = workload(kind, name, running(kind))
    created = await scene.bench.cluster.create(kind.resource, body, scene.namespace)
    return essence(created)


async def create(scene: Scene, resource: Resource, body: Json) -> Json:
    """The object, created under its kind: custom ones do not go without saying."""
    whole = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
    return await scene.bench.cluster.create(resource, whole, scene.namespace)


async def now(scene: Scene, resource: Resource, name: str = "vllm") -> Json:
    """The object as it stands."""
    return essence(await scene.bench.cluster.get(resource, name, scene.namespace))


def essence(body: Json) -> Json:
    """All of an object but its status, and what the API server counts by itself."""
    metadata = {k: each for k, each in body["metadata"].items() if k not in _COUNTED_BY_SERVER}
    annotations = dict(metadata.get("annotations") or {})
    for ours_not in (
        "deprecated.daemonset.template.generation",
        "deployment.kubernetes.io/revision",
    ):
        annotations.pop(ours_not, None)
    return {**{k: each for k, each in body.items() if k != "status"}, "metadata": metadata} | {
        "metadata": {**metadata, "annotations": annotations}
    }


def lock(kind: Kind, name: str = "vllm") -> Mapping[str, str]:
    """The locks that hold it by its name."""
    return {f"{kind.resource.key}/{name}": ""}
