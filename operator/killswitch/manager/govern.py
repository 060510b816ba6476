"""Governing a namespace: from then on the lock applies there."""

from killswitch.api.common import GOVERNED_LABEL
from killswitch.core.kinds import NAMESPACES
from killswitch.ports import Cluster


async def govern(cluster: Cluster, namespace: str) -> bool:
    """Whether the label had to be set. The API server refuses protected namespaces."""
    body = await cluster.get(NAMESPACES, namespace)
    if (body["metadata"].get("labels") or {}).get(GOVERNED_LABEL) == "true":
        return False
    labels = {"metadata": {"labels": {GOVERNED_LABEL: "true"}}}
    await cluster.patch(NAMESPACES, namespace, labels)
    return True
