"""Whatever answers instead of an API server becomes one of our errors, never a crash."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from killswitch.adapters.credentials import Credentials
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.errors import (
    ConflictError,
    ExpiredError,
    KillSwitchError,
    NotFoundError,
    OverloadedError,
    RefusedError,
    ServerError,
    UnavailableError,
)
from killswitch.core.resources import PODS
from tests.adapters.foreign_server import ForeignServer, serving

Call = Callable[[KubernetesApi], Coroutine[Any, Any, object]]
HTML = b"<html><body>Sign in</body></html>"


@pytest.fixture
def server() -> Iterator[ForeignServer]:
    """Anything that speaks HTTP."""
    with serving() as running:
        yield running


@pytest.fixture
async def api(server: ForeignServer) -> AsyncIterator[KubernetesApi]:
    """The client, pointed at it."""
    async with KubernetesApi(Credentials(server.url, None, lambda: "Bearer t")) as client:
        yield client


async def _watch(api: KubernetesApi) -> list[str]:
    return [change.type async for change in api.watch(PODS, "1")]


CALLS: dict[str, Call] = {
    "get": lambda api: api.get(PODS, "p", "n"),
    "list": lambda api: api.list(PODS, "n"),
    "watch": _watch,
}


@pytest.mark.parametrize("call", ["list", "watch"])
@pytest.mark.parametrize(
    "body",
    [HTML, b"[]", b"{}", b'{"items": [{', b"\xff\xfe", b'{"type": "ADDED"}', b"null"],
    ids=["html", "array", "empty object", "cut off", "no text", "no object", "null"],
)
async def test_what_is_no_kubernetes_answer_is_no_answer(
    server: ForeignServer, api: KubernetesApi, call: str, body: bytes
) -> None:
    """A proxy's page with status 200, half a list, binary: nothing is known."""
    server.answer(200, body + b"\n", "text/html")
    with pytest.raises(UnavailableError):
        await CALLS[call](api)


async def test_half_an_object_is_no_answer(server: ForeignServer, api: KubernetesApi) -> None:
    """Cut off by a proxy that thinks the answer whole."""
    server.answer(200, b'{"metadata": {"name": ')
    with pytest.raises(UnavailableError):
        await api.get(PODS, "p", "n")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RefusedError),
        (401, RefusedError),
        (403, RefusedError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, ExpiredError),
        (422, RefusedError),
        (429, OverloadedError),
        (500, ServerError),
        (502, UnavailableError),
        (503, UnavailableError),
        (504, UnavailableError),
    ],
)
@pytest.mark.parametrize("call", CALLS)
async def test_a_status_becomes_its_error_with_the_servers_words(
    server: ForeignServer, api: KubernetesApi, call: str, status: int, error: type[KillSwitchError]
) -> None:
    """The same for single objects, lists and watches; HTML instead of a Status too."""
    for body in ({"kind": "Status", "message": "so it is"}, b"<p>so it is</p>"):
        server.answer(status, body)
        with pytest.raises(error, match="so it is"):
            await CALLS[call](api)


async def test_an_error_within_a_watch_is_its_own_kind(
    server: ForeignServer, api: KubernetesApi
) -> None:
    """410 arrives as an event after a 200."""
    server.answer(200, b'{"type":"ERROR","object":{"code":410,"message":"too old"}}\n')
    with pytest.raises(ExpiredError, match="too old"):
        await _watch(api)


async def test_429_carries_the_seconds_to_wait(server: ForeignServer, api: KubernetesApi) -> None:
    """As the server says in Retry-After."""
    server.answer(429, {"message": "slow down"})
    server.headers["Retry-After"] = "7"
    with pytest.raises(OverloadedError) as raised:
        await api.get(PODS, "p", "n")
    assert raised.value.retry_after == 7.0


async def test_nobody_there_is_no_answer() -> None:
    """A refused connection."""
    async with KubernetesApi(Credentials("http://127.0.0.1:9", None, lambda: "")) as client:
        with pytest.raises(UnavailableError):
            await client.get(PODS, "p", "n")


async def test_no_more_requests_are_in_flight_than_allowed(server: ForeignServer) -> None:
    """A burst waits for free connections instead of opening a thousand."""
    server.answer(200, {"metadata": {}})
    credentials = Credentials(server.url, None, lambda: "")
    async with KubernetesApi(credentials, connections=3) as client:
        await asyncio.gather(*(client.get(PODS, "p", "n") for _ in range(50)))
    assert len(server.requests) == 50
    assert len(server.clients) <= 3
