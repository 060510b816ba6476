"""Kinds of workloads as data: how each is brought to rest, what that costs, and how it comes back.

A stop locks and deletes pods whatever made them. What differs between kinds is the *rest*: what is
written so that their controllers start nothing, neither while the lock denies it nor, above all, at
the moment of release. `TABLE` is the specification; docs/kinds.md is generated from it.

Sources: the projects' own code and documents, named where a rule comes from one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from killswitch.core.names import GROUP
from killswitch.core.resources import (
    CRON_JOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    REPLICATION_CONTROLLERS,
    STATEFULSETS,
    Resource,
)

Scalar = str | int | bool | None
"""What stands in a field; None: the field is absent, which is a value like any other."""
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of an object, and what stands in it at rest."""

    path: tuple[str, ...]
    rest: Scalar

    def read(self, body: Mapping[str, Any]) -> Scalar:
        """What stands there now."""
        found: Any = body
        for part in self.path:
            if not isinstance(found, Mapping) or part not in found:
                return None
            found = found[part]
        return found  # type: ignore[no-any-return]  # the schema of its kind says what it is

    @property
    def pointer(self) -> str:
        """As a JSON pointer (RFC 6901), as records name it: `/spec/suspend`."""
        return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in self.path)

    def __str__(self) -> str:
        """`spec.suspend: true`, for people."""
        value = str(self.rest).lower() if isinstance(self.rest, bool) else f"{self.rest}"
        return f"{'.'.join(self.path)}: {value}"


def patch(values: Iterable[tuple[tuple[str, ...], Scalar]]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that writes these values; None takes a field away."""
    body: dict[str, Any] = {}
    for path, value in values:
        place = body
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    return body


class Verb(StrEnum):
    """How a kind is brought to rest."""

    SCALE = "Scale"  # 0 by its `/scale`, which needs no right on the rest of the object
    SET = "Set"  # the fields by which its own controller stops it
    RECREATE = "Recreate"  # nothing to write: it is kept in the record, and made again
    NONE = "None"  # no such field: the lock and the deletion of its pods are all there is


class Proof(StrEnum):
    """On what the tests have proven a kind's row."""

    REAL = "its own controller"
    STAND_IN = "a scripted stand-in for its controller"
    REQUESTS = "scripted requests like theirs"
    """Of who is no controller, or of whom only what he asks of the API matters."""
    SCHEMA = "its API alone"


@dataclass(frozen=True, slots=True)
class Tie:
    """How a kind that owns no pods is tied to those that run because of it (see core/ties)."""

    labels: tuple[tuple[str, tuple[Path, ...]], ...] = ()
    """What all of it bears, each with where the value stands on the object: by version of its API."""
    host: str = ""
    """The kind that makes the pods and may make others too, so that it is not stopped for this one."""
    host_at: Path = ()
    """Where the host's name stands; absent, it may be any of its kind in the namespace."""

    def wanted(self, body: Mapping[str, Any]) -> Mapping[str, str]:
        """The labels of what this object steers; empty where it does not say all of them."""
        found = {
            label: next((text for path in paths if (text := _text(body, path))), "")
            for label, paths in self.labels
        }
        return found if all(found.values()) else {}

    def host_of(self, body: Mapping[str, Any]) -> str:
        """The name of the host, as this object says it."""
        return _text(body, self.host_at) if self.host_at else ""


def _text(body: Mapping[str, Any], path: Path) -> str:
    found = Setting(path, rest=None).read(body)
    return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of workload."""

    resource: Resource
    verb: Verb
    settings: tuple[Setting, ...] = ()
    """What is written. With SCALE one: where the count stands on the object itself."""
    lost: str = ""
    """What a stop loses for good, as the plan says it; empty: nothing but what runs."""
    since: str = ""
    """The version of its controller from which on the rest is honoured."""
    fights: str = ""
    """Who starts it again by itself, and what that meets."""
    note: str = ""
    """What to know beside that."""
    leaves_children: bool = False
    """Its children go on when it rests: they are brought to rest beside it."""
    with_owner: bool = False
    """It is brought to rest beside its owner, which another controller starts through it."""
    template: tuple[str, ...] | None = None
    """Where its pod template stands, whose change is shown at the restore; None: all of `spec`."""
    ends: tuple[str, ...] = ()
    """Conditions of which each says that it has ended, and runs nothing more."""
    qualified: bool = False
    """Its bare kind means something else: it is called with its group."""
    proof: Proof = Proof.SCHEMA
    tie: Tie | None = None
    """How its pods are known, where they are not found below it by owner references."""
    borne: tuple[tuple[str, Path], ...] = ()
    """Labels that it bears in effect, each with the field that says it in their place."""
    through: tuple[str, ...] = ()
    """What may stand between it and its pods: kinds by name, of `LINKS` the key; empty: what is always
    seen, or nothing."""

    @property
    def name(self) -> str:
        """What people and records call it: `Deployment`, `Service.serving.knative.dev`."""
        kind = self.resource.kind
        return f"{kind}.{self.resource.group}" if self.qualified else kind

    @property
    def owns_pods(self) -> bool:
        """Whether its pods are found below it. Where not, that none is found there proves nothing."""
        return self.tie is None

    @property
    def counted(self) -> bool:
        """Whether it has a count of replicas, so that a canary of it can be less than all."""
        return self.verb is Verb.SCALE

    @property
    def word(self) -> str:
        """How commands name it: `deployment`."""
        return self.name.lower()

    def __str__(self) -> str:
        """Its name."""
        return self.name


_TEMPLATE = ("spec", "template")
_SUSPEND = (Setting(("spec", "suspend"), rest=True),)
_STOP = (Setting(("metadata", "annotations", "serving.kserve.io/stop"), rest="true"),)
STOPPED_KEY = f"{GROUP}/stopped"
"""A label that no node carries: a DaemonSet that asks for it starts nothing."""


def scaled(
    resource: Resource,
    *,
    path: tuple[str, ...] = ("spec", "replicas"),
    template: tuple[str, ...] | None = None,
    lost: str = "",
    fights: str = "",
    note: str = "",
    proof: Proof = Proof.SCHEMA,
    qualified: bool = False,
    tie: Tie | None = None,
    through: tuple[str, ...] = (),
) -> Kind:
    """A kind with `/scale`; `path` is where its count stands on the object (specReplicasPath)."""
    return Kind(
        resource,
        Verb.SCALE,
        (Setting(path, rest=0),),
        lost=lost,
        fights=fights,
        note=note,
        template=template,
        proof=proof,
        qualified=qualified,
        tie=tie,
        through=through,
    )


def unsupported(resource: Resource, *, hidden: bool = False) -> Kind:
    """A kind that nothing is known of: the lock holds it, its pods and those below it stop.

    `hidden`: it has `/scale`, and where its count stands may not be read. A count that is not known
    could not be given back, so it is not scaled.
    """
    why = (
        "its definition may not be read, so its count is not known"
        if hidden
        else ("nothing is known of how it rests")
    )
    note = f"{why}: a release lets its controller start it again"
    return Kind(resource, Verb.NONE, note=note, leaves_children=True, qualified=True)


_AIBRIX = "orchestration.aibrix.ai"
_KSERVE, _KNATIVE, _RAY = "serving.kserve.io", "serving.knative.dev", "ray.io"
_IN_REVISIONS = (f"configurations.{_KNATIVE}", f"revisions.{_KNATIVE}")
_IN_SERVICES = (f"Service.{_KNATIVE}", *_IN_REVISIONS)
_QUEUE = "kueue.x-k8s.io/queue-name"
_WORK = "the work of its pods since their last checkpoint"

_ALL = (
    scaled(
        DEPLOYMENTS,
        template=_TEMPLATE,
        proof=Proof.REAL,
        fights="HPA (rests at 0), KEDA, GitOps, parent operators",
    ),
    scaled(
        STATEFULSETS,
        template=_TEMPLATE,
        proof=Proof.REAL,
        fights="HPA (rests at 0), KEDA, GitOps, parent operators",
        note="with `whenScaled: Delete` its volumes would be deleted (KEP-1847): it is not scaled then",
    ),
    scaled(
        REPLICASETS,
        template=_TEMPLATE,
        proof=Proof.REAL,
        fights="HPA (rests at 0), KEDA",
        note="only one that nobody owns; else its owner is stopped",
    ),
    scaled(
        REPLICATION_CONTROLLERS, template=_TEMPLATE, proof=Proof.REAL, fights="HPA (rests at 0)"
    ),
    Kind(
        DAEMONSETS,
        Verb.SET,
        (Setting(("spec", "template", "spec", "nodeSelector", STOPPED_KEY), rest="true"),),
        fights="GitOps, parent operators",
        note="asks for a node label that no node carries; each stop and restore is a revision of it",
        template=_TEMPLATE,
        proof=Proof.REAL,
    ),
    Kind(
        JOBS,
        Verb.SET,
        _SUSPEND,
        lost=_WORK,
        fights="Kueue un-suspends a job that it has admitted; workflow engines",
        note="its start time begins anew, its deadline waits meanwhile (KEP-2232)",
        template=_TEMPLATE,
        ends=("Complete", "Failed"),
        proof=Proof.REAL,
    ),
    Kind(
        CRON_JOBS,
        Verb.SET,
        _SUSPEND,
        lost="the runs that fall into the stop",
        fights="GitOps",
        note="its running Jobs are suspended beside it",
        leaves_children=True,
        template=("spec", "jobTemplate"),
        through=("Job",),
        proof=Proof.REAL,
    ),
    Kind(
        Resource("keda.sh", "v1alpha1", "scaledjobs", "ScaledJob"),
        Verb.SET,
        (Setting(("metadata", "annotations", "autoscaling.keda.sh/paused"), rest="true"),),
        lost=_WORK,
        fights="nobody while it is paused; GitOps that owns the annotation",
        note="paused, it makes no new Jobs; its running ones are suspended beside it",
        leaves_children=True,
        template=("spec", "jobTargetRef"),
        through=("Job",),
        proof=Proof.STAND_IN,
    ),
    Kind(
        PODS,
        Verb.RECREATE,
        lost="the pod itself: it is made again from its recorded manifest, under a new uid",
        note="a pod that nobody owns; static pods need the node guard",
        proof=Proof.REAL,
    ),
    Kind(
        Resource(_KSERVE, "v1beta1", "inferenceservices", "InferenceService"),
        Verb.SET,
        _STOP,
        since="KServe 0.15.1 (Serverless), 0.16.0 (RawDeployment)",
        fights="GitOps that owns the annotation",
        note="older ones ignore the annotation, and so does one with"
        " `serving.kserve.io/disable-auto-update: true`: the lock and its pods' deletion hold",
        through=_IN_SERVICES,
        proof=Proof.STAND_IN,
    ),
    Kind(
        Resource(_KSERVE, "v1alpha1", "inferencegraphs", "InferenceGraph"),
        Verb.SET,
        _STOP,
        since="KServe 0.16.0",
        fights="GitOps that owns the annotation",
        note="the services that it leads to go on",
        through=_IN_SERVICES,
        proof=Proof.STAND_IN,
    ),
    Kind(
        Resource(_KSERVE, "v1alpha1", "llminferenceservices", "LLMInferenceService"),
        Verb.SET,
        _STOP,
        since="KServe 0.17.0",
        fights="GitOps that owns the annotation",
        note="its scheduler, router and autoscalers go with it",
        through=("LeaderWorkerSet",),
        proof=Proof.STAND_IN,
    ),
    Kind(
        Resource(_KNATIVE, "v1", "services", "Service"),
        Verb.NONE,
        fights="its autoscaler writes its own count, the activator wakes it at any request",
        note="has no field to stop it (knative/serving#4262; max-scale 0 means no limit): a release"
        " lets the next request start it",
        qualified=True,
        through=_IN_REVISIONS,
        proof=Proof.STAND_IN,
    ),
    Kind(
        Resource(_RAY, "v1", "rayservices", "RayService"),
        Verb.SET,
        _SUSPEND,
        lost="the state of its head: actors and objects in memory",
        since="KubeRay 1.7.0",
        fights="its controller, until `suspend` is known to it",
        through=("RayCluster",),
        proof=Proof.STAND_IN,
    ),
    Kind(
        Resource(_RAY, "v1", "rayclusters", "RayCluster"),
        Verb.SET,
        _SUSPEND,
        lost="the state of its head: actors and objects in memory",
        fights="the RayService or RayJob that owns it; its own autoscaler",
        proof=Proof.STAND_IN,
    ),
    Kind(
        Resource(_RAY, "v1", "rayjobs", "RayJob"),
        Verb.SET,
        _SUSPEND,
        lost="the work of its cluster",
        fights="Kueue",
        note="its controller accepts `suspend` only with `shutdownAfterJobFinishes: true`",
        through=("RayCluster", "Job"),
        proof=Proof.STAND_IN,
    ),
    Kind(
        Resource(_RAY, "v1", "raycronjobs", "RayCronJob"),
        Verb.SET,
        _SUSPEND,
        lost="the runs that fall into the stop, and the work of those that run",
        fights="GitOps",
        note="its running RayJobs are suspended beside it; where KubeRay's feature gate is off, nothing is below it",
        leaves_children=True,
        template=("spec", "jobTemplate"),
        through=("RayJob", "RayCluster", "Job"),
        proof=Proof.STAND_IN,
    ),
    scaled(
        Resource("leaderworkerset.x-k8s.io", "v1", "leaderworkersets", "LeaderWorkerSet"),
        fights="HPA, KEDA; it makes its StatefulSets anew",
        proof=Proof.STAND_IN,
    ),
    Kind(
        Resource("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet"),
        Verb.SET,
        _SUSPEND,
        lost=_WORK,
        fights="Kueue",
        note="it suspends its Jobs itself",
        through=("Job",),
        proof=Proof.STAND_IN,
    ),
    Kind(
        Resource("kueue.x-k8s.io", "v1beta1", "workloads", "Workload"),
        Verb.SET,
        (Setting(("spec", "active"), rest=False),),
        fights="Kueue starts what it has admitted",
        note="brought to rest beside the job that it stands for",
        with_owner=True,
        qualified=True,
        borne=((_QUEUE, ("spec", "queueName")),),
        ends=("Finished",),
        proof=Proof.STAND_IN,
    ),
    Kind(
        Resource("kueue.x-k8s.io", "v1beta1", "localqueues", "LocalQueue"),
        Verb.SET,
        (Setting(("spec", "stopPolicy"), rest="HoldAndDrain"),),
        lost=_WORK,
        note="stops everything that is queued through it, whoever's; what is queued later waits in it",
        tie=Tie(labels=((_QUEUE, (("metadata", "name"),)),)),
        proof=Proof.STAND_IN,
    ),
    scaled(
        Resource("argoproj.io", "v1alpha1", "rollouts", "Rollout"),
        template=_TEMPLATE,
        fights="HPA (rests at 0), KEDA, GitOps; its own controller makes its ReplicaSets",
        proof=Proof.REAL,
    ),
    Kind(
        Resource("mlops.seldon.io", "v1alpha1", "models", "Model"),
        Verb.SET,
        (Setting(("spec", "minReplicas"), rest=0), Setting(("spec", "replicas"), rest=0)),
        fights="Seldon Core's autoscaler",
        note="fewer replicas than minReplicas are an error, so both are written at once",
        qualified=True,
        tie=Tie(host="Server.mlops.seldon.io", host_at=("spec", "server")),
    ),
    Kind(
        Resource("mlops.seldon.io", "v1alpha1", "servers", "Server"),
        Verb.SET,
        (Setting(("spec", "minReplicas"), rest=0), Setting(("spec", "replicas"), rest=0)),
        lost="what other models of the same server are answering",
        fights="Seldon Core's autoscaler",
        note="serves several models: all of them stop",
        qualified=True,
        proof=Proof.STAND_IN,
    ),
    scaled(
        Resource(
            "nvidia.com",
            "v1alpha1",
            "dynamographdeploymentscalingadapters",
            "DynamoGraphDeploymentScalingAdapter",
        ),
        fights="the Planner, HPA and KEDA on the adapter, its operator",
        note="Dynamo 1.2 or newer, with the adapter of the service enabled; one of a component group"
        " does not say which pods are the group's, and elastic followers (`<service>-flw`) are a"
        " component of their own",
        tie=Tie(
            labels=(
                ("nvidia.com/dynamo-graph-deployment-name", (("spec", "dgdRef", "name"),)),
                (
                    "nvidia.com/dynamo-component",
                    (("spec", "dgdRef", "serviceName"), ("spec", "dgdRef", "componentName")),
                ),
            ),
        ),
        proof=Proof.STAND_IN,
    ),
    scaled(
        Resource("production-stack.vllm.ai", "v1alpha1", "vllmruntimes", "VLLMRuntime"),
        path=("spec", "deploymentConfig", "replicas"),
        fights="its controller reverts its Deployment, and applies its ScaledObject again",
        proof=Proof.STAND_IN,
    ),
    scaled(
        Resource(_AIBRIX, "v1alpha1", "stormservices", "StormService"),
        fights="PodAutoscaler: rests at 0 unless an active schedule has minReplicas",
        note="`spec.paused` pauses rollouts only",
        through=(f"rolesets.{_AIBRIX}", f"podsets.{_AIBRIX}"),
        proof=Proof.STAND_IN,
    ),
    scaled(
        Resource(_AIBRIX, "v1alpha1", "rayclusterfleets", "RayClusterFleet"),
        fights="PodAutoscaler: rests at 0 unless an active schedule has minReplicas",
        lost="the state of its heads",
        through=(f"rayclusterreplicasets.{_AIBRIX}", "RayCluster"),
        proof=Proof.STAND_IN,
    ),
    Kind(
        Resource("agents.x-k8s.io", "v1alpha1", "sandboxes", "Sandbox"),
        Verb.SET,
        (Setting(("spec", "operatingMode"), rest="Suspended"),),
        note="agent-sandbox's own suspension",
        proof=Proof.STAND_IN,
    ),
)
TABLE: Mapping[str, Kind] = {each.name: each for each in _ALL}
"""The kinds that killswitch knows, by name."""

TIE_LABELS = frozenset(
    label for each in _ALL if each.tie is not None for label, _paths in each.tie.labels
)
"""All labels by which something is known to be steered."""

LINKS = (
    Resource(_KNATIVE, "v1", "configurations", "Configuration"),
    Resource(_KNATIVE, "v1", "revisions", "Revision"),
    Resource(_AIBRIX, "v1alpha1", "rolesets", "RoleSet"),
    Resource(_AIBRIX, "v1alpha1", "podsets", "PodSet"),
    Resource(_AIBRIX, "v1alpha1", "rayclusterreplicasets", "RayClusterReplicaSet"),
)
"""What stands between a workload and its pods, and is never stopped itself."""
LINK_KEYS = frozenset(each.key for each in LINKS)

NO_KINDS = frozenset({PODS.kind, NODES.kind, NAMESPACES.kind})
"""Targets that are no kinds of workloads."""
BUILT_IN_GROUPS = frozenset({"", "apps", "batch"})
"""API groups that every cluster serves."""
_WITHOUT_PODS = frozenset({GROUP, "autoscaling"})
"""API groups of which no object can own pods."""
_CORE_KEYS = frozenset(each.resource.key for each in _ALL if not each.resource.group)


def recorded(name: str) -> Kind:
    """The kind that a record names; one that is not in the table is known by its name alone."""
    if (known := TABLE.get(name)) is not None:
        return known
    kind, _, group = name.partition(".")
    return unsupported(Resource(group, "v1", f"{kind.lower()}s", kind))


def owns_nothing(name: str) -> bool:
    """Whether no object of the kind of this name (see `named`) can own pods, at any depth."""
    kind, _, group = name.partition(".")
    if group in _WITHOUT_PODS:
        return True
    return not group and name not in TABLE and kind not in {"Namespace", "Node"}


def key_owns_nothing(key: str) -> bool:
    """The same of the resource of this key: `configmaps`."""
    _, _, group = key.partition(".")
    return group in _WITHOUT_PODS or (not group and key not in _CORE_KEYS)


def named(kind: str, group: str | None = None) -> str:
    """The name of the kind that a policy means: `kind`, and its API group if that is given.

    `Deployment` and `Deployment` of `apps` are one; a kind of any other group bears the group.
    """
    known = TABLE.get(kind)
    if group is None or (known is not None and known.resource.group == group):
        return kind
    found = f"{kind}.{group}"
    twin = next(
        (each for each in _ALL if (each.resource.kind, each.resource.group) == (kind, group)), None
    )
    return twin.name if twin is not None else found
