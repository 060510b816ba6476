"""Of which workloads it is not known whose pods theirs are."""

from dataclasses import replace

from killswitch.core import blind_spots, holdings, resting
from killswitch.core.blind_spots import NotKnown
from killswitch.core.inventory import Inventory
from killswitch.core.kinds import unsupported
from killswitch.core.resources import Resource
from tests.core.builders import (
    deployment,
    inventory,
    workload,
)


def _held(held: Inventory, *keys: str) -> NotKnown:
    """Of whose pods nothing is known, of a Shutdown with these keys."""
    return blind_spots.not_known([holdings.for_locks("prod", dict.fromkeys(keys, ""), held)])


def test_of_a_kind_that_does_not_own_its_pods_nothing_is_known() -> None:
    """Unless its jobs, its pods or their labels are held as well: then it is named only."""
    queue = workload("q", kind="LocalQueue")
    held = inventory(queue, *deployment("vllm"))
    key = "localqueues.kueue.x-k8s.io/q"
    assert _held(held, key) == NotKnown(("LocalQueue q",), alone=True)
    for more in ("deployments.apps/vllm", "pods/x"):
        assert _held(held, key, more) == NotKnown(("LocalQueue q",), alone=False)
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
    assert _held(hidden, "graphs.ex.dev/g") == NotKnown(("Graph.ex.dev g",), alone=True)
    assert _held(found, "graphs.ex.dev/g") == NotKnown()
    stop = holdings.for_locks("prod", {"graphs.ex.dev/g": ""}, hidden)
    assert blind_spots.not_known([stop], {"graph"}) == NotKnown()
