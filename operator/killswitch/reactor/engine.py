"""Observe, decide, act: the reactor's heart, written to be read from top to bottom.

    something arrives    `intake`             readings of the signals that want it
    readings change      `_judge`             facts → event → switch → effect
    effect ENGAGE        `firing`             Shutdown(s), evidence, then the finisher
    a Shutdown appears   `shutdown_changed`   its policy is latched; the finisher completes it

Everything runs in one event loop; nothing here waits between a sample and the request that
engages. The engine keeps no truth of its own: readings are read again, states are derived from
stored Shutdowns, stops are finished from what the API server stores. A fire that was accepted in
one namespace and refused in another goes on, as long as its demand lasts, with what is not held.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import structlog

from killswitch.api.acceptance import accept
from killswitch.api.compiled import CompiledPolicy
from killswitch.api.policies import Mode
from killswitch.core import decisions, interlocks, plans, quorum, readings
from killswitch.core.errors import InvalidPolicyError
from killswitch.core.interlocks import Cause, Inhibition, Request
from killswitch.core.locks import engaged
from killswitch.core.plans import Plan
from killswitch.core.quorum import Tally
from killswitch.core.readings import Reading
from killswitch.core.switch import Effect, Event, State, move
from killswitch.core.windows import Window
from killswitch.ports import Clock, Cluster, Json, QueryChecker
from killswitch.reactor import alerting
from killswitch.reactor.detecting import Detecting, detecting
from killswitch.reactor.finisher import Progressed
from killswitch.reactor.firing import Fired, Firing, left
from killswitch.reactor.intake import Intake
from killswitch.reactor.turns import Turns
from killswitch.reactor.view import View
from killswitch.reactor.watched import Identity, Watched

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
    ) -> None:
        """Nothing is judged before `start`: a view without Shutdowns would fire twice.

        `hears_events`: whether anybody can post events; signals that count them are Unknown if not.
        """
        self._clock = clock
        self.checker = checker
        self._identity = identity
        self._waiting: set[str] = set()
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
        self._firing = Firing(cluster, clock, identity, self.view, progressed)
        self.watched: dict[str, Watched] = {}
        self.dirty: set[str] = set()
        """uids of policies whose status has something new to say."""

    def start(self) -> None:
        """The view is complete: judge every policy, finish every stop."""
        self._started = True
        for shutdown in list(self.view.shutdowns.objects.values()):
            self._firing.finish(shutdown)
        self._evaluate_all(list(self.watched))

    async def close(self) -> None:
        """Do nothing more; what was under way is cut off where it stands."""
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
        now = self._clock.now()
        elapsed = self._clock.monotonic()
        same = _same(policy, before)
        watched = Watched(
            policy,
            _readings(policy, before, now, same),
            windows=_windows(policy, before, elapsed),
            episodes=alerting.episodes(policy, before),
            detecting=_detecting(policy, before),
            crossed=before.crossed & same if before else set(),
        )
        if before is not None:
            watched.state, watched.since = before.state, before.since
        self.watched[uid] = watched
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

    def due(self) -> None:
        """Judge again what changes by time alone: windows, hold-downs, cooldowns, bypasses, retries."""
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
            if watched.state is State.PENDING or now >= watched.plan_at:
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
            if watched.inhibition != found:  # once, not at each sample
                _LOG.exception("a policy could not be judged", policy=str(watched.policy))
                watched.inhibition = found
                self.dirty.add(watched.policy.uid)

    def _judge(self, watched: Watched) -> None:
        """Facts → event → switch → effect, for one policy."""
        policy, now = watched.policy, self._clock.monotonic()
        watched.since = quorum.tripped_since(policy.rules, watched.readings, watched.since, now=now)
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
            inhibition = self._inhibition(watched, plan, holders)
        facts = decisions.Facts(
            enabled=policy.mode is not Mode.DISABLED,
            # Where something is still to be engaged and nothing speaks against it, this is a fire.
            engaged=bool(holders)
            and (plan is None or inhibition is not None or not left(plan, holders)),
            tally=tally,
            inhibition=inhibition,
        )
        if watched.note(tally, inhibition):
            self.dirty.add(policy.uid)
        self._switch(watched, decisions.event(facts), plan, tally)

    def _inhibition(
        self, watched: Watched, plan: Plan, holders: Sequence[Json]
    ) -> Inhibition | None:
        """Why this plan may not be engaged now; None also where all of it is held already."""
        if holders and not left(plan, holders):
            return None
        request = self._request(watched.policy, plan, self._clock.now())
        return watched.refusal(self._clock.monotonic()) or interlocks.inhibition(request)

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
            self._firing.begin(watched.policy, plan, tally, self._fired)

    def _fired(self, fired: Fired) -> None:
        """A fire has ended. The policy may have been edited meanwhile; it may be gone."""
        watched = self.watched.get(fired.policy)
        if watched is None:
            return
        if fired.problems:
            self._refused(watched, "; ".join(fired.problems))
        else:
            self._switch(watched, Event.ENGAGED, None, fired.tally)

    def _refused(self, watched: Watched, message: str) -> None:
        """Something was not locked: say so, and try again while the demand lasts."""
        if watched.refused != message:  # once, not at each attempt
            _LOG.warning("not engaged", policy=str(watched.policy), problem=message)
        watched.refused = message
        watched.retry_at = self._clock.monotonic() + _RETRY
        watched.inhibition = Inhibition(Cause.REFUSED, message)
        self.dirty.add(watched.policy.uid)
        if watched.state is State.FIRING:
            watched.state = move(watched.state, Event.REFUSED).state

    def _forget(self, uid: str) -> None:
        """Watch this policy no longer."""
        self._waiting.discard(uid)
        before = self.watched.pop(uid, None)
        if before is not None:
            self.intake.forget(before)


def _same(policy: CompiledPolicy, before: Watched | None) -> set[str]:
    """The signals that an edit has left as they were."""
    asked = {signal.name: signal for signal in before.policy.signals} if before else {}
    return {signal.name for signal in policy.signals if asked.get(signal.name) == signal}


def _readings(
    policy: CompiledPolicy, before: Watched | None, now: float, same: set[str]
) -> dict[str, Reading]:
    """Not read yet, for every signal that is new; the first poll follows at once."""
    known = before.readings if before else {}
    return {
        # An alert of the old generation is not waited for any more, so its trip does not last.
        signal.name: replace(known[signal.name], lasting=False)
        if signal.name in same
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


def _detecting(policy: CompiledPolicy, before: Watched | None) -> dict[str, Detecting]:
    """The detectors: what one has learned stays while its signal is the same."""
    known = before.detecting if before else {}
    found = {
        signal.name: known[signal.name]
        if signal.name in known and known[signal.name].signal == signal
        else detecting(signal)
        for signal in policy.signals
    }
    return {name: each for name, each in found.items() if each is not None}
