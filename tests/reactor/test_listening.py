"""`killswitch reactor` listens: a real Prometheus writes to it, a guardrail posts events."""

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from killswitch.core import times
from killswitch.core.resources import POLICIES
from killswitch.signals.alerts import FIRE, GENERATION, POLICY, SIGNAL, VALUE
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import free_port
from tests.cluster.prometheus import Exporter, Prometheus
from tests.reactor.harness import Bench, eventually
from tests.signals.served import KEY, TOKEN, event_body, signed

pytestmark = pytest.mark.cluster
VLLM = {"kind": "Deployment", "name": "vllm"}


@contextlib.contextmanager
def listening(kernel: ControlPlane, folder: Path, **settings: str) -> Iterator[str]:
    """The URL of a reactor process that can ask no Prometheus, but is told."""
    port = free_port()
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"guard": [KEY], "prometheus": [TOKEN]}))
    environment = {
        **os.environ,
        "KUBECONFIG": str(kernel.admin.kubeconfig),
        "KILLSWITCH_PROMETHEUS_URL": "http://127.0.0.1:9",
        "KILLSWITCH_POLL_INTERVAL": "0.1",
        "KILLSWITCH_LISTEN": f"127.0.0.1:{port}",
        "KILLSWITCH_EVENT_KEYS_FILE": str(keys),
        **settings,
    }
    with (folder / "reactor.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "killswitch", "reactor"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"{'https' if 'KILLSWITCH_TLS_CERT_FILE' in settings else 'http'}://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    cert, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=reactor", "-keyout", str(key)),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


def post(url: str, body: bytes, headers: dict[str, str], authority: Path | None = None) -> int:
    """The status of the answer; 0 while nobody listens."""
    request = urllib.request.Request(url, body, headers)
    context = None if authority is None else ssl.create_default_context(cafile=str(authority))
    try:
        with urllib.request.urlopen(request, timeout=2, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def get(url: str, headers: dict[str, str] | None = None) -> str:
    """The body of an answer."""
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return str(answer.read(), "utf-8")


async def test_what_prometheus_writes_stops_models(
    kernel: ControlPlane, setting: Bench, tmp_path: Path
) -> None:
    """No poll can answer: the pushed sample alone fires, and the evidence says so."""
    await setting.deployment("vllm", 1)
    source = {"name": "model_load", "labels": {"model": setting.namespace}, "above": "100"}
    signal = {"name": "load", "metric": source, "onNoData": "Hold"}
    await setting.policy("runaway", targets=[VLLM], signals=[signal])
    exporter = Exporter()
    exporter.set("model_load", 1, model=setting.namespace)
    try:
        with (
            listening(kernel, tmp_path) as url,
            Prometheus(
                tmp_path / "prometheus",
                {exporter.address: {}},
                remote_write=f"{url}/api/v1/write",
                remote_write_token=TOKEN,
            ) as prometheus,
        ):
            await asyncio.to_thread(prometheus.wait_for_sample, "model_load")
            await asyncio.sleep(0.5)  # some samples arrive, none of which trips
            assert await setting.shutdowns() == []
            exporter.set("model_load", 500, model=setting.namespace)
            await setting.stopped("runaway-1")
            evidence = await eventually(setting.evidence)
    finally:
        exporter.close()
    vote = evidence["signals"][0]
    assert tuple(vote[each] for each in ("name", "verdict", "value", "path")) == (
        "load",
        "Tripped",
        "500",
        "remote_write",
    )
    assert vote["sampledAt"] <= vote["readAt"]


async def test_an_alert_for_the_current_generation_stops_models(
    kernel: ControlPlane, setting: Bench, tmp_path: Path
) -> None:
    """One for another generation is taken and changes nothing."""
    await setting.deployment("vllm", 1)
    source = {"name": "model_load", "labels": {"model": setting.namespace}, "above": "100"}
    signal = {"name": "load", "metric": source, "onNoData": "Hold"}
    created = await setting.policy("runaway", targets=[VLLM], signals=[signal])
    uid, generation = created["metadata"]["uid"], created["metadata"]["generation"]
    token = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    def body(of: int) -> bytes:
        labels = {
            "alertname": FIRE,
            POLICY: uid,
            GENERATION: str(of),
            SIGNAL: "load",
        }
        start, end = times.text(time.time()), times.text(time.time() + 4)
        alert = {"labels": labels, "annotations": {VALUE: "500"}, "startsAt": start, "endsAt": end}
        return json.dumps([alert]).encode()

    with listening(kernel, tmp_path, KILLSWITCH_EXPECTED_PATHS='["alert"]') as url:

        async def awaited() -> bool:
            found = await setting.cluster.get(POLICIES, "runaway", setting.namespace)
            signals = found.get("status", {}).get("signals", ())
            return [path["state"] for each in signals for path in each["paths"]] == ["Awaited"]

        assert await eventually(awaited)
        page = await asyncio.to_thread(get, f"{url}/thresholds", token)
        assert f'killswitch_policy="{uid}",killswitch_generation="{generation}"' in page

        async def taken() -> bool:
            other = body(generation + 1)
            return await asyncio.to_thread(post, f"{url}/api/v2/alerts", other, token) == 200

        assert await eventually(taken)
        await asyncio.sleep(0.3)
        assert await setting.shutdowns() == []
        assert await asyncio.to_thread(post, f"{url}/api/v2/alerts", body(generation), token) == 200
        await setting.stopped("runaway-1")
        evidence = await eventually(setting.evidence)
    vote = evidence["signals"][0]
    assert (vote["value"], vote["path"]) == ("500", "alert")


async def test_a_signed_event_stops_models_and_strangers_are_refused(
    kernel: ControlPlane, setting: Bench, tmp_path: Path
) -> None:
    """As a guardrail does it; the guardrail's key opens no other path."""
    await setting.deployment("vllm", 1)
    signal = {"name": "misuse", "event": {"type": "guardrail.jailbreak"}, "onNoData": "Hold"}
    await setting.policy("misuse", targets=[VLLM], signals=[signal])
    body = event_body(namespace=setting.namespace)
    measured = f"127.0.0.1:{free_port()}"
    with listening(kernel, tmp_path, KILLSWITCH_METRICS_LISTEN=measured) as url:

        async def answered() -> int:
            wrong = {"Authorization": "Bearer nobody-knows-this-token-at-all"}
            return await asyncio.to_thread(post, f"{url}/v1/events", body, wrong)

        assert await eventually(answered) == 401
        assert await setting.shutdowns() == []
        for path in ("/api/v1/write", "/api/v2/alerts"):
            assert await asyncio.to_thread(post, url + path, b"[]", {}) == 401
        headers = signed(body, now=time.time())
        assert await asyncio.to_thread(post, f"{url}/v1/events", body, headers) == 202
        assert await asyncio.to_thread(post, f"{url}/v1/events", body, headers) == 409
        await setting.stopped("misuse-1")
        evidence = await eventually(setting.evidence)
        metrics = await asyncio.to_thread(get, f"http://{measured}/metrics")
    assert evidence["signals"][0]["path"] == "event"
    for counted in (
        'killswitch_requests_total{outcome="BadCredentials",path="/v1/events"} 1.0',
        'killswitch_requests_total{outcome="BadCredentials",path="/api/v1/write"} 1.0',
        'killswitch_requests_total{outcome="Accepted",path="/v1/events"} 1.0',
        'killswitch_requests_total{outcome="Replayed",path="/v1/events"} 1.0',
        'killswitch_sample_age_seconds_count{path="event"} 1.0',
        'killswitch_decision_seconds_count{path="event"} 1.0',
    ):
        assert counted in metrics


async def test_keys_are_exchanged_while_it_listens_with_tls(
    kernel: ControlPlane, setting: Bench, tmp_path: Path
) -> None:
    """A file that cannot be read lets nobody in and does not end the reactor; the next one holds."""
    signal = {"name": "misuse", "event": {"type": "guardrail.jailbreak"}, "onNoData": "Hold"}
    await setting.policy("misuse", targets=[VLLM], signals=[signal])
    cert, key = certificate(tmp_path)
    tls = {"KILLSWITCH_TLS_CERT_FILE": str(cert), "KILLSWITCH_TLS_KEY_FILE": str(key)}
    body = event_body(type="heartbeat")
    with listening(kernel, tmp_path, **tls) as url:

        def sent() -> int:
            return post(f"{url}/v1/events", body, signed(body, now=time.time(), id_="n-2"), cert)

        async def accepted() -> bool:
            return await asyncio.to_thread(sent) == 202

        assert await eventually(accepted)
        (tmp_path / "keys.json").write_text("{}")
        assert await asyncio.to_thread(sent) == 401
        await setting.with_condition(POLICIES, "misuse", "SignalsAvailable", "False")
        (tmp_path / "keys.json").write_text(json.dumps({"guard": [KEY]}))
        assert await asyncio.to_thread(sent) == 409
        await setting.with_condition(POLICIES, "misuse", "SignalsAvailable", "True")
