"""From Kubernetes JSON to the small values that plans are made of."""

from collections.abc import Mapping
from typing import Any

from killswitch.core import evidence
from killswitch.core.inventory import Child, Node, Pod, Workload
from killswitch.core.kinds import PODS
from killswitch.core.names import MIRROR_ANNOTATION

Json = Mapping[str, Any]
_GPU_SUFFIXES = ("/gpu", ".com/gpu")
_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


def pod(body: Json) -> Pod | None:
    """The pod, or None when it has finished: Succeeded and Failed pods run nothing."""
    status = body.get("status", {})
    if status.get("phase") in {"Succeeded", "Failed"}:
        return None
    metadata, spec = body["metadata"], body.get("spec", {})
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        node=spec.get("nodeName", ""),
        owner=controller(metadata),
        labels=metadata.get("labels") or {},
        keys=lock_keys(metadata),
        gpus=sum(_gpus(container) for container in spec.get("containers", ())),
        terminating="deletionTimestamp" in metadata,
        mirror=MIRROR_ANNOTATION in (metadata.get("annotations") or {}),
        addresses=tuple(each["ip"] for each in status.get("podIPs") or () if each.get("ip")),
    )


def workload(body: Json) -> Workload:
    """A Deployment or StatefulSet; `kind` must be there (lists get it from the client)."""
    metadata, spec = body["metadata"], body["spec"]
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    has_claims = bool(spec.get("volumeClaimTemplates"))
    return Workload(
        kind=body["kind"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        labels=metadata.get("labels") or {},
        replicas=spec.get("replicas"),
        template_digest=evidence.digest(spec["template"]),
        deletes_volumes=has_claims and retention.get("whenScaled") == "Delete",
    )


def child(body: Json) -> Child:
    """A ReplicaSet."""
    metadata = body["metadata"]
    return Child(metadata["namespace"], metadata["name"], metadata["uid"], controller(metadata))


def node(body: Json) -> Node:
    """A node. Kubernetes omits a false `unschedulable`."""
    metadata = body["metadata"]
    labels = metadata.get("labels") or {}
    capacity = body.get("status", {}).get("capacity") or {}
    return Node(
        name=metadata["name"],
        uid=metadata["uid"],
        labels=labels,
        unschedulable=bool(body.get("spec", {}).get("unschedulable", False)),
        gpus=_count_gpus(capacity),
        control_plane=_CONTROL_PLANE in labels,
    )


def controller(metadata: Json) -> str:
    """Uid of the controlling owner, or empty."""
    owners = metadata.get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), "")


def lock_keys(metadata: Json) -> tuple[str, ...]:
    """The lock keys that cover a pod: its own name, and its owners by uid and by name.

    The Deployment above a ReplicaSet is known from the ReplicaSet's name, which ends with the
    pod's template hash: a lock that a person wrote with nothing but the Deployment's name then
    covers its pods too. The admission policy computes the same (api/admission/lock).
    """
    keys = [f"{PODS.key}/{metadata['name']}"]
    suffix = "-" + (metadata.get("labels") or {}).get("pod-template-hash", "")
    for owner in metadata.get("ownerReferences") or ():
        group, _, _version = owner["apiVersion"].rpartition("/")
        plural = f"{owner['kind'].lower()}s" + (f".{group}" if group else "")
        keys += [f"uid/{owner['uid']}", f"{plural}/{owner['name']}"]
        if len(suffix) > 1 and owner["kind"] == "ReplicaSet" and owner["name"].endswith(suffix):
            keys.append(f"deployments.apps/{owner['name'].removesuffix(suffix)}")
    return tuple(keys)


def _gpus(container: Json) -> int:
    return _count_gpus((container.get("resources") or {}).get("limits") or {})


def _count_gpus(resources: Json) -> int:
    names = (name for name in resources if name.endswith(_GPU_SUFFIXES))
    return sum(int(resources[name]) for name in names if str(resources[name]).isdigit())
