"""Where samples come from and how often: a real Prometheus, and servers that are less than one."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from killswitch.adapters import prometheus_feeds
from killswitch.adapters.prometheus_feeds import PrometheusFeeds
from killswitch.core.reaction import Feed, Feeds, RuleGroup
from killswitch.core.readings import Blindness, NoAnswer
from killswitch.ports import SampleFeeds
from tests.adapters.foreign_server import ForeignServer, serving
from tests.adapters.queries import GOOD
from tests.cluster.processes import free_port
from tests.cluster.prometheus import Exporter, Prometheus
from tests.fakes.sample_feeds import FakeSampleFeeds

TWO = '(vector(1) or label_replace(vector(1), "number", "2", "", ""))'
GROUPS = [
    {
        "name": "recorded",
        "interval": "500ms",
        "rules": [{"record": "ns:work:sum", "expr": "sum(work) > 0 or vector(0)"}],
    },
    {
        "name": "recorded again",
        "interval": "1s",
        "rules": [{"record": "ns:work:max", "expr": "max_over_time(ns:work:sum[1m])"}],
    },
    {"name": "ill", "rules": [{"alert": "Ill", "expr": f"vector(1) + on () group_left () {TWO}"}]},
    {"name": "well", "interval": "1s", "rules": [{"alert": "Always", "expr": "vector(1)"}]},
    {
        "name": "theirs",
        "interval": "1s",
        "rules": [
            {"alert": "Slow", "expr": "only_slow > 5", "for": "30s"},
            {"alert": "Twice", "expr": "only_fast > 5"},
            {"alert": "Twice", "expr": "ns:work:sum > 5", "for": "1m"},
            {"alert": "Gone", "expr": "gone > 5"},
            {"record": "theirs:evaluated", "expr": "vector(1)"},
        ],
    },
]
"""`ill` fails as it runs, whatever is scraped: one matches two."""


@dataclass
class Scraped:
    """One Prometheus with two jobs: `models` each 100 ms, `slow` each 2 s."""

    prometheus: Prometheus
    fast: Exporter
    slow: Exporter


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """It has scraped both once, and evaluated its rules."""
    directory: Path = tmp_path_factory.mktemp("feeds")
    rules = directory / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": GROUPS}))
    fast, slow = Exporter(), Exporter()
    for exporter in (fast, slow):
        exporter.set("work", 1.0)
        exporter.set("DCGM_FI_DEV_GPU_UTIL", 5.0, gpu="0")
    fast.set("only_fast", 1.0)
    slow.set("only_slow", 1.0)
    fed = Exporter()
    fed.set("federated", 1.0, job="elsewhere", instance="far:1")
    jobs: list[dict[str, Any]] = [
        {
            "job_name": "slow",
            "scrape_interval": "2s",
            "scrape_timeout": "1s",
            "static_configs": [{"targets": [slow.address]}],
        },
        {
            "job_name": "federation",
            "honor_labels": True,
            "static_configs": [{"targets": [fed.address]}],
        },
    ]
    running = Prometheus(directory, {fast.address: {}}, rule_files=[rules], scrape_configs=jobs)
    with running:
        evaluated = ("ns:work:max", 'ALERTS{alertname="Always"}', "theirs:evaluated")
        for query in ("only_fast", "only_slow", *evaluated):
            running.wait_for_sample(query)
        yield Scraped(running, fast, slow)
    for exporter in (fast, slow, fed):
        exporter.close()


@pytest.fixture
async def feeds(scraped: Scraped) -> AsyncIterator[PrometheusFeeds]:
    """The adapter on the real Prometheus."""
    async with PrometheusFeeds(scraped.prometheus.url, timeout=5.0) as running:
        yield running


@pytest.fixture
def server() -> Iterator[ForeignServer]:
    """Something that is not a Prometheus."""
    with serving() as running:
        yield running


async def ask(url: str, query: str = "a") -> Feeds:
    """One look-up by an adapter of its own."""
    async with PrometheusFeeds(url, timeout=0.5) as running:
        return await running.feeds(query)


def known(found: Feeds) -> tuple[Feed, ...]:
    """The feeds, which must be known."""
    assert not isinstance(found, NoAnswer), found
    return found


def pace(found: Feeds) -> dict[str, float]:
    """Origin to interval."""
    return {each.origin: each.every for each in known(found)}


class Subject:
    """Feeds and a way to have some: one contract for the fake and the adapter."""

    def __init__(self, feeds: SampleFeeds) -> None:
        self.feeds = feeds
        if isinstance(feeds, FakeSampleFeeds):
            feeds.set("only_slow", Feed("only_slow", 2.0, "job slow", took=0.001))
            feeds.alerts["Slow"] = (Feed("only_slow", 2.0, "job slow", alerted=32.0),)
            feeds.groups["well"] = RuleGroup(1.0, healthy=True, firing=frozenset({"Always"}))


@pytest.fixture(params=["fake", "prometheus"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Both implementations of the port."""
    if request.param == "fake":
        return Subject(FakeSampleFeeds())
    return Subject(request.getfixturevalue("feeds"))


async def test_contract_a_feed(subject: Subject) -> None:
    """Metric, interval and origin; a scrape takes some time."""
    (found,) = known(await subject.feeds.feeds("only_slow"))
    assert (found.metric, found.every, found.origin) == ("only_slow", 2.0, "job slow")
    assert (found.recorded, found.renewed, found.estimated) == (0.0, None, False)
    assert 0.0 < found.took < 1.0


async def test_contract_nothing_exposes_it(subject: Subject) -> None:
    """Unknown, with the reason; not an empty answer."""
    found = await subject.feeds.feeds("gone")
    assert found == NoAnswer(Blindness.ABSENT, "no target exposes gone yet")


async def test_contract_a_rule_group(subject: Subject) -> None:
    """Interval, health and what fires; None for one that is not loaded."""
    found = await subject.feeds.rule_group("well")
    assert found == RuleGroup(1.0, healthy=True, firing=frozenset({"Always"}))
    assert await subject.feeds.rule_group("other") is None


async def test_contract_an_alert(subject: Subject) -> None:
    """Fed as what its rule reads, then an evaluation, its `for` and the evaluation after it."""
    (found,) = known(await subject.feeds.alert("Slow"))
    assert (found.metric, found.every, found.origin, found.alerted) == (
        "only_slow",
        2.0,
        "job slow",
        32.0,
    )


async def test_contract_an_alert_without_a_rule(subject: Subject) -> None:
    """Unknown, with the reason."""
    found = await subject.feeds.alert("Nobody")
    assert found == NoAnswer(Blindness.ABSENT, "no rule of alert Nobody is loaded")


async def test_each_rule_of_an_alert_feeds_it(feeds: PrometheusFeeds) -> None:
    """Any of them may be the one that fires; recording rules on the way are counted."""
    found = known(await feeds.alert("Twice"))
    assert {(each.origin, each.recorded, each.alerted) for each in found} == {
        ("job models", 0.0, 1.0),
        ("job models", 0.5, 62.0),
        ("job slow", 0.5, 62.0),
    }


@pytest.mark.parametrize(
    ("alert", "why"),
    [
        ("Ill", "a rule of alert Ill fails, or was not evaluated yet"),
        ("Gone", "no target exposes gone yet"),
        ("Always", "alert Always is made by a rule that is too intricate to follow"),
    ],
)
async def test_an_alert_of_which_nothing_is_known(
    feeds: PrometheusFeeds, alert: str, why: str
) -> None:
    """It fails, reads what is not there, or reads nothing."""
    found = await feeds.alert(alert)
    assert isinstance(found, NoAnswer)
    assert found.detail == why


async def test_each_job_has_its_interval(feeds: PrometheusFeeds) -> None:
    """What is read from two jobs is fed by both."""
    expected = {"job models": 0.1, "job slow": 2.0}
    assert pace(await feeds.feeds("sum(rate(work[1m]))")) == expected
    assert pace(await feeds.feeds("only_fast / on () only_slow")) == expected
    assert pace(await feeds.feeds('work{job="models"}')) == {"job models": 0.1}


async def test_one_selector_without_series_leaves_the_query_unknown(
    feeds: PrometheusFeeds,
) -> None:
    """Never a time for half of what is measured."""
    found = await feeds.feeds('work or gone{pod="x"}')
    assert found == NoAnswer(Blindness.ABSENT, 'no target exposes gone{pod="x"} yet')


async def test_what_a_rule_records_waits_for_the_rule(feeds: PrometheusFeeds) -> None:
    """The intervals of rules of rules add up, before the scrape of what they read."""
    found = {each.origin: each for each in known(await feeds.feeds("ns:work:max"))}
    assert {origin: (each.every, each.recorded) for origin, each in found.items()} == {
        "job models": (0.1, 1.5),
        "job slow": (2.0, 1.5),
    }
    assert {each.metric for each in found.values()} == {"work"}


async def test_rules_of_rules_end_somewhere(
    feeds: PrometheusFeeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bounds nothing is claimed."""
    for bound, least in (("_DEEPEST", 1), ("_MOST_SELECTORS", 2)):
        with monkeypatch.context() as patched:
            patched.setattr(prometheus_feeds, bound, least)
            found = await feeds.feeds("ns:work:max")
            assert isinstance(found, NoAnswer)
            assert "too intricate to follow" in found.detail


async def test_a_rule_that_fails_is_not_healthy(feeds: PrometheusFeeds) -> None:
    """It would never post an alert."""
    found = await feeds.rule_group("ill")
    assert found is not None
    assert not found.healthy


async def test_changes_show_how_often_an_exporter_renews(
    scraped: Scraped, feeds: PrometheusFeeds
) -> None:
    """Per instance: the quick one says nothing about the quiet one."""
    selector = "DCGM_FI_DEV_GPU_UTIL"
    for value in (10.0, 20.0, 30.0):
        scraped.fast.set(selector, value, gpu="0")
        scraped.prometheus.wait_for_sample(f'{selector}{{job="models"}} == {value}')
    found = {each.origin: each.renewed for each in known(await feeds.feeds(selector))}
    assert found == {"job models": pytest.approx(100.0), "job slow": None}


async def test_federated_series_have_no_target_and_are_estimated(
    scraped: Scraped, feeds: PrometheusFeeds
) -> None:
    """They bear the labels of whom they came from. Few samples yet: rather too slow than too fast."""
    scraped.prometheus.wait_for_sample("count_over_time(federated[5m]) > 2")
    (found,) = known(await feeds.feeds("federated"))
    assert (found.origin, found.estimated) == ("job elsewhere", True)
    assert found.every > 0.1


async def test_a_server_without_targets_and_rules(server: ForeignServer) -> None:
    """Mimir has no page of targets: 21 samples in 5 min are 15 s apart."""
    server.status, server.content_type = 404, "text/plain"
    server.pages["/api/v1/query"] = success(21)
    async with PrometheusFeeds(server.url) as asked:
        (found,) = known(await asked.feeds("a"))
        assert await asked.rule_group("well") is None
    assert (found.every, found.origin, found.estimated) == (15.0, "job models", True)


async def test_too_few_samples_tell_nothing(server: ForeignServer) -> None:
    """One sample has no interval."""
    server.status = 404
    server.pages["/api/v1/query"] = success(1)
    expected = "a has no target, and fewer than two samples in 5m"
    assert await ask(server.url) == NoAnswer(Blindness.ABSENT, expected)


PROXY = (502, "text/html", b"<html>bad gateway</html>")
ANSWERS = {
    "a proxy's page": (*PROXY, Blindness.BAD_ANSWER),
    "not ready": (503, "text/plain", b"Service Unavailable", Blindness.FAILED),
    "a refusal": (
        422,
        "application/json",
        b'{"status":"error","errorType":"execution","error":"too many samples"}',
        Blindness.FAILED,
    ),
    "no JSON": (200, "application/json", b"{", Blindness.BAD_ANSWER),
    "a list": (200, "application/json", b"[]", Blindness.BAD_ANSWER),
    "an error with 200": (200, "application/json", b'{"status":"error"}', Blindness.BAD_ANSWER),
    "no data": (200, "application/json", b'{"status":"success"}', Blindness.BAD_ANSWER),
    "no series": (
        200,
        "application/json",
        b'{"status":"success","data":{"result":[{"metric":{}}]}}',
        Blindness.BAD_ANSWER,
    ),
    "a redirect": (302, "text/html", b"", Blindness.BAD_ANSWER),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_what_is_no_answer_is_unknown(server: ForeignServer, case: str) -> None:
    """Never raises, never guesses."""
    server.status, server.content_type, server.body, reason = ANSWERS[case]
    found = await ask(server.url)
    assert isinstance(found, NoAnswer)
    assert found.reason is reason


@pytest.mark.parametrize("page", ["targets", "rules"])
@pytest.mark.parametrize(
    "data",
    [
        [],
        {"activeTargets": [{}], "groups": [{}]},
        {"activeTargets": None, "groups": None},
        {
            "activeTargets": [{"labels": {"job": "models"}, "scrapeInterval": "soon"}],
            "groups": [{"name": "a", "interval": "soon"}],
        },
    ],
    ids=str,
)
async def test_odd_pages_are_unknown(server: ForeignServer, page: str, data: Any) -> None:
    """What is not shaped as Prometheus answers is not believed."""
    server.status = 404
    server.pages["/api/v1/query"] = success(21)
    server.pages[f"/api/v1/{page}"] = {"status": "success", "data": data}
    found = await ask(server.url)
    assert isinstance(found, NoAnswer)
    assert found.reason is Blindness.BAD_ANSWER


async def test_a_server_that_drips_is_late(server: ForeignServer) -> None:
    """The timeout bounds the whole answer."""
    server.pause = 0.05
    server.body = b" " * 1000
    found = await ask(server.url)
    assert found == NoAnswer(Blindness.TIMEOUT, "no answer within 0.5 s")


async def test_an_endless_answer_is_cut_off(
    server: ForeignServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than any server's targets is not read to its end."""
    monkeypatch.setattr(prometheus_feeds, "_MOST_BYTES", 1000)
    server.body = b" " * 10_000
    found = await ask(server.url)
    assert isinstance(found, NoAnswer)
    assert found.reason is Blindness.FAILED


async def test_an_answer_that_breaks_off(server: ForeignServer) -> None:
    """A connection that ends in the middle is no answer."""
    server.short_by = 10
    found = await ask(server.url)
    assert isinstance(found, NoAnswer)
    assert found.reason is Blindness.UNREACHABLE


async def test_nobody_there() -> None:
    """Refused connections are told as such."""
    found = await ask(f"http://127.0.0.1:{free_port()}")
    assert isinstance(found, NoAnswer)
    assert found.reason is Blindness.UNREACHABLE


async def test_a_query_that_no_policy_may_use(feeds: PrometheusFeeds) -> None:
    """Refused as the checker refuses it."""
    found = await feeds.feeds("sum(x")
    assert isinstance(found, NoAnswer)
    assert found.reason is Blindness.REJECTED


async def test_targets_and_rules_are_asked_once_for_all_queries(server: ForeignServer) -> None:
    """However many are looked up together."""
    server.status = 404
    server.pages["/api/v1/query"] = success(21)
    empty = {"status": "success", "data": {}}
    server.pages |= {"/api/v1/targets": empty, "/api/v1/rules": empty}
    async with PrometheusFeeds(server.url) as asked:
        await asyncio.gather(*(asked.feeds(f"a{number}") for number in range(20)))
    paths = Counter(each["path"].rpartition("/")[2] for each in server.requests)
    assert paths == {"query": 40, "targets": 1, "rules": 1}


async def test_a_server_that_hangs_is_not_waited_for_by_each_in_turn(
    server: ForeignServer,
) -> None:
    """Its fault is everybody's: one request for all of them."""
    server.pause = 0.05
    server.body = b" " * 1000
    async with PrometheusFeeds(server.url, timeout=0.3) as asked:
        found = await asyncio.gather(*(asked.feeds(f"a{number}") for number in range(20)))
        assert await asked.rule_group("well") is None
    assert {each.reason for each in found if isinstance(each, NoAnswer)} == {Blindness.TIMEOUT}
    assert [each["path"] for each in server.requests] == ["/api/v1/rules"]


async def test_every_good_query_can_be_looked_up(feeds: PrometheusFeeds) -> None:
    """Its selectors are good PromQL here too: absent, or with an interval."""
    for query in GOOD:
        found = await feeds.feeds(query)
        absent = isinstance(found, NoAnswer) and found.reason is Blindness.ABSENT
        assert absent or not isinstance(found, NoAnswer), (query, found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("15s", 15.0), ("100ms", 0.1), ("1m30s", 90.0), ("1d", 86400.0), ("1y", 31_536_000.0)],
)
def test_durations_of_prometheus(text: str, expected: float) -> None:
    """With days, weeks and years."""
    assert prometheus_feeds._seconds(text) == pytest.approx(expected)


def success(value: float) -> dict[str, Any]:
    """An answer with one series of job models, of this value."""
    metric = {"job": "models", "instance": "far:1"}
    result = [{"metric": metric, "value": [0, str(value)]}]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}
