"""Which pods may be touched."""

from typing import Any

from killswitch.node.residents import Residents
from tests.node.objects import OF_NODE, pod

STATIC = "0123456789abcdef0123456789abcdef"


def residents() -> Residents:
    """Of a guard whose pod is `own`."""
    return Residents("own", frozenset({"kube-system"}))


def names(found: Residents) -> list[str]:
    """Of the pods that may be touched."""
    return sorted(each.pod.name for each in found.touchable())


def mirror(name: str, uid: str, namespace: str = "prod") -> dict[str, Any]:
    """A static pod's image in the API."""
    annotations = {"kubernetes.io/config.mirror": STATIC}
    return pod(name, uid, namespace, annotations=annotations, ownerReferences=OF_NODE)


def test_protected_namespaces_and_the_guard_itself_are_never_touched() -> None:
    """Nor what they left frozen."""
    found = residents()
    for each in (pod("a", "a"), pod("dns", "dns", "kube-system"), pod("guard", "own")):
        assert found.put(each)
    assert names(found) == ["a"]
    assert found.forbidden() == {"dns", "own"}


def test_a_cgroup_that_two_pods_claim_is_never_touched() -> None:
    """One of them may be protected: nobody's claim is believed."""
    found = residents()
    found.put(mirror("etcd", "a", "kube-system"))
    found.put(mirror("fake", "b"))
    assert names(found) == []
    assert found.forbidden() == found.disputed() == {STATIC}


def test_the_same_again_is_no_change() -> None:
    """A pod's status changes all the time, what the guard knows of it hardly ever."""
    found = residents()
    assert found.put(pod("a", "a"))
    assert not found.put(pod("a", "a"))
    assert found.put(pod("a", "a", labels={"app": "b"}))


def test_a_held_pod_whose_object_is_deleted_stays_while_its_cgroup_does() -> None:
    """Whoever deletes a static pod's mirror does not let go of what runs."""
    found = residents()
    found.put(pod("a", "a"))
    found.put(pod("b", "b"))
    found.replace([], held={"a"})
    assert names(found) == ["a"]
    found.bury({"a"})
    assert names(found) == ["a"]
    found.bury(set())
    assert names(found) == []


def test_a_pod_keeps_the_cgroup_that_it_was_first_seen_with() -> None:
    """Whoever may write its owners cannot give away what it holds, also in what is remembered."""
    found = residents()
    found.put(mirror("a", "a"))
    orphan = mirror("a", "a")
    metadata = dict(orphan["metadata"])
    orphan["metadata"] = {**metadata, "ownerReferences": [], "labels": {"app": "b"}}
    assert found.put(orphan)
    assert not found.put(orphan)
    assert [each.cgroup for each in found.touchable()] == [STATIC]
    later = residents()
    for body in found.bodies():
        later.put(body)
    assert [(each.cgroup, each.pod.labels) for each in later.touchable()] == [
        (STATIC, {"app": "b"})
    ]


def test_a_ghost_is_recalled_as_one() -> None:
    """A later list of what there is does not remove it; a living pod in its place does."""
    found, body = residents(), mirror("a", "first")
    found.put(body)
    found.remove("first", held={STATIC})
    assert list(found.ghosts()) == [body]
    assert list(found.bodies()) == []
    later = residents()
    later.haunt(body)
    later.replace([], held={STATIC})
    assert names(later) == ["a"]
    assert list(later.ghosts()) == [body]
    later.put(mirror("a", "second"))
    assert [each.pod.uid for each in later.touchable()] == ["second"]
    assert list(later.ghosts()) == []


def test_a_mirror_that_is_made_again_takes_its_place() -> None:
    """There is one claim then, not two."""
    found = residents()
    found.put(mirror("a", "first"))
    found.remove("first", held={STATIC})
    found.put(mirror("a", "second"))
    assert [each.pod.uid for each in found.touchable()] == ["second"]
    found.remove("unknown", held=set())
