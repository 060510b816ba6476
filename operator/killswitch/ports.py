"""What the flows need from the outside, as Protocols. Adapters and fakes bear the same names.

Kubernetes objects cross the `Cluster` port as the JSON they are: one narrow seam with trivial
doubles, projected to core values right behind it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from killswitch.core.catalogue import Served
from killswitch.core.reaction import Feeds, RuleGroup
from killswitch.core.readings import Answer, NoAnswer
from killswitch.core.resources import Resource

Json = dict[str, Any]


class Clock(Protocol):
    """Time. Wall time is for people and samples, monotonic time for deadlines."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """A consistent list: its items and the resource version to watch from."""

    items: list[Json]
    version: str


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch: ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Json


class Cluster(Protocol):
    """The Kubernetes API. Every method raises the errors of `core.errors`, nothing else."""

    def endpoints(self) -> Sequence["Cluster"]:
        """This port once per API server of the cluster, each asking that one alone.

        Their `str` names them to people.
        """
        ...

    async def whoami(self) -> str:
        """The username that the API server sees."""
        ...

    async def served(self) -> Sequence[Served]:
        """Every resource that it serves; those of a group that does not answer are left out."""
        ...

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        """The object; NotFoundError if it is not there."""
        ...

    async def list(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Page:
        """All objects, read from etcd and not from a cache, in pages."""
        ...

    def watch(
        self, resource: Resource, version: str, namespace: str = "", *, fields: str = ""
    ) -> AsyncIterator[Change]:
        """Changes after `version`, until the server closes; ExpiredError if it is too old."""
        ...

    async def create(
        self, resource: Resource, body: Json, namespace: str = "", *, dry_run: bool = False
    ) -> Json:
        """The created object; ConflictError if the name is taken."""
        ...

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Json,
        namespace: str = "",
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Json:
        """The object after a JSON merge patch."""
        ...

    async def apply(
        self,
        resource: Resource,
        name: str,
        body: Json,
        namespace: str = "",
        *,
        subresource: str = "",
        manager: str,
    ) -> Json:
        """The object after a forced server-side apply as this field manager."""
        ...

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        grace: int | None = None,
        uid: str = "",
    ) -> Json:
        """What was asked to go, as it was, or a Status; NotFoundError, ConflictError if uid differs.

        Without `grace` it gets its own.
        """
        ...

    async def evict(self, name: str, namespace: str, *, uid: str, grace: int | None = None) -> None:
        """Eviction of a pod accepted, with so many seconds of grace; its own without.

        OverloadedError while a PodDisruptionBudget allows none, ServerError where budgets contradict;
        NotFoundError if it was gone, ConflictError if uid differs.
        """
        ...


class SignalSource(Protocol):
    """Where measurements come from."""

    async def measure(self, query: str) -> Answer | NoAnswer:
        """What the query yields now. Never raises: not knowing is an answer too."""
        ...

    async def recall(self, query: str, span: float, step: float) -> Sequence[Answer] | NoAnswer:
        """What `measure` would have said every `step` seconds of the last `span`, oldest first.

        In whole seconds from 1 on, since Prometheus' package asks no finer. Never raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where one pod exposes its metrics."""

    host: str
    """An IP address: no name is ever looked up."""
    port: int
    path: str = "/metrics"
    tls: str = ""
    """The name that its certificate must bear; empty for plain HTTP."""
    verified: bool = True


@dataclass(frozen=True, slots=True)
class Exposed:
    """The text of one scrape, whole."""

    body: bytes
    openmetrics: bool = False


class Scraper(Protocol):
    """Asks pods for their metrics."""

    async def scrape(
        self, place: Place, names: tuple[str, ...], within: float
    ) -> Exposed | NoAnswer:
        """What is exposed, after `within` seconds at the latest. Never raises.

        `names`: the only metrics that are wanted, for exporters that can leave out the others.
        """
        ...


class SampleFeeds(Protocol):
    """How often the samples behind queries and alerts come. No method raises."""

    async def feeds(self, query: str) -> Feeds:
        """The slowest feed of each job that a good query reads, or why they are not known."""
        ...

    async def alert(self, name: str) -> Feeds:
        """The same for the rules of this alert, until it fires; every rule of that name counts."""
        ...

    async def rule_group(self, name: str) -> RuleGroup | None:
        """The rule group; None where it is not loaded, or that is not known."""
        ...


class QueryChecker(Protocol):
    """Judges a query's text before anything is armed with it."""

    def check(self, field: str, query: str) -> Mapping[str, str]:
        """Facts about a good query; InvalidPolicyError naming `field` for one that cannot work."""
        ...
