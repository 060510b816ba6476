"""The lock: what is held down runs no more than it does, and a held node stays cordoned."""

from killswitch.api.admission.shape import (
    GOVERNED,
    RELEASED_PARAM,
    Json,
    Variable,
    has_label,
    policy,
    rule,
)
from killswitch.core.names import GOVERNED_LABEL, GROUP

_LOCKED_RESOURCES = [
    rule("*", "*/scale", "UPDATE"),
    rule("apps", "deployments,statefulsets,replicasets", "CREATE,UPDATE"),
    rule("", "replicationcontrollers", "CREATE,UPDATE"),
    rule("batch", "jobs", "CREATE"),
    rule("", "pods", "CREATE"),
]
# What only ever runs more by being created.
_RUNS = "request.resource.resource in ['pods', 'jobs']"
RAISES: list[Variable] = [
    # A Scale of 0 replicas may leave the field out; on the main object absent means 1.
    ("absent", "has(request.subResource) && request.subResource == 'scale' ? 0 : 1"),
    ("runs", _RUNS),
    (
        "new",
        "variables.runs ? 1 : (has(object.spec.replicas) ? object.spec.replicas : variables.absent)",
    ),
    (
        "old",
        "variables.runs || oldObject == null ? 0"
        " : (has(oldObject.spec.replicas) ? oldObject.spec.replicas : variables.absent)",
    ),
]
_KEYS: list[Variable] = [
    ("labels", "has(object.metadata.labels) ? object.metadata.labels : {}"),
    ("owners", "has(object.metadata.ownerReferences) ? object.metadata.ownerReferences : []"),
    (
        "key",
        "request.resource.resource"
        " + (request.resource.group == '' ? '' : '.' + request.resource.group) + '/' + request.name",
    ),
    # A pod's Deployment is known from its ReplicaSet's name, which ends with the template hash:
    # a lock that names nothing but the Deployment covers its pods too (core/projections.lock_keys).
    (
        "suffix",
        "'pod-template-hash' in variables.labels ? '-' + variables.labels['pod-template-hash'] : '-'",
    ),
    (
        "ownerKeys",
        "variables.owners.map(o, 'uid/' + o.uid)"
        " + variables.owners.map(o, o.kind.lowerAscii() + 's'"
        " + (o.apiVersion.contains('/') ? '.' + o.apiVersion.split('/')[0] : '') + '/' + o.name)"
        " + variables.owners.filter(o, o.kind == 'ReplicaSet' && size(variables.suffix) > 1"
        " && o.name.endsWith(variables.suffix)).map(o, 'deployments.apps/'"
        " + o.name.substring(0, size(o.name) - size(variables.suffix)))",
    ),
]
_HELD = "variables.released || variables.new <= variables.old || !variables.covered"


def _held_by(kind: str, place: str) -> str:
    """The message that people and controllers read; `held down by` is how a proof knows it.

    The API server drops a message with a line break and shows the expression instead.
    """
    where = "params.metadata.namespace + '/' + " if place else ""
    option = " + ' -n ' + params.metadata.namespace" if place else " + ' --cluster'"
    return (
        f"'held down by {kind} ' + {where}params.metadata.name + ' (' + params.spec.reason.replace('\\n', ' ') + ');"
        f" people release it: kubectl killswitch approve ' + params.metadata.name{option}"
    )


def lock() -> list[Json]:
    """Nothing that an engaged Shutdown of the namespace covers may run more than it does."""
    covered = (
        "(has(params.spec.locks) && (variables.key in params.spec.locks"
        " || variables.ownerKeys.exists(k, k in params.spec.locks)))"
        " || (has(params.spec.scope) && has(params.spec.scope.wholeNamespace)"
        " && params.spec.scope.wholeNamespace)"
        " || (variables.runs && has(params.spec.scope) && has(params.spec.scope.podLabels)"
        " && params.spec.scope.podLabels.all(k, k in variables.labels"
        " && variables.labels[k] == params.spec.scope.podLabels[k]))"
    )
    return policy(
        "lock",
        "An engaged Shutdown denies every raise, pod and child workload of what it covers.",
        match={"namespaceSelector": GOVERNED, "resourceRules": _LOCKED_RESOURCES},
        variables=[*RAISES, *_KEYS, RELEASED_PARAM, ("covered", covered)],
        validations=[(_HELD, _held_by("Shutdown", "namespace"))],
        param="Shutdown",
    )


def cluster_lock() -> list[Json]:
    """Nothing may run more in the namespaces that an engaged ClusterShutdown names."""
    covered = "has(params.spec.namespaces) && request.namespace in params.spec.namespaces"
    return policy(
        "cluster-lock",
        "An engaged ClusterShutdown denies everything that would run in its namespaces.",
        match={"namespaceSelector": GOVERNED, "resourceRules": _LOCKED_RESOURCES},
        variables=[*RAISES, RELEASED_PARAM, ("covered", covered)],
        validations=[(_HELD, _held_by("ClusterShutdown", ""))],
        param="ClusterShutdown",
    )


def node_lock() -> list[Json]:
    """A held node stays cordoned, keeps taints of ours and is not deleted.

    Deleted, its kubelet would register it again uncordoned. So a cloud controller or autoscaler
    that finds the machine gone is refused too, until people release: a stale object is the lesser
    harm. The registration of a node cannot be guarded as well: only nodes with the governed label
    match, which the cordon itself sets, since after a restart of the API server a policy with
    parameters denies all it matches until the CRD is found, and no node could join the cluster.
    """
    taints = (
        f"has({{of}}.spec.taints) ? {{of}}.spec.taints.filter(t, t.key.startsWith('{GROUP}/')) : []"
    )
    # By key and effect: controllers may fill in `timeAdded`.
    tainted = (
        "variables.oldTaints.all(o, variables.taints.exists(t, t.key == o.key"
        " && t.effect == o.effect))"
    )
    held = (
        "variables.released || !has(params.spec.nodes)"
        # Deleting a collection has no `request.name`.
        " || !(oldObject.metadata.name in params.spec.nodes)"
        # The cordon itself: before it there is nothing to keep.
        f" || !{has_label('oldObject', GOVERNED_LABEL)}"
        f" || ({has_label('object', GOVERNED_LABEL)}"
        f" && has(object.spec.unschedulable) && object.spec.unschedulable && {tainted})"
    )
    return policy(
        "node-lock",
        "An engaged ClusterShutdown keeps its nodes cordoned and tainted, and there.",
        match={
            "objectSelector": GOVERNED,
            "resourceRules": [rule("", "nodes", "UPDATE,DELETE", "Cluster")],
        },
        variables=[
            RELEASED_PARAM,
            ("taints", taints.format(of="object")),
            ("oldTaints", taints.format(of="oldObject")),
        ],
        validations=[(held, _held_by("ClusterShutdown", ""))],
        param="ClusterShutdown",
    )
