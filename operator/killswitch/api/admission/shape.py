"""What all admission policies are made of: accounts, shared pieces of CEL, and their YAML shape."""

from typing import Any

from killswitch.core.names import ENGAGED_LABEL, GOVERNED_LABEL, GROUP, VERSION

Json = dict[str, Any]
Variable = tuple[str, str]
Validation = tuple[str, str]
"""A CEL expression that must hold, and the message otherwise (CEL if it starts with a quote)."""

OPERATOR_NAMESPACE = "killswitch-system"
REACTOR = f"system:serviceaccount:{OPERATOR_NAMESPACE}:killswitch-reactor"
MANAGER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:killswitch-manager"
NODE_GUARD = f"system:serviceaccount:{OPERATOR_NAMESPACE}:killswitch-node"
NAMESPACE_CONTROLLER = "system:serviceaccount:kube-system:namespace-controller"
# A namespace that is being deleted takes its objects along through these two accounts.
_COLLECTORS = (
    NAMESPACE_CONTROLLER,
    "system:serviceaccount:kube-system:generic-garbage-collector",
)
GOVERNED = {"matchLabels": {GOVERNED_LABEL: "true"}}
ENGAGED = {"matchLabels": {ENGAGED_LABEL: "true"}}


def listed(values: tuple[str, ...]) -> str:
    """A list of words as CEL reads it."""
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"


def has_label(of: str, label: str, value: str = "true") -> str:
    """Whether an object (possibly null) carries a label with this value."""
    labels = f"{of}.metadata.labels"
    return f"({of} != null && has({labels}) && '{label}' in {labels} && {labels}['{label}'] == '{value}')"


def may(verb: str, resource: str, namespace: str = ".namespace(request.namespace)") -> str:
    """Whether the requester holds an RBAC verb. At most two of these fit one CEL expression."""
    return (
        f"authorizer.group('{GROUP}').resource('{resource}'){namespace}.check('{verb}').allowed()"
    )


RELEASED_PARAM: Variable = (
    "released",
    "(has(params.spec.approvals) && size(params.spec.approvals) >= params.spec.requiredApprovals)",
)
ME: Variable = ("me", "request.userInfo.username")
COLLECTING = f"request.userInfo.username in {listed(_COLLECTORS)}"
# `{NOT_CREATE} || rule`: the rule concerns nothing but creations.
NOT_CREATE, NOT_UPDATE, NOT_DELETE = (
    f"request.operation != '{o}'" for o in ("CREATE", "UPDATE", "DELETE")
)


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
        binding["paramRef"] = {"selector": ENGAGED, "parameterNotFoundAction": "Allow"}
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
