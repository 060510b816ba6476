"""Receivers on a real loopback socket, and what they delivered. Used by tests of this folder."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from killswitch.signals import web as receivers
from killswitch.signals.web import Counts, Receiver

KEY = "whsec_" + base64.b64encode(b"k" * 32).decode()
TOKEN = "a-bearer-token-of-24-characters"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "events.md"
SIGNALS = DOCUMENT.with_name("signals.md")


def signed(body: bytes, *, now: float, id_: str = "n-1", key: str = KEY) -> dict[str, str]:
    """The three headers of a signed event."""
    stamp = str(int(now))
    secret = base64.b64decode(key.removeprefix("whsec_"))
    mac = hmac.new(secret, f"{id_}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": id_,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def event_body(**fields: object) -> bytes:
    """A body with the required fields."""
    return json.dumps({"type": "guardrail.jailbreak", "source": "guard", **fields}).encode()


def snippets(language: str, document: Path = DOCUMENT) -> list[str]:
    """The code blocks of a document in this language."""
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(), re.DOTALL)


@asynccontextmanager
async def served(
    *each: Receiver, counts: Counts | None = None, idle_seconds: float = 65.0
) -> AsyncIterator[tuple[str, int]]:
    """The address they listen on."""
    app = receivers.application(*each, counts=Counter() if counts is None else counts)
    async with serving(receivers.runner(app, idle_seconds=idle_seconds)) as address:
        yield address


@asynccontextmanager
async def serving(runner: web.AppRunner) -> AsyncIterator[tuple[str, int]]:
    """The address it listens on."""
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][:2]
    finally:
        await runner.cleanup()


async def raw(address: tuple[str, int], *parts: bytes, within: float = 20.0) -> bytes:
    """Everything that is answered to these bytes until the connection closes."""
    async with asyncio.timeout(within):
        reader, writer = await asyncio.open_connection(*address)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()
        finally:
            writer.close()
