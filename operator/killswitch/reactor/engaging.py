"""Step 1 of a stop: one Shutdown in the API server for one order, exactly once.

Two reactors that decide at once write the same name; whoever comes second finds the first's
Shutdown and helps. A name that somebody else holds is passed by: it can neither disarm a policy
nor be taken for its own.
"""

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from killswitch.api.orders import Order
from killswitch.core.errors import ConflictError
from killswitch.core.locks import engaged
from killswitch.ports import Cluster, Json

_NAMES = 10
"""How many names with a number are tried for one order."""


async def engage(cluster: Cluster, order: Order) -> Json:
    """The engaged Shutdown, created now or by another replica a moment ago.

    Where that one holds less, or the name belongs to somebody else's Shutdown, a supplement under
    the next free name is created and returned instead.
    RefusedError: nothing was locked and nothing may be touched. ConflictError: this decision's
    Shutdown is released already, so the caller's view is old; or no name was free.
    """
    spec: Json = order.body["spec"]
    for name in _names(order.name):
        metadata = {**order.body["metadata"], "name": name}
        body = {**order.body, "metadata": metadata, "spec": spec}
        try:
            return await cluster.create(order.resource, body, order.namespace)
        except ConflictError:
            existing = await cluster.get(order.resource, name, order.namespace)
        if not _same_decision(spec, existing["spec"]):
            continue
        if not engaged(existing):
            raise ConflictError(f"{order.resource.kind} {name} exists and is released")
        missing = _missing(spec, existing["spec"])
        if not missing:
            return existing
        spec = {**spec, **missing}
    raise ConflictError(f"no name like {order.name} is free for this {order.resource.kind}")


def _names(name: str) -> Iterator[str]:
    """The name, its supplements', and one that nobody can have taken in advance."""
    yield name
    for number in range(1, _NAMES):
        yield f"{name}-more-{number}"
    yield f"{name}-more-{secrets.token_hex(4)}"


def _same_decision(spec: Json, existing: Mapping[str, Any]) -> bool:
    """Whether an existing Shutdown is this order's own, under terms that are no weaker."""
    mine, theirs = spec.get("policy") or {}, existing.get("policy") or {}
    if mine.get("uid") != theirs.get("uid") or mine.get("episode") != theirs.get("episode"):
        return False
    # Whom the API server knows as the requester; the policy is only what that one wrote.
    if spec["requestedBy"] != existing["requestedBy"]:
        return False
    return bool(existing["requiredApprovals"] >= spec["requiredApprovals"])


def _missing(spec: Json, held: Mapping[str, Any]) -> Json:
    """What the order holds and the existing Shutdown does not; empty when it is covered."""
    if (held.get("scope") or {}).get("wholeNamespace"):
        return {}
    missing: Json = {}
    if spec.get("scope") and spec["scope"] != held.get("scope"):
        missing["scope"] = spec["scope"]
    for part in ("locks", "nodes", "namespaces"):
        lacking = {k: v for k, v in (spec.get(part) or {}).items() if k not in held.get(part, {})}
        if lacking:
            missing[part] = lacking
    return missing
