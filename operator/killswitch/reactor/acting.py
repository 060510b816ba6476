"""Carry out what a decision demands: every order of a plan, exactly once, and its evidence.

`firing` does it for stops, `freezing` for Freezes; what they have in common is here. Nothing here
decides. What was accepted in one namespace and refused in another is told as refused, and whoever
decides orders the rest again.
"""

import abc
import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import structlog

from killswitch.api import recording
from killswitch.api.compiled import CompiledPolicy
from killswitch.api.orders import Order
from killswitch.core import evidence, holdings
from killswitch.core.errors import ConflictError, KillSwitchError
from killswitch.core.quorum import Tally
from killswitch.core.resources import RECORDS
from killswitch.core.stops import Plan, Stop
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor import garbage, testimony
from killswitch.reactor.fan_out import cancel
from killswitch.reactor.persistence import persistently
from killswitch.reactor.watched import Identity

ORDER = 5.0
"""Seconds for which an order waits for an API server that is away; then all is judged anew."""
_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fired:
    """How a fire ended: what was not accepted, and why; empty when all was."""

    policy: str
    """Its uid."""
    tally: Tally
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, why and when (seconds since the epoch)."""

    policy: CompiledPolicy
    plan: Plan
    tally: Tally
    statement: Json
    """The evidence."""
    at: float

    @property
    def reason(self) -> str:
        """One sentence for people."""
        return testimony.reason(self.policy, self.tally)

    @property
    def digest(self) -> str:
        """Of the evidence."""
        return evidence.digest(self.statement)


class Acting(abc.ABC):
    """What one reactor carries out of one kind, each fire in a task of its own."""

    act: ClassVar[str]
    """What is done with the targets, as evidence says it: `stops`."""
    done: ClassVar[str]
    """What the log says once it is done."""

    def __init__(self, cluster: Cluster, clock: Clock, identity: Identity) -> None:
        """Nothing is under way."""
        self._cluster = cluster
        self._clock = clock
        self._identity = identity
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self, policy: CompiledPolicy, plan: Plan, tally: Tally, ended: Callable[[Fired], None]
    ) -> None:
        """Order everything of the plan that is not held yet; `ended` hears how it went."""
        self._spawn(self._fire(policy, plan, tally, ended))

    async def close(self) -> None:
        """Do nothing more; what was under way is cut off where it stands."""
        await cancel([*self._tasks])

    @abc.abstractmethod
    def _orders(self, decision: Decision) -> list[Order]:
        """The orders for what is not held yet."""

    @abc.abstractmethod
    async def _carry_out(self, order: Order, decision: Decision) -> None:
        """One order: the object is there, and so held by the view, when this returns."""

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fire(
        self, policy: CompiledPolicy, plan: Plan, tally: Tally, ended: Callable[[Fired], None]
    ) -> None:
        try:
            with garbage.put_off():
                problems = await self._carry_all_out(policy, plan, tally)
        except Exception as error:
            _LOG.exception("a fire failed", policy=str(policy))
            problems = [repr(error)]
        if not problems:
            _LOG.info(self.done, policy=str(policy), tally=str(tally), targets=plan.count)
        ended(Fired(policy.uid, tally, tuple(problems)))

    async def _carry_all_out(self, policy: CompiledPolicy, plan: Plan, tally: Tally) -> list[str]:
        """Why orders of this fire were not accepted; empty when all were."""
        at = self._clock.now()
        me = self._identity.replica
        statement = testimony.statement(policy, tally, plan, me, at, act=self.act)
        decision = Decision(policy, plan, tally, statement, at)
        acts = (self._carry_out(order, decision) for order in self._orders(decision))
        outcomes = await asyncio.gather(*acts, return_exceptions=True)
        problems = []
        for outcome in outcomes:
            if isinstance(outcome, KillSwitchError):
                problems.append(str(outcome))
            elif outcome is not None:
                raise outcome
        return problems

    async def _testify(self, order: Order, stored: Json, statement: Json) -> None:
        """Store the evidence; whether that succeeds changes nothing about the order.

        Its digest is in the object already.
        """
        namespace = order.namespace or self._identity.namespace
        record = recording.of_evidence(stored, statement, namespace)
        try:
            await persistently(
                self._clock, lambda: self._cluster.create(RECORDS, record, namespace)
            )
        except ConflictError:
            return  # stored already
        except KillSwitchError as error:
            _LOG.error(
                "evidence not stored", kind=stored["kind"], name=order.name, error=str(error)
            )  # expected, told whole


def left(plan: Plan, holders: Sequence[Json]) -> tuple[Stop, ...]:
    """What of the plan these engaged Shutdowns and active Freezes do not hold."""
    return holdings.not_held(
        plan,
        ((each["kind"], each["metadata"].get("namespace", ""), each["spec"]) for each in holders),
    )
