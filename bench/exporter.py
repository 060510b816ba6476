"""`python -m bench.exporter LINES PODS`: model servers' metrics on loopback addresses, fast.

Prints its port. It answers `?name[]=` with the one metric, as prometheus_client does, and with all
lines otherwise, or always with `plain`. A number on standard input becomes the metric's value; the
moment from which it is exposed (monotonic, the same clock for all processes) is printed.
"""

import asyncio
import sys
import time
from typing import cast

import uvloop

METRIC = "bench_runaway"
_SHARE = 5


def addresses(count: int) -> list[str]:
    """One for each pod."""
    return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(count)]


def lines(count: int, more: str = "") -> bytes:
    """So many lines as a busy model server writes them, with more labels if given."""
    written = []
    for number in range(count // _SHARE):
        name = f"server_metric_{number:04}"
        written.append(f"# HELP {name} What it says.\n# TYPE {name} gauge\n")
        written += [
            f'{name}{{model_name="meta-llama/Llama-3.1-70B",engine="{engine}"{more}}} {number * 1.37}\n'
            for engine in range(_SHARE)
        ]
    return "".join(written).encode()


class Exporter(asyncio.Protocol):
    """One kept connection. A scrape is one segment, so it is one call."""

    rest = b""
    sample = b""
    plain = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own has no such base

    def data_received(self, data: bytes) -> None:
        """Answer."""
        line = data.partition(b"\r\n")[0]
        named = b"name" in line and not self.plain
        body = self.sample if named else self.rest + self.sample
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )


def _set(value: str) -> None:
    head = f"# HELP {METRIC} x\n# TYPE {METRIC} gauge\n{METRIC}"
    Exporter.sample = f'{head}{{model_name="a"}} {value}\n'.encode()


async def main() -> None:
    """Serve until standard input ends."""
    Exporter.rest = lines(int(sys.argv[1]))
    Exporter.plain = "plain" in sys.argv
    _set("0")
    loop = asyncio.get_running_loop()
    first, *others = addresses(int(sys.argv[2]))
    server = await loop.create_server(Exporter, first, 0)
    port = server.sockets[0].getsockname()[1]
    for each in others:
        await loop.create_server(Exporter, each, port)
    print(port, flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        _set(line.decode().strip())
        print(time.monotonic(), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
