"""A reactor in this process over the real API server, its signals set by the test."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from killswitch.adapters import credentials
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.caps import Cap
from killswitch.core.errors import NotFoundError
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.readings import Answer, Blindness, NoAnswer
from killswitch.core.resources import (
    CLUSTER_POLICIES,
    DEPLOYMENTS,
    FREEZES,
    NAMESPACES,
    PODS,
    POLICIES,
    RECORDS,
    SHUTDOWNS,
    Resource,
)
from killswitch.core.stops import Boundaries
from killswitch.ports import Clock, Json, Scraper, SignalSource
from killswitch.reactor.run import Reactor
from killswitch.reactor.watched import Identity
from killswitch.telemetry.traces import Traces
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import approval, freezes, shutdowns

T = TypeVar("T")
OPERATOR_NAMESPACE = "killswitch-system"
_ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: %(name)s}
rules: %(rules)s
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %(name)s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %(name)s}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: dave}]
"""


@dataclass
class Dial:
    """A signal source whose answers the test turns, by query. Unknown queries are Absent."""

    answers: dict[str, Answer | NoAnswer] = field(default_factory=dict)

    def turn(self, query: str, value: float) -> None:
        """Let the query answer this value, fresh."""
        self.answers[query] = Answer((value,), 0.0)

    async def measure(self, query: str) -> Answer | NoAnswer:
        """What the dial stands at."""
        return self.answers.get(query, NoAnswer(Blindness.ABSENT, "not turned yet"))

    async def recall(self, query: str, span: float, step: float) -> tuple[Answer, ...]:
        """It stood nowhere before."""
        return ()


class EveryQuery:
    """A checker that accepts every query: PromQL is not the subject here."""

    def check(self, field: str, query: str) -> dict[str, str]:
        """Nothing to say."""
        return {}


@dataclass
class Bench:
    """One namespace on the real API server with the product's own client."""

    cluster: KubernetesApi
    namespace: str
    dial: Dial

    async def deployment(self, name: str, replicas: int | None = 2, **spec: Any) -> Json:
        """A Deployment whose pods have all appeared."""
        body = deployment(name, replicas)
        body["spec"] |= spec
        created = await self.cluster.create(DEPLOYMENTS, body, self.namespace)
        expected = 1 if replicas is None else replicas
        await eventually(lambda: self._has_pods(name, expected))
        return created

    async def policy(self, name: str, *, targets: list[Json], **spec: Any) -> Json:
        """A policy that fires when the query named like it answers more than 100."""
        return await self.cluster.create(
            POLICIES, policy(name, targets=targets, **spec), self.namespace
        )

    async def pods(self, app: str = "") -> list[Json]:
        """Pods of the namespace, or of one app."""
        found = (await self.cluster.list(PODS, self.namespace)).items
        return [p for p in found if not app or p["metadata"]["labels"].get("app") == app]

    async def _has_pods(self, app: str, count: int) -> bool:
        return len(await self.pods(app)) == count

    async def replicas(self, name: str) -> int | None:
        """`spec.replicas` of a Deployment now."""
        found = await self.cluster.get(DEPLOYMENTS, name, self.namespace)
        return found["spec"].get("replicas")  # type: ignore[no-any-return]

    async def shutdowns(self) -> list[Json]:
        """Shutdowns of the namespace."""
        return (await self.cluster.list(SHUTDOWNS, self.namespace)).items

    async def freezes(self) -> list[Json]:
        """Freezes of the namespace."""
        return (await self.cluster.list(FREEZES, self.namespace)).items

    async def frozen(self, name: str) -> Json:
        """The Freeze of this name, once it is there."""
        return await eventually(lambda: self.cluster.get(FREEZES, name, self.namespace))

    def thaw(self, kernel: ControlPlane, name: str, person: str = "bob") -> None:
        """This person thaws."""
        order = {"spec": {"thaw": {"by": person, "reason": "false alarm"}}}
        answer = kernel.api(kernel.user(person)).patch(freezes(self.namespace, name), order)
        assert answer.status == 200, answer.message

    async def recorded(self) -> list[Json]:
        """All target records of the namespace, flattened."""
        records = (await self.cluster.list(RECORDS, self.namespace)).items
        return [target for each in records for target in each["spec"].get("targets") or ()]

    async def evidence(self) -> Json | None:
        """The evidence that is stored in the namespace, once it is."""
        records = (await self.cluster.list(RECORDS, self.namespace)).items
        return next(
            (each["spec"]["evidence"] for each in records if "evidence" in each["spec"]), None
        )

    async def edit_labels(self, name: str, labels: dict[str, str]) -> None:
        """Add labels to a Deployment."""
        body = {"metadata": {"labels": labels}}
        await self.cluster.patch(DEPLOYMENTS, name, body, self.namespace)

    def approve(self, kernel: ControlPlane, name: str, *people: str) -> None:
        """These people approve."""
        for person in people:
            api = kernel.api(kernel.user(person))
            answer = api.patch(shutdowns(self.namespace, name), approval(person))
            assert answer.status == 200, answer.message

    async def stopped(self, name: str) -> Json:
        """The Shutdown once its sequence found no pod left."""
        return await self.with_condition(SHUTDOWNS, name, "Stopped", "True")

    async def with_condition(
        self, resource: Resource, name: str, condition: str, status: str, reason: str = ""
    ) -> Json:
        """The object once it has this condition."""

        async def look() -> Json | None:
            found = await self.cluster.get(resource, name, self.namespace)
            for each in found.get("status", {}).get("conditions", ()):
                same = (each["type"], each["status"]) == (condition, status)
                if same and reason in {"", each["reason"]}:
                    return found
            return None

        return await eventually(look)


@contextlib.asynccontextmanager
async def bench(kubeconfig: Path, namespace: str) -> AsyncIterator[Bench]:
    """A governed namespace, ready for stops."""
    async with KubernetesApi(credentials.load(kubeconfig=str(kubeconfig))) as cluster:
        labels = {"metadata": {"labels": {GOVERNED_LABEL: "true"}}}
        await cluster.patch(NAMESPACES, namespace, labels)
        try:
            yield Bench(cluster, namespace, Dial())
        finally:
            await _without_policies(cluster)


async def _without_policies(cluster: KubernetesApi) -> None:
    """Delete what would fire in the reactors of the next test, whose dial has the same queries."""
    for resource in (POLICIES, CLUSTER_POLICIES):
        for each in (await cluster.list(resource)).items:
            metadata = each["metadata"]
            with contextlib.suppress(NotFoundError):
                await cluster.delete(resource, metadata["name"], metadata.get("namespace", ""))


@contextlib.asynccontextmanager
async def reactor(
    setting: Bench,
    replica: str = "reactor-0",
    *,
    scraper: Scraper | None = None,
    traces: Traces | None = None,
    source: SignalSource | None = None,
    clock: Clock | None = None,
    cap: Cap | None = None,
) -> AsyncIterator[Reactor]:
    """A running reactor that has seen everything; cancelled at the end like a killed process.

    It asks the dial unless another source is given.
    """
    identity = Identity(
        username=await setting.cluster.whoami(),
        replica=replica,
        namespace=OPERATOR_NAMESPACE,
        boundaries=Boundaries(frozenset({"kube-system", OPERATOR_NAMESPACE}), GOVERNED_LABEL),
        cap=cap or Cap(),
    )
    running = Reactor(
        setting.cluster,
        clock or SystemClock(),
        source or setting.dial,
        EveryQuery(),
        identity,
        poll_interval=0.05,
        hears_events=True,
        scraper=scraper,
        traces=traces,
    )
    task = asyncio.create_task(running.run())
    try:
        async with asyncio.timeout(20):
            await running.ready.wait()
            # Nor are connections cut off in the midst of being made: asyncio forgets those.
            while running.mirrors.listing or not running.mirrors.discovery.asked:
                await asyncio.sleep(0.01)
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def rights(kernel: ControlPlane, name: str, rules: str) -> AsyncIterator[None]:
    """Dave has these rights for a while."""
    text = _ROLE % {"name": name, "rules": rules}
    kernel.kubectl("apply", "-f", "-", stdin=text)
    try:
        yield
    finally:
        kernel.kubectl("delete", "-f", "-", stdin=text)


@contextlib.asynccontextmanager
async def dave(kernel: ControlPlane) -> AsyncIterator[KubernetesApi]:
    """The client of somebody who lacks what a test takes away."""
    loaded = credentials.load(kubeconfig=str(kernel.user("dave").kubeconfig))
    async with KubernetesApi(loaded) as cluster:
        yield cluster


async def eventually(look: Callable[[], Awaitable[T | None]], within: float = 50.0) -> T:
    """The first truthy result of `look`; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        found = None
        with contextlib.suppress(NotFoundError):
            found = await look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.05)


def deployment(name: str, replicas: int | None) -> Json:
    """A Deployment that kwok runs."""
    labels = {"app": name}
    container = {"name": "server", "image": "models.invalid/vllm"}
    spec: Json = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def policy(name: str, *, targets: list[Json], **spec: Any) -> Json:
    """A policy that fires when the query named like it answers more than 100."""
    signal = {"name": "load", "prometheus": {"query": name, "above": "100"}, "onNoData": "Hold"}
    terms = {"mode": "Enforce", "owner": "alice", "backup": "bob", "signals": [signal]}
    return {
        "apiVersion": POLICIES.api_version,
        "kind": POLICIES.kind,
        "metadata": {"name": name},
        "spec": {**terms, "targets": targets, **spec},
    }
