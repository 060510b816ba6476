"""The lives of Shutdowns and their records: who engages, approves, restores and deletes."""

from killswitch.api.admission.shape import (
    COLLECTING,
    MANAGER,
    ME,
    NOT_CREATE,
    NOT_DELETE,
    NOT_UPDATE,
    REACTOR,
    Json,
    Validation,
    Variable,
    has_label,
    listed,
    may,
    policy,
    rule,
)
from killswitch.core import fighters
from killswitch.core.names import ENGAGED_LABEL, GOVERNED_LABEL, GROUP, PROTECTED_NAMESPACES

LONGEST_NAME = 100
"""Of a Shutdown; what the reactor writes is `<policy of 52>-<episode>-part-<n>-more-<n>`."""
_APPROVALS: list[Variable] = [
    ME,
    ("new", "object != null && has(object.spec.approvals) ? object.spec.approvals : {}"),
    ("old", "oldObject != null && has(oldObject.spec.approvals) ? oldObject.spec.approvals : {}"),
    ("approves", "variables.new != variables.old"),
    ("engaged", has_label("object", ENGAGED_LABEL)),
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
            f"{NOT_CREATE} || (variables.engaged && size(variables.new) == 0 && !has(object.spec.restore))",
            f"a new Shutdown is engaged: label {ENGAGED_LABEL}=true, no approvals, no restore",
        ),
        (
            f"{NOT_CREATE} || object.spec.requestedBy == variables.me",
            "'spec.requestedBy must be your own username: ' + variables.me",
        ),
        # A policy counts what names it as its own fire: by a forged one it would be latched.
        (
            f"{NOT_CREATE} || !has(object.spec.policy) || variables.me == '{REACTOR}'"
            f" || {may('fire', resource, namespace)}",
            f"'only the reactor engages in the name of a policy: leave out spec.policy, or get the"
            f" verb fire on {resource}'{place}",
        ),
        # Its records have longer names than it, and one that is refused leaves a stop unscaled.
        (
            f"{NOT_CREATE} || size(object.metadata.name) <= {LONGEST_NAME}",
            f"the name is longer than {LONGEST_NAME} characters, and records are named after it:"
            " choose a shorter one",
        ),
        (
            f"{NOT_UPDATE} || variables.engaged || variables.released",
            f"the label {ENGAGED_LABEL} stays until release",
        ),
        (
            f"{NOT_UPDATE} || variables.released || variables.oldLabels.all(k,"
            " k in variables.labels && variables.labels[k] == variables.oldLabels[k])",
            "labels of an engaged Shutdown may be added, not changed or taken off",
        ),
        (
            f"{NOT_UPDATE} || variables.new.all(k, k in variables.old || k == variables.me)",
            "'you are ' + variables.me + ': nobody approves for someone else'",
        ),
        (
            f"{NOT_UPDATE} || !variables.approves || (!variables.me.startsWith('system:serviceaccount:')"
            " && !variables.me.startsWith('system:node:'))",
            "approvers are people: service accounts and nodes cannot release",
        ),
        (
            f"{NOT_UPDATE} || !variables.approves || variables.me != object.spec.requestedBy",
            "whoever engaged a Shutdown does not release it: ask somebody else",
        ),
        (
            f"{NOT_UPDATE} || !variables.approves || {may('release', resource, of_this)}",
            f"variables.me + ' lacks the verb release on {resource}'{place}",
        ),
        (
            f"{NOT_UPDATE} || !variables.restores"
            " || (variables.released && object.spec.restore.by == variables.me)"
            " || (variables.released && has(oldObject.spec.restore))",
            "restore comes after release, and spec.restore.by is your own username",
        ),
        (
            f"{NOT_UPDATE} || !variables.restores || {may('restore', resource, of_this)}",
            f"variables.me + ' lacks the verb restore on {resource}'{place}",
        ),
        (
            f"{NOT_DELETE} || variables.released",
            "an engaged Shutdown cannot be deleted: people release it first",
        ),
        (
            f"{NOT_DELETE} || variables.restored || {COLLECTING} || {may('release', resource, of_this)}",
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
                f"{NOT_CREATE} || !(request.namespace in {listed(PROTECTED_NAMESPACES)})",
                "'namespace ' + request.namespace + ' is protected: nothing is stopped there'",
            ),
            (
                f"{NOT_CREATE} || {has_label('namespaceObject', GOVERNED_LABEL)}",
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
                f"{NOT_CREATE} || !has(object.spec.namespaces)"
                f" || object.spec.namespaces.all(n, !(n in {listed(PROTECTED_NAMESPACES)}))",
                "spec.namespaces names a protected namespace: nothing is stopped there",
            ),
            *_life("clustershutdowns", ""),
        ],
    )


def records() -> list[Json]:
    """Evidence outlives the wish to be rid of it; and whoever writes it says what a restore will do.

    The manager writes by its own rights what a record names. So nobody has it write what he could not
    write himself: pods, and whatever is not of the record's own namespace. A person's counts nobody
    can prove: what the manager uses of them is bound by what the Shutdown holds (manager/recorded.py).
    """
    collects = f"{COLLECTING} || {may('release', 'shutdowns')}"
    operator = f"variables.me in {listed((REACTOR, MANAGER))}"
    pods = "authorizer.group('').resource('pods').namespace(request.namespace).check('create')"
    return policy(
        "shutdownrecords",
        "Who writes ShutdownRecords of which content; they are deleted only by those who may release.",
        match={"resourceRules": [rule(GROUP, "shutdownrecords", "CREATE,DELETE")]},
        variables=[
            ME,
            ("targets", "object != null && has(object.spec.targets) ? object.spec.targets : []"),
        ],
        validations=[
            (
                f"{NOT_DELETE} || {collects}",
                "deleting a ShutdownRecord needs the verb release on shutdowns there",
            ),
            (
                f"size(variables.targets) == 0 || {operator} || {may('create', 'shutdowns')}"
                f" || {may('create', 'clustershutdowns', '')}",
                "what was there is recorded by those alone who may stop there: create on shutdowns",
            ),
            (
                "variables.targets.all(t, !has(t.namespace)"
                f" && !(t.kind in {listed(tuple(fighters.RECORDED))} && has(t.settings)))"
                f" || variables.me == '{MANAGER}' || {may('vouch', 'shutdownrecords', '')}",
                "'only the manager records autoscalers, GitOps and what is in other namespaces:"
                " leave them out, or get the verb vouch on shutdownrecords in the whole cluster'",
            ),
            (
                f"variables.targets.all(t, !has(t.manifest)) || {operator} || {pods}.allowed()",
                "'a manifest becomes a pod: recording one needs create on pods in '"
                " + request.namespace",
            ),
        ],
    )
