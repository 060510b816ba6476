from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.core import plans
from killswitch.core.inventory import Inventory, Item
from killswitch.core.kinds import unsupported
from killswitch.core.plans import Plan, Refusal, Refused, Stop, TargetQuery
from killswitch.core.resources import Resource
from tests.core.builders import (
    BOUNDARIES,
    deployment,
    inventory,
    node,
    pod,
    replica_set,
    workload,
)


def planned(held: Inventory, *queries: TargetQuery) -> Plan:
    """What a policy with these targets would stop."""
    return plans.for_policy(queries, held, BOUNDARIES)


def names(items: Iterable[Item]) -> list[str]:
    """Names, sorted."""
    return sorted(item.name for item in items)


def by_name(name: str, kind: str = "Deployment", namespace: str = "prod") -> TargetQuery:
    """A target by its name."""
    return TargetQuery(kind, namespace, name)


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


def test_nodes() -> None:
    """By name or labels; control plane nodes are refused; shares count all nodes."""
    held = inventory(
        node("g1", labels={"gpu": "yes"}, gpus=8),
        node("g2", labels={"gpu": "yes"}),
        node("cp", labels={"gpu": "yes"}, control_plane=True),
        node("cpu"),
    )
    plan = planned(held, TargetQuery("Node", labels={"gpu": "yes"}), TargetQuery("Node", name="x"))
    assert names(plan.stops[0].nodes) == ["g1", "g2"]
    assert plan.refused == (
        Refused("node cp", Refusal.PROTECTED),
        Refused("Node x", Refusal.NOT_FOUND),
    )
    assert (plan.count, plan.eligible, plan.percent) == (2, 4, 50.0)


def test_nothing_but_refused_nodes_is_an_empty_plan() -> None:
    """There is no stop without a node in it."""
    held = inventory(node("cp", control_plane=True))
    plan = planned(held, TargetQuery("Node", name="cp"))
    assert Plan((), (Refused("node cp", Refusal.PROTECTED),), 1) == plan


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


def test_a_share_of_nothing_is_zero() -> None:
    """No division by the eligible that are not there."""
    assert Plan(()).percent == 0.0


def test_for_locks_finds_what_was_made_again() -> None:
    """A Deployment of the same name under a new uid is held by its name."""
    held = inventory(*deployment("vllm", pods=1))
    locks = planned(held, by_name("vllm")).stops[0].locks
    again = inventory(workload("vllm"), workload("other"))
    renewed = next(again.workloads("prod", "Deployment"))
    assert names(plans.for_locks("prod", locks, again).targets) == ["vllm"]
    assert renewed.name == "other"


def test_for_locks_finds_pods_of_owners_that_are_gone() -> None:
    """A pod whose ReplicaSet was deleted without it is held by the ReplicaSet's uid."""
    owner = workload("vllm")
    child = replica_set(owner, "abc")
    orphan = pod("orphan", child)
    stop = plans.for_locks("prod", {f"uid/{child.uid}": "x"}, inventory(orphan))
    assert (((), (orphan,))) == (stop.targets, stop.pods)


def test_a_hand_written_lock_by_name_covers_the_pods() -> None:
    """Nothing but the Deployment's key finds its ReplicaSets' pods and adds their keys."""
    held = inventory(*deployment("vllm", pods=2))
    stop = plans.for_locks("prod", {"deployments.apps/vllm": "by hand"}, held)
    assert names(stop.pods) == ["vllm-abc-0", "vllm-abc-1"]
    assert stop.locks["deployments.apps/vllm"] == "by hand"
    assert "uid/ReplicaSet.prod.vllm-abc" in stop.locks


def test_for_labels() -> None:
    """A pod scope takes pods only, whoever owns them."""
    held = inventory(pod("a", labels={"app": "x"}), pod("b", labels={"app": "y"}))
    stop = plans.for_labels("prod", {"app": "x"}, held)
    assert (names(stop.pods), stop.targets, stop.pod_labels) == (["a"], (), {"app": "x"})


def test_merge() -> None:
    """Both stops of one namespace, nothing twice."""
    held = inventory(*deployment("a"), pod("bare", labels={"app": "x"}))
    locked = planned(held, by_name("a")).stops[0]
    both = plans.merge(locked, plans.for_labels("prod", {"app": "x"}, held))
    assert names(both.pods) == ["a-abc-0", "bare"]
    assert (locked.locks, {"app": "x"}, False) == (
        both.locks,
        both.pod_labels,
        both.whole_namespace,
    )
    assert both == plans.merge(both, both)


def test_for_shutdown_reads_each_scope() -> None:
    """A Shutdown's spec alone says what it holds."""
    held = inventory(*deployment("a"), pod("bare", labels={"app": "x"}), node("n1"))
    locks = {"deployments.apps/a": "Deployment/a"}

    def held_by(kind: str, spec: dict[str, object]) -> Plan:
        return plans.for_shutdown(kind, "prod" if kind == "Shutdown" else "", spec, held)

    assert names(held_by("Shutdown", {"locks": locks}).stops[0].pods) == ["a-abc-0"]
    scoped = {"locks": locks, "scope": {"podLabels": {"app": "x"}}}
    assert names(held_by("Shutdown", scoped).stops[0].pods) == ["a-abc-0", "bare"]
    whole = held_by("Shutdown", {"scope": {"wholeNamespace": True}})
    assert whole.stops == (plans.whole_namespace("prod", held),)
    cluster = held_by("ClusterShutdown", {"namespaces": {"prod": ""}, "nodes": {"n1": "", "x": ""}})
    assert [(stop.namespace, names(stop.nodes)) for stop in cluster.stops] == [
        ("prod", []),
        ("", ["n1"]),
    ]


def test_holds_pod() -> None:
    """A pod is held by its namespace, its keys or its labels, and never across namespaces."""
    child = replica_set(workload("a"), "abc")
    mine, other = pod("p", child), pod("q")
    locked = Stop("prod", locks={f"uid/{child.uid}": "x"})
    assert (plans.holds_pod(locked, mine), plans.holds_pod(locked, other)) == (True, False)
    whole = Stop("prod", whole_namespace=True)
    assert plans.holds_pod(whole, other)
    assert not plans.holds_pod(whole, pod("r", namespace="dev"))
    labelled = Stop("prod", pod_labels={"app": "x"})
    assert plans.holds_pod(labelled, pod("s", labels={"app": "x", "b": "c"}))
    assert not plans.holds_pod(labelled, other)


@st.composite
def clusters(draw: st.DrawFn) -> Inventory:
    """A few workloads of both kinds with ReplicaSets, pods and strangers."""
    labels = st.fixed_dictionaries({}, optional={"app": st.sampled_from("xy")})
    items: list[Item] = [pod(f"bare-{n}") for n in range(draw(st.integers(0, 2)))]
    for number in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["Deployment", "StatefulSet"]))
        owner = workload(f"w{number}", kind=kind, labels=draw(labels))
        items.append(owner)
        if kind == "StatefulSet":
            items += [pod(f"w{number}-{n}", owner) for n in range(draw(st.integers(0, 3)))]
            continue
        for revision in range(draw(st.integers(0, 2))):
            child = replica_set(owner, f"r{revision}")
            items += [child, *(pod(f"{child.name}-{n}", child) for n in range(2))]
    return inventory(*draw(st.permutations(items)))


queries = st.lists(
    st.builds(
        TargetQuery,
        kind=st.sampled_from(["Deployment", "StatefulSet"]),
        namespace=st.just("prod"),
        name=st.sampled_from(["w0", "w1", "w2"]),
    )
    | st.builds(
        TargetQuery,
        kind=st.sampled_from(["Deployment", "StatefulSet"]),
        namespace=st.just("prod"),
        labels=st.sampled_from([{"app": "x"}, {"app": "y"}]),
    ),
    min_size=1,
    max_size=4,
)


@given(held=clusters(), wanted=queries)
def test_for_locks_reads_back_what_for_policy_locked(
    held: Inventory, wanted: list[TargetQuery]
) -> None:
    """Another reactor, or one that starts later, finishes exactly what was engaged."""
    for stop in planned(held, *wanted).stops:
        again = plans.for_locks(stop.namespace, stop.locks, held)
        assert set(names(stop.targets)) == set(names(again.targets))
        assert names(stop.pods) == names(again.pods)
        assert stop.locks == again.locks
        assert all(plans.holds_pod(stop, each) for each in stop.pods)


@given(held=clusters(), wanted=queries)
def test_a_plan_stays_within_what_was_asked(held: Inventory, wanted: list[TargetQuery]) -> None:
    """Every target matches a query, every pod belongs to a target, the share is a share."""
    plan = planned(held, *wanted)
    for stop in plan.stops:
        for target in stop.targets:
            assert any(
                q.kind == target.kind.name and q.matches(target.name, target.labels) for q in wanted
            )
        owners = {uid for each in stop.targets for uid in plans.owner_uids(each, held)}
        assert all(each.owner in owners for each in stop.pods)
    assert 0 <= plan.percent <= 100


@st.composite
def large(draw: st.DrawFn) -> Inventory:
    """More Jobs below one JobSet, Deployments beside it and bare pods than fit into one Shutdown."""
    many = st.sampled_from([0, 1, 5, 9, 10, 11, 24])
    jobs = workload("set", kind="JobSet")
    items: list[Item] = [jobs]
    for number in range(draw(many)):
        job = workload(f"set-{number}", kind="Job", owner=jobs.uid)
        items += [job, pod(f"set-{number}-x", job)]
    for number in range(draw(many)):
        items += deployment(f"d{number}", pods=draw(st.integers(0, 1)))
    bare = [f"bare-{number}" for number in range(draw(many))]
    items += [pod(name, keys=(f"pods/{name}",)) for name in bare]
    return inventory(*items)


@given(held=large())
def test_no_stop_is_larger_than_a_shutdown_may_be_and_nothing_is_lost(held: Inventory) -> None:
    """Every target and pod is in a part, every pod is held by the lock, and nothing counts twice."""
    queries = [TargetQuery(kind, "prod") for kind in ("JobSet", "Deployment", "Pod")]
    whole = planned(held, *queries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "MOST_LOCKS", 10)
        plan = planned(held, *queries)
        assert all(0 < len(stop.locks) <= 10 for stop in plan.stops)
        assert (plan.count, plan.pods) == (whole.count, whole.pods)
        for stop in plan.stops:
            assert all(plans.holds_pod(stop, each) for each in stop.pods)
            again = plans.for_locks("prod", stop.locks, held)
            assert names(again.targets) == names(stop.targets)
        uids = {key for stop in whole.stops for key in stop.locks if key.startswith("uid/")}
        assert uids <= {key for stop in plan.stops for key in stop.locks}
        holders = [("Shutdown", "prod", {"locks": dict(stop.locks)}) for stop in plan.stops]
        assert plans.not_held(plan, holders) == ()
        for missing, stop in enumerate(plan.stops):
            rest = [each for number, each in enumerate(holders) if number != missing]
            assert plans.not_held(plan, rest) == (stop,)


def test_two_thousand_jobs_of_a_job_set_fit_into_one_shutdown() -> None:
    """By their uids; their names as far as there is room."""
    jobs = workload("set", kind="JobSet")
    below = [workload(f"set-{number}", kind="Job", owner=jobs.uid) for number in range(2000)]
    (stop,) = planned(inventory(jobs, *below), by_name("set", "JobSet")).stops
    assert len(stop.locks) == plans.MOST_LOCKS
    assert {f"uid/{each.uid}" for each in (jobs, *below)} <= stop.locks.keys()


def test_an_old_replica_set_of_what_is_no_deployment_is_held() -> None:
    """Scaled up, its pods are known by its uid alone."""
    rollout = workload("llm", kind="Rollout")
    old = replica_set(rollout, "old")
    (stop,) = planned(inventory(rollout, old), by_name("llm", "Rollout")).stops
    assert f"uid/{old.uid}" in stop.locks


def _held(held: Inventory, *keys: str) -> plans.NotKnown:
    """Of whose pods nothing is known, of a Shutdown with these keys."""
    return plans.not_known([plans.for_locks("prod", dict.fromkeys(keys, ""), held)])


def test_of_a_kind_that_does_not_own_its_pods_nothing_is_known() -> None:
    """Unless its jobs, its pods or their labels are held as well: then it is named only."""
    queue = workload("q", kind="LocalQueue")
    held = inventory(queue, *deployment("vllm"))
    key = "localqueues.kueue.x-k8s.io/q"
    assert _held(held, key) == plans.NotKnown(("LocalQueue q",), alone=True)
    for more in ("deployments.apps/vllm", "pods/x"):
        assert _held(held, key, more) == plans.NotKnown(("LocalQueue q",), alone=False)
    assert _held(held, "deployments.apps/vllm") == plans.NotKnown()
    spec = {"locks": {key: ""}, "scope": {"podLabels": {"app": "x"}}}
    labelled = plans.for_shutdown("Shutdown", "prod", spec, held)
    assert plans.not_known(labelled.stops) == plans.NotKnown()
    assert plans.not_known([plans.whole_namespace("prod", held)]) == plans.NotKnown()


def test_what_a_kind_that_nobody_knows_makes_may_be_hidden() -> None:
    """Graph → Part → Deployment: with no eye for Parts, nothing is found below the Graph."""
    graph = replace(
        workload("g"), kind=unsupported(Resource("ex.dev", "v1", "graphs", "Graph")), uid="graph"
    )
    hidden = inventory(graph, workload("below", owner="part"))
    found = inventory(graph, workload("below", owner="graph"))
    assert _held(hidden, "graphs.ex.dev/g") == plans.NotKnown(("Graph.ex.dev g",), alone=True)
    assert _held(found, "graphs.ex.dev/g") == plans.NotKnown()
    stop = plans.for_locks("prod", {"graphs.ex.dev/g": ""}, hidden)
    assert plans.not_known([stop], {"graph"}) == plans.NotKnown()


def test_an_owned_replica_set_means_what_owns_it() -> None:
    """It is no target of its own: its Deployment would make another."""
    held = inventory(*deployment("vllm", pods=1))
    (stop,) = planned(held, by_name("vllm-abc", "ReplicaSet")).stops
    assert [str(each) for each in stop.targets] == ["Deployment vllm"]


def test_what_can_own_no_pods_is_nothing_to_be_seen() -> None:
    """Somebody's lock on a ConfigMap makes no workload of ConfigMaps; Services of Knative are one."""
    keys = ("deployments.apps", "configmaps", "services", "services.serving.knative.dev", "pods")
    locks = {f"{key}/x": "" for key in (*keys, "uid", "freezes.killswitch.dev")}
    assert plans.named({"locks": locks}) == {"deployments.apps", "services.serving.knative.dev"}
