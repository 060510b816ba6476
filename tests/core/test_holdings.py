"""What existing Shutdowns hold is read back as it was planned."""

from hypothesis import given
from hypothesis import strategies as st

from killswitch.core import holdings, lock_keys, plans, resting
from killswitch.core.inventory import Inventory, Item
from killswitch.core.queries import TargetQuery
from killswitch.core.stops import Plan, holds_pod
from tests.core.builders import (
    BOUNDARIES,
    by_name,
    deployment,
    inventory,
    names,
    node,
    planned,
    pod,
    replica_set,
    workload,
)


def test_for_locks_finds_what_was_made_again() -> None:
    """A Deployment of the same name under a new uid is held by its name."""
    held = inventory(*deployment("vllm", pods=1))
    locks = planned(held, by_name("vllm")).stops[0].locks
    again = inventory(workload("vllm"), workload("other"))
    renewed = next(again.workloads("prod", "Deployment"))
    assert names(holdings.for_locks("prod", locks, again).targets) == ["vllm"]
    assert renewed.name == "other"


def test_for_locks_finds_pods_of_owners_that_are_gone() -> None:
    """A pod whose ReplicaSet was deleted without it is held by the ReplicaSet's uid."""
    owner = workload("vllm")
    child = replica_set(owner, "abc")
    orphan = pod("orphan", child)
    stop = holdings.for_locks("prod", {f"uid/{child.uid}": "x"}, inventory(orphan))
    assert (((), (orphan,))) == (stop.targets, stop.pods)


def test_a_hand_written_lock_by_name_covers_the_pods() -> None:
    """Nothing but the Deployment's key finds its ReplicaSets' pods and adds their keys."""
    held = inventory(*deployment("vllm", pods=2))
    stop = holdings.for_locks("prod", {"deployments.apps/vllm": "by hand"}, held)
    assert names(stop.pods) == ["vllm-abc-0", "vllm-abc-1"]
    assert stop.locks["deployments.apps/vllm"] == "by hand"
    assert "uid/ReplicaSet.prod.vllm-abc" in stop.locks


def test_for_labels() -> None:
    """A pod scope takes pods only, whoever owns them."""
    held = inventory(pod("a", labels={"app": "x"}), pod("b", labels={"app": "y"}))
    stop = resting.for_labels("prod", {"app": "x"}, held)
    assert (names(stop.pods), stop.targets, stop.pod_labels) == (["a"], (), {"app": "x"})


def test_for_shutdown_reads_each_scope() -> None:
    """A Shutdown's spec alone says what it holds."""
    held = inventory(*deployment("a"), pod("bare", labels={"app": "x"}), node("n1"))
    locks = {"deployments.apps/a": "Deployment/a"}

    def held_by(kind: str, spec: dict[str, object]) -> Plan:
        return holdings.for_shutdown(kind, "prod" if kind == "Shutdown" else "", spec, held)

    assert names(held_by("Shutdown", {"locks": locks}).stops[0].pods) == ["a-abc-0"]
    scoped = {"locks": locks, "scope": {"podLabels": {"app": "x"}}}
    assert names(held_by("Shutdown", scoped).stops[0].pods) == ["a-abc-0", "bare"]
    whole = held_by("Shutdown", {"scope": {"wholeNamespace": True}})
    assert whole.stops == (resting.whole_namespace("prod", held),)
    cluster = held_by("ClusterShutdown", {"namespaces": {"prod": ""}, "nodes": {"n1": "", "x": ""}})
    assert [(stop.namespace, names(stop.nodes)) for stop in cluster.stops] == [
        ("prod", []),
        ("", ["n1"]),
    ]


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
        again = holdings.for_locks(stop.namespace, stop.locks, held)
        assert set(names(stop.targets)) == set(names(again.targets))
        assert names(stop.pods) == names(again.pods)
        assert stop.locks == again.locks
        assert all(holds_pod(stop, each) for each in stop.pods)


@given(held=clusters(), wanted=queries)
def test_a_plan_stays_within_what_was_asked(held: Inventory, wanted: list[TargetQuery]) -> None:
    """Every target matches a query, every pod belongs to a target, the share is a share."""
    plan = planned(held, *wanted)
    for stop in plan.stops:
        for target in stop.targets:
            assert any(
                q.kind == target.kind.name and q.matches(target.name, target.labels) for q in wanted
            )
        owners = {uid for each in stop.targets for uid in lock_keys.owner_uids(each, held)}
        assert all(each.owner in owners for each in stop.pods)
    assert 0 <= plan.percent <= 100


def test_what_can_own_no_pods_is_nothing_to_be_seen() -> None:
    """Somebody's lock on a ConfigMap makes no workload of ConfigMaps; Services of Knative are one."""
    keys = ("deployments.apps", "configmaps", "services", "services.serving.knative.dev", "pods")
    locks = {f"{key}/x": "" for key in (*keys, "uid", "freezes.killswitch.dev")}
    assert holdings.named({"locks": locks}) == {"deployments.apps", "services.serving.knative.dev"}


def test_a_lock_on_a_kind_that_is_not_seen_may_hold_what_does_not_rest() -> None:
    """A reactor that has just started knows nothing of it yet."""
    held = inventory()
    held.seen = frozenset({"deployments.apps"})
    spec = {"locks": {"deployments.apps/a": "", "jobs.batch/b": "", "uid/x": "", "pods/c": ""}}
    assert holdings.unseen(spec, held) == ["jobs.batch cannot be seen yet"]
    held.seen |= {"jobs.batch"}
    assert holdings.unseen(spec, held) == []


def test_a_whole_namespace_may_hold_what_is_of_any_kind() -> None:
    """So every kind that cannot be seen is told; of nodes none matters."""
    held = inventory()
    held.unseen["RayJob"] = "forbidden"
    told = ["RayJob cannot be seen: forbidden"]
    assert holdings.unseen({"scope": {"wholeNamespace": True}}, held) == told
    assert holdings.unseen({"namespaces": {"prod": ""}}, held) == told
    assert holdings.unseen({"nodes": {"n1": ""}}, held) == []


def test_what_is_held_already_is_not_ordered_again() -> None:
    """By name and uid together, by the namespace, or by a cluster's Shutdown."""
    held = inventory(
        *deployment("a"), *deployment("b", "dev"), node("n1"), governed=("prod", "dev")
    )
    queries = [TargetQuery("Deployment", place) for place in ("prod", "dev")]
    plan = plans.for_policy(queries, held, BOUNDARIES)
    (prod, dev) = plan.stops
    keys = {"deployments.apps/a": "", "uid/Deployment.prod.a": ""}

    def left(*holders: tuple[str, str, dict[str, object]]) -> list[str]:
        return [stop.namespace for stop in holdings.not_held(plan, holders)]

    assert left() == [prod.namespace, dev.namespace]
    assert left(("Shutdown", "prod", {"locks": keys})) == ["dev"]
    assert left(("Shutdown", "prod", {"locks": {"deployments.apps/a": ""}})) == ["prod", "dev"]
    assert left(("Shutdown", "dev", {"locks": keys})) == ["prod", "dev"]
    assert left(("Shutdown", "dev", {"scope": {"wholeNamespace": True}})) == ["prod"]
    assert left(("ClusterShutdown", "", {"namespaces": {"dev": "", "prod": ""}})) == []
    nodes = plans.for_policy([TargetQuery("Node", name="n1")], held, BOUNDARIES)
    assert holdings.not_held(nodes, [("ClusterShutdown", "", {"nodes": {"n1": ""}})]) == ()
    assert len(holdings.not_held(nodes, [("ClusterShutdown", "", {"nodes": {"n2": ""}})])) == 1


def test_a_whole_namespace_is_not_held_by_keys() -> None:
    """What may be created there tomorrow has no key today."""
    held = inventory(*deployment("a"))
    plan = plans.for_policy([TargetQuery("Namespace", "prod")], held, BOUNDARIES)
    keys = {"deployments.apps/a": "", "uid/Deployment.prod.a": ""}
    assert len(holdings.not_held(plan, [("Shutdown", "prod", {"locks": keys})])) == 1
