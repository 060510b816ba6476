"""The worst-case reaction time of a policy, from how its signals arrive.

What is bounded: the time from the moment at which what is measured crosses its threshold until the
policy's decision; the lock follows within milliseconds. A bound holds when everything works: no
scrape, evaluation, post or poll fails or is skipped. A scrape is counted with what it took when
last looked at, a poll with its whole timeout, while the one before was answered in time for it.
What a query itself averages (`[5m]`, `offset`) belongs to the measurement and is not counted, nor
is what a detector needs to become sure. A part that is not known makes the bound unknown, never
shorter.

A signal is as fast as the fastest path that is known to carry it. A policy is as fast as its
quorum: the M-th fastest of its signals, as if all that they measure crossed at the same moment.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from killswitch.core import durations, exporters, pacing
from killswitch.core.conditions import PolicyCondition, Reason
from killswitch.core.readings import NoAnswer, Path

TICK = 0.05
"""Seconds between the reactor's looks at what changes by time alone: a hold-down may end so late."""
_PUSH = 0.05
"""Seconds from a stored sample to a reading by remote write (one shard, 5 ms deadline), and from
an evaluation's due time to a reading by its alert. Measured: 5 to 40 ms, on a busy machine."""
_POST = 0.01
"""Seconds from a guardrail's request to a reading."""


class Cause(StrEnum):
    """What a part of the reaction time is spent on."""

    EXPORTER = "exporter"
    SCRAPE = "scrape"
    RECORDING = "recording"
    POLL = "poll"
    EVALUATION = "evaluation"
    DELIVERY = "delivery"
    DETECTOR = "detector"
    HOLD_DOWN = "hold-down"
    STALE = "stale"


_REASONS = {
    Cause.EXPORTER: Reason.EXPORTER_SLOW,
    Cause.SCRAPE: Reason.SCRAPE_SLOW,
    Cause.RECORDING: Reason.EVALUATION_SLOW,
    Cause.POLL: Reason.POLL_SLOW,
    Cause.EVALUATION: Reason.EVALUATION_SLOW,
    Cause.DELIVERY: Reason.PATH_SLOW,
    Cause.DETECTOR: Reason.DETECTOR_SLOW,
    Cause.HOLD_DOWN: Reason.HOLD_DOWN_LONG,
    Cause.STALE: Reason.MAX_AGE_SHORT,
}


@dataclass(frozen=True, slots=True)
class Delay:
    """One part of the reaction time, at its longest; without end where it may never be over."""

    cause: Cause
    seconds: float
    words: str
    cure: str

    def __str__(self) -> str:
        """`15.0 s scrape of job models`."""
        return f"{in_words(self.seconds)} {self.words}"


@dataclass(frozen=True, slots=True)
class Feed:
    """How one metric of a query gets new samples from its slowest target in one job."""

    metric: str
    every: float
    """Seconds between two samples."""
    origin: str
    """Where they come from: `job models`."""
    took: float = 0.0
    """Seconds that the last scrape took."""
    recorded: float = 0.0
    """Seconds between evaluations of the recording rules that it passes through, added up."""
    renewed: float | None = None
    """Mean seconds between changes that were seen lately: the exporter is no slower than that."""
    estimated: bool = False
    """`every` was reckoned from the samples, since nobody told it."""

    @property
    def delays(self) -> tuple[Delay, ...]:
        """From a change in what is measured until its sample is stored."""
        found = []
        if exporter := exporters.of(self.metric):
            seen = self.renewed is not None and self.renewed < exporter.every
            every = self.renewed if seen and self.renewed is not None else exporter.every
            how = "as its changes show" if seen else "its default"
            words = f"{exporter.name}'s own interval ({how})"
            found.append(Delay(Cause.EXPORTER, every, words, exporter.cure))
        words = f"scrape of {self.origin}"
        if self.estimated:
            words = f"between samples of {self.origin} (estimated)"
        cure = f"scrape {self.origin} more often (scrape_interval)"
        found.append(Delay(Cause.SCRAPE, self.every + rounded_up(self.took), words, cure))
        if self.recorded:
            cure = "shorten the interval of the recording rules' groups"
            found.append(Delay(Cause.RECORDING, self.recorded, "recording rules", cure))
        return tuple(found)

    @property
    def spacing(self) -> float:
        """Seconds between two samples as a query sees them."""
        return self.recorded or self.every + rounded_up(self.took)

    @property
    def worst(self) -> float:
        """Seconds until a change is stored, at the longest."""
        return _sum(self.delays)


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """A group of rules as Prometheus evaluates it."""

    every: float
    """Seconds between two evaluations."""
    healthy: bool
    """Whether each of its rules was evaluated without error."""
    firing: frozenset[str]
    """Names of its alerts that fire."""


@dataclass(frozen=True, slots=True)
class Route:
    """One path of one signal, from what is measured to a reading."""

    path: Path
    delays: tuple[Delay, ...] = ()
    unknown: str = ""
    """Why the time is not known; then there are no delays."""
    provided: str = ""
    """What nobody has confirmed and the path needs; then no bound rests on it."""

    @property
    def worst(self) -> float | None:
        """Seconds at the longest; None where that is not known."""
        return None if self.unknown else _sum(self.delays)

    def __str__(self) -> str:
        """`poll: 18.0 s = 15.0 s scrape of job models + 3.0 s poll`."""
        if self.worst is None:
            return f"{self.path}: unknown: {self.unknown}"
        parts = " + ".join(str(each) for each in self.delays)
        whole = f"{self.path}: {in_words(self.worst)} = {parts}"
        return f"{whole} (not counted: {self.provided})" if self.provided else whole


Feeds = tuple[Feed, ...] | NoAnswer
"""The feeds of a query, at least one, or why they are not known."""


def polled(feeds: Feeds, *, every: float, timeout: float) -> Route:
    """The query asked every `every` seconds, each answer after `timeout` at the latest."""
    words = f"poll (each {durations.text(every)}, answered within {durations.text(timeout)})"
    cure = (
        "shorten pollInterval or prometheus.timeout, ask fewer queries, or install the alert rules"
    )
    return _fed(Path.POLL, feeds, Delay(Cause.POLL, every + timeout, words, cure))


def alerted(feeds: Feeds, *, every: float) -> Route:
    """The query evaluated in a rule group of this interval, its alert posted to the reactor."""
    cure = "shorten the interval of the rule group"
    evaluation = Delay(Cause.EVALUATION, every + _PUSH, "evaluation and post", cure)
    return _fed(Path.ALERT, feeds, evaluation)


def written(feeds: Feeds) -> Route:
    """Each sample written to the reactor; whether Prometheus does that is not known here."""
    delivery = Delay(Cause.DELIVERY, _PUSH, "remote write", "no shorter by this path")
    route = _fed(Path.REMOTE_WRITE, feeds, delivery)
    return Route(route.path, route.delays, route.unknown, "only if Prometheus writes to us")


def scraped(metric: str, every: float) -> Route:
    """Each pod asked by the reactor itself: no Prometheus is needed, so nothing has to be confirmed."""
    deadline = pacing.scrape_deadline(every)
    words = f"own scrape (each {durations.text(every)}, answered within {durations.text(deadline)})"
    asked = Delay(Cause.SCRAPE, every + deadline, words, "shorten scrape.interval")
    exporter = exporters.of(metric)
    if exporter is None:
        return Route(Path.SCRAPE, (asked,))
    own = f"{exporter.name}'s own interval (its default)"
    return Route(Path.SCRAPE, (Delay(Cause.EXPORTER, exporter.every, own, exporter.cure), asked))


def told() -> Route:
    """An alert of somebody else's rule: when it fires, and how it gets here, is theirs."""
    return Route(Path.ALERT, unknown="when its alert fires is decided by a rule that is not ours")


def posted() -> Route:
    """An event, counted when it is received."""
    delivery = Delay(Cause.DELIVERY, _POST, "request", "no shorter by this path")
    return Route(Path.EVENT, (delivery,))


def _fed(path: Path, feeds: Feeds, then: Delay) -> Route:
    """The slowest feed counts: any series may be the one that crosses."""
    if isinstance(feeds, NoAnswer):
        return Route(path, unknown=feeds.detail or str(feeds.reason))
    slowest = max(feeds, key=lambda feed: feed.worst)
    return Route(path, (*slowest.delays, then))


def detected(every: float) -> Delay:
    """Until a detector takes a sample: one in each stretch of `every` seconds."""
    words = "until the detector takes a sample (its `every`)"
    return Delay(Cause.DETECTOR, every, words, "shorten the detector's `every`")


def held(
    feeds: Feeds | None, *, hold_down: float, max_age: float, poll: float, believed: bool
) -> tuple[Delay, ...]:
    """What comes after the first reading: the hold-down, or that it may never be over.

    Between two samples that are further apart than `max_age` the signal is Unknown. A hold-down
    lives through that for `max_age`, or for ever where Unknown is a vote (`believed`); `poll` is
    the longest time between two readings.
    """
    spacing = 0.0 if feeds is None or isinstance(feeds, NoAnswer) else _spacing(feeds)
    if spacing > max_age and not believed:
        unseen = not hold_down and poll > max_age
        restarts = hold_down > max_age - poll and hold_down and spacing + poll > 2 * max_age
        if unseen or restarts:
            words = (
                f"since a sample is stale after maxAge {durations.text(max_age)} and the next comes"
                f" {durations.text(spacing)} after it"
            )
            return (Delay(Cause.STALE, math.inf, words, "raise maxAge"),)
    if not hold_down:
        return ()
    return (Delay(Cause.HOLD_DOWN, hold_down + TICK, "hold-down", "shorten `for`"),)


@dataclass(frozen=True, slots=True)
class SignalReaction:
    """How one signal arrives, and what it must wait for then, by whichever path it came."""

    name: str
    routes: tuple[Route, ...]
    then: tuple[Delay, ...] = ()

    @property
    def delays(self) -> tuple[Delay, ...] | None:
        """All parts on its fastest counted path; None where not known."""
        known = [each for each in self.routes if each.worst is not None and not each.provided]
        if not known:
            return None
        fastest = min(known, key=lambda route: _sum(route.delays))
        return (*fastest.delays, *self.then)

    @property
    def worst(self) -> float | None:
        """Seconds until it counts, at the longest; None where that is not known."""
        return None if self.delays is None else _sum(self.delays)

    def __str__(self) -> str:
        """`signal load: 15.0 s scrape of job models + 3.0 s poll`, or why it is not known."""
        if self.delays is None:
            why = next((each.unknown for each in self.routes if each.unknown), "no path is known")
            return f"signal {self.name}: {why}"
        return f"signal {self.name}: {' + '.join(str(each) for each in self.delays)}"


@dataclass(frozen=True, slots=True)
class PolicyReaction:
    """The reaction of a policy that fires when `needed` of its signals count."""

    signals: tuple[SignalReaction, ...]
    needed: int

    @property
    def decisive(self) -> SignalReaction | None:
        """The signal that completes the quorum at the latest; None where that is not known."""
        known = [each for each in self.signals if each.worst is not None]
        known.sort(key=lambda signal: signal.worst or 0.0)
        return known[self.needed - 1] if len(known) >= self.needed else None

    @property
    def worst(self) -> float | None:
        """Seconds until the decision, at the longest; None where that is not known."""
        return None if self.decisive is None else self.decisive.worst

    def __str__(self) -> str:
        """The bound and its parts, or what is not known."""
        if self.decisive is None or self.worst is None:
            lacking = [str(each) for each in self.signals if each.worst is None]
            return f"unknown: {'; '.join(lacking)}"
        most = "" if math.isinf(self.worst) else "at most "
        return f"{most}{in_words(self.worst)}, {self.decisive}"


def timely(reaction: PolicyReaction, within: float) -> tuple[str, bool | None, str, str]:
    """Condition `Timely`: whether the policy reacts within so many seconds, else what hinders it."""
    wish = f"reactWithin {durations.text(within)}"
    decisive, worst = reaction.decisive, reaction.worst
    if decisive is None or decisive.delays is None or worst is None:
        return (PolicyCondition.TIMELY, None, Reason.REACTION_UNKNOWN, str(reaction))
    if worst <= within:
        return (PolicyCondition.TIMELY, True, Reason.IN_TIME, f"{reaction}; {wish}")
    longest = max(decisive.delays, key=lambda delay: delay.seconds)
    alone = ", which alone is too long" if within < longest.seconds < math.inf else ""
    words = f"{reaction}; {wish} is missed mostly by {longest.words}{alone}: {longest.cure}"
    return (PolicyCondition.TIMELY, False, _REASONS[longest.cause], words)


def in_words(seconds: float) -> str:
    """A duration in words; `never` for one without end."""
    return "never" if math.isinf(seconds) else durations.text(seconds)


def rounded_up(seconds: float) -> float:
    """The next of 1, 2, 5 times a power of ten: a bound that does not change with each scrape."""
    if seconds <= 0.0:
        return 0.0
    unit = 10.0 ** math.floor(math.log10(seconds))
    return next((step * unit for step in (1, 2, 5) if seconds <= step * unit), 10 * unit)


def _spacing(feeds: Iterable[Feed]) -> float:
    return max(feed.spacing for feed in feeds)


def _sum(delays: Iterable[Delay]) -> float:
    return sum(each.seconds for each in delays)
