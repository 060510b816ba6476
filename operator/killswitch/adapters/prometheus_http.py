"""One request to a Prometheus API through the prometheus-api-client package, bounded and whole.

The package returns a list and drops the rest of the answer, waits for ever and retries unless
told otherwise. A hook on its session therefore reads each answer, within bounds
of size and time, and keeps what the package drops. Every fault becomes a `NoAnswer`.
"""

import io
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
import requests
import urllib3
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.adapters import HTTPAdapter

from killswitch.adapters import promql
from killswitch.core.readings import Blindness, NoAnswer

_T = TypeVar("_T")

MOST_SERIES = 1000
_MOST_BYTES = 4_000_000
"""Beyond the answer of `MOST_SERIES` with large labels; more would burden every other policy."""
_CHUNK = 65536
_DETAIL = 300

_LATE = (requests.exceptions.ReadTimeout, urllib3.exceptions.TimeoutError, TimeoutError)
_BROKEN = (requests.exceptions.ConnectionError, urllib3.exceptions.HTTPError)
"""DNS, TLS, refused, reset, ended in the middle of an answer."""

_ERROR_TYPES = {
    "bad_data": Blindness.REJECTED,
    "execution": Blindness.FAILED,
    "timeout": Blindness.FAILED,
    "canceled": Blindness.FAILED,
    "internal": Blindness.FAILED,
    "unavailable": Blindness.FAILED,
    "too_many_requests": Blindness.FAILED,
}


class _Call(threading.local):
    """What the hook kept of the request that this thread makes."""

    seconds = 0.0
    deadline = 0.0
    status = 0
    content_type = ""
    body = b""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: the part of the request that it belongs to, and its value."""

    kind: str
    value: float
    histogram: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    at: float | None = None
    """Seconds since the epoch at which the server evaluated it."""


@dataclass(frozen=True, slots=True)
class Found:
    """An instant vector as Prometheus gave it."""

    series: list[Series]
    warnings: tuple[str, ...]


class PrometheusHttp:
    """One Prometheus, Thanos or Mimir, asked from up to `threads` threads at once."""

    def __init__(
        self, url: str, timeout: float, threads: int, headers: Mapping[str, str] | None
    ) -> None:
        """Nothing is connected yet. No request takes longer than `timeout` seconds."""
        base = url.rstrip("/")
        self._timeout = timeout
        self._call = _Call()
        session = requests.Session()
        session.trust_env = False  # the environment is re-read at each request otherwise
        session.max_redirects = 0  # a redirect leads to a login page
        session.headers["Accept-Encoding"] = "identity"
        session.hooks["response"].append(self._receive)
        self._client = PrometheusConnect(
            url=base,
            headers=dict(headers or {}),
            session=session,
            retry=urllib3.Retry(0),
            timeout=timeout,
        )
        # The client mounted its own adapter, with ten connections and read retries that turn a
        # timeout into a refused connection.
        adapter = HTTPAdapter(1, threads, max_retries=urllib3.Retry(0, read=False))
        session.mount(base, adapter)
        # The server gives up before we do, and says so.
        self._params = {"timeout": f"{round(timeout * 900)}ms", "limit": str(MOST_SERIES + 100)}

    def ask(self, text: str, seconds: float) -> Found | NoAnswer:
        """The instant vector of this query, or why it is not known, after `seconds` at the latest."""

        def request() -> Found | NoAnswer:
            series = self._client.custom_query(text, params=self._params, timeout=seconds)
            if (warnings := self._warnings("vector")) is None:
                return NoAnswer(Blindness.BAD_ANSWER, "the answer is not an instant vector")
            return Found([_series(each) for each in series], warnings)

        return self._asked(request, min(seconds, self._timeout))

    def ask_range(
        self, text: str, start: float, end: float, step: float, seconds: float
    ) -> dict[float, Found] | NoAnswer:
        """The instant vectors of this query by the moment of each, after `seconds` at the latest."""
        params = {**self._params, "timeout": f"{round(seconds * 900)}ms"}

        def request() -> dict[float, Found] | NoAnswer:
            try:
                series = self._client.custom_query_range(
                    text,
                    datetime.fromtimestamp(start, UTC),
                    datetime.fromtimestamp(end, UTC),
                    f"{step:g}",
                    params=params,
                    timeout=seconds,
                )
            except _TooLargeError:
                return NoAnswer(Blindness.FAILED, "more than 4 MB; aggregate")
            if (warnings := self._warnings("matrix")) is None:
                return NoAnswer(Blindness.BAD_ANSWER, "the answer is not a range of vectors")
            moments: dict[float, Found] = {}
            for each in series:
                labels = each["metric"]
                for at, value in each.get("values") or ():
                    found = _value(labels, at, value)
                    moments.setdefault(float(at), Found([], warnings)).series.append(found)
            return moments

        return self._asked(request, seconds)

    def close(self) -> None:
        """Let go of connections; requests under way end by their timeout."""
        self._client.close()

    def _asked(self, request: Callable[[], _T | NoAnswer], seconds: float) -> _T | NoAnswer:
        """What a request of the package gives, or the fault that it met."""
        self._call.seconds = seconds
        self._call.deadline = time.monotonic() + seconds
        self._call.status, self._call.body = 0, b""
        try:
            return request()
        except PrometheusApiClientException:
            return refusal(self._call.status, self._call.content_type, self._call.body)
        except _TooLargeError:
            return too_many()
        except Exception as error:  # noqa: BLE001 - not knowing is an answer too
            return self._fault(error)

    def _receive(self, response: requests.Response, **_: Any) -> None:
        """Hook: read the answer, since the package neither bounds it nor keeps all of it."""
        self._call.status = response.status_code
        self._call.content_type = response.headers.get("Content-Type", "")
        self._call.body = _bounded(response.raw, self._call.deadline)
        response.raw = io.BytesIO(self._call.body)

    def _warnings(self, kind: str) -> tuple[str, ...] | None:
        """What the server warned of in an answer of this kind; None for one of another kind."""
        envelope = orjson.loads(self._call.body)
        if envelope["status"] != "success" or envelope["data"]["resultType"] != kind:
            return None
        return tuple(envelope.get("warnings") or ())

    def _fault(self, error: Exception) -> NoAnswer:
        if isinstance(error, _LATE):
            return NoAnswer(Blindness.TIMEOUT, f"no answer within {self._call.seconds:g} s")
        if isinstance(error, _BROKEN) or not self._call.status:
            return NoAnswer(Blindness.UNREACHABLE, _cause(error)[:_DETAIL])
        return _foreign(self._call.status, self._call.content_type)


def _series(found: dict[str, Any]) -> Series:
    if "histogram" in found:
        return Series(str(found["metric"][promql.KIND]), math.nan, histogram=True)
    return _value(found["metric"], *found["value"])


def _value(labels: Mapping[str, str], at: float, value: str) -> Series:
    return Series(str(labels[promql.KIND]), float(value), labels=labels, at=float(at))


class _TooLargeError(Exception):
    """The answer has more bytes than any that could be used."""


def _bounded(raw: Any, deadline: float) -> bytes:
    """The body; a server that drips bytes is cut off at the deadline."""
    body = bytearray()
    try:
        while chunk := raw.read1(_CHUNK, decode_content=True):
            body += chunk
            _stop_beyond(len(body), deadline)
        raw.release_conn()
    finally:
        # Harmless once released; before, what is left must not be taken for the next answer.
        raw.close()
    return bytes(body)


def _stop_beyond(size: int, deadline: float) -> None:
    if size > _MOST_BYTES:
        raise _TooLargeError
    if time.monotonic() > deadline:
        raise TimeoutError


def refusal(status: int, content_type: str, body: bytes) -> NoAnswer:
    """What an answer other than 200 means: Prometheus's own word, or whose else's it is."""
    try:
        envelope = orjson.loads(body)
        reason = _ERROR_TYPES[envelope["errorType"]]
        return NoAnswer(reason, str(envelope["error"])[:_DETAIL])
    except (ValueError, KeyError, TypeError):
        plain = content_type.startswith("text/plain")
        if status == 503 and plain:  # replaying its log after a start, or shutting down
            return NoAnswer(
                Blindness.FAILED, f"not ready: {body[:_DETAIL].decode(errors='replace')}"
            )
        return _foreign(status, content_type)


def _foreign(status: int, content_type: str) -> NoAnswer:
    kind = content_type or "no content type"
    return NoAnswer(Blindness.BAD_ANSWER, f"not an answer of Prometheus: status {status}, {kind}")


def too_many() -> NoAnswer:
    """More than anybody could look at."""
    return NoAnswer(Blindness.FAILED, f"more than {MOST_SERIES} series; aggregate")


def _cause(error: BaseException) -> str:
    """The innermost reason: the outer texts repeat the whole request."""
    while True:
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((each for each in error.args if isinstance(each, BaseException)), None)
        if inner is None:
            return str(error).rpartition("object at 0x")[2] or type(error).__name__
        error = inner
