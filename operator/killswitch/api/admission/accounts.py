"""The operator's own accounts: a stolen token of theirs is worth little."""

from killswitch.api.admission.lock import RAISES
from killswitch.api.admission.shape import MANAGER, REACTOR, Json, has_label, policy, rule
from killswitch.core.names import GOVERNED_LABEL


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
    comes: ungoverning is people's.
    """
    ours = f"k == '{GOVERNED_LABEL}'"
    added = f"({ours} && variables.new[k] == 'true')"
    kept = "(k in variables.old && variables.old[k] == variables.new[k])"
    removable = f" || {ours}" if kind == "Node" else ""
    same_spec = "object.spec == oldObject.spec"
    if kind == "Node":
        taints = "has({of}.spec.taints) ? {of}.spec.taints.filter(t, t.key != 'node.kubernetes.io/unschedulable') : []"
        same_spec = f"({taints.format(of='object')}) == ({taints.format(of='oldObject')})"
    of = "{of}.metadata.annotations"
    annotations = f"has({of}) ? {of} : {{{{}}}}"
    return policy(
        f"account-{resource}",
        f"The operator's accounts change nothing of a {kind} but what they govern by.",
        match={"resourceRules": [rule("", resource, "UPDATE", "*")]},
        conditions=[("operator", f"request.userInfo.username in ['{REACTOR}', '{MANAGER}']")],
        variables=[
            ("new", "has(object.metadata.labels) ? object.metadata.labels : {}"),
            ("old", "has(oldObject.metadata.labels) ? oldObject.metadata.labels : {}"),
        ],
        validations=[
            (
                f"variables.new.all(k, {added} || {kept})"
                f" && variables.old.all(k, k in variables.new{removable})",
                f"the operator sets no label of a {kind} but {GOVERNED_LABEL}",
            ),
            (
                f"({annotations.format(of='object')}) == ({annotations.format(of='oldObject')})"
                f" && {same_spec}",
                f"the operator changes nothing of a {kind} but what it governs by",
            ),
        ],
    )
