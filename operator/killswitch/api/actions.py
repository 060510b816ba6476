"""What a policy does when it fires, within which limits, and how people get it back."""

from typing import Literal

from pydantic import Field

from killswitch.api.common import (
    Duration,
    Model,
    Rule,
    rules,
)


class FreezeRung(Model):
    """Containment first: node guards freeze the targets, so that people or more signals decide."""

    quorum: int | None = Field(
        default=None,
        ge=1,
        le=16,
        description="How many signals must be tripped to freeze, fewer than stop. Only with type"
        " Stop: with type Freeze it is the policy's quorum.",
    )
    hold: Duration = Field(
        alias="for",
        description="How long: until then people decide, or the quorum is met. Shorter than the"
        " liveness budget of the targets, or the kubelet restarts them: condition Freezable.",
    )
    on_expiry: Literal["Thaw", "Stop"] = Field(
        description="What then: Thaw lets them go on, Stop stops them."
    )


class Graceful(Model):
    """Stop category 1: nothing new comes in, what is under way may end, then category 0."""

    model_config = rules(
        Rule(
            "duration(self.drain) <= duration('1h') && duration(self.terminate) <= duration('1h')"
            " && duration(self.terminate) >= duration('1s')",
            "drain is at most 1h, terminate from 1s to 1h",
        )
    )

    drain: Duration = Field(
        default="0s",
        description="How long the servers go on after their traffic is cut, to answer what they have.",
    )
    in_flight: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="PromQL query for the requests under way, e.g."
        ' sum(vllm:num_requests_running{namespace="prod"}). At 0 the drain ends early.',
    )
    terminate: Duration = Field(
        default="30s",
        description="How long pods may take to end by themselves, whatever grace they ask for.",
    )


Quieted = Literal["KEDA", "ArgoCD", "Flux"]
QUIET: list[Quieted] = ["KEDA"]


class Escalation(Model):
    """What is done about nodes where pods are left."""

    after: Duration = Field(
        description="How long after the stop's deadline. What is left by then is on these nodes."
    )
    do: Literal["Taint", "Fence"] = Field(
        description="Taint: the nodes get a NoExecute taint, as a ClusterShutdown of their own. Fence:"
        " they are marked for the fencing that the cluster has. Nothing is ever deleted by force."
    )


class Action(Model):
    """What is done when the policy fires."""

    model_config = rules(
        Rule(
            "self.type != 'Freeze' || (has(self.freeze) && !has(self.freeze.quorum))",
            "type Freeze needs freeze, and in it no quorum: the policy's own freezes",
        ),
        Rule(
            "self.type != 'Stop' || !has(self.freeze) || has(self.freeze.quorum)",
            "with type Stop, freeze.quorum says how many signals freeze",
        ),
        Rule(
            "self.type in ['Stop', 'Freeze'] || (!has(self.freeze) && self.onIsolation == 'Ignore')",
            "freeze and onIsolation are about workloads: leave them out where nodes are acted upon",
        ),
        Rule(
            "(self.category == 'Graceful') == has(self.graceful)",
            "category Graceful needs graceful, and only that one",
        ),
        Rule(
            "self.category == 'Immediate' || self.type in ['Stop', 'Drain']",
            "category Graceful goes with type Stop or Drain",
        ),
        Rule(
            "self.type != 'Drain' || !has(self.graceful)"
            " || (duration(self.graceful.drain) == duration('0s') && !has(self.graceful.inFlight))",
            "the drain of nodes cuts no traffic: leave drain and inFlight out, terminate is how long"
            " pods are evicted",
        ),
        Rule(
            "!has(self.freeze) || (duration(self.freeze.__for__) >= duration('1s')"
            " && duration(self.freeze.__for__) <= duration('24h'))",
            "freeze.for is from 1s to 24h",
        ),
        Rule(
            "duration(self.isolatedAfter) >= duration('30s')",
            "isolatedAfter is at least 30s: an API server that restarts is no isolation",
        ),
    )

    type: Literal["Stop", "Freeze", "Cordon", "Drain", "Taint", "Quarantine"] = Field(
        default="Stop",
        description="Stop the targets; Freeze them for a while, and leave the rest to people or to"
        " the deadline. Of nodes: Cordon (no new pods), Drain (the pods of governed namespaces go),"
        " Taint (NoExecute: every pod without a toleration goes), Quarantine (no new pods, all that"
        " runs is kept for forensics: containment, not a stop).",
    )
    category: Literal["Immediate", "Graceful"] = Field(
        default="Immediate",
        description="Immediate: pods are deleted with one second of grace (stop category 0)."
        " Graceful: traffic is cut and what is under way may end first (category 1).",
    )
    graceful: Graceful | None = Field(default=None, description="How long category Graceful takes.")
    quiet: list[Quieted] = Field(
        default=QUIET,
        max_length=3,
        description="Who is paused after the stop, until the restore: KEDA (ScaledObjects of the"
        " targets), ArgoCD (automated sync of their Application, all of it), Flux (their"
        " Kustomization or HelmRelease, all of it). The lock holds without it; who is not paused"
        " starts the targets at the release.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    escalation: list[Escalation] = Field(
        default=[],
        max_length=4,
        description="What is done about nodes whose pods do not go, one after the other; only in a"
        " ClusterKillSwitchPolicy.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    accept_loss: bool = Field(
        default=False,
        description="Whether what a stop of these kinds loses for good is accepted, such as the work"
        " of Jobs: docs/kinds.md says what. Without it such a policy is not Ready.",
    )
    freeze: FreezeRung | None = Field(
        default=None, description="The rung before the stop; needs node guards."
    )
    on_isolation: Literal["Ignore", "Freeze", "Kill"] = Field(
        default="Ignore",
        description="What the node guards do with the targets on a node that is cut off from the"
        " control plane, where no stop could be proven. Undone when the link is back.",
    )
    isolated_after: Duration = Field(
        default="5m", description="How long a node has been cut off before onIsolation applies."
    )
    deadline: Duration = Field(
        default="1m",
        description="Not verified by then: Verified=False names what is left, people are told.",
    )


class Limits(Model):
    """Blast radius: a plan beyond either limit is not executed, it inhibits the policy."""

    max_targets: int = Field(
        default=10, ge=1, le=10000, description="Most workloads (or nodes) one fire may stop."
    )
    max_percent: int = Field(
        default=100,
        ge=1,
        le=100,
        description="Most of the workloads of these kinds in the targets' namespaces "
        "(or of all nodes), in percent.",
    )


class Release(Model):
    """Who lets go, copied into each Shutdown when it is made."""

    required_approvals: int = Field(
        default=2, ge=1, le=5, description="How many people must approve; never the requester."
    )


class Restore(Model):
    """How workloads come back after release, copied into each Shutdown when it is made."""

    canary_replicas: int = Field(
        default=1, ge=1, le=100, description="Replicas of the first stage of each workload."
    )
    soak: Duration = Field(
        default="30s", description="How long the canary must stay ready before the rest."
    )
