"""How long a pod may be frozen before its kubelet does something about it. Pure.

A frozen server answers no probe. When its liveness probe has failed often enough the kubelet restarts the
container, whose memory is lost; when its readiness probe has, traffic is withdrawn. Only containers that
have finished their start are meant: before that only the startup probe is asked. A probe is taken to wait
for its timeout, as one does that the network or `exec` brings to a frozen process.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from killswitch.core import durations
from killswitch.core.words import several

Json = Mapping[str, Any]
_PERIOD, _FAILURES, _TIMEOUT = 10, 3, 1
"""What Kubernetes takes where a probe does not say."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds that a container may be silent, at the least; infinite where no probe asks."""

    container: str
    liveness: float = math.inf
    """Until it is restarted."""
    readiness: float = math.inf
    """Until it gets no traffic any more."""


def budgets(template: Json) -> tuple[Budget, ...]:
    """Of each container of a pod or of a pod template that runs beside the others."""
    return tuple(
        Budget(
            each["name"], _budget(each.get("livenessProbe")), _budget(each.get("readinessProbe"))
        )
        for each in _containers(template.get("spec") or {})
    )


def _containers(spec: Json) -> Iterator[Json]:
    yield from spec.get("containers") or ()
    yield from (
        each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"
    )


def _budget(probe: Json | None) -> float:
    """From a silence that begins just before a probe until the last failure that is needed.

    One that begins just after a probe has one period more: nobody can choose that moment.
    """
    if not probe:
        return math.inf
    period = probe.get("periodSeconds") or _PERIOD
    failures = probe.get("failureThreshold") or _FAILURES
    timeout = probe.get("timeoutSeconds") or _TIMEOUT
    return float((failures - 1) * max(period, timeout) + timeout)


@dataclass(frozen=True, slots=True)
class Endurance:
    """Whether named pods endure being frozen for so many seconds."""

    seconds: float
    budgets: tuple[tuple[str, Budget], ...]
    """By what they are of, such as `Deployment vllm`."""

    @property
    def endures(self) -> bool:
        """Whether no container is restarted meanwhile."""
        return not self._restarted

    @property
    def _restarted(self) -> tuple[tuple[str, Budget], ...]:
        return tuple(each for each in self.budgets if each[1].liveness <= self.seconds)

    @property
    def restarts(self) -> str:
        """Which containers are restarted meanwhile, the first five, and the cure; empty: none."""
        found = sorted(self._restarted, key=lambda each: each[1].liveness)
        if not found:
            return ""
        named = [
            f"container {budget.container} of {what} after {durations.text(budget.liveness)}"
            for what, budget in found
        ]
        return (
            f"frozen for {durations.text(self.seconds)} the kubelet restarts {several(named)}:"
            f" freeze for less than {durations.text(found[0][1].liveness)}, or raise periodSeconds or"
            " failureThreshold of the liveness probe"
        )

    @property
    def withdrawn(self) -> str:
        """After how long the first of them gets no traffic any more; empty: not meanwhile."""
        least = min((each.readiness for _, each in self.budgets), default=math.inf)
        if least > self.seconds:
            return ""
        return f"traffic is withdrawn after {durations.text(least)} (readiness probe)"


def endurance(templates: Mapping[str, Json], seconds: float) -> Endurance:
    """Whether these pods or pod templates, by what people call them, endure that long."""
    found = ((what, each) for what, template in templates.items() for each in budgets(template))
    return Endurance(seconds, tuple(found))
