"""How long each policy would take to decide: looked up in the background, reckoned when judged.

`of` answers from what is known at once, so that no judgement waits for Prometheus; `run` asks for
each distinct query and alert of all policies, once a minute, and wakes the policies whose answer
changed. Which paths work, the reactor has written on the policy.
"""

import asyncio
from collections.abc import Callable, Mapping
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
    relayed,
    scraped,
    written,
)
from killswitch.core.readings import Blindness, NoAnswer, Path
from killswitch.manager.rounds import Key
from killswitch.ports import Clock, Json, SampleFeeds
from killswitch.settings import Settings
from killswitch.signals import rules
from killswitch.signals.alerts import BLIND

_LOG = structlog.get_logger(__name__)
_AGAIN, _SOON = 60.0, 15.0
"""Seconds until a query is looked up again: after an answer, and where there was none."""
_WIDTH = 8
_HEARD, _SILENT = "Heard", "Silent"

PathStates = Mapping[tuple[str, str], str]
"""Signal and path to the state that the reactor wrote last."""


@dataclass(frozen=True, slots=True)
class _Alert:
    """What is looked up for an alert of other rules."""

    name: str


_Asked = str | _Alert
"""A query, or an alert."""


@dataclass(slots=True)
class _Query:
    """What is known about one query or alert, and whom it concerns."""

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
        self._queries: dict[_Asked, _Query] = {}
        self._polled = 0
        """How many of them are queries."""
        self._wanted: dict[Key, frozenset[_Asked]] = {}
        self._woken = asyncio.Event()

    def of(self, key: Key, policy: CompiledPolicy, states: PathStates) -> PolicyReaction | None:
        """The policy's reaction; None until each of its queries has been looked up once.

        Its queries are followed from now on.
        """
        asked = (_asked(each) for each in policy.signals)
        wanted = frozenset(each for each in asked if each is not None)
        self._follow(key, wanted)
        for each in policy.signals:
            if each.query:
                self._follow_rules(self._queries[each.query], each.max_age)
        if any(self._queries[each].feeds is None for each in wanted):
            return None
        signals = tuple(self._signal(each, states) for each in policy.signals)
        return PolicyReaction(signals, policy.quorum)

    def forget(self, key: Key) -> None:
        """Follow nothing for this policy any more."""
        self._follow(key, frozenset())

    async def run(self) -> None:
        """Look up what is due until cancelled."""
        while True:
            self._woken.clear()
            now = self._clock.monotonic()
            due = [asked for asked, each in self._queries.items() if each.due <= now]
            for start in range(0, len(due), _WIDTH):
                await asyncio.gather(*(self._look_up(each) for each in due[start:][:_WIDTH]))
            await self._wait()

    def _follow(self, key: Key, wanted: frozenset[_Asked]) -> None:
        before = self._wanted.pop(key, frozenset())
        if wanted:
            self._wanted[key] = wanted
        for asked in wanted - before:
            if asked not in self._queries:
                self._queries[asked] = _Query()
                self._polled += isinstance(asked, str)
                self._woken.set()
            self._queries[asked].keys.add(key)
        for asked in before - wanted:
            self._queries[asked].keys.discard(key)
            if not self._queries[asked].keys:
                del self._queries[asked]
                self._polled -= isinstance(asked, str)

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

    async def _look_up(self, asked: _Asked) -> None:
        groups: dict[float, RuleGroup | None] = {}
        try:
            if isinstance(asked, _Alert):
                feeds = await self._feeds.alert(asked.name)
            else:
                feeds = await self._feeds.feeds(asked)
                groups = await self._look_up_rules(asked)
        except Exception:  # noqa: BLE001 - a defect of ours must not end the manager
            _LOG.exception("a look-up of feeds failed", asked=str(asked))
            feeds, groups = NoAnswer(Blindness.FAILED, "an internal error, see the log"), {}
        query = self._queries.get(asked)
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
        return interval * turns(self._polled, interval=interval)

    def _signal(self, signal: CompiledSignal, states: PathStates) -> SignalReaction:
        routes = self._routes(signal, states)
        counted = {each.path for each in routes if each.worst is not None and not each.provided}
        # A policy is accepted only if its own scrapes come more often than samples grow old.
        known = None if Path.SCRAPE in counted else self._queries.get(signal.query)
        poll = self._pace + self._settings.prometheus_timeout
        then = held(
            None if known is None else known.feeds,
            hold_down=signal.rule.hold_down,
            max_age=signal.max_age,
            poll=0.0 if Path.REMOTE_WRITE in counted else poll,
            believed=signal.rule.on_no_data is Meaning.FIRE,
        )
        if signal.detector is not None:
            then = (detected(signal.every), *then)
        return SignalReaction(signal.name, routes, then)

    def _routes(self, signal: CompiledSignal, states: PathStates) -> tuple[Route, ...]:
        if signal.events is not None:
            return (posted(),)
        asked = _asked(signal)
        known = None if asked is None else self._queries.get(asked)
        if known is None or known.feeds is None:
            return ()
        if signal.alert is not None:
            return (relayed(known.feeds),)
        timeout = self._settings.prometheus_timeout
        found = [polled(known.feeds, every=self._pace, timeout=timeout)]
        group = None if signal.detector else known.groups.get(signal.max_age)
        if group is not None and group.healthy and BLIND not in group.firing:
            path = rules.path(rules.Measurement(signal.query, max_age=signal.max_age))
            silent = states.get((signal.name, path)) == _SILENT
            found.append(alerted(known.feeds, every=group.every, silent=silent))
        if signal.metric is not None:
            heard = states.get((signal.name, Path.REMOTE_WRITE)) == _HEARD
            found.append(written(known.feeds, heard=heard))
        if signal.metric is not None and signal.exporter is not None:
            origin, every = str(signal.exporter), signal.scrape_interval
            silent = states.get((signal.name, origin)) == _SILENT
            found.append(
                scraped(signal.metric.name, origin, known.feeds, every=every, silent=silent)
            )
        return tuple(found)


def states(body: Json) -> PathStates:
    """The states of paths that the reactor has written on a policy."""
    return {
        (signal["name"], path["path"]): path["state"]
        for signal in body.get("status", {}).get("signals", ())
        for path in signal.get("paths", ())
    }


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


def _asked(signal: CompiledSignal) -> _Asked | None:
    """What is looked up for a signal; nothing for an event."""
    return signal.query or (_Alert(signal.alert.alert.name) if signal.alert else None)


def _text(seconds: float | None) -> str:
    return "" if seconds is None else in_words(seconds)
