"""Ask a cluster, now and then, which kinds of workloads it serves.

What cannot be asked stays as it was known; before the first answer it is what every cluster serves.
"""

from collections.abc import Sequence

import structlog

from killswitch.core import kinds
from killswitch.core.catalogue import Catalogue, Served
from killswitch.core.errors import KillSwitchError, RefusedError
from killswitch.core.resources import Resource
from killswitch.ports import Clock, Cluster

_CRDS = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
_LOG = structlog.get_logger(__name__)


class Discovery:
    """The catalogue of one cluster, kept for `fresh` seconds at a time."""

    def __init__(self, cluster: Cluster, clock: Clock, *, fresh: float = 10.0) -> None:
        """Nothing was asked yet."""
        self._cluster = cluster
        self._clock = clock
        self.fresh = fresh
        """Seconds for which an answer is good."""
        self._asked = float("-inf")
        self._wanted: frozenset[str] = frozenset()
        self._counts: dict[str, tuple[str, ...]] = {}
        self.catalogue = Catalogue.built_in()
        """As it was known last."""
        self.asked = False
        """Whether the catalogue is the cluster's own, so that what it lacks is not there."""
        self.failure = ""
        """Why it could not be asked, the last time; empty where it could."""

    async def look(self, wanted: frozenset[str] = frozenset()) -> Catalogue:
        """The catalogue; `wanted` are names of kinds beyond the table that somebody is about.

        Never raises: not knowing leaves what was known.
        """
        now = self._clock.monotonic()
        if now - self._asked < self.fresh and wanted <= self._wanted:
            return self.catalogue
        try:
            served = await self._cluster.served()
            for name in wanted:
                await self._learn_count(name, served)
        except KillSwitchError as error:
            self.failure = str(error)
            _LOG.warning("kinds could not be discovered", error=str(error))
            return self.catalogue
        self._asked, self._wanted = now, wanted
        self.asked, self.failure = True, ""
        self.catalogue = Catalogue(served, self._counts)
        return self.catalogue

    async def _learn_count(self, name: str, served: Sequence[Served]) -> None:
        """Where a kind with `/scale` keeps its count, from its definition.

        Nowhere where that may not be read; `spec.replicas` where there is none.
        """
        kind, _, group = name.partition(".")
        for each in served:
            resource = each.resource
            meant = (resource.kind, resource.group) == (kind, group) and each.scales
            if not meant or name in kinds.TABLE or self._counts.get(resource.key):
                continue
            try:
                definition = await self._cluster.get(_CRDS, resource.key)
            except (
                RefusedError
            ) as error:  # where its count stands is not known, so nor is the count
                _LOG.warning("a kind's definition may not be read", kind=name, error=str(error))
                self._counts[resource.key] = ()
                continue
            except KillSwitchError as error:  # not a custom kind
                _LOG.info("a kind's definition cannot be read", kind=name, error=str(error))
                continue
            for version in definition["spec"]["versions"]:
                scale = (version.get("subresources") or {}).get("scale")
                if version["name"] == resource.version and scale:
                    path = scale["specReplicasPath"].lstrip(".")
                    self._counts[resource.key] = tuple(path.split("."))
