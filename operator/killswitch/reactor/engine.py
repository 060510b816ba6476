"""Observe, decide, act: the reactor's heart, written to be read from top to bottom.

    a poll answers       `deliver`            readings of every policy that asks this query
    a sample is pushed   `push`               trips the signals that name its metric, never clears
    an alert arrives     `alert`              trips the signal that it refers to, never clears
    an event arrives     `hear`               counted over the windows of the signals that want it
    readings change      `_judge`             facts → event → switch → effect
    effect ENGAGE        `_fire`              Shutdown(s), evidence, then the finisher
    a Shutdown appears   `shutdown_changed`   its policy is latched; the finisher completes it

Everything runs in one event loop; nothing here waits between a sample and the request that
engages. The engine keeps no truth of its own: readings are read again, states are derived from
stored Shutdowns, stops are finished from what the API server stores. A fire that was accepted in
one namespace and refused in another goes on, as long as its demand lasts, with what is not held.
"""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any

import structlog

from killswitch.api import orders
from killswitch.api.acceptance import accept
from killswitch.api.compiled import CompiledPolicy, CompiledSignal
from killswitch.api.orders import Order
from killswitch.api.policies import Mode
from killswitch.core import decisions, evidence, interlocks, plans, quorum, readings
from killswitch.core.errors import ConflictError, InvalidPolicyError, KillSwitchError
from killswitch.core.interlocks import Cause, Inhibition, Request
from killswitch.core.kinds import RECORDS
from killswitch.core.plans import Plan, Stop
from killswitch.core.quorum import Tally
from killswitch.core.readings import Answer, Blindness, NoAnswer, Path, Reading, Verdict
from killswitch.core.switch import Effect, Event, State, move
from killswitch.core.windows import Window
from killswitch.ports import Clock, Cluster, Json, QueryChecker
from killswitch.reactor import testimony
from killswitch.reactor.fan_out import cancel
from killswitch.reactor.finisher import Finisher, Progressed
from killswitch.reactor.persistence import persistently
from killswitch.reactor.stop import StopSequence
from killswitch.reactor.view import View, engaged
from killswitch.reactor.watched import Identity, Watched
from killswitch.signals import alerts, events
from killswitch.signals.episodes import Arrival

_RETRY = 1.0
"""Seconds before a refused engagement is tried again while the demand lasts."""
_ORDER = 5.0
"""Seconds for which an order waits for an API server that is away; then all is judged anew."""
_AGAIN = 1.0
"""Seconds between two plans of a policy that is inhibited, or latched while its demand lasts."""
_LOOK = 1.0
"""Seconds between two looks at windows in which nothing happens: `observedAt` shows that we listen."""
_WAITING = frozenset({State.PENDING, State.INHIBITED, State.LATCHED})
"""States that change by time alone."""
_LOG = structlog.get_logger(__name__)


class Engine:
    """All policies of the cluster, judged whenever a sample or an object arrives."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        checker: QueryChecker,
        identity: Identity,
        *,
        progressed: Progressed = lambda _: None,
        hears_events: bool = False,
    ) -> None:
        """Nothing is judged before `start`: a view without Shutdowns would fire twice.

        `hears_events`: whether anybody can post events; signals that count them are Unknown if not.
        """
        self.hears_events = hears_events
        self._cluster = cluster
        self._clock = clock
        self._checker = checker
        self._identity = identity
        self._sequence = StopSequence(cluster, clock, records_namespace=identity.namespace)
        self._finisher = Finisher(cluster, clock, self._sequence, identity.replica, progressed)
        self._asked_by: dict[str, set[str]] = defaultdict(set)
        self._named_by: dict[str, list[tuple[str, CompiledSignal]]] = {}
        self._counting: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[str] = set()
        self._started = False
        self.view = View(
            now=clock.now,
            username=identity.username,
            policies_changed=self.policy_changed,
            policies_removed=self.policy_removed,
            shutdowns_changed=self.shutdown_changed,
            shutdowns_removed=self.shutdown_removed,
        )
        self.watched: dict[str, Watched] = {}
        self.dirty: set[str] = set()
        """uids of policies whose status has something new to say."""

    @property
    def queries(self) -> set[str]:
        """Every query that some policy asks."""
        return set(self._asked_by)

    @property
    def metrics(self) -> frozenset[str]:
        """Every metric whose pushed samples some policy takes."""
        return frozenset(self._named_by)

    def start(self) -> None:
        """The view is complete: judge every policy, finish every stop."""
        self._started = True
        for shutdown in list(self.view.shutdowns.objects.values()):
            self._finisher.consider(shutdown, self.view)
        self._evaluate_all(list(self.watched))

    async def close(self) -> None:
        """Do nothing more; what was under way is cut off where it stands."""
        await cancel([*self._tasks])
        await self._finisher.close()

    def deliver(self, query: str, answer: Answer | NoAnswer) -> None:
        """A source answered: judge every signal that asks this query."""
        now = self._clock.now()
        for uid in tuple(self._asked_by.get(query, ())):
            watched = self.watched[uid]
            for signal in watched.policy.signals:
                if signal.query == query:
                    polled = readings.judge(
                        signal.name, signal.threshold, answer, max_age=signal.max_age, now=now
                    )
                    watched.readings[signal.name] = readings.after_poll(
                        watched.readings[signal.name], polled, max_age=signal.max_age
                    )
            self._evaluate(watched)

    def push(
        self,
        name: str,
        labels: Iterable[tuple[str, str]],
        value: float,
        *,
        sampled_at: float,
        path: Path,
    ) -> None:
        """A sample of a metric arrived by itself: it may trip signals, and clears none.

        One dict look-up where no policy names the metric. NaN, and so the end of a series, is
        beyond no threshold.
        """
        for uid, signal in self._named_by.get(name, ()):
            if signal.metric is None or not signal.metric.matches(labels):
                continue
            trip = readings.pushed(
                signal.name,
                signal.threshold,
                value,
                sampled_at=sampled_at,
                path=path,
                max_age=signal.max_age,
                now=self._clock.now(),
            )
            if trip is not None:
                self._trip(self.watched[uid], trip)

    def alert(self, alert: alerts.Alert) -> Arrival:
        """An alert of a rule for policies arrived: the signal it refers to trips while it fires.

        It says since when, not of which sample: a poll whose samples are all newer than its start
        knows better, and the next poll decides.
        """
        reference = alert.reference
        if reference is None or alert.name != alerts.FIRE:
            return Arrival.NOT_OURS
        watched = self.watched.get(reference.policy)
        if watched is None:
            return Arrival.UNKNOWN_POLICY
        if reference.generation != watched.policy.generation:
            older = reference.generation < watched.policy.generation
            return Arrival.OLDER_GENERATION if older else Arrival.NEWER_GENERATION
        signal = next((s for s in watched.policy.signals if s.name == reference.signal), None)
        if signal is None or not signal.query:
            return Arrival.UNKNOWN_SIGNAL
        now, before = self._clock.now(), watched.readings[signal.name]
        if not alert.firing(now):
            return Arrival.RESOLVED
        if alert.value is not None and not signal.threshold.crossed(alert.value):
            return Arrival.OVERTAKEN
        if before.verdict is Verdict.TRIPPED:
            return Arrival.REPEATED
        if (before.sampled_at or 0.0) > alert.starts_at:
            return Arrival.OVERTAKEN
        self._trip(watched, replace(alerts.tripped(alert, now), path=Path.ALERT))
        return Arrival.BEGAN

    def hear(self, event: events.Event) -> None:
        """An event arrived: a heartbeat of its source, and counted by every signal that wants it."""
        now = self._clock.now()
        for uid in tuple(self._counting):
            watched = self.watched[uid]
            namespace = watched.policy.namespace
            concerned = not namespace or event.namespace in {None, namespace}
            heard = False
            for signal in watched.policy.signals:
                if (rule := signal.events) is None or rule.source not in {None, event.source}:
                    continue
                heard = True
                window = watched.windows[signal.name]
                window.heard(now)
                if concerned and event.type == rule.type and now - event.time <= signal.max_age:
                    origin = f"{event.id} from {event.source}"
                    window.add(min(event.time, now), event.count, origin)
            if heard:
                self._look(watched, now)

    def policy_changed(self, body: Json) -> None:
        """A policy was added or changed: compile it, keep what is still true of the old one."""
        uid = body["metadata"]["uid"]
        before = self.watched.get(uid)
        if before and before.policy.generation == body["metadata"].get("generation", 0):
            return  # only its status changed
        self._forget(uid)
        try:
            policy = accept(body, self._checker.check)
        except InvalidPolicyError:
            return  # the manager says why on its status; an invalid policy is not half armed
        now = self._clock.now()
        watched = Watched(policy, _readings(policy, before, now), _windows(policy, before, now))
        if before is not None:
            watched.state, watched.since = before.state, before.since
        self.watched[uid] = watched
        for signal in policy.signals:
            if signal.query:
                self._asked_by[signal.query].add(uid)
            if signal.metric is not None:
                self._named_by.setdefault(signal.metric.name, []).append((uid, signal))
        if watched.windows:
            self._counting.add(uid)
            self._read_windows(watched, now)
        self._evaluate(watched)

    def policy_removed(self, body: Json) -> None:
        """A policy is gone. What it engaged stays: deleting a policy releases nothing."""
        self._forget(body["metadata"]["uid"])

    def shutdown_changed(self, body: Json) -> None:
        """A Shutdown appeared or changed: finish it, and tell its policy."""
        if self._started:
            self._finisher.consider(body, self.view)
        self._evaluate_all([(body["spec"].get("policy") or {}).get("uid", "")])

    def shutdown_removed(self, body: Json) -> None:
        """A released Shutdown was deleted."""
        self._evaluate_all([(body["spec"].get("policy") or {}).get("uid", "")])

    def due(self) -> None:
        """Judge again what changes by time alone: windows, hold-downs, cooldowns, bypasses, retries."""
        now = self._clock.now()
        for uid in tuple(self._counting):
            if now >= self.watched[uid].look_at:
                self._look(self.watched[uid], now)
        for uid in tuple(self._waiting):
            watched = self.watched[uid]  # `_forget` takes it out of both
            if watched.state is State.PENDING or now >= watched.plan_at:
                self._evaluate(watched)

    def _trip(self, watched: Watched, trip: Reading) -> None:
        """Take a pushed trip; the hundredth of an anomaly that is known changes no decision."""
        before = watched.readings[trip.signal]
        if readings.superseded(trip, before):
            return
        watched.readings[trip.signal] = trip
        if before.verdict is not Verdict.TRIPPED:
            self._evaluate(watched)

    def _look(self, watched: Watched, now: float) -> None:
        """Read the windows of a policy; judge it where they say something else than before."""
        if self._read_windows(watched, now):
            self._evaluate(watched)

    def _read_windows(self, watched: Watched, now: float) -> bool:
        """Whether a verdict, or the reason of an Unknown, has changed."""
        changed = False
        for name, window in watched.windows.items():
            before, reading = watched.readings[name], window.reading(name, now)
            if not self.hears_events:
                message = "nobody can post events: no receiver is set up, or no key"
                reading = Reading(
                    name, Verdict.UNKNOWN, message, now, Blindness.SILENT, path=Path.EVENT
                )
            watched.readings[name] = reading
            changed |= (before.verdict, before.reason) != (reading.verdict, reading.reason)
        due = min((window.due(now) for window in watched.windows.values()), default=now)
        watched.look_at = min(due, now + _LOOK)
        return changed

    def _evaluate_all(self, uids: Iterable[str]) -> None:
        for uid in uids:
            if uid in self.watched:
                self._evaluate(self.watched[uid])

    def _evaluate(self, watched: Watched) -> None:
        """Judge one policy; a defect of ours is told on its status and spares all others."""
        if not self._started:
            return
        try:
            self._judge(watched)
        except Exception as error:
            found = Inhibition(Cause.DEFECT, f"nothing was decided: {error!r}")
            if watched.inhibition != found:  # once, not at each sample
                _LOG.exception("a policy could not be judged", policy=str(watched.policy))
                watched.inhibition = found
                self.dirty.add(watched.policy.uid)

    def _judge(self, watched: Watched) -> None:
        """Facts → event → switch → effect, for one policy."""
        policy, now = watched.policy, self._clock.now()
        watched.since = quorum.tripped_since(policy.rules, watched.readings, watched.since)
        tally = quorum.tally(
            policy.rules, watched.readings, watched.since, needed=policy.quorum, now=now
        )
        holders = [each for each in self.view.shutdowns_of(policy.uid) if engaged(each)]
        plan, inhibition = None, None
        if tally.demanded and holders and now < watched.plan_at:
            inhibition = watched.inhibition
        elif tally.demanded:
            watched.plan_at = now + _AGAIN
            plan = plans.for_policy(policy.queries, self.view.inventory, self._identity.boundaries)
            inhibition = self._inhibition(watched, plan, holders, now)
        facts = decisions.Facts(
            enabled=policy.mode is not Mode.DISABLED,
            # Where something is still to be engaged and nothing speaks against it, this is a fire.
            engaged=bool(holders)
            and (plan is None or inhibition is not None or not _left(plan, holders)),
            tally=tally,
            inhibition=inhibition,
        )
        if watched.note(tally, inhibition):
            self.dirty.add(policy.uid)
        self._switch(watched, decisions.event(facts), plan, tally)

    def _inhibition(
        self, watched: Watched, plan: Plan, holders: Sequence[Json], now: float
    ) -> Inhibition | None:
        """Why this plan may not be engaged now; None also where all of it is held already."""
        if holders and not _left(plan, holders):
            return None
        request = self._request(watched.policy, plan, now)
        return watched.refusal(now) or interlocks.inhibition(request)

    def _request(self, policy: CompiledPolicy, plan: Plan, now: float) -> Request:
        """Everything the interlocks may look at."""
        home = policy.namespace or self._identity.namespace
        released = self.view.released_at(policy.uid)
        return Request(
            dry_run=policy.mode is Mode.DRY_RUN,
            bypass=self.view.bypass(home, policy.name, now),
            cooldown_ends=None if released is None else released + policy.cooldown,
            plan=plan,
            max_targets=policy.max_targets,
            max_percent=policy.max_percent,
            now=now,
        )

    def _switch(self, watched: Watched, event: Event, plan: Plan | None, tally: Tally) -> None:
        """Move the switch; do what the transition asks for."""
        before = watched.state
        transition = move(before, event)
        watched.state = transition.state
        if watched.state in _WAITING and self.watched.get(watched.policy.uid) is watched:
            self._waiting.add(watched.policy.uid)
        else:
            self._waiting.discard(watched.policy.uid)
        if watched.state is not before:
            self.dirty.add(watched.policy.uid)
        if transition.effect is Effect.ENGAGE and plan is not None:
            self._spawn(self._fire(watched, plan, tally))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fire(self, watched: Watched, plan: Plan, tally: Tally) -> None:
        """Engage every Shutdown of the plan that is not held yet, then have it finished.

        One that is refused holds up no other: it is tried again while the demand lasts.
        """
        policy = watched.policy
        try:
            problems = await self._engage_all(policy, plan, tally)
        except Exception as error:
            _LOG.exception("a fire failed", policy=str(policy))
            problems = [repr(error)]
        # The policy may have been edited meanwhile: its present form is told. It may be gone.
        current = self.watched.get(policy.uid)
        if current is None:
            return
        if problems:
            self._refused(current, "; ".join(problems))
        else:
            self._switch(current, Event.ENGAGED, None, tally)
            _LOG.info("fired", policy=str(policy), tally=str(tally), targets=plan.count)

    async def _engage_all(self, policy: CompiledPolicy, plan: Plan, tally: Tally) -> list[str]:
        """Why Shutdowns of this fire were not accepted; empty when all were."""
        decided = self._clock.now()
        statement = testimony.statement(policy, tally, plan, self._identity.replica, decided)
        stored = self.view.shutdowns_of(policy.uid)
        batch = orders.for_policy(
            policy,
            _left(plan, [each for each in stored if engaged(each)]),
            number=orders.episode(
                [(each["spec"]["policy"]["episode"], engaged(each)) for each in stored]
            ),
            requested_by=self._identity.username,
            reason=testimony.reason(policy, tally),
            digest=evidence.digest(statement),
        )
        acts = (self._engage(order, statement, decided) for order in batch)
        outcomes = await asyncio.gather(*acts, return_exceptions=True)
        problems = []
        for outcome in outcomes:
            if isinstance(outcome, KillSwitchError):
                problems.append(str(outcome))
            elif outcome is not None:
                raise outcome
        return problems

    async def _engage(self, order: Order, statement: Json, decided: float) -> None:
        """One Shutdown: lock first; the stop itself goes on without being waited for."""
        self._finisher.announce(order, statement, decided)
        shutdown = await persistently(
            self._clock, lambda: self._sequence.engage(order), within=_ORDER
        )
        self._finisher.start(shutdown, order.stops)
        if shutdown["spec"].get("evidenceDigest") == order.body["spec"]["evidenceDigest"]:
            self._spawn(self._testify(order, shutdown, statement))
        # Otherwise another replica engaged with its own evidence and stores that.

    async def _testify(self, order: Order, shutdown: Json, statement: Json) -> None:
        """Store the evidence; whether that succeeds changes nothing about the lock."""
        namespace = order.namespace or self._identity.namespace
        record = orders.evidence_record(shutdown, statement, namespace)
        try:
            await persistently(
                self._clock, lambda: self._cluster.create(RECORDS, record, namespace)
            )
        except ConflictError:
            return  # stored already
        except KillSwitchError as error:
            _LOG.error(
                "evidence not stored", shutdown=order.name, error=str(error)
            )  # expected, told whole

    def _refused(self, watched: Watched, message: str) -> None:
        """Something was not locked: say so, and try again while the demand lasts."""
        if watched.refused != message:  # once, not at each attempt
            _LOG.warning("not engaged", policy=str(watched.policy), problem=message)
        watched.refused = message
        watched.retry_at = self._clock.now() + _RETRY
        watched.inhibition = Inhibition(Cause.REFUSED, message)
        self.dirty.add(watched.policy.uid)
        if watched.state is State.FIRING:
            watched.state = move(watched.state, Event.REFUSED).state

    def _forget(self, uid: str) -> None:
        """Watch this policy no longer."""
        self._waiting.discard(uid)
        self._counting.discard(uid)
        before = self.watched.pop(uid, None)
        for query in {s.query for s in before.policy.signals if s.query} if before else ():
            self._asked_by[query].discard(uid)
            if not self._asked_by[query]:
                del self._asked_by[query]
        for metric in {s.metric.name for s in before.policy.signals if s.metric} if before else ():
            self._named_by[metric] = [each for each in self._named_by[metric] if each[0] != uid]
            if not self._named_by[metric]:
                del self._named_by[metric]


def _left(plan: Plan, holders: Sequence[Json]) -> tuple[Stop, ...]:
    """What of the plan these engaged Shutdowns do not hold."""
    return plans.not_held(
        plan,
        ((each["kind"], each["metadata"].get("namespace", ""), each["spec"]) for each in holders),
    )


def _readings(policy: CompiledPolicy, before: Watched | None, now: float) -> dict[str, Reading]:
    """Not read yet, for every signal; the first poll follows at once."""
    known = before.readings if before else {}
    asked = {signal.name: signal for signal in before.policy.signals} if before else {}
    return {
        signal.name: known[signal.name]
        if asked.get(signal.name) == signal
        else readings.never_read(signal.name, now)
        for signal in policy.signals
    }


def _windows(policy: CompiledPolicy, before: Watched | None, now: float) -> dict[str, Window]:
    """A window for every signal that counts events: what it has counted stays while it is the same."""
    known = before.windows if before else {}
    return {
        signal.name: known[signal.name]
        if signal.name in known and known[signal.name].rule == signal.events
        else Window(signal.events, now)
        for signal in policy.signals
        if signal.events is not None
    }
