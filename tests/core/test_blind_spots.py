"""Of which workloads it is not known whose pods theirs are."""

from dataclasses import replace

import pytest

from killswitch.core import blind_spots, holdings, resting
from killswitch.core.blind_spots import NotKnown
from killswitch.core.inventory import Child, Inventory
from killswitch.core.kinds import LINKS, TABLE, unsupported
from killswitch.core.resources import Resource
from tests.core.builders import (
    deployment,
    inventory,
    pod,
    replica_set,
    workload,
)


def _held(held: Inventory, *keys: str) -> NotKnown:
    """Of whose pods nothing is known, of a Shutdown with these keys."""
    return blind_spots.not_known([holdings.for_locks("prod", dict.fromkeys(keys, ""), held)])


def test_what_else_a_stop_holds_makes_no_pods_known() -> None:
    """Only who holds the whole namespace, or pods by their labels, knows which are meant."""
    model = workload("m", kind="Model.mlops.seldon.io")
    held = inventory(model, *deployment("vllm"))
    key, name = "models.mlops.seldon.io/m", "Model.mlops.seldon.io m"
    for more in ([], ["deployments.apps/vllm"], ["pods/x"]):
        assert _held(held, key, *more).names == (name,)
    assert _held(held, "deployments.apps/vllm") == NotKnown()
    spec = {"locks": {key: ""}, "scope": {"podLabels": {"app": "x"}}}
    labelled = holdings.for_shutdown("Shutdown", "prod", spec, held)
    assert blind_spots.not_known(labelled.stops) == NotKnown()
    assert blind_spots.not_known([resting.whole_namespace("prod", held)]) == NotKnown()


def test_what_a_kind_that_nobody_knows_makes_may_be_hidden() -> None:
    """Graph → Part → Deployment: with no eye for Parts, nothing is found below the Graph."""
    graph = replace(
        workload("g"), kind=unsupported(Resource("ex.dev", "v1", "graphs", "Graph")), uid="graph"
    )
    hidden = inventory(graph, workload("below", owner="part"))
    found = inventory(graph, workload("below", owner="graph"))
    assert _held(hidden, "graphs.ex.dev/g") == NotKnown(("Graph.ex.dev g",))
    assert _held(found, "graphs.ex.dev/g") == NotKnown()
    stop = holdings.for_locks("prod", {"graphs.ex.dev/g": ""}, hidden)
    assert blind_spots.not_known([stop], {"graph"}) == NotKnown()


SERVING = "Service.serving.knative.dev"
REVISIONS = "revisions.serving.knative.dev"
ROLE_SETS, POD_SETS = "rolesets.orchestration.aibrix.ai", "podsets.orchestration.aibrix.ai"


def _link(key: str, name: str, owner: str) -> Child:
    resource = next(each for each in LINKS if each.key == key)
    return Child(resource, "prod", name, name, owner)


def _without(held: Inventory, **unseen: str) -> Inventory:
    held.unseen |= unseen
    return held


def _key(kind: str) -> str:
    return f"{TABLE[kind].resource.key}/m"


def test_what_stands_behind_a_kind_that_cannot_be_seen_is_not_known() -> None:
    """The Deployment of a Revision that is not seen is found, and whose it is, is not."""
    behind = workload("m-1", owner="revision")
    child = replica_set(behind, "abc")
    service = workload("m", kind="InferenceService")
    held = inventory(service, behind, child, pod("m-1-0", child))
    assert not _held(held, _key("InferenceService"))
    held.unseen[SERVING] = "Revision: a webhook is down"
    told = _held(held, _key("InferenceService"))
    assert told.names == ("InferenceService m",)
    assert str(told) == (
        "the pods of InferenceService m are not known: let killswitch list Service.serving.knative.dev"
        " (Revision: a webhook is down), or name their namespace"
    )


@pytest.mark.parametrize(
    ("kind", "unseen"),
    [
        ("RayService", "RayCluster"),
        ("RayJob", "RayCluster"),
        ("RayCronJob", "RayJob"),
        ("CronJob", "Job"),
        ("JobSet", "Job"),
        ("ScaledJob", "Job"),
        ("InferenceGraph", SERVING),
        ("InferenceService", REVISIONS),
        (SERVING, REVISIONS),
        ("LLMInferenceService", "LeaderWorkerSet"),
        ("StormService", ROLE_SETS),
        ("RayClusterFleet", "RayCluster"),
    ],
)
def test_with_nothing_found_below_what_cannot_be_seen_may_run(kind: str, unseen: str) -> None:
    """Of each kind that makes its pods through others; and not of those whose links are all seen."""
    held = inventory(workload("m", kind=kind))
    assert not _held(held, _key(kind))
    held.unseen[unseen] = "may not be listed"
    told = _held(held, _key(kind))
    assert [*told.unseen.values()] == [f"{unseen} (may not be listed)"]


def test_a_link_that_is_found_without_pods_below_is_no_trace() -> None:
    """The Configuration is seen, its Revisions are not."""
    service = workload("m", kind=SERVING)
    link = _link("configurations.serving.knative.dev", "m", service.uid)
    assert _held(_without(inventory(service, link), **{REVISIONS: "no"}), _key(SERVING))


def test_some_pods_that_are_found_do_not_vouch_for_those_of_an_owner_that_is_not_seen() -> None:
    """Roles of several pods make theirs through PodSets, others do not."""
    storm = workload("m", kind="StormService")
    roles = _link(ROLE_SETS, "roles", storm.uid)
    held = _without(inventory(storm, roles, pod("a", roles)), **{POD_SETS: "no"})
    assert not _held(held, _key("StormService"))
    held.put(replace(pod("b"), owner="pod-set"))
    assert _held(held, _key("StormService"))


def test_a_stop_whose_pods_are_found_waits_for_no_kind_that_cannot_be_seen() -> None:
    """A Deployment without pods, and one of an InferenceService that is not serverless."""
    service = workload("m", kind="InferenceService")
    held = inventory(service, workload("m-predictor", owner=service.uid), workload("m"))
    _without(held, **{SERVING: "a webhook is down", "RayCluster": "no"})
    assert not _held(held, _key("InferenceService"))
    assert not _held(held, _key("Deployment"))
    alone = _without(inventory(workload("m"), replace(pod("x"), owner="?")), **{SERVING: "no"})
    assert not _held(alone, _key("Deployment"))
    assert blind_spots.not_known([resting.whole_namespace("prod", alone)]) == NotKnown()


def test_each_name_of_what_stands_between_is_one_by_which_it_is_said_to_be_unseen() -> None:
    """Otherwise that it cannot be seen would be missed."""
    known = TABLE.keys() | {each.key for each in LINKS}
    assert {name for kind in TABLE.values() for name in kind.through} <= known
    led_to = {name for kind in TABLE.values() for name in kind.through}
    assert {each.key for each in LINKS} <= led_to


def test_an_unseen_kind_hides_what_may_be_below_a_stop_and_nothing_else() -> None:
    """A Deployment rests on its own kinds; whatever is seen down to its pods hides nothing."""
    deployments, rays = TABLE["Deployment"], TABLE["RayService"]
    vllm = workload("vllm")
    lost, known = pod("x", workload("gone")), pod("y", vllm)
    held = inventory(vllm)
    held.unseen |= {"RayCluster": "500"}
    words = ("RayCluster cannot be seen: 500",)
    assert blind_spots.hidden([deployments], [lost, known], held) == ()
    assert blind_spots.hidden([rays], [known], held) == ()
    assert blind_spots.hidden([rays], [lost], held) == words
    assert blind_spots.hidden([TABLE["RayCluster"]], [], held) == words
    held.unseen |= {"ReplicaSet": "503"}
    assert blind_spots.hidden([deployments], [lost], held) == ("ReplicaSet cannot be seen: 503",)
    assert str(NotKnown(hidden=words)) == f"whose pods are left is not known: {words[0]}"
