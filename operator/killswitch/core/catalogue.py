"""Which kinds of workloads a cluster serves, and in which version; what is missing, and why.

Of the kinds in `kinds.TABLE` those are there that the API server serves. Any other kind that serves
`/scale` is stopped by that; what serves neither is `unsupported`: locked, and its pods deleted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from killswitch.core import kinds
from killswitch.core.kinds import Kind
from killswitch.core.resources import Resource


@dataclass(frozen=True, slots=True)
class Served:
    """A resource that the API server serves, in the version that it prefers."""

    resource: Resource
    scales: bool = False
    """Whether it has `/scale`."""
    versions: frozenset[str] = frozenset()
    """All versions in which it is served."""


class Catalogue:
    """The kinds of one cluster at one moment. Immutable: a change is another catalogue."""

    def __init__(
        self, served: Iterable[Served], counts: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        """`counts`: of kinds with `/scale` that the table lacks, where their count stands (by key).

        Empty where that may not be read.
        """
        self._served = {each.resource.key: each for each in served}
        self._by_kind = {
            (each.resource.kind, each.resource.group): each for each in self._served.values()
        }
        self._counts = counts or {}
        self.kinds = {
            name: found
            for name, kind in kinds.TABLE.items()
            if (found := self._at_served_version(kind)) is not None
        }
        """Of the table, by name, each in a version that is served."""
        links = map(self._served_as, kinds.LINKS)
        self.links = tuple(each for each in links if each is not None)

    @classmethod
    def built_in(cls) -> "Catalogue":
        """What every cluster serves: what is known before it could be asked."""
        own = (kind.resource for kind in kinds.TABLE.values())
        return cls(Served(each) for each in own if each.group in kinds.BUILT_IN_GROUPS)

    def find(self, name: str) -> Kind | None:
        """The kind of this name (see `kinds.named`); None where the cluster does not serve it."""
        if (known := self.kinds.get(name)) is not None or name in kinds.TABLE:
            return known
        kind, _, group = name.partition(".")
        served = self._by_kind.get((kind, group))
        if served is None or not served.resource.namespaced:
            return None
        if not served.scales:
            return kinds.unsupported(served.resource)
        path = self._counts.get(served.resource.key, ("spec", "replicas"))
        if not path:
            return kinds.unsupported(served.resource, hidden=True)
        return kinds.scaled(served.resource, path=path, qualified=True)

    def named(self, key: str) -> str | None:
        """The name of the kind whose resource has this key (`engines.example.com`), if it is served."""
        resource = self.serves(key)
        return None if resource is None else kinds.named(resource.kind, resource.group)

    def called(self, word: str) -> str | None:
        """The name of the kind that people call so: `engines.example.com` or `engine.example.com`."""
        for each in self._served.values():
            resource = each.resource
            single = f"{resource.kind}.{resource.group}".lower()
            if word in {resource.key, single} and resource.namespaced:
                return kinds.named(resource.kind, resource.group)
        return None

    def serves(self, key: str) -> Resource | None:
        """The resource of this key (`horizontalpodautoscalers.autoscaling`), if it is served."""
        found = self._served.get(key)
        return None if found is None else found.resource

    def _served_as(self, resource: Resource) -> Resource | None:
        served = self._served.get(resource.key)
        if served is None:
            return None
        known = resource.version in served.versions
        return resource if known else served.resource

    def _at_served_version(self, kind: Kind) -> Kind | None:
        resource = self._served_as(kind.resource)
        return None if resource is None else replace(kind, resource=resource)
