"""What a pod that nobody owns is made again from. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from killswitch.core.inventory import Pod

Json = Mapping[str, Any]
MOST = 65536
"""Characters of a manifest that a record has room for."""
_KEPT = ("name", "namespace", "labels", "annotations")
_GIVEN = frozenset({"nodeName", "ephemeralContainers", "priority", "preemptionPolicy"})
"""What the cluster, or somebody at work in the pod, has added to its spec."""
_TOKEN = "kube-api-access-"  # noqa: S105  # how the volume's name begins, not a secret
_CONTAINERS = ("initContainers", "containers")


@dataclass(frozen=True, slots=True)
class BarePod:
    """A pod that nobody owns, and the manifest that makes it again."""

    pod: Pod
    manifest: str | None
    """As JSON; None where a record has no room for it."""

    @property
    def uid(self) -> str:
        """The pod's."""
        return self.pod.uid


def bare(pod: Pod) -> bool:
    """Whether nobody but a record could bring it back."""
    return not pod.owner and not pod.mirror


def of(pod: Pod, body: Json) -> BarePod:
    """The pod as it was, without what belongs to this life of it alone."""
    text = json.dumps(_again(body), separators=(",", ":"))
    return BarePod(pod, text if len(text) <= MOST else None)


def _again(body: Json) -> Json:
    metadata, spec = body["metadata"], body["spec"]
    tokens = {each["name"] for each in spec.get("volumes") or () if each["name"].startswith(_TOKEN)}
    # The class gives both; given beside it they would have to be equal.
    given = _GIVEN if spec.get("priorityClassName") else _GIVEN - {"preemptionPolicy"}
    kept = {name: value for name, value in spec.items() if name not in given}
    kept["volumes"] = [each for each in spec.get("volumes") or () if each["name"] not in tokens]
    for part in _CONTAINERS:
        if part in spec:
            kept[part] = [_without(each, tokens) for each in spec[part]]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {name: metadata[name] for name in _KEPT if name in metadata},
        "spec": kept,
    }


def _without(container: Json, volumes: set[str]) -> Json:
    """The container without mounts of these volumes."""
    mounts = container.get("volumeMounts") or ()
    return {**container, "volumeMounts": [m for m in mounts if m["name"] not in volumes]}
