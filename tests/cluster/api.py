"""Quick raw API calls as a certain user; an HTTP error is a result, not an exception."""

import json
import ssl
from collections.abc import Mapping
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

Json = dict[str, Any]
_PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
    "strategic": "application/strategic-merge-patch+json",
}


class Answer(NamedTuple):
    """Status and decoded body of an answer."""

    status: int
    body: Json

    @property
    def message(self) -> str:
        """What the API server says to people."""
        return str(self.body.get("message", ""))


class Api:
    """One user's keep-alive connection to an API server; threads take turns."""

    def __init__(self, server: str, ca_file: Path, token: str) -> None:
        """Connects at the first call."""
        self._where = urlsplit(server)
        self._tls = ssl.create_default_context(cafile=str(ca_file))
        self._token = token
        self._connection: HTTPSConnection | None = None
        self._turn = RLock()

    def get(self, path: str, **query: str) -> Answer:
        """GET an object or a list."""
        return self.request("GET", path, query=query)

    def create(self, path: str, body: Mapping[str, Any], *, dry_run: bool = False) -> Answer:
        """POST an object to its collection."""
        return self.request("POST", path, body, query={"dryRun": "All"} if dry_run else {})

    def update(self, path: str, body: Mapping[str, Any], *, dry_run: bool = False) -> Answer:
        """PUT a whole object."""
        return self.request("PUT", path, body, query={"dryRun": "All"} if dry_run else {})

    def patch(
        self, path: str, body: Any, *, kind: str = "merge", dry_run: bool = False, **query: str
    ) -> Answer:
        """PATCH; kind is merge, json, strategic or apply (which needs fieldManager=…)."""
        if dry_run:
            query["dryRun"] = "All"
        return self.request("PATCH", path, body, query=query, content=_PATCHES[kind])

    def delete(self, path: str, body: Mapping[str, Any] | None = None, **query: str) -> Answer:
        """DELETE an object or a collection."""
        return self.request("DELETE", path, body, query=query)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> Answer:
        """Any request; a connection that the server closed meanwhile is opened again once."""
        target = f"{path}?{urlencode(query)}" if query else path
        data = None if body is None else json.dumps(body)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content}
        with self._turn:
            reused = self._connection is not None
            try:
                status, raw = self._exchange(method, target, data, headers)
            except TimeoutError:  # it may have been carried out: once is enough
                self.close()
                raise
            except (HTTPException, OSError):
                self.close()
                if not reused:
                    raise
                status, raw = self._exchange(method, target, data, headers)
        return Answer(status, _decoded(raw))

    def _exchange(
        self, method: str, target: str, data: str | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        connection = self._open()
        connection.request(method, target, data, headers)
        response = connection.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._turn:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> HTTPSConnection:
        if self._connection is None:
            self._connection = HTTPSConnection(
                self._where.hostname or "", self._where.port, context=self._tls, timeout=30
            )
        return self._connection


def _decoded(raw: bytes) -> Json:
    try:
        found = json.loads(raw)
    except ValueError:
        return {"message": raw.decode(errors="replace")}
    return found if isinstance(found, dict) else {"value": found}
