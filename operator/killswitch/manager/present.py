"""What is recorded of a target beside what it is now: values, without a cluster."""

from dataclasses import dataclass, field

from killswitch.core import projections
from killswitch.core.conditions import Reason
from killswitch.core.kinds import Kind
from killswitch.core.resources import Resource
from killswitch.core.undoing import Field
from killswitch.manager.claims import Target
from killswitch.ports import Json

REPORTS_READY = frozenset(
    {
        "deployments.apps",
        "statefulsets.apps",
        "replicasets.apps",
        "replicationcontrollers",
        "rollouts.argoproj.io",
        "leaderworkersets.leaderworkerset.x-k8s.io",
        "stormservices.orchestration.aibrix.ai",
    }
)
"""Kinds whose controllers count ready replicas: where they say nothing, none is ready."""


@dataclass(slots=True)
class Present:
    """One recorded workload as it is now."""

    target: Target
    body: Json
    fields: list[Field] = field(default_factory=list)
    """What a stop wrote into it, of kinds without a count."""
    ceiling: int | None = None
    """The most replicas that its autoscaler allows now; None: any number, as far as is known."""
    ceiling_of: str = ""

    @property
    def kind(self) -> Kind:
        """Its kind, as the cluster serves it."""
        return self.target.kind

    @property
    def namespace(self) -> str:
        """Where it is."""
        return self.target.place

    @property
    def name(self) -> str:
        """`Deployment prod/vllm`."""
        return self.target.name

    @property
    def recorded(self) -> int:
        """How many replicas were there; absent meant 1."""
        return int(self.target.record.get("replicas", 1))

    @property
    def wanted(self) -> int:
        """How many may come back: what was there, and no more than its autoscaler allows."""
        return self.recorded if self.ceiling is None else min(self.recorded, self.ceiling)

    @property
    def replicas(self) -> int:
        """How many are asked for now."""
        found = self.kind.settings[0].read(self.body)
        return found if isinstance(found, int) else 1

    @property
    def ready(self) -> int | None:
        """How many are ready now; None: its controller does not say."""
        status = self.body.get("status") or {}
        if status and self.kind.resource.key in REPORTS_READY:
            return int(status.get("readyReplicas", 0))
        for name in ("readyReplicas", "availableReplicas", "replicas"):
            if isinstance(status.get(name), int):
                return int(status[name])
        return None

    @property
    def down(self) -> bool:
        """Whether it stands as the stop left it, and did not before."""
        if self.kind.counted:
            return self.replicas == 0 < self.recorded
        return any(each.stands(self.body) for each in self.fields)

    @property
    def settled(self) -> bool:
        """Of a kind without a count: whether its controller has followed, as far as it says."""
        status, metadata = self.body.get("status") or {}, self.body["metadata"]
        if "numberReady" in status:  # a DaemonSet
            seen = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
            return bool(seen and status["numberReady"] >= status["desiredNumberScheduled"])
        observed = status.get("conditions") or ()
        return not any(
            each.get("type") == "Ready" and each["status"] != "True" for each in observed
        )

    def drift(self) -> str | None:
        """What changed since it was recorded, in a sentence."""
        if not self.kind.settings:  # nothing is written, so nothing can go wrong by it
            return None
        record = self.target.record
        if self.body["metadata"]["uid"] != record["uid"]:
            return f"{self.name} was re-created"
        if projections.template_digest(self.kind, self.body) != record["templateDigest"]:
            what = "pod template" if self.kind.template else "spec"
            return f"{self.name} has another {what}"
        return None

    def differs(self) -> str:
        """How somebody else has changed what the stop wrote, in a sentence; empty: nobody has."""
        if not self.kind.counted:
            found = [words for each in self.fields if (words := each.conflict(self.body))]
            return f"{self.name}: {', '.join(found)}, left so" if found else ""
        if self.replicas == self.recorded:
            return ""
        if self.replicas == self.wanted:
            limit = f"its {self.ceiling_of} allows no more"
            return f"{self.name} stands at {self.replicas}, {limit}, recorded {self.recorded}"
        return f"{self.name} stands at {self.replicas} by somebody else, recorded {self.recorded}"


@dataclass(slots=True)
class Touched:
    """A Service whose traffic was cut, or a fighter that was quieted."""

    resource: Resource
    namespace: str
    name: str
    body: Json
    fields: list[Field]
    gitops: bool = False

    @property
    def title(self) -> str:
        """`ScaledObject prod/vllm`."""
        return f"{self.resource.kind} {self.namespace}/{self.name}"

    @property
    def conflicts(self) -> list[str]:
        """What somebody else has made of it."""
        found = [words for each in self.fields if (words := each.conflict(self.body))]
        return [f"{self.title}: {', '.join(found)}, left so"] if found else []


@dataclass(slots=True)
class Work:
    """What one Shutdown's restore has to do, and what is others' to do."""

    workloads: list[Present] = field(default_factory=list)
    nodes: list[Json] = field(default_factory=list)
    pods: list[Target] = field(default_factory=list)
    """Pods that nobody owned and that are gone, to be made again."""
    refused: list[str] = field(default_factory=list)
    """Why some of those may not be made, in sentences."""
    traffic: list[Touched] = field(default_factory=list)
    fighters: list[Touched] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    """Brought back by a later Shutdown's restore."""
    waits: list[tuple[Reason, str]] = field(default_factory=list)
    """Why a target is not this restore's to bring back, now."""
    orphans: list[str] = field(default_factory=list)
    """At 0 and recorded by nobody but a Shutdown that was deleted."""
    remarks: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing at all is recorded of what the Shutdown held."""
        parts = (self.workloads, self.nodes, self.pods, self.traffic, self.fighters)
        return not (any(parts) or self.vanished or self.returned or self.waits or self.remarks)
