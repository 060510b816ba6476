"""The lock: what is held down runs no more than it does, and a held node stays cordoned."""

from killswitch.api.admission.fields import at_rest, field, keys_of, kinds_by_settings, rules
from killswitch.api.admission.shape import (
    GOVERNED,
    RELEASED_PARAM,
    Json,
    Variable,
    has_label,
    listed,
    policy,
    rule,
)
from killswitch.core import kinds
from killswitch.core.kinds import Setting, Verb
from killswitch.core.names import GOVERNED_LABEL, GROUP
from killswitch.core.resources import JOBS, PODS

# What has no field to stop it, but is made anew to go on: Knative's between a Service and its pods.
_MADE = (
    *(kind.resource for kind in kinds.TABLE.values() if kind.verb is Verb.NONE),
    *kinds.LINKS,
)
# Jobs begin by being created too, with labels of their own: by these a label scope knows them.
_LABELLED = (PODS.key, JOBS.key)


def _locked_resources() -> list[Json]:
    """Of groups that a cluster does not serve, no request ever comes."""
    held = (kind.resource for kind in kinds.TABLE.values() if kind.settings)
    return [
        rule("*", "*/scale", "UPDATE"),
        *rules(held, "CREATE,UPDATE"),
        *rules((PODS, *_MADE), "CREATE"),
    ]


def _amount(of: str) -> str:
    """How much an object runs: its count; without one 0 where it stands at rest, else 1.

    A Scale of 0 replicas may leave the field out; on the main object absent means 1.
    """
    cases = {f"variables.what in {listed((PODS.key, *keys_of(_MADE)))}": "1"}
    for settings, keys in kinds_by_settings(Verb.SET).items():
        rests = " && ".join(at_rest(of, setting) for setting in settings)
        cases[f"variables.what in {listed(keys)}"] = f"({rests} ? 0 : 1)"
    usual = (Setting(("spec", "replicas"), rest=0),)
    for settings, keys in kinds_by_settings(Verb.SCALE).items():
        if settings != usual:
            (own,) = settings
            cases[f"variables.what in {listed(keys)}"] = f"{field(of, own.path)}.orValue(1)"
    chosen = "".join(f"{case} ? {amount} : " for case, amount in cases.items())
    count = field(of, usual[0].path)
    return f"variables.scales ? {count}.orValue(0) : {chosen}{count}.orValue(1)"


WHAT: Variable = (
    "what",
    "request.resource.resource"
    " + (request.resource.group == '' ? '' : '.' + request.resource.group)",
)
"""`deployments.apps`, as in lock keys."""
RAISES: list[Variable] = [
    WHAT,
    ("scales", "has(request.subResource) && request.subResource == 'scale'"),
    ("new", _amount("object")),
    ("old", f"oldObject == null ? 0 : ({_amount('oldObject')})"),
]


def _owners(of: str) -> str:
    return f"(has({of}.metadata.ownerReferences) ? {of}.metadata.ownerReferences : [])"


# As core/resources.plural.
_PLURAL = (
    "(o.kind.matches('[^aeiouAEIOU][yY]$') ?"
    " o.kind.lowerAscii().substring(0, size(o.kind) - 1) + 'ies' : o.kind.lowerAscii()"
    " + (o.kind.lowerAscii().matches('(x|s|ch|sh)$') ? 'es' : 's'))"
)


def _owner_keys(owners: str) -> str:
    """The keys that hold these owners: by uid and by name, and the Deployment of a ReplicaSet."""
    return (
        f"{owners}.map(o, 'uid/' + o.uid) + {owners}.map(o, {_PLURAL}"
        " + (o.apiVersion.contains('/') ? '.' + o.apiVersion.split('/')[0] : '') + '/' + o.name)"
        f" + {owners}.filter(o, o.kind == 'ReplicaSet' && size(variables.suffix) > 1"
        " && o.name.endsWith(variables.suffix)).map(o, 'deployments.apps/'"
        " + o.name.substring(0, size(o.name) - size(variables.suffix)))"
    )


_KEYS: list[Variable] = [
    ("labels", "has(object.metadata.labels) ? object.metadata.labels : {}"),
    ("owners", _owners("object")),
    ("oldOwners", f"oldObject == null ? [] : {_owners('oldObject')}"),
    ("key", "variables.what + '/' + request.name"),
    # A pod's Deployment is known from its ReplicaSet's name, which ends with the template hash:
    # a lock that names nothing but the Deployment covers its pods too (core/projections.lock_keys).
    (
        "suffix",
        "'pod-template-hash' in variables.labels ? '-' + variables.labels['pod-template-hash'] : '-'",
    ),
    ("ownerKeys", _owner_keys("variables.owners")),
    ("oldOwnerKeys", _owner_keys("variables.oldOwners")),
    ("locks", "has(params.spec.locks) ? params.spec.locks : {}"),
    # Made at rest it would be scaled next: a Scale tells nothing of owners, and no lock knows its
    # uid. One whose own name is held stays held by it.
    (
        "below",
        "oldObject == null && !(variables.key in variables.locks)"
        " && variables.ownerKeys.exists(k, k in variables.locks)",
    ),
    # What is held through its owner alone would be free without it.
    (
        "leaves",
        "!variables.scales && variables.oldOwnerKeys.exists(k, k in variables.locks"
        " && !(k in variables.ownerKeys))",
    ),
]
_RAISES_NOTHING = "variables.new <= variables.old"


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
    """Nothing that an engaged Shutdown of the namespace covers may run more than it does.

    Nor is anything made below it, at rest or not, nor taken out from below it.
    """
    covered = (
        "variables.key in variables.locks"
        # A Scale carries the uid of what it scales.
        " || (oldObject != null && 'uid/' + oldObject.metadata.uid in variables.locks)"
        " || (variables.ownerKeys + variables.oldOwnerKeys).exists(k, k in variables.locks)"
        " || (has(params.spec.scope) && has(params.spec.scope.wholeNamespace)"
        " && params.spec.scope.wholeNamespace)"
        f" || (variables.what in {listed(_LABELLED)}"
        " && has(params.spec.scope) && has(params.spec.scope.podLabels)"
        " && params.spec.scope.podLabels.all(k, k in variables.labels"
        " && variables.labels[k] == params.spec.scope.podLabels[k]))"
    )
    held = (
        f"variables.released || !variables.covered"
        f" || ({_RAISES_NOTHING} && !variables.below && !variables.leaves)"
    )
    return policy(
        "lock",
        "An engaged Shutdown denies every raise, start, pod and child workload of what it covers.",
        match={"namespaceSelector": GOVERNED, "resourceRules": _locked_resources()},
        variables=[*RAISES, *_KEYS, RELEASED_PARAM, ("covered", covered)],
        validations=[(held, _held_by("Shutdown", "namespace"))],
        param="Shutdown",
    )


def cluster_lock() -> list[Json]:
    """Nothing may run more in the namespaces that an engaged ClusterShutdown names."""
    covered = "has(params.spec.namespaces) && request.namespace in params.spec.namespaces"
    held = f"variables.released || !variables.covered || {_RAISES_NOTHING}"
    return policy(
        "cluster-lock",
        "An engaged ClusterShutdown denies everything that would run in its namespaces.",
        match={"namespaceSelector": GOVERNED, "resourceRules": _locked_resources()},
        variables=[*RAISES, RELEASED_PARAM, ("covered", covered)],
        validations=[(held, _held_by("ClusterShutdown", ""))],
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
