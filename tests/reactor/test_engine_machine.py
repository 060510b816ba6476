"""The whole engine under any sequence of samples, edits, people, answers, outages and clock steps.

What may never happen is checked at the moment of each fire: while bypassed, in cooldown, beyond
caps, in another mode than Enforce, without fresh evidence, for what is held already, or twice at
a time. The API server is played by the test, with the Shutdowns that the real orders make.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from killswitch.api import orders
from killswitch.api.compiled import CompiledPolicy
from killswitch.core import times
from killswitch.core.locks import engaged
from killswitch.core.quorum import Tally
from killswitch.core.readings import Answer, Blindness, NoAnswer, Path, Verdict
from killswitch.core.stops import Plan
from killswitch.core.switch import State
from killswitch.ports import Cluster, Json
from killswitch.reactor.acting import Fired, left
from killswitch.reactor.ending import Ending
from killswitch.reactor.engine import Engine
from killswitch.reactor.firing import Firing
from killswitch.reactor.freezing import Freezing
from killswitch.reactor.watched import Identity
from killswitch.signals.series import Samples, Series
from tests.core import builders
from tests.core.builders import BOUNDARIES
from tests.fakes.clock import FakeClock
from tests.reactor.harness import EveryQuery, policy

PROD, UID, MAX_AGE, COOLDOWN = "prod", "u", 30.0, 60.0
SERIES = {name: Series(name, (("model", "a"),)) for name in ("x", "y")}


LADDERS: dict[str, Json] = {
    "stop": {},
    "rung": {"freeze": {"quorum": 1, "for": "90s", "onExpiry": "Thaw"}},
    "rung, then stop": {"freeze": {"quorum": 1, "for": "90s", "onExpiry": "Stop"}},
    "freeze": {"type": "Freeze", "freeze": {"for": "90s", "onExpiry": "Thaw"}},
}
"""What a policy does. A rung is for a quorum of two."""


def stored(
    mode: str, *, ladder: str, max_targets: int, quorum: int, hold_down: str, generation: int
) -> Json:
    """A policy on two metrics, which stops or freezes the Deployments of one label."""
    signals = [
        {
            "name": name,
            "metric": {"name": name, "labels": {"model": "a"}, "above": "10", "recoversAt": "5"},
            "onNoData": "Hold",
            "maxAge": "30s",
            "for": hold_down,
            "keepFiringFor": "3s",
        }
        for name in SERIES
    ]
    found = policy(
        "runaway",
        targets=[{"kind": "Deployment", "selector": {"matchLabels": {"app": "vllm"}}}],
        signals=signals,
        quorum=2 if ladder.startswith("rung") else quorum,
        action=LADDERS[ladder],
        mode=mode,
        limits={"maxTargets": max_targets, "maxPercent": 60},
        cooldown="60s",
    )
    found["metadata"] |= {"uid": UID, "namespace": PROD, "generation": generation}
    return found


@dataclass
class Api:
    """What the engine has ordered, until the test answers. In the place of `Firing`."""

    check: Callable[[CompiledPolicy, Plan, Tally], None]
    wrong: list[AssertionError] = field(default_factory=list)
    waiting: list[tuple[CompiledPolicy, Plan, Tally, Callable[[Fired], None]]] = field(
        default_factory=list
    )

    def begin(
        self, policy_: CompiledPolicy, plan: Plan, tally: Tally, ended: Callable[[Fired], None]
    ) -> None:
        """A fire: the moment of truth. The engine survives what is raised here, so it is kept."""
        try:
            self.check(policy_, plan, tally)
        except AssertionError as error:
            self.wrong.append(error)
        self.waiting.append((policy_, plan, tally, ended))

    def finish(self, _shutdown: Json) -> None:
        """Not the subject here."""


@dataclass
class Ends:
    """Ends Freezes in stops, each once. In the place of `Ending`, whose requests need a cluster."""

    machine: "Machine"
    done: list[str] = field(default_factory=list)

    def due(self) -> None:
        """The Shutdown, then the condition, as the API server stores and shows them."""
        engine = self.machine.engine
        for freeze in tuple(engine.freezes.ending()):
            self.done.append(freeze["metadata"]["uid"])
            self.machine.show(orders.at_end_of(freeze, "reactor", None).body)
            now = times.text(self.machine.clock.now())
            over = {"type": "Ended", "status": "True", "lastTransitionTime": now}
            engine.freezes.stored.put({**freeze, "status": {"conditions": [over]}})


class Machine(RuleBasedStateMachine):
    """One policy, two metrics, five Deployments."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.generation, self.uids = 0, 0
        self.released: float | None = None
        self.told: dict[str, float] = {}
        """When (monotonic) a signal was last told to be beyond its threshold, or not back yet."""
        self.settings: dict[str, Any] = {
            "mode": "Enforce",
            "ladder": "stop",
            "max_targets": 2,
            "quorum": 1,
            "hold_down": "0s",
        }
        identity = Identity("reactor", "r-0", "killswitch-system", BOUNDARIES)
        self.engine = Engine(cast("Cluster", object()), self.clock, EveryQuery(), identity)
        self.api, self.cold = Api(self.fires), Api(self.freezes)
        self.ends = Ends(self)
        self.thawed: float | None = None
        self.take(self.engine)
        self.engine.view.inventory.namespaces[PROD] = {builders.GOVERNED: "true"}
        for name in "abcde":
            self.deployment(name, app="vllm" if name in "ab" else "other")
        self.edit()
        self.engine.start()

    def take(self, engine: Engine) -> None:
        """Stand in for what asks the API server."""
        engine._firing = engine.stop.acting = cast("Firing", self.api)
        engine.freeze.acting = cast("Freezing", self.cold)
        engine._ending = cast("Ending", self.ends)
        engine.freezes.listed = True

    def fires(self, policy_: CompiledPolicy, plan: Plan, tally: Tally) -> None:
        """Everything that must hold when the engine orders a stop. A Freeze hinders none."""
        assert self.settings["ladder"] != "freeze"
        assert left(plan, self.engaged())
        needed = 2 if self.settings["ladder"] != "stop" else self.settings["quorum"]
        self.acts(plan, tally, needed)

    def freezes(self, policy_: CompiledPolicy, plan: Plan, tally: Tally) -> None:
        """Everything that must hold when the engine orders a Freeze."""
        ladder, now = self.settings["ladder"], self.clock.now()
        assert ladder != "stop"
        assert not self.cold.waiting
        assert self.thawed is None or now >= self.thawed + COOLDOWN
        assert left(plan, [*self.engaged(), *self.frozen()])
        self.acts(plan, tally, self.settings["quorum"] if ladder == "freeze" else 1)

    def acts(self, plan: Plan, tally: Tally, needed: int) -> None:
        """What must hold for either."""
        view, now = self.engine.view, self.clock.now()
        assert not self.api.waiting
        assert self.settings["mode"] == "Enforce"
        assert not view.bypasses.objects
        assert self.released is None or now >= self.released + COOLDOWN
        assert 0 < plan.count <= self.settings["max_targets"]
        assert plan.percent <= 60
        counted = [vote for vote in tally.votes if vote.counted]
        assert len(counted) >= needed
        for vote in counted:
            told = self.told.get(vote.reading.signal, -math.inf)
            assert self.clock.monotonic() - told <= MAX_AGE + 1 + 3
            if vote.reading.verdict is not Verdict.TRIPPED:
                # Kept for a while after it cleared, or after it was known last.
                span = self.engine.watched[UID].since[vote.reading.signal]
                assert span.cleared is not None
                assert self.clock.monotonic() - span.cleared < 3

    def engaged(self) -> list[Json]:
        """Engaged Shutdowns of the policy."""
        return [each for each in self.engine.view.shutdowns_of(UID) if engaged(each)]

    def frozen(self) -> list[Json]:
        """Freezes of the policy that hold."""
        freezes = self.engine.freezes
        return [each for each in freezes.of_policy(UID) if freezes.holds(each)]

    @rule(
        name=st.sampled_from("xy"),
        value=st.sampled_from([0.0, 7.0, 50.0, float("nan"), float("inf")]),
        age=st.sampled_from([-100.0, 0.0, 1.0, 20.0, 31.0, 4000.0]),
    )
    def pushed(self, name: str, value: float, age: float) -> None:
        """A sample arrives: fresh, late, replayed or from the future, in any order."""
        at = round((self.clock.now() - age) * 1000)
        if value > 10 and -1 <= age <= MAX_AGE:
            self.told[name] = self.clock.monotonic()
        self.engine.intake.push(Samples([SERIES[name]], [value], [at]), Path.REMOTE_WRITE)

    @rule(
        name=st.sampled_from("xy"),
        answer=st.sampled_from(
            [
                Answer((0.0,), 0.5),
                Answer((7.0,), 0.5),
                Answer((50.0,), 0.5),
                Answer((50.0,), 31.0),
                Answer((0.0,), 0.5, ("partial",)),
                Answer((), None),
                NoAnswer(Blindness.TIMEOUT, "no answer"),
            ]
        ),
    )
    def polled(self, name: str, answer: Answer | NoAnswer) -> None:
        """Prometheus answers, or does not."""
        if isinstance(answer, Answer) and answer.values > (5,) and answer.oldest_age == 0.5:
            self.told[name] = self.clock.monotonic()
        self.engine.intake.deliver(f'{name}{{model="a"}}', answer)

    @rule(seconds=st.sampled_from([0.05, 1.0, 4.0, 29.0, 61.0]))
    def wait(self, seconds: float) -> None:
        """Time passes in the reactor's ticks."""
        for _ in range(10):
            self.clock._passed += seconds / 10
            self.engine.due()

    @rule(seconds=st.sampled_from([-3600.0, -5.0, 5.0, 3600.0]))
    def clock_is_set(self, seconds: float) -> None:
        """By NTP, or by a person."""
        self.clock.set_back(seconds)
        self.engine.due()

    @rule(
        mode=st.sampled_from(["Enforce", "Enforce", "DryRun", "Disabled"]),
        ladder=st.sampled_from([*LADDERS]),
        max_targets=st.integers(1, 4),
        quorum=st.integers(1, 2),
        hold_down=st.sampled_from(["0s", "5s"]),
    )
    def edited(self, mode: str, ladder: str, max_targets: int, quorum: int, hold_down: str) -> None:
        """A person changes the policy."""
        self.settings = {
            "mode": mode,
            "ladder": ladder,
            "max_targets": max_targets,
            "quorum": quorum,
            "hold_down": hold_down,
        }
        self.edit()

    def edit(self) -> None:
        """The policy as it is now, a new generation."""
        self.generation += 1
        self.engine.view.policies.put(stored(**self.settings, generation=self.generation))

    @rule(name=st.sampled_from("abcde"), app=st.sampled_from(["vllm", "other"]))
    def deployment(self, name: str, app: str) -> None:
        """A Deployment appears, or changes its label."""
        for item in builders.deployment(name, labels={"app": app}):
            self.engine.view.inventory.put(item)

    @rule(here=st.booleans())
    def bypassed(self, here: bool) -> None:
        """A person suspends the policy, or stops doing so."""
        if not here:
            self.engine.view.bypasses.remove("bypass")
            return
        spec = {
            "policy": "runaway",
            "requestedBy": "alice",
            "reason": "maintenance",
            "until": times.text(self.clock.now() + 10**6),
        }
        metadata = {"uid": "bypass", "namespace": PROD, "name": "b"}
        self.engine.view.bypasses.put({"metadata": metadata, "spec": spec})

    @rule(outcome=st.sampled_from(["accepted", "refused", "lost"]))
    def api_server_answers(self, outcome: str) -> None:
        """To the order that is out; a lost answer leaves the Shutdown there."""
        if not self.api.waiting:
            return
        policy_, plan, tally, ended = self.api.waiting.pop(0)
        if outcome != "refused":
            self.engage(policy_, plan)
        problems = () if outcome == "accepted" else (outcome,)
        ended(Fired(policy_.uid, tally, problems))

    def engage(self, policy_: CompiledPolicy, plan: Plan) -> None:
        """The Shutdowns that an order makes, as the API server stores and shows them."""
        known = self.engine.view.shutdowns_of(UID)
        number = orders.episode(
            [(each["spec"]["policy"]["episode"], engaged(each)) for each in known]
        )
        for order in orders.for_policy(
            policy_,
            left(plan, self.engaged()),
            number=number,
            requested_by="reactor",
            reason="test",
            digest="sha256:0",
        ):
            self.show(order.body)

    def show(self, body: Json) -> None:
        """An object is stored, and the reactor's watch shows it."""
        self.uids += 1
        created = times.text(math.floor(self.clock.now()))
        body["metadata"] |= {"uid": str(self.uids), "creationTimestamp": created}
        sinks = {"Freeze": self.engine.freezes.stored, "Shutdown": self.engine.view.shutdowns}
        sinks[body["kind"]].put(body)

    @rule(outcome=st.sampled_from(["accepted", "refused", "lost"]))
    def api_server_answers_a_freeze(self, outcome: str) -> None:
        """To the order that is out; a lost answer leaves the Freeze there."""
        if not self.cold.waiting:
            return
        policy_, plan, tally, ended = self.cold.waiting.pop(0)
        known = self.engine.freezes.of_policy(UID)
        held = [(e["spec"]["policy"]["episode"], self.engine.freezes.holds(e)) for e in known]
        for order in orders.freeze_for_policy(
            policy_,
            left(plan, [*self.engaged(), *self.frozen()]),
            number=orders.episode(held),
            requested_by="reactor",
            reason="test",
            digest="sha256:0",
            decided=self.clock.now(),
        ):
            if outcome != "refused":
                self.show(order.body)
        ended(Fired(policy_.uid, tally, () if outcome == "accepted" else (outcome,)))

    @rule()
    def people_thaw(self) -> None:
        """Somebody thaws everything that is frozen."""
        for each in self.frozen():
            self.thawed = self.clock.now()
            spec = {**each["spec"], "thaw": {"by": "bob", "reason": "seen"}}
            self.engine.freezes.stored.put({**each, "spec": spec})

    @rule()
    def people_release(self) -> None:
        """Two people approve everything that is engaged."""
        for each in self.engaged():
            approvals = {"alice": {"reason": "seen"}, "bob": {"reason": "seen"}}
            self.released = self.clock.now()
            self.engine.view.shutdowns.put(
                {**each, "spec": {**each["spec"], "approvals": approvals}}
            )

    @rule()
    def restart(self) -> None:
        """The reactor forgets everything but what is stored."""
        view = self.engine.view
        identity = Identity("reactor", "r-0", "killswitch-system", BOUNDARIES)
        fresh = Engine(cast("Cluster", object()), self.clock, EveryQuery(), identity)
        self.api.waiting.clear()
        self.cold.waiting.clear()
        self.take(fresh)
        fresh.view.inventory = view.inventory
        # As if the manager had not yet written when people released.
        fresh.view._seen_released.update(view._seen_released)
        for shutdown in view.shutdowns.objects.values():
            fresh.view.shutdowns.put(shutdown)
        fresh.freezes._thawed.update(self.engine.freezes._thawed)
        for freeze in self.engine.freezes.stored.objects.values():
            fresh.freezes.stored.put(freeze)
        for bypass in view.bypasses.objects.values():
            fresh.view.bypasses.put(bypass)
        self.engine = fresh
        self.edit()
        fresh.start()

    @invariant()
    def nothing_was_ordered_wrongly(self) -> None:
        """Of all fires so far."""
        for error in (*self.api.wrong, *self.cold.wrong):
            raise error

    @invariant()
    def a_freeze_ends_once(self) -> None:
        """In one Shutdown, however often its end is looked for."""
        assert len(self.ends.done) == len(set(self.ends.done))

    @invariant()
    def a_lock_latches(self) -> None:
        """While something is engaged and no order is out, the policy says so, or what inhibits it."""
        watched = self.engine.watched[UID]
        out = self.api.waiting or self.cold.waiting
        if self.engaged() and not out and watched.tally and not watched.tally.demanded:
            assert watched.state is State.LATCHED

    @invariant()
    def a_freeze_latches_the_rung(self) -> None:
        """Whatever its signals say now."""
        watched = self.engine.watched[UID]
        tally = watched.freeze.tally
        out = self.api.waiting or self.cold.waiting
        if self.frozen() and not out and watched.policy.freeze and tally and not tally.demanded:
            assert watched.freeze.state is State.LATCHED


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def test_the_machine_can_fire() -> None:
    """Otherwise it would prove nothing: one fire, one release, a cooldown, and one more."""
    machine = Machine()
    machine.pushed("x", 50.0, 0.0)
    assert len(machine.api.waiting) == 1
    machine.api_server_answers("accepted")
    assert len(machine.engaged()) == 1
    machine.people_release()
    machine.pushed("x", 50.0, 0.0)
    assert not machine.api.waiting
    machine.wait(61.0)
    machine.polled("x", Answer((50.0,), 0.5))
    assert len(machine.api.waiting) == 1


def test_an_edit_does_not_make_a_reading_last() -> None:
    """What nobody confirms for `maxAge` is Unknown, also where the policy was edited meanwhile."""
    machine = Machine()
    machine.edited("Enforce", "stop", 1, 1, "0s")  # two targets: inhibited
    machine.polled("x", Answer((50.0,), 0.5))
    machine.edited("Enforce", "stop", 1, 1, "0s")
    machine.wait(61.0)
    machine.edited("Enforce", "stop", 2, 1, "0s")
    assert not machine.api.waiting


def test_the_machine_can_climb() -> None:
    """Otherwise it would prove nothing: frozen, stopped at the second signal; frozen, ended."""
    machine = Machine()
    machine.edited("Enforce", "rung, then stop", 2, 2, "0s")
    machine.pushed("x", 50.0, 0.0)
    assert (len(machine.api.waiting), len(machine.cold.waiting)) == (0, 1)
    machine.api_server_answers_a_freeze("accepted")
    assert len(machine.frozen()) == 1
    machine.pushed("y", 50.0, 0.0)
    assert len(machine.api.waiting) == 1
    machine.api_server_answers("refused")
    assert machine.engaged() == []
    for _ in range(4):
        machine.wait(29.0)
    assert len(machine.ends.done) == 1
    assert [each["metadata"]["name"] for each in machine.engaged()] == ["runaway-freeze-1-expired"]
    assert machine.engine.watched[UID].state is State.LATCHED


def test_the_machine_can_thaw() -> None:
    """A thaw begins a cooldown of the rung, not of the stop."""
    machine = Machine()
    machine.edited("Enforce", "rung", 2, 2, "0s")
    machine.pushed("x", 50.0, 0.0)
    machine.api_server_answers_a_freeze("accepted")
    machine.people_thaw()
    machine.wait(4.0)
    assert not machine.cold.waiting
    machine.pushed("y", 50.0, 0.0)
    assert (len(machine.api.waiting), len(machine.cold.waiting)) == (1, 0)
