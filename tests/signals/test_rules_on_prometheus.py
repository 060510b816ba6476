"""A real Prometheus evaluates the generated rules and posts to the receiver of docs/events.md."""

import asyncio
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from killswitch.core.readings import Threshold
from killswitch.signals import rules
from killswitch.signals import web as receivers
from killswitch.signals.alerts import HEARTBEAT, Alert, Batch, PolicyReference, tripped
from killswitch.signals.episodes import Arrival, Episodes
from killswitch.signals.keys import BearerTokens
from killswitch.signals.rules import Measurement, ThresholdSeries
from killswitch.signals.watchdog import Watchdog
from tests.cluster import binaries
from tests.cluster.prometheus import Exporter, Prometheus
from tests.signals.served import TOKEN, serving, snippets

pytestmark = pytest.mark.cluster

QUEUE = Measurement('vllm_waiting{job="models"} # as in the policy')
PER_MODEL = Measurement("max by (model) (vllm_waiting)", ("model",))
FIRST = PolicyReference("uid-1", 3, "queue")
SECOND = PolicyReference("uid-2", 1, "idle")
MODEL = PolicyReference("uid-3", 7, "per-model")


def _debian() -> Path | None:
    """Prometheus 2.42 on PATH."""
    found = shutil.which("prometheus")
    if found is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    return Path(found) if "version 2.42" in said.stdout + said.stderr else None


@dataclass
class Reactor:
    """What a reactor would do with alerts, as far as these tests need it."""

    thresholds: list[ThresholdSeries]
    episodes: Episodes = field(default_factory=Episodes)
    watchdog: Watchdog = field(default_factory=Watchdog)
    seen: list[tuple[Arrival, Alert]] = field(default_factory=list)
    heartbeats: dict[str, float | None] = field(default_factory=dict)

    def expose(self, *thresholds: ThresholdSeries) -> None:
        """Expose exactly these and expect their alerts alone."""
        self.thresholds = list(thresholds)
        self.episodes.expect(each.reference for each in thresholds)

    def deliver(self, batch: Batch) -> None:
        """What a reactor's callback does."""
        now = time.time()
        for alert in batch.alerts:
            if alert.name == HEARTBEAT and alert.firing(now):
                self.watchdog.heard(f"killswitch-{alert.metric}", now)
                self.heartbeats[alert.metric] = alert.value
            self.seen.append((self.episodes.arrive(alert, now), alert))

    def arrived(self, arrival: Arrival, reference: PolicyReference) -> Alert | None:
        """The first alert of a policy with this arrival."""
        matching = (a for kind, a in self.seen if kind is arrival and a.reference == reference)
        return next(matching, None)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The address to post to and to scrape."""
        tokens = BearerTokens({"prometheus": [TOKEN]})
        receiver = receivers.alerts_receiver(self.deliver, tokens=lambda: tokens)
        app = receivers.application(receiver, counts=Counter())

        async def metrics(_: web.Request) -> web.Response:
            return web.Response(body=rules.exposition(self.thresholds), content_type="text/plain")

        app.router.add_get("/metrics", metrics)
        async with serving(receivers.runner(app)) as (host, port):
            yield f"{host}:{port}"


def documented(address: str, directory: Path) -> dict[str, Any]:
    """The Prometheus snippet of docs/events.md, for this address and without TLS."""
    content: dict[str, Any] = yaml.safe_load(
        next(each for each in snippets("yaml") if "alertmanagers:" in each)
    )
    token = directory / "token"
    token.write_text(TOKEN)
    (alertmanager,) = content["alerting"]["alertmanagers"]
    alertmanager |= {"scheme": "http", "static_configs": [{"targets": [address]}]}
    alertmanager["authorization"]["credentials_file"] = str(token)
    del alertmanager["tls_config"]
    (job,) = content["scrape_configs"]
    job |= {"static_configs": [{"targets": [address]}], "scrape_interval": "100ms"}
    return content


async def until(condition: Callable[[], object], what: str) -> None:
    """Return once it holds; it has a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def evaluated(
    reactor: Reactor, exporter: Exporter, directory: Path, program: Path | None, interval: str
) -> AsyncIterator[Prometheus]:
    """A Prometheus that evaluates the rules of both measurements and posts to the reactor."""
    file = directory / "killswitch-rules.yml"
    file.write_text(rules.rule_file([QUEUE, PER_MODEL], interval=interval))
    async with reactor.listening() as address:
        content = documented(address, directory)
        running = Prometheus(
            directory / "prometheus",
            {exporter.address: {}},
            rule_files=[file],
            alertmanagers=content["alerting"]["alertmanagers"],
            scrape_configs=content["scrape_configs"],
            program=program,
        )
        await asyncio.to_thread(running.start)
        try:
            yield running
        finally:
            await asyncio.to_thread(running.stop, kill=True)


@pytest.fixture(params=["3", "2.42"])
def program(request: pytest.FixtureRequest) -> Path | None:
    """None for the Prometheus 3 of tests/cluster, else Debian's."""
    if request.param == "3":
        binaries.locate(["prometheus"])
        return None
    debian = _debian()
    if debian is None:
        pytest.skip("no Prometheus 2.42 (Debian's package) on PATH")
    return debian


@pytest.fixture
def models() -> Any:
    """An exporter of two models' queues."""
    running = Exporter()
    yield running
    running.close()


async def test_alerts_arrive_with_policy_generation_and_value(
    program: Path | None, models: Exporter, tmp_path: Path
) -> None:
    """Fires with the worst series, resolves, follows a threshold without reload, beats always."""
    reactor = Reactor([])
    low = ThresholdSeries(FIRST, QUEUE, Threshold(above=10.0))
    below = ThresholdSeries(SECOND, QUEUE, Threshold(below=0.5))
    one = ThresholdSeries(MODEL, PER_MODEL, Threshold(above=5.0), ("b",))
    reactor.expose(low, below, one)
    for metric in (QUEUE, PER_MODEL):
        reactor.watchdog.expect(rules.path(metric), 10.0, time.time())
    models.set("vllm_waiting", 1.0, model="a")
    models.set("vllm_waiting", 2.0, model="b")
    async with evaluated(reactor, models, tmp_path, program, "50ms"):
        expected = {QUEUE.key: 2.0, PER_MODEL.key: 1.0}
        await until(lambda: reactor.heartbeats == expected, "heartbeats that see all thresholds")
        assert reactor.watchdog.silent(time.time()) == ()
        assert reactor.episodes.tripped == frozenset()

        models.set("vllm_waiting", 42.5, model="a")
        await until(lambda: reactor.arrived(Arrival.BEGAN, FIRST), "the queue policy's alert")
        alert = reactor.arrived(Arrival.BEGAN, FIRST)
        assert alert is not None
        assert (alert.value, alert.reference) == (42.5, FIRST)
        assert tripped(alert, 0.0).message == (
            "42.5 is beyond the threshold, says Prometheus by alert"
        )
        await until(lambda: reactor.arrived(Arrival.REPEATED, FIRST), "the same alert again")
        assert {FIRST} == reactor.episodes.tripped

        models.set("vllm_waiting", 3.0, model="a")
        await until(lambda: reactor.arrived(Arrival.ENDED, FIRST), "that it is resolved")
        assert frozenset() == reactor.episodes.tripped

        raised = PolicyReference(FIRST.policy, 4, FIRST.signal)
        lower = ThresholdSeries(raised, QUEUE, Threshold(above=2.5))
        reactor.expose(lower, below, one)
        await until(lambda: reactor.arrived(Arrival.BEGAN, raised), "the new threshold's alert")
        assert {raised} == reactor.episodes.tripped

        models.set("vllm_waiting", 0.25, model="a")
        await until(lambda: reactor.arrived(Arrival.BEGAN, SECOND), "the lower side's alert")
        assert reactor.arrived(Arrival.BEGAN, MODEL) is None

        models.set("vllm_waiting", 6.0, model="b")
        await until(lambda: reactor.arrived(Arrival.BEGAN, MODEL), "the model's own alert")
        reactor.expose()
        await until(lambda: set(reactor.heartbeats.values()) == {0.0}, "that no threshold is seen")


async def test_an_evaluation_every_20_ms_is_taken(
    program: Path | None, models: Exporter, tmp_path: Path
) -> None:
    """And a killed Prometheus is silence: its alerts are gone, its heartbeat is missed."""
    reactor = Reactor([])
    reactor.expose(ThresholdSeries(FIRST, QUEUE, Threshold(above=1.0)))
    reactor.watchdog.expect(rules.path(QUEUE), 3.0, time.time())
    models.set("vllm_waiting", 2.0, model="a")
    async with evaluated(reactor, models, tmp_path, program, "20ms") as running:
        await until(lambda: reactor.arrived(Arrival.BEGAN, FIRST), "the alert")
        running.stop(kill=True)
        await until(lambda: reactor.episodes.gone(time.time()) == (FIRST,), "that it is gone")
        await until(
            lambda: reactor.watchdog.is_silent(rules.path(QUEUE), time.time()), "that it is silent"
        )


def test_the_rules_name_only_what_the_document_names() -> None:
    """People route by these names."""
    names = {rule["alert"] for rule in rules.groups([QUEUE], interval="1s")[0]["rules"]}
    assert {"KillSwitchFire", "KillSwitchHeartbeat", "KillSwitchBlind"} == names
    assert re.fullmatch(r"[0-9a-f]{16}", QUEUE.key)
