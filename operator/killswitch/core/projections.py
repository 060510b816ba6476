"""From Kubernetes JSON to the small values that plans are made of."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from killswitch.core import evidence, kinds
from killswitch.core.inventory import Child, Item, Node, Pod, Taint, Workload
from killswitch.core.kinds import Kind, Setting
from killswitch.core.names import GROUP, MIRROR_ANNOTATION, STOPPED_TAINT
from killswitch.core.resources import NODES, PODS, REPLICASETS, Resource, plural

Json = Mapping[str, Any]
_GPU_SUFFIXES = ("/gpu", ".com/gpu")
_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


def pod(body: Json) -> Pod | None:
    """The pod, or None when it has finished: Succeeded and Failed pods run nothing."""
    status = body.get("status", {})
    if status.get("phase") in {"Succeeded", "Failed"}:
        return None
    metadata, spec = body["metadata"], body.get("spec", {})
    containers = spec.get("containers", ())
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        node=spec.get("nodeName", ""),
        owner=controller(metadata),
        labels=metadata.get("labels") or {},
        keys=lock_keys(metadata),
        gpus=sum(_gpus(container) for container in containers),
        terminating="deletionTimestamp" in metadata,
        mirror=MIRROR_ANNOTATION in (metadata.get("annotations") or {}),
        addresses=tuple(each["ip"] for each in status.get("podIPs") or () if each.get("ip")),
        # A thousand pods of one image hold its name once.
        images=tuple(sys.intern(each["image"]) for each in containers if each.get("image")),
        ready=_ready(status),
        grace=spec.get("terminationGracePeriodSeconds", 30),
        tolerates=any(_tolerates(each) for each in spec.get("tolerations") or ()),
    )


def _ready(status: Json) -> bool:
    observed = status.get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in observed)


def _tolerates(toleration: Json) -> bool:
    """Whether it lets a pod stay, for good, where a stop has tainted a node."""
    key, always = toleration.get("key"), toleration.get("operator") == "Exists"
    meant = key == STOPPED_TAINT or (not key and always)
    effect = toleration.get("effect") in {None, "", "NoExecute"}
    return meant and always and effect and toleration.get("tolerationSeconds") is None


def workload(kind: Kind, body: Json) -> Workload | Child | None:
    """A workload of this kind, as its kind reads it.

    A ReplicaSet with an owner is nothing by itself; what has ended, as a Job does, runs nothing.
    """
    metadata, spec = body["metadata"], body.get("spec") or {}
    owner = controller(metadata)
    if owner and kind.resource.key == REPLICASETS.key:
        return child(kind.resource, body)
    if kind.ends and _ended(kind, body):
        return None
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    has_claims = bool(spec.get("volumeClaimTemplates"))
    return Workload(
        kind=kind,
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        labels={**(metadata.get("labels") or {}), **_borne(kind, body)},
        template_digest=template_digest(kind, body),
        values=tuple(each.read(body) for each in kind.settings),
        owner=owner,
        deletes_volumes=has_claims and retention.get("whenScaled") == "Delete",
        steers={} if kind.tie is None else kind.tie.wanted(body),
        host="" if kind.tie is None else kind.tie.host_of(body),
    )


def _borne(kind: Kind, body: Json) -> Mapping[str, str]:
    """What fields of it say in the place of labels."""
    found = {label: Setting(path, rest=None).read(body) for label, path in kind.borne}
    return {label: value for label, value in found.items() if isinstance(value, str)}


def template_digest(kind: Kind, body: Json) -> str:
    """Of what its pods are made from, without what a stop itself writes there."""
    path = kind.template or ("spec",)
    found: Any = body
    for part in path:
        found = found.get(part) or {}
    for setting in kind.settings:
        if setting.path[: len(path)] == path:
            found = _without(found, setting.path[len(path) :])
    return evidence.digest(found)


def _without(found: Json, path: tuple[str, ...]) -> Json:
    """The same without this field, and without what it alone was in; copied as far as it differs."""
    first, *rest = path
    if first not in found:
        return found
    left = {name: value for name, value in found.items() if name != first}
    if rest and (inner := _without(found[first] or {}, tuple(rest))):
        left[first] = inner
    return left


def _ended(kind: Kind, body: Json) -> bool:
    observed = (body.get("status") or {}).get("conditions") or ()
    return any(each["type"] in kind.ends and each["status"] == "True" for each in observed)


def child(resource: Resource, body: Json) -> Child:
    """What stands between a workload and its pods."""
    metadata = body["metadata"]
    return Child(
        resource, metadata["namespace"], metadata["name"], metadata["uid"], controller(metadata)
    )


def node(body: Json) -> Node:
    """A node. Kubernetes omits a false `unschedulable`."""
    metadata = body["metadata"]
    labels = metadata.get("labels") or {}
    status, spec = body.get("status") or {}, body.get("spec") or {}
    taints = spec.get("taints") or ()
    return Node(
        name=metadata["name"],
        uid=metadata["uid"],
        labels=labels,
        unschedulable=bool(spec.get("unschedulable", False)),
        gpus=_count_gpus(status.get("capacity") or {}),
        control_plane=_CONTROL_PLANE in labels,
        ready=_ready(status),
        taints=tuple(taint(each) for each in taints if each["key"].startswith(f"{GROUP}/")),
    )


def taint(body: Json) -> Taint:
    """A taint. Kubernetes omits an empty value."""
    return Taint(body["key"], body.get("value", ""), body["effect"])


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
        key = plural(owner["kind"]) + (f".{group}" if group else "")
        keys += [f"uid/{owner['uid']}", f"{key}/{owner['name']}"]
        if len(suffix) > 1 and owner["kind"] == "ReplicaSet" and owner["name"].endswith(suffix):
            keys.append(f"deployments.apps/{owner['name'].removesuffix(suffix)}")
    return tuple(keys)


def _gpus(container: Json) -> int:
    return _count_gpus((container.get("resources") or {}).get("limits") or {})


def _count_gpus(resources: Json) -> int:
    names = (name for name in resources if name.endswith(_GPU_SUFFIXES))
    return sum(int(resources[name]) for name in names if str(resources[name]).isdigit())


PROJECTIONS: dict[str, Callable[[Json], Item | None]] = {
    PODS.key: pod,
    NODES.key: node,
    **{
        kind.resource.key: partial(workload, kind)
        for kind in kinds.TABLE.values()
        if kind.resource.key != PODS.key
    },
    **{each.key: partial(child, each) for each in kinds.LINKS},
}
"""How an object becomes an item, by the key of its resource."""
