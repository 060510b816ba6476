"""What a policy would stop."""

import pytest

from killswitch.core.queries import TargetQuery
from killswitch.core.stops import Plan, Refusal, Refused
from tests.core.builders import (
    by_name,
    deployment,
    inventory,
    names,
    planned,
    pod,
    replica_set,
    workload,
)


def test_by_name() -> None:
    """The Deployment with its ReplicaSets' pods, locked by every key that could revive it."""
    held = inventory(*deployment("vllm", pods=2), *deployment("other"))
    plan = planned(held, by_name("vllm"))
    (stop,) = plan.stops
    assert names(stop.targets) == ["vllm"]
    assert names(stop.pods) == ["vllm-abc-0", "vllm-abc-1"]
    label = "Deployment/vllm"
    assert stop.locks == {
        "deployments.apps/vllm": label,
        "replicasets.apps/vllm-abc": label,
        "uid/Deployment.prod.vllm": label,
        "uid/ReplicaSet.prod.vllm-abc": label,
    }
    assert (plan.count, plan.pods, plan.eligible, plan.percent) == (1, 2, 2, 50.0)


def test_by_selector() -> None:
    """All labels must match; what has more labels matches too."""
    held = inventory(
        *deployment("a", labels={"app": "llm", "tier": "gpu"}),
        *deployment("b", labels={"app": "llm"}),
        *deployment("c"),
    )
    plan = planned(held, TargetQuery("Deployment", "prod", labels={"app": "llm"}))
    assert names(plan.stops[0].targets) == ["a", "b"]
    narrower = TargetQuery("Deployment", "prod", labels={"app": "llm", "tier": "gpu"})
    assert names(planned(held, narrower).stops[0].targets) == ["a"]


def test_kinds_are_kept_apart() -> None:
    """A StatefulSet of the same name is another target, and not eligible for a share either."""
    held = inventory(*deployment("vllm"), workload("vllm", kind="StatefulSet"))
    plan = planned(held, by_name("vllm", "StatefulSet"))
    assert [target.kind.name for target in plan.stops[0].targets] == ["StatefulSet"]
    assert plan.eligible == 1


def test_a_target_named_twice_counts_once() -> None:
    """By name and by labels it is still one workload."""
    held = inventory(*deployment("a", pods=3, labels={"app": "llm"}))
    plan = planned(held, by_name("a"), TargetQuery("Deployment", "prod", labels={"app": "llm"}))
    assert (plan.count, plan.pods) == (1, 3)


def test_missing_targets_are_reported() -> None:
    """What is not there is refused by its description; the rest stays planned."""
    held = inventory(*deployment("a"))
    wanted = TargetQuery("Deployment", "prod", labels={"z": "1", "app": "x"})
    plan = planned(held, by_name("a"), by_name("gone"), wanted)
    assert plan.refused == (
        Refused("Deployment gone in prod", Refusal.NOT_FOUND),
        Refused("Deployment with app=x,z=1 in prod", Refusal.NOT_FOUND),
    )
    assert plan.count == 1


@pytest.mark.parametrize(
    ("namespace", "reason"),
    [
        ("kube-system", Refusal.PROTECTED),
        ("killswitch-system", Refusal.PROTECTED),
        ("dev", Refusal.UNGOVERNED),
        ("unheard-of", Refusal.UNGOVERNED),
    ],
)
@pytest.mark.parametrize("kind", ["Deployment", "Namespace"])
def test_out_of_bounds(namespace: str, reason: Refusal, kind: str) -> None:
    """Protected and ungoverned namespaces are never planned, even where they are labelled."""
    held = inventory(*deployment("a", namespace), governed=["prod", "kube-system"])
    held.namespaces["dev"] = {"killswitch.dev/governed": "false"}
    plan = planned(held, TargetQuery(kind, namespace, "a" if kind == "Deployment" else None))
    assert Plan((), (Refused(f"namespace {namespace}", reason),)) == plan


def test_cluster_targets_give_a_stop_for_each_namespace() -> None:
    """Namespaces with targets become stops; one without keeps its report."""
    held = inventory(
        *deployment("a", "east"), *deployment("a", "west"), governed=["east", "west", "south"]
    )
    queries = [by_name("a", namespace=place) for place in ("west", "east", "south")]
    plan = planned(held, *queries)
    assert [stop.namespace for stop in plan.stops] == ["west", "east"]
    assert plan.refused == (Refused("Deployment a in south", Refusal.NOT_FOUND),)


def test_whole_namespace() -> None:
    """All workloads and all pods, bare ones included, held by the scope instead of by keys."""
    held = inventory(*deployment("a"), workload("s", kind="StatefulSet"), pod("bare"))
    plan = planned(held, TargetQuery("Namespace", "prod"))
    (stop,) = plan.stops
    assert (names(stop.targets), names(stop.pods)) == (["a", "s"], ["a-abc-0", "bare"])
    # The bare pod counts by itself: a namespace full of them must not pass under a cap.
    assert (stop.whole_namespace, stop.locks, plan.eligible, plan.count) == (True, {}, 3, 3)


def test_a_whole_namespace_swallows_its_workload_targets() -> None:
    """Nothing is counted twice."""
    held = inventory(*deployment("a"))
    plan = planned(held, by_name("a"), TargetQuery("Namespace", "prod"))
    assert (plan.count, len(plan.stops), plan.stops[0].whole_namespace) == (1, 1, True)


def test_volumes_that_scaling_would_delete_are_visible_in_the_plan() -> None:
    """`whenScaled: Delete` reaches whoever executes the plan or judges the policy."""
    held = inventory(workload("db", kind="StatefulSet", deletes_volumes=True))
    plan = planned(held, by_name("db", "StatefulSet"))
    assert [target.deletes_volumes for target in plan.stops[0].targets] == [True]


def test_gpus_fall_idle_with_their_pods() -> None:
    """The plan adds up what its pods hold."""
    owner = workload("a")
    child = replica_set(owner, "1")
    held = inventory(owner, child, pod("p", child, gpus=8), pod("q", child, gpus=4))
    assert planned(held, by_name("a")).gpus == 12


def test_an_old_replica_set_of_what_is_no_deployment_is_held() -> None:
    """Scaled up, its pods are known by its uid alone."""
    rollout = workload("llm", kind="Rollout")
    old = replica_set(rollout, "old")
    (stop,) = planned(inventory(rollout, old), by_name("llm", "Rollout")).stops
    assert f"uid/{old.uid}" in stop.locks


def test_an_owned_replica_set_means_what_owns_it() -> None:
    """It is no target of its own: its Deployment would make another."""
    held = inventory(*deployment("vllm", pods=1))
    (stop,) = planned(held, by_name("vllm-abc", "ReplicaSet")).stops
    assert [str(each) for each in stop.targets] == ["Deployment vllm"]


def test_pods_without_a_workload_count_by_themselves() -> None:
    """A namespace with thousands of Job pods must not pass under a cap as one target."""
    jobs = [pod(f"job-{number}", labels={"app": "x"}) for number in range(40)]
    held = inventory(*deployment("a", pods=3), workload("s", kind="StatefulSet"), *jobs)
    plan = planned(held, TargetQuery("Namespace", "prod"))
    assert (plan.count, plan.eligible, plan.pods) == (42, 42, 43)
