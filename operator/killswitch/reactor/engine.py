"""Observe, decide, act: the reactor's heart, written to be read from top to bottom.

    a sample arrives     `deliver`            readings of every policy that asks this query
    readings change      `_evaluate`          facts → event → switch → effect
    effect ENGAGE        `_fire`              evidence, Shutdown(s), then the finisher
    a Shutdown appears   `shutdown_changed`   its policy is latched; the finisher completes it

Everything runs in one event loop; nothing here waits between a sample and the request that
engages. The engine keeps no truth of its own: readings are read again, states are derived from
stored Shutdowns, stops are finished from what the API server stores.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from killswitch.api import orders
from killswitch.api.acceptance import accept
from killswitch.api.compiled import CompiledPolicy
from killswitch.api.orders import Order
from killswitch.api.policies import Mode
from killswitch.core import decisions, evidence, interlocks, plans, quorum, readings
from killswitch.core.errors import ConflictError, InvalidPolicyError, KillSwitchError
from killswitch.core.interlocks import Cause, Inhibition, Request
from killswitch.core.kinds import RECORDS
from killswitch.core.plans import Plan
from killswitch.core.quorum import Tally
from killswitch.core.readings import Answer, NoAnswer, Reading
from killswitch.core.switch import Effect, Event, State, move
from killswitch.ports import Clock, Cluster, Json, QueryChecker
from killswitch.reactor import testimony
from killswitch.reactor.fan_out import cancel
from killswitch.reactor.finisher import Finisher
from killswitch.reactor.persistence import persistently
from killswitch.reactor.stop import StopSequence
from killswitch.reactor.view import View, engaged
from killswitch.reactor.watched import Identity, Watched

_RETRY = 1.0
"""Seconds before a refused engagement is tried again while the demand lasts."""


class Engine:
    """All policies of the cluster, judged whenever a sample or an object arrives."""

    def __init__(
        self, cluster: Cluster, clock: Clock, checker: QueryChecker, identity: Identity
    ) -> None:
        """Nothing is judged before `start`: a view without Shutdowns would fire twice."""
        self._cluster = cluster
        self._clock = clock
        self._checker = checker
        self._identity = identity
        self._sequence = StopSequence(cluster, clock, records_namespace=identity.namespace)
        self._finisher = Finisher(cluster, clock, self._sequence, identity.replica)
        self._asked_by: dict[str, set[str]] = defaultdict(set)
        self._fires: set[asyncio.Task[None]] = set()
        self._started = False
        self.view = View(
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
        return {query for query, askers in self._asked_by.items() if askers}

    def start(self) -> None:
        """The view is complete: judge every policy, finish every stop."""
        self._started = True
        for shutdown in list(self.view.shutdowns.objects.values()):
            self._finisher.consider(shutdown, self.view)
        self._evaluate_all(list(self.watched))

    async def close(self) -> None:
        """Do nothing more; what was under way is cut off where it stands."""
        await cancel([*self._fires])
        await self._finisher.close()

    def deliver(self, query: str, answer: Answer | NoAnswer) -> None:
        """A source answered: judge every signal that asks this query."""
        now = self._clock.now()
        for uid in tuple(self._asked_by.get(query, ())):
            watched = self.watched[uid]
            for signal in watched.policy.signals:
                if signal.query == query:
                    watched.readings[signal.name] = readings.judge(
                        signal.name, signal.threshold, answer, max_age=signal.max_age, now=now
                    )
            self._evaluate(watched)

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
            # The manager says why on its status; an invalid policy is not half armed.
            self.watched.pop(uid, None)
            return
        watched = Watched(policy, _readings(policy, before, self._clock.now()))
        if before is not None:
            watched.state, watched.since = before.state, before.since
        self.watched[uid] = watched
        for signal in policy.signals:
            self._asked_by[signal.query].add(uid)
        self._evaluate(watched)

    def policy_removed(self, body: Json) -> None:
        """A policy is gone. What it engaged stays: deleting a policy releases nothing."""
        uid = body["metadata"]["uid"]
        self._forget(uid)
        self.watched.pop(uid, None)

    def shutdown_changed(self, body: Json) -> None:
        """A Shutdown appeared or changed: finish it, and tell its policy."""
        if self._started:
            self._finisher.consider(body, self.view)
        self._evaluate_all([(body["spec"].get("policy") or {}).get("uid", "")])

    def shutdown_removed(self, body: Json) -> None:
        """A released Shutdown was deleted."""
        self._evaluate_all([(body["spec"].get("policy") or {}).get("uid", "")])

    def due(self) -> None:
        """Judge again what changes by time alone: hold-downs, cooldowns, bypasses, retries."""
        waiting = {State.PENDING, State.INHIBITED}
        self._evaluate_all([uid for uid, each in self.watched.items() if each.state in waiting])

    def _evaluate_all(self, uids: Iterable[str]) -> None:
        for uid in uids:
            if uid in self.watched:
                self._evaluate(self.watched[uid])

    def _evaluate(self, watched: Watched) -> None:
        """Facts → event → switch → effect, for one policy."""
        if not self._started:
            return
        policy, now = watched.policy, self._clock.now()
        watched.since = quorum.tripped_since(policy.rules, watched.readings, watched.since)
        tally = quorum.tally(
            policy.rules, watched.readings, watched.since, needed=policy.quorum, now=now
        )
        plan, inhibition = None, None
        if tally.demanded:
            plan = plans.for_policy(policy.queries, self.view.inventory, self._identity.boundaries)
            inhibition = watched.refusal(now) or interlocks.inhibition(
                self._request(policy, plan, now)
            )
        facts = decisions.Facts(
            enabled=policy.mode is not Mode.DISABLED,
            engaged=any(engaged(each) for each in self.view.shutdowns_of(policy.uid)),
            tally=tally,
            inhibition=inhibition,
        )
        if watched.note(tally, inhibition):
            self.dirty.add(policy.uid)
        self._switch(watched, decisions.event(facts), plan, tally)

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
        if watched.state is not before:
            self.dirty.add(watched.policy.uid)
        if transition.effect is Effect.ENGAGE and plan is not None:
            task = asyncio.create_task(self._fire(watched, plan, tally))
            self._fires.add(task)
            task.add_done_callback(self._fires.discard)

    async def _fire(self, watched: Watched, plan: Plan, tally: Tally) -> None:
        """Engage every Shutdown of the plan, then have it finished."""
        policy, decided = watched.policy, self._clock.now()
        statement = testimony.statement(policy, tally, plan, self._identity.replica, decided)
        batch = orders.for_policy(
            policy,
            plan,
            episode=orders.next_episode(policy.uid, self.view.shutdowns_of(policy.uid)),
            requested_by=self._identity.username,
            reason=testimony.reason(policy, tally),
            digest=evidence.digest(statement),
        )
        try:
            async with asyncio.TaskGroup() as group:
                for order in batch:
                    group.create_task(self._engage(order, statement, decided))
        except* KillSwitchError as errors:
            # The policy may have been edited meanwhile: its present form is told.
            current = self.watched.get(policy.uid, watched)
            self._refused(current, "; ".join(str(each) for each in errors.exceptions))
        else:
            self._switch(self.watched.get(policy.uid, watched), Event.ENGAGED, None, tally)

    async def _engage(self, order: Order, statement: Json, decided: float) -> None:
        """One Shutdown: lock first; the stop itself goes on without being waited for."""
        self._finisher.announce(order, decided)
        shutdown = await persistently(self._clock, lambda: self._sequence.engage(order))
        self._finisher.start(shutdown, order.stops)
        if shutdown["spec"].get("evidenceDigest") != order.body["spec"]["evidenceDigest"]:
            return  # another replica engaged with its own evidence and stores that
        namespace = order.namespace or self._identity.namespace
        record = orders.evidence_record(shutdown, statement, namespace)
        try:
            await persistently(
                self._clock, lambda: self._cluster.create(RECORDS, record, namespace)
            )
        except ConflictError:
            return  # stored already

    def _refused(self, watched: Watched, message: str) -> None:
        """Nothing was locked: say so, and try again while the demand lasts."""
        watched.refused = message
        watched.retry_at = self._clock.now() + _RETRY
        watched.inhibition = Inhibition(Cause.REFUSED, message)
        self.dirty.add(watched.policy.uid)
        if watched.state is State.FIRING:
            watched.state = move(watched.state, Event.REFUSED).state

    def _forget(self, uid: str) -> None:
        for askers in self._asked_by.values():
            askers.discard(uid)


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
