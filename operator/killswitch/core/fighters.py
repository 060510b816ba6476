"""Who starts held targets again by itself, as data: what each does at zero, and how it is quieted.

The lock holds against all of them. They matter at the release: whoever neither rests at 0 nor was
quieted starts the targets then. `TABLE` is the specification; the table in docs/kinds.md is generated
from it. Its sources are the projects' own code and documents.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from killswitch.core.kinds import Proof, Setting
from killswitch.core.resources import Resource

Json = Mapping[str, Any]
Ways = tuple[tuple[Setting, ...], ...]


class State(StrEnum):
    """How a fighter stands; as `status.fighters` says it."""

    QUIETED = "Quieted"  # paused by this stop
    RESTING = "Resting"  # does nothing at 0
    UNQUIETED = "Unquieted"  # starts the targets as soon as they are released
    RESUMED = "Resumed"  # given back by the restore


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a fighter that nobody of ours has touched would do."""

    rests: bool
    words: str


Starts = Callable[[Json, Json], bool]
"""Whether the first, a fighter, starts the second, a target."""
Judge = Callable[[Json], Judgement]


@dataclass(frozen=True, slots=True)
class Fighter:
    """One kind of fighter."""

    name: str
    at_zero: str
    """What it does when its target stands at 0 and is free."""
    quieted: str
    """How it is quieted, for people."""
    catch: str = ""
    """What to know beside that."""
    resource: Resource | None = None
    """None: nothing in the API says that it is there."""
    quiet: str = ""
    """How `spec.quiet` names it; empty: it is never quieted."""
    ways: Ways = ()
    """What is written to quiet it: the first whose fields the cluster's version of it knows."""
    starts: Starts = lambda _fighter, _target: False
    judge: Judge = lambda _fighter: Judgement(rests=True, words="")
    everywhere: bool = False
    """It may lie in another namespace than its targets."""
    ceiling: tuple[str, ...] = ()
    """Where the most replicas stand that it allows; empty: it allows any number."""
    proof: Proof = Proof.SCHEMA

    @property
    def kind(self) -> str:
        """As records name it: `ScaledObject.keda.sh`; empty for one without objects."""
        return f"{self.resource.kind}.{self.resource.group}" if self.resource is not None else ""

    def __str__(self) -> str:
        """Its name."""
        return self.name


def title(fighter: Fighter, body: Json) -> str:
    """`ScaledObject prod/vllm`."""
    metadata = body["metadata"]
    kind = fighter.resource.kind if fighter.resource is not None else fighter.name
    return f"{kind} {metadata.get('namespace', '')}/{metadata['name']}"


def most(fighter: Fighter, body: Json) -> int | None:
    """The most replicas that it allows its target now; None: it does not say."""
    found = Setting(fighter.ceiling, rest=None).read(body) if fighter.ceiling else None
    return found if isinstance(found, int) else None


def starting(fighters: Iterable[Json]) -> str:
    """What a release starts, of `status.fighters`: for people who approve; empty: nothing known."""
    loud = [each for each in fighters if each["state"] == State.UNQUIETED]
    named = [
        f"{each['name']} ({each['message']})" if each.get("message") else str(each["name"])
        for each in loud[:5]
    ]
    more = f" and {len(loud) - len(named)} more" if len(loud) > len(named) else ""
    return f"a release starts it: {'; '.join(named)}{more}" if named else ""


def claimants(target: Json) -> Iterable[tuple[str, str]]:
    """Who says on the target that it is theirs: kind of GitOps object, and `name` or `namespace/name`."""
    metadata = target["metadata"]
    if tracking := (metadata.get("annotations") or {}).get(_TRACKING):
        yield "Application", tracking.partition(":")[0]
    labels = metadata.get("labels") or {}
    for kind, prefix in (("Kustomization", _KUSTOMIZE), ("HelmRelease", _HELM)):
        if name := labels.get(f"{prefix}/name"):
            yield kind, f"{labels.get(f'{prefix}/namespace', '')}/{name}"


def is_claimed_by(claim: tuple[str, str], fighter: Fighter, body: Json) -> bool:
    """Whether this fighter is the one that a target names as its own."""
    kind, name = claim
    if fighter.resource is None or fighter.resource.kind != kind:
        return False
    metadata = body["metadata"]
    place = metadata.get("namespace", "")
    own = metadata["name"]
    return name in {own, f"{place}/{own}", f"{place}_{own}"}


def owner(target: Json) -> str:
    """Who controls the target, `Engine vllm`; empty: nobody."""
    for each in target["metadata"].get("ownerReferences") or ():
        if each.get("controller"):
            return f"{each['kind']} {each['name']}"
    return ""


_TRACKING = "argocd.argoproj.io/tracking-id"
_INSTANCE = "app.kubernetes.io/instance"
_KUSTOMIZE, _HELM = "kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io"
_PAUSED = "autoscaling.keda.sh/paused"
_PAUSED_AT = "autoscaling.keda.sh/paused-replicas"


def _annotations(body: Json) -> Json:
    return body["metadata"].get("annotations") or {}


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def _by_reference(fighter: Json, target: Json) -> bool:
    """`spec.scaleTargetRef` names it; a Deployment where no kind is given, as KEDA has it."""
    reference = (fighter.get("spec") or {}).get("scaleTargetRef") or {}
    return (
        fighter["metadata"].get("namespace") == target["metadata"].get("namespace")
        and reference.get("name") == target["metadata"]["name"]
        and reference.get("kind", "Deployment") == target["kind"]
        and _group(reference.get("apiVersion", "apps/v1")) == _group(target["apiVersion"])
    )


def _owns(fighter: Json, target: Json) -> bool:
    owners = target["metadata"].get("ownerReferences") or ()
    return any(each["uid"] == fighter["metadata"]["uid"] for each in owners)


def _stands_for(fighter: Json, target: Json) -> bool:
    return _owns(target, fighter)


def _applies(fighter: Json, target: Json) -> bool:
    """An Argo CD Application: by what it lists; by what the target says while it lists nothing.

    Two Applications may have one name, in two namespaces, and Helm writes the label as well.
    """
    metadata = target["metadata"]
    place = metadata.get("namespace", "")
    listed = (fighter.get("status") or {}).get("resources") or ()
    wanted = (_group(target["apiVersion"]), target["kind"], place, metadata["name"])
    if listed:
        return wanted in (
            (each.get("group", ""), each.get("kind"), each.get("namespace", ""), each.get("name"))
            for each in listed
        )
    own = fighter["metadata"]
    names = {own["name"], f"{own.get('namespace', '')}_{own['name']}"}
    if tracking := _annotations(target).get(_TRACKING):
        return tracking.partition(":")[0] in names
    return (metadata.get("labels") or {}).get(_INSTANCE) in names


def _labelled(prefix: str) -> Starts:
    def applies(fighter: Json, target: Json) -> bool:
        labels, own = target["metadata"].get("labels") or {}, fighter["metadata"]
        found = labels.get(f"{prefix}/name"), labels.get(f"{prefix}/namespace")
        return found == (own["name"], own.get("namespace"))

    return applies


def _of_hpa(body: Json) -> Judgement:
    made_by = next(
        (
            each["name"]
            for each in body["metadata"].get("ownerReferences") or ()
            if each["kind"] == "ScaledObject"
        ),
        "",
    )
    if made_by:
        return Judgement(rests=True, words=f"made by ScaledObject {made_by}, which is what counts")
    observed = (body.get("status") or {}).get("conditions") or ()
    if any(each["type"] == "ScaledToZero" and each["status"] == "True" for each in observed):
        words = "it had scaled the target to 0 itself (KEP-2021) and starts it on demand"
        return Judgement(rests=False, words=words)
    return Judgement(rests=True, words="does nothing while its target asks for 0 replicas")


def _of_keda(body: Json) -> Judgement:
    found = _annotations(body)
    if found.get(_PAUSED_AT) == "0":
        return Judgement(rests=True, words="paused at 0, not by this stop")
    if _PAUSED_AT not in found and found.get(_PAUSED, "false") != "false":
        return Judgement(rests=True, words="paused, not by this stop")
    return Judgement(rests=False, words="scales 0→1 as soon as a trigger is active")


def _of_scaled_job(body: Json) -> Judgement:
    if _annotations(body).get(_PAUSED, "false") != "false":
        return Judgement(rests=True, words="paused, so that it makes no new Jobs")
    return Judgement(rests=False, words="makes new Jobs as soon as a trigger is active")


def _of_argo(body: Json) -> Judgement:
    policy = (body.get("spec") or {}).get("syncPolicy") or {}
    automated = policy.get("automated")
    if automated is None:
        return Judgement(rests=True, words="syncs only when somebody asks it to")
    if automated.get("enabled") is False:
        return Judgement(rests=True, words="its automated sync is off, not by this stop")
    when = "within seconds (selfHeal)" if automated.get("selfHeal") else "at its next sync"
    return Judgement(rests=False, words=f"applies what is in Git {when}{_parent(body)}")


def _of_flux(body: Json) -> Judgement:
    if (body.get("spec") or {}).get("suspend") is True:
        return Judgement(rests=True, words="suspended, not by this stop")
    words = f"applies what is in Git at its next reconciliation{_parent(body)}"
    return Judgement(rests=False, words=words)


def _parent(body: Json) -> str:
    """Who applies the GitOps object itself: it may set back what quiets it."""
    found = [f"{kind} {name}" for kind, name in claimants(body)]
    return f"; {found[0]} applies it and may set it back" if found else ""


def _of_kueue(body: Json) -> Judgement:
    if (body.get("spec") or {}).get("active") is False:
        return Judgement(rests=True, words="inactive, so that Kueue does not start its job")
    return Judgement(rests=False, words="Kueue un-suspends the job when it is admitted")


def _of_knative(_body: Json) -> Judgement:
    return Judgement(
        rests=False, words="any request starts it, and there is no switch against that"
    )


def _annotated(name: str, value: str) -> Setting:
    return Setting(("metadata", "annotations", name), rest=value)


HPA = Fighter(
    "HorizontalPodAutoscaler",
    at_zero="rests; but one with `minReplicas: 0` whose condition `ScaledToZero` is True starts it on"
    " demand (Kubernetes 1.37, KEP-2021)",
    quieted="not at all: it has no pause (kubernetes#28603), and needs none at 0",
    catch="does not wake at 0 either: the restore writes at least 1, and never more than `maxReplicas`",
    resource=Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    starts=_by_reference,
    judge=_of_hpa,
    ceiling=("spec", "maxReplicas"),
    proof=Proof.REAL,
)
SCALED_OBJECT = Fighter(
    "KEDA ScaledObject",
    at_zero="scales 0→1 as soon as a trigger is active",
    quieted=f'annotation `{_PAUSED_AT}: "0"`',
    catch=f"`{_PAUSED}` alone freezes the count that there is; the HPA that it made goes and comes with"
    " the pause, so that one is never touched",
    resource=Resource("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject"),
    quiet="KEDA",
    ways=((_annotated(_PAUSED_AT, "0"),),),
    starts=_by_reference,
    judge=_of_keda,
    ceiling=("spec", "maxReplicaCount"),
    proof=Proof.REAL,
)
SCALED_JOB = Fighter(
    "KEDA ScaledJob",
    at_zero="makes new Jobs as soon as a trigger is active",
    quieted=f'by the stop itself, above its Jobs: annotation `{_PAUSED}: "true"`',
    catch="where it may not be listed, the lock of one of its Jobs does not hold the next",
    resource=Resource("keda.sh", "v1alpha1", "scaledjobs", "ScaledJob"),
    starts=_owns,
    judge=_of_scaled_job,
    proof=Proof.STAND_IN,
)
KNATIVE = Fighter(
    "Knative PodAutoscaler",
    at_zero="writes its own count; any request wakes it",
    quieted="not at all: it has no switch",
    catch="scrapers that ask the service keep it awake (knative/serving#11722)",
    resource=Resource(
        "autoscaling.internal.knative.dev", "v1alpha1", "podautoscalers", "PodAutoscaler"
    ),
    starts=_by_reference,
    judge=_of_knative,
    proof=Proof.STAND_IN,
)
ARGO_CD = Fighter(
    "Argo CD Application",
    at_zero="sets back what differs from Git: with `selfHeal` within seconds, else at its next sync",
    quieted="`spec.syncPolicy.automated.enabled: false`; before Argo CD 3.1, which does not know it,"
    " `automated` is taken away and kept in the record",
    catch="all that the Application applies is not synced meanwhile; an app of apps sets the Application"
    " back, and is named",
    resource=Resource("argoproj.io", "v1alpha1", "applications", "Application"),
    quiet="ArgoCD",
    ways=(
        (Setting(("spec", "syncPolicy", "automated", "enabled"), rest=False),),
        (Setting(("spec", "syncPolicy", "automated"), rest=None),),
    ),
    starts=_applies,
    judge=_of_argo,
    everywhere=True,
    proof=Proof.STAND_IN,
)
KUSTOMIZATION = Fighter(
    "Flux Kustomization",
    at_zero="sets back what differs from Git at its next reconciliation",
    quieted="`spec.suspend: true`",
    catch="all that it applies is not reconciled meanwhile; a parent that has `suspend` in Git sets it"
    " back, and is named",
    resource=Resource(_KUSTOMIZE, "v1", "kustomizations", "Kustomization"),
    quiet="Flux",
    ways=((Setting(("spec", "suspend"), rest=True),),),
    starts=_labelled(_KUSTOMIZE),
    judge=_of_flux,
    everywhere=True,
    proof=Proof.STAND_IN,
)
HELM_RELEASE = Fighter(
    "Flux HelmRelease",
    at_zero="sets back what differs from its chart at its next upgrade, with drift detection sooner",
    quieted="`spec.suspend: true`",
    catch="as a Kustomization",
    resource=Resource(_HELM, "v2", "helmreleases", "HelmRelease"),
    quiet="Flux",
    ways=((Setting(("spec", "suspend"), rest=True),),),
    starts=_labelled(_HELM),
    judge=_of_flux,
    everywhere=True,
    proof=Proof.STAND_IN,
)
KUEUE = Fighter(
    "Kueue Workload",
    at_zero="un-suspends a job that it has admitted",
    quieted="by the stop itself: `spec.active: false` beside the job",
    catch="a queue's `stopPolicy` would stop everybody's jobs in it",
    resource=Resource("kueue.x-k8s.io", "v1beta1", "workloads", "Workload"),
    starts=_stands_for,
    judge=_of_kueue,
    proof=Proof.STAND_IN,
)
OWNER = Fighter(
    "Controller that is not known",
    at_zero="writes its own count, or makes the target anew",
    quieted="not at all: name its own object as the target",
    catch="seen by an owner reference to an object of a kind that killswitch does not follow",
    proof=Proof.STAND_IN,
)
NODE_AUTOSCALER = Fighter(
    "Cluster Autoscaler, Karpenter",
    at_zero="nothing: they do not fight, they take away nodes that fell idle and bring new ones for"
    " pods that are pending",
    quieted="need not be: under the lock no pod is pending",
    catch="a restore waits for nodes; a cordon alone makes them bring new nodes",
    proof=Proof.REQUESTS,
)
VPA = Fighter(
    "VerticalPodAutoscaler",
    at_zero="nothing: it evicts and resizes pods, and sets no count",
    quieted="need not be",
    proof=Proof.REQUESTS,
)
PEOPLE = Fighter(
    "People, Helm",
    at_zero="whatever they are about: `kubectl scale`, an upgrade",
    quieted="by being told: the refusal names the Shutdown, its reason and the command that releases it",
    proof=Proof.REQUESTS,
)

TABLE = (
    HPA,
    SCALED_OBJECT,
    SCALED_JOB,
    KNATIVE,
    ARGO_CD,
    KUSTOMIZATION,
    HELM_RELEASE,
    KUEUE,
    OWNER,
    NODE_AUTOSCALER,
    VPA,
    PEOPLE,
)
"""Every fighter that is known; autoscalers before GitOps, as a restore gives them back."""

RECORDED = {each.kind: each for each in TABLE if each.quiet}
"""Those that are quieted, by how records name them: what stood there is recorded."""


def recorded(kind: str) -> Fighter | None:
    """The fighter that a record is of; None where it is of something else."""
    return RECORDED.get(kind)
