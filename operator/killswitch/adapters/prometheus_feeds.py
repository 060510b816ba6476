"""Port `SampleFeeds` over a Prometheus API: where a query's samples come from, and how often.

The series of each selector say which job and instance they are scraped from, `/api/v1/targets` at
what interval, `/api/v1/rules` what is recorded rather than scraped, and what alerts ask for. Where
no target is known for a series (Thanos, Mimir, federation, remote write), the interval is estimated
from its samples.

Asked once in a while by the manager, never on the way to a decision. Every fault becomes a
`NoAnswer`.
"""

import asyncio
import contextlib
import math
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar

import aiohttp
import orjson

from killswitch.adapters import promql
from killswitch.adapters.prometheus_http import refusal
from killswitch.core import exporters
from killswitch.core.errors import InvalidPolicyError
from killswitch.core.reaction import Feed, Feeds, RuleGroup
from killswitch.core.readings import Blindness, NoAnswer

Json = Any
T = TypeVar("T")
Source = tuple[str, str]
"""Job and instance."""

_WINDOW, _WINDOW_SECONDS = "5m", 300.0
"""What is looked back at for estimates."""
_FRESH, _FAULT = 60.0, 5.0
"""Seconds for which targets and rules are not asked again, and a fault of theirs is believed."""
_MOST_BYTES = 32_000_000
"""About the targets of 10,000 pods with all their discovered labels; parsed they are many times
that. Beyond it intervals are estimated."""
_MOST_SELECTORS = 64
_DEEPEST = 3
"""Bounds on what one query may read through recording rules of recording rules."""
_DURATION = re.compile(r"(\d+)(ms|[smhdwy])")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604_800, "y": 31_536_000}


class _UnknownError(Exception):
    """Why feeds are not known."""

    def __init__(self, reason: Blindness, detail: str) -> None:
        super().__init__(detail)
        self.answer = NoAnswer(reason, detail)


@dataclass(frozen=True, slots=True)
class _Target:
    """How one instance is scraped; several targets may bear its name."""

    every: float
    took: float


@dataclass(frozen=True, slots=True)
class _Alert:
    """A rule that fires an alert."""

    every: float
    """Seconds between two evaluations."""
    hold: float
    """Seconds of its `for`."""
    query: str
    healthy: bool

    @property
    def delay(self) -> float:
        """Seconds until it fires: to its next evaluation, and with a `for` to the one after that."""
        return self.every + (self.hold + self.every if self.hold else 0.0)


@dataclass(frozen=True, slots=True)
class _Rules:
    """What is loaded."""

    groups: Mapping[str, RuleGroup]
    recorded: Mapping[str, tuple[tuple[float, str], ...]]
    """Metric to the interval and query of each rule that records it."""
    alerts: Mapping[str, tuple[_Alert, ...]]
    """Each rule of an alert, by its name."""


class _Kept(Generic[T]):
    """A value that is asked for again when it is no longer fresh, by one asker at a time.

    A fault is kept for a moment too: else a server that hangs would make each asker wait in turn.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._value: T | _UnknownError | None = None
        self._until = -math.inf
        self._lock = asyncio.Lock()

    async def get(self) -> T:
        """The value; _UnknownError where there is none."""
        async with self._lock:
            if self._value is None or time.monotonic() > self._until:
                self._value, fresh = await self._asked()
                self._until = time.monotonic() + fresh
            if isinstance(self._value, _UnknownError):
                raise self._value
            return self._value

    async def _asked(self) -> tuple[T | _UnknownError, float]:
        """The value or the fault, and for how many seconds it is kept."""
        try:
            return await self._ask(), _FRESH
        except _UnknownError as error:
            return error, _FAULT


class PrometheusFeeds:
    """One Prometheus, Thanos or Mimir. Use as an async context manager."""

    def __init__(self, url: str, timeout: float = 2.0) -> None:
        """Nothing is connected yet. `timeout` (seconds) bounds each request."""
        self._base = url.rstrip("/")
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._targets: _Kept[Mapping[Source, _Target]] = _Kept(self._ask_targets)
        self._rules: _Kept[_Rules] = _Kept(self._ask_rules)

    async def __aenter__(self) -> Self:
        """Open a session."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout), trust_env=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        if self._session is not None:
            await self._session.close()

    async def feeds(self, query: str) -> Feeds:
        """The slowest feed of each job that the query reads, or why they are not known."""
        try:
            selectors = promql.selectors(query)
            budget = [_MOST_SELECTORS]
            found = [feed for each in selectors for feed in await self._read(each, 0, budget)]
        except InvalidPolicyError as error:
            return NoAnswer(Blindness.REJECTED, str(error))
        except _UnknownError as error:
            return error.answer
        return tuple(dict.fromkeys(found))

    async def alert(self, name: str) -> Feeds:
        """The slowest feeds of the rules of this alert, or why they are not known."""
        try:
            return tuple(dict.fromkeys(await self._alerting(name)))
        except _UnknownError as error:
            return error.answer

    async def rule_group(self, name: str) -> RuleGroup | None:
        """The rule group; None where it is not loaded, or that is not known."""
        try:
            return (await self._rules.get()).groups.get(name)
        except _UnknownError:
            return None

    async def _alerting(self, name: str) -> list[Feed]:
        """The feeds of each rule of this alert: any of them may be the one that fires."""
        alerts = (await self._rules.get()).alerts.get(name, ())
        if not alerts:
            raise _UnknownError(Blindness.ABSENT, f"no rule of alert {name} is loaded")
        if not all(each.healthy for each in alerts):
            detail = f"a rule of alert {name} fails, or was not evaluated yet"
            raise _UnknownError(Blindness.FAILED, detail)
        budget, found = [_MOST_SELECTORS], []
        for rule in alerts:
            feeds = await self._read_by(rule.query, f"alert {name}", 0, budget)
            found += [replace(feed, alerted=rule.delay) for feed in feeds]
        return found

    async def _read(self, selector: str, depth: int, budget: list[int]) -> list[Feed]:
        """The feeds of one selector; `budget` counts the selectors that may still be read."""
        budget[0] -= 1
        metric = promql.metric(selector)
        rules = (await self._rules.get()).recorded.get(metric, ())
        if not rules:
            return await self._scraped(selector, metric)
        found = []
        for every, query in rules:
            feeds = await self._read_by(query, metric, depth, budget)
            found += [replace(feed, recorded=feed.recorded + every) for feed in feeds]
        return found

    async def _read_by(self, rule: str, made: str, depth: int, budget: list[int]) -> list[Feed]:
        """The feeds of a rule's query; `made` is what the rule makes."""
        inner = promql.read_by(rule)
        if not inner or depth == _DEEPEST or len(inner) > budget[0]:
            detail = f"{made} is made by a rule that is too intricate to follow"
            raise _UnknownError(Blindness.FAILED, detail)
        return [feed for each in inner for feed in await self._read(each, depth + 1, budget)]

    async def _scraped(self, selector: str, metric: str) -> list[Feed]:
        series = await self._vector(f"group by (job, instance) ({selector})")
        if not series:
            raise _UnknownError(Blindness.ABSENT, f"no target exposes {selector} yet")
        targets = await self._targets.get()
        renewed = await self._renewed(selector) if exporters.of(metric) else {}
        feeds: dict[str, list[Feed]] = defaultdict(list)
        strays = set()
        for job, instance in series:
            target = targets.get((job, instance))
            if target is None:
                strays.add(job)
                continue
            pace = renewed.get((job, instance))
            feed = Feed(metric, target.every, f"job {job}", target.took, renewed=pace)
            feeds[job].append(feed)
        if strays:
            for feed in await self._estimated(selector, metric, strays):
                feeds[feed.origin].append(feed)
        return [max(each, key=lambda feed: feed.worst) for each in feeds.values()]

    async def _renewed(self, selector: str) -> dict[Source, float]:
        """Mean seconds between two changes of the liveliest series of each instance."""
        query = f"max by (job, instance) (changes({selector}[{_WINDOW}]))"
        counts = await self._vector(query)
        return {source: _WINDOW_SECONDS / count for source, count in counts.items() if count}

    async def _estimated(self, selector: str, metric: str, jobs: Iterable[str]) -> list[Feed]:
        """For each job the time between samples of the series that has most of them.

        A series that began lately has few: its neighbours tell the interval of all of them.
        """
        query = f"max by (job) (count_over_time({selector}[{_WINDOW}]))"
        counts = {job: count for (job, _), count in (await self._vector(query)).items()}
        found = []
        for job in sorted(jobs):
            count = counts.get(job, 0.0)
            if count < 2:
                detail = f"{selector} has no target, and fewer than two samples in {_WINDOW}"
                raise _UnknownError(Blindness.ABSENT, detail)
            origin = f"job {job}" if job else metric
            found.append(Feed(metric, _WINDOW_SECONDS / (count - 1), origin, estimated=True))
        return found

    async def _vector(self, query: str) -> dict[Source, float]:
        """Job and instance to value. A label that a series does not have is empty."""
        answer = await self._get("query", {"query": query, "timeout": f"{self._timeout:g}s"})
        with _foreign():
            return {
                (each["metric"].get("job", ""), each["metric"].get("instance", "")): float(
                    each["value"][1]
                )
                for each in answer["result"]
            }

    async def _ask_targets(self) -> Mapping[Source, _Target]:
        """All active targets; none where the server does not know what a target is."""
        found: dict[Source, _Target] = {}
        with _foreign():
            for each in (await self._known("targets", state="active")).get("activeTargets", ()):
                labels = each["labels"]
                source = (labels.get("job", ""), labels.get("instance", ""))
                new = _Target(
                    _seconds(each["scrapeInterval"]), float(each.get("lastScrapeDuration") or 0)
                )
                old = found.get(source, new)
                found[source] = _Target(max(old.every, new.every), max(old.took, new.took))
        return found

    async def _ask_rules(self) -> _Rules:
        groups, recorded, alerts = {}, defaultdict(list), defaultdict(list)
        with _foreign():
            for group in (await self._known("rules")).get("groups", ()):
                every, rules = float(group["interval"]), group.get("rules") or ()
                firing = {each["name"] for each in rules if each.get("state") == "firing"}
                healthy = all(each.get("health") == "ok" for each in rules)
                groups[group["name"]] = RuleGroup(every, healthy, frozenset(firing))
                for rule in rules:
                    name, query = rule["name"], rule["query"]
                    if rule.get("type") == "recording":
                        recorded[name].append((every, query))
                    else:
                        healthy = rule.get("health") == "ok"
                        hold = float(rule.get("duration") or 0)
                        alerts[name].append(_Alert(every, hold, query, healthy))
        return _Rules(groups, _frozen(recorded), _frozen(alerts))

    async def _known(self, what: str, **params: str) -> Json:
        """The answer, or an empty one from a server that has no such page."""
        try:
            return await self._get(what, params)
        except _UnknownError as error:
            if error.answer.reason in {Blindness.UNREACHABLE, Blindness.TIMEOUT}:
                raise
            return {}

    async def _get(self, what: str, params: Mapping[str, str]) -> Json:
        """`data` of an answer; _UnknownError for every other end of a request."""
        if self._session is None:
            raise RuntimeError("use it as an async context manager")
        url = f"{self._base}/api/v1/{what}"
        try:
            async with self._session.get(url, params=params, allow_redirects=False) as response:
                body = await _bounded(response)
        except TimeoutError as error:
            detail = f"no answer within {self._timeout:g} s"
            raise _UnknownError(Blindness.TIMEOUT, detail) from error
        except aiohttp.ClientError as error:
            raise _UnknownError(Blindness.UNREACHABLE, str(error)[:300]) from error
        if response.status != 200:
            told = refusal(response.status, response.headers.get("Content-Type", ""), body)
            raise _UnknownError(told.reason, told.detail)
        with _foreign():
            envelope = orjson.loads(body)
            if envelope["status"] != "success":
                raise ValueError(envelope["status"])
            return envelope["data"]


def _frozen(lists: Mapping[str, list[T]]) -> Mapping[str, tuple[T, ...]]:
    return {name: tuple(each) for name, each in lists.items()}


@contextlib.contextmanager
def _foreign() -> Iterator[None]:
    """What is not shaped as Prometheus answers is not its answer."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        detail = f"not an answer of Prometheus: {error!r}"[:300]
        raise _UnknownError(Blindness.BAD_ANSWER, detail) from error


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise _UnknownError(Blindness.FAILED, f"an answer of more than {_MOST_BYTES} bytes")
    return bytes(body)


def _seconds(text: str) -> float:
    """Seconds of a duration as Prometheus writes it; ValueError for anything else."""
    parts = _DURATION.findall(text)
    if not parts or "".join(count + unit for count, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration")
    return float(sum(int(count) * _UNITS[unit] for count, unit in parts))
