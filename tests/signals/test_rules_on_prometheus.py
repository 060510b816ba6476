"""A real Prometheus scrapes thresholds, evaluates rules and posts, as docs/signals.md configures it."""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from killswitch.core.readings import Answer, Blindness, Verdict
from killswitch.core.readings import Path as Way
from killswitch.signals import receiver, rules
from killswitch.signals import web as receivers
from killswitch.signals.episodes import Arrival
from killswitch.signals.rules import Measurement
from tests.cluster import binaries
from tests.cluster.prometheus import Exporter, Prometheus, remote_write_entry
from tests.reactor.listener import GUARDS, Listener, polled
from tests.signals.served import SIGNALS, TOKEN, snippets

pytestmark = pytest.mark.cluster

QUERY = 'vllm_waiting{job="models"} # as in the policy'


def _debian() -> Path | None:
    """Prometheus 2.42 on PATH."""
    found = shutil.which("prometheus")
    if found is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    return Path(found) if "version 2.42" in said.stdout + said.stderr else None


def documented(address: str, directory: Path, scrape_token: str) -> dict[str, Any]:
    """The Prometheus snippet of docs/signals.md, for this address and without TLS."""
    content: dict[str, Any] = yaml.safe_load(
        next(each for each in snippets("yaml", SIGNALS) if "alertmanagers:" in each)
    )
    tokens = directory / "token", directory / "scrape-token"
    (alertmanager,) = content["alerting"]["alertmanagers"]
    (job,) = content["scrape_configs"]
    texts = TOKEN, scrape_token
    for each, token, text in zip((alertmanager, job), tokens, texts, strict=True):
        token.write_text(text)
        each |= {"scheme": "http", "static_configs": [{"targets": [address]}]}
        each["authorization"]["credentials_file"] = str(token)
        del each["tls_config"], each["dns_sd_configs"]
    job["scrape_interval"] = "100ms"
    return content


async def until(condition: Callable[[], object], what: str) -> None:
    """Return once it holds; it has a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def evaluated(
    reactor: Listener,
    exporter: Exporter,
    directory: Path,
    program: Path | None,
    file: str,
    *,
    scrape_token: str = TOKEN,
) -> AsyncIterator[Prometheus]:
    """A Prometheus that evaluates this rule file and posts to the reactor."""
    path = directory / "killswitch-rules.yml"
    path.write_text(file)
    async with reactor.running() as address:
        content = documented(address, directory, scrape_token)
        running = Prometheus(
            directory / "prometheus",
            {exporter.address: {}},
            rule_files=[path],
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


async def test_policies_change_without_a_reload(
    program: Path | None, models: Exporter, tmp_path: Path
) -> None:
    """Fires with the worst series, resolves, follows an edited threshold, beats always."""
    reactor = Listener(tmp_path)
    reactor.expect("high", polled(QUERY, above="10"))
    reactor.expect("low", polled(QUERY, below="0.5"))
    reactor.expect("one", polled("scalar(vllm_waiting{model='b'})", above="5"))
    models.set("vllm_waiting", 1.0, model="a")
    models.set("vllm_waiting", 2.0, model="b")
    file = reactor.rule_file("50ms")
    async with evaluated(reactor, models, tmp_path, program, file):
        await until(lambda: reactor.silent == [False, False], "heartbeats of both groups")
        counts = reactor.listening.alerts
        assert set(counts) <= {Arrival.HEARTBEAT, Arrival.BLIND}

        models.set("vllm_waiting", 42.5, model="a")
        await until(lambda: reactor.verdict("high") is Verdict.TRIPPED, "the queue policy's alert")
        (reading,) = reactor.watched("high").readings.values()
        assert (reading.value, reading.path) == (42.5, Way.ALERT)
        assert reading.message == "42.5 is beyond the threshold, says Prometheus by alert"
        await until(lambda: counts[Arrival.REPEATED], "the same alert again")
        reactor.engine.intake.deliver(QUERY, Answer((3.0,), 0.0))
        assert reactor.verdict("high") is Verdict.TRIPPED

        models.set("vllm_waiting", 3.0, model="a")
        await until(lambda: reactor.verdict("high") is Verdict.CLEAR, "that it is resolved")

        reactor.expect("high", polled(QUERY, above="2.5"), generation=2)
        await until(lambda: reactor.verdict("high") is Verdict.TRIPPED, "the new threshold's alert")

        models.set("vllm_waiting", 0.25, model="a")
        await until(lambda: reactor.verdict("low") is Verdict.TRIPPED, "the lower side's alert")
        assert reactor.verdict("one") is Verdict.UNKNOWN

        models.set("vllm_waiting", 6.0, model="b")
        await until(lambda: reactor.verdict("one") is Verdict.TRIPPED, "the scalar's alert")

        reactor.expect("later", polled(QUERY, above="5"))
        await until(lambda: reactor.verdict("later") is Verdict.TRIPPED, "a new policy's alert")
        assert Arrival.CONTRADICTED not in counts


async def test_a_killed_prometheus_is_silence_and_one_that_restarts_tells_nothing_old(
    program: Path | None, models: Exporter, tmp_path: Path
) -> None:
    """Its alert ends, its path is silent. Back again, it evaluates what it had scraped before."""
    reactor = Listener(tmp_path)
    reactor.expect("high", polled(QUERY, above="1", maxAge="3s"))
    models.set("vllm_waiting", 2.0, model="a")
    async with evaluated(
        reactor, models, tmp_path, program, reactor.rule_file("20ms")
    ) as prometheus:
        await until(lambda: reactor.verdict("high") is Verdict.TRIPPED, "the alert")
        await until(lambda: reactor.silent == [False], "a heartbeat")
        await asyncio.to_thread(prometheus.stop, kill=True)
        await until(lambda: reactor.verdict("high") is Verdict.UNKNOWN, "that it is over")
        await until(lambda: reactor.silent == [True], "that the path is silent")
        (reading,) = reactor.watched("high").readings.values()
        assert reading.reason is Blindness.NEVER_READ
        models.set("vllm_waiting", 0.5, model="a")
        await asyncio.to_thread(prometheus.start)
        await until(lambda: reactor.silent == [False], "heartbeats for as long as they may fail")
        assert reactor.verdict("high") is Verdict.UNKNOWN
        assert reactor.listening.alerts[Arrival.BEGAN] == 1


async def test_thresholds_that_cannot_be_scraped_are_silence(
    program: Path | None, models: Exporter, tmp_path: Path
) -> None:
    """With a wrong token Prometheus would be disarmed without a word; its heartbeat says so."""
    reactor = Listener(tmp_path)
    paths = reactor.engine.intake.paths
    paths.expected, paths.tolerances[Way.ALERT] = frozenset({Way.ALERT}), 2.0
    reactor.expect("high", polled(QUERY, above="10"))
    models.set("vllm_waiting", 42.0, model="a")
    file = reactor.rule_file("50ms")
    async with evaluated(reactor, models, tmp_path, program, file, scrape_token=GUARDS):
        await until(lambda: reactor.listening.alerts[Arrival.BLIND], "that it is told to people")
        await until(lambda: reactor.silent == [True], "that nothing useful is heard")
        (state,) = paths.states()
        assert (reactor.silence or 0) >= 2
        assert "Prometheus sees no thresholds" in state.message
        assert reactor.verdict("high") is Verdict.UNKNOWN
        (tmp_path / "scrape-token").write_text(TOKEN)
        await until(lambda: reactor.verdict("high") is Verdict.TRIPPED, "the alert")
        await until(lambda: reactor.silent == [False], "a heartbeat that sees the threshold")
        assert reactor.silence == 0


async def test_an_alert_of_other_rules_fires_and_is_clear_with_its_heartbeat(
    program: Path | None, models: Exporter, tmp_path: Path
) -> None:
    """As posted by Prometheus directly; killed, nothing is known any more."""
    reactor = Listener(tmp_path)
    (example,) = (each for each in snippets("yaml", SIGNALS) if "GuardrailDown" in each)
    (documented_signal,) = yaml.safe_load(example)["signals"]
    reactor.expect("guard", {**documented_signal, "maxAge": "4s"})
    file = yaml.safe_dump(
        {
            "groups": [
                {
                    "name": "guardrail",
                    "interval": "50ms",
                    "rules": [
                        {"alert": "Watchdog", "expr": "vector(1)"},
                        {
                            "alert": "GuardrailDown",
                            "expr": "guardrail_up == 0",
                            "labels": {"namespace": "model-serving"},
                        },
                    ],
                }
            ]
        }
    )
    models.set("guardrail_up", 1.0)
    async with evaluated(reactor, models, tmp_path, program, file) as prometheus:
        await until(lambda: reactor.verdict("guard") is Verdict.CLEAR, "a heartbeat")
        models.set("guardrail_up", 0.0)
        await until(lambda: reactor.verdict("guard") is Verdict.TRIPPED, "the alert")
        models.set("guardrail_up", 1.0)
        await until(lambda: reactor.verdict("guard") is Verdict.CLEAR, "that it is resolved")
        await asyncio.to_thread(prometheus.stop, kill=True)
        await until(lambda: reactor.verdict("guard") is Verdict.UNKNOWN, "silence")
        (reading,) = reactor.watched("guard").readings.values()
        assert reading.reason is Blindness.SILENT


def test_the_document_writes_as_the_tests_do() -> None:
    """Every other test of remote write runs a real Prometheus with these very fields."""
    (entry,) = yaml.safe_load(
        next(each for each in snippets("yaml", SIGNALS) if "remote_write:" in each)
    )["remote_write"]
    tested = remote_write_entry(entry["url"], TOKEN)
    assert entry["url"].endswith(receiver.PATH)
    for field in ("queue_config", "metadata_config", "remote_timeout"):
        assert entry[field] == tested[field]


def test_the_document_lets_alertmanager_resolve() -> None:
    """To the path that is mounted, and as promptly as it can be told to."""
    content = yaml.safe_load(
        next(each for each in snippets("yaml", SIGNALS) if "webhook_configs:" in each)
    )
    (hook,) = content["receivers"][0]["webhook_configs"]
    assert hook["url"].endswith(receivers.ALERTMANAGER_PATH)
    assert (hook["send_resolved"], content["route"]["group_wait"]) == (True, "0s")


def test_the_rules_name_only_what_the_document_names() -> None:
    """People route by these names."""
    measured = Measurement(QUERY)
    names = {rule["alert"] for rule in rules.groups([measured], interval="1s")[0]["rules"]}
    assert {"KillSwitchFire", "KillSwitchHeartbeat", "KillSwitchBlind"} == names
    assert re.fullmatch(r"[0-9a-f]{16}", measured.key)
