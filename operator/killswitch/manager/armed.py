"""Armed is measured: a pod that the lock must refuse is tried again and again, as a dry run.

The canary namespace holds nothing but an engaged Shutdown of the whole namespace. When the
dry run is refused in the lock's own words, the bindings are there and the API server evaluates
them; anything else, an unreachable API server included, is not a proof.
"""

from dataclasses import dataclass

from killswitch.api.common import ENGAGED_LABEL, GOVERNED_LABEL
from killswitch.core.errors import ConflictError, KillSwitchError, NotFoundError, RefusedError
from killswitch.core.kinds import NAMESPACES, PODS, SHUTDOWNS
from killswitch.ports import Cluster, Json

CANARY = "canary"
_DENIAL = "held down by Shutdown"
_PROBE: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "probe"},
    "spec": {"containers": [{"name": "probe", "image": "killswitch.invalid/probe"}]},
}


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether the lock denied, and in which words."""

    denied: bool
    message: str


async def prove(cluster: Cluster, namespace: str, requested_by: str) -> Proof:
    """Try the lock in the canary namespace, making its canary first where it is missing."""
    try:
        await _ensure(cluster, namespace, requested_by)
        await cluster.create(PODS, _PROBE, namespace, dry_run=True)
    except RefusedError as error:
        denied = _DENIAL in str(error)
        return Proof(denied, "a dry-run restart was denied" if denied else str(error))
    except KillSwitchError as error:
        return Proof(denied=False, message=str(error))
    cure = "are the ValidatingAdmissionPolicyBindings of killswitch there? Reinstall the chart"
    return Proof(denied=False, message=f"the API server allowed a pod that is locked: {cure}")


async def _ensure(cluster: Cluster, namespace: str, requested_by: str) -> None:
    try:
        await cluster.get(SHUTDOWNS, CANARY, namespace)
    except NotFoundError:
        await _make(cluster, namespace, requested_by)


async def _make(cluster: Cluster, namespace: str, requested_by: str) -> None:
    metadata = {"name": namespace, "labels": {GOVERNED_LABEL: "true"}}
    try:
        await cluster.get(NAMESPACES, namespace)
    except NotFoundError:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        await cluster.create(NAMESPACES, body)
    shutdown = {
        "apiVersion": SHUTDOWNS.api_version,
        "kind": SHUTDOWNS.kind,
        "metadata": {"name": CANARY, "labels": {ENGAGED_LABEL: "true"}},
        "spec": {
            "requestedBy": requested_by,
            "reason": "canary: proves again and again that the lock denies",
            "requiredApprovals": 5,
            "scope": {"wholeNamespace": True},
        },
    }
    try:
        await cluster.create(SHUTDOWNS, shutdown, namespace)
    except ConflictError:
        return
