"""The orders that a stop or a freeze writes: Shutdowns and Freezes.

Used by the reactor when a policy fires and by the command line when a person stops. Names are
deterministic, so that two reactors that decide at once write one Shutdown, or one Freeze.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from killswitch.api.actions import QUIET, Escalation, Graceful
from killswitch.api.compiled import CompiledPolicy
from killswitch.core import times
from killswitch.core.names import ENGAGED_LABEL, POLICY_LABEL
from killswitch.core.nodes import NodeAction
from killswitch.core.resources import (
    CLUSTER_SHUTDOWNS,
    FREEZES,
    SHUTDOWNS,
    Resource,
)
from killswitch.core.stops import Stop

Json = dict[str, Any]
LONGEST_FREEZE = 24 * 3600.0 - 60.0
"""Seconds: a minute below what the API server allows, for clocks that differ."""


@dataclass(frozen=True, slots=True)
class Order:
    """A Shutdown or Freeze about to be created, with the stops it was planned for."""

    resource: Resource
    body: Json
    stops: tuple[Stop, ...]

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Its namespace; empty for a ClusterShutdown."""
        return str(self.body["metadata"].get("namespace", ""))


@dataclass(frozen=True, slots=True)
class Terms:
    """Who stops, why, and on which terms people get it back."""

    requested_by: str
    reason: str
    required_approvals: int = 2
    deadline: str = "1m"
    canary_replicas: int = 1
    soak: str = "30s"
    graceful: Graceful | None = None
    """How long category Graceful takes; None: Immediate."""
    quiet: tuple[str, ...] = tuple(QUIET)
    escalation: tuple[Escalation, ...] = ()
    node_action: str = "Cordon"


@dataclass(frozen=True, slots=True)
class FreezeTerms:
    """Who freezes, why, until when, and what then."""

    requested_by: str
    reason: str
    until: float
    """Seconds since the epoch; written in whole seconds, rounded up."""
    on_expiry: str
    """Thaw or Stop."""
    required_approvals: int = 2
    """Of the Shutdown that Stop makes."""


def episode_name(policy: str, number: int) -> str:
    """Name of the Shutdown of a policy's n-th firing."""
    return f"{policy}-{number}"


def policy_name(shutdown: str) -> str:
    """The name of the policy that a Shutdown of this name may be of: a hint, not a proof."""
    fire, more = r"-[0-9]+(-part-[0-9]+)?(-more-[0-9]+)?", r"(-more-[0-9]+)?"
    return re.sub(rf"({fire}|-freeze{fire}-expired{more})$", "", shutdown)


def freeze_name(policy: str, number: int) -> str:
    """Name of the Freeze of a policy's n-th freezing."""
    return f"{policy}-freeze-{number}"


def episode(stored: Sequence[tuple[int, bool]]) -> int:
    """Which firing of its policy the next order belongs to.

    `stored` has the episode of each of the policy's Shutdowns (or Freezes), and whether it holds. A fire that
    was only half accepted, or whose policy matches more by now, goes on under its own number.
    Otherwise, and where people have released a part of it, the number is a new one.
    """
    highest = max((number for number, _ in stored), default=0)
    still_whole = highest > 0 and all(locks for number, locks in stored if number == highest)
    return highest if still_whole else highest + 1


def for_policy(
    policy: CompiledPolicy,
    stops: Sequence[Stop],
    *,
    number: int,
    requested_by: str,
    reason: str,
    digest: str,
) -> list[Order]:
    """The orders that a fire of the policy gives: all of one episode, one per Shutdown needed."""
    orders = for_stops(
        episode_name(policy.name, number), stops, _terms(policy, requested_by, reason)
    )
    return _signed(orders, policy, number, digest)


def freeze_for_policy(
    policy: CompiledPolicy,
    stops: Sequence[Stop],
    *,
    number: int,
    requested_by: str,
    reason: str,
    digest: str,
    decided: float,
) -> list[Order]:
    """The Freezes of the policy's freezing rung, decided then (seconds since the epoch)."""
    if policy.freeze is None:
        raise ValueError(f"{policy} does not freeze")
    terms = FreezeTerms(
        requested_by=requested_by,
        reason=reason,
        until=decided + min(policy.freeze.seconds, LONGEST_FREEZE),
        on_expiry=policy.freeze.on_expiry,
        required_approvals=policy.required_approvals,
    )
    orders = freeze_for_stops(freeze_name(policy.name, number), stops, terms)
    return _signed(orders, policy, number, digest)


def at_end_of(freeze: Json, requested_by: str, policy: CompiledPolicy | None) -> Order:
    """The Shutdown that a Freeze with `onExpiry: Stop` ends in: the same targets and approvals.

    It restores on the terms of `policy`, the Freeze's own as it stands now, where there is one.
    """
    metadata, spec = freeze["metadata"], freeze["spec"]
    reason = (
        f"Freeze {metadata['name']} of {spec['requestedBy']} came to its end, {spec['until']},"
        f" and nobody had thawed it: {spec['reason']}"
    )
    terms = Terms(requested_by, reason) if policy is None else _terms(policy, requested_by, reason)
    terms = replace(terms, required_approvals=spec["requiredApprovals"])
    held = {name: spec[name] for name in ("locks", "scope", "policy") if name in spec}
    order = _order(
        SHUTDOWNS,
        f"{metadata['name']}-expired",
        metadata["namespace"],
        held=held,
        terms=terms,
        stops=(),
    )
    if "policy" in spec:
        order.body["metadata"]["labels"][POLICY_LABEL] = spec["policy"]["name"]
    return order


def escalation_name(shutdown: Json) -> str:
    """Name of the ClusterShutdown that taints the nodes where pods of a stop are left.

    With a part of the stop's uid: Shutdowns of one fire have one name in several namespaces.
    """
    metadata = shutdown["metadata"]
    return f"{metadata['name'][:70].rstrip('.-')}-{metadata['uid'][:8]}-nodes"


def for_escalation(shutdown: Json, stop: Stop, requested_by: str, reason: str) -> Order:
    """The order that taints these nodes: as many approvals as the stop needs, and no ladder.

    It is no fire of the stop's policy, of which it bears the label alone: whoever releases it begins
    no cooldown.
    """
    spec = shutdown["spec"]
    terms = Terms(
        requested_by,
        reason,
        required_approvals=spec["requiredApprovals"],
        deadline=spec["deadline"],
        quiet=(),
        node_action=NodeAction.TAINT,
    )
    (order,) = for_stops(escalation_name(shutdown), [stop], terms)
    if "policy" in spec:
        order.body["metadata"]["labels"][POLICY_LABEL] = spec["policy"]["name"]
    return order


def _terms(policy: CompiledPolicy, requested_by: str, reason: str) -> Terms:
    return Terms(
        requested_by=requested_by,
        reason=reason,
        required_approvals=policy.required_approvals,
        deadline=policy.deadline,
        canary_replicas=policy.canary_replicas,
        soak=policy.soak,
        graceful=policy.graceful,
        quiet=policy.quiet,
        escalation=policy.escalation,
        node_action=policy.node_action or "Cordon",
    )


def _signed(orders: list[Order], policy: CompiledPolicy, number: int, digest: str) -> list[Order]:
    """The orders with the policy that gives them, and the digest of its evidence."""
    for order in orders:
        order.body["metadata"]["labels"][POLICY_LABEL] = policy.name
        order.body["spec"]["evidenceDigest"] = digest
        order.body["spec"]["policy"] = {
            "kind": policy.kind,
            "name": policy.name,
            "uid": policy.uid,
            "generation": policy.generation,
            "episode": number,
        }
    return orders


def for_stops(name: str, stops: Sequence[Stop], terms: Terms) -> list[Order]:
    """One ClusterShutdown for all nodes, one for several whole namespaces, else a Shutdown each.

    A namespace with more targets than one Shutdown has room for gets several, numbered by part.
    A single whole namespace is a Shutdown there: whoever may stop in it needs no right beyond it.
    """
    nodes = tuple(stop for stop in stops if stop.nodes)
    whole = tuple(stop for stop in stops if stop.whole_namespace)
    orders = []
    if nodes:
        held = {node.name: node.uid for stop in nodes for node in stop.nodes}
        orders.append(
            _order(
                CLUSTER_SHUTDOWNS,
                name,
                "",
                held={"nodes": held, "nodeAction": terms.node_action},
                terms=terms,
                stops=nodes,
            )
        )
    if len(whole) > 1:
        places = {stop.namespace: "" for stop in whole}
        orders.append(
            _order(
                CLUSTER_SHUTDOWNS, name, "", held={"namespaces": places}, terms=terms, stops=whole
            )
        )
    apart = [
        each for each in stops if not each.nodes and not (each.whole_namespace and len(whole) > 1)
    ]
    return orders + [
        _order(SHUTDOWNS, own, stop.namespace, held=_held(stop), terms=terms, stops=(stop,))
        for own, stop in _parts(name, apart)
    ]


def freeze_for_stops(name: str, stops: Sequence[Stop], terms: FreezeTerms) -> list[Order]:
    """A Freeze for each stop, named as Shutdowns are; nodes are not frozen, so none for them.

    Several whole namespaces are a Freeze in each.
    """
    spec = {
        "requestedBy": terms.requested_by,
        "reason": terms.reason[:1024],
        "until": f"{times.text(math.ceil(terms.until))[:19]}Z",
        "onExpiry": terms.on_expiry,
        "requiredApprovals": terms.required_approvals,
    }
    return [
        Order(FREEZES, _body(FREEZES, own, stop.namespace, {**spec, **_held(stop)}), (stop,))
        for own, stop in _parts(name, [each for each in stops if not each.nodes])
    ]


def _parts(name: str, stops: Sequence[Stop]) -> list[tuple[str, Stop]]:
    """Each stop with its name: the second and further ones of a namespace are numbered parts."""
    parts: Counter[str] = Counter()
    named = []
    for stop in stops:
        parts[stop.namespace] += 1
        number = parts[stop.namespace]
        named.append((name if number == 1 else f"{name}-part-{number}", stop))
    return named


def _held(stop: Stop) -> Json:
    held: Json = {}
    if stop.whole_namespace:
        held["scope"] = {"wholeNamespace": True}
    elif stop.pod_labels:
        held["scope"] = {"podLabels": dict(stop.pod_labels)}
    if stop.locks:
        held["locks"] = dict(stop.locks)
    return held


def _order(
    resource: Resource,
    name: str,
    namespace: str,
    *,
    held: Json,
    terms: Terms,
    stops: tuple[Stop, ...],
) -> Order:
    spec = {
        "requestedBy": terms.requested_by,
        "reason": terms.reason[:1024],
        "requiredApprovals": terms.required_approvals,
        "deadline": terms.deadline,
        "restorePolicy": {"canaryReplicas": terms.canary_replicas, "soak": terms.soak},
        "quiet": list(terms.quiet),
        **held,
    }
    if terms.graceful is not None:
        graceful = terms.graceful.model_dump(by_alias=True, exclude_none=True)
        spec |= {"category": "Graceful", "graceful": graceful}
    if terms.escalation:
        spec["escalation"] = [each.model_dump(by_alias=True) for each in terms.escalation]
    return Order(resource, _body(resource, name, namespace, spec), stops)


def _body(resource: Resource, name: str, namespace: str, spec: Json) -> Json:
    metadata: Json = {"name": name, "labels": {ENGAGED_LABEL: "true"}}
    if namespace:
        metadata["namespace"] = namespace
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        "spec": spec,
    }
