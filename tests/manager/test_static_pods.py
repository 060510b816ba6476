"""Static pods: no DELETE ends them, so their node's guard is asked whether they are dead."""

from typing import Any

import pytest

from killswitch.adapters.clock import SystemClock
from killswitch.core.errors import RefusedError
from killswitch.core.resources import NODE_GUARDS, SHUTDOWNS, Resource
from killswitch.manager.places import Places
from killswitch.manager.verification import left
from killswitch.ports import Json
from tests.kernel.objects import shutdown
from tests.manager.guarded import LABELS, Ward, entry

pytestmark = pytest.mark.cluster


async def stop(ward: Ward, name: str = "stop", **change: Any) -> Json:
    """A Shutdown of the ward's pods."""
    body = shutdown(name, "admin", scope={"podLabels": LABELS}, **change)
    return await ward.scene.bench.cluster.create(SHUTDOWNS, body, ward.scene.namespace)


async def test_a_static_pod_is_stopped_by_the_word_of_its_guard(ward: Ward) -> None:
    """Verified says on whose word it rests, and falls back when the guard falls silent."""
    static = await ward.pod("static", ward.first, static=True)
    async with ward.scene.manager(account=ward.account, verify_interval=0.2):
        await stop(ward)
        left = await ward.scene.condition("stop", "Verified", "False", "Stopping")
        ward.say(ward.first, entry(static, "Dead", "stop", "Shutdown"))
        verified = await ward.scene.condition("stop", "Verified", "True", "NoPodsLeft")
        found = await ward.scene.bench.cluster.get(SHUTDOWNS, "stop", ward.scene.namespace)
        ward.say(ward.first, entry(static, "Dead", "stop", "Shutdown"), ago=121)
        silent = await ward.scene.condition("stop", "Verified", "False", "Unguarded")
        await ward.scene.event("Shutdown", "stop", "Unguarded", "Warning")
        ward.say(ward.first, entry(static, "Failed", "stop", "Shutdown", doneAt=None))
        back = await ward.scene.condition("stop", "Verified", "False", "CameBack")
        ward.say(ward.first, entry(static, "Dead", "stop", "Shutdown"))
        again = await ward.scene.condition("stop", "Verified", "True", "NoPodsLeft")
    name = f"pod {ward.scene.namespace}/static on {ward.first}"
    assert left == f"left: {name}"
    assert verified.startswith("no pod left, ")
    assert verified.endswith("; 1 static pods dead by the word of their node guards")
    assert found["status"]["remaining"] == 0
    assert silent == f"nobody vouches for it any more, its node guard is silent: {name}"
    assert back == f"back: {name}"
    assert again.startswith("no pod left again, ")
    assert again.endswith("dead by the word of their node guards")


async def test_only_the_word_about_this_stop_counts(ward: Ward) -> None:
    """And only where there is no better proof: another pod's end is its object's end."""
    static = await ward.pod("static", ward.first, static=True)
    usual = await ward.pod("usual", ward.second)
    async with ward.scene.manager(account=ward.account, verify_interval=0.2):
        await stop(ward)
        ward.say(ward.first, entry(static, "Dead", "another", "Shutdown"), ago=5)
        ward.say(ward.second, entry(usual, "Dead", "stop", "Shutdown"))
        message = await ward.scene.condition("stop", "Verified", "False")
        await stop(ward, "another", deadline="1s")
        late = await ward.scene.condition("another", "Verified", "False", "DeadlineExceeded")
    place = ward.scene.namespace
    both = f"left: pod {place}/static on {ward.first}, pod {place}/usual on {ward.second}"
    assert message == both
    # The report is older than the Shutdown of that name.
    assert late == both


async def test_without_a_guard_a_static_pod_keeps_a_stop_from_being_verified(ward: Ward) -> None:
    """As it ever was: it is named with its node."""
    await ward.pod("static", ward.first, static=True)
    async with ward.scene.manager(account=ward.account):
        await stop(ward, deadline="1s")
        message = await ward.scene.condition("stop", "Verified", "False", "DeadlineExceeded")
    assert message == f"left: pod {ward.scene.namespace}/static on {ward.first}"


class Mute:
    """A cluster that says nothing of node guards, and remembers who asked for them."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        """No answer about guards."""
        if resource == NODE_GUARDS:
            self.asked.append(name)
            raise RefusedError("forbidden")
        found: Json = await self.inner.get(resource, name, namespace)
        return found


async def test_a_report_that_cannot_be_read_is_no_word(ward: Ward) -> None:
    """The stop is still judged; and nobody is asked where no static pod is left."""
    static = await ward.pod("static", ward.first, static=True)
    created = await stop(ward)
    ward.say(ward.first, entry(static, "Dead", "stop", "Shutdown"))
    mute, now = Mute(ward.scene.bench.cluster), SystemClock().now()
    places = Places(mute.inner, SystemClock())
    found = await left(mute, places, created, now)
    assert [pod.name for pod in found.pods] == ["static"]
    assert (found.dead, found.silent, mute.asked) == (0, 0, [ward.first])
    usual = shutdown("usual", "admin", scope={"podLabels": {"model": "other"}})
    usual["metadata"]["namespace"] = ward.scene.namespace
    assert (await left(mute, places, usual, now)).count == 0
    assert mute.asked == [ward.first]
