"""How far detectors can be trusted: labelled real series, beside a plain threshold.

The series are those of microsoft/cloud-monitoring-dataset (MIT): all of it if KILLSWITCH_SERIES or
../shared/data/cloud-monitoring names a folder of it, else the five files of tests/data.

**What is compared.** On the first half of each series every detector gets the one limit, out of a
few, with the best F0.5 there (no event there: the fewest false alarms; ties: the higher limit);
the rest is fixed for all series (`_rules`). The plain threshold gets the same: one of the first
half's upper quantiles, up to 1.5 times its highest value. Figures are of the second half, where
the detectors go on learning and nobody tunes. `untuned` is the same without the first half's
labels: each detector's default limit, and for the threshold the highest value of the first half.
F0.5 and not F1: a false stop costs more than a late one.

**The rule** is event-wise. An event is a run of labelled samples. It is found if a sample in it, or
up to 2 sampling intervals after it, is Tripped; its delay runs from its first sample to the first
Tripped one. A Tripped sample outside all events widened by 2 intervals is a false alarm; then none
is counted for 12 intervals, which is a policy's cooldown. So a detector that is always Tripped
finds everything and has two false alarms a day on hourly series. Precision is found events /
(found events + false alarms), recall is found events / events.

`hourly` adds up all groups but the one sampled every minute, which would outvote them. `two_of_four`
is a quorum: robust z, EWMA, CUSUM and seasonal, each with its own limit, any two Tripped at once.
Absence is left out: these labels are about height. `detector_feed_*` is the cost of one sample,
`detector_push_*` the same on its way through the reactor (`bench.detector_push`).
"""

import csv
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench import detector_push
from bench.figures import Figure, figure, median, percentile
from bench.setting import Setting
from killswitch.core.detectors import (
    Absence,
    Cusum,
    Detector,
    Ewma,
    HardLimit,
    Kind,
    Rate,
    RobustZ,
    Seasonal,
)
from killswitch.core.readings import Threshold, Verdict

_SHARED = Path("../shared/data/cloud-monitoring")
_SUBSET = Path("tests/data/cloud-monitoring")
_SHORT = {
    "application-crash-rate-1": "crashes",
    "consumer-purchase-rate": "purchases",
    "ecommerce-api-incoming-rps": "requests",
    "middle-tier-api-dependency-latency": "latency",
    "mongodb-application-rps": "queries",
}

TOLERANCE = 2
"""Sampling intervals by which an event is widened."""

COOLDOWN = 12
"""Sampling intervals after a false alarm in which no other is counted."""

Flags = Sequence[bool]


@dataclass(frozen=True)
class Series:
    """One file: a value that is None was not measured."""

    group: str
    times: list[float]
    values: list[float | None]
    labels: list[bool]

    @property
    def half(self) -> int:
        """Where the second half begins."""
        return len(self.times) // 2

    @property
    def interval(self) -> float:
        """Seconds between two samples."""
        return median([b - a for a, b in zip(self.times, self.times[1:], strict=False)])

    def quantile(self, share: float) -> float:
        """Of the first half's values."""
        return percentile([each for each in self.values[: self.half] if each is not None], share)


@dataclass
class Outcome:
    """Counts by the rule above; several can be added up."""

    events: int = 0
    found: int = 0
    false_alarms: int = 0
    days: float = 0.0
    delays: list[float] = field(default_factory=list)
    """Seconds."""

    def add(self, other: "Outcome") -> None:
        """Count another series with this one."""
        self.events += other.events
        self.found += other.found
        self.false_alarms += other.false_alarms
        self.days += other.days
        self.delays += other.delays

    @property
    def precision(self) -> float:
        """Of all alarms, the share that was due; 0 where nothing was found."""
        return self.found / (self.found + self.false_alarms) if self.found else 0.0

    @property
    def recall(self) -> float:
        """Of all events, the share that was found."""
        return self.found / self.events if self.events else 0.0

    @property
    def f_half(self) -> float:
        """F0.5: precision weighs more than recall."""
        below = 0.25 * self.precision + self.recall
        return 1.25 * self.precision * self.recall / below if below else 0.0

    @property
    def per_day(self) -> float:
        """False alarms a day and series."""
        return self.false_alarms / self.days if self.days else 0.0


def judge(labels: Flags, tripped: Flags, interval: float) -> Outcome:
    """One series (or a half) by the rule in this module's docstring."""
    count = len(labels)
    outcome = Outcome(days=count * interval / 86400)
    near = [False] * count
    for begin, end in _runs(labels):
        outcome.events += 1
        reach = min(end + TOLERANCE, count)
        for place in range(max(begin - TOLERANCE, 0), reach):
            near[place] = True
        first = next((place for place in range(begin, reach) if tripped[place]), None)
        if first is not None:
            outcome.found += 1
            outcome.delays.append((first - begin) * interval)
    quiet_until = 0
    for place in range(count):
        if tripped[place] and not near[place] and place >= quiet_until:
            outcome.false_alarms += 1
            quiet_until = place + COOLDOWN
    return outcome


def measure(_setting: Setting) -> Iterator[Figure]:
    """Figures named detector_*. The control plane is not asked."""
    yield from _costs()
    yield from detector_push.costs()
    folder = _folder()
    totals: dict[str, dict[str, tuple[Outcome, Outcome]]] = {}
    sizes: dict[str, int] = {}
    for one in load(folder):
        groups = (one.group, "hourly") if one.interval >= 3600 else (one.group,)
        for group in groups:
            sizes[group] = sizes.get(group, 0) + 1
        for name, (tuned, untuned) in _contest(one).items():
            for group in groups:
                pair = totals.setdefault(group, {}).setdefault(name, (Outcome(), Outcome()))
                pair[0].add(tuned)
                pair[1].add(untuned)
    for group, outcomes in totals.items():
        baseline = outcomes[Kind.THRESHOLD][0].f_half
        for name, (tuned, untuned) in outcomes.items():
            yield figure(
                f"detector_{group}_{name}",
                tuned.f_half,
                "F0.5",
                baseline=baseline,
                baseline_is="a plain threshold tuned on the same first half",
                precision=round(tuned.precision, 2),
                recall=round(tuned.recall, 2),
                delay_p50_min=round(median(tuned.delays) / 60, 1) if tuned.delays else None,
                false_alarms_per_day=round(tuned.per_day, 3),
                events=tuned.events,
                untuned={
                    "precision": round(untuned.precision, 2),
                    "recall": round(untuned.recall, 2),
                    "false_alarms_per_day": round(untuned.per_day, 3),
                },
                series=sizes[group],
                data=folder.parent.name + "/" + folder.name,
            )


def load(folder: Path) -> Iterator[Series]:
    """All series below a folder, group by group."""
    for file in sorted(folder.glob("*/*.csv")):
        with file.open() as lines:
            rows = list(csv.DictReader(lines))
        yield Series(
            _SHORT.get(file.parent.name, file.parent.name),
            [_seconds(row["TimeStamp"]) for row in rows],
            [float(row["Value"]) if row["Value"] else None for row in rows],
            [float(row["Label"]) > 0 for row in rows],
        )


def tripped(one: Detector, series: Series) -> list[bool]:
    """Where it is Tripped, fed the whole series; Unknown is no alarm."""
    samples = zip(series.times, series.values, strict=True)
    return [one.feed(at, value).verdict is Verdict.TRIPPED for at, value in samples]


def _contest(series: Series) -> dict[str, tuple[Outcome, Outcome]]:
    """By detector: the outcome on the second half with its limit tuned on the first, and without."""
    found: dict[str, tuple[Outcome, Outcome]] = {}
    flags: dict[str, tuple[list[bool], list[bool]]] = {}
    for kind, (build, limits, default) in _rules(series).items():
        runs = {limit: tripped(build(limit), series) for limit in sorted({*limits, default})}
        best = max(limits, key=lambda limit: _merit(series, runs[limit], limit))
        flags[kind] = runs[best], runs[default]
    learning = [flags[kind] for kind in (Kind.ROBUST_Z, Kind.EWMA, Kind.CUSUM, Kind.SEASONAL)]
    flags["two_of_four"] = _two(each[0] for each in learning), _two(each[1] for each in learning)
    for name, pair in flags.items():
        found[name] = _second(series, pair[0]), _second(series, pair[1])
    return found


def _merit(series: Series, flags: Flags, limit: float) -> tuple[float, float, float]:
    half = series.half
    outcome = judge(series.labels[:half], flags[:half], series.interval)
    return outcome.f_half, -outcome.false_alarms, limit


def _second(series: Series, flags: Flags) -> Outcome:
    return judge(series.labels[series.half :], flags[series.half :], series.interval)


def _two(flags: Iterable[Flags]) -> list[bool]:
    return [sum(each) >= 2 for each in zip(*flags, strict=True)]


Rule = tuple[Callable[[float], Detector], list[float], float]
"""How to build it with a limit, the limits to choose from, and the one without labels."""


def _rules(series: Series) -> dict[Kind, Rule]:
    """All sides Above, as these labels mean rises; times in sampling intervals.

    `least` is a fifth of the first half's 95th percentile: what a person would call a change.
    """
    every = series.interval
    gap = 3.5 * every
    usual = max(series.quantile(0.95), 1e-6)
    least = usual / 5
    highest = series.quantile(1.0)
    deviations = [3.0, 4.0, 6.0, 8.0, 12.0, 20.0]
    quantiles = [series.quantile(each) for each in (0.9, 0.95, 0.98, 0.99, 0.995)]
    slope = usual / every
    return {
        Kind.THRESHOLD: (
            lambda limit: HardLimit(threshold=Threshold(above=limit), gap=gap),
            [*quantiles, highest, 1.5 * highest],
            highest,
        ),
        Kind.RATE: (
            lambda limit: Rate(limit=limit, span=every, gap=gap),
            [share * slope for share in (0.25, 0.5, 1.0, 2.0, 4.0)],
            slope,
        ),
        Kind.ROBUST_Z: (
            lambda limit: RobustZ(least=least, limit=limit, gap=gap),
            deviations,
            6.0,
        ),
        Kind.EWMA: (
            lambda limit: Ewma(least=least, limit=limit, half_life=120 * every, gap=gap),
            deviations,
            6.0,
        ),
        Kind.CUSUM: (
            lambda limit: Cusum(least=least, limit=limit, half_life=240 * every, gap=gap),
            [4.0, 8.0, 16.0, 32.0, 64.0],
            8.0,
        ),
        Kind.SEASONAL: (
            lambda limit: Seasonal(least=least, limit=limit, gap=gap),
            deviations,
            6.0,
        ),
    }


def _costs(count: int = 20_000) -> Iterator[Figure]:
    """Microseconds of one `feed` on a warm detector."""
    source = random.Random(1)
    values = [source.gauss(100, 5) for _ in range(count)]
    baseline = math.nan
    detectors: tuple[Detector, ...] = (
        HardLimit(threshold=Threshold(above=1000.0)),
        Rate(limit=100.0),
        Absence(after=60.0),
        RobustZ(least=1.0),
        Ewma(least=1.0),
        Cusum(least=1.0),
        Seasonal(least=1.0),
    )
    for one in detectors:
        started = time.perf_counter()
        for number, value in enumerate(values):
            one.feed(number * 15.0, value)
        cost = (time.perf_counter() - started) / count * 1e6
        baseline = cost if one.kind is Kind.THRESHOLD else baseline
        yield figure(
            f"detector_feed_{one.kind}",
            cost,
            "µs",
            baseline=baseline,
            baseline_is="a threshold",
            n=count,
        )


def _folder() -> Path:
    named = os.environ.get("KILLSWITCH_SERIES")
    if named:
        return Path(named)
    return _SHARED if _SHARED.is_dir() else _SUBSET


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC).timestamp()


def _runs(flags: Flags) -> Iterator[tuple[int, int]]:
    """Begin and end (exclusive) of each run of True."""
    begin: int | None = None
    for place, flag in enumerate([*flags, False]):
        if flag and begin is None:
            begin = place
        elif not flag and begin is not None:
            yield begin, place
            begin = None
