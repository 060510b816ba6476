"""Of which workloads it is not known whose pods theirs are."""

from dataclasses import replace

from killswitch.core import blind_spots, holdings, resting
from killswitch.core.blind_spots import NotKnown
from killswitch.core.inventory import Inventory
from killswitch.core.kinds import TABLE, unsupported
from killswitch.core.resources import Resource
from tests.core.builders import (
    deployment,
    inventory,
    pod,
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
