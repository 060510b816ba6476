"""What people see of a Freeze: who is frozen by the word of which guard, and how it ended."""

import pytest

from killswitch.adapters.clock import SystemClock
from killswitch.core import conditions, times
from killswitch.core.resources import FREEZES, NODE_GUARDS
from killswitch.manager.freezes import Freezes
from killswitch.manager.guards import Guards
from killswitch.manager.numbers import Numbers
from killswitch.manager.rounds import Key
from killswitch.reactor.finisher import FIELD_MANAGER
from killswitch.settings import Settings
from tests.fakes.clock import FakeClock
from tests.manager.guarded import Ward, entry
from tests.reactor.harness import eventually

pytestmark = pytest.mark.cluster


async def test_frozen_is_what_every_guard_says(ward: Ward) -> None:
    """Until then the nodes that nobody guards are named, or the pods that are left."""
    numbers = Numbers()
    a, b = await ward.pod("a", ward.first), await ward.pod("b", ward.second)
    async with ward.scene.manager(numbers, account=ward.account, verify_interval=0.2):
        await ward.freeze()
        both = await ward.condition("Frozen", "False", "Unguarded")
        ward.say(ward.first, entry(a, "Frozen", "f"))
        one = await ward.message(f"no live node guard on node {ward.second};")
        ward.say(ward.second)
        waiting = await ward.condition("Frozen", "False", "Freezing")
        ward.say(ward.second, entry(b, "Failed", "f", doneAt=None, message="no freezer here"))
        failed = await ward.message("no freezer here")
        ward.say(ward.second, entry(b, "Frozen", "f"))
        message = await ward.condition("Frozen", "True", "AllFrozen")
        found = await ward.read()
        await ward.scene.event("Freeze", "f", "AllFrozen")
        await ward.scene.event("Freeze", "f", "Unguarded", "Warning")
        value = numbers.registry.get_sample_value
        assert value("killswitch_frozen_pods")
        assert value("killswitch_node_guards", {"state": "live"})
    place = ward.scene.namespace
    assert f"no live node guard on node {ward.first}, {ward.second}; 0 of 2 pods frozen" in both
    assert one.endswith(f"1 of 2 pods frozen, left: pod {place}/b on {ward.second}")
    assert waiting == f"1 of 2 pods frozen, left: pod {place}/b on {ward.second}"
    assert failed == f"{waiting}; the guard of node {ward.second} says: no freezer here"
    assert message == f"2 pods frozen, thawed at {found['spec']['until']}"
    status = found["status"]
    assert (status["pods"], status["frozen"], status["leftovers"]) == (2, 2, [])


async def test_a_guard_that_falls_silent_takes_its_word_with_it(ward: Ward) -> None:
    """Nobody knows what became of the pod: it counts as left, and its node is named."""
    body = await ward.pod("a", ward.first)
    async with ward.scene.manager(account=ward.account, verify_interval=0.2):
        ward.say(ward.first, entry(body, "Frozen", "f"))
        await ward.freeze()
        await ward.condition("Frozen", "True", "AllFrozen")
        ward.say(ward.first, entry(body, "Frozen", "f"), ago=121)
        await ward.condition("Frozen", "False", "Unguarded")
        found = await ward.read()
    assert found["status"]["frozen"] == 0
    expected = {"namespace": ward.scene.namespace, "pod": "a", "node": ward.first}
    assert found["status"]["leftovers"] == [expected]


async def test_a_pod_that_comes_later_is_waited_for(ward: Ward) -> None:
    """A Freeze holds nothing back, so what it covers grows."""
    async with ward.scene.manager(account=ward.account, verify_interval=0.2):
        await ward.freeze()
        await ward.condition("Frozen", "False", "NoTarget")
        ward.say(ward.first)
        body = await ward.pod("a", ward.first)
        await ward.condition("Frozen", "False", "Freezing")
        ward.say(ward.first, entry(body, "Frozen", "f"))
        await ward.condition("Frozen", "True", "AllFrozen")


async def test_a_person_thaws(ward: Ward) -> None:
    """The end is said with name and reason, and the label goes: guards and caches forget it."""
    body = await ward.pod("a", ward.first)
    async with ward.scene.manager(account=ward.account, verify_interval=0.2):
        ward.say(ward.first, entry(body, "Frozen", "f"))
        await ward.freeze()
        await ward.condition("Frozen", "True", "AllFrozen")
        ward.thaw()
        message = await ward.condition("Ended", "True", "Thawed")
        await ward.let_go()
        still = await ward.message("have not said")
        ward.say(ward.first, entry(body, "Thawed", "f"))

        async def nothing_left() -> bool:
            return bool((await ward.read())["status"]["frozen"] == 0)

        await eventually(nothing_left)
        told = await ward.scene.event("Freeze", "f", "Thawed")
    assert message == told == "thawed by bob: false alarm"
    assert still.endswith(f"let go: pod {ward.scene.namespace}/a on {ward.first}")


async def test_at_its_end_it_thaws_by_itself(ward: Ward) -> None:
    """No person is needed, and none could have forgotten it."""
    async with ward.scene.manager(account=ward.account):
        await ward.freeze(until=ward.ahead(2))
        message = await ward.condition("Ended", "True", "Expired")
        found = await ward.let_go()
        told = await ward.scene.event("Freeze", "f", "Expired")
    assert message == told == f"thawed by itself at its end, {found['spec']['until']}"
    frozen = conditions.find(found["status"]["conditions"], "Frozen")
    assert frozen is not None
    assert (frozen["status"], frozen["reason"]) == ("False", "Expired")


async def test_a_clock_that_runs_ahead_lets_nothing_go(ward: Ward) -> None:
    """The guards count by their own: the end is written once they have let go."""
    body = await ward.pod("a", ward.first)
    await ward.freeze()
    key = Key(FREEZES, ward.scene.namespace, "f")

    async def hear(guards: Guards, state: str) -> None:
        ward.say(ward.first, entry(body, state, "f"))
        guards.put(await ward.scene.bench.cluster.get(NODE_GUARDS, ward.first))

    async with ward.cluster() as cluster:
        ahead = FakeClock(SystemClock().now() + 7200)
        guards = Guards(cluster, ahead, _nobody)
        flow = Freezes(cluster, ahead, guards, Settings())
        await hear(guards, "Frozen")
        await flow.look(key)  # before all reports were listed, another guard may hold
        assert conditions.find((await ward.read())["status"]["conditions"], "Ended") is None
        guards._reflector.synced.set()
        assert await flow.look(key) == 2.0
        message = await ward.condition("Frozen", "False", "Expired")
        found = await ward.read()
        assert conditions.find(found["status"]["conditions"], "Ended") is None
        assert found["metadata"]["labels"]["killswitch.dev/engaged"] == "true"
        await hear(guards, "Thawed")
        await flow.look(key)
        await ward.condition("Ended", "True", "Expired")
    assert message.startswith("its time is over by the manager's clock, node guards have not said")


async def test_a_guard_that_is_gone_does_not_keep_it_from_ending(ward: Ward) -> None:
    """Its last word would stand for ever; it is told, and the Freeze ends."""
    body = await ward.pod("a", ward.first)
    await ward.freeze(until=ward.ahead(2))
    key = Key(FREEZES, ward.scene.namespace, "f")
    ward.say(ward.first, entry(body, "Frozen", "f"))
    async with ward.cluster() as cluster:
        late = FakeClock(SystemClock().now() + 3)
        guards = Guards(cluster, late, _nobody)
        guards._reflector.synced.set()
        guards.put(await cluster.get(NODE_GUARDS, ward.first))
        await late.advance(121)
        flow = Freezes(cluster, late, guards, Settings())
        await flow.look(key)
        await ward.condition("Ended", "True", "Expired")
        assert f"a on {ward.first}" in await ward.message("have not said that they let go")
    await ward.let_go()


async def test_an_end_in_a_stop_is_the_reactors_to_say(ward: Ward) -> None:
    """Until the Shutdown is made the Freeze goes on holding what it covers."""
    async with ward.scene.manager(account=ward.account, verify_interval=0.2):
        await ward.freeze(until=ward.ahead(1), then="Stop")
        waiting = await ward.condition("Frozen", "False", "Expired")
        found = await ward.read()
        assert found["metadata"]["labels"]["killswitch.dev/engaged"] == "true"
        assert conditions.find(found["status"]["conditions"], "Ended") is None
        said = ("Ended", True, "ShutdownMade", "Shutdown f-expired holds what it held")
        now = times.text(SystemClock().now())
        entries = [conditions.make(*said, generation=1, now=now)]
        await ward.scene.bench.cluster.apply(
            FREEZES,
            "f",
            {"status": {"conditions": entries}},
            ward.scene.namespace,
            subresource="status",
            manager=FIELD_MANAGER,
        )
        await ward.let_go()
        await ward.condition("Frozen", "False", "ShutdownMade")
        kept = await ward.condition("Ended", "True", "ShutdownMade")
        await ward.scene.event("Freeze", "f", "ShutdownMade")
    assert waiting.startswith("its time is over, Shutdown f-expired is not made yet; 0 of 0 pods")
    assert kept == "Shutdown f-expired holds what it held"


async def test_a_stop_that_nobody_makes_is_told_after_half_a_minute(ward: Ward) -> None:
    """Guards kill what is there, yet nothing locks: people must know. Thawing it is not the cure."""
    await ward.freeze(until=ward.ahead(1), then="Stop")
    key = Key(FREEZES, ward.scene.namespace, "f")
    async with ward.cluster() as cluster:
        late = FakeClock(SystemClock().now() + 32)
        flow = Freezes(cluster, late, Guards(cluster, late, _nobody), Settings())
        assert await flow.look(key) == 2.0
        message = await ward.condition("Frozen", "False", "ShutdownOverdue")
        told = await ward.scene.event("Freeze", "f", "ShutdownOverdue", "Warning")
    assert message == told
    assert "no reactor has said that it made Shutdown f-expired" in message
    assert (await ward.read())["metadata"]["labels"]["killswitch.dev/engaged"] == "true"


async def test_before_any_report_was_read_nobody_knows(ward: Ward) -> None:
    """Unknown is not Unguarded: a manager that has just started accuses no node."""
    await ward.pod("a", ward.first)
    await ward.freeze()
    cluster, clock = ward.scene.bench.cluster, SystemClock()
    flow = Freezes(cluster, clock, Guards(cluster, clock, _nobody), Settings())
    await flow.look(Key(FREEZES, ward.scene.namespace, "f"))
    message = await ward.condition("Frozen", "Unknown", "NotKnown")
    assert "may the manager list nodeguards?" in message


def _nobody(_key: Key, _after: float) -> None:
    """Wake nobody."""
