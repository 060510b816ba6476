"""The reflector against a scripted API: every way in which a watch can end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from killswitch.core.errors import ExpiredError, OverloadedError, RefusedError, UnavailableError
from killswitch.core.resources import PODS
from killswitch.ports import Change, Json, Page
from killswitch.reflector import Reflector

Script = list[Any]


def pod(name: str, version: str = "1") -> Json:
    """A pod as far as a reflector looks at it."""
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": version}}


@dataclass
class ScriptedCluster:
    """Answers each list and each watch with the next entry of its script, then stays silent."""

    lists: Script
    watches: Script = field(default_factory=list)
    asked_from: list[str] = field(default_factory=list)

    async def list(self, resource: Any, namespace: str = "", **_: Any) -> Page:
        """The next page, or its error."""
        if not self.lists:
            await asyncio.Event().wait()
        entry = self.lists.pop(0)
        if isinstance(entry, Exception):
            raise entry
        return Page(entry, "100")

    async def watch(self, resource: Any, version: str, **_: Any) -> AsyncIterator[Change]:
        """The next changes; an error among them is raised."""
        self.asked_from.append(version)
        if not self.watches:
            await asyncio.Event().wait()
        for entry in self.watches.pop(0):
            if isinstance(entry, Exception):
                raise entry
            yield entry


@dataclass
class Notes:
    """A sink that remembers what it holds and was told."""

    held: dict[str, Json] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)

    def put(self, body: Json) -> None:
        """Hold it."""
        self.held[body["metadata"]["uid"]] = body

    def remove(self, uid: str) -> None:
        """Let it go."""
        self.held.pop(uid, None)
        self.removed.append(uid)


class InstantClock:
    """Time that passes at once."""

    def now(self) -> float:
        """Zero."""
        return 0.0

    def monotonic(self) -> float:
        """Zero."""
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """Only let others run."""
        await asyncio.sleep(0)


async def play(
    lists: Script, watches: Script, notes: Notes | None = None
) -> tuple[ScriptedCluster, Notes]:
    """Run a reflector through the script until it is silent."""
    cluster, notes = ScriptedCluster(lists, watches), notes or Notes()
    reflector = Reflector(cluster, InstantClock(), PODS, notes)  # type: ignore[arg-type]
    task = asyncio.create_task(reflector.run())
    async with asyncio.timeout(5):
        while cluster.lists or cluster.watches or not reflector.synced.is_set():
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return cluster, notes


async def test_a_list_and_its_changes_are_mirrored() -> None:
    """Added, modified and deleted objects arrive in the sink."""
    changes = [
        Change("ADDED", pod("b", "101")),
        Change("MODIFIED", pod("a", "102")),
        Change("DELETED", pod("b", "103")),
    ]
    _, notes = await play([[pod("a")]], [changes])
    assert list(notes.held) == ["uid-a"]
    assert notes.held["uid-a"]["metadata"]["resourceVersion"] == "102"
    assert notes.removed == ["uid-b"]


async def test_a_watch_that_the_server_closes_goes_on_from_where_it_ended() -> None:
    """No new list is made: the next watch starts at the last version, bookmarks included."""
    bookmark = Change("BOOKMARK", {"metadata": {"resourceVersion": "150"}})
    cluster, _ = await play([[pod("a")]], [[Change("ADDED", pod("b", "120")), bookmark], []])
    assert cluster.asked_from == ["100", "150", "150"]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ExpiredError("too old"), id="410 on the watch"),
        pytest.param(UnavailableError("reset"), id="broken connection"),
        pytest.param(OverloadedError("slow down", 1.0), id="429"),
        pytest.param(RefusedError("forbidden"), id="403"),
    ],
)
async def test_after_an_error_everything_is_listed_again_and_no_delete_is_missed(
    error: Exception,
) -> None:
    """What vanished while nobody watched is reported as removed."""
    _, notes = await play([[pod("a"), pod("b")], [pod("a")]], [[error]])
    assert notes.removed == ["uid-b"]
    assert list(notes.held) == ["uid-a"]


async def test_a_list_that_fails_is_tried_again() -> None:
    """An API server that is away at the start delays the view, it does not end it."""
    _, notes = await play(
        [UnavailableError("refused"), UnavailableError("refused"), [pod("a")]], []
    )
    assert list(notes.held) == ["uid-a"]


class _Picky(Notes):
    """A sink that cannot read one of the objects."""

    def put(self, body: Json) -> None:
        """As ever, but for that one."""
        if body["metadata"]["name"] == "poison":
            raise KeyError("spec")
        super().put(body)


async def test_an_object_that_nobody_can_read_is_left_out_and_spares_the_others() -> None:
    """In a list and in a watch; the reflector goes on."""
    changes = [Change("ADDED", pod("poison", "101")), Change("ADDED", pod("b", "102"))]
    _, notes = await play([[pod("poison"), pod("a")]], [changes], notes=_Picky())
    assert list(notes.held) == ["uid-a", "uid-b"]
