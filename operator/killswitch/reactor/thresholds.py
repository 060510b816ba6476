"""`GET /thresholds`: what the generated rules are joined with, as Prometheus scrapes it.

A policy that comes, goes or is edited shows with the next scrape. The lines of a policy are made
once; making those of thousands lets the event loop go on in between.
"""

import asyncio

from aiohttp import web

from killswitch.api.compiled import CompiledPolicy
from killswitch.reactor.engine import Engine
from killswitch.signals import rules
from killswitch.signals.receiver import Admit

PATH = "/thresholds"

_PIECE = 100
"""Policies whose lines are made without a pause."""


class Thresholds:
    """The thresholds of all policies under watch."""

    def __init__(self, engine: Engine) -> None:
        """Nothing is made before somebody asks."""
        self._engine = engine
        self._lines: dict[str, tuple[CompiledPolicy, str]] = {}

    def mount(self, app: web.Application, admit: Admit) -> None:
        """Answer whoever `admit` lets in: thresholds tell what one gets away with."""

        async def answer(request: web.Request) -> web.Response:
            if (stranger := admit(request.headers)) is not None:
                return web.Response(status=stranger.status, text=f"{stranger.message}\n")
            headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
            return web.Response(body=(await self.page()).encode(), headers=headers)

        app.router.add_get(PATH, answer)

    async def page(self) -> str:
        """Every threshold in Prometheus's text format."""
        before, now = self._lines, {}
        made = 0
        for uid, watched in tuple(self._engine.watched.items()):
            known = before.get(uid)
            if known is None or known[0] is not watched.policy:
                series = rules.thresholds(watched.policy, self._engine.checker)
                known = watched.policy, rules.exposition(series)
                made += 1
                if not made % _PIECE:
                    await asyncio.sleep(0)
            now[uid] = known
        self._lines = now
        return rules.HEAD + "".join(lines for _, lines in now.values())
