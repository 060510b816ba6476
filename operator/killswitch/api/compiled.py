"""A policy in core terms: what the engine evaluates and the planner expands.

`compiled` is total for every policy that the CRD schema accepts; what the schema cannot see
(PromQL, infinite thresholds) it refuses with InvalidPolicyError naming the field and the cure.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from killswitch.api.actions import QUIET, Escalation, Graceful
from killswitch.api.detectors import DetectorSpec, detector
from killswitch.api.policies import ClusterKillSwitchPolicy, KillSwitchPolicy, Mode, PolicyTerms
from killswitch.api.signals import (
    AlertSignal,
    EventSignal,
    MetricSignal,
    PrometheusSignal,
    Scrape,
    ScrapeTls,
    Signal,
)
from killswitch.api.targets import ClusterTarget, Target
from killswitch.core import detectors, durations, kinds
from killswitch.core.detectors import Detector, Kind
from killswitch.core.errors import InvalidPolicyError
from killswitch.core.queries import TargetQuery
from killswitch.core.quorum import Meaning, VotingRule
from killswitch.core.readings import Threshold
from killswitch.core.windows import EventRule

AnyPolicy = KillSwitchPolicy | ClusterKillSwitchPolicy

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SHORTEST, _LONGEST = 0.01, 60.0
"""Seconds between two scrapes of one pod."""


@dataclass(frozen=True, slots=True)
class Metric:
    """The series that one signal is about: a name, and labels that must be equal."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    """Sorted by name. An empty value asks for a label that is not there, as in PromQL."""

    def matches(self, labels: Iterable[tuple[str, str]]) -> bool:
        """Whether a series of this name with these labels is meant."""
        found = dict(labels)
        return all(found.get(name, "") == value for name, value in self.labels)

    def __str__(self) -> str:
        """As PromQL writes it."""
        inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in self.labels)
        return f"{self.name}{{{inner}}}" if inner else self.name


@dataclass(frozen=True, slots=True)
class Exporter:
    """What is scraped: one path of all pods behind a port of a Service. Equal ones are one."""

    namespace: str
    service: str
    port: int | str
    path: str = "/metrics"
    tls: str = ""
    """The name that certificates must bear; empty for plain HTTP."""
    verified: bool = True

    def __str__(self) -> str:
        """As people name it in messages."""
        return f"Service {self.namespace}/{self.service} port {self.port}"


@dataclass(frozen=True, slots=True)
class AlertRule:
    """The alerts of other rules that trip one signal, and the one that shows that they would come."""

    alert: Metric
    """By its name and labels, as if it were a metric."""
    heartbeat: str


@dataclass(frozen=True, slots=True)
class CompiledSignal:
    """One signal, ready to be asked and judged."""

    name: str
    query: str
    """Empty where nothing is polled."""
    threshold: Threshold
    max_age: float
    rule: VotingRule
    metric: Metric | None = None
    """The series whose pushed samples trip it, where it names a metric."""
    events: EventRule | None = None
    """The events that it counts, where it names an event."""
    exporter: Exporter | None = None
    """Where its metric is scraped by ourselves, if anywhere."""
    scrape_interval: float = 0.0
    alert: AlertRule | None = None
    """The alerts that it waits for, where it names one."""
    detector: Detector | None = None
    """Judges instead of the threshold, which then has no side: a template, see `fresh`."""
    every: float = 0.0
    """Seconds in each of which the detector takes one sample of each series."""

    @property
    def trips(self) -> str:
        """What trips it: `> 5000`, `ewma above 6`."""
        return str(self.detector or self.threshold)

    @property
    def query_field(self) -> str:
        """Where in the policy its query is written."""
        source = "prometheus.query" if self.metric is None else "metric"
        return f"spec.signals[{self.name}].{source}"


@dataclass(frozen=True, slots=True)
class Rung:
    """The freezing rung of a policy's ladder."""

    quorum: int
    seconds: float
    on_expiry: str


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """One generation of one policy. `namespace` is empty for a ClusterKillSwitchPolicy.

    A reactor holds thousands: it keeps what decides, not the object that it was read from.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    mode: Mode
    queries: tuple[TargetQuery, ...]
    signals: tuple[CompiledSignal, ...]
    quorum: int
    max_targets: int
    max_percent: int
    cooldown: float
    required_approvals: int
    canary_replicas: int
    deadline: str
    soak: str
    """The last four are copied into each of its Shutdowns as they are."""
    freeze: Rung | None = None
    """The rung before the stop, if it has one."""
    stops: bool = True
    """Whether the quorum stops; else it freezes, and nothing but a person or the end stops."""
    on_isolation: str = "Ignore"
    isolated_after: str = "5m"
    node_action: str = ""
    """Cordon, Drain, Taint or Quarantine, where it is about nodes."""
    graceful: Graceful | None = None
    """How long category Graceful takes; None: Immediate."""
    quiet: tuple[str, ...] = tuple(QUIET)
    escalation: tuple[Escalation, ...] = ()
    accept_loss: bool = False

    @property
    def rules(self) -> tuple[VotingRule, ...]:
        """How its signals vote."""
        return tuple(signal.rule for signal in self.signals)

    def __str__(self) -> str:
        """`KillSwitchPolicy prod/vllm` or `ClusterKillSwitchPolicy gpu`."""
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"


def compiled(policy: AnyPolicy) -> CompiledPolicy:
    """The policy in core terms; InvalidPolicyError where it cannot work."""
    spec, metadata = policy.spec, policy.metadata
    if spec.quorum > len(spec.signals):
        problem = f"{spec.quorum} is more than the {len(spec.signals)} signals"
        raise InvalidPolicyError("spec.quorum", problem, "it could never be met; write a lower one")
    signals = tuple(_signal(each, metadata.namespace) for each in spec.signals)
    detectors.refuse_lone_detectors(
        (_vote(each) for each in signals),
        needed=_unattended(spec),
        enforced=spec.mode is Mode.ENFORCE,
        allow_detector_alone=spec.allow_detector_alone,
    )
    queries = [query for target in spec.targets for query in _queries(target, metadata.namespace)]
    return CompiledPolicy(
        kind=type(policy).__name__,
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        generation=metadata.generation,
        mode=spec.mode,
        queries=tuple(queries),
        signals=signals,
        quorum=spec.quorum,
        max_targets=spec.limits.max_targets,
        max_percent=spec.limits.max_percent,
        cooldown=durations.seconds(spec.cooldown),
        required_approvals=spec.release.required_approvals,
        canary_replicas=spec.restore.canary_replicas,
        deadline=spec.action.deadline,
        freeze=_rung(spec),
        stops=spec.action.type != "Freeze",
        on_isolation=spec.action.on_isolation,
        isolated_after=spec.action.isolated_after,
        soak=spec.restore.soak,
        node_action="" if spec.action.type in {"Stop", "Freeze"} else spec.action.type,
        graceful=spec.action.graceful,
        quiet=tuple(spec.action.quiet),
        escalation=tuple(spec.action.escalation),
        accept_loss=spec.action.accept_loss,
    )


def _unattended(spec: PolicyTerms) -> int:
    """The fewest signals that lead to a stop without a person; more than there are where none do."""
    rung = spec.action.freeze
    if rung is not None and rung.on_expiry == "Stop":
        return rung.quorum or spec.quorum
    return spec.quorum if spec.action.type != "Freeze" else len(spec.signals) + 1


def _rung(spec: PolicyTerms) -> Rung | None:
    rung = spec.action.freeze
    if rung is None:
        return None
    return Rung(rung.quorum or spec.quorum, durations.seconds(rung.hold), rung.on_expiry)


def _queries(target: Target | ClusterTarget, namespace: str) -> Iterator[TargetQuery]:
    labels = None if target.selector is None else target.selector.match_labels
    places = [namespace] if isinstance(target, Target) else target.namespaces or [""]
    for place in places:
        kind = kinds.named(target.kind, target.group)
        yield TargetQuery(kind, place, target.name, labels, target.image)


def _signal(signal: Signal, namespace: str) -> CompiledSignal:
    where = f"spec.signals[{signal.name}]"
    meaning = Meaning(signal.on_no_data.value)
    max_age = durations.seconds(signal.max_age)
    rule = VotingRule(
        signal.name,
        meaning,
        hold_down=durations.seconds(signal.hold_down),
        patience=max_age,
        keep_firing=durations.seconds(signal.keep_firing_for),
    )
    match signal.prometheus, signal.metric, signal.event, signal.alert:
        case PrometheusSignal() as source, None, None, None:
            threshold = _threshold(f"{where}.prometheus", source)
            unwatched = CompiledSignal(signal.name, source.query, threshold, max_age, rule)
            return _watched(f"{where}.prometheus", source.detector, unwatched)
        case None, MetricSignal() as source, None, None:
            threshold = _threshold(f"{where}.metric", source)
            metric = _metric(f"{where}.metric", source)
            unwatched = CompiledSignal(signal.name, str(metric), threshold, max_age, rule, metric)
            if source.scrape is not None:
                return _scraped(where, source.scrape, source.detector, unwatched, namespace)
            return _watched(f"{where}.metric", source.detector, unwatched)
        case None, None, EventSignal() as source, None:
            events = _events(f"{where}.event", source)
            threshold = Threshold(above=float(events.at_least - 1))  # counts are whole numbers
            return CompiledSignal(signal.name, "", threshold, max_age, rule, None, events)
        case None, None, None, AlertSignal() as source:
            alert = _alert(f"{where}.alert", source)
            threshold = Threshold(above=0.0)  # of alerts that fire
            return CompiledSignal(signal.name, "", threshold, max_age, rule, alert=alert)
        case _:
            raise InvalidPolicyError(
                where,
                "does not have exactly one source",
                "give it one of prometheus, metric, event and alert",
            )


def _vote(signal: CompiledSignal) -> detectors.Vote:
    kind = Kind.THRESHOLD if signal.detector is None else signal.detector.kind
    return detectors.Vote(signal.name, kind, signal.query)


def _events(where: str, source: EventSignal) -> EventRule:
    heartbeat = None if source.heartbeat is None else durations.seconds(source.heartbeat)
    if heartbeat is not None and source.source is None:
        raise InvalidPolicyError(
            f"{where}.heartbeat", "needs the source it is of", "name the source"
        )
    within = durations.seconds(source.within)
    return EventRule(source.type, source.source, source.at_least, within, heartbeat)


def _alert(where: str, source: AlertSignal) -> AlertRule:
    for field, name in (("name", source.name), ("heartbeat", source.heartbeat)):
        if name.startswith("KillSwitch"):
            raise InvalidPolicyError(
                f"{where}.{field}",
                f"{name} is one of killswitch's own rules, which trip and show silence by themselves",
                "name an alert of other rules; for a query of your own, write prometheus",
            )
    if source.heartbeat == source.name:
        raise InvalidPolicyError(
            f"{where}.heartbeat",
            "is the very alert that trips",
            "name one that fires always, such as Watchdog",
        )
    return AlertRule(_metric(where, source), source.heartbeat)


def _metric(where: str, source: MetricSignal | AlertSignal) -> Metric:
    labels = tuple(sorted((source.labels or {}).items()))
    for name, _ in labels:
        if not _LABEL.fullmatch(name) or name == "__name__":
            raise InvalidPolicyError(
                f"{where}.labels", f"{name} is no label in Prometheus", "write a Prometheus label"
            )
    return Metric(source.name, labels)


def _scraped(
    where: str,
    scrape: Scrape,
    detector: DetectorSpec | None,
    signal: CompiledSignal,
    namespace: str,
) -> CompiledSignal:
    """The signal with where and how often its metric is scraped."""
    if detector is not None:
        problem = "stands beside a detector, which learns from Prometheus alone"
        cure = "leave one of them out, or make two signals of it"
        raise InvalidPolicyError(f"{where}.metric.scrape", problem, cure)
    exporter = _exporter(f"{where}.metric.scrape", scrape, namespace)
    interval = _interval(where, scrape, signal.max_age)
    return replace(signal, exporter=exporter, scrape_interval=interval)


def _exporter(where: str, scrape: Scrape, own: str) -> Exporter:
    if own and scrape.namespace not in {None, own}:
        raise InvalidPolicyError(
            f"{where}.namespace", f"is not the policy's own, {own}", "leave it out"
        )
    namespace = scrape.namespace or own
    if not namespace:
        raise InvalidPolicyError(
            f"{where}.namespace", "is missing", "name the namespace of the Service"
        )
    if scrape.tls is not None and scrape.scheme != "https":
        raise InvalidPolicyError(f"{where}.tls", "is of scheme https", "set scheme to https")
    tls = scrape.tls or ScrapeTls()
    name = tls.server_name or f"{scrape.service}.{namespace}.svc"
    return Exporter(
        namespace,
        scrape.service,
        int(scrape.port) if str(scrape.port).isdecimal() else scrape.port,
        scrape.path,
        name if scrape.scheme == "https" else "",
        verified=not tls.insecure_skip_verify,
    )


def _interval(where: str, scrape: Scrape, max_age: float) -> float:
    """Seconds between two scrapes; a reading must outlive a lost one, or it would flap."""
    interval = durations.seconds(scrape.interval)
    if not _SHORTEST <= interval <= _LONGEST:
        raise InvalidPolicyError(
            f"{where}.metric.scrape.interval", f"is {interval:g} s", "write one from 10ms to 1m"
        )
    if max_age < max(1.0, 2 * interval):
        raise InvalidPolicyError(
            f"{where}.maxAge",
            f"{max_age:g} s is too short for a scrape every {interval:g} s",
            "write at least 1s and two intervals",
        )
    return interval


def _threshold(where: str, source: PrometheusSignal | MetricSignal) -> Threshold:
    given = [each for each in (source.above, source.below, source.detector) if each is not None]
    if len(given) != 1:
        problem = "needs exactly one of above, below and detector"
        raise InvalidPolicyError(where, problem, "keep the one you mean")
    threshold = Threshold(
        above=_number(f"{where}.above", source.above),
        below=_number(f"{where}.below", source.below),
        recovers_at=_number(f"{where}.recoversAt", source.recovers_at),
    )
    if threshold.recovers_at is not None and source.detector is not None:
        problem = "belongs to above or below, a detector has none"
        raise InvalidPolicyError(f"{where}.recoversAt", problem, "leave it out")
    if threshold.recovers_at is not None and threshold.crossed(threshold.recovers_at):
        problem = f"{threshold.recovers_at:g} is {threshold}: it would never recover"
        raise InvalidPolicyError(f"{where}.recoversAt", problem, "write one on the safe side")
    return threshold


def _watched(where: str, source: DetectorSpec | None, signal: CompiledSignal) -> CompiledSignal:
    """The signal with its detector, if it has one."""
    if source is None:
        return signal
    every = durations.seconds(source.every)
    if source.absence is None and not 0 < 2 * every <= signal.max_age:
        problem = f"{source.every} is more than half of maxAge, so that most samples would be stale"
        cure = "write a shorter one above 0s, or a longer maxAge"
        raise InvalidPolicyError(f"{where}.detector.every", problem, cure)
    return replace(signal, detector=detector(f"{where}.detector", source), every=every)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(field: str, text: str | None) -> float | None:
    if text is None:
        return None
    value = float(text)
    if not math.isfinite(value):
        raise InvalidPolicyError(field, f"{text} is too large", "write a finite number")
    return value
