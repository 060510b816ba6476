"""Mirror the kinds that not every cluster serves, each as soon as it is there and may be read.

A kind that cannot be seen is named in the inventory with the reason: what plans say of it is that they
do not know. No policy waits for the kinds of others.
"""

import asyncio
from dataclasses import dataclass
from functools import partial

from killswitch.core import kinds, projections
from killswitch.core.inventory import Inventory
from killswitch.core.kinds import Kind
from killswitch.core.resources import (
    DEPLOYMENTS,
    NAMESPACES,
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
_NO_KINDS = frozenset({PODS.kind, NODES.kind, NAMESPACES.kind})
"""Targets that are no kinds of workloads."""


@dataclass(slots=True)
class _Mirror:
    reflector: Reflector
    task: asyncio.Task[None]
    resource: Resource


class Mirrors:
    """The reflectors of kinds beyond those that are always there."""

    def __init__(self, cluster: Cluster, clock: Clock, inventory: Inventory) -> None:
        """Nothing is mirrored before `look`."""
        self._cluster = cluster
        self._clock = clock
        self._inventory = inventory
        self.discovery = Discovery(cluster, clock)
        self._mirrors: dict[str, _Mirror] = {}

    @property
    def reflectors(self) -> list[Reflector]:
        """Of what is mirrored now."""
        return [each.reflector for each in self._mirrors.values()]

    async def look(self, named: frozenset[str]) -> None:
        """Follow what the cluster serves; `named` are the kinds that policies name."""
        wanted = named - _NO_KINDS
        catalogue = await self.discovery.look(wanted - kinds.TABLE.keys())
        found: dict[str, Kind | Resource] = {**catalogue.kinds}
        found |= {name: kind for name in wanted if (kind := catalogue.find(name)) is not None}
        found |= {each.key: each for each in catalogue.links}
        self._start({k: v for k, v in found.items() if _resource(v).key not in _keys(ALWAYS)})
        for name in [name for name in self._mirrors if name not in found]:
            await self._stop(name)
        self._tell(wanted)

    async def close(self) -> None:
        """Mirror nothing more."""
        await cancel([each.task for each in self._mirrors.values()])

    def _start(self, found: dict[str, Kind | Resource]) -> None:
        for name, each in found.items():
            resource = _resource(each)
            known = self._mirrors.get(name)
            if known is not None and known.resource == resource:
                continue
            if known is not None:  # it is served in another version
                known.task.cancel()
            project = (
                partial(projections.workload, each)
                if isinstance(each, Kind)
                else partial(projections.child, each)
            )
            sink = InventorySink(self._inventory, project)
            reflector = Reflector(self._cluster, self._clock, resource, sink)
            self._mirrors[name] = _Mirror(reflector, asyncio.create_task(reflector.run()), resource)

    async def _stop(self, name: str) -> None:
        mirror = self._mirrors.pop(name)
        await cancel([mirror.task])
        mirror.reflector.forget()

    def _tell(self, wanted: frozenset[str]) -> None:
        """Name in the inventory what cannot be seen."""
        unseen: dict[str, str] = {}
        for name, mirror in self._mirrors.items():
            if not mirror.reflector.synced.is_set():
                unseen[name] = mirror.reflector.failure or "not listed yet"
        always = {each.kind for each in ALWAYS}
        for name in wanted - self._mirrors.keys() - always:
            unseen[name] = "the cluster does not serve this kind"
        self._inventory.unseen.clear()
        self._inventory.unseen.update(unseen)


def _resource(found: Kind | Resource) -> Resource:
    return found.resource if isinstance(found, Kind) else found


def _keys(resources: tuple[Resource, ...]) -> set[str]:
    return {each.key for each in resources}
