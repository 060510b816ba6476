"""What node guards obey, and what they report."""

from killswitch.api.admission.shape import (
    COLLECTING,
    MANAGER,
    ME,
    NAMESPACE_CONTROLLER,
    NODE_GUARD,
    NOT_CREATE,
    NOT_DELETE,
    NOT_UPDATE,
    REACTOR,
    Json,
    has_label,
    listed,
    may,
    policy,
    rule,
)
from killswitch.core.names import ENGAGED_LABEL, GOVERNED_LABEL, GROUP, PROTECTED_NAMESPACES


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
        variables=[ME, ("thaws", thaws), ("engaged", has_label("object", ENGAGED_LABEL))],
        validations=[
            (
                f"{NOT_CREATE} || !(request.namespace in {listed(PROTECTED_NAMESPACES)})",
                "'namespace ' + request.namespace + ' is protected: nothing is frozen there'",
            ),
            (
                f"{NOT_CREATE} || {has_label('namespaceObject', GOVERNED_LABEL)}",
                "'namespace ' + request.namespace + ' is not governed: kubectl killswitch govern '"
                " + request.namespace",
            ),
            (
                f"{NOT_CREATE} || (variables.engaged && !has(object.spec.thaw))",
                f"a new Freeze is in force: label {ENGAGED_LABEL}=true, no thaw",
            ),
            (
                f"{NOT_CREATE} || object.spec.requestedBy == variables.me",
                "'spec.requestedBy must be your own username: ' + variables.me",
            ),
            (
                f"{NOT_CREATE} || !has(object.spec.policy) || variables.me == '{REACTOR}'"
                f" || {may('fire', 'freezes')}",
                "'only the reactor freezes in the name of a policy: leave out spec.policy, or get"
                " the verb fire on freezes in ' + request.namespace",
            ),
            (
                f"{NOT_CREATE} || object.spec.onExpiry != 'Stop' || {may('create', 'shutdowns')}",
                "variables.me + ' may not stop anything here: onExpiry: Stop needs the verb create"
                " on shutdowns in ' + request.namespace",
            ),
            (
                f"{NOT_CREATE} || (timestamp(object.spec.until) > timestamp(object.metadata.creationTimestamp)"
                " && timestamp(object.spec.until)"
                " - timestamp(object.metadata.creationTimestamp) <= duration('24h'))",
                "a Freeze ends within 24 hours from now: spec.until says when",
            ),
            (
                f"{NOT_UPDATE} || !variables.thaws || object.spec.thaw.by == variables.me",
                "'spec.thaw.by must be your own username: ' + variables.me",
            ),
            (
                f"{NOT_UPDATE} || !variables.thaws || (!variables.me.startsWith('system:serviceaccount:')"
                " && !variables.me.startsWith('system:node:'))",
                "who thaws is a person: service accounts and nodes cannot",
            ),
            (
                f"{NOT_UPDATE} || !variables.thaws || variables.me == oldObject.spec.requestedBy"
                f" || {may('thaw', 'freezes', of_this)}",
                "variables.me + ' lacks the verb thaw on freezes in ' + request.namespace",
            ),
            (
                f"{NOT_UPDATE} || variables.engaged || variables.me == '{MANAGER}'"
                f" || !{has_label('oldObject', ENGAGED_LABEL)}",
                f"the label {ENGAGED_LABEL} stays until the manager has seen the end",
            ),
            # Not the garbage collector: whoever may patch could name an owner that is gone.
            (
                f"{NOT_DELETE} || !{has_label('oldObject', ENGAGED_LABEL)}"
                f" || variables.me == '{NAMESPACE_CONTROLLER}' || {may('thaw', 'freezes', of_this)}",
                "'deleting a Freeze in force thaws: it needs the verb thaw on freezes in '"
                " + request.namespace",
            ),
        ],
    )


def freeze_status() -> list[Json]:
    """Guards obey the condition `Ended`, so writing it is thawing.

    CEL has no clock: whether the time is over cannot be asked here. Of the accounts of programs only
    the operator's own write it; the threat model says what that is worth to a thief.
    """
    of_this = ".namespace(request.namespace).name(oldObject.metadata.name)"
    person = (
        "!variables.me.startsWith('system:serviceaccount:')"
        " && !variables.me.startsWith('system:node:')"
    )
    return policy(
        "freeze-status",
        "The status of a Freeze ends it: the operator writes it, or a person who may thaw.",
        match={"resourceRules": [rule(GROUP, "freezes/status", "UPDATE")]},
        variables=[ME],
        validations=[
            (
                f"variables.me in ['{REACTOR}', '{MANAGER}']"
                f" || ({person} && {may('thaw', 'freezes', of_this)})",
                "'only the operator writes the status of a Freeze, since that ends it: '"
                " + variables.me + ' sets spec.thaw instead, which needs the verb thaw on freezes'",
            )
        ],
    )


def standing_orders() -> list[Json]:
    """What a guard does when nobody can reach it comes from a policy, through the manager."""
    return policy(
        "standingorders",
        "StandingOrders are the manager's to write, and go with their policy.",
        match={"resourceRules": [rule(GROUP, "standingorders", "CREATE,UPDATE,DELETE")]},
        variables=[ME],
        validations=[
            (
                f"request.operation == 'DELETE' || variables.me == '{MANAGER}'",
                "StandingOrders are written by the manager alone: set action.onIsolation of a policy",
            ),
            (
                f"{NOT_DELETE} || variables.me == '{MANAGER}' || {COLLECTING}"
                f" || {may('bypass', 'killswitchpolicies')}",
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
        variables=[ME],
        validations=[
            (
                f"variables.me == '{NODE_GUARD}' && {known}"
                f" && {nodes}.exists(n, n == object.metadata.name)",
                "'a NodeGuard is written by the guard of that node alone, not by ' + variables.me",
            )
        ],
    )
