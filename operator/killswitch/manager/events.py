"""Kubernetes Events: what people see in `kubectl describe`. Each is told once."""

import contextlib
import hashlib

from killswitch.core import times
from killswitch.core.errors import KillSwitchError
from killswitch.core.resources import EVENTS
from killswitch.ports import Clock, Cluster, Json


async def tell(
    cluster: Cluster,
    clock: Clock,
    about: Json,
    reason: str,
    message: str,
    *,
    warning: bool = False,
    occurrence: str | None = None,
) -> None:
    """An Event about the object; the same words about the same object are told once.

    With an `occurrence`, such as the time of a transition, it is that which is told once, whatever
    figures the message holds by then. Never raises: an Event that cannot be written must not hold
    up what it is about.
    """
    metadata = about["metadata"]
    words = f"{metadata.get('uid')}/{reason}/{message if occurrence is None else occurrence}"
    namespace = metadata.get("namespace") or "default"
    now = times.text(clock.now())
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{hashlib.sha256(words.encode()).hexdigest()[:16]}",
            "namespace": namespace,
        },
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace", ""),
            "uid": metadata.get("uid", ""),
        },
        "reason": reason,
        "message": message[:1024],
        "type": "Warning" if warning else "Normal",
        "source": {"component": "killswitch-manager"},
        "firstTimestamp": now[:19] + "Z",
        "lastTimestamp": now[:19] + "Z",
        "count": 1,
    }
    with contextlib.suppress(KillSwitchError):
        await cluster.create(EVENTS, body, namespace)
