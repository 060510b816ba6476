"""Receivers on a real loopback socket: bounds of bytes, of time and of number, and who is told."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from killswitch.adapters.clock import SystemClock
from killswitch.signals import alerts
from killswitch.signals import web as receivers
from killswitch.signals.alerts import Batch
from killswitch.signals.events import WINDOW, Event, Keys
from killswitch.signals.keys import BearerTokens, SigningKeys
from killswitch.signals.limits import Limits, Rate
from killswitch.signals.nonces import Nonces
from killswitch.signals.refusals import Reason
from killswitch.signals.web import ACCEPTED, Accepted, Bounds, Counts, Receiver
from tests.signals.served import KEY, TOKEN, event_body, raw, served, signed, snippets

BEARER = {"Authorization": f"Bearer {TOKEN}"}
ECHO = "/echo"


def echo(bounds: Bounds, path: str = ECHO) -> Receiver:
    """Takes everything."""
    return Receiver(path, bounds, lambda _, __: Accepted())


def head(path: str, *fields: str) -> bytes:
    """A request head."""
    return "\r\n".join((f"POST {path} HTTP/1.1", "Host: x", *fields, "", "")).encode()


def alerts_with(delivered: list[Batch], **options: Any) -> Receiver:
    """Prometheus's path with one token."""
    tokens = BearerTokens({"prometheus": [TOKEN]})
    return receivers.alerts_receiver(delivered.append, tokens=lambda: tokens, **options)


def events_with(deliver: Any, *, source: str = "guard", rate: Rate | None = None) -> Receiver:
    """The events path with one source."""
    return receivers.events_receiver(
        deliver,
        keys=lambda: Keys(SigningKeys({source: [KEY]}), BearerTokens({})),
        seen=Nonces(window=WINDOW),
        limits=Limits(rate or Rate(100.0, 100)),
        clock=SystemClock(),
    )


async def post(
    address: tuple[str, int], path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON body of an answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{address[0]}:{address[1]}{path}", data=body, headers=headers) as got,
    ):
        text = await got.text()
        return got.status, dict(got.headers), json.loads(text) if text else None


async def test_alerts_need_a_token_before_their_body_is_read() -> None:
    """Both formats, each on its path."""
    delivered: list[Batch] = []
    manager = alerts_with(
        delivered, path=receivers.ALERTMANAGER_PATH, parse=alerts.from_alertmanager
    )
    counts: Counts = Counter()
    async with served(alerts_with(delivered), manager, counts=counts) as address:
        assert (await post(address, "/api/v2/alerts", b"[]", BEARER))[0] == 200
        webhook = b'{"version": "4", "alerts": []}'
        assert (await post(address, "/v1/alertmanager", webhook, BEARER))[0] == 200
        assert delivered == [Batch(()), Batch(())]
        status, _, content = await post(address, "/api/v2/alerts", b"{}", BEARER)
        assert (status, content["reason"]) == (400, "Malformed")
        status, headers, content = await post(address, "/api/v2/alerts", b"[]", {})
        assert (status, content["reason"]) == (401, "NoCredentials")
        assert headers["WWW-Authenticate"] == "Bearer"
        # It is answered although the body never comes.
        unknown = head("/api/v2/alerts", "Authorization: Bearer wrong", "Content-Length: 9")
        assert b"BadCredentials" in await raw(address, unknown)
    assert len(delivered) == 2
    assert counts == {
        ("/api/v2/alerts", ACCEPTED): 1,
        ("/v1/alertmanager", ACCEPTED): 1,
        ("/api/v2/alerts", Reason.MALFORMED): 1,
        ("/api/v2/alerts", Reason.NO_CREDENTIALS): 1,
        ("/api/v2/alerts", Reason.BAD_CREDENTIALS): 1,
    }


async def test_an_event_is_delivered_once() -> None:
    """The second time it is told that it was received."""
    delivered: list[Event] = []
    body = event_body(namespace="prod")
    headers = signed(body, now=time.time())
    async with served(events_with(delivered.append)) as address:
        assert (await post(address, "/v1/events", body, headers))[0] == 202
        status, _, content = await post(address, "/v1/events", body, headers)
        assert (status, content["reason"]) == (409, "Replayed")
    assert [each.namespace for each in delivered] == ["prod"]


async def test_a_rate_limited_sender_is_told_when_to_come_back() -> None:
    """In whole seconds."""
    async with served(events_with(lambda _: None, rate=Rate(0.1, 1))) as address:
        for number, expected in ((1, 202), (2, 429)):
            body = event_body()
            headers = signed(body, now=time.time(), id_=f"n-{number}")
            status, answered, _ = await post(address, "/v1/events", body, headers)
            assert status == expected
        assert answered["Retry-After"] == "10"


async def test_what_could_not_be_delivered_may_be_sent_again() -> None:
    """The sender hears of it, the log says why, the id is free."""
    delivered: list[Event] = []

    def deliver(event: Event) -> None:
        if not delivered:
            delivered.append(event)
            raise RuntimeError("full")
        delivered.append(event)

    body = event_body()
    headers = signed(body, now=time.time())
    async with served(events_with(deliver)) as address:
        with capture_logs() as logs:
            status, _, content = await post(address, "/v1/events", body, headers)
        assert (status, content["reason"], len(logs)) == (500, "Failed", 1)
        assert "full" not in json.dumps(content)
        assert (await post(address, "/v1/events", body, headers))[0] == 202


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_beyond_the_bound_is_cut_off(chunked: bool) -> None:
    """With a length it is not read at all, without one it is read up to the bound."""
    counts: Counts = Counter()
    async with served(echo(Bounds(body=1000)), counts=counts) as address:
        if chunked:
            parts = [head(ECHO, "Transfer-Encoding: chunked"), b"400\r\n", b"x" * 1024]
        else:
            parts = [head(ECHO, "Content-Length: 1001")]
        answer = await raw(address, *parts)
        assert b" 413 " in answer
        assert b"TooLarge" in answer
        whole = head(ECHO, "Content-Length: 1000", "Connection: close") + b"x" * 1000
        assert b" 200 " in await raw(address, whole)
    assert counts == {(ECHO, Reason.TOO_LARGE): 1, (ECHO, ACCEPTED): 1}


async def test_a_body_that_never_ends_is_cut_off() -> None:
    """Also while it trickles: the time is that of the whole body."""
    counts: Counts = Counter()
    async with served(echo(Bounds(body=1000, seconds=0.3)), counts=counts) as address:
        answer = await raw(address, head(ECHO, "Content-Length: 10") + b"x")
        assert b"TooSlow" in answer
        reader, writer = await asyncio.open_connection(*address)
        writer.write(head(ECHO, "Content-Length: 1000"))
        trickle = asyncio.create_task(_trickle(writer))
        async with asyncio.timeout(20):
            # A byte that arrives after the end resets the connection, and the answer with it: what
            # counts is that it ended, and for which reason.
            with contextlib.suppress(ConnectionResetError):
                assert b"TooSlow" in await reader.read()
        trickle.cancel()
        writer.close()
    assert counts == {(ECHO, Reason.TOO_SLOW): 2}


async def _trickle(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.05)


async def test_a_head_that_never_ends_is_cut_off() -> None:
    """The connection is closed without an answer."""
    async with served(echo(Bounds(body=10)), idle_seconds=0.3) as address:
        assert await raw(address, b"POST /echo HTTP/1.1\r\nHost: x\r\n") == b""
        assert await raw(address, b"") == b""


async def test_an_early_end_of_the_body_delivers_nothing() -> None:
    """Half an event is none."""
    counts: Counts = Counter()
    async with served(echo(Bounds(body=1000)), counts=counts) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.write(head(ECHO, "Content-Length: 10") + b"half")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(20):
            while not counts:
                await asyncio.sleep(0.02)
    assert ACCEPTED not in {outcome for _, outcome in counts}


async def test_compressed_bodies_are_refused_where_nobody_asked_for_them() -> None:
    """And are never unpacked on the way: a receiver gets the bytes that were sent."""
    got: list[bytes] = []

    def receive(_: object, body: bytes) -> Accepted:
        got.append(body)
        return Accepted()

    packed = Receiver("/packed", Bounds(body=100), receive, encodings=frozenset({"gzip"}))
    async with served(echo(Bounds(body=100)), packed) as address:
        fields = {"Content-Encoding": "gzip"}
        status, _, content = await post(address, ECHO, b"\x1f\x8b...", fields)
        assert (status, content["reason"]) == (415, "Encoded")
        assert (await post(address, "/packed", b"\x1f\x8b...", fields))[0] == 200
    assert got == [b"\x1f\x8b..."]


async def test_a_flood_on_one_path_does_not_starve_another() -> None:
    """Bodies that are awaited fill the first path's bound; the second answers all the same."""
    counts: Counts = Counter()
    slow, other = echo(Bounds(body=10, seconds=60.0, in_flight=5)), "/other"
    async with served(slow, echo(Bounds(body=10), other), counts=counts) as address:
        flood = [await asyncio.open_connection(*address) for _ in range(40)]
        for _, writer in flood:
            writer.write(head(ECHO, "Content-Length: 1", "Connection: close"))
        async with asyncio.timeout(30):
            while counts[ECHO, Reason.TOO_MANY_IN_FLIGHT] < 35:
                await asyncio.sleep(0.02)
            assert (await post(address, other, b"x", {}))[0] == 200
            for _, writer in flood:
                writer.write(b"x")
            answers = [await _rest(*each) for each in flood]
        assert sum(b" 200 " in each for each in answers) == 5
        assert (await post(address, ECHO, b"x", {}))[0] == 200
    assert counts == {
        (ECHO, Reason.TOO_MANY_IN_FLIGHT): 35,
        (ECHO, ACCEPTED): 6,
        (other, ACCEPTED): 1,
    }


async def _rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """What was answered; a refused connection may have been reset by bytes that came too late."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_full_path_says_when_to_come_back() -> None:
    """As 503, which senders take for a reason to repeat."""
    async with served(echo(Bounds(body=10, in_flight=0))) as address:
        status, headers, content = await post(address, ECHO, b"x", {})
        assert (status, content["reason"]) == (503, "TooManyInFlight")
        assert headers["Retry-After"] == "1"


async def test_random_bytes_are_answered_or_cut_off() -> None:
    """And the server goes on."""
    async with served(echo(Bounds(body=10, seconds=0.3)), idle_seconds=0.3) as address:
        for garbage in (
            b"\x16\x03\x01" + b"\0" * 50,
            b"\r\n" * 20,
            b"POST " + b"x" * 9000,
            b"\xff",
        ):
            await raw(address, garbage)
        assert (await post(address, ECHO, b"x", {}))[0] == 200


async def test_other_paths_and_methods_do_not_exist() -> None:
    """Nothing but what was mounted."""
    async with served(echo(Bounds(body=10))) as address:
        assert b" 404 " in await raw(address, head("/", "Content-Length: 0", "Connection: close"))
        get = b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert b" 405 " in await raw(address, get)


@pytest.mark.parametrize("language", ["bash", "python"])
async def test_the_snippets_of_the_document_send_an_event(language: str) -> None:
    """Run as they are written there."""
    delivered: list[Event] = []
    (snippet,) = snippets(language)
    command = ["bash", "-euc", snippet] if language == "bash" else [sys.executable, "-c", snippet]
    async with served(events_with(delivered.append, source="llm-guard")) as (host, port):
        environment = {
            "KEY": KEY,
            "URL": f"http://{host}:{port}/v1/events",
            "PATH": "/usr/bin:/bin",
        }
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [each.type for each in delivered] == ["guardrail.jailbreak"]
