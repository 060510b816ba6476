"""What runs because of a workload that does not own it: stopped beside it, or not known."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from killswitch.core import blind_spots, holdings, plans, projections, ties
from killswitch.core.inventory import Inventory, Item, Pod, Workload
from killswitch.core.kinds import TABLE
from killswitch.core.queries import TargetQuery
from killswitch.core.stops import Plan
from tests.core.builders import BOUNDARIES, inventory, pod, workload

LABEL = "kueue.x-k8s.io/queue-name"
QUEUED = {LABEL: "q"}
WORKLOAD = "Workload.kueue.x-k8s.io"
MODEL, SERVER = "Model.mlops.seldon.io", "Server.mlops.seldon.io"
QUEUE = workload("q", kind="LocalQueue", steers=QUEUED)
COMPONENT = "nvidia.com/dynamo-component"
KEY = "localqueues.kueue.x-k8s.io/q"


def job(name: str, labels: Mapping[str, str] = QUEUED, **more: Any) -> Workload:
    """A Job that is queued."""
    return workload(name, kind="Job", labels=labels, **more)


def planned(held: Inventory, kind: str = "LocalQueue", name: str = "q") -> Plan:
    """What a policy on this one would stop."""
    return plans.for_policy([TargetQuery(kind, "prod", name)], held, BOUNDARIES)


def known(held: Inventory, *keys: str) -> bool:
    """Whether the pods of a Shutdown with these keys are."""
    stop = holdings.for_locks("prod", dict.fromkeys(keys, ""), held)
    return not blind_spots.not_known([stop])


def test_a_queue_is_stopped_with_what_is_queued_through_it() -> None:
    """Its jobs, their Kueue Workloads, and their pods, each held by its own keys; nobody else's."""
    mine, other = job("mine"), job("other", labels={LABEL: "another"})
    admitted = workload("job-mine", kind=WORKLOAD, owner=mine.uid, labels=QUEUED)
    held = inventory(QUEUE, mine, other, admitted, pod("a", mine), pod("b", other))
    plan = planned(held)
    (stop,) = plan.stops
    assert [each.name for each in stop.targets] == ["mine", "q", "job-mine"]
    assert [each.name for each in stop.pods] == ["a"]
    assert {KEY, "jobs.batch/mine", f"uid/{mine.uid}", f"uid/{admitted.uid}"} <= stop.locks.keys()
    assert not any("other" in key for key in stop.locks)
    assert stop.tied == {mine.uid}
    assert (plan.count, plan.percent) == (3, 100.0)
    assert not blind_spots.not_known(plan.stops)


def test_what_owns_a_queued_job_comes_to_rest_as_a_whole() -> None:
    """As with any other target below something."""
    top = workload("set", kind="JobSet")
    held = inventory(QUEUE, top, job("below", owner=top.uid))
    assert [str(each) for each in planned(held).stops[0].targets] == ["JobSet set", "LocalQueue q"]


def test_a_queued_pod_that_nobody_owns_is_held_by_its_name() -> None:
    """It is made again by the restore, as any bare pod."""
    held = inventory(QUEUE, pod("bare", labels=QUEUED), pod("other"))
    plan = planned(held)
    (stop,) = plan.stops
    assert [each.name for each in stop.pods] == ["bare"]
    assert "pods/bare" in stop.locks
    assert stop.loose == {"Pod.prod.bare"}
    assert (plan.count, plan.percent) == (2, 100.0)
    again = holdings.for_locks("prod", stop.locks, held)
    assert (again.pods, again.loose) == (stop.pods, stop.loose)


def test_pods_of_a_kind_that_is_not_seen_are_held_by_their_owner() -> None:
    """Dynamo on Grove: a PodClique makes them, and would make others."""
    wanted = {"nvidia.com/dynamo-graph-deployment-name": "g", "nvidia.com/dynamo-component": "w"}
    adapter = workload("g-w", kind="DynamoGraphDeploymentScalingAdapter", steers=wanted)
    mine = _owned("mine", "clique", wanted)
    held = inventory(adapter, mine, _owned("other", "another", {**wanted, COMPONENT: "x"}))
    (stop,) = planned(held, "DynamoGraphDeploymentScalingAdapter", "g-w").stops
    assert stop.pods == (mine,)
    assert "uid/clique" in stop.locks
    assert "uid/another" not in stop.locks
    assert not stop.loose


def _owned(name: str, owner: str, labels: dict[str, str]) -> Pod:
    return replace(pod(name, labels=labels), owner=owner, keys=(f"uid/{owner}",))


def test_what_stands_for_a_job_of_a_kind_that_is_not_followed_leads_to_its_pods() -> None:
    """Kueue's Workload names the queue and is owned by the job, of whatever kind that is."""
    stands_for = workload("torch", kind=WORKLOAD, owner="job", labels=QUEUED)
    running = _owned("worker", "job", {})
    held = inventory(QUEUE, stands_for, running)
    (stop,) = planned(held).stops
    assert stop.pods == (running,)
    assert "uid/job" in stop.locks
    assert known(held, *stop.locks)
    assert not known(held, KEY)  # nobody holds what it steers
    # They may be made through something that nobody sees.
    assert not known(inventory(QUEUE, stands_for), KEY)


def test_jobs_that_have_ended_hide_nothing() -> None:
    """They stay, each with the Kueue Workload that stood for it."""
    body = {
        "metadata": {"name": "n", "namespace": "prod", "uid": "u"},
        "spec": {"queueName": "q"},
        "status": {"conditions": [{"type": "Finished", "status": "True"}]},
    }
    assert projections.workload(TABLE[WORKLOAD], body) is None
    body["status"] = {"conditions": [{"type": "Admitted", "status": "True"}]}
    assert projections.workload(TABLE[WORKLOAD], body) is not None


def test_a_queue_whose_workloads_cannot_be_seen_is_not_known() -> None:
    """A job of a kind that is not followed would be missed."""
    held = inventory(QUEUE, job("mine"))
    keys = KEY, "jobs.batch/mine"
    held.unseen[WORKLOAD] = "may not be listed"
    assert not known(held, *keys)
    del held.unseen[WORKLOAD]
    assert known(held, *keys)


def test_a_tie_that_does_not_say_all_its_labels_leads_nowhere() -> None:
    """An adapter of a component group has no service: its labels would be every service's."""
    body = {
        "metadata": {"name": "g-w", "namespace": "prod", "uid": "u"},
        "spec": {"replicas": 1, "dgdRef": {"name": "g", "componentGroupName": "all"}},
    }
    adapter = projections.workload(TABLE["DynamoGraphDeploymentScalingAdapter"], body)
    assert isinstance(adapter, Workload)
    assert adapter.steers == {}
    held = inventory(adapter, pod("a", labels={"nvidia.com/dynamo-graph-deployment-name": "g"}))
    (stop,) = planned(held, "DynamoGraphDeploymentScalingAdapter", "g-w").stops
    assert stop.pods == ()
    assert str(blind_spots.not_known([stop])).startswith(
        "the pods of DynamoGraphDeploymentScalingAdapter g-w are not known"
    )


@pytest.mark.parametrize("replicas", [3, 0])
def test_labels_that_lead_to_nothing_prove_nothing(replicas: int) -> None:
    """Its pods may bear others; and that it is at 0 may be by the stop itself."""
    wanted = {"nvidia.com/dynamo-graph-deployment-name": "g", "nvidia.com/dynamo-component": "w"}
    kind = "DynamoGraphDeploymentScalingAdapter"
    key = f"{TABLE[kind].resource.key}/g-w"
    adapter = workload("g-w", kind=kind, steers=wanted, replicas=replicas)
    held = inventory(adapter, _owned("other", "clique", {**wanted, COMPONENT: "W"}))
    assert not known(held, key)
    held.put(_owned("mine", "clique", wanted))
    assert known(held, key, "uid/clique")


def test_a_shutdown_by_hand_that_names_the_queue_alone_says_that_its_jobs_are_not_held() -> None:
    """What a Shutdown stops stands in it."""
    mine = job("mine")
    held = inventory(QUEUE, mine, pod("a", mine))
    stop = holdings.for_locks("prod", {KEY: ""}, held)
    assert (stop.targets, stop.pods) == ((QUEUE,), ())
    assert not known(held, KEY)
    assert known(held, KEY, "jobs.batch/mine")
    waits = replace(mine, values=(True,))
    assert not known(inventory(QUEUE, waits, pod("a", waits)), KEY)
    assert known(inventory(QUEUE, waits), KEY)


GRAPH = "nvidia.com/dynamo-graph-deployment-name"
ADAPTER = "DynamoGraphDeploymentScalingAdapter"


def test_an_adapter_that_is_pointed_elsewhere_draws_nobody_into_a_stop_in_force() -> None:
    """Only a plan follows it, whose caps and people judge what it finds."""
    adapter = workload("a", kind=ADAPTER, steers={GRAPH: "mine", COMPONENT: "w"})
    mine = workload("mine", labels=adapter.steers)
    stranger = workload("stranger", labels={GRAPH: "theirs", COMPONENT: "w"})
    held = inventory(adapter, mine, pod("m", mine), stranger, pod("s", stranger))
    (stop,) = planned(held, ADAPTER, "a").stops
    assert stop.targets == (mine, adapter)
    turned = replace(adapter, steers=stranger.labels)
    held.put(turned)
    again = holdings.for_locks("prod", stop.locks, held)
    assert again.targets == (mine, turned)
    assert [each.name for each in again.pods] == ["m"]
    assert again.locks.keys() == stop.locks.keys()
    assert again.untraced.keys() == {adapter.uid}  # it says so
    holders = [("Shutdown", "prod", {"locks": dict(stop.locks)})]
    (anew,) = holdings.not_held(planned(held, ADAPTER, "a"), holders)
    assert stranger in anew.targets  # a new order of the policy, with its caps


def test_a_pod_that_comes_to_a_held_queue_under_an_owner_that_is_not_seen_is_a_new_fire() -> None:
    """Its owner would make others: the Shutdown in force has no key of it."""
    held = inventory(QUEUE)
    (stop,) = planned(held).stops
    holders = [("Shutdown", "prod", {"locks": dict(stop.locks)})]
    assert holdings.not_held(planned(held), holders) == ()
    held.put(_owned("torch-0", "torch", QUEUED))
    (anew,) = holdings.not_held(planned(held), holders)
    assert "uid/torch" in anew.locks
    assert [each.name for each in anew.pods] == ["torch-0"]
    holders.append(("Shutdown", "prod", {"locks": dict(anew.locks)}))
    assert holdings.not_held(planned(held), holders) == ()


def test_a_waiting_job_among_more_than_one_shutdown_may_hold_is_no_new_fire() -> None:
    """Who is steered, and whose pods are known, is of the whole plan, however it is split."""
    held = inventory(QUEUE, *(job(f"j{number:04}", values=(True,)) for number in range(2500)))
    plan = planned(held)
    assert len(plan.stops) == 2
    assert sum(len(stop.tied) for stop in plan.stops) == 2500
    assert not any(stop.untraced for stop in plan.stops)
    holders = [("Shutdown", "prod", {"locks": dict(stop.locks)}) for stop in plan.stops]
    later = job("a-new", values=(True,))
    held.put(later)
    held.put(workload("job-a-new", kind=WORKLOAD, owner=later.uid, labels=QUEUED))
    assert holdings.not_held(planned(held), holders) == ()
    runs = replace(later, values=(None,))
    held.put(runs)
    assert any(runs in stop.targets for stop in holdings.not_held(planned(held), holders))


def test_a_model_in_another_shutdown_than_its_server_is_known() -> None:
    """They are one plan."""
    models = [workload(f"m{number:04}", kind=MODEL, host="a") for number in range(2100)]
    queries = [TargetQuery(MODEL, "prod"), TargetQuery(SERVER, "prod")]
    plan = plans.for_policy(queries, inventory(SERVER_A, *models), BOUNDARIES)
    assert len(plan.stops) == 2
    assert not any(stop.untraced for stop in plan.stops)


class _Counted(Inventory):
    """An inventory that counts looks at a whole namespace."""

    looks = 0

    def workloads(self, namespace: str, kind: str | None = None) -> Iterator[Workload]:
        type(self).looks += 1
        return super().workloads(namespace, kind)

    def pods_in(self, namespace: str) -> list[Pod]:
        type(self).looks += 1
        return super().pods_in(namespace)


@pytest.mark.parametrize("kind", ["LocalQueue", MODEL])
def test_many_that_steer_cost_no_look_at_the_namespace_each(kind: str) -> None:
    """The reactor plans on its event loop."""

    def looks(count: int) -> int:
        held = _Counted()
        held.namespaces |= inventory().namespaces
        for number in range(count):
            name = f"s{number}"
            held.put(workload(name, kind=kind, steers={LABEL: name}, host="a"))
            held.put(job(f"j{number}", labels={LABEL: name}))
        _Counted.looks = 0
        plan = plans.for_policy([TargetQuery(kind, "prod")], held, BOUNDARIES)
        for stop in plan.stops:
            holdings.for_locks("prod", stop.locks, held)
        return _Counted.looks

    assert looks(20) == looks(2)


def test_labels_are_found_as_they_are_now() -> None:
    """Of each pod and workload that is there, by the values that it bears now."""
    queued, both = job("j"), workload("w", labels={GRAPH: "g", COMPONENT: "c"})
    held = inventory(queued, both, pod("p", labels=QUEUED))
    assert [each.name for each in held.bearing("prod", QUEUED)] == ["j", "p"]
    assert held.bearing("dev", QUEUED) == []
    assert held.bearing("prod", {GRAPH: "g", COMPONENT: "c"}) == [both]
    assert held.bearing("prod", {GRAPH: "g", COMPONENT: "d"}) == []
    held.put(replace(queued, labels={}))
    held.remove("Pod.prod.p")
    assert held.bearing("prod", QUEUED) == []


def test_a_job_that_comes_to_a_held_queue_and_waits_needs_no_shutdown_of_its_own() -> None:
    """What it waits for is held. One that runs all the same does."""
    first = inventory(QUEUE, job("first"))
    (stop,) = planned(first).stops
    holders = [("Shutdown", "prod", {"locks": dict(stop.locks)})]
    assert holdings.not_held(planned(first), holders) == ()
    later = job("later", values=(True,))
    first.put(later)
    assert holdings.not_held(planned(first), holders) == ()
    first.put(replace(later, values=(None,)))
    assert len(holdings.not_held(planned(first), holders)) == 1


MODEL_A = workload("m", kind=MODEL, host="a")
ANY = workload("any", kind=MODEL)
SERVER_A, SERVER_B = workload("a", kind=SERVER), workload("b", kind=SERVER)


@pytest.mark.parametrize(
    ("model", "servers", "stopped", "found"),
    [
        (MODEL_A, [SERVER_A], [], False),
        (MODEL_A, [SERVER_A, SERVER_B], ["a"], True),
        (MODEL_A, [SERVER_A, SERVER_B], ["b"], False),
        (MODEL_A, [], [], False),
        (ANY, [SERVER_A, SERVER_B], ["a"], False),
        (ANY, [SERVER_A, SERVER_B], ["a", "b"], True),
    ],
)
def test_a_model_is_known_to_be_gone_with_the_server_that_runs_it(
    model: Workload, servers: list[Workload], stopped: list[str], found: bool
) -> None:
    """A Server runs other models too: it is never stopped for one of them."""
    pods: list[Item] = [pod(f"{each.name}-0", each) for each in servers]
    held = inventory(model, *servers, *pods)
    (alone,) = planned(held, MODEL, model.name).stops
    assert alone.targets == (model,)
    assert alone.pods == ()
    keys = [f"servers.mlops.seldon.io/{name}" for name in stopped]
    assert known(held, f"models.mlops.seldon.io/{model.name}", *keys) == found
    assert ties.known(model, [model, *servers], held) == bool(servers)


def test_the_cure_names_the_server() -> None:
    """Of a model that says it, by name."""
    (stop,) = planned(inventory(MODEL_A, SERVER_A), MODEL, "m").stops
    words = str(blind_spots.not_known([stop]))
    assert words.startswith(
        "the pods of Model.mlops.seldon.io m are not known: name what makes them"
    )
    assert "the Server.mlops.seldon.io a" in words


def test_objects_say_what_they_steer_and_who_runs_them() -> None:
    """As the API server has them."""

    def read(kind: str, spec: Mapping[str, Any]) -> Workload:
        body = {"metadata": {"name": "n", "namespace": "prod", "uid": "u"}, "spec": spec}
        found = projections.workload(TABLE[kind], body)
        assert isinstance(found, Workload)
        return found

    assert read("LocalQueue", {}).steers == {LABEL: "n"}
    assert read(WORKLOAD, {"queueName": "q"}).labels == QUEUED
    assert read(WORKLOAD, {}).labels == {}
    assert (read(MODEL, {"server": "s"}).host, read(MODEL, {}).host) == ("s", "")
    for called in ("serviceName", "componentName"):  # v1alpha1, v1beta1
        reference = {"dgdRef": {"name": "g", called: "w"}}
        assert read("DynamoGraphDeploymentScalingAdapter", reference).steers == {
            "nvidia.com/dynamo-graph-deployment-name": "g",
            "nvidia.com/dynamo-component": "w",
        }
