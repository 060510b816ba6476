"""Undo what a stop wrote into single fields: only where it still stands, to exactly what was there.

Absent is a value: such a field is taken away. What neither stands as the stop wrote it nor as it was
before is somebody else's decision by now: it is named, and left.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from killswitch.core import fighters, kinds
from killswitch.core.kinds import Kind, Scalar, Setting
from killswitch.core.names import CUT_KEY

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One recorded field of an object."""

    path: tuple[str, ...]
    was: Any
    """What stood there, any JSON; None: nothing did."""
    wrote: Scalar
    """What the stop put there; None: it took the field away."""

    def stands(self, body: Json) -> bool:
        """Whether it still is as the stop left it, and was not so before."""
        return bool(self.wrote != self.was and self._now(body) == self.wrote)

    def conflict(self, body: Json) -> str:
        """What somebody else has made of it, in a sentence; empty where nobody has."""
        now = self._now(body)
        # A default that the API server fills in stands for absent.
        if now in (self.wrote, self.was) or (self.was is None and not now):
            return ""
        return f"{'.'.join(self.path)} is {json.dumps(now)} by somebody else"

    def _now(self, body: Json) -> Any:
        return Setting(self.path, rest=None).read(body)


def fields(record: Json, holder: str, kind: Kind | None = None) -> list[Field]:
    """The recorded fields of a target of this kind, a fighter or a Service.

    `holder` is the uid of the Shutdown that recorded it. A field of which it is not known what a stop
    writes there is left out: nothing of it could be undone safely.
    """
    wrote = _wrote(record["kind"], holder, kind)
    found = []
    for each in record.get("settings") or ():
        path = path_of(each["field"])
        if path in wrote:
            was = json.loads(each["was"]) if "was" in each else None
            found.append(Field(path, was, wrote[path]))
    return found


def undo(body: Json, recorded: Iterable[Field]) -> dict[str, Any] | None:
    """The merge patch that puts back what still stands as the stop wrote it; None: nothing does."""
    values = [(each.path, each.was) for each in recorded if each.stands(body)]
    return kinds.patch(values) if values else None


def path_of(pointer: str) -> tuple[str, ...]:
    """The path that a JSON pointer (RFC 6901) means."""
    return tuple(
        part.replace("~1", "/").replace("~0", "~") for part in pointer.removeprefix("/").split("/")
    )


def is_cut(record: Json) -> bool:
    """Whether the record is of traffic that was cut."""
    return any(path_of(each["field"])[-1] == CUT_KEY for each in record.get("settings") or ())


def cut_value(holder: str) -> str:
    """What stands under CUT_KEY in a selector that a Shutdown of this uid has cut."""
    return holder[:8]


def _wrote(name: str, holder: str, kind: Kind | None) -> dict[tuple[str, ...], Scalar]:
    found: dict[tuple[str, ...], Scalar] = {
        (*place, CUT_KEY): cut_value(holder)
        for place in (("spec", "selector"), ("spec", "selector", "matchLabels"))
    }
    if kind is not None:
        found |= {each.path: each.rest for each in kind.settings}
    fighter = fighters.RECORDED.get(name)
    if fighter is not None:
        found |= {each.path: each.rest for way in fighter.ways for each in way}
    return found
