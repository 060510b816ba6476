"""What the manager may write of those who start workloads again: the fields by which each is quieted."""

from dataclasses import dataclass

from killswitch.core import fighters
from killswitch.core.kinds import Setting
from killswitch.core.resources import Resource


@dataclass(frozen=True, slots=True)
class Quieted:
    """A kind of object that can be paused, and where that is written."""

    resource: Resource
    setting: Setting
    """Of all ways to quiet it the one that changes the most: what is within it may be written."""


QUIETED = tuple(
    Quieted(each.resource, min((way[0] for way in each.ways), key=lambda s: len(s.path)))
    for each in fighters.TABLE
    if each.resource is not None and each.ways
)
