"""Targets at any level: what is above them is stopped as a whole, what is below is held with it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from killswitch.core import holdings, resting
from killswitch.core.inventory import Inventory, Pod, Workload
from killswitch.core.queries import TargetQuery
from killswitch.core.stops import Refusal, Stop
from tests.core.builders import (
    deployment,
    inventory,
    planned,
    pod,
    replica_set,
    workload,
)


def targets(stop: Stop) -> list[str]:
    """Its targets in words."""
    return [str(each) for each in stop.targets]


def served() -> tuple[Workload, Inventory]:
    """An InferenceService with its Deployment, ReplicaSet and two pods; and a neighbour."""
    service = workload("llm", kind="InferenceService")
    owned = workload("llm-predictor", owner=service.uid)
    child = replica_set(owned, "abc")
    pods = [pod(f"llm-{number}", child, images=("vllm:1",)) for number in range(2)]
    return service, inventory(service, owned, child, *pods, *deployment("other"))


def test_naming_the_top_or_anything_below_it_stops_the_top() -> None:
    """The child alone would be written again by its controller."""
    _, held = served()
    for query in (
        TargetQuery("InferenceService", "prod", "llm"),
        TargetQuery("Deployment", "prod", "llm-predictor"),
        TargetQuery("Pod", "prod", "llm-0"),
    ):
        (stop,) = planned(held, query).stops
        assert targets(stop) == ["InferenceService llm"]
        assert [each.name for each in stop.pods] == ["llm-0", "llm-1"]


def test_all_that_is_below_is_locked_by_name_and_uid() -> None:
    """So none of it can be made anew, or raised."""
    service, held = served()
    (stop,) = planned(held, TargetQuery("InferenceService", "prod", "llm")).stops
    assert {
        "inferenceservices.serving.kserve.io/llm",
        f"uid/{service.uid}",
        "deployments.apps/llm-predictor",
        "replicasets.apps/llm-predictor-abc",
    } <= stop.locks.keys()


def test_a_pod_that_owns_what_makes_further_pods_is_a_step_of_the_chain() -> None:
    """The leader of a LeaderWorkerSet's group controls the StatefulSet of its workers."""
    group = workload("llm", kind="LeaderWorkerSet")
    leaders = workload("llm", kind="StatefulSet", owner=group.uid)
    leader = pod("llm-0", leaders)
    workers = workload("llm-0", kind="StatefulSet", owner=leader.uid)
    held = inventory(group, leaders, leader, workers, pod("llm-0-1", workers))
    for query in (
        TargetQuery("LeaderWorkerSet", "prod", "llm"),
        TargetQuery("StatefulSet", "prod", "llm-0"),
        TargetQuery("Pod", "prod", "llm-0-1"),
    ):
        (stop,) = planned(held, query).stops
        assert targets(stop) == ["LeaderWorkerSet llm"]
        assert sorted(each.name for each in stop.pods) == ["llm-0", "llm-0-1"]
        assert f"uid/{workers.uid}" in stop.locks
        assert not stop.loose


def test_what_a_lock_holds_is_read_back_as_it_was_planned() -> None:
    """Its keys name the children too, and yet only the top is brought to rest."""
    _, held = served()
    (stop,) = planned(held, TargetQuery("InferenceService", "prod", "llm")).stops
    assert targets(holdings.for_locks("prod", stop.locks, held)) == ["InferenceService llm"]


def test_jobs_of_a_cron_job_are_brought_to_rest_beside_it() -> None:
    """Its suspension leaves them running."""
    cron = workload("nightly", kind="CronJob")
    job = workload("nightly-1", kind="Job", owner=cron.uid)
    held = inventory(cron, job, pod("nightly-1-x", job))
    (stop,) = planned(held, TargetQuery("CronJob", "prod", "nightly")).stops
    assert targets(stop) == ["CronJob nightly", "Job nightly-1"]
    assert [each.name for each in stop.pods] == ["nightly-1-x"]
    assert planned(held, TargetQuery("CronJob", "prod", "nightly")).percent == 100
    assert targets(holdings.for_locks("prod", stop.locks, held)) == targets(stop)


def test_what_comes_to_rest_with_what_is_left_running_is_not_touched_itself() -> None:
    """A RayCronJob leaves its RayJobs; a RayJob takes its cluster with it."""
    cron = workload("nightly", kind="RayCronJob")
    job = workload("nightly-1", kind="RayJob", owner=cron.uid)
    cluster = workload("nightly-1-c", kind="RayCluster", owner=job.uid)
    held = inventory(cron, job, cluster, pod("head", cluster))
    (stop,) = planned(held, TargetQuery("RayCronJob", "prod", "nightly")).stops
    assert targets(stop) == ["RayCronJob nightly", "RayJob nightly-1"]
    assert f"uid/{cluster.uid}" in stop.locks
    assert targets(holdings.for_locks("prod", stop.locks, held)) == targets(stop)


def test_the_workload_by_which_kueue_starts_a_job_rests_beside_it() -> None:
    """Kueue un-suspends a job that it has admitted."""
    job = workload("train", kind="Job")
    held = inventory(job, workload("job-train", kind="Workload.kueue.x-k8s.io", owner=job.uid))
    (stop,) = planned(held, TargetQuery("Job", "prod", "train")).stops
    assert targets(stop) == ["Job train", "Workload.kueue.x-k8s.io job-train"]


def test_an_owner_that_cannot_be_seen_ends_the_walk() -> None:
    """What is known is acted upon."""
    held = inventory(workload("vllm", owner="of-some-operator"))
    (stop,) = planned(held, TargetQuery("Deployment", "prod", "vllm")).stops
    assert targets(stop) == ["Deployment vllm"]


def test_a_cycle_of_owners_is_walked_once() -> None:
    """Nothing forbids it; both are stopped."""
    first = workload("a", owner="Deployment.prod.b")
    second = workload("b", owner=first.uid)
    held = inventory(first, second)
    assert planned(held, TargetQuery("Deployment", "prod", "a")).count == 1
    assert targets(resting.whole_namespace("prod", held)) == ["Deployment a", "Deployment b"]
    assert {each.name for each in held.below(first.uid)} == {"b"}


def test_pods_by_image_in_every_governed_namespace() -> None:
    """Copies run everywhere; with tag, without, or by a pattern."""
    here, there = deployment("a", "prod"), deployment("b", "dev")
    hidden = deployment("c", "kube-system")
    images = {"docker.io/vllm/vllm-openai:v1": True, "docker.io/vllm/other:v1": False}
    for image, meant in images.items():
        copies = [
            replace(item, images=(image,)) if isinstance(item, Pod) else item
            for item in (*here, *there, *hidden)
        ]
        held = inventory(*copies, governed=("prod", "dev", "kube-system"))
        for wanted in ("docker.io/vllm/vllm-openai", "*/vllm-openai:v1", "*vllm-openai*"):
            plan = planned(held, TargetQuery("Pod", image=wanted))
            found = [(each.namespace, targets(each)) for each in plan.stops]
            both = [("dev", ["Deployment b"]), ("prod", ["Deployment a"])]
            assert found == (both if meant else [])
            assert plan.refused == ()


def test_bare_pods_are_locked_by_their_names() -> None:
    """Nobody owns them; a workload beside them is in the same stop."""
    held = inventory(*deployment("vllm"), pod("bare", labels={"app": "m"}), pod("other"))
    queries = (TargetQuery("Deployment", "prod", "vllm"), TargetQuery("Pod", "prod", "bare"))
    plan = planned(held, *queries)
    (stop,) = plan.stops
    assert (targets(stop), plan.count, plan.eligible) == (["Deployment vllm"], 2, 3)
    assert "pods/bare" in stop.locks
    again = holdings.for_locks("prod", stop.locks, held)
    assert {each.name for each in again.pods} == {"vllm-abc-0", "bare"}
    assert again.loose == stop.loose
    holder = ("Shutdown", "prod", {"locks": dict(stop.locks)})
    assert holdings.not_held(plan, [holder]) == ()


def test_a_kind_that_cannot_be_seen_is_named_and_hides_nothing_else() -> None:
    """Unknown is a value: the others are stopped."""
    held = inventory(*deployment("vllm"))
    held.unseen["RayService"] = "the cluster does not serve this kind"
    queries = (TargetQuery("RayService", "prod", "r"), TargetQuery("Deployment", "prod", "vllm"))
    plan = planned(held, *queries)
    assert plan.count == 1
    (refused,) = plan.refused
    assert refused.reason is Refusal.UNSEEN
    assert refused.what == "RayService: the cluster does not serve this kind"


@given(owners=st.lists(st.integers(0, 5), min_size=6, max_size=6), named=st.integers(0, 5))
def test_any_tangle_of_owners_ends(owners: list[int], named: int) -> None:
    """Whatever owns whatever, the pods of what was named are stopped, and reading back agrees."""
    made = [workload(f"w{n}") for n in range(6)]
    made = [replace(each, owner=made[owners[n]].uid) for n, each in enumerate(made)]
    pods = [pod(f"p{n}", each) for n, each in enumerate(made)]
    held = inventory(*made, *pods)
    (stop,) = planned(held, TargetQuery("Deployment", "prod", f"w{named}")).stops
    assert f"p{named}" in {each.name for each in stop.pods}
    again = holdings.for_locks("prod", stop.locks, held)
    assert {each.name for each in again.pods} == {each.name for each in stop.pods}


def test_what_comes_to_rest_beside_a_target_is_no_larger_share_than_all() -> None:
    """A CronJob and its two Jobs are three of three, not three of one."""
    cron = workload("nightly", kind="CronJob")
    jobs = [workload(f"nightly-{number}", kind="Job", owner=cron.uid) for number in (1, 2)]
    plan = planned(inventory(cron, *jobs), TargetQuery("CronJob", "prod", "nightly"))
    assert (plan.count, plan.eligible, plan.percent) == (3, 3, 100.0)
