"""The receiver over real sockets: a raw client for what no client would do, and a Prometheus 3."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from killswitch.signals.receiver import PATH, Bounds, application
from killswitch.signals.remote_write import Decoder
from killswitch.signals.series import ENDED, Samples, fresh
from tests.cluster.processes import free_port
from tests.cluster.prometheus import Exporter, Prometheus
from tests.signals import encoding
from tests.signals.encoding import HEADERS

BOUNDS = Bounds(body=2000, seconds=0.4, per_source=2, at_once=3)
BODY = encoding.snappy(encoding.request([({"__name__": "up"}, [(1.0, 5)])]))


class Receiver:
    """A served application and what it delivered, with the time of its arrival."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.port = free_port()
        self.got: list[tuple[float, Samples]] = []
        self.decoder = Decoder()
        self._bounds = bounds
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where to write to."""
        return f"http://127.0.0.1:{self.port}{PATH}"

    async def start(self) -> None:
        """Listen."""
        app = application(self.decoder, self._deliver, self._bounds)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self._runner = runner

    async def stop(self) -> None:
        """Refuse connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _deliver(self, samples: Samples) -> None:
        self.got.append((time.time(), samples))

    def samples(self, name: str, after: int = 0) -> list[tuple[float, float, int]]:
        """Arrival, value and timestamp of that metric's samples, from the given request on."""
        return [
            (arrival, value, timestamp)
            for arrival, samples in self.got[after:]
            for series, value, timestamp in samples
            if series.name == name
        ]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Tight bounds."""
    running = Receiver(BOUNDS)
    await running.start()
    yield running
    await running.stop()


async def post(receiver: Receiver, body: bytes, **headers: str) -> tuple[int, str]:
    """Status and text of one request."""
    merged = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with (
        aiohttp.ClientSession() as session,
        session.post(receiver.url, data=body, headers=merged) as answer,
    ):
        return answer.status, await answer.text()


async def raw(receiver: Receiver, head: str = "", sent: bytes = b"") -> "Raw":
    """A connection on which the request's head and something of its body were sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
    lines = [f"POST {PATH} HTTP/1.1", "Host: x", *(f"{k}: {v}" for k, v in HEADERS.items()), head]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + sent)
    await writer.drain()
    return Raw(reader, writer)


class Raw:
    """A connection by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def status(self) -> int:
        """Of the answer."""
        line = await asyncio.wait_for(self._reader.readline(), 5)
        return int(line.split()[1])

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def test_samples_are_delivered_and_answered_with_204(receiver: Receiver) -> None:
    """One call for each request; none where there is nothing to deliver."""
    assert await post(receiver, BODY) == (204, "")
    assert await post(receiver, encoding.snappy(b"")) == (204, "")
    assert [(value, at) for _, value, at in receiver.samples("up")] == [(1.0, 5)]
    assert len(receiver.got) == 1


async def test_what_cannot_be_taken_is_answered_with_the_errors_status(receiver: Receiver) -> None:
    """And a sentence, which Prometheus logs."""
    assert await post(receiver, BODY, Content_Encoding="gzip") == (
        415,
        "the content encoding is 'gzip', not snappy\n",
    )
    version_2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
    assert (await post(receiver, BODY, Content_Type=version_2))[0] == 415
    assert (await post(receiver, b"rubbish"))[0] == 400
    assert await post(receiver, bytes(2001)) == (413, "2001 bytes exceed 2000\n")
    assert receiver.got == []


async def test_a_body_without_a_length_is_bounded_too(receiver: Receiver) -> None:
    """A chunked one may go on for ever."""
    chunk = b"258\r\n" + bytes(600) + b"\r\n"
    connection = await raw(receiver, "Transfer-Encoding: chunked", chunk * 4)
    assert await connection.status() == 413
    connection.close()


async def test_a_body_that_never_ends_is_given_up(receiver: Receiver) -> None:
    """After the time that a body may take; its place is free again."""
    started = time.monotonic()
    connection = await raw(receiver, f"Content-Length: {len(BODY)}", BODY[:-1])
    assert await connection.status() == 408
    assert 0.3 < time.monotonic() - started < 2
    connection.close()
    assert await post(receiver, BODY) == (204, "")


async def test_one_source_cannot_take_all_places(receiver: Receiver) -> None:
    """What exceeds its share is told to come again: 503, which Prometheus retries."""
    held = [await raw(receiver, "Content-Length: 9", b"x") for _ in range(BOUNDS.per_source)]
    await asyncio.sleep(0.1)
    assert (await post(receiver, BODY))[0] == 503
    for each in held:
        each.close()
    await asyncio.sleep(0.1)
    assert (await post(receiver, BODY))[0] == 204


async def until(good: Callable[[], bool], within: float = 30.0) -> None:
    """Return when it holds."""
    deadline = time.monotonic() + within
    while not good():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


async def test_a_real_prometheus_is_understood(tmp_path: Path) -> None:
    """Samples, the end of a series, and a replay after the receiver was away."""
    receiver, exporter = Receiver(), Exporter()
    await receiver.start()
    exporter.set("tokens_total", 7.0, model="llama", note='say "hi"\n')
    exporter.set("steady", 0.0)
    for number in range(50):
        exporter.set("many", number, number=str(number))
    prometheus = Prometheus(tmp_path, {exporter.address: {}}, remote_write=receiver.url)
    try:
        await asyncio.to_thread(prometheus.start)
        await until(lambda: len(receiver.samples("tokens_total")) >= 5)
        arrival, value, timestamp = receiver.samples("tokens_total")[-1]
        assert value == 7.0
        assert fresh(timestamp, arrival, 1.0)
        [series] = {s for _, samples in receiver.got for s in samples.series if s.name == "steady"}
        assert dict(series.labels) == {"instance": exporter.address, "job": "models"}
        [series] = {
            s for _, samples in receiver.got for s in samples.series if s.name == "tokens_total"
        }
        assert dict(series.labels)["note"] == 'say "hi"\n'
        assert receiver.decoder.statistics.in_runs > 0, "a real sender repeats the order of series"
        assert receiver.decoder.statistics.parsed == len(
            {series.key for _, samples in receiver.got for series in samples.series}
        )

        exporter.remove("tokens_total", model="llama", note='say "hi"\n')
        await until(lambda: receiver.samples("tokens_total")[-1][1] is ENDED)
        ended = [value is ENDED for _, value, _ in receiver.samples("tokens_total")]
        assert ended.count(True) == 1
        assert receiver.got[-1][1].values

        await receiver.stop()
        before, away = len(receiver.got), time.time()
        exporter.set("missed", 99.0)
        await asyncio.sleep(1.0)
        exporter.set("missed", 1.0)
        await asyncio.sleep(2.0)
        await receiver.start()
        back = time.time()
        await until(
            lambda: any(fresh(at, now, 0.5) for now, _, at in receiver.samples("missed", before))
        )
        replayed = receiver.samples("missed", before)
        assert 99.0 in [value for _, value, _ in replayed], "the outage was not replayed"
        assert all(away - 1 < at / 1000 < back for _, value, at in replayed if value == 99.0)
        fired = [value for now, value, at in replayed if value > 50 and fresh(at, now, 0.5)]
        assert fired == []
        assert replayed[-1][1] == 1.0
    finally:
        await asyncio.to_thread(prometheus.stop, kill=True)
        exporter.close()
        await receiver.stop()
