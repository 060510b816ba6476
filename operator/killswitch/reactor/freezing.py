"""Freeze: order the Freezes that a decision demands. Node guards carry them out."""

from typing import ClassVar

from killswitch.api import orders
from killswitch.api.orders import Order
from killswitch.core.locks import engaged
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor import engaging
from killswitch.reactor.acting import ORDER, Acting, Decision, left
from killswitch.reactor.freezes import Freezes
from killswitch.reactor.persistence import persistently
from killswitch.reactor.view import View
from killswitch.reactor.watched import Identity


class Freezing(Acting):
    """The Freezes of one reactor."""

    act: ClassVar[str] = "freezes"
    done: ClassVar[str] = "froze"

    def __init__(
        self, cluster: Cluster, clock: Clock, identity: Identity, view: View, freezes: Freezes
    ) -> None:
        """Nothing is under way."""
        super().__init__(cluster, clock, identity)
        self._view = view
        self._freezes = freezes
        self.made = 0
        """Freezes that this reactor has made, not another replica."""

    def holders(self, policy_uid: str) -> list[Json]:
        """What holds targets of a policy: its active Freezes, and its engaged Shutdowns, which do more."""
        frozen = [each for each in self._freezes.of_policy(policy_uid) if self._freezes.holds(each)]
        return frozen + [each for each in self._view.shutdowns_of(policy_uid) if engaged(each)]

    def _orders(self, decision: Decision) -> list[Order]:
        policy = decision.policy
        stored = self._freezes.of_policy(policy.uid)
        return orders.freeze_for_policy(
            policy,
            left(decision.plan, self.holders(policy.uid)),
            number=orders.episode(
                [(each["spec"]["policy"]["episode"], self._freezes.holds(each)) for each in stored]
            ),
            requested_by=self._identity.username,
            reason=decision.reason,
            digest=decision.digest,
            decided=decision.at,
        )

    async def _carry_out(self, order: Order, decision: Decision) -> None:
        freeze = await persistently(
            self._clock,
            lambda: engaging.engage(self._cluster, order, holds=self._freezes.holds),
            within=ORDER,
        )
        self._freezes.stored.expect(freeze)
        if freeze["spec"].get("evidenceDigest") == order.body["spec"]["evidenceDigest"]:
            self.made += 1
            self._spawn(self._testify(order, freeze, decision.statement))
