"""The safety kernel: ValidatingAdmissionPolicies generated for the API server.

Nothing of killswitch has to run for these to hold. Each function below makes one policy with its
binding; the shared pieces of CEL stand above them. What is not obvious says why here, since
nobody can ask the API server. Every rule is proven on a real one in tests/kernel.

The chart replaces the text `killswitch-system` by its own namespace.
"""

from typing import Any

from killswitch.core.names import (
    ENGAGED_LABEL,
    GOVERNED_LABEL,
    GROUP,
    PROTECTED_NAMESPACES,
    VERSION,
)

Json = dict[str, Any]
Variable = tuple[str, str]
Validation = tuple[str, str]
"""A CEL expression that must hold, and the message otherwise (CEL if it starts with a quote)."""

OPERATOR_NAMESPACE = "killswitch-system"
REACTOR = f"system:serviceaccount:{OPERATOR_NAMESPACE}:killswitch-reactor"
MANAGER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:killswitch-manager"
NODE_GUARD = f"system:serviceaccount:{OPERATOR_NAMESPACE}:killswitch-node"
LONGEST_NAME = 100
"""Of a Shutdown; what the reactor writes is `<policy of 52>-<episode>-part-<n>-more-<n>`."""
# A namespace that is being deleted takes its objects along through these two accounts.
_COLLECTORS = (
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
)
_GOVERNED = {"matchLabels": {GOVERNED_LABEL: "true"}}
_ENGAGED = {"matchLabels": {ENGAGED_LABEL: "true"}}


def _list(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"


def _has_label(of: str, label: str, value: str = "true") -> str:
    """Whether an object (possibly null) carries a label with this value."""
    labels = f"{of}.metadata.labels"
    return f"({of} != null && has({labels}) && '{label}' in {labels} && {labels}['{label}'] == '{value}')"


def _may(verb: str, resource: str, namespace: str = ".namespace(request.namespace)") -> str:
    """Whether the requester holds an RBAC verb. At most two of these fit one CEL expression."""
    return (
        f"authorizer.group('{GROUP}').resource('{resource}'){namespace}.check('{verb}').allowed()"
    )


_RELEASED = "(has({of}.spec.approvals) && size({of}.spec.approvals) >= {of}.spec.requiredApprovals)"
_ME: Variable = ("me", "request.userInfo.username")
_COLLECTING = f"request.userInfo.username in {_list(_COLLECTORS)}"
_CREATE, _UPDATE, _DELETE = (f"request.operation != '{o}'" for o in ("CREATE", "UPDATE", "DELETE"))


def rule(
    groups: str, resources: str, operations: str, scope: str = "Namespaced", version: str = "*"
) -> Json:
    """A resource rule from comma-separated words."""
    return {
        "apiGroups": groups.split(","),
        "apiVersions": [version],
        "operations": operations.split(","),
        "resources": resources.split(","),
        # Without a scope, a policy with a namespaced parameter would deny scaling any
        # cluster-scoped resource.
        "scope": scope,
    }


def policy(
    name: str,
    description: str,
    *,
    match: Json,
    validations: list[Validation],
    variables: list[Variable] | None = None,
    param: str = "",
    conditions: list[Variable] | None = None,
) -> list[Json]:
    """A policy and its binding; `param` is the kind whose engaged objects are its parameters."""
    metadata = {
        "name": f"killswitch-{name}",
        "labels": {"app.kubernetes.io/part-of": "killswitch"},
        "annotations": {f"{GROUP}/description": description},
    }
    spec: Json = {"failurePolicy": "Fail"}
    # Audit: where an audit log is kept, every attempt against the kernel stands in it.
    binding: Json = {"policyName": metadata["name"], "validationActions": ["Deny", "Audit"]}
    if param:
        spec["paramKind"] = {"apiVersion": f"{GROUP}/{VERSION}", "kind": param}
        binding["paramRef"] = {"selector": _ENGAGED, "parameterNotFoundAction": "Allow"}
    spec["matchConstraints"] = match
    if conditions:
        spec["matchConditions"] = [{"name": n, "expression": e} for n, e in conditions]
    if variables:
        spec["variables"] = [{"name": n, "expression": e} for n, e in variables]
    spec["validations"] = [_validation(*each) for each in validations]
    api = "admissionregistration.k8s.io/v1"
    return [
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": spec,
        },
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": metadata["name"], "labels": metadata["labels"]},
            "spec": binding,
        },
    ]


def _validation(expression: str, message: str) -> Json:
    kind = "messageExpression" if "'" in message else "message"
    return {"expression": expression, kind: message, "reason": "Forbidden"}


def manifests() -> list[Json]:
    """Every policy with its binding."""
    return [
        *lock(),
        *cluster_lock(),
        *node_lock(),
        *shutdowns(),
        *cluster_shutdowns(),
        *records(),
        *governing(),
        *governed_label(),
        *namespaces("Shutdown", "namespaces", "true"),
        *namespaces(
            "ClusterShutdown",
            "cluster-namespaces",
            "has(params.spec.namespaces) && request.name in params.spec.namespaces",
        ),
        *definitions(),
        *authors(),
        *cluster_authors(),
        *bypasses(),
        *freezes(),
        *standing_orders(),
        *node_guards(),
        *accounts(),
        *account_labels("namespaces", "Namespace"),
        *account_labels("nodes", "Node"),
    ]


# --- the lock ---------------------------------------------------------------------------------

_LOCKED_RESOURCES = [
    rule("*", "*/scale", "UPDATE"),
    rule("apps", "deployments,statefulsets,replicasets", "CREATE,UPDATE"),
    rule("", "replicationcontrollers", "CREATE,UPDATE"),
    rule("batch", "jobs", "CREATE"),
    rule("", "pods", "CREATE"),
]
# What only ever runs more by being created.
_RUNS = "request.resource.resource in ['pods', 'jobs']"
_RAISES: list[Variable] = [
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
_RELEASED_PARAM: Variable = ("released", _RELEASED.format(of="params"))
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
        match={"namespaceSelector": _GOVERNED, "resourceRules": _LOCKED_RESOURCES},
        variables=[*_RAISES, *_KEYS, _RELEASED_PARAM, ("covered", covered)],
        validations=[(_HELD, _held_by("Shutdown", "namespace"))],
        param="Shutdown",
    )


def cluster_lock() -> list[Json]:
    """Nothing may run more in the namespaces that an engaged ClusterShutdown names."""
    covered = "has(params.spec.namespaces) && request.namespace in params.spec.namespaces"
    return policy(
        "cluster-lock",
        "An engaged ClusterShutdown denies everything that would run in its namespaces.",
        match={"namespaceSelector": _GOVERNED, "resourceRules": _LOCKED_RESOURCES},
        variables=[*_RAISES, _RELEASED_PARAM, ("covered", covered)],
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
        f" || !{_has_label('oldObject', GOVERNED_LABEL)}"
        f" || ({_has_label('object', GOVERNED_LABEL)}"
        f" && has(object.spec.unschedulable) && object.spec.unschedulable && {tainted})"
    )
    return policy(
        "node-lock",
        "An engaged ClusterShutdown keeps its nodes cordoned and tainted, and there.",
        match={
            "objectSelector": _GOVERNED,
            "resourceRules": [rule("", "nodes", "UPDATE,DELETE", "Cluster")],
        },
        variables=[
            _RELEASED_PARAM,
            ("taints", taints.format(of="object")),
            ("oldTaints", taints.format(of="oldObject")),
        ],
        validations=[(held, _held_by("ClusterShutdown", ""))],
        param="ClusterShutdown",
    )


# --- Shutdowns themselves ----------------------------------------------------------------------

_APPROVALS: list[Variable] = [
    _ME,
    ("new", "object != null && has(object.spec.approvals) ? object.spec.approvals : {}"),
    ("old", "oldObject != null && has(oldObject.spec.approvals) ? oldObject.spec.approvals : {}"),
    ("approves", "variables.new != variables.old"),
    ("engaged", _has_label("object", ENGAGED_LABEL)),
    ("labels", "has(object.metadata.labels) ? object.metadata.labels : {}"),
    ("oldLabels", "has(oldObject.metadata.labels) ? oldObject.metadata.labels : {}"),
    ("released", "oldObject != null && size(variables.old) >= oldObject.spec.requiredApprovals"),
    (
        "restores",
        "object != null && oldObject != null && has(object.spec.restore)"
        " && (!has(oldObject.spec.restore) || object.spec.restore != oldObject.spec.restore)",
    ),
    (
        "restored",
        "oldObject != null && has(oldObject.status) && has(oldObject.status.conditions)"
        " && oldObject.status.conditions.exists(c, c.type == 'Restored' && c.status == 'True')",
    ),
]


def _life(resource: str, namespace: str) -> list[Validation]:
    """The rules of creation, approval, restore and deletion that both kinds share."""
    # Deleting a collection has no `request.name`.
    of_this = f"{namespace}.name(oldObject.metadata.name)"
    place = " + ' in ' + request.namespace" if namespace else ""
    return [
        (
            f"{_CREATE} || (variables.engaged && size(variables.new) == 0 && !has(object.spec.restore))",
            f"a new Shutdown is engaged: label {ENGAGED_LABEL}=true, no approvals, no restore",
        ),
        (
            f"{_CREATE} || object.spec.requestedBy == variables.me",
            "'spec.requestedBy must be your own username: ' + variables.me",
        ),
        # A policy counts what names it as its own fire: by a forged one it would be latched.
        (
            f"{_CREATE} || !has(object.spec.policy) || variables.me == '{REACTOR}'"
            f" || {_may('fire', resource, namespace)}",
            f"'only the reactor engages in the name of a policy: leave out spec.policy, or get the"
            f" verb fire on {resource}'{place}",
        ),
        # Its records have longer names than it, and one that is refused leaves a stop unscaled.
        (
            f"{_CREATE} || size(object.metadata.name) <= {LONGEST_NAME}",
            f"the name is longer than {LONGEST_NAME} characters, and records are named after it:"
            " choose a shorter one",
        ),
        (
            f"{_UPDATE} || variables.engaged || variables.released",
            f"the label {ENGAGED_LABEL} stays until release",
        ),
        (
            f"{_UPDATE} || variables.released || variables.oldLabels.all(k,"
            " k in variables.labels && variables.labels[k] == variables.oldLabels[k])",
            "labels of an engaged Shutdown may be added, not changed or taken off",
        ),
        (
            f"{_UPDATE} || variables.new.all(k, k in variables.old || k == variables.me)",
            "'you are ' + variables.me + ': nobody approves for someone else'",
        ),
        (
            f"{_UPDATE} || !variables.approves || (!variables.me.startsWith('system:serviceaccount:')"
            " && !variables.me.startsWith('system:node:'))",
            "approvers are people: service accounts and nodes cannot release",
        ),
        (
            f"{_UPDATE} || !variables.approves || variables.me != object.spec.requestedBy",
            "whoever engaged a Shutdown does not release it: ask somebody else",
        ),
        (
            f"{_UPDATE} || !variables.approves || {_may('release', resource, of_this)}",
            f"variables.me + ' lacks the verb release on {resource}'{place}",
        ),
        (
            f"{_UPDATE} || !variables.restores"
            " || (variables.released && object.spec.restore.by == variables.me)"
            " || (variables.released && has(oldObject.spec.restore))",
            "restore comes after release, and spec.restore.by is your own username",
        ),
        (
            f"{_UPDATE} || !variables.restores || {_may('restore', resource, of_this)}",
            f"variables.me + ' lacks the verb restore on {resource}'{place}",
        ),
        (
            f"{_DELETE} || variables.released",
            "an engaged Shutdown cannot be deleted: people release it first",
        ),
        (
            f"{_DELETE} || variables.restored || {_COLLECTING} || {_may('release', resource, of_this)}",
            f"'not restored yet: deleting it needs the verb release on {resource}'{place}",
        ),
    ]


def shutdowns() -> list[Json]:
    """Who may create, approve, restore and delete a Shutdown, and where."""
    return policy(
        "shutdowns",
        "Creation, approvals, restore and deletion of Shutdowns.",
        match={"resourceRules": [rule(GROUP, "shutdowns", "CREATE,UPDATE,DELETE")]},
        variables=_APPROVALS,
        validations=[
            (
                f"{_CREATE} || !(request.namespace in {_list(PROTECTED_NAMESPACES)})",
                "'namespace ' + request.namespace + ' is protected: nothing is stopped there'",
            ),
            (
                f"{_CREATE} || {_has_label('namespaceObject', GOVERNED_LABEL)}",
                "'namespace ' + request.namespace + ' is not governed, so nothing would hold:"
                " kubectl killswitch govern ' + request.namespace",
            ),
            *_life("shutdowns", ".namespace(request.namespace)"),
        ],
    )


def cluster_shutdowns() -> list[Json]:
    """The same for ClusterShutdowns.

    Whether the namespaces are governed cannot be asked here: CEL sees no object but the one
    requested. One that is not holds nothing, until it is; then it stays governed (`namespaces`).
    """
    return policy(
        "clustershutdowns",
        "Creation, approvals, restore and deletion of ClusterShutdowns.",
        match={
            "resourceRules": [rule(GROUP, "clustershutdowns", "CREATE,UPDATE,DELETE", "Cluster")]
        },
        variables=_APPROVALS,
        validations=[
            (
                f"{_CREATE} || !has(object.spec.namespaces)"
                f" || object.spec.namespaces.all(n, !(n in {_list(PROTECTED_NAMESPACES)}))",
                "spec.namespaces names a protected namespace: nothing is stopped there",
            ),
            *_life("clustershutdowns", ""),
        ],
    )


def records() -> list[Json]:
    """Evidence outlives the wish to be rid of it."""
    allowed = f"{_COLLECTING} || {_may('release', 'shutdowns')}"
    return policy(
        "shutdownrecords",
        "ShutdownRecords are deleted only by those who may release.",
        match={"resourceRules": [rule(GROUP, "shutdownrecords", "DELETE")]},
        validations=[
            (allowed, "deleting a ShutdownRecord needs the verb release on shutdowns there")
        ],
    )


# --- namespaces and CRDs -------------------------------------------------------------------------


def governing() -> list[Json]:
    """Protected namespaces are never governed."""
    return policy(
        "governing",
        "Protected namespaces can never be governed.",
        match={
            "objectSelector": _GOVERNED,
            "resourceRules": [rule("", "namespaces", "CREATE,UPDATE", "*")],
        },
        validations=[
            (
                f"!(object.metadata.name in {_list(PROTECTED_NAMESPACES)})"
                f" || !{_has_label('object', GOVERNED_LABEL)}",
                f"this namespace is protected: it can never carry {GOVERNED_LABEL}=true",
            )
        ],
    )


def governed_label() -> list[Json]:
    """The label that the lock is selected by changes on the object itself, where rules look.

    `/status` and `/finalize` accept changed labels too. This policy has no parameters: kubelets
    write `nodes/status`, and must not meet the blind seconds of one that has after a restart.
    """
    same = f"{_has_label('object', GOVERNED_LABEL)} == {_has_label('oldObject', GOVERNED_LABEL)}"
    return policy(
        "governed-label",
        "The governed label cannot be changed through a subresource.",
        match={
            "objectSelector": _GOVERNED,
            "resourceRules": [
                rule("", "namespaces/status,namespaces/finalize", "UPDATE", "*"),
                rule("", "nodes/status", "UPDATE", "Cluster"),
            ],
        },
        validations=[(same, f"{GOVERNED_LABEL} cannot be changed through a subresource")],
    )


def namespaces(param: str, name: str, concerns: str) -> list[Json]:
    """While something is engaged in a namespace it stays governed and is not deleted.

    The selector looks at the old object as well as the new one, so taking the label off matches.
    """
    keeps = f"request.operation == 'UPDATE' && {_has_label('object', GOVERNED_LABEL)}"
    return policy(
        name,
        f"A namespace with an engaged {param} stays governed and cannot be deleted.",
        match={
            "objectSelector": _GOVERNED,
            "resourceRules": [rule("", "namespaces", "UPDATE,DELETE", "*")],
        },
        variables=[_RELEASED_PARAM],
        validations=[
            (
                f"variables.released || ({keeps}) || !({concerns})",
                f"'{param} ' + params.metadata.name + ' is engaged here: the namespace stays"
                " governed and cannot be deleted until people release it'",
            )
        ],
        param=param,
    )


# What was written in these is relied upon; policies may be given other schemas.
_KEPT_KINDS = ("Shutdown", "ClusterShutdown", "ShutdownRecord", "Bypass", "Freeze")
# The API server names and establishes CRDs as itself; nobody else has business in their status.
_API_SERVER = "system:apiserver"


def _same(after: str, before: str, *but: str) -> str:
    """Whether two maps are equal apart from some keys."""
    free = f"k in {_list(but)}"
    return (
        f"{after}.all(k, {free} || (k in {before} && {after}[k] == {before}[k]))"
        f" && {before}.all(k, {free} || k in {after})"
    )


def _grows(part: str) -> str:
    """Whether `spec` or `status` keeps every field and rule; new fields are optional.

    Fields that a schema does not name are dropped when an object is read, and absent ones get its
    defaults: without `scope`, or with a default for `approvals`, every lock opens. With a rule or
    a required field more, nobody could stop any longer.
    """
    after, before = f"variables.after.{part}", f"variables.before.{part}"
    new, old = f"{after}.properties", f"{before}.properties"
    return (
        f"!('{part}' in variables.before) || ('{part}' in variables.after"
        f" && {_same(after, before, 'description', 'properties')}"
        f" && {old}.all(f, f in {new} && {_same(f'{new}[f]', f'{old}[f]', 'description')})"
        f" && {new}.all(f, f in {old} || !('default' in {new}[f])))"
    )


def definitions() -> list[Json]:
    """Deleting a CRD would delete every Shutdown past all other rules; editing it is no better.

    A CRD of these kinds may get new optional fields, columns and words; all else stays, and there
    is no second version. For more than that people take the binding away, once nothing is engaged.
    """
    ours = f"oldObject.spec.group == '{GROUP}'"
    kept = f"{ours} && oldObject.spec.names.kind in {_list(_KEPT_KINDS)}"
    served = (
        f"object.spec.versions.exists(v, v.name == '{VERSION}' && v.served && v.storage)"
        " && object.spec.conversion == oldObject.spec.conversion"
    )
    version = f"oldObject.spec.versions.filter(v, v.name == '{VERSION}')[0]"
    free = ("schema", "additionalPrinterColumns", "selectableFields")
    root = "openAPIV3Schema"
    frame = (
        "size(object.spec.versions) == 1"
        f" && {_same('object.spec.versions[0]', 'variables.version', *free)}"
        f" && {_same(f'object.spec.versions[0].schema.{root}', f'variables.version.schema.{root}', 'description', 'properties')}"
        f" && {_same('variables.after', 'variables.before', 'spec', 'status')}"
    )
    lets = (
        ": to change them, first release what is engaged, then delete the binding"
        " killswitch-definitions"
    )
    status = "has(request.subResource) && request.subResource == 'status'"
    return policy(
        "definitions",
        "The CRDs of killswitch, and in them what the lock depends on, stay while this policy does.",
        match={
            "resourceRules": [
                rule("apiextensions.k8s.io", "customresourcedefinitions", "UPDATE,DELETE", "*"),
                rule("apiextensions.k8s.io", "customresourcedefinitions/status", "UPDATE", "*"),
            ]
        },
        variables=[
            ("version", version),
            ("before", f"variables.version.schema.{root}.properties"),
            ("after", f"object.spec.versions[0].schema.{root}.properties"),
        ],
        validations=[
            (
                f"!({ours}) || (request.operation == 'UPDATE' && {served})",
                "the CRDs of killswitch hold engaged Shutdowns: to remove them for good, first"
                " release what is engaged, then delete the binding killswitch-definitions",
            ),
            (
                f"!({ours}) || !({status}) || request.userInfo.username == '{_API_SERVER}'",
                "only the API server itself writes the status of the CRDs of killswitch",
            ),
            (
                f"!({kept}) || object == null || ({frame})",
                f"the lock depends on these parts of the CRD{lets}",
            ),
            *(
                (
                    f"!({kept}) || object == null || ({_grows(part)})",
                    f"the lock depends on these fields and rules of {part}{lets}",
                )
                for part in ("spec", "status")
            ),
        ],
    )


# --- people who write policies -------------------------------------------------------------------


def _author_rules(resource: str, shutdowns: str, namespace: str) -> list[Validation]:
    leaving = "oldObject.spec.mode == 'Enforce' && object.spec.mode != 'Enforce'"
    return [
        (
            f"{_CREATE} && {_UPDATE} || (oldObject != null && object.spec == oldObject.spec)"
            f" || {_may('create', shutdowns, namespace)}",
            f"variables.me + ' may not stop anything here: writing a policy needs the verb create on"
            f" {shutdowns}'",
        ),
        (
            f"{_UPDATE} || !({leaving}) || {_may('bypass', resource, namespace)}",
            f"variables.me + ' lacks the verb bypass on {resource}: it is needed to leave Enforce'",
        ),
        (
            f"{_DELETE} || oldObject.spec.mode == 'Disabled' || {_COLLECTING}"
            f" || {_may('bypass', resource, namespace)}",
            f"variables.me + ' lacks the verb bypass on {resource}: it is needed to delete a policy'",
        ),
    ]


def authors() -> list[Json]:
    """A policy stops on its author's behalf: who may not stop may not write one."""
    return policy(
        "authors",
        "Who may write, disable and delete policies.",
        match={"resourceRules": [rule(GROUP, "killswitchpolicies", "CREATE,UPDATE,DELETE")]},
        variables=[_ME],
        validations=[
            (
                f"request.operation == 'DELETE'"
                f" || !(request.namespace in {_list(PROTECTED_NAMESPACES)})",
                "'namespace ' + request.namespace + ' is protected: nothing is stopped there'",
            ),
            *_author_rules("killswitchpolicies", "shutdowns", ".namespace(request.namespace)"),
        ],
    )


def cluster_authors() -> list[Json]:
    """The same for ClusterKillSwitchPolicies."""
    return policy(
        "cluster-authors",
        "Who may write, disable and delete cluster policies.",
        match={
            "resourceRules": [
                rule(GROUP, "clusterkillswitchpolicies", "CREATE,UPDATE,DELETE", "Cluster")
            ]
        },
        variables=[_ME],
        validations=[
            (
                "request.operation == 'DELETE' || object.spec.targets.all(t, !has(t.namespaces)"
                f" || t.namespaces.all(n, !(n in {_list(PROTECTED_NAMESPACES)})))",
                "spec.targets names a protected namespace: nothing is stopped there",
            ),
            *_author_rules("clusterkillswitchpolicies", "clustershutdowns", ""),
        ],
    )


def bypasses() -> list[Json]:
    """Looking away is signed, and ends: CEL has no clock, but a new object brings the server's."""
    return policy(
        "bypasses",
        "Who may suspend a policy.",
        match={"resourceRules": [rule(GROUP, "bypasses", "CREATE,UPDATE")]},
        variables=[_ME],
        validations=[
            (
                f"{_CREATE} || object.spec.requestedBy == variables.me",
                "'spec.requestedBy must be your own username: ' + variables.me",
            ),
            (
                f"{_CREATE} || {_may('bypass', 'killswitchpolicies')}",
                "variables.me + ' lacks the verb bypass on killswitchpolicies here'",
            ),
            (
                f"{_CREATE} || timestamp(object.spec.until)"
                " - timestamp(object.metadata.creationTimestamp) <= duration('720h')",
                "a Bypass ends within 30 days: if it must last longer, people decide again then",
            ),
        ],
    )


# --- what node guards obey and report ------------------------------------------------------------


def freezes() -> list[Json]:
    """Who may freeze, for how long, and who lets go before the end.

    A Freeze locks nothing, so it is no parameter of the lock. Whoever lets it end in a stop must
    be allowed to stop.
    """
    of_this = ".namespace(request.namespace).name(oldObject.metadata.name)"
    thaws = (
        "object != null && oldObject != null && has(object.spec.thaw) && !has(oldObject.spec.thaw)"
    )
    return policy(
        "freezes",
        "Creation, end and deletion of Freezes.",
        match={"resourceRules": [rule(GROUP, "freezes", "CREATE,UPDATE,DELETE")]},
        variables=[_ME, ("thaws", thaws), ("engaged", _has_label("object", ENGAGED_LABEL))],
        validations=[
            (
                f"{_CREATE} || !(request.namespace in {_list(PROTECTED_NAMESPACES)})",
                "'namespace ' + request.namespace + ' is protected: nothing is frozen there'",
            ),
            (
                f"{_CREATE} || {_has_label('namespaceObject', GOVERNED_LABEL)}",
                "'namespace ' + request.namespace + ' is not governed: kubectl killswitch govern '"
                " + request.namespace",
            ),
            (
                f"{_CREATE} || (variables.engaged && !has(object.spec.thaw))",
                f"a new Freeze is in force: label {ENGAGED_LABEL}=true, no thaw",
            ),
            (
                f"{_CREATE} || object.spec.requestedBy == variables.me",
                "'spec.requestedBy must be your own username: ' + variables.me",
            ),
            (
                f"{_CREATE} || !has(object.spec.policy) || variables.me == '{REACTOR}'"
                f" || {_may('fire', 'freezes')}",
                "'only the reactor freezes in the name of a policy: leave out spec.policy, or get"
                " the verb fire on freezes in ' + request.namespace",
            ),
            (
                f"{_CREATE} || object.spec.onExpiry != 'Stop' || {_may('create', 'shutdowns')}",
                "variables.me + ' may not stop anything here: onExpiry: Stop needs the verb create"
                " on shutdowns in ' + request.namespace",
            ),
            (
                f"{_CREATE} || (timestamp(object.spec.until) > timestamp(object.metadata.creationTimestamp)"
                " && timestamp(object.spec.until)"
                " - timestamp(object.metadata.creationTimestamp) <= duration('24h'))",
                "a Freeze ends within 24 hours from now: spec.until says when",
            ),
            (
                f"{_UPDATE} || !variables.thaws || object.spec.thaw.by == variables.me",
                "'spec.thaw.by must be your own username: ' + variables.me",
            ),
            (
                f"{_UPDATE} || !variables.thaws || (!variables.me.startsWith('system:serviceaccount:')"
                " && !variables.me.startsWith('system:node:'))",
                "who thaws is a person: service accounts and nodes cannot",
            ),
            (
                f"{_UPDATE} || !variables.thaws || variables.me == oldObject.spec.requestedBy"
                f" || {_may('thaw', 'freezes', of_this)}",
                "variables.me + ' lacks the verb thaw on freezes in ' + request.namespace",
            ),
            (
                f"{_UPDATE} || variables.engaged || variables.me == '{MANAGER}'"
                f" || !{_has_label('oldObject', ENGAGED_LABEL)}",
                f"the label {ENGAGED_LABEL} stays until the manager has seen the end",
            ),
            (
                f"{_DELETE} || !{_has_label('oldObject', ENGAGED_LABEL)} || {_COLLECTING}"
                f" || {_may('thaw', 'freezes', of_this)}",
                "'deleting a Freeze in force thaws: it needs the verb thaw on freezes in '"
                " + request.namespace",
            ),
        ],
    )


def standing_orders() -> list[Json]:
    """What a guard does when nobody can reach it comes from a policy, through the manager."""
    return policy(
        "standingorders",
        "StandingOrders are the manager's to write, and go with their policy.",
        match={"resourceRules": [rule(GROUP, "standingorders", "CREATE,UPDATE,DELETE")]},
        variables=[_ME],
        validations=[
            (
                f"request.operation == 'DELETE' || variables.me == '{MANAGER}'",
                "StandingOrders are written by the manager alone: set action.onIsolation of a policy",
            ),
            (
                f"{_DELETE} || variables.me == '{MANAGER}' || {_COLLECTING}"
                f" || {_may('bypass', 'killswitchpolicies')}",
                "'deleting a StandingOrder needs the verb bypass on killswitchpolicies in '"
                " + request.namespace",
            ),
        ],
    )


def node_guards() -> list[Json]:
    """A guard writes the report of its own node and no other; nobody else writes any.

    A report can make a static pod count as stopped, so a forged one would be a lie of ours. The
    node is in the token: API servers put it there from 1.30 on.
    """
    claim = "authentication.kubernetes.io/node-name"
    nodes = f"request.userInfo.extra['{claim}']"
    known = f"has(request.userInfo.extra) && '{claim}' in request.userInfo.extra"
    return policy(
        "nodeguards",
        "A NodeGuard is written by the guard of that node.",
        match={
            "resourceRules": [
                rule(GROUP, "nodeguards,nodeguards/status", "CREATE,UPDATE", "Cluster")
            ]
        },
        variables=[_ME],
        validations=[
            (
                f"variables.me == '{NODE_GUARD}' && {known}"
                f" && {nodes}.exists(n, n == object.metadata.name)",
                "'a NodeGuard is written by the guard of that node alone, not by ' + variables.me",
            )
        ],
    )


# --- the operator's own accounts -----------------------------------------------------------------


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
        variables=_RAISES,
        validations=[
            (
                _has_label("namespaceObject", GOVERNED_LABEL),
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
