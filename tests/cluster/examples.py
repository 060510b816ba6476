"""One object of each kind in `kinds.TABLE`, with what stands around it and who fights for it.

What the tests and benchmarks of kinds stop. A kind whose controller is not played here gets a pod
that its object owns; nothing makes that pod anew, and nothing brings it back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from killswitch.core import kinds
from killswitch.core.kinds import Kind
from killswitch.core.resources import JOBS, PODS, Resource
from tests.cluster import crds, stand_ins
from tests.cluster.stand_ins import QUEUE_LABEL, StandIn, deployment, job_spec, stateful_set
from tests.cluster.stand_ins import template as pod_template

Json = dict[str, Any]
NAME = "model"
QUEUE = "queue"
LABELS = {"app": NAME}


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the table, brought to life."""

    kind: Kind
    body: Json
    """The object that a policy names."""
    pods: int
    """How many are there when all is well."""
    around: tuple[tuple[Resource, Json], ...] = ()
    """What is created before it."""
    stand_ins: tuple[StandIn, ...] = ()
    name: str = NAME
    made: bool = False
    """Whether a controller makes the named object, so that nothing is to be created."""
    below: tuple[tuple[Resource, Json], ...] = ()
    """What is created under its ownership, because nobody here does."""
    apart: tuple[tuple[Resource, Json], ...] = ()
    """What its controller would act on without owning it; created beside it, and stopped by nobody."""

    @property
    def resource(self) -> Resource:
        """Where it lives."""
        return self.kind.resource

    @property
    def target(self) -> Json:
        """As a policy names it."""
        named = {"kind": self.resource.kind, "name": self.name}
        return {**named, "group": self.resource.group} if self.kind.qualified else named

    @property
    def known(self) -> bool:
        """Whether it is known which pods are its own, so that a stop of it alone can be verified."""
        return self.kind.tie is None or not self.kind.tie.host

    @property
    def returning(self) -> int:
        """How many pods a restore brings back: those that somebody here makes."""
        return self.pods - sum(resource == PODS for resource, _ in self.below)

    def owned(self, body: Json, owner: Json) -> Json:
        """The same under the ownership of this object."""
        reference = {
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "name": self.name,
            "uid": owner["metadata"]["uid"],
            "controller": True,
        }
        return {**body, "metadata": {**body["metadata"], "ownerReferences": [reference]}}


def _body(spec: Json, **labels: str) -> Json:
    return {"metadata": {"name": NAME, "labels": {**LABELS, **labels}}, "spec": spec}


def _set(count: int) -> Json:
    return {
        "replicas": count,
        "selector": {"matchLabels": LABELS},
        "template": pod_template(LABELS),
    }


def _ray() -> Json:
    group = {"groupName": "gpu", "replicas": 2}
    return {"headGroupSpec": {"rayStartParams": {}}, "workerGroupSpecs": [group]}


_RAY_JOB = {"rayClusterSpec": _ray(), "shutdownAfterJobFinishes": True}


def _example(kind: str, body: Json, pods: int, *players: StandIn, **more: Any) -> Example:
    return Example(kinds.TABLE[kind], body, pods, stand_ins=players, **more)


def _orphan(name: str, spec: Json) -> Example:
    """One whose controller is not played: its pod is made by hand."""
    return _example(name, _body(spec), 1, below=((PODS, _POD),))


def _apart(name: str, spec: Json) -> Example:
    """One that does not own what it steers: a stop of it alone leaves that as it is."""
    return _example(name, _body(spec), 1, apart=((PODS, _POD),))


_DAEMON = _set(0)
del _DAEMON["replicas"]
_DAEMON["template"]["spec"]["nodeSelector"] = {"type": "kwok"}
_QUEUE = kinds.TABLE["LocalQueue"].resource
_LOCAL_QUEUE: Json = {"metadata": {"name": QUEUE}, "spec": {"clusterQueue": "gpus"}}
_QUEUED = _body(job_spec(LABELS, suspend=True), **{QUEUE_LABEL: QUEUE})
_JOB = _body(job_spec(LABELS, suspend=False))
_GRAPH: Json = {"metadata": {"name": "graph"}, "spec": {"services": {"worker": {"replicas": 2}}}}
_ROLES = [{"name": "decode"}, {"name": "prefill", "podGroupSize": 2}]
_CRON: Json = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job_spec(LABELS, suspend=False)}}
_POD: Json = {"metadata": {"name": f"{NAME}-0", "labels": LABELS}, "spec": pod_template({})["spec"]}


def examples(nodes: int) -> Mapping[str, Example]:
    """By kind, on a cluster of so many kwok nodes."""
    found = (
        _example("Deployment", deployment(NAME, 2, LABELS), 2),
        _example("StatefulSet", stateful_set(NAME, 2, LABELS), 2),
        _example("ReplicaSet", _body(_set(2)), 2),
        _example("ReplicationController", _body({**_set(2), "selector": LABELS}), 2),
        _example("DaemonSet", _body(_DAEMON), nodes),
        _example("Job", _JOB, 1),
        _example("CronJob", _body(_CRON), 1, below=((JOBS, _JOB),)),
        _example("Pod", {**_POD, "metadata": {**_POD["metadata"], "name": NAME}}, 1),
        _example("InferenceService", _body({"predictor": {"minReplicas": 2}}), 2, stand_ins.KSERVE),
        _example("InferenceGraph", _body({"nodes": {}}), 1, stand_ins.KSERVE),
        _example("LLMInferenceService", _body({"model": {}}), 2, stand_ins.KSERVE),
        _example("Service.serving.knative.dev", _body({"template": {}}), 1, stand_ins.KNATIVE),
        _example("RayService", _body({"rayClusterConfig": _ray()}), 3, stand_ins.KUBERAY),
        _example("RayCluster", _body(_ray()), 3, stand_ins.KUBERAY),
        _example(
            "RayJob",
            _body(_RAY_JOB),
            4,
            stand_ins.KUBERAY,
        ),
        _example(
            "RayCronJob",
            _body({"schedule": "* * * * *", "jobTemplate": _RAY_JOB}),
            4,
            stand_ins.KUBERAY,
        ),
        _example(
            "LeaderWorkerSet",
            _body({"replicas": 2, "leaderWorkerTemplate": {"size": 2}}),
            4,
            stand_ins.LEADER_WORKER_SET,
        ),
        _example(
            "JobSet",
            _body({"replicatedJobs": [{"name": "workers", "replicas": 2}]}),
            2,
            stand_ins.JOB_SET,
        ),
        _example(
            "Workload.kueue.x-k8s.io",
            {},
            1,
            stand_ins.KUEUE,
            around=((_QUEUE, _LOCAL_QUEUE), (JOBS, _QUEUED)),
            name=f"job-{NAME}",
            made=True,
        ),
        _example(
            "LocalQueue",
            _LOCAL_QUEUE,
            1,
            stand_ins.KUEUE,
            around=((JOBS, _QUEUED),),
            name=QUEUE,
        ),
        _orphan("Rollout", {**_set(2), "strategy": {"canary": {}}}),
        _example("ScaledJob", _body({"jobTargetRef": {}}), 1, stand_ins.KEDA_JOBS),
        _apart("Model.mlops.seldon.io", {"replicas": 2, "minReplicas": 1}),
        _example(
            "Server.mlops.seldon.io", _body({"replicas": 2, "minReplicas": 1}), 2, stand_ins.SELDON
        ),
        _example(
            "DynamoGraphDeploymentScalingAdapter",
            {},
            2,
            stand_ins.DYNAMO,
            around=((crds.BETWEEN[0], _GRAPH),),
            name="graph-worker",
            made=True,
        ),
        _example(
            "VLLMRuntime",
            _body({"deploymentConfig": {"replicas": 2, "image": "vllm"}}),
            2,
            stand_ins.PRODUCTION_STACK,
        ),
        _example(
            "StormService",
            _body({"replicas": 2, "template": {"spec": {"roles": _ROLES}}}),
            6,
            stand_ins.AIBRIX,
        ),
        _example(
            "RayClusterFleet",
            _body({"replicas": 2, "template": {"spec": _ray()}}),
            6,
            stand_ins.AIBRIX,
            stand_ins.KUBERAY,
        ),
        _example("Sandbox", _body({"operatingMode": "Running"}), 1, stand_ins.AGENT_SANDBOX),
    )
    return {each.kind.name: each for each in found}


KUEUE_JOB = Example(
    kinds.TABLE["Job"], _QUEUED, 1, around=((_QUEUE, _LOCAL_QUEUE),), stand_ins=(stand_ins.KUEUE,)
)
"""A Job that Kueue has admitted: suspended alone, it would be started again."""
IGNORING = {
    "KServe 0.15": Example(
        kinds.TABLE["InferenceService"],
        _body({"predictor": {"minReplicas": 2}}),
        2,
        stand_ins=(stand_ins.OLD_KSERVE,),
    ),
    "KubeRay 1.6": Example(
        kinds.TABLE["RayService"],
        _body({"rayClusterConfig": _ray()}),
        3,
        stand_ins=(stand_ins.OLD_KUBERAY,),
    ),
}
"""Objects whose controllers are too old to know how they are stopped."""
