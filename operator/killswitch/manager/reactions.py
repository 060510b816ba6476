"""How long each policy would take to decide: looked up in the background, reckoned when judged.

`of` answers from what is known at once, so that no judgement waits for Prometheus; `run` asks for
each distinct query of all policies, once a minute, and wakes the policies whose answer changed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from killswitch.api.compiled import CompiledPolicy, CompiledSignal
from killswitch.core.pacing import turns
from killswitch.core.quorum import Meaning
from killswitch.core.reaction import (
    Feeds,
    PolicyReaction,
    Route,
    RuleGroup,
    SignalReaction,
    alerted,
    detected,
    held,
    in_words,
    polled,
    posted,
    scraped,
    told,
    written,
)
from killswitch.core.readings import Blindness, NoAnswer
from killswitch.manager.rounds import Key
from killswitch.ports import Clock, Json, SampleFeeds
from killswitch.settings import Settings
from killswitch.signals import rules
from killswitch.signals.alerts import BLIND

_LOG = structlog.get_logger(__name__)
_AGAIN, _SOON = 60.0, 15.0
"""Seconds until a query is looked up again: after an answer, and where there was none."""
_WIDTH = 8


@dataclass(slots=True)
class _Query:
    """What is known about one query, and whom it concerns."""

    keys: set[Key] = field(default_factory=set)
    due: float = 0.0
    feeds: Feeds | None = None
    """None until it has been looked up."""
    groups: dict[float, RuleGroup | None] = field(default_factory=dict)
    """Its rules, by the `maxAge` of the signals that ask it."""


class Reactions:
    """The reactions of all policies, as far as they are known."""

    def __init__(
        self,
        feeds: SampleFeeds,
        clock: Clock,
        settings: Settings,
        wake: Callable[[Key], None],
    ) -> None:
        """`wake` is called with the policies of which something new is known."""
        self._feeds = feeds
        self._clock = clock
        self._settings = settings
        self._wake = wake
        self._queries: dict[str, _Query] = {}
        self._wanted: dict[Key, frozenset[str]] = {}
        self._woken = asyncio.Event()

    def of(self, key: Key, policy: CompiledPolicy) -> PolicyReaction | None:
        """The policy's reaction; None until each of its queries has been looked up once.

        Its queries are followed from now on.
        """
        wanted = frozenset(each.query for each in policy.signals if each.query)
        self._follow(key, wanted)
        for each in policy.signals:
            if each.query:
                self._follow_rules(self._queries[each.query], each.max_age)
        if any(self._queries[text].feeds is None for text in wanted):
            return None
        return PolicyReaction(tuple(self._signal(each) for each in policy.signals), policy.quorum)

    def forget(self, key: Key) -> None:
        """Follow nothing for this policy any more."""
        self._follow(key, frozenset())

    async def run(self) -> None:
        """Look up what is due until cancelled."""
        while True:
            self._woken.clear()
            now = self._clock.monotonic()
            due = [text for text, each in self._queries.items() if each.due <= now]
            for start in range(0, len(due), _WIDTH):
                await asyncio.gather(*(self._look_up(each) for each in due[start:][:_WIDTH]))
            await self._wait()

    def _follow(self, key: Key, wanted: frozenset[str]) -> None:
        before = self._wanted.pop(key, frozenset())
        if wanted:
            self._wanted[key] = wanted
        for text in wanted - before:
            if text not in self._queries:
                self._queries[text] = _Query()
                self._woken.set()
            self._queries[text].keys.add(key)
        for text in before - wanted:
            self._queries[text].keys.discard(key)
            if not self._queries[text].keys:
                del self._queries[text]

    def _follow_rules(self, query: _Query, max_age: float) -> None:
        if max_age not in query.groups:
            query.groups[max_age] = None
            query.due = 0.0
            self._woken.set()

    async def _wait(self) -> None:
        now = self._clock.monotonic()
        pause = min((each.due - now for each in self._queries.values()), default=_AGAIN)
        try:
            async with asyncio.timeout(max(0.0, pause)):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _look_up(self, text: str) -> None:
        try:
            feeds = await self._feeds.feeds(text)
            groups = await self._look_up_rules(text)
        except Exception:  # noqa: BLE001 - a defect of ours must not end the manager
            _LOG.exception("a look-up of feeds failed", query=text)
            feeds, groups = NoAnswer(Blindness.FAILED, "an internal error, see the log"), {}
        query = self._queries.get(text)
        if query is None:
            return
        pause = _SOON if isinstance(feeds, NoAnswer) else _AGAIN
        query.due = self._clock.monotonic() + pause
        groups = {age: groups.get(age) for age in query.groups}
        if (feeds, groups) != (query.feeds, query.groups):
            query.feeds, query.groups = feeds, groups
            for key in query.keys:
                self._wake(key)

    async def _look_up_rules(self, text: str) -> dict[float, RuleGroup | None]:
        query = self._queries.get(text)
        ages = () if query is None else tuple(query.groups)
        paths = {age: rules.path(rules.Measurement(text, max_age=age)) for age in ages}
        return {age: await self._feeds.rule_group(path) for age, path in paths.items()}

    @property
    def _pace(self) -> float:
        """Seconds between two polls of one query, as the reactor takes them in turns."""
        interval = self._settings.poll_interval
        return interval * turns(len(self._queries), interval=interval)

    def _signal(self, signal: CompiledSignal) -> SignalReaction:
        known = self._queries.get(signal.query)
        then = held(
            # Its own scrapes come more often than samples grow old: the API server sees to it.
            None if known is None or signal.exporter is not None else known.feeds,
            hold_down=signal.rule.hold_down,
            max_age=signal.max_age,
            poll=self._pace + self._settings.prometheus_timeout,
            believed=signal.rule.on_no_data is Meaning.FIRE,
        )
        if signal.detector is not None:
            then = (detected(signal.every), *then)
        return SignalReaction(signal.name, self._routes(signal), then)

    def _routes(self, signal: CompiledSignal) -> tuple[Route, ...]:
        if signal.events is not None:
            return (posted(),)
        if signal.alert is not None:
            return (told(),)
        known = self._queries.get(signal.query)
        if known is None or known.feeds is None:
            return ()
        timeout = self._settings.prometheus_timeout
        found = [polled(known.feeds, every=self._pace, timeout=timeout)]
        group = known.groups.get(signal.max_age)
        if group is not None and group.healthy and BLIND not in group.firing:
            found.append(alerted(known.feeds, every=group.every))
        if signal.metric is not None:
            found.append(written(known.feeds))
        if signal.metric is not None and signal.exporter is not None:
            found.append(scraped(signal.metric.name, signal.scrape_interval))
        return tuple(found)


def status(reaction: PolicyReaction) -> Json:
    """`status.reaction` of a policy."""
    return {
        "worst": _text(reaction.worst),
        "message": str(reaction)[:2048],
        "signals": [
            {
                "name": each.name,
                "worst": _text(each.worst),
                "paths": [str(route)[:1024] for route in each.routes],
            }
            for each in reaction.signals
        ],
    }


def _text(seconds: float | None) -> str:
    return "" if seconds is None else in_words(seconds)
