"""Who starts held targets again: each row of the table, asked with objects as the projects write them."""

from typing import Any

import pytest

from killswitch.core import fighters
from killswitch.core.fighters import (
    ARGO_CD,
    HELM_RELEASE,
    HPA,
    KNATIVE,
    KUEUE,
    KUSTOMIZATION,
    SCALED_JOB,
    SCALED_OBJECT,
    TABLE,
    Fighter,
    Judgement,
)

Json = dict[str, Any]


def target(kind: str = "Deployment", api: str = "apps/v1", **metadata: Any) -> Json:
    """A target `prod/vllm` of this kind."""
    own = {"name": "vllm", "namespace": "prod", "uid": "t", **metadata}
    return {"apiVersion": api, "kind": kind, "metadata": own}


def fighter(name: str = "vllm", namespace: str = "prod", **body: Any) -> Json:
    """A fighter of some kind."""
    metadata = {"name": name, "namespace": namespace, "uid": "f", **body.pop("metadata", {})}
    return {"metadata": metadata, **body}


def referring(**reference: str) -> Json:
    """A fighter with this `scaleTargetRef`."""
    return fighter(spec={"scaleTargetRef": reference})


DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm"}
ROLLOUT = target("Rollout", "argoproj.io/v1alpha1")
TRACKED = target(annotations={"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:prod/vllm"})
LABELLED = target(labels={"app.kubernetes.io/instance": "shop"})
APPLIED = {"group": "apps", "kind": "Deployment", "namespace": "prod", "name": "vllm"}
KUSTOMIZED = target(
    labels={
        "kustomize.toolkit.fluxcd.io/name": "models",
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    }
)
RELEASED = target(
    labels={"helm.toolkit.fluxcd.io/name": "vllm", "helm.toolkit.fluxcd.io/namespace": "prod"}
)
OWNED = target("Job", "batch/v1", ownerReferences=[{"uid": "f", "kind": "ScaledJob", "name": "x"}])
QUEUED = fighter(metadata={"ownerReferences": [{"uid": "t", "kind": "Job", "name": "vllm"}]})

STARTS: dict[str, tuple[Fighter, Json, Json, bool]] = {
    "an HPA by its reference": (HPA, referring(**DEPLOYMENT), target(), True),
    "not of another name": (HPA, referring(**{**DEPLOYMENT, "name": "other"}), target(), False),
    "not of another group": (HPA, referring(**DEPLOYMENT), ROLLOUT, False),
    "KEDA's Deployment goes without saying": (
        SCALED_OBJECT,
        referring(name="vllm"),
        target(),
        True,
    ),
    "but it is no Rollout": (SCALED_OBJECT, referring(name="vllm"), ROLLOUT, False),
    "of another namespace it is another": (
        SCALED_OBJECT,
        {**referring(name="vllm"), "metadata": {"name": "x", "namespace": "dev", "uid": "f"}},
        target(),
        False,
    ),
    "a ScaledJob owns its Jobs": (SCALED_JOB, fighter(), OWNED, True),
    "and no others": (SCALED_JOB, fighter(), target("Job", "batch/v1"), False),
    "Knative's by its reference": (KNATIVE, referring(**DEPLOYMENT), target(), True),
    "an Application by the tracking id": (ARGO_CD, fighter("shop", "argocd"), TRACKED, True),
    "also in any namespace": (
        ARGO_CD,
        fighter("shop", "team"),
        target(annotations={"argocd.argoproj.io/tracking-id": "team_shop:x"}),
        True,
    ),
    "not that of another": (ARGO_CD, fighter("other", "argocd"), TRACKED, False),
    "of two of one name the one that lists it": (
        ARGO_CD,
        fighter("shop", "team", status={"resources": [{**APPLIED, "name": "other"}]}),
        TRACKED,
        False,
    ),
    "by what it lists": (
        ARGO_CD,
        fighter("other", "argocd", status={"resources": [APPLIED]}),
        target(),
        True,
    ),
    "by the label, while it lists nothing": (ARGO_CD, fighter("shop", "argocd"), LABELLED, True),
    "which Helm writes as well": (
        ARGO_CD,
        fighter("shop", "argocd", status={"resources": [{**APPLIED, "name": "other"}]}),
        LABELLED,
        False,
    ),
    "a Kustomization by its labels": (
        KUSTOMIZATION,
        fighter("models", "flux-system"),
        KUSTOMIZED,
        True,
    ),
    "of another namespace it is not": (KUSTOMIZATION, fighter("models", "prod"), KUSTOMIZED, False),
    "a HelmRelease by its labels": (HELM_RELEASE, fighter(), RELEASED, True),
    "Kueue's Workload belongs to its job": (KUEUE, QUEUED, target("Job", "batch/v1"), True),
}


@pytest.mark.parametrize("case", STARTS)
def test_which_fighter_is_about_which_target(case: str) -> None:
    """By what the projects themselves go by."""
    row, body, held, expected = STARTS[case]
    assert expected == row.starts(body, held)


def annotated(**annotations: str) -> Json:
    """A KEDA object with these of its annotations."""
    named = {
        f"autoscaling.keda.sh/{key.replace('_', '-')}": each for key, each in annotations.items()
    }
    return fighter(metadata={"annotations": named})


def synced(automated: Json | None) -> Json:
    """An Application with this automated policy."""
    return fighter(
        "shop", spec={"syncPolicy": {} if automated is None else {"automated": automated}}
    )


RESTS: dict[str, tuple[Fighter, Json, bool, str]] = {
    "an HPA": (HPA, fighter(), True, "does nothing"),
    "one that parked its target itself": (
        HPA,
        fighter(status={"conditions": [{"type": "ScaledToZero", "status": "True"}]}),
        False,
        "KEP-2021",
    ),
    "one that KEDA made": (
        HPA,
        fighter(metadata={"ownerReferences": [{"kind": "ScaledObject", "name": "s", "uid": "u"}]}),
        True,
        "made by ScaledObject s",
    ),
    "a ScaledObject": (SCALED_OBJECT, fighter(), False, "trigger"),
    "paused at 0": (SCALED_OBJECT, annotated(paused_replicas="0"), True, "not by this stop"),
    "paused at 3": (SCALED_OBJECT, annotated(paused_replicas="3"), False, "trigger"),
    "paused at 3 and paused": (
        SCALED_OBJECT,
        annotated(paused_replicas="3", paused="true"),
        False,
        "trigger",
    ),
    "paused with a word": (SCALED_OBJECT, annotated(paused="yes please"), True, "not by this stop"),
    "not paused": (SCALED_OBJECT, annotated(paused="false"), False, "trigger"),
    "a ScaledJob": (SCALED_JOB, fighter(), False, "new Jobs"),
    "a paused ScaledJob": (
        SCALED_JOB,
        fighter(metadata={"annotations": {"autoscaling.keda.sh/paused": "true"}}),
        True,
        "paused",
    ),
    "Knative": (KNATIVE, fighter(), False, "request"),
    "by hand": (ARGO_CD, synced(None), True, "asks"),
    "automated": (ARGO_CD, synced({}), False, "at its next sync"),
    "self-healing": (ARGO_CD, synced({"selfHeal": True}), False, "within seconds"),
    "switched off": (ARGO_CD, synced({"enabled": False}), True, "not by this stop"),
    "Flux": (KUSTOMIZATION, fighter(spec={}), False, "Git"),
    "suspended": (HELM_RELEASE, fighter(spec={"suspend": True}), True, "suspended"),
    "admitted": (KUEUE, fighter(spec={"active": True}), False, "un-suspends"),
    "inactive": (KUEUE, fighter(spec={"active": False}), True, "inactive"),
}


@pytest.mark.parametrize("case", RESTS)
def test_what_each_does_at_zero(case: str) -> None:
    """As the table says, and with the reason."""
    row, body, rests, words = RESTS[case]
    found = row.judge(body)
    assert rests == found.rests
    assert words in found.words


def test_an_app_of_apps_is_named() -> None:
    """Its parent sets back what quiets it."""
    body = synced({})
    body["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": "root:x"}
    assert ARGO_CD.judge(body).words.endswith("; Application root applies it and may set it back")


def test_every_row_can_be_shown_and_judged() -> None:
    """The table in the docs is generated from it, and no two rows are of one kind."""
    kinds = [each.kind for each in TABLE if each.kind]
    assert len(set(kinds)) == len(kinds)
    for each in TABLE:
        assert each.name
        assert each.at_zero
        assert each.quieted
        assert bool(each.quiet) == bool(each.ways)
        assert isinstance(each.judge(fighter(spec={})), Judgement)
    assert {each.quiet for each in TABLE if each.quiet} == {"KEDA", "ArgoCD", "Flux"}


def test_gitops_comes_after_the_autoscalers() -> None:
    """The order of the table is that in which a restore gives them back."""
    order = [each.everywhere for each in TABLE if each.quiet]
    assert order == sorted(order)


def test_a_release_is_warned_of_by_those_who_are_loud() -> None:
    """Who rests or is quieted starts nothing; of many the first are named."""
    quiet = [{"name": "HorizontalPodAutoscaler prod/vllm", "state": "Resting", "message": "m"}]
    loud = {"name": "ScaledObject prod/vllm", "state": "Unquieted", "message": "a trigger"}
    assert fighters.starting(quiet) == ""
    assert (
        fighters.starting([*quiet, loud])
        == "a release starts it: ScaledObject prod/vllm (a trigger)"
    )
    assert fighters.starting([loud] * 7).endswith(" and 2 more")


def test_who_claims_a_target_is_read_from_it() -> None:
    """Also where that GitOps runs in another cluster, and cannot be seen."""
    assert list(fighters.claimants(TRACKED)) == [("Application", "shop")]
    assert list(fighters.claimants(KUSTOMIZED)) == [("Kustomization", "flux-system/models")]
    assert list(fighters.claimants(target())) == []
    claim = ("Application", "team_shop")
    assert fighters.is_claimed_by(claim, ARGO_CD, fighter("shop", "team"))
    assert not fighters.is_claimed_by(claim, ARGO_CD, fighter("shop", "argocd"))


def test_the_most_that_an_autoscaler_allows() -> None:
    """Where it says so."""
    assert fighters.most(HPA, fighter(spec={"maxReplicas": 4})) == 4
    assert fighters.most(SCALED_OBJECT, fighter(spec={"maxReplicaCount": 2})) == 2
    assert fighters.most(SCALED_OBJECT, fighter(spec={})) is None
    assert fighters.most(ARGO_CD, fighter(spec={})) is None


@pytest.mark.parametrize("fighter", [fighters.PEOPLE, fighters.VPA, fighters.NODE_AUTOSCALER])
def test_who_is_no_controller_of_targets_is_not_said_to_be_proven_on_one(fighter: Fighter) -> None:
    """In docs/kinds.md: there is none that a stand-in could play."""
    assert str(fighter.proof) == "scripted requests like theirs"
