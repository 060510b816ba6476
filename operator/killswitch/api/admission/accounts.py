"""The operator's own accounts: a stolen token of theirs is worth little."""

from killswitch.api.admission.lock import RAISES
from killswitch.api.admission.shape import (
    MANAGER,
    REACTOR,
    Json,
    Validation,
    Variable,
    has_label,
    listed,
    policy,
    rule,
)
from killswitch.core.names import (
    FENCE_ANNOTATION,
    GOVERNED_LABEL,
    QUARANTINE_TAINT,
    STOPPED_TAINT,
)

_OURS = listed((STOPPED_TAINT, QUARANTINE_TAINT))
_KUBERNETES = "node.kubernetes.io/unschedulable"
"""Comes and goes with the cordon."""
_TAINTS = "has({of}.spec.taints) ? {of}.spec.taints.filter(t, {which}) : []"
_THEIRS = f"t.key != '{_KUBERNETES}' && !(t.key in {_OURS})"
_ANNOTATIONS = "has({of}.metadata.annotations) ? {of}.metadata.annotations : {{}}"
_NODE: list[Variable] = [
    ("taints", _TAINTS.format(of="object", which=f"t.key in {_OURS}")),
    ("oldTaints", _TAINTS.format(of="oldObject", which=f"t.key in {_OURS}")),
    ("otherTaints", _TAINTS.format(of="object", which=_THEIRS)),
    ("oldOtherTaints", _TAINTS.format(of="oldObject", which=_THEIRS)),
    ("annotations", _ANNOTATIONS.format(of="object")),
    ("oldAnnotations", _ANNOTATIONS.format(of="oldObject")),
]
_SAME_TAINT = (
    "t.key == o.key && t.effect == o.effect"
    " && (has(t.value) ? t.value : '') == (has(o.value) ? o.value : '')"
)
_NODE_MARKS: list[Validation] = [
    (
        f"request.userInfo.username == '{MANAGER}' || (variables.oldTaints.all(o,"
        f" variables.taints.exists(t, {_SAME_TAINT})) && variables.taints.all(t, t.effect =="
        f" (t.key == '{STOPPED_TAINT}' ? 'NoExecute' : 'NoSchedule'))"
        f" && (!('{FENCE_ANNOTATION}' in variables.oldAnnotations)"
        f" || ('{FENCE_ANNOTATION}' in variables.annotations && variables.annotations['{FENCE_ANNOTATION}']"
        f" == variables.oldAnnotations['{FENCE_ANNOTATION}'])))",
        "the reactor sets the taints and the fence request of a stop: the manager takes them off",
    ),
    (
        f"request.userInfo.username == '{REACTOR}' || (variables.taints.all(t,"
        f" variables.oldTaints.exists(o, {_SAME_TAINT}))"
        f" && (!('{FENCE_ANNOTATION}' in variables.annotations)"
        f" || ('{FENCE_ANNOTATION}' in variables.oldAnnotations && variables.annotations['{FENCE_ANNOTATION}']"
        f" == variables.oldAnnotations['{FENCE_ANNOTATION}'])))",
        "the manager takes the taints and the fence request of a stop off: the reactor sets them",
    ),
]


def accounts() -> list[Json]:
    """A stolen token of the operator's own accounts is worth little.

    Dry runs pass: raising a count as a dry run is how the reactor proves the lock.
    """
    return policy(
        "accounts",
        "The operator deletes pods and scales in governed namespaces only; the reactor only lowers.",
        match={
            "resourceRules": [
                rule("", "pods", "DELETE"),
                rule("", "pods/eviction", "CREATE"),
                rule("*", "*/scale", "UPDATE"),
                rule("apps", "deployments,statefulsets,replicasets", "UPDATE"),
            ]
        },
        conditions=[
            ("operator", f"request.userInfo.username in ['{REACTOR}', '{MANAGER}']"),
            ("not-a-dry-run", "!has(request.dryRun) || !request.dryRun"),
        ],
        variables=RAISES,
        validations=[
            (
                has_label("namespaceObject", GOVERNED_LABEL),
                "the operator acts in governed namespaces only",
            ),
            (
                f"request.userInfo.username != '{REACTOR}' || request.resource.resource == 'pods'"
                " || variables.new <= variables.old",
                "the reactor only lowers: people restore",
            ),
        ],
    )


def account_labels(resource: str, kind: str) -> list[Json]:
    """The operator governs namespaces and cordons nodes; it changes nothing else of them.

    Without this a stolen token could take Pod Security labels off a namespace, or taints off a
    node. On a node the governed label comes and goes with the cordon; on a namespace it only
    comes: ungoverning is people's. The two taints and the request for fencing of a stop are set by
    the reactor and taken off by the manager.
    """
    ours = f"k == '{GOVERNED_LABEL}'"
    added = f"({ours} && variables.new[k] == 'true')"
    kept = "(k in variables.old && variables.old[k] == variables.new[k])"
    removable = f" || {ours}" if kind == "Node" else ""
    of = "{of}.metadata.annotations"
    annotations = f"has({of}) ? {of} : {{{{}}}}"
    same = (
        f"({annotations.format(of='object')}) == ({annotations.format(of='oldObject')})"
        " && object.spec == oldObject.spec"
    )
    variables, more = (_NODE, _NODE_MARKS) if kind == "Node" else ([], [])
    if kind == "Node":
        same = (
            "variables.otherTaints == variables.oldOtherTaints"
            f" && variables.annotations.all(k, k == '{FENCE_ANNOTATION}' ||"
            " (k in variables.oldAnnotations && variables.annotations[k] == variables.oldAnnotations[k]))"
            f" && variables.oldAnnotations.all(k, k == '{FENCE_ANNOTATION}' || k in variables.annotations)"
        )
    return policy(
        f"account-{resource}",
        f"The operator's accounts change nothing of a {kind} but what they govern by.",
        match={"resourceRules": [rule("", resource, "UPDATE", "*")]},
        conditions=[("operator", f"request.userInfo.username in ['{REACTOR}', '{MANAGER}']")],
        variables=[
            ("new", "has(object.metadata.labels) ? object.metadata.labels : {}"),
            ("old", "has(oldObject.metadata.labels) ? oldObject.metadata.labels : {}"),
            *variables,
        ],
        validations=[
            (
                f"variables.new.all(k, {added} || {kept})"
                f" && variables.old.all(k, k in variables.new{removable})",
                f"the operator sets no label of a {kind} but {GOVERNED_LABEL}",
            ),
            (same, f"the operator changes nothing of a {kind} but what it governs by"),
            *more,
        ],
    )
