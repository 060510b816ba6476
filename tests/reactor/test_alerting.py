"""What alerts may decide, how long they are believed, and what silence on their path means."""

import asyncio
import math
import time
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from killswitch.adapters.promql import PromqlChecker
from killswitch.core.readings import Answer, Blindness, NoAnswer, Path, Verdict
from killswitch.core.resources import POLICIES
from killswitch.core.stops import Boundaries
from killswitch.ports import Cluster, Json
from killswitch.reactor import policy_status
from killswitch.reactor.engine import Engine
from killswitch.reactor.watched import Identity, Watched
from killswitch.signals import rules
from killswitch.signals.alerts import BLIND, FIRE, HEARTBEAT, METRIC, Alert, PolicyReference
from killswitch.signals.episodes import LONGEST, Arrival
from killswitch.signals.series import Samples, Series
from tests.fakes.clock import FakeClock
from tests.reactor.harness import Bench, eventually, policy, reactor

VLLM = {"kind": "Deployment", "name": "vllm"}
IDENTITY = Identity("r", "r-0", "killswitch-system", Boundaries(frozenset(), "governed"))
QUERY = "sum(load)"
PROD, DEV = {"namespace": "prod"}, {"namespace": "dev"}


def polled(**more: Any) -> Json:
    """A signal that trips when the load is more than 100."""
    return {
        "name": "load",
        "prometheus": {"query": QUERY, "above": "100"},
        "onNoData": "Hold",
        "maxAge": "30s",
        **more,
    }


def waiting(**source: Any) -> Json:
    """A signal that waits for an alert of other rules."""
    return {
        "name": "load",
        "alert": {"name": "GuardrailDown", "labels": {"namespace": "prod"}, **source},
        "onNoData": "Hold",
        "maxAge": "30s",
    }


class Desk:
    """A started engine with one policy of one signal, and no API server: DryRun asks for none."""

    def __init__(self, signal: Json | None = None) -> None:
        self.clock = FakeClock()
        checker = PromqlChecker()
        self.engine = Engine(cast("Cluster", object()), self.clock, checker, IDENTITY)
        self.change(signal or polled())
        self.engine.start()

    def change(self, signal: Json, generation: int = 1, **spec: Any) -> None:
        """The policy is added, or edited."""
        body = policy("runaway", targets=[VLLM], signals=[signal], mode="DryRun", **spec)
        body["metadata"] |= {"uid": "u", "namespace": "prod", "generation": generation}
        self.engine.policy_changed(body)

    @property
    def policy(self) -> Watched:
        """The policy as it is judged now."""
        return self.engine.watched["u"]

    def said(self) -> tuple[Verdict, Blindness | None]:
        """What its signal says."""
        reading = self.policy.readings["load"]
        return reading.verdict, reading.reason

    @property
    def demanded(self) -> bool:
        """Whether its quorum is met."""
        assert self.policy.tally is not None
        return self.policy.tally.demanded

    @property
    def path(self) -> str:
        """The path of the rule group that measures the polled signal."""
        found = rules.measurement(self.policy.policy.signals[0], PromqlChecker())
        assert found is not None
        return rules.path(found)

    def poll(self, value: float, *, age: float = 0.0) -> None:
        """Prometheus answers."""
        self.engine.intake.deliver(QUERY, Answer((value,), age))

    def fire(
        self, *, generation: int = 1, since: float = 0.0, ends: float | None = 4.0, **changes: Any
    ) -> Arrival:
        """A generated rule's alert arrives, that began `since` seconds ago and ends in `ends`."""
        reference = PolicyReference("u", generation, "load")
        return self.post(FIRE, since=since, ends=ends, **{"reference": reference, **changes})

    def post(
        self,
        name: str,
        *,
        since: float = 0.0,
        ends: float | None = 4.0,
        value: float | None = 500.0,
        reference: PolicyReference | None = None,
        labels: dict[str, str] | None = None,
    ) -> Arrival:
        """Any alert arrives."""
        now = self.clock.now()
        end = None if ends is None else now + ends
        named = tuple(sorted(({"alertname": name} | (labels or {})).items()))
        return self.engine.intake.alerts.take(
            Alert(name, named, value, now - since, end, reference)
        )

    def beat(self, value: float = 1.0, ends: float | None = 4.0) -> Arrival:
        """The heartbeat of the signal's rule group arrives."""
        key = self.path.removeprefix("killswitch-")
        return self.post(HEARTBEAT, value=value, ends=ends, labels={METRIC: key})

    async def wait(self, seconds: float) -> None:
        """Time passes, and the reactor looks at what changes by it."""
        await self.clock.advance(seconds)
        self.engine.due()

    @property
    def status(self) -> Json:
        """What is written about the signal."""
        paths = self.engine.intake.paths
        found: Json = policy_status.status(self.policy, (), paths, self.clock.now())
        return found["signals"][0]  # type: ignore[no-any-return]

    @property
    def unavailable(self) -> str:
        """Why signals are not available, as told on the policy."""
        paths = self.engine.intake.paths
        found = policy_status.status(self.policy, (), paths, self.clock.now())
        by_type = {each["type"]: each for each in found["conditions"]}
        return str(by_type["SignalsAvailable"]["message"])


def test_an_alert_trips_the_signal_that_it_refers_to() -> None:
    """Prometheus compared already; its path and value are kept."""
    desk = Desk()
    assert desk.fire() is Arrival.BEGAN
    found = desk.policy.readings["load"]
    assert desk.demanded
    assert (found.value, found.path) == (500.0, Path.ALERT)
    assert desk.fire(since=1.0) is Arrival.REPEATED


@pytest.mark.parametrize(
    ("changes", "arrival"),
    [
        ({"reference": None}, Arrival.NOT_OURS),
        ({"reference": PolicyReference("other", 2, "load")}, Arrival.UNKNOWN_POLICY),
        ({"reference": PolicyReference("u", 2, "other")}, Arrival.UNKNOWN_SIGNAL),
        ({"generation": 1}, Arrival.OLDER_GENERATION),
        ({"generation": 3}, Arrival.NEWER_GENERATION),
        ({"ends": 0.0}, Arrival.RESOLVED),
        ({"value": 99.0}, Arrival.CONTRADICTED),
    ],
)
def test_other_alerts_are_counted_and_change_nothing(
    changes: dict[str, Any], arrival: Arrival
) -> None:
    """Of others, for another generation, over, or contradicted by their own value."""
    desk = Desk()
    desk.change(polled(), generation=2)
    desk.poll(1, age=1)
    assert desk.fire(**{"generation": 2, **changes}) is arrival
    assert desk.said() == (Verdict.CLEAR, None)


async def test_an_alert_that_goes_on_firing_stays_tripped_whatever_the_poll_says() -> None:
    """Towards the stop: the poll may have seen older samples, or asked another Prometheus."""
    desk = Desk()
    desk.fire()
    for _ in range(3):
        desk.poll(1, age=2)
        assert desk.demanded
        desk.poll(1)
        assert desk.demanded
        desk.engine.intake.deliver(QUERY, NoAnswer(Blindness.TIMEOUT, "no answer"))
        assert desk.demanded
        await desk.wait(1)
        desk.fire(since=1.0)
    assert desk.policy.readings["load"].read_at == desk.clock.now()


async def test_an_alert_that_fires_beyond_max_age_is_current() -> None:
    """It says what is now: it is repeated."""
    desk = Desk()
    for second in range(40):
        desk.fire(since=float(second))
        await desk.wait(1)
    assert desk.demanded


def test_what_is_resolved_leaves_the_word_to_the_poll() -> None:
    """A resolved alert is not Clear: that is the poll's to say."""
    desk = Desk()
    desk.fire()
    assert desk.fire(since=0.0, ends=-0.1) is Arrival.ENDED
    assert desk.said() == (Verdict.UNKNOWN, Blindness.NEVER_READ)
    desk.fire()
    desk.poll(1)
    assert desk.said() == (Verdict.TRIPPED, None)
    desk.fire(ends=-0.1)
    assert desk.said() == (Verdict.CLEAR, None)


async def test_what_is_not_repeated_until_its_end_is_over() -> None:
    """Nobody said so: the poll decides, and without it nothing is known."""
    desk = Desk()
    desk.fire(ends=4.0)
    await desk.wait(3.9)
    assert desk.demanded
    await desk.wait(0.7)
    assert desk.said() == (Verdict.UNKNOWN, Blindness.NEVER_READ)


@pytest.mark.parametrize("seconds", [3600.0, -3600.0], ids=["back", "ahead"])
async def test_a_clock_that_is_set_changes_no_life(seconds: float) -> None:
    """Set back, an alert is not believed for an hour; set ahead, it does not end at once."""
    desk = Desk()
    desk.beat()
    desk.fire(ends=4.0)
    desk.clock.set_back(seconds)
    await desk.wait(3.5)
    assert desk.demanded
    assert desk.status["paths"][0]["state"] == "Heard"
    await desk.wait(1)
    assert not desk.demanded
    assert desk.status["paths"][0]["state"] == "Silent"


async def test_an_alert_of_alertmanager_without_an_end_lasts_until_resolved() -> None:
    """Or for as long as Alertmanager would take to repeat it."""
    desk = Desk()
    desk.fire(ends=None)
    await desk.wait(LONGEST - 1)
    assert desk.demanded
    await desk.wait(2)
    assert not desk.demanded


def test_one_of_two_prometheis_that_fires_is_believed() -> None:
    """Either's repetition keeps it, both have to resolve it."""
    desk = Desk()
    for replica in ("a", "b"):
        desk.fire(labels={"replica": replica})
    assert desk.fire(ends=-1.0, labels={"replica": "a"}) is Arrival.RESOLVED
    assert desk.demanded
    assert desk.fire(ends=-1.0, labels={"replica": "b"}) is Arrival.ENDED
    assert not desk.demanded


async def test_an_edited_policy_does_not_keep_a_trip_that_nobody_repeats() -> None:
    """Its old alerts are of another generation; the trip counts like any other until the next poll."""
    desk = Desk()
    desk.fire()
    desk.change(polled(), generation=2, cooldown="5m")
    assert desk.demanded
    assert desk.fire(generation=1) is Arrival.OLDER_GENERATION
    await desk.wait(1)
    desk.poll(1)
    assert desk.said() == (Verdict.CLEAR, None)


async def test_hold_down_and_keep_firing_hold_for_alerts() -> None:
    """`for` runs from the alert's arrival here: it says since when, not of which sample."""
    desk = Desk(polled(**{"for": "5s", "keepFiringFor": "10s"}))
    for second in range(5):
        desk.fire(since=60.0 + second)
        assert not desk.demanded
        await desk.wait(1)
    desk.fire(since=65.0)
    assert desk.demanded
    desk.fire(since=65.0, ends=-0.1)
    desk.poll(1)
    assert desk.demanded
    await desk.wait(11)
    assert not desk.demanded


async def test_a_path_that_was_never_heard_of_is_no_fault() -> None:
    """Unless settings expect it."""
    desk = Desk()
    desk.poll(1)
    await desk.wait(100)
    assert desk.status["paths"] == []
    desk.engine.intake.paths.expected = frozenset({Path.ALERT})
    await desk.wait(1)
    assert desk.status["paths"] == [{"path": desk.path, "state": "Awaited"}]
    await desk.wait(11)
    (path,) = desk.status["paths"]
    assert path == {
        "path": desk.path,
        "state": "Silent",
        "message": f"{desk.path}: never heard of; expected since 11.0 s ago",
    }


async def test_silence_is_told_and_takes_nothing_from_the_poll() -> None:
    """Clear stays Clear; the status names path and seconds, and is written once for each change."""
    desk = Desk()
    desk.poll(1)
    assert desk.beat() is Arrival.HEARTBEAT
    await desk.wait(1)
    assert desk.status["paths"][0]["state"] == "Heard"
    desk.engine.dirty.clear()
    await desk.wait(4)
    desk.poll(1)
    assert desk.engine.dirty == {"u"}
    (path,) = desk.status["paths"]
    assert (path["state"], path["message"]) == ("Silent", f"{desk.path}: last heard of 5.0 s ago")
    assert desk.said() == (Verdict.CLEAR, None)


async def test_when_everything_is_blind_the_condition_names_the_silent_path() -> None:
    """Beside the reason of the poll."""
    desk = Desk()
    desk.beat()
    desk.engine.intake.deliver(QUERY, NoAnswer(Blindness.UNREACHABLE, "refused"))
    await desk.wait(5)
    assert desk.unavailable == f"load: Unreachable (refused; {desk.path}: last heard of 5.0 s ago)"


async def test_a_heartbeat_that_sees_no_thresholds_is_not_health() -> None:
    """Nor is KillSwitchBlind, nor one of Alertmanager, which comes again after hours."""
    desk = Desk()
    desk.beat(ends=None)
    assert desk.status["paths"] == []
    desk.beat()
    for _ in range(5):
        await desk.wait(1)
        desk.beat(value=0.0)
        assert desk.post(BLIND, labels={METRIC: desk.path}) is Arrival.BLIND
    (path,) = desk.status["paths"]
    assert path["message"] == (
        f"{desk.path}: last heard of 5.0 s ago (Prometheus sees no thresholds)"
    )


async def test_a_flapping_path_is_silent_until_it_is_heard_steadily() -> None:
    """Heard every 6 s where 4 s are allowed: two writes of status, not one for each beat."""
    desk = Desk()
    desk.beat()
    await desk.wait(1)
    writes = 0
    for _ in range(20):
        desk.engine.dirty.clear()
        await desk.wait(5)
        writes += bool(desk.engine.dirty)
        desk.beat()
        desk.engine.dirty.clear()
        await desk.wait(1)
        writes += bool(desk.engine.dirty)
    assert writes == 1
    assert desk.status["paths"][0]["state"] == "Silent"
    for _ in range(5):
        desk.beat()
        await desk.wait(1)
    assert desk.status["paths"][0]["state"] == "Heard"


async def test_an_edit_does_not_hide_that_a_path_is_silent() -> None:
    """The edited policy depends on the same path; only what nobody depends on is forgotten."""
    desk = Desk()
    desk.beat()
    await desk.wait(5)
    desk.change(polled(), generation=2)
    await desk.wait(1)
    assert desk.status["paths"][0]["state"] == "Silent"
    other = {"query": "sum(other)", "above": "100"}
    desk.change(polled(prometheus=other), generation=3)
    await desk.wait(1)
    assert desk.engine.intake.paths.states() == ()


async def test_recent_samples_show_that_remote_write_works() -> None:
    """Replayed ones do not: after an outage Prometheus sends what was."""
    metric = {"name": "load", "metric": {"name": "load", "above": "100"}, "onNoData": "Hold"}
    desk = Desk(metric)

    def write(age: float) -> None:
        stamp = round((desk.clock.now() - age) * 1000)
        samples = Samples([Series("up", ())], [1.0], [stamp])
        desk.engine.intake.push(samples, Path.REMOTE_WRITE)

    write(age=61)
    assert desk.status["paths"] == []
    write(age=1)
    assert desk.status["paths"][0]["path"] == "remote_write"
    await desk.wait(61)
    write(age=62)
    assert desk.status["paths"][0]["state"] == "Silent"


def test_an_alert_of_other_rules_trips_the_signal_that_names_it() -> None:
    """By name and labels; other labels it may have."""
    desk = Desk(waiting())
    assert desk.engine.intake.queries == set()
    assert desk.post("GuardrailDown", labels=DEV) is Arrival.NOT_OURS
    assert desk.post("Other", labels=PROD) is Arrival.NOT_OURS
    assert desk.said() == (Verdict.UNKNOWN, Blindness.NEVER_READ)
    assert desk.post("GuardrailDown", labels={**PROD, "severity": "page"}) is Arrival.BEGAN
    assert desk.demanded
    reading = desk.policy.readings["load"]
    assert (reading.value, reading.path) == (1.0, Path.ALERT)
    assert reading.message == 'GuardrailDown{namespace="prod"} fires (1)'


async def test_that_it_does_not_fire_is_clear_only_while_the_heartbeat_comes() -> None:
    """Nothing heard, never or not any more, is Unknown each with its reason."""
    desk = Desk(waiting())
    assert desk.said() == (Verdict.UNKNOWN, Blindness.NEVER_READ)
    await desk.wait(31)
    assert desk.said() == (Verdict.UNKNOWN, Blindness.SILENT)
    for _ in range(4):
        assert desk.post("Watchdog") is Arrival.HEARTBEAT
        await desk.wait(10)
    assert desk.said() == (Verdict.CLEAR, None)
    await desk.wait(21)
    assert desk.said() == (Verdict.UNKNOWN, Blindness.SILENT)
    assert desk.policy.readings["load"].message == "Watchdog within 30 s: last heard of 31.0 s ago"


async def test_firing_is_believed_without_a_heartbeat_and_its_end_only_with_one() -> None:
    """Resolved and silent is Unknown; resolved with a heartbeat is Clear."""
    desk = Desk(waiting())
    desk.post("GuardrailDown", labels=PROD, ends=None)
    await desk.wait(60)
    assert desk.demanded
    assert desk.post("GuardrailDown", labels=PROD, ends=-1.0) is Arrival.ENDED
    assert desk.said() == (Verdict.UNKNOWN, Blindness.SILENT)
    desk = Desk(waiting())
    desk.post("Watchdog")
    desk.post("GuardrailDown", labels=PROD)
    desk.post("GuardrailDown", labels=PROD, ends=-1.0)
    assert desk.said() == (Verdict.CLEAR, None)


async def test_a_resolved_heartbeat_is_none() -> None:
    """Prometheus repeats what is resolved for a quarter of an hour."""
    desk = Desk(waiting(heartbeat="Alive"))
    assert desk.post("Watchdog") is Arrival.NOT_OURS
    desk.post("Alive", ends=-1.0)
    assert desk.said() == (Verdict.UNKNOWN, Blindness.NEVER_READ)
    desk.post("Alive")
    await desk.wait(1)
    assert desk.said() == (Verdict.CLEAR, None)


async def test_an_edit_keeps_what_other_rules_said() -> None:
    """Alertmanager says it again after hours. Where the signal waits for something else, it is gone."""
    desk = Desk(waiting())
    desk.post("Watchdog")
    desk.post("GuardrailDown", labels=PROD, ends=None)
    desk.change(waiting(), generation=2, cooldown="5m")
    assert desk.demanded
    desk.post("GuardrailDown", labels=PROD, ends=-1.0)
    assert desk.said() == (Verdict.CLEAR, None)
    desk.post("GuardrailDown", labels=PROD, ends=None)
    desk.change(waiting(labels={"namespace": "dev"}), generation=3)
    assert desk.said() == (Verdict.CLEAR, None)
    desk.engine.policy_removed({"metadata": {"uid": "u"}})
    assert desk.post("GuardrailDown", labels=DEV) is Arrival.NOT_OURS
    assert desk.post("Watchdog") is Arrival.NOT_OURS


firing = st.sampled_from(["a", "b"]).flatmap(
    lambda replica: st.tuples(st.just("fire"), st.just(replica), st.sampled_from([1.0, 4.0, 9.0]))
)
steps = st.one_of(
    firing,
    st.tuples(st.just("resolve"), st.sampled_from(["a", "b"]), st.none()),
    st.tuples(st.just("beat"), st.none(), st.none()),
    st.tuples(st.just("poll"), st.none(), st.sampled_from([1.0, 500.0])),
    st.tuples(st.just("pass"), st.none(), st.sampled_from([0.6, 2.0, 5.0, 31.0])),
)


POLLED_BETWEEN_TWO_ALERTS: list[tuple[str, Any, Any]] = [
    ("poll", None, 1.0),
    ("fire", "a", 1.0),
    ("resolve", "a", None),
    ("poll", None, 500.0),
    ("fire", "b", 1.0),
    ("resolve", "b", None),
]
"""What the second alert leaves behind is the poll between the two, not the one before both."""


@settings(max_examples=150, deadline=None)
@given(story=st.lists(steps, max_size=25), other=st.booleans())
@example(story=POLLED_BETWEEN_TWO_ALERTS, other=False)
def test_whatever_arrives_a_live_alert_trips_and_clear_is_proven(
    story: list[tuple[str, Any, Any]], *, other: bool
) -> None:
    """Two senders, polls, heartbeats and time in any order, for a polled signal and one that waits."""

    async def tell() -> None:
        desk = Desk(waiting() if other else polled())
        name, labels = ("GuardrailDown", PROD) if other else (FIRE, {})
        reference = None if other else PolicyReference("u", 1, "load")
        ends: dict[str, float] = {}
        beaten = polled_at = -math.inf
        calm = False
        for what, who, value in story:
            now = desk.clock.monotonic()
            if what in {"fire", "resolve"}:
                lives = value if what == "fire" else -1.0
                since = now + 1.0  # the same start each time
                sent: dict[str, Any] = {
                    "labels": {**labels, "replica": who},
                    "reference": reference,
                }
                desk.post(name, since=since, ends=lives, **sent)
                ends[who] = max(ends.get(who, 0.0), now + lives) if what == "fire" else -1.0
            elif what == "beat":
                desk.post("Watchdog")
                beaten = now
            elif what == "poll":
                desk.poll(value)
                polled_at, calm = now, value < 100
            else:
                await desk.wait(value)
            now = desk.clock.monotonic()
            verdict = desk.said()[0]
            if any(end > now for end in ends.values()):
                assert verdict is Verdict.TRIPPED
            if verdict is Verdict.CLEAR:
                assert now - beaten <= 30.5 if other else calm and now - polled_at <= 31
        await desk.wait(100)
        await desk.wait(1)
        assert desk.said()[0] is Verdict.UNKNOWN

    asyncio.run(tell())


@pytest.mark.cluster
async def test_what_is_silent_stands_on_the_policy(setting: Bench) -> None:
    """Stored by the real API server: the path by name, and that nothing is known without it."""
    signal = waiting() | {"maxAge": "1s"}
    await setting.policy("guard", targets=[VLLM], signals=[signal])

    async def path(state: str) -> Json | None:
        found = await setting.cluster.get(POLICIES, "guard", setting.namespace)
        signals = found.get("status", {}).get("signals") or [{}]
        stored = (signals[0].get("paths") or [{}])[0]
        return stored if stored.get("state") == state else None

    async with reactor(setting) as running:
        now = time.time()
        beat = Alert("Watchdog", (("alertname", "Watchdog"),), None, now, now + 9, None)
        running.engine.intake.alerts.take(beat)
        heard = await eventually(lambda: path("Heard"))
        assert heard["path"] == "Watchdog within 1 s"
        silent = await eventually(lambda: path("Silent"))
        assert "lastHeard" in silent
        assert silent["message"].startswith("Watchdog within 1 s: last heard of ")
        found = await setting.with_condition(
            POLICIES, "guard", "SignalsAvailable", "False", "SignalsUnknown"
        )
        (message,) = (
            each["message"]
            for each in found["status"]["conditions"]
            if each["type"] == "SignalsAvailable" and "Silent" in each["message"]
        )
        assert message.count("Watchdog within 1 s") == 1
