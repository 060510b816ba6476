"""Prometheus rules that ask for policies, and the threshold series that they are joined with.

One rule per measurement and side compares it with every `killswitch_threshold` series of that
measurement. A policy that comes, goes or changes its threshold changes series, which the reactor
exposes and Prometheus scrapes; the rules stay, and nothing is reloaded. Only a measurement that
no rule has yet needs a new rule file. In each group:

- KillSwitchFire: the measurement (so `$value` is it), with the labels of the threshold it crossed;
- KillSwitchHeartbeat: fires always. Its value is how many thresholds the group sees: a scrape of
  thresholds that fails disarms silently, a heartbeat of 0 says so;
- KillSwitchBlind: fires for people while no threshold of the group is seen.

One group per measurement: groups run concurrently, the rules of one in sequence. Text of a policy
goes into expressions only, never into labels or annotations, which Prometheus expands as templates.
Expressions must have passed the PromQL checker: their text becomes part of a larger one.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from killswitch.api.compiled import CompiledPolicy, CompiledSignal
from killswitch.api.policies import Mode
from killswitch.core.readings import Threshold
from killswitch.ports import QueryChecker
from killswitch.signals.alerts import (
    BLIND,
    FIRE,
    GENERATION,
    HEARTBEAT,
    METRIC,
    POLICY,
    SIGNAL,
    VALUE,
    PolicyReference,
)

SERIES = "killswitch_threshold"
SIDE = "killswitch_side"
ABOVE, BELOW = "above", "below"

_OWN = (POLICY, GENERATION, SIGNAL)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is measured: PromQL that yields a vector. Its worst series counts, as in polling."""

    expression: str
    age: str = ""
    """PromQL for the age (seconds) of the oldest sample that it reads; empty where unknown."""
    max_age: float = 60.0
    """Older than this, it is not compared: a Prometheus that restarts serves what was."""

    @property
    def key(self) -> str:
        """Its name in labels and group names, the same in every replica and after a restart."""
        text = f"{self.expression}\0{self.max_age:g}"  # the age follows from the expression
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ThresholdSeries:
    """One threshold of one policy, as exposed for Prometheus to scrape."""

    reference: PolicyReference
    measurement: Measurement
    threshold: Threshold

    @property
    def labels(self) -> dict[str, str]:
        """All labels of the series."""
        return {
            POLICY: self.reference.policy,
            GENERATION: str(self.reference.generation),
            SIGNAL: self.reference.signal,
            METRIC: self.measurement.key,
            SIDE: BELOW if self.threshold.above is None else ABOVE,
        }

    @property
    def limit(self) -> float:
        """The value of the series."""
        limit = self.threshold.below if self.threshold.above is None else self.threshold.above
        if limit is None:
            raise ValueError("a threshold has exactly one side")
        return limit


def measurement(signal: CompiledSignal, checker: QueryChecker) -> Measurement | None:
    """What the rules measure for this signal; None where it asks no query, or a detector judges."""
    if not signal.query or signal.detector is not None:
        return None
    facts: Mapping[str, str] = checker.check(signal.query_field, signal.query)
    scalar = facts.get("type") == "scalar"
    expression = f"vector(\n{signal.query}\n)" if scalar else signal.query
    return Measurement(expression, facts.get("age", ""), signal.max_age)


def thresholds(policy: CompiledPolicy, checker: QueryChecker) -> Iterator[ThresholdSeries]:
    """The thresholds of a policy's queries; none while it is Disabled."""
    if policy.mode is Mode.DISABLED:
        return
    for signal in policy.signals:
        if (found := measurement(signal, checker)) is not None:
            reference = PolicyReference(policy.uid, policy.generation, signal.name)
            yield ThresholdSeries(reference, found, signal.threshold)


HEAD = f"# HELP {SERIES} Limit of one policy signal.\n# TYPE {SERIES} gauge\n"


def exposition(series: Iterable[ThresholdSeries]) -> str:
    """The thresholds as lines of Prometheus's text format, to follow `HEAD`."""
    return "".join(f"{SERIES}{{{_inner(each)}}} {each.limit!r}\n" for each in series)


def groups(measurements: Iterable[Measurement], *, interval: str) -> list[dict[str, Any]]:
    """One rule group per distinct measurement, sorted by key; `interval` as Prometheus writes it."""
    distinct = {each.key: each for each in measurements}
    return [_group(each, interval) for _, each in sorted(distinct.items())]


def rule_file(measurements: Iterable[Measurement], *, interval: str) -> str:
    """The groups as YAML for `rule_files`."""
    content = {"groups": groups(measurements, interval=interval)}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def prometheus_rule(
    measurements: Iterable[Measurement],
    *,
    interval: str,
    name: str,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """The groups as an object for prometheus-operator, whose `ruleSelector` looks at `labels`."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"groups": groups(measurements, interval=interval)},
    }


def path(measurement: Measurement) -> str:
    """Name of the group, and of the path that its heartbeat keeps alive."""
    return path_of(measurement.key)


def path_of(key: str) -> str:
    """The same by the measurement's key, which is what alerts carry."""
    return f"killswitch-{key}"


def _inner(series: ThresholdSeries) -> str:
    # None of these texts holds a quote or a backslash: uids, numbers, names of signals, keys.
    return ",".join(f'{name}="{text}"' for name, text in series.labels.items())


def _group(measurement: Measurement, interval: str) -> dict[str, Any]:
    own = {METRIC: measurement.key}
    seen = f'{SERIES}{{{METRIC}="{measurement.key}"}}'
    alive = f"count({seen}) or vector(0)"
    return {
        "name": path(measurement),
        "interval": interval,
        "rules": [
            *(
                {
                    "alert": FIRE,
                    "expr": _joined(measurement, side),
                    "labels": own | {SIDE: side},
                    "annotations": {VALUE: "{{ $value }}"},
                }
                for side in (ABOVE, BELOW)
            ),
            {
                "alert": HEARTBEAT,
                "expr": alive,
                "labels": dict(own),
                "annotations": {VALUE: "{{ $value }}"},
            },
            {"alert": BLIND, "expr": f"absent({seen})", "labels": dict(own)},
        ],
    }


def _joined(measurement: Measurement, side: str) -> str:
    """The measurement where it crosses a threshold, once per threshold, and is not old.

    Line breaks end a comment that the expression may close with. Several replicas expose the
    same thresholds: `by` makes one series of them.
    """
    worst, sign = ("max", ">") if side == ABOVE else ("min", "<")
    measured = f"{worst} by () (\n{measurement.expression}\n)"
    if measurement.age:
        measured = f"({measured} unless on () ({measurement.age} > {measurement.max_age:g}))"
    seen = f'{SERIES}{{{METRIC}="{measurement.key}",{SIDE}="{side}"}}'
    return f"{measured}\n{sign} on () group_right ()\nmax by ({', '.join(_OWN)}) ({seen})"
