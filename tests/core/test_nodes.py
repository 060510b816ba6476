"""Which taint, which pods go, whom that would hurt: plans of nodes."""

from dataclasses import replace
from typing import Any

import pytest

from killswitch.core import interlocks, nodes, plans, projections
from killswitch.core.inventory import Item, Node, Pod, Taint
from killswitch.core.nodes import NodeAction
from killswitch.core.queries import TargetQuery
from killswitch.core.stops import Plan, Refusal, Refused
from tests.core.builders import (
    BOUNDARIES,
    deployment,
    inventory,
    names,
    node,
    planned,
    pod,
    workload,
)

GOVERNED = {"killswitch.dev/governed": "true"}
STOPPED = Taint("killswitch.dev/stopped", "zone-1", "NoExecute")
EMPTYING = [NodeAction.DRAIN, NodeAction.TAINT]
KEEPING = [NodeAction.CORDON, NodeAction.QUARANTINE]


def plan(action: str, *items: Item, names: tuple[str, ...] = ("n1",)) -> Plan:
    """What a stop of these nodes by this action would do."""
    queries = [TargetQuery("Node", name=name) for name in names]
    return plans.for_policy(queries, inventory(*items), BOUNDARIES, node_action=action)


def protected(name: str = "dns", pods: int = 1, **more: Any) -> list[Item]:
    """A Deployment of kube-system with ready pods on n1."""
    owner = workload(name, "kube-system")
    return [owner, *(pod(f"{name}-{n}", owner, ready=True, **more) for n in range(pods))]


@pytest.mark.parametrize("action", KEEPING)
def test_what_runs_on_kept_nodes_is_no_part_of_the_plan(action: NodeAction) -> None:
    """A cordon and a quarantine end nothing."""
    found = plan(action, node("n1"), *deployment("vllm"))
    assert (found.count, found.pods, found.gpus) == (1, 0, 0)


@pytest.mark.parametrize("action", EMPTYING)
def test_pods_that_go_are_counted_with_their_gpus(action: NodeAction) -> None:
    """Targets are the nodes; pods and GPUs say how much work ends."""
    here, there = pod("p", gpus=8), pod("q", node="n2", gpus=8)
    found = plan(action, node("n1", gpus=8), node("n2"), here, there)
    assert (found.count, found.pods, found.gpus) == (1, 1, 8)
    assert found.percent == 50


LEFT: list[tuple[Pod, dict[NodeAction, str]]] = [
    (pod("static", mirror=True), dict.fromkeys(EMPTYING, "static")),
    (
        pod("agent", keys=("daemonsets.apps/agent",)),
        {NodeAction.DRAIN: "of a DaemonSet", NodeAction.TAINT: ""},
    ),
    (
        pod("far", namespace="wild"),
        {NodeAction.DRAIN: "in an ungoverned namespace", NodeAction.TAINT: ""},
    ),
    (
        pod("tough", tolerates=True),
        {NodeAction.DRAIN: "", NodeAction.TAINT: "tolerates the taint"},
    ),
    (pod("plain"), dict.fromkeys(EMPTYING, "")),
]


@pytest.mark.parametrize("action", EMPTYING)
@pytest.mark.parametrize(("each", "why"), LEFT)
def test_what_stays_on_an_emptied_node_is_named_with_the_reason(
    each: Pod, why: dict[NodeAction, str], action: NodeAction
) -> None:
    """A drain is ours, so it keeps to what is governed; a taint is the cluster's."""
    assert nodes.stays(each, action, {"prod"}) == why[action]
    named = nodes.staying([each], action, {"prod"})
    assert named == ([f"{each.namespace}/{each.name} on n1 ({why[action]})"] if why[action] else [])


@pytest.mark.parametrize("action", EMPTYING)
def test_a_node_with_the_last_ready_pod_of_a_protected_workload_is_refused(
    action: NodeAction,
) -> None:
    """And a policy whose plan meets one does nothing, rather than half."""
    found = plan(action, node("n1"), node("n2"), *protected(), names=("n1", "n2"))
    assert [each.reason for each in found.refused] == [Refusal.LAST_OF_PROTECTED]
    assert found.refused[0].what == "node n1, last of Deployment dns in kube-system"
    assert [each.name for stop in found.stops for each in stop.nodes] == ["n2"]
    inhibited = interlocks.beyond(found, max_targets=10, max_percent=100)
    assert inhibited is not None
    assert "LastOfProtected" in inhibited.message


@pytest.mark.parametrize("action", KEEPING)
def test_a_cordon_ends_no_protected_workload(action: NodeAction) -> None:
    """Its pods run on."""
    assert plan(action, node("n1"), *protected()).refused == ()


def test_several_nodes_together_carry_the_last_of_a_protected_workload() -> None:
    """Each alone could go, both could not."""
    owner = workload("dns", "kube-system")
    pods = [pod(f"dns-{n}", owner, ready=True, node=f"n{n}") for n in (1, 2)]
    both = plan("Drain", node("n1"), node("n2"), owner, *pods, names=("n1", "n2"))
    assert [each.what.partition(",")[0] for each in both.refused] == ["node n1", "node n2"]
    assert both.stops == ()
    assert plan("Drain", node("n1"), node("n2"), owner, *pods).refused == ()


HARMLESS: dict[str, dict[str, Any]] = {
    "not ready": {"ready": False},
    "terminating": {"terminating": True},
    "static": {"mirror": True},
    "of a DaemonSet": {"keys": ("daemonsets.apps/agent",)},
}


@pytest.mark.parametrize("change", HARMLESS)
def test_a_protected_pod_that_is_lost_to_nobody_refuses_nothing(change: str) -> None:
    """What is not ready serves nobody, and what belongs to the node stays on it."""
    owner, each = protected()
    assert isinstance(each, Pod)
    changed = replace(each, **HARMLESS[change])
    assert plan("Drain", node("n1"), owner, changed).refused == ()


def test_a_protected_pod_that_tolerates_the_taint_stays_ready() -> None:
    """So its node may be tainted; a drain does not ask for tolerations."""
    items = [node("n1"), *protected(tolerates=True)]
    assert plan("Taint", *items).refused == ()
    assert [each.reason for each in plan("Drain", *items).refused] == [Refusal.LAST_OF_PROTECTED]


def test_control_planes_are_refused_whatever_is_done() -> None:
    """They are never touched."""
    for action in NodeAction:
        found = plan(action, node("n1", control_plane=True))
        assert [each.reason for each in found.refused] == [Refusal.PROTECTED]
        assert found.stops == ()


TOLERATIONS: list[tuple[dict[str, Any], bool]] = [
    ({"operator": "Exists"}, True),
    ({"operator": "Exists", "effect": "NoExecute"}, True),
    ({"key": "killswitch.dev/stopped", "operator": "Exists"}, True),
    ({"operator": "Exists", "effect": "NoSchedule"}, False),
    ({"operator": "Exists", "tolerationSeconds": 30}, False),
    ({"key": "node.kubernetes.io/not-ready", "operator": "Exists"}, False),
    ({"key": "killswitch.dev/stopped", "operator": "Equal", "value": "zone-1"}, False),
    ({}, False),
]


@pytest.mark.parametrize(("toleration", "stays"), TOLERATIONS)
def test_which_pods_tolerate_the_taint(toleration: dict[str, Any], stays: bool) -> None:
    """For good, and whatever its value: others are evicted sooner or later."""
    body = {
        "metadata": {"namespace": "prod", "name": "p", "uid": "u"},
        "spec": {"containers": [], "tolerations": [toleration]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    found = projections.pod(body)
    assert found is not None
    assert (found.tolerates, found.ready) == (stays, True)


def test_the_taints_of_a_node_that_are_read_are_ours() -> None:
    """Absent values are empty; Kubernetes omits them."""
    body = {
        "metadata": {"name": "n1", "uid": "u"},
        "spec": {
            "taints": [
                {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
                {"key": "killswitch.dev/quarantine", "effect": "NoSchedule"},
            ]
        },
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
    }
    found = projections.node(body)
    assert [str(each) for each in found.taints] == ["killswitch.dev/quarantine=:NoSchedule"]
    assert not found.ready


def left(*taints: Taint, **more: Any) -> Node:
    """A cordoned node with these taints."""
    return node("n1", unschedulable=True, labels=GOVERNED, taints=taints, **more)


def test_when_a_node_is_as_a_stop_leaves_it() -> None:
    """Cordoned, with the label of the node lock, and with the taint, whoever's value it bears."""
    assert nodes.as_left(left(), None)
    assert not nodes.as_left(left(), STOPPED)
    assert nodes.as_left(left(STOPPED), STOPPED)
    assert nodes.as_left(left(replace(STOPPED, value="other")), STOPPED)
    assert not nodes.as_left(left(replace(STOPPED, effect="NoSchedule")), STOPPED)
    assert not nodes.as_left(node("n1", labels=GOVERNED), None)
    assert not nodes.as_left(node("n1", unschedulable=True), None)


def test_the_mark_of_a_stop_fits_a_label() -> None:
    """However long its name; two long names of one beginning differ."""
    uid = "0123456789ab"
    short = {"metadata": {"name": "zone-1", "uid": uid}, "spec": {"nodeAction": "Taint"}}
    assert nodes.taint(short) == STOPPED
    long = {"metadata": {"name": "z" * 100, "uid": uid}, "spec": {}}
    assert len(nodes.mark(long)) == 63
    assert nodes.mark(long).endswith("-01234567")
    assert nodes.taint(long) is None


def test_what_a_fence_request_says() -> None:
    """Whom it is for, so that only that one withdraws it."""
    assert nodes.title({"metadata": {"name": "a", "namespace": "prod"}}) == "prod/a"
    assert nodes.title({"metadata": {"name": "a"}}) == "a"


def test_which_nodes_are_planned_and_which_refused() -> None:
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
