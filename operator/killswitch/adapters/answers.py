"""What an API server's bytes mean: failures, what it serves, and the changes of a watch."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import orjson

from killswitch.core.catalogue import Served
from killswitch.core.errors import KillSwitchError, UnavailableError, of_answer
from killswitch.core.resources import Resource
from killswitch.ports import Change, Json


def failure(status: int, raw: bytes, headers: Any) -> KillSwitchError:
    """The error that an HTTP status and a Status object amount to."""
    message = raw.decode("utf-8", "replace")[:2000]
    with contextlib.suppress(ValueError):
        decoded = orjson.loads(raw)
        if isinstance(decoded, dict):
            message = str(decoded.get("message", message))
    text = message if 400 <= status < 500 else f"{status}: {message}"
    return of_answer(status, text, headers.get("Retry-After"))


def resources_of(group: Json) -> Iterator[Served]:
    """The resources of one group, each in the first (preferred) version that serves it."""
    name = (group.get("metadata") or {}).get("name", "")
    first: dict[str, tuple[Resource, bool]] = {}
    versions: dict[str, set[str]] = {}
    for version in group.get("versions") or ():
        for each in version.get("resources") or ():
            kind = (each.get("responseKind") or {}).get("kind")
            if not kind:
                continue  # only its subresources are served
            plural = each["resource"]
            versions.setdefault(plural, set()).add(version["version"])
            scales = any(s["subresource"] == "scale" for s in each.get("subresources") or ())
            namespaced = each.get("scope") == "Namespaced"
            resource = Resource(name, version["version"], plural, kind, namespaced=namespaced)
            first.setdefault(plural, (resource, scales))
    for plural, (resource, scales) in first.items():
        yield Served(resource, scales, frozenset(versions[plural]))


def change(line: bytes) -> Change:
    """One line of a watch; ExpiredError and the like where it tells of one."""
    try:
        event = orjson.loads(line)
        found = Change(event["type"], event["object"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError(f"not a watch of a Kubernetes API: {error!r}") from error
    if found.type == "ERROR":
        status = found.object
        raise failure(int(status.get("code", 500)), orjson.dumps(status), {})
    return found


async def lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length; aiohttp's own reader refuses objects beyond its buffer."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
