"""A TCP proxy on loopback before a real server, for what a network does to connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Proxy:
    """Passes bytes on until told otherwise."""

    target: str
    url: str = ""
    accepted: int = 0
    """Connections so far."""
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    passes: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether bytes are passed on."""

    def drop_all(self) -> None:
        """Reset every connection, as a server or a load balancer does with idle ones."""
        for writer in self._open:
            writer.transport.abort()

    def swallow(self) -> None:
        """Take connections and bytes, and pass nothing on: a host that has frozen."""
        self.passes.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.accepted += 1
        where = urlsplit(self.target)
        try:
            there, back = await asyncio.open_connection(where.hostname, where.port)
        except OSError:  # the server is gone: so is this connection
            writer.transport.abort()
            return
        self._open |= {writer, back}
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        self._open -= {writer, back}

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                await self.passes.wait()
                sink.write(data)
                await sink.drain()
        sink.transport.abort()


@contextlib.asynccontextmanager
async def proxied(target: str) -> AsyncIterator[Proxy]:
    """A proxy before this URL, with the same scheme."""
    proxy = Proxy(target)
    proxy.passes.set()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy.url = f"{urlsplit(target).scheme}://127.0.0.1:{port}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        proxy.drop_all()
        await asyncio.gather(*tasks, return_exceptions=True)
