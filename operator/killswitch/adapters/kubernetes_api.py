"""Port `Cluster` over aiohttp with a bounded pool of warm connections.

Used by the reactor, the manager and the command line. All network passes through `_request` and
`watch`; every failure becomes one of `core.errors` in `answers.failure` and `_mapped`, so nobody else
looks at status codes. Nothing that may have been sent is repeated here: whoever calls knows what that would mean.
Where several API servers are known, what could not be sent to one goes to the next, and an answer
that did not come makes the next one the first to be asked.
"""

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Iterator
from typing import Self

import aiohttp
import orjson
from yarl import URL

from killswitch.adapters import answers
from killswitch.adapters.credentials import Credentials
from killswitch.adapters.endpoints import Endpoints
from killswitch.adapters.slots import Slots
from killswitch.core.catalogue import Served
from killswitch.core.errors import (
    KillSwitchError,
    TimedOutError,
    UnavailableError,
)
from killswitch.core.resources import CLUSTER_SHUTDOWNS, PODS, SHUTDOWNS, Resource
from killswitch.ports import Change, Json, Page

_MERGE = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml"
_JSON = "application/json"
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_PAGE = "500"
_WATCH_SECONDS = 290
"""How long the server keeps a watch open: below the usual five minutes of load balancers."""
_CONNECT = 2.0
"""Seconds for a new connection: an endpoint that drops packets must not hold up the next."""
_WARM_ELSEWHERE = 4
"""Connections kept open to each endpoint that is not the current one."""
_FAREWELL = 0.05
"""Seconds for TLS to say goodbye (aiohttp: "Graceful Shutdown")."""
_LOCKS = (SHUTDOWNS, CLUSTER_SHUTDOWNS)
"""To create one of these engages: it passes every queue."""
_SILENCE = 70.0
"""Seconds without a byte (bookmarks come every minute) after which a watch counts as dead."""


class KubernetesApi:
    """The API server behind one set of credentials. Use as an async context manager."""

    def __init__(self, credentials: Credentials, *, connections: int = 64) -> None:
        """Nothing is connected yet; `connections` bounds the requests in flight."""
        self.credentials = credentials
        self._connections = connections
        self._endpoints = Endpoints(credentials.servers)
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    async def __aenter__(self) -> Self:
        """Open the pool."""
        connector = aiohttp.TCPConnector(
            limit=0,  # bounded by the slots below: watches must not use up any
            ssl=self.credentials.tls or False,
            keepalive_timeout=85,
        )
        self._slots = Slots(self._connections)
        self._session = aiohttp.ClientSession(
            connector=connector,
            # Proxy and netrc look-ups go to a thread pool at each request (measured: up to 20 s
            # behind a busy executor).
            trust_env=False,
            auto_decompress=True,
            skip_auto_headers={"User-Agent", "Accept-Encoding"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the pool; connections of cut-off requests too, which aiohttp does not wait for."""
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(_FAREWELL)

    async def warm(self, count: int) -> int:
        """Keep up to `count` connections open by harmless requests; how many of them answered.

        To the other endpoints a few, so that a stop need not wait for them when the first fails.
        """
        current = self._endpoints.current
        others = [url for url in self._endpoints.urls if url != current]
        answers = await asyncio.gather(
            *(self._ping(current) for _ in range(count)),
            *(self._ping(url) for url in others for _ in range(_WARM_ELSEWHERE)),
        )
        return sum(answers[:count])

    async def _ping(self, url: str) -> bool:
        try:
            await self._ask(url, "GET", "/readyz", within=2.0)
        except KillSwitchError:
            self._endpoints.failed(url)
            return False
        return True

    def endpoints(self) -> "tuple[KubernetesApi, ...]":
        """This client once per API server, each asking that one alone."""
        return tuple(self._only(Endpoints((url,))) for url in self._endpoints.urls)

    def _only(self, endpoints: Endpoints) -> Self:
        single = copy.copy(self)  # the pool, its bound and the credentials are shared
        vars(single)["_endpoints"] = endpoints
        return single

    def __str__(self) -> str:
        """Who is asked, for messages."""
        return self._endpoints.current

    async def version(self) -> Json:
        """What `/version` says."""
        return await self._request("GET", "/version")

    async def whoami(self) -> str:
        """The username that the API server sees."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        answer = await self._request("POST", path, body=body)
        return str(answer["status"]["userInfo"]["username"])

    async def served(self) -> list[Served]:
        """Every resource that it serves, by two requests (aggregated discovery, KEP-3352)."""
        found: list[Served] = []
        for path in ("/api", "/apis"):
            answer = await self._request("GET", path, accept=_DISCOVERY)
            if answer.get("kind") != "APIGroupDiscoveryList":
                raise UnavailableError("its API server does not answer with aggregated discovery")
            found += [
                each for group in answer.get("items") or () for each in answers.resources_of(group)
            ]
        return found

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        """The object; NotFoundError if it is not there."""
        return await self._request("GET", resource.path(namespace, name))

    async def list(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Page:
        """All objects, read from etcd and not from a cache, in pages."""
        query = {"limit": _PAGE, "labelSelector": labels, "fieldSelector": fields}
        items: list[Json] = []
        while True:
            answer = await self._request("GET", resource.path(namespace), query=query)
            if "metadata" not in answer:
                raise UnavailableError("not a Kubernetes list")
            for item in answer.get("items") or ():
                # Lists leave these out of their items; objects should look alike everywhere.
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
                items.append(item)
            metadata = answer["metadata"]
            if not metadata.get("continue"):
                return Page(items, metadata["resourceVersion"])
            query = {**query, "continue": metadata["continue"]}
            # A large list must not keep a stop waiting.
            await asyncio.sleep(0)

    async def watch(
        self, resource: Resource, version: str, namespace: str = "", *, fields: str = ""
    ) -> AsyncIterator[Change]:
        """Changes after `version`, until the server closes; ExpiredError if it is too old."""
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
            "fieldSelector": fields,
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
        server = self._endpoints.current
        with self._mapped(server):
            async with (
                self._open().request(
                    "GET",
                    self._url(server, resource.path(namespace), query),
                    headers=self._headers(),
                    timeout=timeout,
                ) as response,
                _severed(response),
            ):
                if response.status != 200:
                    raise answers.failure(response.status, await response.read(), response.headers)
                async for line in answers.lines(response.content):
                    yield answers.change(line)

    async def create(
        self, resource: Resource, body: Json, namespace: str = "", *, dry_run: bool = False
    ) -> Json:
        """The created object; ConflictError if the name is taken."""
        query = {"dryRun": "All"} if dry_run else {}
        lock = resource in _LOCKS and not dry_run
        path = resource.path(namespace)
        return await self._request("POST", path, body=body, query=query, lock=lock)

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Json,
        namespace: str = "",
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Json:
        """The object after a JSON merge patch."""
        path = resource.path(namespace, name, subresource)
        query = {"dryRun": "All"} if dry_run else {}
        return await self._request("PATCH", path, body=body, query=query, content=_MERGE)

    async def apply(
        self,
        resource: Resource,
        name: str,
        body: Json,
        namespace: str = "",
        *,
        subresource: str = "",
        manager: str,
    ) -> Json:
        """The object after a forced server-side apply as this field manager."""
        whole = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        path = resource.path(namespace, name, subresource)
        query = {"fieldManager": manager, "force": "true"}
        return await self._request("PATCH", path, body=whole, query=query, content=_APPLY)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        grace: int | None = None,
        uid: str = "",
    ) -> Json:
        """What was asked to go, as it was, or a Status; NotFoundError, ConflictError if uid differs."""
        options: Json = {}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if uid:
            options["preconditions"] = {"uid": uid}
        return await self._request("DELETE", resource.path(namespace, name), body=options)

    async def evict(self, name: str, namespace: str, *, uid: str, grace: int | None = None) -> None:
        """Eviction of a pod accepted, with its own grace or this; what a budget answers is told."""
        options: Json = {"preconditions": {"uid": uid}}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": options,
        }
        await self._request("POST", PODS.path(namespace, name, "eviction"), body=body)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        query: dict[str, str] | None = None,
        content: str = _JSON,
        accept: str = _JSON,
        within: float = 10.0,
        lock: bool = False,
    ) -> Json:
        """The answer of the first endpoint that a connection could be made to."""
        data = None if body is None else orjson.dumps(body)
        slot = await self._slots.take(lock=lock)
        try:
            unsent: _UnsentError | None = None
            for server in self._endpoints.turn():
                try:
                    return await self._ask(
                        server,
                        method,
                        path,
                        data=data,
                        query=query,
                        headers=self._headers(content, accept),
                        within=within,
                    )
                except _UnsentError as error:
                    unsent = error
            raise unsent or UnavailableError("no endpoint is known")
        finally:
            slot.give()

    async def _ask(
        self,
        server: str,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        within: float,
    ) -> Json:
        timeout = aiohttp.ClientTimeout(total=within, sock_connect=min(within, _CONNECT))
        with self._mapped(server):
            async with (
                self._open().request(
                    method,
                    self._url(server, path, query or {}),
                    data=data,
                    headers=headers or self._headers(),
                    timeout=timeout,
                ) as response,
                _severed(response),
            ):
                raw = await response.read()
                if response.status >= 300:
                    raise answers.failure(response.status, raw, response.headers)
        try:
            return orjson.loads(raw) if raw[:1] == b"{" else {}  # /readyz says `ok`
        except ValueError as error:
            raise UnavailableError(f"not an answer of a Kubernetes API: {error}") from error

    @contextlib.contextmanager
    def _mapped(self, server: str) -> Iterator[None]:
        """Errors of the connection as UnavailableError; where nobody answered, ask the next."""
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._endpoints.failed(server)
            text = f"no answer from the API server: {str(error) or type(error).__name__}"
            match error:
                case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                    raise _UnsentError(text) from error
                case TimeoutError():
                    raise TimedOutError(text) from error
                case _:
                    raise UnavailableError(text) from error
        except UnavailableError:  # a proxy, or it starts or ends; one that is busy is there
            self._endpoints.failed(server)
            raise

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise UnavailableError("the client is not open")
        return self._session

    def _url(self, server: str, path: str, query: dict[str, str]) -> URL:
        if query:  # with versions in them: they never come again
            given = {name: value for name, value in query.items() if value}
            return URL(server + path, encoded=True).with_query(given)
        address = server + path
        known = self._urls.get(address)
        if known is None:
            if len(self._urls) > 20_000:
                self._urls.clear()
            known = self._urls[address] = URL(address, encoded=True)
        return known

    def _headers(self, content: str = _JSON, accept: str = _JSON) -> dict[str, str]:
        authorization = self.credentials.authorization()
        headers = {"Content-Type": content, "Accept": accept, "User-Agent": "killswitch"}
        return {**headers, "Authorization": authorization} if authorization else headers


class _UnsentError(UnavailableError):
    """No connection could be made: nothing has been sent."""


@contextlib.asynccontextmanager
async def _severed(response: aiohttp.ClientResponse) -> AsyncIterator[None]:
    """Cut the connection at once unless its answer was read to the end.

    A watch that is over would otherwise linger in the goodbye of TLS.
    """
    try:
        yield
    finally:
        if response.connection is not None and response.connection.transport is not None:
            response.connection.transport.abort()
