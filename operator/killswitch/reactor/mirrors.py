"""Mirror the kinds that not every cluster serves, each as soon as it is there and may be read.

A kind that cannot be seen is named in the inventory with the reason: what plans say of it is that they
do not know. No policy waits for the kinds of others.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from killswitch.core import kinds, projections
from killswitch.core.inventory import Inventory
from killswitch.core.kinds import Kind
from killswitch.core.resources import (
    DEPLOYMENTS,
    NODES,
    PODS,
    REPLICASETS,
    STATEFULSETS,
    Resource,
)
from killswitch.discovery import Discovery
from killswitch.ports import Clock, Cluster
from killswitch.reactor.fan_out import cancel
from killswitch.reactor.view import InventorySink
from killswitch.reflector import Reflector

ALWAYS = (NODES, DEPLOYMENTS, STATEFULSETS, REPLICASETS, PODS)
"""Mirrored before anything is judged."""
_ALWAYS_KEYS = frozenset(each.key for each in ALWAYS)
_OPTIONAL = tuple(kind for kind in kinds.TABLE.values() if kind.resource.key not in _ALWAYS_KEYS)
_REFUSED = 10.0
"""Seconds after which a kind that could not be listed is asked for again, in the end."""
_STALE = 90.0
"""Seconds without a word after which a kind that fails counts as not seen."""


@dataclass(slots=True)
class _Mirror:
    reflector: Reflector
    task: asyncio.Task[None]
    resource: Resource


class Mirrors:
    """The reflectors of kinds beyond those that are always there."""

    def __init__(self, cluster: Cluster, clock: Clock, inventory: Inventory) -> None:
        """Nothing is mirrored before `look`, and so nothing of these kinds is seen."""
        self._cluster = cluster
        self._clock = clock
        self._inventory = inventory
        self.discovery = Discovery(cluster, clock)
        self._mirrors: dict[str, _Mirror] = {}
        self._inventory.seen = _ALWAYS_KEYS
        self._inventory.unseen |= {kind.name: "not listed yet" for kind in _OPTIONAL}

    @property
    def heard(self) -> dict[str, float]:
        """When (monotonic) the API server last said anything, of each kind that is seen."""
        return {
            name: each.reflector.heard
            for name, each in self._mirrors.items()
            if each.reflector.synced.is_set()
        }

    @property
    def listing(self) -> bool:
        """Whether a kind is being listed for the first time."""
        return any(
            name in self._inventory.unseen and not each.reflector.failure
            for name, each in self._mirrors.items()
        )

    async def look(self, named: frozenset[str], held: frozenset[str] = frozenset()) -> None:
        """Follow what the cluster serves.

        `named` are the kinds that policies name, `held` the keys of the resources that Shutdowns
        hold: whose policy may be gone.
        """
        known = self.discovery.catalogue
        named |= {name for key in held if (name := known.named(key)) is not None}
        wanted = named - kinds.NO_KINDS
        catalogue = await self.discovery.look(wanted - kinds.TABLE.keys())
        found: dict[str, Kind | Resource] = {**catalogue.kinds}
        found |= {name: kind for name in wanted if (kind := catalogue.find(name)) is not None}
        found |= {each.key: each for each in catalogue.links}
        found = {k: v for k, v in found.items() if _resource(v).key not in _ALWAYS_KEYS}
        self._start({k: v for k, v in found.items() if k in kinds.LINK_KEYS})
        # Known without what leads to its pods, it would be locked without them, and look stopped.
        early = {k: why for k, v in found.items() if (why := self._misses(_resource(v)))}
        self._start({k: v for k, v in found.items() if k in self._mirrors or k not in early})
        for name in [name for name in self._mirrors if name not in found]:
            await self._stop(name)
        self._tell(wanted, held, early)

    async def close(self) -> None:
        """Mirror nothing more."""
        await cancel([each.task for each in self._mirrors.values()])

    def _start(self, found: dict[str, Kind | Resource]) -> None:
        for name, each in found.items():
            resource = _resource(each)
            known = self._mirrors.get(name)
            if known is not None and known.resource == resource:
                continue
            project = (
                partial(projections.workload, each)
                if isinstance(each, Kind)
                else partial(projections.child, each)
            )
            sink = InventorySink(self._inventory, project)
            reflector = Reflector(self._cluster, self._clock, resource, sink, longest=_REFUSED)
            if known is not None:  # it is served in another version
                known.task.cancel()
                reflector.inherit(known.reflector.known)
            self._mirrors[name] = _Mirror(reflector, asyncio.create_task(reflector.run()), resource)

    async def _stop(self, name: str) -> None:
        mirror = self._mirrors.pop(name)
        await cancel([mirror.task])
        mirror.reflector.forget()

    def _misses(self, resource: Resource) -> str:
        """Which link from workloads of this resource to their pods is not seen, and why."""
        if resource.key in kinds.LINK_KEYS:
            return ""
        now = self._clock.monotonic()
        links = (self._mirrors.get(key) for key in sorted(kinds.LINK_KEYS))
        for link in links:
            if link is None or link.resource.group != resource.group:
                continue
            if why := _blind(link.reflector, now):
                return f"{link.resource.kind}: {why}"
        return ""

    def _tell(self, wanted: frozenset[str], held: frozenset[str], early: Mapping[str, str]) -> None:
        """Name in the inventory what cannot be seen; `early` is what waits for its links."""
        unseen: dict[str, str] = {}
        now = self._clock.monotonic()
        for name, mirror in self._mirrors.items():
            if why := _blind(mirror.reflector, now):
                unseen[name] = why
        always = {each.kind for each in ALWAYS}
        there = self.discovery.asked
        for name in wanted - self._mirrors.keys() - always:
            unseen[name] = "the cluster does not serve this kind" if there else "not listed yet"
        if not there:
            hidden = (kind.name for kind in _OPTIONAL if kind.name not in self._mirrors)
            unseen |= dict.fromkeys(hidden, "the cluster could not be asked yet")
        unseen |= early
        seen = {each.resource.key for n, each in self._mirrors.items() if n not in unseen}
        gone = {key for key in held if there and self.discovery.catalogue.serves(key) is None}
        self._inventory.seen = _ALWAYS_KEYS | seen | gone
        self._inventory.unseen.clear()
        self._inventory.unseen.update(unseen)


def _blind(reflector: Reflector, now: float) -> str:
    """Why the objects of a kind are not known; empty where they are."""
    if not reflector.synced.is_set():
        return reflector.failure or "not listed yet"
    return reflector.failure if now - reflector.heard > _STALE else ""


def _resource(found: Kind | Resource) -> Resource:
    return found.resource if isinstance(found, Kind) else found
