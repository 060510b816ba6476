from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from killswitch.core.inventory import Inventory, Item
from tests.core.builders import deployment, inventory, node, pod, replica_set, workload


def test_lookups() -> None:
    """Each index finds its items; workloads come by kind and name."""
    web = deployment("web", pods=2)
    held = inventory(*web, workload("db", kind="StatefulSet"), workload("api"), pod("bare"))
    found = [(each.kind.name, each.name) for each in held.workloads("prod")]
    assert found == [("Deployment", "api"), ("Deployment", "web"), ("StatefulSet", "db")]
    assert [each.name for each in held.workloads("prod", "StatefulSet")] == ["db"]
    assert [each.name for each in held.children(web[0].uid)] == ["web-abc"]
    assert len(held.pods_of([web[1].uid])) == 2
    assert len(held.pods_in("prod")) == 3
    assert held.owner_of(web[0].uid) == web[0]


def test_unknown_places_are_empty() -> None:
    """Asking for what is not there answers nothing and creates nothing."""
    held = inventory()
    assert not list(held.workloads("x"))
    assert (
        held.children("x"),
        held.pods_of(["x"]),
        held.pods_in("x"),
        held.owner_of("x"),
    ) == ([], [], [], None)
    held.remove("x")
    assert len(held) == 0


def test_an_adopted_pod_moves() -> None:
    """A pod that changes its owner is found under the new one only."""
    one, two = workload("one", kind="StatefulSet"), workload("two", kind="StatefulSet")
    held = inventory(one, two, pod("p", one))
    held.put(replace(pod("p", one), owner=two.uid))
    assert held.pods_of([one.uid]) == []
    assert [each.name for each in held.pods_of([two.uid])] == ["p"]


def test_a_node_that_joined_again_by_its_name_stays() -> None:
    """A list shows the new node before the old one's uid is forgotten."""
    old, new = node("n1"), replace(node("n1"), uid="another")
    held = inventory(old)
    held.put(new)
    held.remove(old.uid)
    assert held.nodes == {"n1": new}


ITEMS: list[Item] = [
    *deployment("a", pods=2),
    *deployment("b", "dev"),
    pod("bare"),
    node("n1"),
    workload("db", kind="StatefulSet"),
]


def contents(held: Inventory) -> dict[str, object]:
    """Everything that can be asked."""
    return {
        "workloads": [list(held.workloads(place)) for place in ("prod", "dev")],
        "pods": [sorted(each.uid for each in held.pods_in(place)) for place in ("prod", "dev")],
        "owned": sorted(each.uid for each in held.pods_of(item.uid for item in ITEMS)),
        "children": [held.children(item.uid) for item in ITEMS],
        "nodes": dict(held.nodes),
        "count": len(held),
    }


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(ITEMS)), max_size=30))
def test_history_leaves_no_trace(steps: list[tuple[bool, Item]]) -> None:
    """After any puts and removes it answers like one that was filled with what is left."""
    held, left = inventory(), dict[str, Item]()
    for put, item in steps:
        if put:
            held.put(item)
            left[item.uid] = item
        else:
            held.remove(item.uid)
            left.pop(item.uid, None)
    assert contents(inventory(*left.values())) == contents(held)
    assert replica_set(workload("a"), "abc").uid == ITEMS[1].uid
