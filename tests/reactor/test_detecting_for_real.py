"""Detectors from a real exporter to a decision: by Prometheus, after a restart, into evidence."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from killswitch.adapters.clock import SystemClock
from killswitch.adapters.prometheus import PrometheusSource
from killswitch.core.readings import Blindness, NoAnswer, Reading, Verdict
from killswitch.core.readings import Path as Way
from killswitch.core.resources import POLICIES
from killswitch.ports import Json
from killswitch.reactor.detecting import Unusual
from killswitch.reactor.listening import Listening
from killswitch.reactor.run import Reactor
from killswitch.signals import web as receivers
from killswitch.signals.keyfile import KeyFile
from tests.cluster.prometheus import Exporter, Prometheus
from tests.reactor.harness import Bench, eventually, reactor
from tests.signals.served import TOKEN, serving

pytestmark = pytest.mark.cluster
VLLM = {"kind": "Deployment", "name": "vllm"}
EWMA = {"every": "200ms", "ewma": {"least": "200", "warmUp": 20, "halfLife": "10s"}}


@pytest.fixture
async def source(prometheus: Prometheus) -> AsyncIterator[PrometheusSource]:
    """The adapter on the real Prometheus."""
    running = PrometheusSource(prometheus.url)
    yield running
    running.close()


class Tokens:
    """A counter that grows at a pace, exposed by the exporter."""

    def __init__(self, exporter: Exporter, namespace: str) -> None:
        self.per_second = 100.0
        self._exporter, self._namespace = exporter, namespace
        self._task = asyncio.create_task(self._count())

    @property
    def rate(self) -> str:
        """The query of its rate."""
        return f'sum(rate(counted_tokens_total{{namespace="{self._namespace}"}}[2s]))'

    async def _count(self) -> None:
        total, step = 0.0, 0.02
        clock = asyncio.get_running_loop().time
        last = clock()
        while True:
            now = clock()
            total += (now - last) * self.per_second
            last = now
            self._exporter.set("counted_tokens_total", total, namespace=self._namespace)
            await asyncio.sleep(step)

    async def close(self) -> None:
        """Count no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._exporter.remove("counted_tokens_total", namespace=self._namespace)


@pytest.fixture
async def tokens(exporter: Exporter, setting: Bench) -> AsyncIterator[Tokens]:
    """Tokens of the model server of this test's namespace."""
    running = Tokens(exporter, setting.namespace)
    yield running
    await running.close()


def signal(name: str, query: str, **judged: object) -> Json:
    """A signal that looks at the query."""
    source = {"query": query, **judged}
    return {"name": name, "prometheus": source, "maxAge": "10s", "onNoData": "Hold"}


async def policy(setting: Bench, name: str, *signals: Json, **spec: object) -> str:
    """Its uid."""
    created = await setting.policy(name, targets=[VLLM], signals=[*signals], **spec)
    return str(created["metadata"]["uid"])


async def verdict(running: Reactor, uid: str, signal: str, wanted: Verdict) -> Reading:
    """The reading of a signal once it says this."""

    async def look() -> Reading | None:
        watched = running.engine.watched.get(uid)
        found = watched.readings[signal] if watched else None
        return found if found and found.verdict is wanted else None

    return await eventually(look)


async def test_a_rate_that_jumps_trips_a_dry_run(
    setting: Bench, source: PrometheusSource, tokens: Tokens
) -> None:
    """In a quorum with a threshold beside it; decided and reported, and nothing is touched."""
    await setting.deployment("vllm", 1)
    uid = await policy(
        setting,
        "unusual",
        signal("jump", tokens.rate, detector=EWMA),
        signal("limit", tokens.rate, above="1000"),
        quorum=2,
        mode="DryRun",
    )
    async with reactor(setting, source=source) as running:
        await verdict(running, uid, "jump", Verdict.CLEAR)
        await verdict(running, uid, "limit", Verdict.CLEAR)
        tokens.per_second = 3000.0
        found = await verdict(running, uid, "jump", Verdict.TRIPPED)
        assert "deviations from the smoothed" in found.message
        await verdict(running, uid, "limit", Verdict.TRIPPED)
        stored = await setting.with_condition(POLICIES, "unusual", "Inhibited", "True", "DryRun")
        told = {each["name"]: each for each in stored["status"]["signals"]}
        assert told["jump"]["verdict"] == "Tripped"
        assert "deviations from the smoothed" in told["jump"]["message"]
        assert await setting.shutdowns() == []


async def test_a_restarted_reactor_knows_what_is_usual(
    setting: Bench, source: PrometheusSource, tokens: Tokens
) -> None:
    """It has an opinion from the first sample on, without having warmed up again."""
    jump = signal("jump", tokens.rate, detector=EWMA)
    uid = await policy(setting, "usual", jump, mode="DryRun")
    async with reactor(setting, source=source) as running:
        await verdict(running, uid, "jump", Verdict.CLEAR)

        async def old_enough() -> bool:
            known = await source.recall(tokens.rate, 60, 0.2)
            return not isinstance(known, NoAnswer) and sum(bool(a.values) for a in known) > 30

        await eventually(old_enough)
    told = set()
    async with reactor(setting, "reactor-1", source=source) as running:

        async def look() -> bool:
            reading = running.engine.watched[uid].readings["jump"]
            told.add((reading.reason, "samples seen" in reading.message))
            return reading.verdict is Verdict.CLEAR

        async def seen() -> bool:
            while not await look():
                await asyncio.sleep(0.005)
            return True

        assert await asyncio.wait_for(seen(), 20)
    assert (Blindness.WARMING_UP, True) not in told


async def test_what_is_polled_and_written_is_one_series(
    setting: Bench, exporter: Exporter, tmp_path: Path
) -> None:
    """The same Prometheus answers and writes: its series, and its samples, are known again."""
    exporter.set("model_load", 100.0, model=setting.namespace)
    detector = {"every": "200ms", "ewma": {"least": "100", "warmUp": 10}}
    metric = {"name": "model_load", "labels": {"model": setting.namespace}, "detector": detector}
    load = {"name": "load", "metric": metric, "maxAge": "10s", "onNoData": "Hold"}
    uid = await policy(setting, "both", load, mode="DryRun")
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"prometheus": [TOKEN]}))
    prometheus = Prometheus(tmp_path / "prometheus", {exporter.address: {}})
    prometheus.remote_write_token = TOKEN
    source = PrometheusSource(prometheus.url)
    async with reactor(setting, source=source) as running:
        listening = Listening(running.engine, SystemClock(), KeyFile(str(keys)), running.numbers)
        async with serving(receivers.runner(listening.application())) as (host, port):
            prometheus.remote_write = f"http://{host}:{port}/api/v1/write"
            try:
                await asyncio.to_thread(prometheus.start)
                await verdict(running, uid, "load", Verdict.CLEAR)
                detecting = running.engine.watched[uid].detecting["load"]
                assert isinstance(detecting, Unusual)

                async def written() -> bool:
                    listening.look()
                    return any(one.path is Way.REMOTE_WRITE for one in detecting._series.values())

                await eventually(written)
                exporter.set("model_load", 900.0, model=setting.namespace)
                found = await verdict(running, uid, "load", Verdict.TRIPPED)
                assert found.value == 900.0
                assert len(detecting._series) == 1
            finally:
                prometheus.stop(kill=True)
                source.close()


async def test_silence_of_an_exporter_trips(
    setting: Bench, source: PrometheusSource, exporter: Exporter
) -> None:
    """Prometheus goes on; the series has ended."""
    exporter.set("guardrail_up", 1.0, namespace=setting.namespace)
    query = f'guardrail_up{{namespace="{setting.namespace}"}}'
    absence = {"absence": {"after": "1s"}}
    uid = await policy(setting, "quiet", signal("guard", query, detector=absence), mode="DryRun")
    async with reactor(setting, source=source) as running:
        await verdict(running, uid, "guard", Verdict.CLEAR)
        exporter.remove("guardrail_up", namespace=setting.namespace)
        found = await verdict(running, uid, "guard", Verdict.TRIPPED)
    assert found.message.startswith("silent for ")


async def test_a_detector_that_may_act_alone_leaves_its_sentence_in_the_evidence(
    setting: Bench,
) -> None:
    """What tripped, by how much, and what would have been allowed."""
    await setting.deployment("vllm", 1)
    detector = {"every": "100ms", "ewma": {"least": "50", "warmUp": 5, "halfLife": "5m"}}
    alone = signal("jump", "load", detector=detector)
    setting.dial.turn("load", 100.0)
    uid = await policy(setting, "alone", alone, allowDetectorAlone=True)
    async with reactor(setting) as running:
        await verdict(running, uid, "jump", Verdict.CLEAR)
        assert await setting.shutdowns() == []
        setting.dial.turn("load", 900.0)
        stopped = await setting.stopped("alone-1")
        evidence = await eventually(setting.evidence)
    vote = evidence["signals"][0]
    assert (vote["threshold"], vote["value"], vote["verdict"]) == ("ewma above 6", "900", "Tripped")
    assert "900 is 96.0 deviations from the smoothed 100, allowed 6" in vote["message"]
    assert vote["message"] in stopped["spec"]["reason"]


async def test_two_detectors_on_one_query_are_not_armed(setting: Bench) -> None:
    """The API server cannot count sources; the reactor does not act on what the manager refuses."""
    detectors = ({"ewma": {"least": "50"}}, {"rate": {"limit": "5"}})
    signals = [
        signal(name, "load", detector={**each, "every": "1s"})
        for name, each in zip(("a", "b"), detectors, strict=True)
    ]
    async with reactor(setting) as running:
        refused = await policy(setting, "one-witness", *signals, quorum=2)
        accepted = await policy(setting, "dry", *signals, quorum=2, mode="DryRun")

        async def look() -> bool:
            return accepted in running.engine.watched

        await eventually(look)
        assert refused not in running.engine.watched
