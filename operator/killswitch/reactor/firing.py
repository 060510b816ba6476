"""Stop: engage the Shutdowns that a decision demands, then have them finished.

A Shutdown that is there already is helped, whoever made it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import ClassVar

from killswitch.api import orders
from killswitch.api.compiled import CompiledPolicy
from killswitch.api.orders import Order
from killswitch.core.locks import engaged
from killswitch.ports import Clock, Cluster, Json, SignalSource
from killswitch.reactor.acting import ORDER, Acting, Decision, left
from killswitch.reactor.escalating import Ladder
from killswitch.reactor.finisher import Finisher, Progressed
from killswitch.reactor.persistence import persistently
from killswitch.reactor.stop import StopSequence
from killswitch.reactor.view import View
from killswitch.reactor.watched import Identity

_FIRST = 0.1
"""Seconds for which evidence lets deletions go first: how much of it a crash could lose."""


class Firing(Acting):
    """The stops of one reactor."""

    act: ClassVar[str] = "stops"
    done: ClassVar[str] = "fired"

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        identity: Identity,
        view: View,
        *,
        progressed: Progressed,
        policy: Callable[[str], CompiledPolicy | None],
        source: SignalSource | None = None,
    ) -> None:
        """Nothing is under way. Graceful stops ask `source` for what is under way.

        `policy` gives a policy by its uid, as it stands now.
        """
        super().__init__(cluster, clock, identity)
        self._view = view
        self._sequence = StopSequence(
            cluster, clock, records_namespace=identity.namespace, source=source
        )
        self._finisher = Finisher(
            cluster,
            clock,
            self._sequence,
            identity.replica,
            progressed=progressed,
            ladder=Ladder(cluster, clock, identity, view, policy=policy),
            view=view,
        )

    def finish(self, shutdown: Json) -> None:
        """See to it that an engaged Shutdown is finished, whoever made it."""
        self._finisher.consider(shutdown)

    @property
    def held(self) -> frozenset[str]:
        """Keys of the resources that unfinished Shutdowns hold by name."""
        return self._finisher.held

    async def close(self) -> None:
        """Do nothing more; what was under way is cut off where it stands."""
        await super().close()
        await self._finisher.close()

    def _orders(self, decision: Decision) -> list[Order]:
        stored = self._view.shutdowns_of(decision.policy.uid)
        return orders.for_policy(
            decision.policy,
            left(decision.plan, [each for each in stored if engaged(each)]),
            number=orders.episode(
                [(each["spec"]["policy"]["episode"], engaged(each)) for each in stored]
            ),
            requested_by=self._identity.username,
            reason=decision.reason,
            digest=decision.digest,
        )

    async def _carry_out(self, order: Order, decision: Decision) -> None:
        """One Shutdown: lock first; the stop itself goes on without being waited for."""
        self._finisher.announce(order, decision.statement, decision.at)
        shutdown = await persistently(
            self._clock, lambda: self._sequence.engage(order), within=ORDER
        )
        asked = self._finisher.start(shutdown, order.stops)
        self._view.shutdowns.expect(shutdown)
        if shutdown["spec"].get("evidenceDigest") == order.body["spec"]["evidenceDigest"]:
            self._spawn(self._testify_after(asked, order, shutdown, decision.statement))
        # Otherwise another replica engaged with its own evidence and stores that.

    async def _testify_after(
        self, asked: asyncio.Event, order: Order, shutdown: Json, statement: Json
    ) -> None:
        """The few deletions of a small stop go first: evidence would compete with them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST):
                await asked.wait()
        await self._testify(order, shutdown, statement)
