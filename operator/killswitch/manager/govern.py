"""Governing a namespace: from then on the lock applies there."""

from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.resources import NAMESPACES
from killswitch.ports import Cluster


async def governed(cluster: Cluster, namespace: str) -> bool:
    """Whether the lock applies there; NotFoundError if there is no such namespace."""
    body = await cluster.get(NAMESPACES, namespace)
    return (body["metadata"].get("labels") or {}).get(GOVERNED_LABEL) == "true"


async def govern(cluster: Cluster, namespace: str) -> bool:
    """Whether the label had to be set. The API server refuses protected namespaces."""
    if await governed(cluster, namespace):
        return False
    labels = {"metadata": {"labels": {GOVERNED_LABEL: "true"}}}
    await cluster.patch(NAMESPACES, namespace, labels)
    return True
