"""The web side of the receivers: bounds on everything, then bytes to whoever judges them.

Each path has its own `Receiver` with its own bounds: bytes of a body, seconds until the body is
whole, requests in flight. A flood on one path uses up that path's bounds alone. Whoever can be
refused by headers is refused before a byte of the body is read. `application` knows nothing about
what is received: further paths (remote write) are further Receivers.

The caller binds, with TLS where it needs it: `runner` gives an aiohttp runner with the bounds that
belong to connections. Callbacks run in the event loop and must not block.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web

from killswitch.core.errors import MalformedError
from killswitch.ports import Clock
from killswitch.signals import alerts, events
from killswitch.signals.alerts import Batch
from killswitch.signals.events import Event, Keys
from killswitch.signals.keys import BearerTokens
from killswitch.signals.limits import Limits
from killswitch.signals.nonces import Nonces
from killswitch.signals.refusals import Reason, Refusal

_LOG = structlog.get_logger(__name__)

Headers = Mapping[str, str]
Counts = Counter[tuple[str, str]]
"""(Path, `Accepted` or the reason of a refusal) → requests."""
ACCEPTED = "Accepted"

PROMETHEUS_PATH = "/api/v2/alerts"
ALERTMANAGER_PATH = "/v1/alertmanager"
EVENTS_PATH = "/v1/events"

_IDLE = 65.0
_SHUTDOWN = 2.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was received has been handed on."""

    status: HTTPStatus = HTTPStatus.OK


Answer = Accepted | Refusal


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one path may use."""

    body: int
    """Bytes."""
    seconds: float = 2.0
    """Until the whole body is there."""
    in_flight: int = 32


@dataclass(frozen=True, slots=True)
class Receiver:
    """One path to post to."""

    path: str
    bounds: Bounds
    receive: Callable[[Headers, bytes], Answer]
    """Judges a whole request. Headers do not care about case."""
    admit: Callable[[Headers], Refusal | None] = lambda _: None
    """Judges the headers alone, before the body is read."""
    encodings: frozenset[str] = frozenset({"", "identity"})
    """`Content-Encoding`s that `receive` understands: bodies arrive here as they were sent."""


def alerts_receiver(
    deliver_alerts: Callable[[Batch], None],
    *,
    tokens: Callable[[], BearerTokens],
    path: str = PROMETHEUS_PATH,
    parse: Callable[[bytes], Batch] = alerts.from_prometheus,
    bounds: Bounds | None = None,
) -> Receiver:
    """Receives alerts of Prometheus; with `alerts.from_alertmanager` those of its webhook."""

    def receive(_: Headers, body: bytes) -> Answer:
        try:
            batch = parse(body)
        except MalformedError as error:
            return Refusal(Reason.MALFORMED, str(error))
        deliver_alerts(batch)
        return Accepted()

    return Receiver(path, bounds or Bounds(body=1 << 20), receive, bearer(tokens))


def bearer(tokens: Callable[[], BearerTokens]) -> Callable[[Headers], Refusal | None]:
    """Judges headers: admits who has one of the tokens that are known at that moment."""

    def admit(headers: Headers) -> Refusal | None:
        authorization = headers.get(events.AUTHORIZATION)
        if authorization is None:
            return Refusal(Reason.NO_CREDENTIALS, f"no {events.AUTHORIZATION} was sent")
        if tokens().source(authorization) is None:
            return Refusal(Reason.BAD_CREDENTIALS, "the bearer token is not known")
        return None

    return admit


def events_receiver(
    deliver_event: Callable[[Event], None],
    *,
    keys: Callable[[], Keys],
    seen: Nonces,
    limits: Limits,
    clock: Clock,
    bounds: Bounds | None = None,
) -> Receiver:
    """Receives signed events. An event that could not be delivered may be sent again."""

    def receive(headers: Headers, body: bytes) -> Answer:
        event = events.verify(headers, body, now=clock.now(), keys=keys(), seen=seen, limits=limits)
        if isinstance(event, Refusal):
            return event
        try:
            deliver_event(event)
        except BaseException:
            seen.take_back(event.source, event.id)
            raise
        return Accepted(HTTPStatus.ACCEPTED)

    return Receiver(EVENTS_PATH, bounds or Bounds(body=1 << 14), receive)


def application(*receivers: Receiver, counts: Counts) -> web.Application:
    """An application with these paths; every request to one of them is counted in `counts`."""
    app = web.Application()
    for each in receivers:
        app.router.add_post(each.path, _Gate(each, counts).handle)
    return app


def runner(app: web.Application, *, idle_seconds: float = _IDLE) -> web.AppRunner:
    """Runs the application with bounds on connections.

    Bodies are not decompressed on the way in: a small one could become large, and signatures are
    over what was sent. A connection without a whole request head for `idle_seconds` is closed.
    """
    return web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=idle_seconds,
        lingering_time=0.0,
        shutdown_timeout=_SHUTDOWN,
    )


class _Gate:
    """One receiver, its requests in flight, and its answers in HTTP."""

    def __init__(self, receiver: Receiver, counts: Counts) -> None:
        self._receiver = receiver
        self._counts = counts
        self._in_flight = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self._in_flight >= self._receiver.bounds.in_flight:
            message = f"{self._in_flight} requests to this path are in flight"
            return self._refused(Refusal(Reason.TOO_MANY_IN_FLIGHT, message, 1.0))
        self._in_flight += 1
        try:
            answer = await self._answer(request)
        finally:
            self._in_flight -= 1
        if isinstance(answer, Refusal):
            return self._refused(answer)
        self._counts[self._receiver.path, ACCEPTED] += 1
        return web.Response(status=answer.status)

    async def _answer(self, request: web.Request) -> Answer:
        refusal = self._unreadable(request) or self._receiver.admit(request.headers)
        if refusal is not None:
            return refusal
        body = await _body(request, self._receiver.bounds)
        if isinstance(body, Refusal):
            return body
        try:
            return self._receiver.receive(request.headers, body)
        except Exception:  # noqa: BLE001  # callbacks are others': the sender must hear of it
            _LOG.exception("a received request was not handled", path=self._receiver.path)
            return Refusal(Reason.FAILED, "it could not be handled here", 1.0)

    def _unreadable(self, request: web.Request) -> Refusal | None:
        encoding = request.headers.get("content-encoding", "").lower()
        if encoding not in self._receiver.encodings:
            return Refusal(Reason.ENCODED, "this Content-Encoding is not understood here")
        if (request.content_length or 0) > self._receiver.bounds.body:
            return _too_large(self._receiver.bounds)
        return None

    def _refused(self, refusal: Refusal) -> web.Response:
        self._counts[self._receiver.path, refusal.reason] += 1
        content: dict[str, Any] = {"reason": refusal.reason, "message": refusal.message}
        response = web.json_response(content, status=refusal.status)
        if refusal.retry_after is not None:
            response.headers["Retry-After"] = str(max(1, round(refusal.retry_after)))
        if refusal.status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"
        # Whatever of the body is still to come is not waited for.
        response.force_close()
        return response


async def _body(request: web.Request, bounds: Bounds) -> bytes | Refusal:
    """The whole body, or why it is not read to its end."""
    body = bytearray()
    try:
        async with asyncio.timeout(bounds.seconds):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > bounds.body:
                    return _too_large(bounds)
    except TimeoutError:
        return Refusal(Reason.TOO_SLOW, f"the body was not whole within {bounds.seconds:g} s")
    except (web.RequestPayloadError, ConnectionError):
        return Refusal(Reason.MALFORMED, "the body ended early")
    return bytes(body)


def _too_large(bounds: Bounds) -> Refusal:
    return Refusal(Reason.TOO_LARGE, f"the body is larger than {bounds.body} bytes")
