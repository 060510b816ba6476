"""Stops as values: two as one, and which pods one is about."""

from killswitch.core import resting
from killswitch.core.stops import Plan, Stop, holds_pod, merge
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


def test_merge() -> None:
    """Both stops of one namespace, nothing twice."""
    held = inventory(*deployment("a"), pod("bare", labels={"app": "x"}))
    locked = planned(held, by_name("a")).stops[0]
    both = merge(locked, resting.for_labels("prod", {"app": "x"}, held))
    assert names(both.pods) == ["a-abc-0", "bare"]
    assert (locked.locks, {"app": "x"}, False) == (
        both.locks,
        both.pod_labels,
        both.whole_namespace,
    )
    assert both == merge(both, both)


def test_holds_pod() -> None:
    """A pod is held by its namespace, its keys or its labels, and never across namespaces."""
    child = replica_set(workload("a"), "abc")
    mine, other = pod("p", child), pod("q")
    locked = Stop("prod", locks={f"uid/{child.uid}": "x"})
    assert (holds_pod(locked, mine), holds_pod(locked, other)) == (True, False)
    whole = Stop("prod", whole_namespace=True)
    assert holds_pod(whole, other)
    assert not holds_pod(whole, pod("r", namespace="dev"))
    labelled = Stop("prod", pod_labels={"app": "x"})
    assert holds_pod(labelled, pod("s", labels={"app": "x", "b": "c"}))
    assert not holds_pod(labelled, other)


def test_a_share_of_nothing_is_zero() -> None:
    """No division by the eligible that are not there."""
    assert Plan(()).percent == 0.0
