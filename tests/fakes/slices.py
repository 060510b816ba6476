"""Port `Cluster` as far as EndpointSlices go: listed, and watched for changes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from killswitch.core.errors import KillSwitchError
from killswitch.core.inventory import Pod
from killswitch.ports import Change, Json, Page


class FakeSlices:
    """Holds EndpointSlices by name. `error` is what a list meets instead, while it is set."""

    def __init__(self) -> None:
        self.error: KillSwitchError | None = None
        self.listed: list[str] = []
        """Namespaces that were listed."""
        self._held: dict[str, Json] = {}
        self._watches: list[asyncio.Queue[Change]] = []

    def put(self, body: Json) -> None:
        """Add or replace."""
        name = body["metadata"]["name"]
        kind = "MODIFIED" if name in self._held else "ADDED"
        self._held[name] = body
        self._tell(Change(kind, body))

    def remove(self, name: str) -> None:
        """Delete."""
        self._tell(Change("DELETED", self._held.pop(name)))

    async def list(self, resource: Any, namespace: str = "", **_: Any) -> Page:
        """What it holds of this namespace."""
        self.listed.append(namespace)
        if self.error is not None:
            raise self.error
        found = self._held.values()
        return Page([each for each in found if each["metadata"]["namespace"] == namespace], "1")

    async def watch(self, resource: Any, version: str, **_: Any) -> AsyncIterator[Change]:
        """What changes from now on."""
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._watches.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watches.remove(queue)

    def _tell(self, change: Change) -> None:
        for each in self._watches:
            each.put_nowait(change)


def endpoint(pod: Pod, address: str = "", **more: Any) -> Json:
    """An endpoint of a pod, at its own address unless told otherwise."""
    target = {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid}
    return {"addresses": [address or pod.addresses[0]], "targetRef": target, **more}


def endpoint_slice(
    port: int, *endpoints: Json, service: str = "vllm", namespace: str = "prod", **more: Any
) -> Json:
    """An EndpointSlice of a Service whose port is called metrics."""
    metadata = {
        "name": f"{service}-1",
        "namespace": namespace,
        "uid": f"slice-{namespace}-{service}",
        "resourceVersion": "1",
        "labels": {"kubernetes.io/service-name": service},
    }
    ports = [{"name": "metrics", "port": port, "protocol": "TCP"}]
    body = {"metadata": metadata, "addressType": "IPv4", "ports": ports, "endpoints": [*endpoints]}
    return {**body, **more}
