"""What the manager measures, for Prometheus (docs/metrics.md)."""

from collections import Counter as Counts
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from killswitch import __version__
from killswitch.core.audit import OTHERS
from killswitch.telemetry.buckets import SECONDS

_MOST_AUDITED, _MOST_TOLD = 200, 50


class CountGuards(Protocol):
    """How many nodes have a guard that is live, or one that is silent; NaN: not known."""

    def __call__(self, *, live: bool) -> float:
        """Of the last reports."""
        ...


class Numbers(Collector):
    """The metrics of the manager, in a registry of their own."""

    def __init__(self) -> None:
        """Nothing has been tried: 0 until then, which is not a proof."""
        self.registry = CollectorRegistry()
        self.requests: Counts[tuple[str, str]] = Counts()
        """Requests received, by path and outcome."""
        self.verified = Histogram(
            "killswitch_verified_seconds",
            "From the decision until an independent look found no pod left.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._denies = Gauge(
            "killswitch_lock_denies",
            "Whether the lock denied the last trial in the canary namespace.",
            registry=self.registry,
        )
        self._tried_at = Gauge(
            "killswitch_lock_tried_timestamp_seconds",
            "When the lock was last tried.",
            registry=self.registry,
        )
        self._guards = Gauge(
            "killswitch_node_guards",
            "Nodes whose guard reported lately, or has reported before but not lately.",
            ["state"],
            registry=self.registry,
        )
        self._frozen = Gauge(
            "killswitch_frozen_pods",
            "Pods that live guards say are frozen.",
            registry=self.registry,
        )
        self._attempts = Counter(
            "killswitch_denied_attempts",
            "Attempts to start what is held, by those whom audit events or their own Events name.",
            ["controller"],
            registry=self.registry,
        )
        self._denied: dict[bool, set[str]] = {True: set(), False: set()}
        """Who has a series, by whether it was authenticated."""
        Info("killswitch_build", "Version of killswitch.", registry=self.registry).info(
            {"version": __version__}
        )
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        self.unready = "the lock has not been tried yet"
        """Why the manager does not do its work yet; empty once the API server let it try."""

    def collect(self) -> Iterable[Metric]:
        """What is counted where it happens."""
        requests = CounterMetricFamily(
            "killswitch_requests", "Requests received, by outcome.", labels=["path", "outcome"]
        )
        for labels, count in self.requests.items():
            requests.add_metric(labels, count)
        yield requests

    def tried(self, *, denied: bool, now: float) -> None:
        """The lock was tried; `now` in seconds since the epoch."""
        self._denies.set(denied)
        self._tried_at.set(now)
        self.unready = ""

    def denied(self, controller: str, attempts: int, *, authenticated: bool) -> None:
        """So many more attempts of this controller, or person, were seen.

        A series never ends, and who writes Events calls himself what he likes: the first 50 whom only
        Events name have their own, the first 200 whom audit events name; the rest is `others`.
        """
        if attempts <= 0:
            return
        named = self._denied[authenticated]
        if controller not in named and len(named) >= (
            _MOST_AUDITED if authenticated else _MOST_TOLD
        ):
            controller = OTHERS
        named.add(controller)
        self._attempts.labels(controller=controller).inc(attempts)

    def guards(self, count: CountGuards, frozen: Callable[[], float]) -> None:
        """Count them whenever somebody asks."""
        for state in ("live", "silent"):
            counted = partial(count, live=state == "live")
            self._guards.labels(state=state).set_function(counted)
        self._frozen.set_function(frozen)
