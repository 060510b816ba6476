"""Observe, decide, act: the reactor's heart, written to be read from top to bottom.

    something arrives    `intake`             readings of the signals that want it
    readings change      `_judge`             facts → event → switch → effect, for each step
    effect ENGAGE        `firing`             Shutdown(s), evidence, then the finisher
                         `freezing`           or Freeze(s), of the rung before the stop
    a Shutdown appears   `shutdown_changed`   its policy is latched; the finisher completes it
    a Freeze ends        `ending`             in a Shutdown, where it says so

Everything runs in one event loop; nothing here waits between a sample and the request that
engages. The engine keeps no truth of its own: readings are read again, states are derived from
stored Shutdowns, stops are finished from what the API server stores. A fire that was accepted in
one namespace and refused in another goes on, as long as its demand lasts, with what is not held.
A policy's steps, the stop and the freezing rung, are judged alike (`steps`), the stop first.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import structlog

from killswitch.api.acceptance import accept
from killswitch.api.compiled import CompiledPolicy
from killswitch.api.policies import Mode
from killswitch.core import decisions, interlocks, plans, quorum
from killswitch.core.caps import Cap, Fire, Spending
from killswitch.core.errors import InvalidPolicyError
from killswitch.core.interlocks import Cause, Inhibition, Request
from killswitch.core.quorum import Tally
from killswitch.core.stops import Plan
from killswitch.core.switch import Effect, Event, State, move
from killswitch.ports import Clock, Cluster, Json, QueryChecker, SignalSource
from killswitch.reactor import editing
from killswitch.reactor.acting import Fired, left
from killswitch.reactor.ending import Ending
from killswitch.reactor.finisher import Progressed
from killswitch.reactor.firing import Firing
from killswitch.reactor.freezes import Freezes
from killswitch.reactor.freezing import Freezing
from killswitch.reactor.intake import Intake
from killswitch.reactor.spending import spending
from killswitch.reactor.steps import FreezeStep, Step, StopStep
from killswitch.reactor.turns import Turns
from killswitch.reactor.view import View
from killswitch.reactor.watched import Identity, Switched, Watched

_RETRY = 1.0
"""Seconds before a refused engagement is tried again while the demand lasts."""
_AGAIN = 1.0
"""Seconds between two plans of a policy that is inhibited, or latched while its demand lasts."""
_EXPIRE = 1.0
"""Seconds between two looks for readings that nobody has confirmed for too long."""
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
        source: SignalSource | None = None,
    ) -> None:
        """Nothing is judged before `start`: a view without Shutdowns would fire twice.

        `hears_events`: whether anybody can post events; signals that count them are Unknown if not.
        `source`: asked for what is under way while a graceful stop drains.
        """
        self._clock = clock
        self.checker = checker
        self._identity = identity
        self._waiting: set[str] = set()
        self._kinds: frozenset[str] | None = None
        self._started = False
        self._expire_at = 0.0
        self.view = View(
            now=clock.now,
            username=identity.username,
            policies_changed=self.policy_changed,
            policies_removed=self.policy_removed,
            shutdowns_changed=self.shutdown_changed,
            shutdowns_removed=self.shutdown_removed,
        )
        self._turns = Turns(self._evaluate)
        self.intake = Intake(clock, checker, self._turns, hears_events=hears_events)
        self.freezes = Freezes(clock, identity.username, self.freeze_changed, self.freeze_changed)
        self._firing = Firing(
            cluster,
            clock,
            identity,
            self.view,
            progressed=progressed,
            source=source,
            policy=self._policy,
        )
        self._under_way: dict[str, Fire] = {}
        """What was ordered and may not be stored yet, by the policy's uid."""
        self.freezing = Freezing(cluster, clock, identity, self.view, self.freezes)
        self._ending = Ending(
            cluster, clock, identity, self.view, self.freezes, policy=self._policy
        )
        self.stop: Step = StopStep(self.view, self._firing)
        self.freeze: Step = FreezeStep(self.view, self.freezes, self.freezing)
        self.watched: dict[str, Watched] = {}
        self.dirty: set[str] = set()
        """uids of policies whose status has something new to say."""

    @property
    def cap(self) -> Cap:
        """What all policies together may stop."""
        return self._identity.cap

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of targets that policies name."""
        if self._kinds is None:  # ten thousand policies: only when one of them has changed
            self._kinds = frozenset(
                query.kind for each in self.watched.values() for query in each.policy.queries
            )
        return self._kinds

    @property
    def held(self) -> frozenset[str]:
        """Keys of the resources that engaged Shutdowns hold by name: `deployments.apps`."""
        return self._firing.held

    def start(self) -> None:
        """The view is complete: judge every policy, finish every stop."""
        self._started = True
        for shutdown in list(self.view.shutdowns.objects.values()):
            self._firing.finish(shutdown)
        self._evaluate_all(list(self.watched))

    async def close(self) -> None:
        """Do nothing more; what was under way is cut off where it stands."""
        await self._ending.close()
        await self.freezing.close()
        await self._firing.close()

    def policy_changed(self, body: Json) -> None:
        """A policy was added or changed: compile it, keep what is still true of the old one."""
        uid = body["metadata"]["uid"]
        before = self.watched.get(uid)
        if before and before.policy.generation == body["metadata"].get("generation", 0):
            return  # only its status changed
        try:
            policy = accept(body, self.checker.check)
        except InvalidPolicyError:
            self._forget(uid)
            return  # the manager says why on its status; an invalid policy is not half armed
        self._forget(uid)
        watched = editing.watched(
            policy, before, now=self._clock.now(), elapsed=self._clock.monotonic()
        )
        self.watched[uid] = watched
        self._kinds = None
        self.intake.watch(watched)
        self._evaluate(watched)

    def policy_removed(self, body: Json) -> None:
        """A policy is gone. What it engaged stays: deleting a policy releases nothing."""
        self._forget(body["metadata"]["uid"])

    def shutdown_changed(self, body: Json) -> None:
        """A Shutdown appeared or changed: finish it, and tell its policy."""
        if self._started:
            self._firing.finish(body)
        self._evaluate_all([(body["spec"].get("policy") or {}).get("uid", "")])

    def shutdown_removed(self, body: Json) -> None:
        """A released Shutdown was deleted."""
        self._evaluate_all([(body["spec"].get("policy") or {}).get("uid", "")])

    def freeze_changed(self, body: Json) -> None:
        """A Freeze appeared, changed or was deleted."""
        self._evaluate_all([(body["spec"].get("policy") or {}).get("uid", "")])

    def freezes_listed(self) -> None:
        """All Freezes were seen: from now on policies can freeze."""
        self.freezes.listed = True
        self._evaluate_all(list(self.watched))

    def due(self) -> None:
        """Judge again what changes by time alone: windows, hold-downs, cooldowns, bypasses, ends."""
        self._ending.due()
        self.dirty |= self.intake.due()
        now = self._clock.monotonic()
        if now >= self._expire_at:
            self._expire_at = now + _EXPIRE
            wall = self._clock.now()
            for watched in tuple(self.watched.values()):
                if watched.expire(wall, now):
                    self._turns(watched)
        for uid in tuple(self._waiting):
            watched = self.watched[uid]  # `_forget` takes it out of both
            if any(each.state is State.PENDING or now >= each.plan_at for each in watched.switches):
                self._turns(watched)

    def _evaluate_all(self, uids: Iterable[str]) -> None:
        for uid in uids:
            if uid in self.watched:
                self._evaluate(self.watched[uid])

    def _evaluate(self, watched: Watched) -> None:
        """Judge one policy; a defect of ours is told on its status and spares all others."""
        if not self._started or self.watched.get(watched.policy.uid) is not watched:
            return
        try:
            self._judge(watched)
        except Exception as error:
            found = Inhibition(Cause.DEFECT, f"nothing was decided: {error!r}")
            last = watched.switches[-1]  # of two, what the first has decided stands
            if last.inhibition != found:  # once, not at each sample
                _LOG.exception("a policy could not be judged", policy=str(watched.policy))
                last.inhibition = found
                self.dirty.add(watched.policy.uid)

    def _judge(self, watched: Watched) -> None:
        """Both steps of one policy, the stop first: a freeze must not delay it."""
        policy, now = watched.policy, self._clock.monotonic()
        watched.since = quorum.tripped_since(policy.rules, watched.readings, watched.since, now=now)
        if policy.stops:
            self._judge_step(self.stop, watched, now)
        # While a stop is out its answer decides: what it does not hold may then be frozen.
        if policy.freeze is not None and watched.stop.state is not State.FIRING:
            self._judge_step(self.freeze, watched, now)

    def _judge_step(self, step: Step, watched: Watched, now: float) -> None:
        """Facts → event → switch → effect, for one step."""
        policy, switch = watched.policy, step.switch(watched)
        tally = quorum.tally(
            policy.rules, watched.readings, watched.since, needed=step.needed(policy), now=now
        )
        holders = step.holders(policy)
        plan, inhibition = None, None
        if tally.demanded and holders and now < switch.plan_at:
            inhibition = switch.inhibition
        elif tally.demanded:
            switch.plan_at = now + _AGAIN
            plan = plans.for_policy(
                policy.queries,
                self.view.inventory,
                self._identity.boundaries,
                node_action=policy.node_action,
            )
            inhibition = self._inhibition(step, watched, plan, holders)
        facts = decisions.Facts(
            enabled=policy.mode is not Mode.DISABLED,
            # Where something is still to be engaged and nothing speaks against it, this is a fire.
            engaged=bool(holders)
            and (plan is None or inhibition is not None or not left(plan, holders)),
            tally=tally,
            inhibition=inhibition,
        )
        if switch.note(tally, inhibition):
            self.dirty.add(policy.uid)
        self._switch(step, watched, decisions.event(facts), plan, tally)

    def _inhibition(
        self, step: Step, watched: Watched, plan: Plan, holders: Sequence[Json]
    ) -> Inhibition | None:
        """Why this plan may not be engaged now; None also where all of it is held already."""
        if holders and not left(plan, holders):
            return None
        refusal = step.switch(watched).refusal(self._clock.monotonic()) or step.blind()
        request = self._request(step, watched.policy, plan, holders)
        return refusal or interlocks.inhibition(request)

    def _request(
        self, step: Step, policy: CompiledPolicy, plan: Plan, holders: Sequence[Json]
    ) -> Request:
        """Everything the interlocks may look at."""
        now = self._clock.now()
        home = policy.namespace or self._identity.namespace
        return Request(
            dry_run=policy.mode is Mode.DRY_RUN,
            bypass=self.view.bypass(home, policy.name, now),
            cooldown_ends=step.cooldown_ends(policy),
            plan=plan,
            max_targets=policy.max_targets,
            max_percent=policy.max_percent,
            now=now,
            spending=None if step.freezes else self._spending(policy, plan, holders, now),
            freezes=step.freezes,
        )

    def _spending(
        self, policy: CompiledPolicy, plan: Plan, holders: Sequence[Json], now: float
    ) -> Spending | None:
        cap = self._identity.cap
        if not cap.on:
            return None
        under_way = [each for uid, each in self._under_way.items() if uid != policy.uid]
        rest = left(plan, holders)
        return spending(cap, rest, self.view, self._identity.boundaries, under_way, now=now)

    def _switch(
        self, step: Step, watched: Watched, event: Event, plan: Plan | None, tally: Tally
    ) -> None:
        """Move the step's switch; do what the transition asks for."""
        uid, switch = watched.policy.uid, step.switch(watched)
        before = switch.state
        transition = move(before, event)
        switch.state = transition.state
        waits = any(each.state in _WAITING for each in watched.switches)
        if waits and self.watched.get(uid) is watched:
            self._waiting.add(uid)
        else:
            self._waiting.discard(uid)
        if switch.state is not before:
            self.dirty.add(uid)
        if transition.effect is Effect.ENGAGE and plan is not None:
            if not step.freezes:
                nodes = any(stop.nodes for stop in plan.stops)
                self._under_way[uid] = Fire(self._clock.now(), plan.count, nodes)
            step.acting.begin(watched.policy, plan, tally, partial(self._fired, step))

    def _fired(self, step: Step, fired: Fired) -> None:
        """A fire has ended. The policy may have been edited meanwhile; it may be gone."""
        if not step.freezes:
            self._under_way.pop(fired.policy, None)
        watched = self.watched.get(fired.policy)
        if watched is None:
            return
        if fired.problems:
            self._refused(watched, step.switch(watched), "; ".join(fired.problems))
        else:
            self._switch(step, watched, Event.ENGAGED, None, fired.tally)

    def _refused(self, watched: Watched, switch: Switched, message: str) -> None:
        """Something was not accepted: say so, and try again while the demand lasts."""
        if switch.refused != message:  # once, not at each attempt
            _LOG.warning("not engaged", policy=str(watched.policy), problem=message)
        switch.refused = message
        switch.retry_at = self._clock.monotonic() + _RETRY
        switch.inhibition = Inhibition(Cause.REFUSED, message)
        self.dirty.add(watched.policy.uid)
        if switch.state is State.FIRING:
            switch.state = move(switch.state, Event.REFUSED).state
        if switch is watched.stop and watched.policy.freeze is not None:
            self._turns(watched)  # what could not be stopped may be frozen

    def _policy(self, uid: str) -> CompiledPolicy | None:
        watched = self.watched.get(uid)
        return None if watched is None else watched.policy

    def _forget(self, uid: str) -> None:
        """Watch this policy no longer."""
        self._waiting.discard(uid)
        self._kinds = None
        before = self.watched.pop(uid, None)
        if before is not None:
            self.intake.forget(before)
