"""Act: engage what a decision demands, then have it finished. Nothing here decides.

A fire that was accepted in one namespace and refused in another is told as refused, and whoever
decides orders the rest again; a Shutdown that is there already is helped, whoever made it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from killswitch.api import orders
from killswitch.api.compiled import CompiledPolicy
from killswitch.api.orders import Order
from killswitch.core import evidence, plans
from killswitch.core.errors import ConflictError, KillSwitchError
from killswitch.core.kinds import RECORDS
from killswitch.core.locks import engaged
from killswitch.core.plans import Plan, Stop
from killswitch.core.quorum import Tally
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor import garbage, testimony
from killswitch.reactor.fan_out import cancel
from killswitch.reactor.finisher import Finisher, Progressed
from killswitch.reactor.persistence import persistently
from killswitch.reactor.stop import StopSequence
from killswitch.reactor.view import View
from killswitch.reactor.watched import Identity

_ORDER = 5.0
"""Seconds for which an order waits for an API server that is away; then all is judged anew."""
_FIRST = 0.1
"""Seconds for which evidence lets deletions go first: how much of it a crash could lose."""
_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fired:
    """How a fire ended: what was not accepted, and why; empty when all was."""

    policy: str
    """Its uid."""
    tally: Tally
    problems: tuple[str, ...] = ()


class Firing:
    """The fires of one reactor, each in a task of its own."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        identity: Identity,
        view: View,
        progressed: Progressed,
    ) -> None:
        """Nothing is under way."""
        self._cluster = cluster
        self._clock = clock
        self._identity = identity
        self._view = view
        self._sequence = StopSequence(cluster, clock, records_namespace=identity.namespace)
        self._finisher = Finisher(cluster, clock, self._sequence, identity.replica, progressed)
        self._tasks: set[asyncio.Task[None]] = set()

    def finish(self, shutdown: Json) -> None:
        """See to it that an engaged Shutdown is finished, whoever made it."""
        self._finisher.consider(shutdown, self._view)

    def begin(
        self, policy: CompiledPolicy, plan: Plan, tally: Tally, ended: Callable[[Fired], None]
    ) -> None:
        """Engage every Shutdown of the plan that is not held yet; `ended` hears how it went."""
        self._spawn(self._fire(policy, plan, tally, ended))

    async def close(self) -> None:
        """Do nothing more; what was under way is cut off where it stands."""
        await cancel([*self._tasks])
        await self._finisher.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fire(
        self, policy: CompiledPolicy, plan: Plan, tally: Tally, ended: Callable[[Fired], None]
    ) -> None:
        try:
            with garbage.put_off():
                problems = await self._engage_all(policy, plan, tally)
        except Exception as error:
            _LOG.exception("a fire failed", policy=str(policy))
            problems = [repr(error)]
        if not problems:
            _LOG.info("fired", policy=str(policy), tally=str(tally), targets=plan.count)
        ended(Fired(policy.uid, tally, tuple(problems)))

    async def _engage_all(self, policy: CompiledPolicy, plan: Plan, tally: Tally) -> list[str]:
        """Why Shutdowns of this fire were not accepted; empty when all were."""
        decided = self._clock.now()
        statement = testimony.statement(policy, tally, plan, self._identity.replica, decided)
        stored = self._view.shutdowns_of(policy.uid)
        batch = orders.for_policy(
            policy,
            left(plan, [each for each in stored if engaged(each)]),
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
        asked = self._finisher.start(shutdown, order.stops)
        # The watch may come late where much happens: what is engaged must not be ordered again.
        if shutdown["metadata"]["uid"] not in self._view.shutdowns.objects:
            self._view.shutdowns.put(shutdown)
        if shutdown["spec"].get("evidenceDigest") == order.body["spec"]["evidenceDigest"]:
            self._spawn(self._testify(order, shutdown, statement, asked))
        # Otherwise another replica engaged with its own evidence and stores that.

    async def _testify(
        self, order: Order, shutdown: Json, statement: Json, asked: asyncio.Event
    ) -> None:
        """Store the evidence; whether that succeeds changes nothing about the lock.

        Its digest is in the lock already. The few deletions of a small stop go first: it would
        compete with them for the API server.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST):
                await asked.wait()
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


def left(plan: Plan, holders: Sequence[Json]) -> tuple[Stop, ...]:
    """What of the plan these engaged Shutdowns do not hold."""
    return plans.not_held(
        plan,
        ((each["kind"], each["metadata"].get("namespace", ""), each["spec"]) for each in holders),
    )
