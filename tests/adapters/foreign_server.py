"""An HTTP server that answers what a test tells it, for faults no Prometheus shows on request."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

JSON = "application/json"


@dataclass
class ForeignServer:
    """Its next answers, and what it was asked."""

    status: int = 200
    content_type: str = JSON
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    """Seconds between two bytes of the body; 0 sends it at once."""
    short_by: int = 0
    """Bytes that Content-Length promises and that never come."""
    pages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Path → the JSON that is answered there with status 200, whatever is set above."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    clients: set[tuple[str, int]] = field(default_factory=set)
    """Each connection once."""
    url: str = ""

    def answer(self, status: int, body: bytes | dict[str, Any], content_type: str = JSON) -> None:
        """Answer this from now on."""
        self.status, self.content_type = status, content_type
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


@contextmanager
def serving() -> Iterator[ForeignServer]:
    """A server on a loopback port."""
    told, closing = ForeignServer(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            split = urlsplit(self.path)
            told.requests.append(
                {"path": split.path, "query": parse_qs(split.query), "headers": dict(self.headers)}
            )
            told.clients.add((self.client_address[0], self.client_address[1]))
            page = told.pages.get(split.path)
            body = told.body if page is None else json.dumps(page).encode()
            self.send_response(told.status if page is None else 200)
            self.send_header("Content-Type", told.content_type if page is None else JSON)
            self.send_header("Content-Length", str(len(body) + told.short_by))
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.send_body(body)
            if told.short_by:
                self.close_connection = True

        def send_body(self, body: bytes) -> None:
            if not told.pause:
                self.wfile.write(body)
                return
            for byte in body:
                if closing.is_set():
                    return
                self.wfile.write(bytes([byte]))
                time.sleep(told.pause)  # this is what dripping is

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hangs up is expected here."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield told
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
