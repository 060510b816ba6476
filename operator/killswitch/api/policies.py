"""KillSwitchPolicy and ClusterKillSwitchPolicy: what is watched, when to stop, what and how."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from killswitch.api.common import (
    Conditions,
    Decimal,
    Duration,
    LabelKey,
    LabelValue,
    Model,
    Name,
    Object,
    Rule,
    Timestamp,
    User,
    map_list,
    rules,
)
from killswitch.api.detectors import DetectorSpec


class Mode(StrEnum):
    """What a policy may do."""

    ENFORCE = "Enforce"
    DRY_RUN = "DryRun"
    DISABLED = "Disabled"


class OnNoData(StrEnum):
    """What an Unknown reading means to the quorum. There is no safe default for all hazards."""

    HOLD = "Hold"
    FIRE = "Fire"
    ALERT = "Alert"


class LabelSelector(Model):
    """Objects that carry all of these labels. An empty selector is refused."""

    match_labels: dict[LabelKey, LabelValue] = Field(
        min_length=1, max_length=16, description="Labels that must all be present and equal."
    )


KindName = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=63)]
GroupName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
Image = Annotated[str, Field(pattern=r"^[A-Za-z0-9*][A-Za-z0-9*._:/@-]*$", max_length=512)]

_IMAGE_RULE = Rule("!has(self.image) || self.kind == 'Pod'", "image goes with kind: Pod")


class Target(Model):
    """Workloads that the policy may stop, by name, by labels or by image."""

    model_config = rules(
        Rule(
            "[has(self.name), has(self.selector), has(self.image)].exists_one(given, given)",
            "give a target exactly one of name, selector and image",
        ),
        _IMAGE_RULE,
        Rule(
            "self.kind != 'Namespace' && self.kind != 'Node'",
            "Namespace and Node targets belong in a ClusterKillSwitchPolicy",
        ),
    )

    kind: KindName = Field(
        description="Kind of the workload, at whatever level: what is above it is stopped as a whole."
        " Pod means whatever the pods belong to. docs/kinds.md lists the kinds."
    )
    group: GroupName | None = Field(
        default=None,
        description="API group of the kind; needed where docs/kinds.md shows it, and for other kinds.",
    )
    name: Name | None = Field(default=None, description="One workload by its name.")
    selector: LabelSelector | None = Field(
        default=None, description="Every workload with these labels, looked up when it fires."
    )
    image: Image | None = Field(
        default=None,
        description="Of Pod targets: those with a container of this image, whole or without tag and"
        " digest; `*` stands for any characters.",
    )


class ClusterTarget(Model):
    """Workloads in named governed namespaces, whole namespaces, pods anywhere, or nodes."""

    model_config = rules(
        Rule(
            "self.kind == 'Node' ? !has(self.namespaces)"
            " : (self.kind == 'Pod' && !has(self.name)) || has(self.namespaces)",
            "workload and Namespace targets name their namespaces; Node targets have none; Pod targets"
            " with a selector or an image may leave them out",
        ),
        Rule(
            "self.kind == 'Namespace' ? !has(self.name) && !has(self.selector) && !has(self.image)"
            " : [has(self.name), has(self.selector), has(self.image)].exists_one(given, given)",
            "give a target exactly one of name, selector and image; Namespace targets have none",
        ),
        _IMAGE_RULE,
    )

    kind: KindName = Field(
        description="What is stopped: workloads of any kind (Pod: whatever the pods belong to),"
        " Namespace: everything in the namespaces, or Node."
    )
    group: GroupName | None = Field(
        default=None,
        description="API group of the kind; needed where docs/kinds.md shows it, and for other kinds.",
    )
    namespaces: list[Name] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Governed namespaces, named literally since labels are others' to edit. Pod"
        " targets without it look in all of them: copies run everywhere.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    name: Name | None = Field(default=None, description="One workload or node by its name.")
    selector: LabelSelector | None = Field(
        default=None, description="Every workload or node with these labels."
    )
    image: Image | None = Field(
        default=None,
        description="Of Pod targets: those with a container of this image, whole or without tag and"
        " digest; `*` stands for any characters.",
    )


MetricLabelName = Annotated[str, Field(min_length=1, max_length=255)]
MetricLabelValue = Annotated[str, Field(max_length=512)]


_THRESHOLD = (
    Rule(
        "[has(self.above), has(self.below), has(self.detector)].exists_one(given, given)",
        "give exactly one of above, below and detector",
    ),
    Rule(
        "!has(self.recoversAt) || (has(self.above) && double(self.recoversAt) <="
        " double(self.above)) || (has(self.below) && double(self.recoversAt) >="
        " double(self.below))",
        "recoversAt must lie on the safe side of the threshold: at most above, at least below",
    ),
)


Above = Annotated[
    Decimal | None, Field(description="Tripped when any series is greater than this.")
]
Below = Annotated[Decimal | None, Field(description="Tripped when any series is less than this.")]
RecoversAt = Annotated[
    Decimal | None,
    Field(description="Hysteresis: once tripped, it stays so until the value is back at this one."),
]
Unusual = Annotated[
    DetectorSpec | None,
    Field(description="Tripped when any series is unusual, instead of beyond a threshold."),
]


class PrometheusSignal(Model):
    """A PromQL measurement compared with a threshold, or watched by a detector.

    The query yields a *value*, without comparison: an empty answer is then never mistaken for
    "all is well", it is Unknown.
    """

    model_config = rules(*_THRESHOLD)

    query: str = Field(
        min_length=1,
        max_length=4096,
        description="PromQL instant query that yields the value, e.g. "
        'sum(rate(vllm:generation_tokens_total{namespace="prod"}[1m])). No comparison in it.',
    )
    above: Above = None
    below: Below = None
    recovers_at: RecoversAt = None
    detector: Unusual = None


_PORT_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
Port = Annotated[
    Annotated[int, Field(ge=1, le=65535)]
    | Annotated[str, Field(pattern=_PORT_NAME, max_length=63)],
    # The API server takes the cost of a CEL rule from the longest body there could be; these are free.
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 1,
            "maximum": 65535,
            "pattern": _PORT_NAME,
            "maxLength": 63,
        }
    ),
]
"""A port by number or by name, as Kubernetes writes it."""


class ScrapeTls(Model):
    """How the certificates of the pods are checked."""

    server_name: Name | None = Field(
        default=None,
        description="Name that their certificates must bear; <service>.<namespace>.svc if not given.",
    )
    insecure_skip_verify: bool = Field(
        default=False,
        description="Do not check them. Whoever is between reactor and pod may then forge values.",
    )


class Scrape(Model):
    """The pods behind a Service, asked by the reactor itself, without Prometheus."""

    model_config = rules(
        Rule(
            "!has(self.tls) || self.scheme == 'https'",
            "tls is of scheme https: set scheme, or leave tls out",
        ),
        Rule(
            "duration(self.interval) >= duration('10ms')"
            " && duration(self.interval) <= duration('1m')",
            "interval must be from 10ms to 1m",
        ),
    )

    service: Name = Field(description="Name of the Service; every pod in its EndpointSlices.")
    namespace: Name | None = Field(
        default=None,
        description="Namespace of the Service: required in a ClusterKillSwitchPolicy, refused in a "
        "KillSwitchPolicy, which asks its own.",
    )
    port: Port = Field(
        description="Name of the Service's port, or the number at which its pods listen (targetPort)."
    )
    path: str = Field(
        default="/metrics",
        pattern=r"^/[A-Za-z0-9._~!$&()*+,;=:@%/?-]*$",
        max_length=256,
        description="Path of the metrics, with a query if it needs one.",
    )
    interval: Duration = Field(
        default="100ms",
        description="How often each pod is asked, from 10ms to 1m; the shortest of all policies "
        "that ask the same Service, port and path.",
    )
    scheme: Literal["http", "https"] = Field(default="http", description="How the pods answer.")
    tls: ScrapeTls | None = Field(default=None, description="How https is checked.")


class MetricSignal(Model):
    """One metric with a threshold or a detector, polled as `name{labels}` and taken where it is pushed.

    A sample that arrives by remote write trips the signal at once; Clear and Unknown come from the
    poll, which goes on beside it, and from `scrape`.
    """

    model_config = rules(
        *_THRESHOLD,
        Rule(
            "!has(self.scrape) || !has(self.detector)",
            "scrape is for thresholds: a detector learns from Prometheus alone",
        ),
    )

    name: str = Field(
        pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$",
        max_length=255,
        description="Name of the metric, e.g. vllm:num_requests_running.",
    )
    labels: dict[MetricLabelName, MetricLabelValue] | None = Field(
        default=None,
        max_length=16,
        description="Labels that must all be equal; an empty value means that there is none.",
    )
    above: Above = None
    below: Below = None
    recovers_at: RecoversAt = None
    scrape: Scrape | None = Field(
        default=None,
        description="For critical policies: the reactor also asks the pods itself, which is faster and "
        "goes on when Prometheus is down.",
    )
    detector: Unusual = None


class EventSignal(Model):
    """Signed events of guardrails and classifiers, counted over a sliding window.

    Each reactor counts what was posted to it. An event that names a namespace counts for policies
    of that namespace, and for cluster policies.
    """

    model_config = rules(
        Rule("!has(self.heartbeat) || has(self.source)", "a heartbeat needs the source it is of")
    )

    type: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        max_length=128,
        description="Type of the events, e.g. guardrail.jailbreak.",
    )
    source: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Who must have sent them; anybody with a key if it is not given.",
    )
    at_least: int = Field(
        default=1, ge=1, le=10000, description="How many within the window trip it."
    )
    within: Duration = Field(default="1m", description="Length of the window.")
    heartbeat: Duration | None = Field(
        default=None,
        description="Unknown (Silent) when no event of the source, of any type, came for so long.",
    )


class AlertSignal(Model):
    """An alert of somebody else's rules, as Prometheus or Alertmanager posts it here.

    Tripped while an alert of this name with these labels fires. That none fires is Clear only while
    the heartbeat arrives: an alert that fires always, best of the same rule group.
    """

    name: str = Field(
        min_length=1,
        max_length=255,
        description="Name of the alert (alertname), e.g. GuardrailDown.",
    )
    labels: dict[MetricLabelName, MetricLabelValue] | None = Field(
        default=None,
        max_length=16,
        description="Labels that must all be equal; an empty value means that there is none.",
    )
    heartbeat: str = Field(
        default="Watchdog",
        min_length=1,
        max_length=255,
        description="Name of an alert that fires always. Not heard of for maxAge: Unknown (Silent).",
    )


class Signal(Model):
    """One named input of the policy. It answers Tripped, Clear or Unknown."""

    model_config = rules(
        Rule(
            "[has(self.prometheus), has(self.metric), has(self.event), has(self.alert)]"
            ".exists_one(given, given)",
            "give the signal exactly one source: prometheus, metric, event or alert",
        )
    )

    name: str = Field(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63, description="Name in reports."
    )
    prometheus: PrometheusSignal | None = Field(default=None, description="A PromQL query, polled.")
    metric: MetricSignal | None = Field(
        default=None, description="One metric, polled, and tripped at once by a pushed sample."
    )
    event: EventSignal | None = Field(
        default=None, description="Events that others post, counted over a window."
    )
    alert: AlertSignal | None = Field(
        default=None, description="An alert of other rules that Prometheus or Alertmanager posts."
    )
    max_age: Duration = Field(
        default="1m",
        description="Samples older than this are Unknown (Stale); events that arrive older than "
        "this do not count; an alert's heartbeat must come at least as often.",
    )
    hold_down: Duration = Field(
        default="0s",
        alias="for",
        description="How long it must stay tripped before it counts.",
    )
    keep_firing_for: Duration = Field(
        default="0s",
        description="How long it goes on counting after it has counted and cleared, as Prometheus' "
        "keep_firing_for.",
    )
    on_no_data: OnNoData = Field(
        description="What Unknown means: Hold (no vote), Fire (a vote to fire) or Alert "
        "(no vote, and people are told). Required: no default is safe for every hazard."
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
        description="How long pods may take to end by themselves; then they get one second.",
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


# A message with both numbers would need a message expression, whose cost the API server
# estimates from the largest possible list and refuses.
_QUORUM_RULE = Rule(
    "self.quorum <= size(self.signals)", "quorum is more than the number of signals"
)
_WISH_RULE = Rule(
    "!has(self.reactWithin) || self.quorum <= self.signals.filter("
    "s, duration(s.__for__) < duration(self.reactWithin)).size()",
    "reactWithin can never be met: too many signals have a `for` as long; shorten it or raise"
    " reactWithin",
)


_RUNG_RULE = Rule(
    "!has(self.action.freeze) || !has(self.action.freeze.quorum)"
    " || self.action.freeze.quorum < self.quorum",
    "action.freeze.quorum must be less than quorum: with as many signals the targets are stopped",
)
_LONE_RULE = Rule(
    "self.mode != 'Enforce' || self.allowDetectorAlone ||"
    # A freeze that thaws by itself is what a detector's suspicion is good for.
    " !(has(self.action.freeze) && self.action.freeze.onExpiry == 'Stop'"
    " ? (has(self.action.freeze.quorum) ? self.action.freeze.quorum : self.quorum) == 1"
    " : self.quorum == 1 && self.action.type != 'Freeze') ||"
    " !self.signals.exists(s, (has(s.prometheus) && has(s.prometheus.detector))"
    " || (has(s.metric) && has(s.metric.detector)))",
    "a detector would stop the targets alone: require a quorum with a signal that watches something"
    " else, write mode: DryRun, or accept false stops with allowDetectorAlone: true",
)


class PolicyTerms(Model):
    """What both policy kinds have in common."""

    mode: Mode = Field(
        default=Mode.DRY_RUN,
        description="Enforce acts; DryRun decides and reports, never acts; Disabled is off.",
    )
    signals: Annotated[list[Signal], Field(json_schema_extra=map_list("name"))] = Field(
        min_length=1, max_length=16, description="What is watched."
    )
    quorum: int = Field(
        default=1, ge=1, le=16, description="How many signals must be tripped to fire."
    )
    react_within: Duration | None = Field(
        default=None,
        description="Wish: the longest time from a threshold's crossing to the decision. Condition "
        "Timely says whether it is met, and what hinders it; nothing is disarmed by it.",
    )
    allow_detector_alone: bool = Field(
        default=False,
        description="Whether detectors on one source may stop the targets by themselves. Most of "
        "what is unusual is harmless: true accepts false stops.",
    )
    action: Action = Field(default=Action(), description="What is done.")
    limits: Limits = Field(default=Limits(), description="The most one fire may stop.")
    cooldown: Duration = Field(
        default="10m", description="Least time between a release and the next fire."
    )
    release: Release = Field(default=Release(), description="Who lets go.")
    restore: Restore = Field(default=Restore(), description="How it comes back.")
    owner: User = Field(description="Person or team that answers for this policy.")
    backup: User = Field(description="Who answers when the owner cannot be reached.")
    risk_domain: str | None = Field(
        default=None, max_length=63, description="Risk domain it protects against."
    )
    review_by: str | None = Field(
        default=None,
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        max_length=10,
        description="Date by which people look at it again.",
    )


class KillSwitchPolicySpec(PolicyTerms):
    """Stops workloads of its own namespace."""

    model_config = rules(
        _QUORUM_RULE,
        _WISH_RULE,
        _RUNG_RULE,
        _LONE_RULE,
        Rule(
            "self.signals.all(s, !has(s.metric) || !has(s.metric.scrape)"
            " || !has(s.metric.scrape.namespace))",
            "a KillSwitchPolicy scrapes Services of its own namespace: leave scrape.namespace out",
        ),
        Rule(
            "self.action.type in ['Stop', 'Freeze'] && size(self.action.escalation) == 0",
            "a KillSwitchPolicy is about workloads: action.type Stop or Freeze, and no escalation",
        ),
    )

    targets: list[Target] = Field(
        min_length=1,
        max_length=32,
        description="Workloads of this namespace.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class ClusterKillSwitchPolicySpec(PolicyTerms):
    """Stops workloads in named namespaces, whole namespaces, or cordons nodes."""

    model_config = rules(
        _QUORUM_RULE,
        _WISH_RULE,
        _RUNG_RULE,
        _LONE_RULE,
        Rule(
            "self.signals.all(s, !has(s.metric) || !has(s.metric.scrape)"
            " || has(s.metric.scrape.namespace))",
            "scrape.namespace is missing: a ClusterKillSwitchPolicy names the Service's namespace",
        ),
        Rule(
            "self.targets.all(t, (t.kind == 'Node') == !(self.action.type in ['Stop', 'Freeze']))",
            "Node targets go with action.type Cordon, Drain, Taint or Quarantine, all others with Stop"
            " or Freeze",
        ),
    )

    targets: list[ClusterTarget] = Field(
        min_length=1,
        max_length=32,
        description="What is stopped.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class PathStatus(Model):
    """One path on which a signal may be told of by itself, beside the poll."""

    path: str = Field(max_length=320, description="Name of the path.")
    state: Literal["Awaited", "Heard", "Silent"] = Field(
        description="Awaited: not heard of yet. Silent: not heard of for too long, or not steadily since."
    )
    message: str = Field(default="", max_length=1024, description="Why it is silent.")
    last_heard: Timestamp | None = Field(default=None, description="When it was last heard of.")


class SignalStatus(Model):
    """The last reading of one signal."""

    name: str = Field(max_length=63, description="Name of the signal.")
    verdict: Literal["Tripped", "Clear", "Unknown"] = Field(description="What it says.")
    reason: str = Field(default="", max_length=64, description="Why it is Unknown.")
    value: str = Field(default="", max_length=64, description="The value that was compared.")
    message: str = Field(default="", max_length=1024, description="In one sentence.")
    observed_at: Timestamp | None = Field(default=None, description="When it was read.")
    paths: Annotated[list[PathStatus], Field(max_length=8, json_schema_extra=map_list("path"))] = (
        Field(default=[], description="The paths that were ever heard of, beside the poll.")
    )


class SignalReaction(Model):
    """How one signal arrives."""

    name: str = Field(max_length=63, description="Name of the signal.")
    worst: str = Field(
        default="",
        max_length=64,
        description="Longest time until it counts, hold-down included; `never` where it may not "
        "count at all, empty where unknown.",
    )
    paths: list[Annotated[str, Field(max_length=1024)]] = Field(
        default=[],
        max_length=8,
        description="Its paths with the parts of their time, or why that is unknown.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class Reaction(Model):
    """How long the policy takes to decide, at the longest, while everything works.

    From the moment at which what is measured crosses its threshold. What a query itself averages,
    such as `[5m]`, comes on top.
    """

    worst: str = Field(
        default="",
        max_length=64,
        description="That of the signal which completes the quorum; `never`, or empty where unknown.",
    )
    message: str = Field(default="", max_length=2048, description="Its parts, in one sentence.")
    signals: Annotated[
        list[SignalReaction], Field(max_length=16, json_schema_extra=map_list("name"))
    ] = Field(default=[], description="Each signal.")


class CapStatus(Model):
    """The cap over all policies that the reactor keeps to."""

    targets: int = Field(default=0, ge=0, description="Most workloads, and most nodes; 0: none.")
    percent: int = Field(default=0, ge=0, le=100, description="The same as a share; 0: none.")
    window: Duration = Field(description="How long a stop counts.")


class PolicyStatus(Model):
    """What is observed about a policy."""

    observed_generation: int = Field(default=0, ge=0, description="The generation last judged.")
    conditions: Conditions = []
    signals: Annotated[
        list[SignalStatus], Field(max_length=16, json_schema_extra=map_list("name"))
    ] = Field(default=[], description="The last reading of each signal.")
    reaction: Reaction | None = Field(
        default=None, description="How long it takes to decide, at the longest."
    )
    cap: CapStatus | None = Field(
        default=None, description="What all policies together may stop; absent: no such cap."
    )


class KillSwitchPolicy(Object):
    """Watches signals and stops workloads of its namespace when they trip."""

    spec: KillSwitchPolicySpec
    status: PolicyStatus = PolicyStatus()


class ClusterKillSwitchPolicy(Object):
    """Watches signals and stops namespaces or workloads, or cordons nodes, when they trip."""

    spec: ClusterKillSwitchPolicySpec
    status: PolicyStatus = PolicyStatus()
