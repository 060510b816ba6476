"""Step 1 of a stop or a freeze: one object in the API server for one order, exactly once.

Two reactors that decide at once write the same name; whoever comes second finds the first's
object and helps. A name that somebody else holds is passed by: it can neither disarm a policy
nor be taken for its own.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from killswitch.api.orders import Order
from killswitch.core.errors import ConflictError
from killswitch.core.locks import engaged
from killswitch.ports import Cluster, Json

_NAMES = 10
"""How many names with a number are tried for one order."""


async def engage(
    cluster: Cluster, order: Order, *, holds: Callable[[Json], bool] = engaged
) -> Json:
    """What holds the order's targets, created now or by another replica a moment ago.

    Where that one holds less, or the name belongs to somebody else, a supplement under the next
    free name is created and returned instead.
    RefusedError: nothing was locked and nothing may be touched. ConflictError: this decision's
    object does not hold any more, so the caller's view is old; or no name was free.
    """
    spec: Json = order.body["spec"]
    for name in _names(order.name):
        existing, made = await _put(cluster, order, name, spec)
        if made:
            return existing
        if not _same_decision(spec, existing["spec"]):
            continue
        if not holds(existing):
            raise ConflictError(f"{order.resource.kind} {name} exists and holds no more")
        missing = beyond(spec, existing["spec"])
        if not missing:
            return existing
        spec = {**spec, **missing}
    raise ConflictError(f"no name like {order.name} is free for this {order.resource.kind}")


async def once(cluster: Cluster, order: Order, *, same: Callable[[Json], bool]) -> Json:
    """The object of an order that is carried out once for ever: created now, or found as `same`.

    Whether that one still holds does not matter. A name that somebody else has is passed by.
    """
    for name in _names(order.name):
        found, made = await _put(cluster, order, name, order.body["spec"])
        if made or same(found):
            return found
    raise ConflictError(f"no name like {order.name} is free for this {order.resource.kind}")


async def _put(cluster: Cluster, order: Order, name: str, spec: Json) -> tuple[Json, bool]:
    """The object of this name, and whether it was created just now."""
    body = {**order.body, "metadata": {**order.body["metadata"], "name": name}, "spec": spec}
    try:
        return await cluster.create(order.resource, body, order.namespace), True
    except ConflictError:
        return await cluster.get(order.resource, name, order.namespace), False


def _names(name: str) -> Iterator[str]:
    """The name, its supplements', and one that nobody can have taken in advance."""
    yield name
    for number in range(1, _NAMES):
        yield f"{name}-more-{number}"
    # No longer: a Freeze's name has up to 80 characters, `-expired` 8, a Shutdown's up to 100.
    yield f"{name}-more-{secrets.token_hex(3)}"


def _same_decision(spec: Json, existing: Mapping[str, Any]) -> bool:
    """Whether an existing Shutdown is this order's own, under terms that are no weaker."""
    mine, theirs = spec.get("policy") or {}, existing.get("policy") or {}
    if mine.get("uid") != theirs.get("uid") or mine.get("episode") != theirs.get("episode"):
        return False
    # Whom the API server knows as the requester; the policy is only what that one wrote.
    if spec["requestedBy"] != existing["requestedBy"]:
        return False
    return bool(existing["requiredApprovals"] >= spec["requiredApprovals"])


def beyond(spec: Mapping[str, Any], held: Mapping[str, Any]) -> Json:
    """What an order holds and the existing Shutdown does not; empty when it is covered."""
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
