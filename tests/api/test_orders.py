"""Orders: names, episodes, and how a large stop is cut into Shutdowns."""

from typing import Any

import pytest

from killswitch.api import orders
from killswitch.api.freezes import FreezeSpec
from killswitch.api.orders import FreezeTerms, Terms
from killswitch.api.shutdowns import ShutdownSpec
from killswitch.core import plans
from killswitch.core.lock_keys import MOST_LOCKS
from killswitch.core.queries import TargetQuery
from killswitch.core.resources import FREEZES, SHUTDOWNS
from tests.api.test_compiled import policy
from tests.core.builders import (
    BOUNDARIES,
    NOW,
    deployment,
    inventory,
    node,
    replica_set,
)

TERMS = Terms(requested_by="alice", reason="r")


@pytest.mark.parametrize(
    ("stored", "number"),
    [
        ([], 1),
        ([(1, False)], 2),
        ([(1, False), (2, False)], 3),
        ([(1, True)], 1),
        ([(1, False), (2, True)], 2),
        ([(2, True), (2, True)], 2),
        ([(2, True), (2, False)], 3),
    ],
)
def test_an_episode_goes_on_while_all_of_it_locks(
    stored: list[tuple[int, bool]], number: int
) -> None:
    """A half accepted fire keeps its number; what people have released any of gets a new one."""
    assert number == orders.episode(stored)


def test_old_replicasets_take_no_room_in_the_lock() -> None:
    """A Deployment keeps ten of them: only those with pods are held by their own keys."""
    (owner, live, *pods) = deployment("vllm", pods=2)
    old = [replica_set(owner, f"old{number}") for number in range(10)]  # type: ignore[arg-type]
    held = inventory(owner, live, *pods, *old)
    plan = plans.for_policy([TargetQuery("Deployment", "prod", "vllm")], held, BOUNDARIES)
    (stop,) = plan.stops
    assert sorted(stop.locks) == [
        "deployments.apps/vllm",
        "replicasets.apps/vllm-abc",
        "uid/Deployment.prod.vllm",
        "uid/ReplicaSet.prod.vllm-abc",
    ]
    assert len(stop.pods) == 2


def test_more_targets_than_a_shutdown_has_room_for_are_several() -> None:
    """Each within the schema's limit, together everything, under one episode's name."""
    items = [each for number in range(1500) for each in deployment(f"d{number:04}")]
    plan = plans.for_policy(
        [TargetQuery("Deployment", "prod", labels={})], inventory(*items), BOUNDARIES
    )
    batch = orders.for_stops("runaway-1", plan.stops, TERMS)
    assert [order.name for order in batch] == ["runaway-1", "runaway-1-part-2"]
    keys = [set(order.body["spec"]["locks"]) for order in batch]
    assert max(len(each) for each in keys) <= MOST_LOCKS
    assert {f"deployments.apps/d{number:04}" for number in range(1500)} <= set().union(*keys)
    assert plan.count == 1500


def test_a_freeze_is_ordered_for_each_stop_but_those_of_nodes() -> None:
    """With the keys of a Shutdown, in force, and an end in whole seconds that is not too early."""
    held = inventory(*deployment("a"), *deployment("b", "dev"), node("n"), governed=("prod", "dev"))
    queries = [TargetQuery("Deployment", "prod"), TargetQuery("Namespace", "dev")]
    stops = plans.for_policy(queries, held, BOUNDARIES).stops
    cordon = plans.for_policy([TargetQuery("Node", name="n")], held, BOUNDARIES).stops
    terms = FreezeTerms("alice", "it leaks", until=1_800_000_000.001, on_expiry="Stop")
    batch = orders.freeze_for_stops("f", (*stops, *cordon, stops[0]), terms)
    places = [(each.resource, each.namespace, each.name) for each in batch]
    assert places == [
        (FREEZES, "prod", "f"),
        (FREEZES, "dev", "f"),
        (FREEZES, "prod", "f-part-2"),
    ]
    assert batch[0].body["metadata"]["labels"] == {"killswitch.dev/engaged": "true"}
    spec = FreezeSpec.model_validate(batch[0].body["spec"])
    assert (spec.until, spec.on_expiry) == ("2027-01-15T08:00:01Z", "Stop")
    assert spec.locks == dict(stops[0].locks)
    assert batch[1].body["spec"]["scope"] == {"wholeNamespace": True}


def test_a_policys_freeze_and_the_stop_at_its_end() -> None:
    """The stop holds the same under as many approvals; its terms of restore are the policy's."""
    targets = [{"kind": "Deployment", "name": "a"}]
    action = {"type": "Freeze", "freeze": {"for": "24h", "onExpiry": "Stop"}}
    more: dict[str, Any] = {
        "release": {"requiredApprovals": 3},
        "restore": {"soak": "7s"},
        "action": action,
    }
    owner = policy(targets=targets, **more)
    stops = plans.for_policy(owner.queries, inventory(*deployment("a")), BOUNDARIES).stops
    (order,) = orders.freeze_for_policy(
        owner, stops, number=2, requested_by="reactor", reason="r", digest="d", decided=NOW
    )
    assert order.name == f"{owner.name}-freeze-2"
    until = order.body["spec"]["until"]
    assert until == "2027-01-16T07:59:00Z"  # a day less a minute
    assert order.body["spec"]["policy"]["episode"] == 2
    end = orders.at_end_of(order.body, "reactor", owner)
    assert (end.resource, end.namespace, end.name) == (SHUTDOWNS, "prod", f"{order.name}-expired")
    spec = ShutdownSpec.model_validate(end.body["spec"])
    assert (spec.required_approvals, spec.restore_policy.soak) == (3, "7s")
    assert spec.locks == order.body["spec"]["locks"]
    assert f"Freeze {order.name} of reactor came to its end, {until}" in spec.reason
    assert end.body["metadata"]["labels"]["killswitch.dev/policy"] == owner.name
    alone = orders.at_end_of(order.body, "reactor", None)
    assert alone.body["spec"]["requiredApprovals"] == 3


@pytest.mark.parametrize(
    ("shutdown", "policy"),
    [
        ("runaway-1", "runaway"),
        ("runaway-12-part-2", "runaway"),
        ("runaway-1-more-3", "runaway"),
        ("gpu-2-hot-7-part-2-more-1", "gpu-2-hot"),
        ("by-hand", "by-hand"),
        ("runaway-freeze-1-expired", "runaway"),
        ("runaway-freeze-2-part-2-more-1-expired-more-1", "runaway"),
        ("chest-freeze-1", "chest-freeze"),
    ],
)
def test_the_policys_name_is_read_back_from_its_shutdowns(shutdown: str, policy: str) -> None:
    """Whatever the parts and supplements."""
    assert policy == orders.policy_name(shutdown)
