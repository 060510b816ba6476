"""Whether the safety kernel is in this cluster: its kinds, and the binding by which the lock denies.

Asked before a namespace is labelled: a label without the kernel promises what nobody keeps.
"""

import asyncio

from killswitch.core.errors import NotFoundError, RefusedError, ServerError
from killswitch.core.resources import CLUSTER_SHUTDOWNS, FREEZES, SHUTDOWNS, Resource
from killswitch.ports import Cluster

# With no plural this is the path of the group's discovery, which everybody may read.
_KINDS = Resource(SHUTDOWNS.group, SHUTDOWNS.version, "", "APIResourceList", namespaced=False)
_BINDINGS = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding", namespaced=False,
)  # fmt: skip


_BINDING_OF = {
    SHUTDOWNS: "killswitch-lock",
    CLUSTER_SHUTDOWNS: "killswitch-node-lock",
    FREEZES: "killswitch-freezes",
}


async def lacking(cluster: Cluster, kind: Resource = SHUTDOWNS) -> str:
    """What an order of this kind needs of the kernel and is not there, in words.

    Empty where all is, as far as the user may see.
    """
    binding = _BINDING_OF[kind]
    known, bound = await asyncio.gather(_served(cluster, kind), _bound(cluster, binding))
    if not known:
        return f"killswitch is not installed in this cluster (no CRD {kind.key})"
    if not bound:
        rule = "guard of Freezes" if kind is FREEZES else "lock"
        return f"killswitch's {rule} is not installed in this cluster (no binding {binding})"
    return ""


async def _served(cluster: Cluster, kind: Resource) -> bool:
    try:
        found = await cluster.get(_KINDS, "")
    except NotFoundError:
        return False
    except (RefusedError, ServerError):  # not to be seen: what comes next will tell
        return True
    return any(each["name"] == kind.plural for each in found.get("resources") or ())


async def _bound(cluster: Cluster, name: str) -> bool:
    try:
        await cluster.get(_BINDINGS, name)
    except NotFoundError:
        return False
    except (RefusedError, ServerError):  # few people may read it
        return True
    return True
