"""What the reactor counts and measures of itself, for Prometheus (docs/metrics.md).

Histograms are observed after the fact: of a stop once its requests have been answered, of an arrival
once it has been judged. Everything else is read from what the reactor holds anyway, at each scrape.
No label names a policy, a namespace or a workload: their number must not grow the metrics, nor
should whoever reads metrics learn what is watched.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from killswitch import __version__
from killswitch.core import evidence, times
from killswitch.core.interlocks import Cause
from killswitch.core.readings import Answer, Blindness, NoAnswer, Path, Verdict
from killswitch.core.switch import State
from killswitch.ports import Clock
from killswitch.reactor.finisher import Progress
from killswitch.telemetry.buckets import SECONDS

if TYPE_CHECKING:
    from killswitch.reactor.listening import Listening
    from killswitch.reactor.run import Reactor
    from killswitch.reactor.scraping import Scraping

_STAGES = {
    "locked": ("lock", "the Shutdown was accepted"),
    "deleted": ("delete", "the last pod DELETE was accepted"),
    "recorded": ("record", "what was there was stored"),
    "scaled": ("scale", "every workload was scaled to 0"),
    "proven": ("proof", "a dry-run restart was denied"),
    "stopped": ("stop", "no pod was left in a list from etcd"),
}
"""Stage of a stop → the metric's name, and what happened at its end."""
_BEFORE_A_CUT = {"locked"}
_ANSWERED = "Answered"


class Numbers(Collector):
    """The metrics of one reactor, in a registry of their own."""

    def __init__(self, clock: Clock) -> None:
        """Nothing has been heard of."""
        self.registry = CollectorRegistry()
        self.reactor: Reactor | None = None
        self.listening: Listening | None = None
        self._clock = clock
        self._heard: dict[Path, float] = {}
        self._polls: Counter[str] = Counter({_ANSWERED: 0})
        self._ages = self._by_path(
            "killswitch_sample_age_seconds", "How old the samples of a message were on arrival."
        )
        self._decision = self._by_path(
            "killswitch_decision_seconds",
            "From the arrival of the reading that completed the quorum to the decision.",
        )
        self._stages = {
            stage: self._histogram(
                f"killswitch_{name}_seconds", f"From the decision until {words}."
            )
            for stage, (name, words) in _STAGES.items()
        }
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    @property
    def unready(self) -> str:
        """Why the reactor does not watch yet; empty once everything is listed and judged."""
        if self.reactor is None:
            return "the API server has not answered yet"
        missing = [each.kind for each in self.reactor.needed if not each.synced.is_set()]
        if missing:
            return f"not listed yet: {', '.join(missing)}"
        return "" if self.reactor.ready.is_set() else "policies are not judged yet"

    def polled(self, answer: Answer | NoAnswer) -> None:
        """A poll was answered, or was not."""
        if isinstance(answer, NoAnswer):
            self._polls[answer.reason.value] += 1
            return
        self._polls[_ANSWERED] += 1
        self._arrived(Path.POLL, self._clock.now(), answer.oldest_age)

    def arrived(self, path: Path, sampled_at: float | None = None) -> None:
        """Something was heard on a path; `sampled_at` (seconds since the epoch) if it is of a time."""
        now = self._clock.now()
        self._arrived(path, now, None if sampled_at is None else now - sampled_at)

    def progressed(self, progress: Progress) -> None:
        """A stop that this reactor decided got on: observe each of its stages once."""
        stages = progress.outcome.stages
        decided = stages["decided"]
        # A graceful stop waits on purpose: from its cut on it tells nothing of how fast we are.
        told = _BEFORE_A_CUT if "cut" in stages else self._stages.keys()
        for stage in progress.new & told:
            self._stages[stage].observe(max(0.0, stages[stage] - decided))
        last = evidence.decisive(progress.statement)
        if "decided" in progress.new and last is not None:
            took = max(0.0, decided - times.seconds(last["readAt"]))
            self._decision[last["path"]].observe(took)

    def collect(self) -> Iterable[Metric]:
        """What the reactor holds at this moment."""
        yield InfoMetricFamily(
            "killswitch_build", "Version of killswitch.", {"version": __version__}
        )
        yield _gauge("ready", "Whether everything is listed and judged.", float(not self.unready))
        yield _counted("polls", "Queries asked, by outcome.", "outcome", self._polls)
        scraping = None if self.reactor is None else self.reactor.scraping
        if scraping is not None and scraping.heard_at is not None:
            self._heard[Path.SCRAPE] = scraping.heard_at
        yield _gauges(
            "path_heard_timestamp_seconds",
            "When something was last heard on a path of signals.",
            "path",
            {path.value: at for path, at in self._heard.items()},
        )
        if self.reactor is not None:
            yield _gauge(
                "poll_pace_seconds",
                "Between two polls of the same query.",
                self.reactor.poll_pace,
            )
            yield CounterMetricFamily(
                "killswitch_freezes",
                "Freezes that this replica made for policies.",
                self.reactor.engine.freezing.made,
            )
            yield from _of_policies(self.reactor)
            yield self._of_watches(self.reactor)
            yield _gauge(
                "unseen_kinds",
                "Kinds of workloads that the cluster serves or a policy names, and that cannot be seen.",
                len(self.reactor.engine.view.inventory.unseen),
            )
        if scraping is not None:
            yield from _of_scraping(scraping)
        if self.reactor is not None:
            silence = self.reactor.engine.intake.paths.silence()
            yield _gauges(
                "path_silent_seconds",
                "For how long the most silent expected path of a kind has been silent; 0 if none is.",
                "path",
                {path.value: seconds for path, seconds in silence.items()},
            )
        if self.listening is not None:
            yield from _of_listening(self.listening)

    def _arrived(self, path: Path, now: float, age: float | None) -> None:
        self._heard[path] = now
        if age is not None and not math.isnan(age):
            self._ages[path].observe(max(0.0, age))

    def _histogram(self, name: str, words: str, *labels: str) -> Histogram:
        return Histogram(name, words, labels, buckets=SECONDS, registry=self.registry)

    def _by_path(self, name: str, words: str) -> dict[str, Histogram]:
        """One for each path, from the start: what has not happened yet is 0, not absent."""
        family = self._histogram(name, words, "path")
        return {path: family.labels(path.value) for path in Path}

    def _of_watches(self, reactor: "Reactor") -> Metric:
        ago = self._clock.now() - self._clock.monotonic()
        return _gauges(
            "watch_heard_timestamp_seconds",
            "When the API server last said anything about a kind.",
            "kind",
            {
                name: heard + ago
                for name, heard in (
                    *((each.kind, each.heard) for each in reactor.reflectors),
                    *reactor.mirrors.heard.items(),
                )
            },
        )


def traced(progress: Progress) -> tuple[str, dict[str, float], dict[str, str | int]]:
    """A stop as `Traces.stop` takes it: uid, every time that is known from its sample on, words."""
    metadata, outcome = progress.shutdown["metadata"], progress.outcome
    moments = dict(outcome.stages)
    attributes: dict[str, str | int] = {
        "killswitch.shutdown": metadata["name"],
        "killswitch.targets": outcome.targets,
        "killswitch.pods": outcome.pods,
    }
    if metadata.get("namespace"):
        attributes["k8s.namespace.name"] = metadata["namespace"]
    if (last := evidence.decisive(progress.statement)) is not None:
        attributes["killswitch.path"] = last["path"]
        moments["read"] = times.seconds(last["readAt"])
        if last.get("sampledAt"):
            moments["sampled"] = times.seconds(last["sampledAt"])
    return metadata["uid"], moments, attributes


def _of_policies(reactor: "Reactor") -> Iterable[Metric]:
    """How many of each kind; there may be thousands, and the event loop waits."""
    watched = reactor.engine.watched.values()
    states = [each.state for each in watched]
    causes = [each.inhibition.cause for each in watched if each.inhibition is not None]
    readings = [reading for each in watched for reading in each.readings.values()]
    reasons = [each.reason for each in readings if each.verdict is Verdict.UNKNOWN]
    verdicts = [each.verdict for each in readings]
    # `list.count` and not Counter: hashing an enum's member costs more than comparing all of them.
    yield _gauges(
        "policies",
        "Policies by the state of their switch.",
        "state",
        {each: states.count(each) for each in State},
    )
    yield _gauges(
        "inhibited_policies",
        "Policies that may not fire, by cause.",
        "cause",
        {each: causes.count(each) for each in Cause},
    )
    signals = GaugeMetricFamily(
        "killswitch_signals",
        "Signals by verdict; why, where Unknown.",
        labels=["verdict", "reason"],
    )
    for verdict in (Verdict.TRIPPED, Verdict.CLEAR):
        signals.add_metric([verdict, ""], verdicts.count(verdict))
    for reason in Blindness:
        signals.add_metric([Verdict.UNKNOWN, reason], reasons.count(reason))
    yield signals


def _of_scraping(scraping: "Scraping") -> Iterable[Metric]:
    yield _counted("scrapes", "Pods scraped, by outcome.", "outcome", scraping.counts)
    yield _gauge("scrape_targets", "Pods that are scraped.", scraping.targets)
    yield _gauge("scrape_stretch", "By how much scrapes are rarer than wanted.", scraping.stretch)


def _of_listening(listening: "Listening") -> Iterable[Metric]:
    requests = CounterMetricFamily(
        "killswitch_requests", "Requests received, by outcome.", labels=["path", "outcome"]
    )
    for labels, count in listening.requests.items():
        requests.add_metric([str(each) for each in labels], count)
    yield requests
    yield _counted("alerts", "Alerts received, by what they meant.", "arrival", listening.alerts)
    decoded = listening.decoding
    for name, words, count in (
        (
            "run_samples",
            "Samples of asked-for series that arrived in a known run.",
            decoded.in_runs,
        ),
        ("parsed_series", "Series whose labels were parsed: not cached.", decoded.parsed),
        ("evictions", "Times that the cache of series was full.", decoded.evictions),
    ):
        yield CounterMetricFamily(f"killswitch_remote_write_{name}", words, count)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"killswitch_{name}", words, value)


def _gauges(name: str, words: str, label: str, values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(f"killswitch_{name}", words, labels=[label])
    for each, value in values.items():
        family.add_metric([str(each)], value)
    return family


def _counted(name: str, words: str, label: str, counts: Counter[Any]) -> Metric:
    family = CounterMetricFamily(f"killswitch_{name}", words, labels=[label])
    for each, count in counts.items():
        family.add_metric([str(each)], count)
    return family
