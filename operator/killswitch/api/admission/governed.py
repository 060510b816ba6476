"""Namespaces: which may be governed, and which stay so."""

from killswitch.api.admission.shape import (
    GOVERNED,
    RELEASED_PARAM,
    Json,
    has_label,
    listed,
    policy,
    rule,
)
from killswitch.core.names import GOVERNED_LABEL, PROTECTED_NAMESPACES


def governing() -> list[Json]:
    """Protected namespaces are never governed."""
    return policy(
        "governing",
        "Protected namespaces can never be governed.",
        match={
            "objectSelector": GOVERNED,
            "resourceRules": [rule("", "namespaces", "CREATE,UPDATE", "*")],
        },
        validations=[
            (
                f"!(object.metadata.name in {listed(PROTECTED_NAMESPACES)})"
                f" || !{has_label('object', GOVERNED_LABEL)}",
                f"this namespace is protected: it can never carry {GOVERNED_LABEL}=true",
            )
        ],
    )


def governed_label() -> list[Json]:
    """The label that the lock is selected by changes on the object itself, where rules look.

    `/status` and `/finalize` accept changed labels too. This policy has no parameters: kubelets
    write `nodes/status`, and must not meet the blind seconds of one that has after a restart.
    """
    same = f"{has_label('object', GOVERNED_LABEL)} == {has_label('oldObject', GOVERNED_LABEL)}"
    return policy(
        "governed-label",
        "The governed label cannot be changed through a subresource.",
        match={
            "objectSelector": GOVERNED,
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
    keeps = f"request.operation == 'UPDATE' && {has_label('object', GOVERNED_LABEL)}"
    return policy(
        name,
        f"A namespace with an engaged {param} stays governed and cannot be deleted.",
        match={
            "objectSelector": GOVERNED,
            "resourceRules": [rule("", "namespaces", "UPDATE,DELETE", "*")],
        },
        variables=[RELEASED_PARAM],
        validations=[
            (
                f"variables.released || ({keeps}) || !({concerns})",
                f"'{param} ' + params.metadata.name + ' is engaged here: the namespace stays"
                " governed and cannot be deleted until people release it'",
            )
        ],
        param=param,
    )
