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
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from killswitch.core.readings import Threshold
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
_RESERVED = frozenset({*_OWN, METRIC, SIDE, "alertname"})


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is measured: PromQL that yields a vector, and the labels that tell its series apart.

    Without labels its worst series is compared, as polling does. With labels, each threshold is
    compared with the series that has the same values of them.
    """

    expression: str
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """ValueError for labels that the rules need for themselves."""
        if taken := _RESERVED.intersection(self.labels):
            raise ValueError(f"labels {sorted(taken)} are set by the rules themselves")

    @property
    def key(self) -> str:
        """Its name in labels and group names, the same in every replica and after a restart."""
        text = "\0".join((self.expression, *self.labels))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ThresholdSeries:
    """One threshold of one policy, as exposed for Prometheus to scrape."""

    reference: PolicyReference
    measurement: Measurement
    threshold: Threshold
    values: tuple[str, ...] = ()
    """Values of the measurement's labels, in their order."""

    def __post_init__(self) -> None:
        """ValueError when values and labels do not go together."""
        if len(self.values) != len(self.measurement.labels):
            raise ValueError(f"{len(self.values)} values for labels {self.measurement.labels}")

    @property
    def labels(self) -> dict[str, str]:
        """All labels of the series."""
        return {
            POLICY: self.reference.policy,
            GENERATION: str(self.reference.generation),
            SIGNAL: self.reference.signal,
            METRIC: self.measurement.key,
            SIDE: BELOW if self.threshold.above is None else ABOVE,
            **dict(zip(self.measurement.labels, self.values, strict=True)),
        }

    @property
    def limit(self) -> float:
        """The value of the series."""
        limit = self.threshold.below if self.threshold.above is None else self.threshold.above
        if limit is None:
            raise ValueError("a threshold has exactly one side")
        return limit


def exposition(thresholds: Iterable[ThresholdSeries]) -> bytes:
    """The thresholds in Prometheus's text format, version 0.0.4, for a scrape to read."""
    lines = [f"# HELP {SERIES} Limit of one policy signal.", f"# TYPE {SERIES} gauge"]
    for each in thresholds:
        inner = ",".join(f'{name}="{_escaped(text)}"' for name, text in each.labels.items())
        lines.append(f"{SERIES}{{{inner}}} {each.limit!r}")
    return ("\n".join(lines) + "\n").encode()


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
    namespace: str,
    labels: dict[str, str],
) -> dict[str, Any]:
    """The groups as an object for prometheus-operator, whose `ruleSelector` looks at `labels`."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {"groups": groups(measurements, interval=interval)},
    }


def path(measurement: Measurement) -> str:
    """Name of the group, and of the path that its heartbeat keeps alive."""
    return f"killswitch-{measurement.key}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _group(measurement: Measurement, interval: str) -> dict[str, Any]:
    own = {METRIC: measurement.key}
    value = {VALUE: "{{ $value }}"}
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
                    "annotations": value,
                }
                for side in (ABOVE, BELOW)
            ),
            {"alert": HEARTBEAT, "expr": alive, "labels": own, "annotations": value},
            {"alert": BLIND, "expr": f"absent({seen})", "labels": own},
        ],
    }


def _joined(measurement: Measurement, side: str) -> str:
    """The measurement where it crosses a threshold, once per threshold.

    Line breaks end a comment that the expression may close with. Several replicas expose the
    same thresholds: `by` makes one series of them.
    """
    worst, sign = ("max", ">") if side == ABOVE else ("min", "<")
    joined = ", ".join(measurement.labels)
    kept = ", ".join((*_OWN, *measurement.labels))
    seen = f'{SERIES}{{{METRIC}="{measurement.key}",{SIDE}="{side}"}}'
    return (
        f"{worst} by ({joined}) (\n{measurement.expression}\n)\n"
        f"{sign} on ({joined}) group_right ()\nmax by ({kept}) ({seen})"
    )
