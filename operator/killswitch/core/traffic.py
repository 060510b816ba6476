"""What leads traffic to pods, and which of it a graceful stop cuts. Pure.

A Service is cut by one more label in its selector, which no pod bears: its endpoints go, its name and
address stay. So is an InferencePool. Routes that lead to them answer 503 by themselves.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from killswitch.core.inventory import Pod
from killswitch.core.kinds import Scalar, Setting
from killswitch.core.locks import carries
from killswitch.core.names import CUT_KEY
from killswitch.core.resources import INFERENCE_POOLS, SERVICES, Resource

Json = Mapping[str, Any]
_SELECTORS = {
    SERVICES.key: ("spec", "selector"),
    INFERENCE_POOLS.key: ("spec", "selector", "matchLabels"),
}


@dataclass(frozen=True, slots=True)
class Entrance:
    """What selects pods to lead traffic to them."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    selector: Mapping[str, str]
    setting: Setting
    """The field that cuts it, and what the Shutdown writes there."""
    was: Scalar = None
    """What stands there."""

    @property
    def kind(self) -> str:
        """As records name it."""
        group = self.resource.group
        return f"{self.resource.kind}.{group}" if group else self.resource.kind

    def __str__(self) -> str:
        """`Service vllm`."""
        return f"{self.resource.kind} {self.name}"


class Reach(Enum):
    """To whose pods an entrance leads."""

    HELD = auto()  # only to pods that this stop holds
    SHARED = auto()  # to others too
    NOBODY = auto()


def mark(shutdown: Json) -> str:
    """What a Shutdown writes into the selectors that it cuts."""
    return str(shutdown["metadata"]["uid"][:8])


def entrance(resource: Resource, body: Json, value: str) -> Entrance | None:
    """The entrance, to be cut with this value; None where there is nothing to cut.

    A headless Service that publishes what is not ready is how the ranks of one server find each
    other: without it they could not end what they have under way.
    """
    spec = body.get("spec") or {}
    if spec.get("clusterIP") == "None" and spec.get("publishNotReadyAddresses"):
        return None
    path = _SELECTORS[resource.key]
    setting = Setting((*path, CUT_KEY), rest=value)
    selector: Any = body
    for part in path:
        selector = (selector or {}).get(part)
    if not selector:
        return None
    metadata = body["metadata"]
    return Entrance(
        resource,
        metadata["namespace"],
        metadata["name"],
        metadata["uid"],
        selector,
        setting,
        setting.read(body),
    )


def reach(found: Entrance, pods: Iterable[Pod], held: Callable[[Pod], bool]) -> Reach:
    """Whose pods of its namespace it selects."""
    selected = [pod for pod in pods if carries(pod.labels, found.selector)]
    if not selected:
        return Reach.NOBODY
    return Reach.HELD if all(held(pod) for pod in selected) else Reach.SHARED
