"""POST /api/v1/write: the HTTP side of remote write, for Prometheus' `remote_write.url`.

Reads bodies within limits of size, time and number, decodes them, hands the samples on and answers
204. What Prometheus makes of other answers decides which are given: it drops a batch after 4xx,
and after 5xx it sends the batch again and nothing else meanwhile. So only what could never be taken
is answered with 4xx, and only a passing shortage with 503.

Who may write is judged by `admit`, from the headers, before a byte of the body is read.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from killswitch.core.errors import UnacceptableError
from killswitch.signals.refusals import Reason, Refusal
from killswitch.signals.remote_write import Decoder, check_headers
from killswitch.signals.series import Samples

PATH = "/api/v1/write"
_OUTCOMES = {
    204: "Accepted",
    401: Reason.BAD_CREDENTIALS,
    408: Reason.TOO_SLOW,
    413: Reason.TOO_LARGE,
    415: Reason.ENCODED,
    503: Reason.TOO_MANY_IN_FLIGHT,
}
"""Its answers in the words of the other paths; everything else is malformed."""

Deliver = Callable[[Samples], None]
Admit = Callable[[Mapping[str, str]], Refusal | None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What senders may take of this process at most."""

    body: int = 2 << 20
    """Bytes of one body; the decoder's own limits hold beside it."""
    seconds: float = 5.0
    """For one body to arrive as a whole."""
    per_source: int = 4
    """Requests under way from one address."""
    at_once: int = 32
    """Requests under way altogether."""


def application(
    decoder: Decoder, deliver: Deliver, bounds: Bounds | None = None
) -> web.Application:
    """An application that decodes what is posted and calls `deliver` with each request's samples.

    `deliver` runs on the event loop between reading and answering: it must be quick, and what it
    raises becomes a 500.
    """
    app = web.Application()
    mount(app, decoder, deliver, bounds=bounds)
    return app


def mount(
    app: web.Application,
    decoder: Decoder,
    deliver: Deliver,
    *,
    admit: Admit = lambda _: None,
    bounds: Bounds | None = None,
    counts: Counter[tuple[str, str]] | None = None,
) -> None:
    """The same beside other paths of an application, for whoever `admit` lets in.

    `counts`: of requests by path and answer, with the words of `refusals.Reason`.
    """
    one = _Receiver(decoder, deliver, admit, bounds or Bounds())
    counted = Counter[tuple[str, str]]() if counts is None else counts

    async def receive(request: web.Request) -> web.Response:
        response = await one.receive(request)
        counted[PATH, _OUTCOMES.get(response.status, Reason.MALFORMED)] += 1
        return response

    app.router.add_post(PATH, receive)


class _Receiver:
    """Counts what is under way and takes one request after the other."""

    def __init__(self, decoder: Decoder, deliver: Deliver, admit: Admit, bounds: Bounds) -> None:
        self._decoder, self._deliver, self._bounds = decoder, deliver, bounds
        self._admit = admit
        self._under_way: Counter[str] = Counter()

    async def receive(self, request: web.Request) -> web.Response:
        """204 after the samples were handed on."""
        source, bounds = request.remote or "", self._bounds
        if (stranger := self._admit(request.headers)) is not None:
            return _refused(stranger.status, stranger.message)
        if (
            self._under_way[source] >= bounds.per_source
            or self._under_way.total() >= bounds.at_once
        ):
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are under way")
        self._under_way[source] += 1
        try:
            check_headers(request.headers)
            async with asyncio.timeout(bounds.seconds):
                body = await _body(request, bounds.body)
            samples = self._decoder.decode(body)
        except UnacceptableError as error:
            return _refused(error.status, str(error))
        except TimeoutError:
            return _refused(
                HTTPStatus.REQUEST_TIMEOUT, f"the body did not end within {bounds.seconds:g} s"
            )
        finally:
            self._under_way[source] -= 1
            if not self._under_way[source]:
                del self._under_way[source]
        if samples:
            self._deliver(samples)
        return web.Response(status=HTTPStatus.NO_CONTENT)


async def _body(request: web.Request, most: int) -> bytes:
    """The whole body; refused as soon as it is known to be too large."""
    if (request.content_length or 0) > most:
        raise UnacceptableError(f"{request.content_length} bytes exceed {most}", 413)
    chunks, size = [], 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > most:
            raise UnacceptableError(f"the body exceeds {most} bytes", 413)
        chunks.append(chunk)
    return b"".join(chunks)


def _refused(status: int, sentence: str) -> web.Response:
    """The answer; the connection ends with it, as its body may not have been read."""
    response = web.Response(status=status, text=f"{sentence}\n")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "1"
    response.force_close()
    return response
