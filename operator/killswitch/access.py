"""What an account may do, asked of the API server; only to explain, never to stop or to let go by it."""

from killswitch.core.errors import KillSwitchError
from killswitch.core.resources import Resource
from killswitch.ports import Cluster

_GROUP = "authorization.k8s.io"
_OWN = Resource(
    _GROUP, "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
_OTHERS = Resource(_GROUP, "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)
_SERVICE_ACCOUNT = "system:serviceaccount:"


async def allowed(
    cluster: Cluster,
    verb: str,
    resource: Resource,
    name: str = "",
    namespace: str = "",
    *,
    subresource: str = "",
    account: str = "",
) -> bool:
    """Whether RBAC lets the account of this cluster; True where that cannot be asked.

    Without a name all of them are meant, without a namespace those of all namespaces. `account`: the
    username of another one, which takes the right to create SubjectAccessReviews.
    """
    attributes = {
        "group": resource.group,
        "resource": resource.plural,
        "verb": verb,
        "name": name,
        "namespace": namespace,
        "subresource": subresource,
    }
    resource = _OTHERS if account else _OWN
    who = {"user": account, "groups": _groups(account)} if account else {}
    review = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "spec": {"resourceAttributes": attributes, **who},
    }
    try:
        answer = await cluster.create(resource, review)
    except KillSwitchError:
        return True
    return bool(answer["status"]["allowed"])


def _groups(account: str) -> list[str]:
    """Those that the API server puts it in by itself: rights may be bound to them."""
    found = ["system:authenticated"]
    if account.startswith(_SERVICE_ACCOUNT):
        namespace = account.removeprefix(_SERVICE_ACCOUNT).partition(":")[0]
        found += ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    return found
