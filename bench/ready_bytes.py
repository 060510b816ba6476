"""The physical limit: requests as ready bytes on warm TLS connections, nothing else.

No framework, no parsing beyond what finds the end of an answer. What killswitch takes longer
than this is killswitch's own.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from killswitch.core.resources import PODS


@dataclass
class Connection:
    """One warm connection that sends bytes and waits for the answer's end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, request: bytes) -> int:
        """The status of the answer, read to its end."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        lowered = head.lower()
        if b"content-length:" in lowered:
            length = int(lowered.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            await self.reader.readexactly(length)
            return status
        while True:  # chunked
            size = int(await self.reader.readline(), 16)
            await self.reader.readexactly(size + 2)
            if size == 0:
                return status

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()


async def connect(server: str, tls: ssl.SSLContext | None) -> Connection:
    """A connection that is ready to send."""
    where = urlsplit(server)
    reader, writer = await asyncio.open_connection(
        where.hostname, where.port, ssl=tls, server_hostname=where.hostname if tls else None
    )
    return Connection(reader, writer)


@dataclass
class Pool:
    """Warm connections that share what is to be sent."""

    connections: list[Connection]

    async def send_all(self, requests: Sequence[bytes]) -> list[int]:
        """The statuses, in the order of the requests; each connection takes the next that waits."""
        statuses = [0] * len(requests)
        waiting = iter(enumerate(requests))

        async def pull(connection: Connection) -> None:
            for number, each in waiting:
                statuses[number] = await connection.send(each)

        async with asyncio.TaskGroup() as group:
            for connection in self.connections:
                group.create_task(pull(connection))
        return statuses


@contextlib.asynccontextmanager
async def pool(server: str, tls: ssl.SSLContext | None, size: int) -> AsyncIterator[Pool]:
    """That many connections, ready to send."""
    opened = await asyncio.gather(*(connect(server, tls) for _ in range(size)))
    try:
        yield Pool(list(opened))
    finally:
        for connection in opened:
            connection.close()


def request(method: str, path: str, authorization: str, body: object | None = None) -> bytes:
    """The complete bytes of a request."""
    data = b"" if body is None else orjson.dumps(body)
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: kubernetes\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: {kind}\r\nAccept: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def delete_pod(namespace: str, name: str, uid: str, authorization: str) -> bytes:
    """The request that a stop sends for one pod."""
    options = {"gracePeriodSeconds": 1, "preconditions": {"uid": uid}}
    return request("DELETE", PODS.path(namespace, name), authorization, options)
