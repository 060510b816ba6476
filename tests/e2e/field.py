"""Stops of real and scripted fighters, from the signal to the exact restore. Used by this folder.

A `Field` is one governed namespace with a reactor and a manager in this process over a real API
server. Its witness watches pods in etcd by a watch of its own: what was created after the Shutdown
was, counts as re-created.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from killswitch.core.errors import ExpiredError
from killswitch.core.resources import PODS, SHUTDOWNS, Resource
from killswitch.ports import Cluster, Json
from tests.cluster import crds
from tests.cluster.control_plane import QUICK, ControlPlane
from tests.cluster.examples import Example
from tests.kernel.fixtures import govern, install
from tests.manager.harness import Scene
from tests.reactor.harness import OPERATOR_NAMESPACE, bench, eventually, reactor

T = TypeVar("T")
NODES = 2
_PATIENCE = 60.0
"""Seconds to wait for what comes in a few on a quiet machine."""
POLICY = "runaway"
SHUTDOWN = f"{POLICY}-1"
_NOISE = {
    # Of a DaemonSet: how often its template was edited, which a stop and a restore are.
    "deprecated.daemonset.template.generation",
    "deployment.kubernetes.io/revision",
}


@contextlib.contextmanager
def plane_with_everything(*flags: str) -> Iterator[ControlPlane]:
    """A control plane with the kernel, kwok nodes, and the CRDs of all kinds and fighters.

    `flags` are more of the controller manager's.
    """
    with ControlPlane(controller_manager_flags=(*QUICK, *flags)) as running:
        install(running)
        crds.install(running)
        running.add_gpu_nodes(NODES)
        running.api().create("/api/v1/namespaces", {"metadata": {"name": OPERATOR_NAMESPACE}})
        yield running


@dataclass
class Witness:
    """What a watch of its own saw in one namespace, by etcd's revisions."""

    cluster: Cluster
    namespace: str
    created: list[tuple[int, str]] = field(default_factory=list)
    held: int | None = None
    """The revision at which a reactor had seen the first lock refuse, or else all pods gone."""

    @property
    def recreated(self) -> list[str]:
        """Pods that were created after the lock was seen to hold.

        It holds some 10 ms after the Shutdown is accepted; what was created before that, the stop deletes.
        """
        assert self.held is not None, "no lock was seen to hold"
        return [name for at, name in self.created if at > self.held]

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator["Witness"]:
        """See everything from now on."""
        versions = {each: (await self._list(each)) for each in (PODS, SHUTDOWNS)}
        tasks = [asyncio.create_task(self._follow(*each)) for each in versions.items()]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _list(self, resource: Resource) -> str:
        return (await self.cluster.list(resource, self.namespace)).version

    async def _follow(self, resource: Resource, version: str) -> None:
        while True:
            with contextlib.suppress(ExpiredError):
                async for change in self.cluster.watch(resource, version, self.namespace):
                    metadata = change.object["metadata"]
                    version = metadata["resourceVersion"]
                    if resource == PODS and change.type == "ADDED":
                        self.created.append((int(version), metadata["name"]))
                    if resource == SHUTDOWNS and self.held is None:
                        stages = change.object.get("status", {}).get("stages", {})
                        self.held = int(version) if stages.keys() & {"proven", "stopped"} else None


@dataclass
class Field:
    """One governed namespace with the people around it."""

    scene: Scene
    witness: Witness

    @property
    def cluster(self) -> Cluster:
        """The product's client as the administrator."""
        return self.scene.bench.cluster

    @property
    def namespace(self) -> str:
        """Where everything is."""
        return self.scene.namespace

    async def set_up(self, example: Example) -> Json:
        """Create it and what is around it; the object once all its pods are there."""
        for resource, body in example.around:
            await self.cluster.create(resource, _typed(resource, body), self.namespace)
        if not example.made:
            body = _typed(example.resource, example.body)
            await self.cluster.create(example.resource, body, self.namespace)
        owner: Json = await eventually(lambda: self.get(example))
        for resource, body in example.apart:
            await self.cluster.create(resource, _typed(resource, body), self.namespace)
        for resource, body in example.below:
            below = example.owned(_typed(resource, body), owner)
            await self.cluster.create(resource, below, self.namespace)
        await self.running(example.pods)
        return await self.get(example)

    async def get(self, example: Example) -> Json:
        """The object as it is now."""
        return await self.cluster.get(example.resource, example.name, self.namespace)

    async def running(self, count: int) -> None:
        """Return once exactly so many pods run."""

        async def look() -> bool:
            pods = await self.scene.bench.pods()
            ready = [each for each in pods if each["status"].get("phase") == "Running"]
            return len(pods) == len(ready) == count

        await eventually(look, _PATIENCE)

    async def policy(self, *targets: Json, **more: Any) -> None:
        """A policy on these targets that accepts what is lost and restores without a soak."""
        action = {"acceptLoss": True, **more.pop("action", {})}
        restore = {"canaryReplicas": 1, "soak": "0s"}
        await self.scene.bench.policy(
            POLICY, targets=list(targets), action=action, restore=restore, **more
        )

    async def trip(self, *, known: bool = True) -> None:
        """Let the policy fire; return when the stop is verified and everything rests.

        Where its pods are not `known`, when that is what both who stop and who verify say.
        """
        await self.scene.policy_condition(POLICY, "Ready", "True")
        self.scene.bench.dial.turn(POLICY, 101)
        for type_ in ("Verified",) if known else ("Stopped", "Verified"):
            await self.condition(type_, str(known), "" if known else "PodsNotKnown")
        await self._eventually(self._rests, "at rest")
        self.scene.bench.dial.turn(POLICY, 0)

    async def shutdown(self) -> Json:
        """The Shutdown as it is now."""
        return await self.cluster.get(SHUTDOWNS, SHUTDOWN, self.namespace)

    async def _rests(self) -> bool:
        return "scaled" in (await self.shutdown())["status"].get("stages", {})

    async def release(self) -> None:
        """Two people release; return when the manager says so."""
        await self.scene.policy_condition(POLICY, "Demanded", "False")
        self.scene.approve(SHUTDOWN, "bob", "carol")
        await self.condition("Released", "True")

    async def restore(self) -> str:
        """Somebody orders the restore; what the manager says when it is complete."""
        self.scene.order_restore(SHUTDOWN)
        return await self.condition("Restored", "True", "Complete")

    async def condition(self, type_: str, status: str, reason: str = "") -> str:
        """The message of the Shutdown's condition, once it stands so."""

        async def look() -> Json | None:
            conditions = (await self.shutdown()).get("status", {}).get("conditions") or ()
            for each in conditions:
                same = (each["type"], each["status"]) == (type_, status)
                if same and reason in {"", each["reason"]}:
                    return {**each}
            return None

        found: Json = await self._eventually(look, f"{type_}={status}")
        return str(found["message"])

    async def _eventually(self, look: Callable[[], Awaitable[T | None]], what: str) -> T:
        """What it finds in the end; otherwise the error says what the Shutdown says."""
        try:
            return await eventually(look, _PATIENCE)
        except AssertionError as error:
            told = (await self.shutdown()).get("status")
            raise AssertionError(f"not {what}: {told}") from error

    async def say_ready(self, example: Example) -> None:
        """Count its pods as ready, in place of a controller that is not played."""
        body = {"status": {"replicas": 2, "readyReplicas": 2}}
        name = example.name
        await self.cluster.patch(example.resource, name, body, self.namespace, subresource="status")


@contextlib.asynccontextmanager
async def taken(plane: ControlPlane, namespace: str, **settings: Any) -> AsyncIterator[Field]:
    """A fresh governed namespace with a running reactor and manager, which has these settings."""
    assert plane.api().create("/api/v1/namespaces", {"metadata": {"name": namespace}}).status == 201
    govern(plane, namespace)
    async with bench(plane.admin.kubeconfig, namespace) as ready:
        ready.dial.turn(POLICY, 0)
        scene = Scene(plane, ready)
        witness = Witness(ready.cluster, namespace)
        async with witness.watching(), scene.manager(**settings), reactor(ready):
            yield Field(scene, witness)


def essence(body: Json) -> Json:
    """What a restore owes: all but status and the API server's own bookkeeping.

    Of a pod, which comes back under another uid, what its owner wrote.
    """
    metadata = body["metadata"]
    annotations = metadata.get("annotations") or {}
    kept: Json = {
        "name": metadata["name"],
        "labels": metadata.get("labels") or {},
        "annotations": {k: v for k, v in annotations.items() if k not in _NOISE},
        "ownerReferences": metadata.get("ownerReferences") or [],
        "finalizers": metadata.get("finalizers") or [],
    }
    if body["kind"] != "Pod":
        return {"metadata": {**kept, "uid": metadata["uid"]}, "spec": body.get("spec")}
    spec = {name: value for name, value in body["spec"].items() if name != "nodeName"}
    for name in ("volumes", "containers"):
        spec[name] = [_own(each) for each in spec.get(name, ()) if not _token(each)]
    return {"metadata": kept, "spec": spec}


def _own(part: Json) -> Json:
    mounts = [each for each in part.get("volumeMounts", ()) if not _token(each)]
    return {**{k: v for k, v in part.items() if k != "volumeMounts"}, "volumeMounts": mounts}


def _token(part: Json) -> bool:
    """The API server's own volume with the service account's token, named anew for each pod."""
    return str(part["name"]).startswith("kube-api-access-")


def _typed(resource: Resource, body: Json) -> Json:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **body}
