"""Port `Scraper` over aiohttp: one kept connection a pod, bounded in size and time.

The pod is not trusted: redirects lead elsewhere and are refused, compression is not asked for and
refused, and nothing of the environment (proxies, netrc, cookies) takes part.
"""

import asyncio
import ssl
import time
from functools import lru_cache
from pathlib import Path
from typing import Self

import aiohttp
from yarl import URL

from killswitch.core.readings import Blindness, NoAnswer
from killswitch.ports import Exposed, Place

MOST_BYTES = 4 << 20
_IDLE = 75.0
"""Seconds for which a connection is kept: more than the longest interval."""
_TOKEN_AGE = 10.0
"""Seconds after which the file of the token is read again."""
_DETAIL = 300
_OPENMETRICS, _TEXT = "application/openmetrics-text", "text/plain"
_HEADERS = {
    # As Prometheus asks, so that metrics bear the names under which it stores them.
    "Accept": f"{_OPENMETRICS};version=1.0.0;escaping=underscores,{_TEXT};version=0.0.4;q=0.5",
    "Accept-Encoding": "identity",
    "User-Agent": "killswitch",
}


class ScrapeHttp:
    """Asks pods by plain HTTP or HTTPS. Use as an async context manager."""

    def __init__(self, *, token_file: str = "", ca_file: str = "") -> None:
        """Nothing is connected yet. OSError or ssl.SSLError for a CA file that cannot be used."""
        self._token_file = Path(token_file) if token_file else None
        self._token, self._token_at = "", 0.0
        self._checked = ssl.create_default_context(cafile=ca_file or None)
        self._unchecked = ssl.create_default_context()
        self._unchecked.check_hostname = False
        self._unchecked.verify_mode = ssl.CERT_NONE
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pool. Nobody asks a pod twice at once, so it holds one connection for each."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()

    async def scrape(
        self, place: Place, names: tuple[str, ...], within: float
    ) -> Exposed | NoAnswer:
        """What is exposed there, or why it is not known, after `within` seconds at the latest."""
        try:
            async with asyncio.timeout(within):
                return await self._ask(place, names)
        except TimeoutError:
            return NoAnswer(Blindness.TIMEOUT, f"no answer within {within:g} s")
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
            return NoAnswer(Blindness.UNREACHABLE, (str(error) or type(error).__name__)[:_DETAIL])
        except Exception as error:  # noqa: BLE001 - not knowing is an answer too
            return NoAnswer(Blindness.BAD_ANSWER, f"no HTTP as it should be: {error!r}"[:_DETAIL])

    async def _ask(self, place: Place, names: tuple[str, ...]) -> Exposed | NoAnswer:
        if self._session is None:
            raise RuntimeError("use ScrapeHttp as an async context manager")
        async with self._session.get(
            _url(place, names),
            headers=self._headers(place),
            allow_redirects=False,
            ssl=self._checked if place.verified else self._unchecked,
            server_hostname=place.tls or None,
        ) as response:
            refused = _refusal(response)
            if refused is None:
                body = await _bounded(response)
                if body is not None:
                    return Exposed(body, response.content_type == _OPENMETRICS)
                refused = NoAnswer(Blindness.BAD_ANSWER, f"more than {MOST_BYTES} bytes")
            response.close()  # whatever else it says must not be taken for the next answer
            return refused

    def _headers(self, place: Place) -> dict[str, str] | None:
        """The token, for whom it is meant: nobody could read it on the way, nor pose as the pod."""
        if self._token_file is None or not place.tls or not place.verified:
            return None
        if time.monotonic() - self._token_at > _TOKEN_AGE or not self._token:
            self._token = self._token_file.read_text().strip()
            self._token_at = time.monotonic()
        return {"Authorization": f"Bearer {self._token}"}


def _refusal(response: aiohttp.ClientResponse) -> NoAnswer | None:
    """Why this is not an answer to be read."""
    if response.status != 200:
        return NoAnswer(Blindness.BAD_ANSWER, f"status {response.status}")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return NoAnswer(Blindness.BAD_ANSWER, "compressed, which was not asked for")
    if response.content_type not in {_OPENMETRICS, _TEXT}:
        return NoAnswer(Blindness.BAD_ANSWER, f"not metrics: {response.content_type[:80]}")
    return None


async def _bounded(response: aiohttp.ClientResponse) -> bytes | None:
    """The body; None where it is too large."""
    if (response.content_length or 0) > MOST_BYTES:
        return None
    chunks, size = [], 0
    while chunk := await response.content.readany():
        size += len(chunk)
        if size > MOST_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


@lru_cache(maxsize=2048)
def _url(place: Place, names: tuple[str, ...]) -> URL:
    host = f"[{place.host}]" if ":" in place.host else place.host
    url = URL(f"{'https' if place.tls else 'http'}://{host}:{place.port}{place.path}")
    return url.extend_query([("name[]", name) for name in names]) if names else url
