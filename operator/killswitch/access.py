"""What an account may do, asked of the API server; only to explain, never to stop or to let go by it."""

from killswitch.core.errors import KillSwitchError
from killswitch.core.resources import Resource
from killswitch.ports import Cluster

_REVIEWS = Resource(
    "authorization.k8s.io",
    "v1",
    "selfsubjectaccessreviews",
    "SelfSubjectAccessReview",
    namespaced=False,
)


async def allowed(
    cluster: Cluster,
    verb: str,
    resource: Resource,
    name: str = "",
    namespace: str = "",
    *,
    subresource: str = "",
) -> bool:
    """Whether RBAC lets the account of this cluster; True where that cannot be asked.

    Without a name all of them are meant, without a namespace those of all namespaces.
    """
    attributes = {
        "group": resource.group,
        "resource": resource.plural,
        "verb": verb,
        "name": name,
        "namespace": namespace,
        "subresource": subresource,
    }
    review = {
        "apiVersion": _REVIEWS.api_version,
        "kind": _REVIEWS.kind,
        "spec": {"resourceAttributes": attributes},
    }
    try:
        answer = await cluster.create(_REVIEWS, review)
    except KillSwitchError:
        return True
    return bool(answer["status"]["allowed"])
