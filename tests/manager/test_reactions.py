"""The worst-case reaction of a policy is on its status, and a wish that it misses is told."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from killswitch.adapters.clock import SystemClock
from killswitch.adapters.prometheus_feeds import PrometheusFeeds
from killswitch.api.compiled import CompiledPolicy
from killswitch.core import pacing
from killswitch.core.reaction import Feed, RuleGroup
from killswitch.core.readings import Blindness
from killswitch.core.resources import POLICIES
from killswitch.manager import reactions
from killswitch.manager.reactions import PathStates, Reactions
from killswitch.manager.rounds import Key
from killswitch.ports import Json
from killswitch.settings import Settings
from killswitch.signals import rules
from killswitch.signals.alerts import BLIND
from tests.api.test_compiled import policy, signal
from tests.cluster.prometheus import Exporter, Prometheus
from tests.fakes.sample_feeds import FakeSampleFeeds
from tests.manager.harness import Scene
from tests.reactor.harness import eventually

KEY = Key(POLICIES, "prod", "vllm")
LOAD = Feed("x", 15.0, "job models")


class Running:
    """Reactions that run over a fake, and whom they woke."""

    def __init__(self) -> None:
        self.feeds = FakeSampleFeeds()
        self.woken: list[Key] = []
        settings = Settings(poll_interval=1.0, prometheus_timeout=2.0)
        self.reactions = Reactions(self.feeds, SystemClock(), settings, self.woken.append)

    async def status(
        self, chosen: CompiledPolicy, key: Key = KEY, states: PathStates | None = None
    ) -> Json:
        """The status once it is known."""

        async def look() -> Json | None:
            found = self.reactions.of(key, chosen, states or {})
            return None if found is None else reactions.status(found)

        return await eventually(look)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """Ended with the test."""
    made = Running()
    task = asyncio.create_task(made.reactions.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def paths(status: Json) -> dict[str, str]:
    """Path to its time, of the first signal."""
    parts = (each.partition(": ") for each in status["signals"][0]["paths"])
    return {path: rest.partition(" = ")[0] for path, _, rest in parts}


async def test_nothing_is_said_before_the_first_look_up() -> None:
    """A restart does not make what is known unknown."""
    made = Running()
    assert made.reactions.of(KEY, policy(), {}) is None


async def test_what_becomes_known_wakes_its_policies(running: Running) -> None:
    """All that ask the same query; it is looked up once."""
    other = dataclasses.replace(KEY, name="other")
    running.feeds.set("sum(x)", LOAD)
    assert running.reactions.of(other, policy(), {}) is None
    found = await running.status(policy())
    assert (found["worst"], found["signals"][0]["worst"]) == ("18.0 s", "18.0 s")
    assert {KEY, other} == set(running.woken)


async def test_what_changes_wakes_its_policies(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked up again and again; the same answer wakes nobody."""
    monkeypatch.setattr(reactions, "_AGAIN", 0.01)
    running.feeds.set("sum(x)", LOAD)
    await running.status(policy())
    running.woken.clear()
    await asyncio.sleep(0.05)
    assert running.woken == []
    running.feeds.set("sum(x)", dataclasses.replace(LOAD, every=1.0))

    async def quicker() -> bool:
        return str((await running.status(policy()))["worst"]) == "4.0 s"

    await eventually(quicker)
    assert running.woken == [KEY]


async def test_a_policy_that_is_gone_is_not_followed(running: Running) -> None:
    """What nobody asks any more is forgotten, what another asks is kept."""
    other = dataclasses.replace(KEY, name="other")
    edited = policy(signals=[signal(prometheus={"query": "sum(y)"})])
    for key, chosen in ((KEY, policy()), (other, policy()), (KEY, edited)):
        await running.status(chosen, key)
    assert running.reactions._queries.keys() == {"sum(x)", "sum(y)"}
    running.reactions.forget(KEY)
    assert running.reactions._queries.keys() == {"sum(x)"}
    running.reactions.forget(other)
    running.reactions.forget(other)
    assert not running.reactions._queries
    assert not running.reactions._polled
    assert not running.reactions._wanted


async def test_unknown_has_its_reason(running: Running) -> None:
    """In words, in place of a time."""
    found = await running.status(policy())
    assert found["worst"] == ""
    assert found["message"] == "unknown: signal rate: no target exposes sum(x) yet"
    assert found["signals"][0]["paths"] == ["poll: unknown: no target exposes sum(x) yet"]


GROUPS = {
    "sound": (RuleGroup(0.13, healthy=True, firing=frozenset()), {"poll", "alert"}),
    "with a rule that fails": (RuleGroup(0.13, healthy=False, firing=frozenset()), {"poll"}),
    "that sees no threshold": (RuleGroup(0.13, healthy=True, firing=frozenset({BLIND})), {"poll"}),
}


@pytest.mark.parametrize("case", GROUPS)
async def test_alerts_count_where_their_rules_work(running: Running, case: str) -> None:
    """Loaded is not enough: a group that fails or sees no threshold never posts."""
    group, expected = GROUPS[case]
    running.feeds.set("sum(x)", LOAD)
    running.feeds.groups[rules.path(rules.Measurement("sum(x)"))] = group
    found = await running.status(policy())
    assert paths(found).keys() == expected
    assert found["worst"] == ("15.2 s" if "alert" in expected else "18.0 s")


async def test_each_source_has_its_paths(running: Running) -> None:
    """A metric is polled and may be pushed, an event is posted."""
    running.feeds.set("x", LOAD)
    metric = {"name": "load", "metric": {"name": "x", "above": "1"}, "onNoData": "Hold"}
    event = {"name": "jailbreak", "event": {"type": "jailbreak"}, "onNoData": "Hold"}
    found = await running.status(policy(signals=[metric, event], quorum=2))
    assert paths(found) == {"poll": "18.0 s", "remote_write": "15.1 s"}
    assert [each["worst"] for each in found["signals"]] == ["18.0 s", "10 ms"]
    assert found["worst"] == "18.0 s"


METRIC = {"name": "load", "metric": {"name": "x", "above": "1"}, "onNoData": "Hold"}
SCRAPE = {"service": "vllm", "port": 8000, "interval": "100ms"}
SCRAPED = {**METRIC, "metric": {"name": "x", "above": "1", "scrape": SCRAPE}}
ORIGIN = "Service prod/vllm port 8000"


@pytest.mark.parametrize(
    ("state", "worst"), [("Heard", "15.1 s"), ("Awaited", "18.0 s"), ("Silent", "18.0 s")]
)
async def test_remote_write_counts_where_the_reactor_hears_it(
    running: Running, state: str, worst: str
) -> None:
    """What it awaits, or misses, is no confirmation."""
    running.feeds.set("x", LOAD)
    found = await running.status(policy(signals=[METRIC]), states={("load", "remote_write"): state})
    assert found["worst"] == worst


async def test_an_own_scrape_is_confirmed_without_prometheus(running: Running) -> None:
    """Which says nothing here; the reactor scrapes all the same."""
    found = await running.status(policy(signals=[SCRAPED]))
    assert (found["worst"], paths(found)["scrape"]) == ("1.1 s", "1.1 s")


async def test_an_own_scrape_that_is_silent_does_not_count(running: Running) -> None:
    """The poll then is what is left."""
    running.feeds.set("x", LOAD)
    found = await running.status(policy(signals=[SCRAPED]), states={("load", ORIGIN): "Silent"})
    assert found["worst"] == "18.0 s"


async def test_gaps_of_prometheus_do_not_hinder_an_own_scrape(running: Running) -> None:
    """Samples 15 s apart are stale after 2 s; those of the reactor come each 100 ms."""
    running.feeds.set("x", LOAD)
    held = {**SCRAPED, "for": "5s", "maxAge": "2s"}
    assert (await running.status(policy(signals=[held])))["worst"] == "6.2 s"
    found = await running.status(policy(signals=[held]), states={("load", ORIGIN): "Silent"})
    assert found["worst"] == "never"


async def test_remote_write_misses_no_sample(running: Running) -> None:
    """A poll each 3 s may miss one that is stale after 2 s; a push is read as it comes."""
    running.feeds.set("x", LOAD)
    short = policy(signals=[{**METRIC, "maxAge": "2s"}])
    assert (await running.status(short))["worst"] == "never"
    found = await running.status(short, states={("load", "remote_write"): "Heard"})
    assert found["worst"] == "15.1 s"


async def test_generated_alerts_that_are_silent_do_not_count(running: Running) -> None:
    """Their group is evaluated, and the reactor hears nothing of it."""
    running.feeds.set("sum(x)", LOAD)
    path = rules.path(rules.Measurement("sum(x)"))
    running.feeds.groups[path] = GROUPS["sound"][0]
    found = await running.status(policy(), states={("rate", path): "Silent"})
    assert (found["worst"], paths(found)["alert"]) == ("18.0 s", "15.2 s")


ALERT = {"name": "guard", "alert": {"name": "GuardrailDown"}, "onNoData": "Hold"}


async def test_an_alert_of_other_rules(running: Running) -> None:
    """Unknown, since Alertmanager may stand between; the time of its rule is shown."""
    running.feeds.alerts["GuardrailDown"] = (dataclasses.replace(LOAD, alerted=30.0),)
    found = await running.status(policy(signals=[ALERT]))
    assert found["worst"] == ""
    assert "Alertmanager's group_wait is not known" in found["message"]
    assert paths(found) == {"alert": "45.0 s"}


async def test_an_alert_without_a_rule_is_unknown(running: Running) -> None:
    """With the reason."""
    found = await running.status(policy(signals=[ALERT]))
    assert found["message"] == "unknown: signal guard: no rule of alert GuardrailDown is loaded"


async def test_alerts_are_not_polled(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take no turn of the queries."""
    running.feeds.set("sum(x)", LOAD)
    monkeypatch.setattr(reactions, "turns", partial(pacing.turns, most_per_second=1.0))
    assert (await running.status(policy(signals=[signal(), ALERT])))["worst"] == "18.0 s"


def test_states_are_read_from_a_policy() -> None:
    """As the reactor writes them; before it has, there are none."""
    path = {"path": "remote_write", "state": "Heard"}
    body = {"status": {"signals": [{"name": "load", "paths": [path]}, {"name": "rate"}]}}
    assert reactions.states(body) == {("load", "remote_write"): "Heard"}
    assert reactions.states({}) == {}


async def test_a_detector_is_told_by_no_alert(running: Running) -> None:
    """The rules of another signal with the same query compare, they do not learn."""
    running.feeds.set("sum(x)", LOAD)
    running.feeds.groups[rules.path(rules.Measurement("sum(x)"))] = GROUPS["sound"][0]
    detector = {"every": "15s", "ewma": {"least": "2000", "halfLife": "30m"}}
    one = {"name": "odd", "prometheus": {"query": "sum(x)", "detector": detector}}
    chosen = policy(signals=[{**one, "onNoData": "Hold"}], allowDetectorAlone=True)
    assert paths(await running.status(chosen)).keys() == {"poll"}


async def test_a_detector_waits_for_its_next_sample(running: Running) -> None:
    """One in each stretch of `every`, after the scrape and the poll."""
    running.feeds.set("sum(x)", LOAD)
    detector = {"every": "15s", "ewma": {"least": "2000", "halfLife": "30m"}}
    source = {"query": "sum(x)", "detector": detector}
    one = {"name": "odd", "prometheus": source, "onNoData": "Hold"}
    found = await running.status(policy(signals=[one], allowDetectorAlone=True))
    assert found["worst"] == "33.0 s"
    assert "15.0 s until the detector takes a sample" in found["message"]


async def test_many_queries_are_polled_in_turns(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the reactor polls less often is promised later."""
    running.feeds.set("sum(x)", LOAD)
    monkeypatch.setattr(reactions, "turns", partial(pacing.turns, most_per_second=1.0))
    both = policy(signals=[signal(), signal("other", prometheus={"query": "sum(y)"})])
    assert (await running.status(both))["worst"] == "19.0 s"


async def test_a_defect_of_the_source_is_unknown(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends nothing."""

    async def broken(_: str) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(running.feeds, "feeds", broken)
    found = await running.status(policy())
    assert found["message"] == "unknown: signal rate: an internal error, see the log"


def wish(within: str, query: str = "load", **more: Any) -> Json:
    """Terms of a policy that should react in time."""
    source = {"query": query, "above": "100"}
    one = {"name": "load", "prometheus": source, "onNoData": "Hold", **more}
    return {"reactWithin": within, "signals": [one]}


def fed(scene: Scene) -> FakeSampleFeeds:
    """The fake that the scene's manager asks."""
    assert isinstance(scene.feeds, FakeSampleFeeds)
    return scene.feeds


async def reaction(scene: Scene, name: str) -> Json:
    """What is stored on the policy."""
    found = await scene.bench.cluster.get(POLICIES, name, scene.namespace)
    return dict(found["status"].get("reaction") or {})


@pytest.mark.cluster
async def test_a_wish_that_is_met(scene: Scene) -> None:
    """Timely, with the time; both processes write one status without taking from each other."""
    fed(scene).set("load", LOAD)
    async with scene.manager():
        await scene.armed_policy("good", **wish("20s"))
        message = await scene.policy_condition("good", "Timely", "True", "InTime")
        await scene.reactor_reports("good")
        await scene.policy_condition("good", "Armed", "True")
    assert message.startswith("at most 18.0 s, signal load: ")
    found = await scene.bench.cluster.get(POLICIES, "good", scene.namespace)
    assert found["status"]["reaction"]["worst"] == "18.0 s"
    assert found["status"]["signals"][0]["verdict"] == "Clear"
    seen = scene.kernel.kubectl("get", "ksp", "-n", scene.namespace, "-o", "wide").stdout
    assert "18.0 s" in seen


@pytest.mark.cluster
async def test_an_exporter_that_makes_the_wish_impossible_is_told_and_disarms_nothing(
    scene: Scene,
) -> None:
    """DCGM collects each 30 s: the condition and an Event name it and its cure."""
    fed(scene).set("max(DCGM_FI_DEV_POWER_USAGE)", Feed("DCGM_FI_DEV_POWER_USAGE", 1.0, "job dcgm"))
    async with scene.manager():
        await scene.armed_policy("gpu", **wish("10s", "max(DCGM_FI_DEV_POWER_USAGE)"))
        message = await scene.policy_condition("gpu", "Timely", "False", "ExporterTooSlow")
        told = await scene.event("KillSwitchPolicy", "gpu", "ExporterTooSlow", "Warning")
        await scene.policy_condition("gpu", "Ready", "True")
        await scene.policy_condition("gpu", "Armed", "True")
    assert "34.0 s" in message
    assert "dcgm-exporter's own interval (its default), which alone is too long" in message
    assert message.endswith("run dcgm-exporter with -c 1000 (milliseconds)")
    assert told == message


@pytest.mark.cluster
async def test_an_own_scrape_meets_a_wish_without_prometheus(scene: Scene) -> None:
    """Until the reactor says that it is silent."""
    async with scene.manager():
        await scene.armed_policy("good", reactWithin="2s", signals=[SCRAPED])
        message = await scene.policy_condition("good", "Timely", "True", "InTime")
        origin = f"Service {scene.namespace}/vllm port 8000"
        assert message.startswith(f"at most 1.1 s, signal load: 1.1 s own scrape of {origin}")
        await scene.reactor_reports("good", paths=[{"path": origin, "state": "Silent"}])
        await scene.policy_condition("good", "Timely", "Unknown", "ReactionUnknown")
        await scene.reactor_reports("good", paths=[{"path": origin, "state": "Heard"}])
        await scene.policy_condition("good", "Timely", "True", "InTime")
        await scene.policy_condition("good", "Armed", "True")


@pytest.mark.cluster
async def test_without_a_wish_the_time_is_told_and_not_judged(scene: Scene) -> None:
    """And a wish that is taken back takes its condition with it."""
    fed(scene).set("load", LOAD)
    async with scene.manager():
        await scene.bench.policy("good", targets=[scene.vllm], **wish("20s"))
        await scene.policy_condition("good", "Timely", "True")
        await scene.change_policy("good", reactWithin=None)

        async def gone() -> bool:
            found = await scene.bench.cluster.get(POLICIES, "good", scene.namespace)
            return "Timely" not in {each["type"] for each in found["status"]["conditions"]}

        await eventually(gone)
        assert (await reaction(scene, "good"))["worst"] == "18.0 s"


@pytest.mark.cluster
async def test_a_policy_that_is_not_accepted_has_no_time(scene: Scene) -> None:
    """Nothing is claimed about what does not work."""
    fed(scene).set("load", LOAD)
    async with scene.manager():
        await scene.bench.policy("good", targets=[scene.vllm], **wish("20s"))
        await scene.policy_condition("good", "Timely", "True")
        await scene.change_policy("good", **wish("20s", "load > 5"))
        await scene.policy_condition("good", "Ready", "False", "Invalid")
    assert await reaction(scene, "good") == {}


@pytest.mark.cluster
async def test_a_wish_about_the_unknown_is_unknown(scene: Scene) -> None:
    """Neither met nor missed, until it is known."""
    fed(scene).fail("load", Blindness.ABSENT, "no target exposes load yet")
    async with scene.manager():
        await scene.armed_policy("good", **wish("20s"))
        message = await scene.policy_condition("good", "Timely", "Unknown", "ReactionUnknown")
    assert message == "unknown: signal load: no target exposes load yet"
    assert (await reaction(scene, "good"))["worst"] == ""


@pytest.mark.cluster
async def test_over_a_real_prometheus_that_goes_down(
    scene: Scene, tmp_path: Path, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own scrape interval; Unknown while it is down, and Ready all the time."""
    monkeypatch.setattr(reactions, "_AGAIN", 0.2)
    monkeypatch.setattr(reactions, "_SOON", 0.2)
    with Prometheus(tmp_path / "prometheus", {exporter.address: {}}) as prometheus:
        prometheus.wait_for_sample("exporter_up")
        async with PrometheusFeeds(prometheus.url, timeout=2.0) as feeds:
            scene.feeds = feeds
            async with scene.manager(poll_interval=0.5, prometheus_timeout=2.0):
                terms = wish("10s", "sum(exporter_up)")
                await scene.bench.policy("good", targets=[scene.vllm], **terms)
                message = await scene.policy_condition("good", "Timely", "True", "InTime")
                prometheus.stop(kill=True)
                await scene.policy_condition("good", "Timely", "Unknown", "ReactionUnknown")
                await scene.policy_condition("good", "Ready", "True")
    assert "scrape of job models + 2.5 s poll" in message
