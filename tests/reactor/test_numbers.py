"""What the reactor measures of itself: after a real fire, over HTTP, as Prometheus reads it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path as File

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from killswitch.adapters.clock import SystemClock
from killswitch.core.readings import Answer, Blindness, NoAnswer, Path
from killswitch.reactor.numbers import Numbers
from killswitch.reactor.run import Reactor
from killswitch.telemetry.endpoint import serving
from tests.cluster.processes import free_port
from tests.cluster.prometheus import Prometheus
from tests.reactor.harness import Bench, eventually, reactor

VLLM = {"kind": "Deployment", "name": "vllm"}
Found = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Found:
    """Every sample by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def asked(url: str) -> tuple[int, str]:
    """Status and body of a GET."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


def of(found: Found, name: str, **labels: str) -> float:
    """One sample."""
    return found[f"killswitch_{name}", tuple(sorted(labels.items()))]


@pytest.fixture
async def watching(setting: Bench) -> AsyncIterator[tuple[Reactor, str]]:
    """A reactor with an endpoint, and its URL."""
    port = free_port()
    async with reactor(setting) as running:
        numbers = running.numbers
        async with serving(("127.0.0.1", port), numbers.registry, lambda: numbers.unready):
            yield running, f"http://127.0.0.1:{port}"


@pytest.mark.cluster
async def test_a_fire_is_measured_from_its_sample_to_its_end(
    setting: Bench, watching: tuple[Reactor, str]
) -> None:
    """Once for each stage, by whoever decided it; the metrics parse and name nobody."""
    _, url = watching
    await setting.deployment("vllm")
    before = parsed((await asked(f"{url}/metrics"))[1])
    assert of(before, "lock_seconds_count") == 0
    await setting.policy("measured", targets=[VLLM])
    setting.dial.turn("measured", 900)
    await setting.stopped("measured-1")

    async def whole() -> Found | None:
        found = parsed((await asked(f"{url}/metrics"))[1])
        return found if of(found, "stop_seconds_count") else None

    found = await eventually(whole)
    for stage in ("lock", "delete", "record", "scale", "proof", "stop"):
        assert of(found, f"{stage}_seconds_count") == 1, stage
    assert of(found, "decision_seconds_count", path="poll") == 1
    assert of(found, "sample_age_seconds_count", path="poll") > 0
    assert of(found, "polls_total", outcome="Answered") > 0
    assert of(found, "poll_pace_seconds") == 0.05
    assert of(found, "policies", state="Latched") >= 1
    assert of(found, "lock_seconds_sum") <= of(found, "stop_seconds_sum")
    labels = {value for _, pairs in found for _, value in pairs}
    assert not {setting.namespace, "measured", "vllm"} & labels


@pytest.mark.cluster
async def test_a_helper_measures_nothing(setting: Bench) -> None:
    """Two reactors that decide one fire count it once: the one whose evidence is stored."""
    await setting.deployment("vllm")
    async with reactor(setting, "reactor-0") as one, reactor(setting, "reactor-1") as other:
        await setting.policy("measured-by-one", targets=[VLLM])
        setting.dial.turn("measured-by-one", 900)
        await setting.stopped("measured-by-one-1")

        async def counted() -> list[float]:
            values = [
                each.numbers.registry.get_sample_value("killswitch_stop_seconds_count") or 0.0
                for each in (one, other)
            ]
            return values if sum(values) else []

        assert sorted(await eventually(counted)) == [0, 1]


@pytest.mark.cluster
async def test_a_stop_that_cannot_be_measured_is_finished_all_the_same(
    setting: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of the numbers is logged and costs nothing else."""

    def fail(_: object) -> None:
        raise RuntimeError("no numbers today")

    await setting.deployment("vllm")
    async with reactor(setting) as running:
        monkeypatch.setattr(running.numbers, "progressed", fail)
        await setting.policy("unmeasured", targets=[VLLM])
        setting.dial.turn("unmeasured", 900)
        found = await setting.stopped("unmeasured-1")
    assert "scaled" in found["status"]["stages"]


@pytest.mark.cluster
async def test_health_and_readiness(watching: tuple[Reactor, str]) -> None:
    """Ready once everything is listed and judged."""
    running, url = watching
    assert await asked(f"{url}/healthz") == (200, "ok\n")
    assert await asked(f"{url}/readyz") == (200, "ok\n")
    running.reflectors[0].synced.clear()
    assert await asked(f"{url}/readyz") == (503, "not listed yet: Namespace\n")
    assert (await asked(f"{url}/healthz"))[0] == 200


async def test_alive_but_not_ready_while_the_api_server_is_away() -> None:
    """An outage at the start: nothing restarts the reactor, nobody counts on it."""
    numbers, port = Numbers(SystemClock()), free_port()
    async with serving(("127.0.0.1", port), numbers.registry, lambda: numbers.unready):
        url = f"http://127.0.0.1:{port}"
        assert (await asked(f"{url}/healthz"))[0] == 200
        assert await asked(f"{url}/readyz") == (503, "the API server has not answered yet\n")
        assert of(parsed((await asked(f"{url}/metrics"))[1]), "ready") == 0


async def test_no_address_means_no_endpoint() -> None:
    """The default."""
    async with serving(None, Numbers(SystemClock()).registry, lambda: ""):
        await asyncio.sleep(0)


def test_polls_are_counted_by_what_came_of_them() -> None:
    """A path that is asked and does not answer is not heard of; an age that is NaN is none."""
    numbers = Numbers(SystemClock())
    value = numbers.registry.get_sample_value
    numbers.polled(NoAnswer(Blindness.TIMEOUT, "late"))
    assert value("killswitch_path_heard_timestamp_seconds", {"path": "poll"}) is None
    numbers.polled(Answer((1.0,), float("nan")))
    numbers.polled(Answer((), None))
    numbers.polled(Answer((1.0,), 0.3))
    assert value("killswitch_polls_total", {"outcome": "Timeout"}) == 1
    assert value("killswitch_polls_total", {"outcome": "Answered"}) == 3
    assert value("killswitch_sample_age_seconds_count", {"path": "poll"}) == 1
    assert value("killswitch_path_heard_timestamp_seconds", {"path": "poll"}) is not None


def test_a_sample_from_the_future_has_no_negative_age() -> None:
    """Histograms of durations must not sum to less than nothing."""
    numbers, clock = Numbers(SystemClock()), SystemClock()
    numbers.arrived(Path.REMOTE_WRITE, clock.now() + 60)
    labels = {"path": "remote_write"}
    value = numbers.registry.get_sample_value
    assert value("killswitch_sample_age_seconds_sum", labels) == 0


@pytest.mark.cluster
async def test_a_real_prometheus_scrapes_it(watching: tuple[Reactor, str], tmp_path: File) -> None:
    """It finds nothing to complain about."""
    _, url = watching
    address = url.removeprefix("http://")
    with Prometheus(tmp_path, {address: {"job": "killswitch"}}) as prometheus:
        look = prometheus.wait_for_sample
        found = await asyncio.to_thread(look, f'killswitch_ready{{instance="{address}"}} == 1')
        assert found
        buckets = await asyncio.to_thread(look, "count(killswitch_lock_seconds_bucket)")
        assert int(buckets[0]["value"][1]) == 18
