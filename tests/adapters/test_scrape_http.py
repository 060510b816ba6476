"""Real HTTP servers, prometheus_client's own among them, and what no honest one does."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from killswitch.adapters.scrape_http import MOST_BYTES, ScrapeHttp
from killswitch.core.readings import Blindness, NoAnswer
from killswitch.ports import Exposed, Place, Scraper
from tests.adapters.foreign_server import ForeignServer, serving
from tests.cluster.processes import free_port

TEXT = "text/plain; version=0.0.4; charset=utf-8"
WITHIN = 5.0


@pytest.fixture
async def scraper() -> AsyncIterator[ScrapeHttp]:
    """The adapter with its defaults."""
    async with ScrapeHttp() as running:
        yield running


@pytest.fixture
def server() -> Iterator[ForeignServer]:
    """A server that answers what it is told to."""
    with serving() as running:
        running.answer(200, b"up 1\n", TEXT)
        yield running


def place(server: ForeignServer, path: str = "/metrics") -> Place:
    """Where it listens."""
    return Place("127.0.0.1", urlsplit(server.url).port or 0, path)


async def fault(scraper: Scraper, where: Place, within: float = WITHIN) -> NoAnswer:
    """Why there was nothing."""
    found = await scraper.scrape(where, (), within)
    assert isinstance(found, NoAnswer), found
    return found


def registry() -> CollectorRegistry:
    """A gauge that is wanted and one that is not."""
    made = CollectorRegistry()
    Gauge("running", "x", registry=made).set(3)
    Gauge("other", "x", registry=made).set(4)
    return made


@contextmanager
def official(**more: Any) -> Iterator[Place]:
    """prometheus_client's own server."""
    port = free_port()
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry(), **more)
    try:
        yield Place("127.0.0.1", port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


async def test_prometheus_client_is_asked_for_everything_or_for_names(scraper: ScrapeHttp) -> None:
    """As OpenMetrics, like Prometheus does: names are then the same in both."""
    with official() as where:
        everything = await scraper.scrape(where, (), WITHIN)
        named = await scraper.scrape(where, ("running", "absent"), WITHIN)
    assert isinstance(everything, Exposed)
    assert everything.openmetrics
    assert b"running 3.0\n" in everything.body
    assert b"other 4.0\n" in everything.body
    assert isinstance(named, Exposed)
    assert b"running 3.0\n" in named.body
    assert b"other" not in named.body


async def test_one_connection_is_kept(scraper: ScrapeHttp, server: ForeignServer) -> None:
    """Path and query are the policy's; nothing of the environment is sent."""
    for _ in range(5):
        found = await scraper.scrape(place(server, "/v1/metrics?format=prom"), ("up",), WITHIN)
        assert found == Exposed(b"up 1\n")
    assert len(server.clients) == 1
    request = server.requests[-1]
    assert request["path"] == "/v1/metrics"
    assert request["query"] == {"format": ["prom"], "name[]": ["up"]}
    assert request["headers"]["Accept-Encoding"] == "identity"
    assert not request["headers"].keys() & {"Authorization", "Cookie"}


async def test_the_environments_proxy_is_not_used(
    scraper: ScrapeHttp, server: ForeignServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pods are asked where they are."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert isinstance(await scraper.scrape(place(server), (), WITHIN), Exposed)


@pytest.mark.parametrize("status", [301, 302, 307, 204, 401, 404, 500, 503])
async def test_other_statuses_are_refused(
    scraper: ScrapeHttp, server: ForeignServer, status: int
) -> None:
    """A redirect most of all: it would lead the reactor wherever the pod likes."""
    server.headers["Location"] = f"{server.url}/elsewhere"
    server.answer(status, b"" if status == 204 else b"up 1\n", TEXT)
    found = await fault(scraper, place(server))
    assert (found.reason, found.detail) == (Blindness.BAD_ANSWER, f"status {status}")
    assert [each["path"] for each in server.requests] == ["/metrics"]


async def test_what_is_not_text_is_refused(scraper: ScrapeHttp, server: ForeignServer) -> None:
    """A login page, bytes that are compressed though nobody asked for that."""
    server.answer(200, b"<html>up 1\n</html>", "text/html")
    assert (await fault(scraper, place(server))).detail == "not metrics: text/html"
    server.answer(200, b"\x1f\x8b", TEXT)
    server.headers["Content-Encoding"] = "gzip"
    assert (await fault(scraper, place(server))).reason is Blindness.BAD_ANSWER


async def test_a_slow_answer_and_one_that_drips_end_at_the_deadline(
    scraper: ScrapeHttp, server: ForeignServer
) -> None:
    """And the next one is not taken from what is left of it."""
    server.pause = 0.1
    server.body = b"up 1\n" * 100
    assert (await fault(scraper, place(server), 0.3)).reason is Blindness.TIMEOUT
    server.pause = 0.0
    server.body = b"up 2\n"
    assert await scraper.scrape(place(server), (), WITHIN) == Exposed(b"up 2\n")


async def test_a_body_that_never_ends_is_cut_off(scraper: ScrapeHttp) -> None:
    """By its size, long before its deadline."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": TEXT})
        await response.prepare(request)
        while True:
            await response.write(b"up 1\n" * 10_000)

    app = web.Application()
    app.router.add_get("/metrics", endless)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found = await fault(scraper, Place("127.0.0.1", runner.addresses[0][1]), 60.0)
    finally:
        await runner.cleanup()
    assert (found.reason, found.detail) == (Blindness.BAD_ANSWER, f"more than {MOST_BYTES} bytes")


async def test_a_length_beyond_the_bound_is_refused_unread(
    scraper: ScrapeHttp, server: ForeignServer
) -> None:
    """What is announced need not be read to be too much."""
    server.short_by = MOST_BYTES
    assert (await fault(scraper, place(server))).reason is Blindness.BAD_ANSWER


async def test_half_an_answer_is_none(scraper: ScrapeHttp, server: ForeignServer) -> None:
    """The connection ends before the length that was announced."""
    server.short_by = 10
    assert (await fault(scraper, place(server))).reason is Blindness.UNREACHABLE


async def test_nobody_there(scraper: ScrapeHttp) -> None:
    """Refused is told as such."""
    found = await fault(scraper, Place("127.0.0.1", free_port()))
    assert found.reason is Blindness.UNREACHABLE
    assert "refused" in found.detail.lower() or "Connect call failed" in found.detail


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"\n", b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", b"HTTP/9 nope\r\n\r\n",
     b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n"],
)  # fmt: skip
async def test_no_http_at_all(scraper: ScrapeHttp, rubbish: bytes) -> None:
    """Never an exception: not knowing is an answer too."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(rubbish)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        where = Place("127.0.0.1", listening.sockets[0].getsockname()[1])
        found = await fault(scraper, where)
    assert found.reason in {Blindness.UNREACHABLE, Blindness.BAD_ANSWER}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate of a Service, which is its own authority, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = str(folder / "tls.crt"), str(folder / "tls.key")
    names = "subjectAltName=DNS:vllm.prod.svc"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=x", "-addext", names]
    subprocess.run(
        [*command, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True
    )
    return files


@pytest.mark.parametrize(
    ("tls", "verified", "trusted", "answers"),
    [
        ("vllm.prod.svc", True, True, True),
        ("vllm.prod.svc", True, False, False),
        ("other.prod.svc", True, True, False),
        ("other.prod.svc", False, False, True),
    ],
    ids=["right", "unknown authority", "another name", "not checked"],
)
async def test_https(
    certificate: tuple[str, str], tls: str, verified: bool, trusted: bool, answers: bool
) -> None:
    """By the Service's name and the given authorities, unless the policy does not want to know."""
    ca_file = certificate[0] if trusted else ""
    with official(certfile=certificate[0], keyfile=certificate[1]) as where:
        async with ScrapeHttp(ca_file=ca_file) as scraper:
            secure = Place(where.host, where.port, "/metrics", tls, verified)
            found = await scraper.scrape(secure, (), WITHIN)
    if answers:
        assert isinstance(found, Exposed)
    else:
        assert isinstance(found, NoAnswer)
        assert found.reason is Blindness.UNREACHABLE
        assert "certificate" in found.detail.lower()


async def test_the_token_is_for_those_who_prove_who_they_are(
    server: ForeignServer, tmp_path: Path
) -> None:
    """Never in the clear, never to a pod whose certificate nobody checks."""
    file = tmp_path / "token"
    file.write_text("a-token\n")
    async with ScrapeHttp(token_file=str(file)) as scraper:
        assert isinstance(await scraper.scrape(place(server), (), WITHIN), Exposed)
        assert "Authorization" not in server.requests[0]["headers"]
        assert scraper._headers(Place("10.0.0.1", 1, "/", "a.b.svc", verified=False)) is None
        sent = scraper._headers(Place("10.0.0.1", 1, "/", "a.b.svc"))
    assert sent == {"Authorization": "Bearer a-token"}
    async with ScrapeHttp(token_file=str(tmp_path / "absent")) as scraper:
        found = await fault(scraper, Place("127.0.0.1", 1, "/", "a.b.svc"))
    assert "absent" in found.detail


class Silent(asyncio.Protocol):
    """Takes a request and says nothing."""

    def __init__(self, connections: list[asyncio.BaseTransport]) -> None:
        self.connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it open."""
        self.connections.append(transport)


async def test_a_hundred_that_hang_do_not_delay_another(
    scraper: ScrapeHttp, server: ForeignServer
) -> None:
    """No bound is shared: each is one connection."""
    connections: list[asyncio.BaseTransport] = []
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Silent(connections), "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        places = [Place("127.0.0.1", port, f"/{number}") for number in range(100)]
        hanging = [asyncio.create_task(scraper.scrape(each, (), 60.0)) for each in places]
        while len(connections) < 100:
            await asyncio.sleep(0.01)
        assert isinstance(await scraper.scrape(place(server), (), WITHIN), Exposed)
        assert not any(each.done() for each in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        for connection in connections:
            connection.close()
        await asyncio.sleep(0)
