"""People who write policies, and who suspend them."""

from killswitch.api.admission.shape import (
    COLLECTING,
    ME,
    NOT_CREATE,
    NOT_DELETE,
    NOT_UPDATE,
    Json,
    Validation,
    listed,
    may,
    policy,
    rule,
)
from killswitch.core.names import GROUP, PROTECTED_NAMESPACES


def _author_rules(resource: str, shutdowns: str, namespace: str) -> list[Validation]:
    leaving = "oldObject.spec.mode == 'Enforce' && object.spec.mode != 'Enforce'"
    return [
        (
            f"{NOT_CREATE} && {NOT_UPDATE} || (oldObject != null && object.spec == oldObject.spec)"
            f" || {may('create', shutdowns, namespace)}",
            f"variables.me + ' may not stop anything here: writing a policy needs the verb create on"
            f" {shutdowns}'",
        ),
        (
            f"{NOT_UPDATE} || !({leaving}) || {may('bypass', resource, namespace)}",
            f"variables.me + ' lacks the verb bypass on {resource}: it is needed to leave Enforce'",
        ),
        (
            f"{NOT_DELETE} || oldObject.spec.mode == 'Disabled' || {COLLECTING}"
            f" || {may('bypass', resource, namespace)}",
            f"variables.me + ' lacks the verb bypass on {resource}: it is needed to delete a policy'",
        ),
    ]


def authors() -> list[Json]:
    """A policy stops on its author's behalf: who may not stop may not write one."""
    return policy(
        "authors",
        "Who may write, disable and delete policies.",
        match={"resourceRules": [rule(GROUP, "killswitchpolicies", "CREATE,UPDATE,DELETE")]},
        variables=[ME],
        validations=[
            (
                f"request.operation == 'DELETE'"
                f" || !(request.namespace in {listed(PROTECTED_NAMESPACES)})",
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
        variables=[ME],
        validations=[
            (
                "request.operation == 'DELETE' || object.spec.targets.all(t, !has(t.namespaces)"
                f" || t.namespaces.all(n, !(n in {listed(PROTECTED_NAMESPACES)})))",
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
        variables=[ME],
        validations=[
            (
                f"{NOT_CREATE} || object.spec.requestedBy == variables.me",
                "'spec.requestedBy must be your own username: ' + variables.me",
            ),
            (
                f"{NOT_CREATE} || {may('bypass', 'killswitchpolicies')}",
                "variables.me + ' lacks the verb bypass on killswitchpolicies here'",
            ),
            (
                f"{NOT_CREATE} || timestamp(object.spec.until)"
                " - timestamp(object.metadata.creationTimestamp) <= duration('720h')",
                "a Bypass ends within 30 days: if it must last longer, people decide again then",
            ),
        ],
    )
