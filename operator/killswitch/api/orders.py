"""The objects that a stop writes: the Shutdown itself, its evidence and its records.

Used by the reactor when a policy fires and by the command line when a person stops. Names are
deterministic, so that two reactors that decide at once write one Shutdown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from killswitch.api.common import ENGAGED_LABEL, POLICY_LABEL, SHUTDOWN_LABEL
from killswitch.api.compiled import CompiledPolicy
from killswitch.core.inventory import Node, Workload
from killswitch.core.kinds import CLUSTER_SHUTDOWNS, RECORDS, SHUTDOWNS, Resource
from killswitch.core.plans import Stop

Json = dict[str, Any]
CHUNK = 500
"""Targets per record: 500 take about 150 kB, far below etcd's 1.5 MB."""


@dataclass(frozen=True, slots=True)
class Order:
    """A Shutdown about to be created, with the plan it came from."""

    resource: Resource
    body: Json
    stop: Stop

    @property
    def name(self) -> str:
        """Name of the Shutdown."""
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


def episode_name(policy: str, episode: int) -> str:
    """Name of the Shutdown of a policy's n-th firing."""
    return f"{policy}-{episode}"


def next_episode(policy_uid: str, shutdowns: Sequence[Mapping[str, Any]]) -> int:
    """One more than the highest episode of this policy among the stored Shutdowns."""
    references = (each["spec"].get("policy") or {} for each in shutdowns)
    numbers = (ref["episode"] for ref in references if ref.get("uid") == policy_uid)
    return max(numbers, default=0) + 1


def for_policy(
    policy: CompiledPolicy, stop: Stop, *, episode: int, requested_by: str, reason: str, digest: str
) -> Order:
    """The order that a fire of the policy gives for one stop of its plan."""
    source = policy.source.spec
    terms = Terms(
        requested_by=requested_by,
        reason=reason,
        required_approvals=source.release.required_approvals,
        deadline=source.action.deadline,
        canary_replicas=source.restore.canary_replicas,
        soak=source.restore.soak,
    )
    name = episode_name(policy.name, episode)
    order = for_stop(name, stop, terms)
    order.body["metadata"]["labels"][POLICY_LABEL] = policy.name
    order.body["spec"]["policy"] = {
        "kind": policy.kind,
        "name": policy.name,
        "uid": policy.uid,
        "generation": policy.generation,
        "episode": episode,
    }
    order.body["spec"]["evidenceDigest"] = digest
    return order


def for_stop(name: str, stop: Stop, terms: Terms) -> Order:
    """The order for one stop; nodes and namespaces held from above become a ClusterShutdown."""
    resource = CLUSTER_SHUTDOWNS if stop.nodes else SHUTDOWNS
    metadata: Json = {"name": name, "labels": {ENGAGED_LABEL: "true"}}
    spec: Json = {
        "requestedBy": terms.requested_by,
        "reason": terms.reason[:1024],
        "requiredApprovals": terms.required_approvals,
        "deadline": terms.deadline,
        "restorePolicy": {"canaryReplicas": terms.canary_replicas, "soak": terms.soak},
    }
    if stop.nodes:
        spec["nodes"] = {node.name: node.uid for node in stop.nodes}
    else:
        metadata["namespace"] = stop.namespace
        if stop.whole_namespace:
            spec["scope"] = {"wholeNamespace": True}
        if stop.locks:
            spec["locks"] = dict(stop.locks)
    body = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        "spec": spec,
    }
    return Order(resource, body, stop)


def evidence_record(shutdown: Mapping[str, Any], evidence: Json, namespace: str) -> Json:
    """The record that holds the evidence whose digest the Shutdown carries."""
    return _record(shutdown, "evidence", namespace, {"evidence": evidence})


def target_records(
    shutdown: Mapping[str, Any],
    targets: Sequence[Workload | Node],
    namespace: str,
    *,
    first: int = 0,
) -> list[Json]:
    """Records of what was there, in chunks numbered from `first`."""
    chunks = [targets[start : start + CHUNK] for start in range(0, len(targets), CHUNK)]
    return [
        _record(
            shutdown, f"targets-{number}", namespace, {"targets": [_target(each) for each in chunk]}
        )
        for number, chunk in enumerate(chunks, start=first)
    ]


def _record(shutdown: Mapping[str, Any], suffix: str, namespace: str, content: Json) -> Json:
    metadata = shutdown["metadata"]
    # A Shutdown and a ClusterShutdown may share a name; their records may not.
    scope = "" if shutdown["kind"] == SHUTDOWNS.kind else "cluster-"
    return {
        "apiVersion": RECORDS.api_version,
        "kind": RECORDS.kind,
        "metadata": {
            "name": f"{metadata['name']}-{scope}{suffix}",
            "namespace": namespace,
            "labels": {SHUTDOWN_LABEL: metadata["name"]},
        },
        "spec": {
            "shutdown": metadata["name"],
            "shutdownKind": shutdown["kind"],
            "shutdownUid": metadata["uid"],
            **content,
        },
    }


def _target(item: Workload | Node) -> Json:
    if isinstance(item, Node):
        return {
            "kind": "Node",
            "name": item.name,
            "uid": item.uid,
            "unschedulable": item.unschedulable,
        }
    found: Json = {
        "kind": item.kind,
        "name": item.name,
        "uid": item.uid,
        "generation": item.generation,
        "templateDigest": item.template_digest,
    }
    # Absent is a value: it means the default of 1, and comes back as absent would.
    return found if item.replicas is None else {**found, "replicas": item.replicas}
