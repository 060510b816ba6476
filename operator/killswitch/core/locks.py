"""Which Shutdowns lock, and which pods they cover: the Python form of the admission lock's rules.

The CEL form stands in api/admission/lock; tests/vectors/locks.json is asked of both.
"""

from collections.abc import Container, Mapping
from typing import Any

from killswitch.core.inventory import Pod
from killswitch.core.names import ENGAGED_LABEL

Json = Mapping[str, Any]


def lacking(shutdown: Json) -> int:
    """How many approvals are still needed."""
    spec = shutdown["spec"]
    return max(0, int(spec["requiredApprovals"]) - len(spec.get("approvals") or {}))


def released(shutdown: Json) -> bool:
    """Whether enough people have approved."""
    return lacking(shutdown) == 0


def engaged(shutdown: Json) -> bool:
    """Whether a Shutdown locks: labelled so, and not released. As the lock computes it."""
    return labelled(shutdown) and not released(shutdown)


def labelled(body: Json) -> bool:
    """Whether an object carries the label of what is in force."""
    return (body["metadata"].get("labels") or {}).get(ENGAGED_LABEL) == "true"


def covers(order: Json, pod: Pod) -> bool:
    """Whether a Shutdown, ClusterShutdown, Freeze or StandingOrder is about this pod."""
    namespace, spec = order["metadata"].get("namespace", ""), order["spec"]
    if not namespace:
        return pod.namespace in (spec.get("namespaces") or ())
    if pod.namespace != namespace:
        return False
    scope = spec.get("scope") or {}
    return holds(
        pod,
        locks=spec.get("locks") or (),
        whole_namespace=bool(scope.get("wholeNamespace")),
        labels=scope.get("podLabels"),
    )


def holds(
    pod: Pod, *, locks: Container[str], whole_namespace: bool, labels: Mapping[str, str] | None
) -> bool:
    """Whether these terms hold a pod of the namespace that they are written in."""
    if whole_namespace or any(key in locks for key in pod.keys):
        return True
    return labels is not None and carries(pod.labels, labels)


def carries(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether all wanted labels are there with their values."""
    return all(labels.get(key) == value for key, value in wanted.items())
