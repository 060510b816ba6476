"""Who would start a plan's targets again, met before anything is stopped."""

import time
from typing import Any

from killswitch.core import fighters, opponents
from killswitch.core.opponents import Opponent

Json = dict[str, Any]
VLLM: Json = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "namespace": "prod",
        "name": "vllm",
        "uid": "d1",
        "labels": {
            "kustomize.toolkit.fluxcd.io/name": "models",
            "kustomize.toolkit.fluxcd.io/namespace": "flux",
        },
        "annotations": {"argocd.argoproj.io/tracking-id": "llm:apps/Deployment:prod/vllm"},
    },
}


def named(name: str, namespace: str = "prod", **more: Any) -> Json:
    """A fighter of that name."""
    return {"metadata": {"namespace": namespace, "name": name, "uid": f"u-{name}"}, **more}


def referring(name: str, target: str = "vllm", kind: str = "Deployment") -> Json:
    """One that names its target."""
    return named(
        name, spec={"scaleTargetRef": {"name": target, "kind": kind, "apiVersion": "apps/v1"}}
    )


def met(
    *found: tuple[fighters.Fighter, Json], quiet: tuple[str, ...] = ("KEDA",)
) -> list[Opponent]:
    """Of a plan about one Deployment."""
    return list(opponents.of([VLLM], found, quiet))


def test_autoscalers_are_found_by_what_they_scale() -> None:
    """By name and kind, in the same namespace."""
    found = met(
        (fighters.HPA, referring("hpa")),
        (fighters.SCALED_OBJECT, referring("wake")),
        (fighters.SCALED_OBJECT, referring("other", target="embed")),
        (fighters.HPA, referring("sts", kind="StatefulSet")),
    )
    assert [(each.name, each.rests, each.paused, each.starts) for each in found] == [
        ("HorizontalPodAutoscaler prod/hpa", True, False, False),
        ("ScaledObject prod/wake", False, True, False),
    ]


def test_who_is_not_paused_starts_it_at_the_release() -> None:
    """Unless it rests; how to pause it is said."""
    (wake,) = met((fighters.SCALED_OBJECT, referring("wake")), quiet=())
    assert (wake.starts, wake.quiet, wake.targets) == (True, "KEDA", ("Deployment vllm",))


def test_gitops_is_found_by_what_it_marks() -> None:
    """Wherever its own object lies."""
    argo = named("llm", "argocd", spec={"syncPolicy": {"automated": {"selfHeal": True}}})
    listing = named("apps", "argocd", spec={}, status={"resources": [
        {"group": "apps", "kind": "Deployment", "namespace": "prod", "name": "vllm"}]})  # fmt: skip
    found = met(
        (fighters.ARGO_CD, argo),
        (fighters.ARGO_CD, listing),
        (fighters.KUSTOMIZATION, named("models", "flux")),
        (fighters.KUSTOMIZATION, named("others", "flux")),
        quiet=("Flux",),
    )
    assert [(each.name, each.starts) for each in found] == [
        ("Application argocd/llm", True),
        ("Application argocd/apps", False),
        ("Kustomization flux/models", False),
    ]


def test_kueue_is_found_by_what_its_workload_stands_for() -> None:
    """The Workload is owned by the job that it starts."""
    job = {
        **VLLM,
        "kind": "Job",
        "apiVersion": "batch/v1",
        "metadata": {**VLLM["metadata"], "uid": "j1"},
    }
    workload = named("job-train")
    workload["metadata"]["ownerReferences"] = [{"uid": "j1", "kind": "Job", "name": "train"}]
    (found,) = opponents.of([job], [(fighters.KUEUE, workload)], ())
    assert found.targets == ("Job vllm",)


def test_its_cost_grows_with_both_and_not_with_their_product() -> None:
    """Printed, not asserted: it depends on the machine."""
    targets = [
        {**VLLM, "metadata": {"namespace": "prod", "name": f"m{n}", "uid": f"d{n}"}}
        for n in range(5000)
    ]
    found = [(fighters.HPA, referring(f"h{n}", target=f"m{n}")) for n in range(5000)]
    before = time.perf_counter()
    assert len(opponents.of(targets, found, ())) == 5000
    print(f"5000 autoscalers of 5000 workloads: {(time.perf_counter() - before) * 1000:.0f} ms")
