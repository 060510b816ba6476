"""CRDs with the fields that matter, for kinds whose own controllers cannot run here.

Made from `kinds.TABLE`: the fields that a stop writes are declared as it writes them, the others
that a kind is known by are open. Nothing else is kept, as by a real structural schema: `older`
gives a CRD of the time before the stop field, whose API server drops it without a word.

`install(plane)` puts all of them into a control plane; kinds that real controllers run
(tests/cluster/keda.py, rollouts.py) come with the CRDs of those programs instead.
"""

import time
from collections.abc import Iterable
from typing import Any

from killswitch.core import kinds
from killswitch.core.kinds import Kind, Setting, Verb
from killswitch.core.resources import Resource
from tests.cluster.control_plane import ControlPlane

Json = dict[str, Any]
_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_UNAPPROVED = {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"}
"""Without it the API server takes no CRD in the groups of Kubernetes itself."""
_OPEN: Json = {"x-kubernetes-preserve-unknown-fields": True}

_FIELDS: dict[str, tuple[str, ...]] = {
    "InferenceService": ("predictor", "transformer", "explainer"),
    "InferenceGraph": ("nodes", "minReplicas", "maxReplicas"),
    "LLMInferenceService": ("model", "replicas", "template", "worker", "router", "prefill"),
    "Service.serving.knative.dev": ("template", "traffic"),
    "Configuration": ("template",),
    "Revision": ("containers", "containerConcurrency", "timeoutSeconds"),
    "RayService": ("rayClusterConfig", "serveConfigV2"),
    "RayCluster": ("headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling", "rayVersion"),
    "RayJob": ("entrypoint", "rayClusterSpec", "shutdownAfterJobFinishes", "clusterSelector"),
    "RayCronJob": ("schedule", "jobTemplate"),
    "LeaderWorkerSet": ("leaderWorkerTemplate", "rolloutStrategy", "startupPolicy"),
    "JobSet": ("replicatedJobs", "successPolicy", "failurePolicy", "network"),
    "Workload.kueue.x-k8s.io": ("podSets", "queueName", "priority"),
    "LocalQueue": ("clusterQueue",),
    "ScaledJob": ("jobTargetRef", "triggers", "pollingInterval", "maxReplicaCount"),
    "Rollout": ("selector", "template", "strategy", "paused", "workloadRef"),
    "Model.mlops.seldon.io": ("storageUri", "requirements", "server", "maxReplicas"),
    "Server.mlops.seldon.io": ("serverConfig", "maxReplicas"),
    "DynamoGraphDeploymentScalingAdapter": ("dgdRef",),
    "VLLMRuntime": ("model", "vllmConfig"),
    "StormService": ("template", "stateful", "paused", "selector"),
    "RayClusterFleet": ("template", "selector", "paused"),
    "Sandbox": ("podTemplate",),
}
"""By the kind's name: what stands in `spec` beside what a stop writes, each as its owners like it."""

FIGHTERS = tuple(
    Resource(*each)
    for each in (
        ("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject"),
        ("argoproj.io", "v1alpha1", "applications", "Application"),
        ("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", "Kustomization"),
        ("helm.toolkit.fluxcd.io", "v2", "helmreleases", "HelmRelease"),
        ("autoscaling.internal.knative.dev", "v1alpha1", "podautoscalers", "PodAutoscaler"),
        ("inference.networking.k8s.io", "v1", "inferencepools", "InferencePool"),
    )
)
"""What starts workloads again or leads traffic to them, and is stopped itself by nobody."""


BETWEEN = tuple(
    Resource(
        "nvidia.com", "v1alpha1", f"dynamo{name}deployments", f"Dynamo{name.title()}Deployment"
    )
    for name in ("graph", "component")
)
"""What stands above pods of a kind of the table, and is followed by nobody here."""


def own() -> list[Kind]:
    """The kinds of the table that are not built in."""
    return [
        each for each in kinds.TABLE.values() if each.resource.group not in kinds.BUILT_IN_GROUPS
    ]


def definition(kind: Kind, *, older: bool = False, status: bool = True) -> Json:
    """The CRD of a kind; `older`: of a version that does not know what a stop writes."""
    settings = () if older else kind.settings
    fields = dict.fromkeys(_FIELDS.get(kind.name, ()), _OPEN)
    for setting in settings:
        if setting.path[0] == "spec":
            _declare(fields, setting, setting.path[1:])
    body = _definition(kind.resource, {"type": "object", "properties": fields}, status=status)
    if kind.verb is Verb.SCALE and settings:
        body["spec"]["versions"][0]["subresources"]["scale"] = {
            "specReplicasPath": "." + ".".join(settings[0].path),
            "statusReplicasPath": ".status.replicas",
        }
    return body


def open_definition(resource: Resource, *, status: bool = True) -> Json:
    """The CRD of a resource whose `spec` may hold anything."""
    return _definition(resource, {"type": "object", **_OPEN}, status=status)


def install(plane: ControlPlane, definitions: Iterable[Json] | None = None) -> None:
    """Return when all of these are served; without any, every kind, link and fighter."""
    api = plane.api()
    chosen = list(_all() if definitions is None else definitions)
    for body in chosen:
        path = f"{_PATH}/{body['metadata']['name']}"
        answer = api.patch(path, body, kind="apply", fieldManager="tests", force="true")
        assert answer.status in {200, 201}, answer.message
    deadline = time.monotonic() + 60
    for body in chosen:
        while api.get(_collection(body)).status != 200:
            assert time.monotonic() < deadline, f"{body['metadata']['name']} is not served"
            time.sleep(0.05)


def _all() -> list[Json]:
    links = [open_definition(each) for each in (*kinds.LINKS, *FIGHTERS, *BETWEEN)]
    return [*(definition(kind) for kind in own()), *links]


def _definition(resource: Resource, spec: Json, *, status: bool) -> Json:
    properties = {"spec": spec, "status": {"type": "object", **_OPEN}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.key, "annotations": _UNAPPROVED},
        "spec": {
            "group": resource.group,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
            },
            "versions": [
                {
                    "name": resource.version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
                    "subresources": {"status": {}} if status else {},
                }
            ],
        },
    }


def _declare(fields: Json, setting: Setting, path: tuple[str, ...]) -> None:
    """Write this setting's type into the properties, with the objects that it stands in."""
    first, *rest = path
    if rest:
        inner = fields.setdefault(first, {"type": "object", "properties": {}, **_OPEN})
        _declare(inner["properties"], setting, tuple(rest))
        return
    types = {bool: "boolean", int: "integer", str: "string"}
    fields[first] = {"type": types[type(setting.rest)]}


def _collection(definition: Json) -> str:
    spec = definition["spec"]
    return f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
