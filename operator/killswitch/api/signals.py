"""What a policy watches: its signals and their sources."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from killswitch.api.common import (
    Decimal,
    Duration,
    Model,
    Name,
    Rule,
    rules,
)
from killswitch.api.detectors import DetectorSpec


class OnNoData(StrEnum):
    """What an Unknown reading means to the quorum. There is no safe default for all hazards."""

    HOLD = "Hold"
    FIRE = "Fire"
    ALERT = "Alert"


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
