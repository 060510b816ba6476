"""The API server over one kept connection per thread, with nothing but the standard library.

Every answer of the API server, refusals included, counts as contact (`Contact`); every failure is
one of `core.errors`. A cut link is noticed by the kernel after about ten seconds (`_KEEPALIVE`), by
`cut` of another thread at once.
"""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from killswitch.core.errors import (
    KillSwitchError,
    TimedOutError,
    UnavailableError,
    of_answer,
)

Json = dict[str, Any]
Mapped = Mapping[str, Any]

_APPLY = "application/apply-patch+yaml"
JSON = "application/json"
METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
"""Accept header of objects without spec and status; with `List` in it of lists."""

_CONNECT = 5.0
"""Seconds for a connection with its TLS handshake."""
_ANSWER = 15.0
"""Seconds for an answer to anything but a watch."""
_SILENCE = 75.0
"""Seconds without a line on a watch (bookmarks come every minute) after which it counts as dead."""
_CHUNK = 1 << 16
_KEEPALIVE = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 4),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000),
)


@dataclass(frozen=True, slots=True)
class Server:
    """An API server and what is needed to talk to it; files are read again when they change."""

    url: str
    ca_file: Path
    token_file: Path


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Mapped = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapped | None = None
    timeout: float = _ANSWER

    @property
    def target(self) -> str:
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    @property
    def data(self) -> str | None:
        return None if self.body is None else json.dumps(self.body, separators=(",", ":"))


@dataclass(slots=True)
class Contact:
    """When the API server last answered anything, by a clock that nobody sets."""

    clock: Callable[[], float]
    at: float = float("-inf")

    def heard(self) -> None:
        """It has answered just now."""
        self.at = self.clock()


class Session:
    """One connection, for one thread; only `cut` may be called by others."""

    def __init__(self, server: Server, contact: Contact) -> None:
        """Connects at the first request."""
        self._server = server
        self._contact = contact
        self._connection: HTTPSConnection | None = None
        self._lock = threading.Lock()

    def get(self, path: str, query: Mapped, accept: str = JSON) -> Json:
        """An object or a list."""
        return self._call(_Request("GET", path, query, {"Accept": accept}))

    def create(self, path: str, body: Mapped) -> Json:
        """POST an object to its collection."""
        return self._call(_Request("POST", path, {}, {"Content-Type": JSON}, body))

    def apply(self, path: str, body: Mapped, manager: str) -> Json:
        """Server-side apply, also of a subresource; what others wrote there is taken over."""
        query = {"fieldManager": manager, "force": "true"}
        return self._call(_Request("PATCH", path, query, {"Content-Type": _APPLY}, body))

    def ping(self, timeout: float) -> None:
        """Return when anything answers, be it a refusal; UnavailableError when nothing does."""
        self._body(self._send(_Request("GET", "/livez", timeout=timeout)))

    def watch(self, path: str, query: Mapped, accept: str) -> Iterator[Json]:
        """Changes as they come, bookmarks included, until the server ends the watch.

        The watch is open when this returns: from then on `cut` ends it.
        """
        response = self._send(_Request("GET", path, query, {"Accept": accept}))
        if response.status != 200:
            raise _failure(response.status, self._body(response))
        self._patient(_SILENCE)
        return self._events(response)

    def cut(self) -> None:
        """End whatever this session is waiting for; it connects anew at the next request."""
        with self._lock:
            open_socket = self._connection.sock if self._connection else None
            if open_socket is not None:
                # Not the TLS socket's own `shutdown`, which takes its state from under the reader.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(open_socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _call(self, request: "_Request") -> Json:
        response = self._send(request)
        raw = self._body(response)
        if response.status >= 300:
            raise _failure(response.status, raw)
        return _decoded(raw)

    def _send(self, request: "_Request") -> HTTPResponse:
        """The head of the answer. A kept connection that turns out closed is replaced once."""
        kept = self._connection is not None
        try:
            return self._exchange(request)
        except TimedOutError:
            raise
        except UnavailableError:
            if not kept:
                raise
            return self._exchange(request)

    def _exchange(self, request: "_Request") -> HTTPResponse:
        with self._failing():
            connection = self._open(min(request.timeout, _CONNECT))
            self._patient(request.timeout)
            headers = {**self._standing(), **request.headers}
            connection.request(request.method, request.target, request.data, headers)
            response = connection.getresponse()
        self._contact.heard()
        return response

    def _open(self, timeout: float) -> HTTPSConnection:
        if self._connection is None:
            where = urlsplit(self._server.url)
            # Anew each time: the CA may have been rotated.
            tls = ssl.create_default_context(cafile=str(self._server.ca_file))
            connection = HTTPSConnection(
                where.hostname or "", where.port or 443, context=tls, timeout=timeout
            )
            try:
                connection.connect()
                for option in _KEEPALIVE:
                    connection.sock.setsockopt(*option)
            except BaseException:
                connection.close()
                raise
            with self._lock:
                self._connection = connection
        return self._connection

    def _standing(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._server.token_file.read_text().strip()}"}

    def _patient(self, timeout: float) -> None:
        connection = self._connection
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(timeout)

    def _body(self, response: HTTPResponse) -> bytes:
        with self._failing():
            return response.read()

    def _events(self, response: HTTPResponse) -> Iterator[Json]:
        try:
            yield from self._lines(response)
        finally:
            # What is left of the stream would be read as the answer to the next request.
            self.close()

    def _lines(self, response: HTTPResponse) -> Iterator[Json]:
        rest = b""
        while True:
            with self._failing():
                chunk = response.read1(_CHUNK)
            if not chunk:
                return
            self._contact.heard()
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (_decoded(line) for line in lines if line)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Every failure of the network as one of `core.errors`, with the connection closed."""
        try:
            yield
        except TimeoutError as error:
            self.close()
            raise TimedOutError(f"{self._server.url} does not answer") from error
        except (HTTPException, OSError, ValueError) as error:
            self.close()
            raise UnavailableError(
                f"{self._server.url}: {str(error) or type(error).__name__}"
            ) from error


def _decoded(raw: bytes) -> Json:
    try:
        found = json.loads(raw)
    except ValueError as error:
        raise UnavailableError(f"the answer is no JSON: {raw[:80]!r}") from error
    return found if isinstance(found, dict) else {"value": found}


def failure_of(status: Mapped) -> KillSwitchError:
    """The error that a watch's `ERROR` event carries."""
    return _answered(int(status.get("code", 0)), str(status.get("message", "")))


def _failure(code: int, raw: bytes) -> KillSwitchError:
    try:
        message = str(json.loads(raw)["message"])
    except (ValueError, KeyError, TypeError):
        message = raw[:200].decode(errors="replace")
    return _answered(code, message)


def _answered(code: int, message: str) -> KillSwitchError:
    return of_answer(code, f"{code}: {message}")
