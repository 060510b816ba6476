"""What the user may do, asked of the API server; only to explain, never to decide."""

from killswitch.cli.connect import Session
from killswitch.core.errors import KillSwitchError
from killswitch.core.resources import Resource

_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview",
    namespaced=False,
)  # fmt: skip


async def may(
    session: Session, verb: str, resource: Resource, name: str, namespace: str = ""
) -> bool:
    """Whether RBAC lets the user; True where that cannot be asked."""
    attributes = {
        "group": resource.group, "resource": resource.plural, "verb": verb,
        "name": name, "namespace": namespace,
    }  # fmt: skip
    review = {
        "apiVersion": _REVIEWS.api_version,
        "kind": _REVIEWS.kind,
        "spec": {"resourceAttributes": attributes},
    }
    try:
        answer = await session.cluster.create(_REVIEWS, review)
    except KillSwitchError:
        return True
    return bool(answer["status"]["allowed"])
