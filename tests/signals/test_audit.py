"""The receiver of the API server's audit events: who is let in, what is refused, what is handed on."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from killswitch.core.audit import Refusal
from killswitch.signals import audit
from killswitch.signals import web as receivers
from killswitch.signals.keys import BearerTokens
from killswitch.signals.web import Bounds, Counts
from tests.core.test_audit import event
from tests.signals.served import TOKEN, serving

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


class Hearing:
    """What was handed on, and a way to post."""

    def __init__(self) -> None:
        self.heard: list[Refusal] = []
        self.counts: Counts = Counts()
        self.url = ""

    @asynccontextmanager
    async def running(self, **more: Any) -> AsyncIterator[None]:
        """A receiver on a real socket."""
        tokens = BearerTokens({"audit": [TOKEN]})
        one = audit.receiver(self.heard.extend, tokens=lambda: tokens, **more)
        app = receivers.application(one, counts=self.counts)
        async with serving(receivers.runner(app)) as (host, port):
            self.url = f"http://{host}:{port}{audit.PATH}"
            yield

    async def post(self, content: object, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Status and text of the answer."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{self.url}?timeout=30s",
                data=body,
                headers=AUTHORIZED if headers is None else headers,
            ) as answer,
        ):
            return answer.status, await answer.text()


def listed(*items: object) -> dict[str, Any]:
    """As the API server posts them."""
    return {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items}


async def test_refusals_are_handed_on() -> None:
    """Of the list that the API server posts, and nothing else of it."""
    hearing = Hearing()
    async with hearing.running():
        allowed = event(responseStatus={"code": 200})
        status, _ = await hearing.post(listed(event(), allowed))
    assert (status, [each.key.who for each in hearing.heard]) == (200, ["alice"])
    assert hearing.counts == {(audit.PATH, "Accepted"): 1}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer somebody-elses-token-24"}])
async def test_strangers_are_refused(headers: dict[str, str]) -> None:
    """Before anything is read."""
    hearing = Hearing()
    async with hearing.running():
        status, _ = await hearing.post(listed(event()), headers)
    assert (status, hearing.heard) == (401, [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not JSON"),
        ([], "this is no object"),
        ({"kind": "Event", "apiVersion": "v1"}, "not Event of audit.k8s.io/v1"),
        (listed(event(), event(user={})), "items[1]: username is missing"),
    ],
)
async def test_bad_input_is_refused_whole_with_its_reason(content: object, words: str) -> None:
    """Nothing of such a list is counted: sent again in order, it counts once."""
    hearing = Hearing()
    async with hearing.running():
        status, text = await hearing.post(content)
    answer = json.loads(text)
    assert (status, answer["reason"], hearing.heard) == (400, "Malformed", [])
    assert words in answer["message"]


async def test_bodies_are_bounded() -> None:
    """A flood takes no more memory than that."""
    hearing = Hearing()
    async with hearing.running(bounds=Bounds(body=1000)):
        status, _ = await hearing.post(listed(event()))
    assert (status, hearing.heard) == (413, [])
