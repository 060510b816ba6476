"""Alerts and thresholds over real sockets: who is let in, what many do, what a flood does not."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from killswitch.adapters.clock import SystemClock
from killswitch.core import times
from killswitch.core.readings import Blindness, Verdict
from killswitch.core.readings import Path as Way
from killswitch.reactor.listening import Listening
from killswitch.signals import web as receivers
from killswitch.signals.alerts import FIRE, GENERATION, POLICY, SIGNAL, VALUE
from killswitch.signals.episodes import Arrival
from killswitch.signals.keyfile import KeyFile
from tests.reactor.harness import Bench, eventually, reactor
from tests.reactor.listener import GUARDS, Listener, polled
from tests.signals.served import KEY, SIGNALS, TOKEN, event_body, serving, signed, snippets

VLLM = {"kind": "Deployment", "name": "vllm"}
PROMETHEUS = {"Authorization": f"Bearer {TOKEN}"}
DIRECT, WEBHOOK = "/api/v2/alerts", "/v1/alertmanager"


def fire(uid: str, *, ends: float = 4.0, generation: int = 1, **labels: str) -> dict[str, Any]:
    """A generated rule's alert as Prometheus posts it."""
    now = time.time()
    own = {"alertname": FIRE, POLICY: uid, GENERATION: str(generation), SIGNAL: "load"}
    return {
        "labels": own | labels,
        "annotations": {VALUE: "500"},
        "startsAt": times.text(1_800_000_000.0),
        "endsAt": times.text(now + ends),
    }


def webhook(*alerts: dict[str, Any]) -> dict[str, Any]:
    """What Alertmanager posts: no end while it fires."""
    sent = [
        {"status": "firing", "startsAt": times.text(time.time()), "annotations": {}, **each}
        for each in alerts
    ]
    ended = {"endsAt": "0001-01-01T00:00:00Z"}
    return {"version": "4", "truncatedAlerts": 0, "alerts": [{**ended, **each} for each in sent]}


class Sender:
    """One connection pool to one listener."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self._url = f"http://{address}"

    async def post(self, path: str, content: Any, headers: dict[str, str] = PROMETHEUS) -> int:
        """The status of the answer."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        async with self._session.post(self._url + path, data=body, headers=headers) as answer:
            return answer.status

    async def thresholds(self, headers: dict[str, str]) -> tuple[int, str]:
        """Status and text of the page of thresholds."""
        async with self._session.get(f"{self._url}/thresholds", headers=headers) as answer:
            return answer.status, await answer.text()


@contextlib.asynccontextmanager
async def sending(address: str) -> AsyncIterator[Sender]:
    """A sender without a bound on connections."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Sender(session, address)


async def test_thresholds_are_told_to_prometheus_alone(tmp_path: Path) -> None:
    """They tell what one gets away with. Each policy change shows at once."""
    listener = Listener(tmp_path)
    async with listener.running() as address, sending(address) as sender:
        for headers in ({}, {"Authorization": f"Bearer {GUARDS}"}, {"Authorization": "Basic eA=="}):
            status, text = await sender.thresholds(headers)
            assert (status, "killswitch" in text) == (401, False)
        status, text = await sender.thresholds(PROMETHEUS)
        assert (status, text.count("\n")) == (200, 2)
        for number in range(250):  # more than are made without a pause
            listener.expect(f"p-{number}", polled(f"metric_{number}", above=str(number)))
        lines = (await sender.thresholds(PROMETHEUS))[1].splitlines()[2:]
        assert [line.rpartition(" ")[2] for line in lines] == [f"{n}.0" for n in range(250)]
        listener.engine.policy_removed({"metadata": {"uid": "p-0"}})
        listener.expect("p-1", polled("metric_1", below="7"), generation=2)
        lines = (await sender.thresholds(PROMETHEUS))[1].splitlines()[2:]
        assert (len(lines), 'killswitch_policy="p-0"' in "".join(lines)) == (249, False)
        (edited,) = (line for line in lines if 'killswitch_policy="p-1"' in line)
        assert 'killswitch_generation="2"' in edited
        assert edited.endswith('killswitch_side="below"} 7.0')


async def test_a_forged_token_trips_nothing_and_keeps_no_path_alive(tmp_path: Path) -> None:
    """Neither none, nor one made up, nor a guardrail's."""
    listener = Listener(tmp_path)
    listener.expect("u", polled("load", above="5"))
    beat = {"labels": {"alertname": "KillSwitchHeartbeat"}, "startsAt": times.text(time.time())}
    async with listener.running() as address, sending(address) as sender:
        for authorization in (
            {},
            {"Authorization": "Bearer x"},
            {"Authorization": f"Bearer {GUARDS}"},
        ):
            assert await sender.post(DIRECT, [fire("u"), beat], authorization) == 401
            assert await sender.post(WEBHOOK, webhook(fire("u")), authorization) == 401
    assert listener.verdict("u") is Verdict.UNKNOWN
    assert not listener.listening.alerts


async def test_a_mass_event_trips_each_policy_once(tmp_path: Path) -> None:
    """640 policies by ten posts of 64 alerts, from two Prometheis, and again."""
    listener = Listener(tmp_path)
    for number in range(640):
        listener.expect(f"p-{number}", polled("load", above="5"))
    batches = [[fire(f"p-{first + n}") for n in range(64)] for first in range(0, 640, 64)]
    async with listener.running() as address, sending(address) as sender:
        posts = [sender.post(DIRECT, batch) for batch in batches for _ in range(2)]
        answers = await asyncio.gather(*posts)
        # Beyond the bound of the path a post is refused, and repeated after the resend delay.
        refused = [b for b, status in zip(batches * 2, answers, strict=True) if status != 200]
        for batch in [*refused, *batches]:
            assert await sender.post(DIRECT, batch) == 200
    counts = listener.listening.alerts
    assert counts[Arrival.BEGAN] == 640
    assert set(counts) == {Arrival.BEGAN, Arrival.REPEATED}
    assert {listener.verdict(f"p-{number}") for number in range(640)} == {Verdict.TRIPPED}


async def test_alertmanagers_webhook_trips_and_resolves(tmp_path: Path) -> None:
    """Alerts of generated rules and of others; what it resolves may have got another start."""
    listener = Listener(tmp_path)
    listener.expect("u", polled("load", above="5"))
    (example,) = (each for each in snippets("yaml", SIGNALS) if "GuardrailDown" in each)
    listener.expect("guard", *yaml.safe_load(example)["signals"])
    down = {"labels": {"alertname": "GuardrailDown", "namespace": "model-serving"}}
    own = {"labels": fire("u")["labels"], "annotations": {VALUE: "500"}}
    over = {"status": "resolved", "startsAt": times.text(1.0), "endsAt": times.text(time.time())}
    async with listener.running() as address, sending(address) as sender:
        assert await sender.post(WEBHOOK, webhook(down, own)) == 200
        assert (listener.verdict("guard"), listener.verdict("u")) == (Verdict.TRIPPED,) * 2
        assert await sender.post(WEBHOOK, webhook(down | over, own | over)) == 200
        (reading,) = listener.watched("guard").readings.values()
        assert reading.reason is Blindness.NEVER_READ
        watchdog = {"labels": {"alertname": "Watchdog"}}
        assert await sender.post(WEBHOOK, webhook(watchdog)) == 200
        await eventually(lambda: _is(listener, "guard", Verdict.CLEAR))
        assert listener.verdict("u") is Verdict.UNKNOWN
        assert await sender.post(WEBHOOK, {"version": "3", "alerts": []}) == 400


async def _is(listener: Listener, uid: str, verdict: Verdict) -> bool:
    return listener.verdict(uid) is verdict


async def _half(address: str, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request with a good token whose body does not come."""
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    fields = (f"Host: {address}", f"Authorization: Bearer {TOKEN}", "Content-Length: 1000000")
    writer.write("\r\n".join((f"POST {path} HTTP/1.1", *fields, "", "[")).encode())
    await writer.drain()
    return reader, writer


async def test_an_alert_path_that_is_full_leaves_the_others_alone(tmp_path: Path) -> None:
    """Its own requests are told to come back; the webhook, samples, events and thresholds go on."""
    listener = Listener(tmp_path)
    async with listener.running() as address, sending(address) as sender:
        held = [await _half(address, DIRECT) for _ in range(8)]

        async def full() -> bool:
            return await sender.post(DIRECT, []) == HTTPStatus.SERVICE_UNAVAILABLE

        await eventually(full)
        body = event_body()
        headers = signed(body, now=time.time())
        assert await sender.post("/v1/events", body, headers) == 202
        assert await sender.post(WEBHOOK, webhook()) == 200
        assert (await sender.thresholds(PROMETHEUS))[0] == 200
        assert await sender.post("/api/v1/write", b"x") != HTTPStatus.SERVICE_UNAVAILABLE
        for _, writer in held:
            writer.close()

        async def free() -> bool:
            return await sender.post(DIRECT, []) == HTTPStatus.OK

        await eventually(free)


@pytest.mark.cluster
async def test_a_flood_of_alerts_starves_neither_events_nor_the_kill_path(
    setting: Bench, tmp_path: Path
) -> None:
    """Who holds Prometheus' token posts as fast as it can; an event stops models all the same."""
    await setting.deployment("vllm", 1)
    misuse = {"name": "misuse", "event": {"type": "guardrail.jailbreak"}, "onNoData": "Hold"}
    await setting.policy("misuse", targets=[VLLM], signals=[misuse])
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"prometheus": [TOKEN], "guard": [KEY]}))
    flood = [fire(f"stranger-{number}") for number in range(64)]
    async with reactor(setting) as running:
        listening = Listening(running.engine, SystemClock(), KeyFile(str(keys)), running.numbers)
        listening.look()
        async with (
            serving(receivers.runner(listening.application())) as (host, port),
            sending(f"{host}:{port}") as sender,
        ):
            stop = asyncio.Event()

            async def pour() -> None:
                while not stop.is_set():
                    await sender.post(DIRECT, flood)

            pouring = [asyncio.create_task(pour()) for _ in range(16)]
            await eventually(lambda: _counted(listening, 1000))
            body = event_body(namespace=setting.namespace)
            headers = signed(body, now=time.time())
            assert await sender.post("/v1/events", body, headers) == 202
            await setting.stopped("misuse-1")
            before = listening.alerts[Arrival.UNKNOWN_POLICY]
            await eventually(lambda: _counted(listening, before + 1))
            stop.set()
            await asyncio.gather(*pouring)
    evidence = await eventually(setting.evidence)
    assert evidence["signals"][0]["path"] == str(Way.EVENT)


async def _counted(listening: Listening, count: int) -> bool:
    return listening.alerts[Arrival.UNKNOWN_POLICY] >= count
