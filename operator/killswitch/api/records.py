"""ShutdownRecord: evidence and what was there, written once, kept apart from the small lock."""

from typing import Annotated, Literal

from pydantic import Field

from killswitch.api.common import Model, Name, Object, Rule, Timestamp, rules


class SignalEvidence(Model):
    """One signal's vote at the moment of decision."""

    name: str = Field(max_length=63, description="Name of the signal.")
    verdict: Literal["Tripped", "Clear", "Unknown"] = Field(description="What it said.")
    counted: bool = Field(description="Whether it counted towards the quorum.")
    reason: str = Field(default="", max_length=64, description="Why it was Unknown.")
    value: str = Field(default="", max_length=64, description="The value compared.")
    threshold: str = Field(default="", max_length=64, description="E.g. `> 5000`.")
    query: str = Field(default="", max_length=4096, description="The query asked.")
    sampled_at: Timestamp | None = Field(default=None, description="Time of the oldest sample.")
    read_at: Timestamp | None = Field(default=None, description="When the answer came.")
    message: str = Field(default="", max_length=1024, description="In one sentence.")
    # Without a default: the API server would add it to older records, whose digests it is not in.
    path: str | None = Field(
        default=None,
        max_length=32,
        description="How it arrived: poll, scrape, remote_write, alert or event.",
    )


class Evidence(Model):
    """Why it was stopped; its digest stands in the Shutdown's immutable spec."""

    decided_at: Timestamp = Field(description="When the decision fell.")
    decided_by: str = Field(max_length=253, description="Replica or person that decided.")
    quorum: str = Field(max_length=32, description="Votes, e.g. `2 of 3, 2 required`.")
    signals: list[SignalEvidence] = Field(
        default=[],
        max_length=16,
        description="Every vote.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    summary: str = Field(default="", max_length=1024, description="The decision in a sentence.")


class SettingRecord(Model):
    """One field before it was written. Absent is a value."""

    field: str = Field(
        max_length=512, description="JSON pointer to the field, e.g. `/spec/suspend`."
    )
    was: str | None = Field(
        default=None, max_length=1024, description="What stood there, as JSON; absent: nothing did."
    )


class TargetRecord(Model):
    """What one workload (or node) was before it was touched. Absent is a value."""

    kind: str = Field(
        min_length=1,
        max_length=253,
        description="Kind, with its API group where it needs one: `Service.serving.knative.dev`.",
    )
    name: Name = Field(description="Name.")
    namespace: Name | None = Field(
        default=None, description="Its namespace, where that is not the record's own."
    )
    uid: str = Field(max_length=64, description="uid then.")
    generation: int = Field(default=0, ge=0, description="Generation then.")
    template_digest: str = Field(default="", max_length=71, description="Of the pod template.")
    replicas: int | None = Field(
        default=None, ge=0, description="`spec.replicas` then; absent means the default of 1."
    )
    settings: list[SettingRecord] | None = Field(
        default=None,
        max_length=8,
        description="What stood in the fields that bring a kind without a count to rest.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    manifest: str | None = Field(
        default=None,
        max_length=65536,
        description="Of a pod that nobody owned: what it is made again from, as JSON.",
    )
    unschedulable: bool | None = Field(
        default=None, description="Whether the node was cordoned already: then it stays so."
    )
    taints: list[Annotated[str, Field(max_length=400)]] | None = Field(
        default=None,
        max_length=16,
        description="The taints of `killswitch.dev/` that the node bore already, as"
        " `key=value:effect`: they stay.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class ShutdownRecordSpec(Model):
    """Evidence, or a chunk of targets with what was there."""

    model_config = rules(
        Rule("self == oldSelf", "a ShutdownRecord is written once"),
        Rule(
            "has(self.evidence) != has(self.targets)",
            "a ShutdownRecord holds either evidence or targets",
        ),
    )

    shutdown: Name = Field(
        description="Name of the Shutdown or ClusterShutdown (or Freeze, of which there is evidence"
        " alone) it belongs to."
    )
    shutdown_kind: Literal["Shutdown", "ClusterShutdown", "Freeze"] = Field(
        default="Shutdown", description="Its kind."
    )
    shutdown_uid: str = Field(max_length=64, description="Its uid.")
    evidence: Evidence | None = Field(default=None, description="Why it was stopped.")
    targets: list[TargetRecord] | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="What was there.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class ShutdownRecord(Object):
    """Facts about one Shutdown, written once."""

    spec: ShutdownRecordSpec
