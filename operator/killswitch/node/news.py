"""What the guard's threads tell it, through one queue: the guard alone holds state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from killswitch.core.resources import Resource

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listed:
    """All that there is of a resource: what is not among these has gone."""

    resource: Resource
    bodies: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """One object was added or changed."""

    resource: Resource
    body: Json


@dataclass(frozen=True, slots=True)
class Gone:
    """One object is there no more, or not selected any more."""

    resource: Resource
    uid: str


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A resource cannot be read now: what was known of it stays true until a list says otherwise."""

    resource: Resource
    why: str
    absent: bool = False
    """The API server does not know this kind at all (404)."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The API server has answered lately."""

    at: float


@dataclass(frozen=True, slots=True)
class Silent:
    """It was asked, and has not answered for a while."""

    at: float


@dataclass(frozen=True, slots=True)
class Leave:
    """Somebody wants this process to end (SIGTERM)."""


News = Listed | Changed | Gone | Unlisted | Heard | Silent | Leave
