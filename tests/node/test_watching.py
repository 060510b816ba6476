"""What is kept of each object, what is asked for, and when everything is listed anew."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from killswitch.core.errors import UnavailableError
from killswitch.core.resources import FREEZES, PODS, SHUTDOWNS, STANDING_ORDERS
from killswitch.node.api import Contact, Server, Session
from killswitch.node.news import Changed, Listed, News
from killswitch.node.watching import Feed, Watcher, feeds, trimmed
from tests.node.objects import shutdown


def test_orders_that_are_history_are_not_asked_for() -> None:
    """And of pods only those of the node, by their metadata."""
    found = {each.resource.kind: each for each in feeds("n1")}
    for resource in (SHUTDOWNS, FREEZES):
        assert found[resource.kind].selector == {"labelSelector": "killswitch.dev/engaged=true"}
    assert found[STANDING_ORDERS.kind].selector == {}
    assert found[PODS.kind].selector == {"fieldSelector": "spec.nodeName=n1"}
    assert [each.resource.kind for each in found.values() if each.metadata_only] == ["Pod"]


def test_a_pods_annotations_are_not_kept_but_its_mirrors() -> None:
    """They may be large, and are nobody's business here."""
    metadata = {
        "name": "p",
        "namespace": "n",
        "uid": "u",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{}],
        "annotations": {"kubernetes.io/config.mirror": "0" * 32, "large": "x"},
        "ownerReferences": [{"kind": "Node"}],
    }
    found = trimmed("Pod", {"metadata": metadata, "spec": {"secret": "s"}})
    assert found == {
        "kind": "Pod",
        "metadata": {
            **{key: metadata[key] for key in ("name", "namespace", "uid", "creationTimestamp")},
            "ownerReferences": [{"kind": "Node"}],
            "annotations": {"kubernetes.io/config.mirror": "0" * 32},
        },
    }


def test_an_order_keeps_what_decides() -> None:
    """Its evidence, reason and report are left out; its kind is there, also from a list."""
    body = {
        "metadata": {"name": "f", "uid": "u", "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {"until": "x", "onExpiry": "Stop", "reason": "long", "evidenceDigest": "d"},
        "status": {"conditions": [{"type": "Ended", "status": "True", "message": "m"}], "pods": 3},
    }
    assert trimmed("Freeze", body) == {
        "kind": "Freeze",
        "metadata": body["metadata"],
        "spec": {"until": "x", "onExpiry": "Stop"},
        "status": {"conditions": [{"type": "Ended", "status": "True"}]},
    }


class OverError(Exception):
    """The script has come to its end."""


class Scripted(Session):
    """Answers each watch by the next step of a script; as in a pause, a cut finds nothing open."""

    def __init__(self, *watches: Callable[[Watcher], Iterator[Any]]) -> None:
        """And counts what it is asked for."""
        super().__init__(Server("", Path(), Path()), Contact(float))
        self.asked: list[str] = []
        self.told: list[News] = []
        self.watcher = Watcher(self, Feed(SHUTDOWNS, {}), self.told.append)
        self._watches = iter(watches)

    def play(self) -> list[str]:
        """What is asked for until the script ends, in order."""
        with pytest.raises(OverError):
            self.watcher.run()
        return self.asked

    def get(self, *_: object, **__: object) -> Any:
        """An empty list."""
        self.asked.append("list")
        return {"metadata": {"resourceVersion": "1"}, "items": []}

    def watch(self, _path: str, query: Mapping[str, Any], _accept: str) -> Iterator[Any]:
        """As the script says."""
        self.asked.append(f"watch {query['resourceVersion']}")
        step = next(self._watches, None)
        if step is None:
            raise OverError
        return step(self.watcher)


def ends(_: Watcher) -> Iterator[Any]:
    """The server has ended it, as it does every few minutes."""
    return iter(())


def passes_on(_: Watcher) -> Iterator[Any]:
    """One event, then the same."""
    body = shutdown()
    body["metadata"]["resourceVersion"] = "7"
    return iter([{"type": "ADDED", "object": body}])


def ends_as_the_link_comes_back(watcher: Watcher) -> Iterator[Any]:
    """Nothing is connected when everything is to be listed anew."""
    watcher.resume()
    return iter(())


def connects_as_the_link_comes_back(watcher: Watcher) -> Iterator[Any]:
    """It was about to be opened, and would last for minutes."""
    watcher.resume()
    return passes_on(watcher)


def fails_as_the_link_comes_back(watcher: Watcher) -> Iterator[Any]:
    """Cut, as most are."""
    watcher.resume()
    raise UnavailableError("cut")


def test_a_watch_that_the_server_ends_is_gone_on_with_from_where_it_was() -> None:
    """Without a list: nothing was missed."""
    assert Scripted(passes_on, ends).play() == ["list", "watch 1", "watch 7", "watch 7"]


@pytest.mark.parametrize(
    "moment",
    [
        ends_as_the_link_comes_back,
        connects_as_the_link_comes_back,
        fails_as_the_link_comes_back,
    ],
)
def test_what_is_to_be_listed_anew_is_listed_anew_whatever_the_watch_is_doing(
    moment: Callable[[Watcher], Iterator[Any]],
) -> None:
    """Otherwise nothing would be let go after an isolation. Once: the next watch goes on."""
    session = Scripted(passes_on, moment, passes_on)
    assert session.play() == ["list", "watch 1", "watch 7", "list", "watch 1", "watch 7"]
    kinds = [type(each) for each in session.told if isinstance(each, Changed | Listed)]
    assert kinds == [Listed, Changed, Listed, Changed]


def test_what_is_asked_for_while_a_list_is_on_its_way_is_listed_after_it() -> None:
    """That list may have been answered before the node was cut off."""
    session = Scripted(ends)
    answer = session.get

    def interrupted(*_: object, **__: object) -> Any:
        session.get = answer  # type: ignore[method-assign]
        session.watcher.resume()
        return answer()

    session.get = interrupted  # type: ignore[method-assign]
    assert session.play() == ["list", "watch 1", "list", "watch 1"]
