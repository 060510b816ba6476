"""Armed is measured: the kernel is compared, and a pod that the lock must refuse is tried.

Both happen again and again, the pod as a dry run; `kernel.py` compares what is installed. The canary namespace holds nothing but an engaged Shutdown of the whole namespace. When the
dry run is refused in the lock's own words, the bindings are there and the API server evaluates
them; anything else, an unreachable API server included, is not a proof.
"""

from dataclasses import dataclass

from killswitch.core.errors import (
    ConflictError,
    KillSwitchError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from killswitch.core.names import ENGAGED_LABEL, GOVERNED_LABEL
from killswitch.core.resources import NAMESPACES, PODS, SHUTDOWNS
from killswitch.manager import kernel
from killswitch.ports import Cluster, Json
from killswitch.settings import Settings

CANARY = "canary"
_CURE = "find out who did that, and upgrade the chart to bring it back"
_DENIAL = "held down by Shutdown"
_PROBE: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "probe"},
    "spec": {"containers": [{"name": "probe", "image": "killswitch.invalid/probe"}]},
}


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether the kernel is whole and the lock denied, or what is wrong."""

    denied: bool
    message: str


async def prove(cluster: Cluster, settings: Settings, requested_by: str) -> Proof:
    """Compare the kernel, then try the lock in the canary namespace, made where it is missing."""
    namespace = settings.canary_namespace
    try:
        fault = await kernel.fault(cluster, settings.namespace, settings.protected_namespaces)
        if fault:
            return Proof(denied=False, message=f"{fault}; {_CURE}")
        await _ensure(cluster, namespace, requested_by)
    except KillSwitchError as error:
        return Proof(denied=False, message=str(error))
    proofs = [await _try(server, namespace) for server in cluster.endpoints()]
    answered = [proof for proof in proofs if proof is not None]
    if not answered:
        return Proof(denied=False, message="no API server answers")
    if len(proofs) == 1 or not all(proof.denied for proof in answered):
        return next((proof for proof in answered if not proof.denied), answered[0])
    by = f"{len(answered)} of {len(proofs)} API servers"
    return Proof(denied=True, message=f"a dry-run restart was denied by {by}")


async def _try(server: Cluster, namespace: str) -> Proof | None:
    """What this one API server does with a pod that is locked; None where it does not answer."""
    try:
        await server.create(PODS, _PROBE, namespace, dry_run=True)
    except RefusedError as error:
        denied = _DENIAL in str(error)
        return Proof(denied, "a dry-run restart was denied" if denied else f"{server}: {error}")
    except UnavailableError:
        return None
    except KillSwitchError as error:
        return Proof(denied=False, message=f"{server}: {error}")
    return Proof(denied=False, message=f"{server} allowed a pod that is locked; {_CURE}")


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
