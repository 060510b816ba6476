"""The view of Freezes: which hold, which have come to their end, and when people last let go.

An end is fixed when a Freeze is first seen, and counted in a clock that nobody sets: a wall clock
that jumps later neither ends a Freeze nor prolongs it. One that is wrong at that moment can end it
early (a stop comes too soon, never too late by more than was meant).
"""

from collections import defaultdict
from collections.abc import Iterator

from killswitch.core import conditions, containment, times
from killswitch.core.conditions import FreezeCondition
from killswitch.ports import Clock, Json
from killswitch.reactor.view import Listener, ObjectSink


class Freezes:
    """All stored Freezes; a policy's own are those that the reactors requested for it."""

    def __init__(self, clock: Clock, username: str, changed: Listener, removed: Listener) -> None:
        """The listeners are called after the view holds the change. `username` is the reactors'."""
        self._clock = clock
        self._username = username
        self._tell_changed, self._tell_removed = changed, removed
        self._of_policy: dict[str, dict[str, Json]] = defaultdict(dict)
        self._in_force: dict[str, Json] = {}
        """Those that nobody has ended, by uid: what is history costs a tick nothing."""
        self._ends: dict[str, float] = {}
        """When (monotonic) each comes to its end."""
        self._thawed: dict[str, float] = {}
        """When each was first seen thawed, by its uid."""
        self._deleted: dict[str, float] = {}
        """When one that held was last seen deleted, by its policy's uid."""
        self.stored = ObjectSink(self._changed, self._removed)
        self.listed = False
        """Whether all of them were seen once: before that nobody knows what is frozen."""

    def of_policy(self, uid: str) -> list[Json]:
        """Every stored Freeze of a policy, whether it holds or not."""
        return list(self._of_policy.get(uid, {}).values())

    def holds(self, freeze: Json) -> bool:
        """Whether it freezes now: nobody has ended it, and its time is not over."""
        return containment.freeze_in_force(freeze) and not self._over(freeze)

    def ending(self) -> Iterator[Json]:
        """Those whose time is over, that nobody has ended, and that end in a stop."""
        for freeze in self._in_force.values():
            if freeze["spec"]["onExpiry"] == "Stop" and self._over(freeze):
                yield freeze

    def holding(self) -> Iterator[Json]:
        """Policies' own that freeze now."""
        for freeze in self._in_force.values():
            if self._policy_of(freeze) and not self._over(freeze):
                yield freeze

    def ended_at(self, policy_uid: str) -> float | None:
        """When (seconds since the epoch) the last Freeze of a policy ended; None: none has.

        A thaw counts from when the manager wrote it down; until then from when it was seen here.
        """
        moments = [self._ended_at(each) for each in self.of_policy(policy_uid)]
        moments.append(self._deleted.get(policy_uid))
        return max((each for each in moments if each is not None), default=None)

    def _ended_at(self, freeze: Json) -> float | None:
        if self.holds(freeze):
            return None
        observed = freeze.get("status", {}).get("conditions", ())
        if conditions.holds(observed, FreezeCondition.ENDED):
            found = conditions.find(observed, FreezeCondition.ENDED) or {}
            return times.seconds(found["lastTransitionTime"])
        now = self._clock.now()
        over = now - max(0.0, self._clock.monotonic() - self._end(freeze))
        if freeze["spec"].get("thaw"):
            return self._thawed.setdefault(freeze["metadata"]["uid"], over)
        return over

    def _over(self, freeze: Json) -> bool:
        return self._clock.monotonic() >= self._end(freeze)

    def _end(self, freeze: Json) -> float:
        known = self._ends.get(freeze["metadata"]["uid"])
        if known is not None:
            return known
        now = self._clock.now()
        past = min(0.0, times.seconds(freeze["spec"]["until"]) - now)
        return self._clock.monotonic() + (containment.remaining(freeze, now) or past)

    def _changed(self, body: Json) -> None:
        uid = body["metadata"]["uid"]
        self._ends[uid] = self._end(body)
        self._in_force.pop(uid, None)
        if containment.freeze_in_force(body):
            self._in_force[uid] = body
        self._of_policy[self._policy_of(body)][uid] = body
        self._ended_at(body)  # the moment at which a thaw was first seen so counts
        self._tell_changed(body)

    def _removed(self, body: Json) -> None:
        uid, policy = body["metadata"]["uid"], self._policy_of(body)
        if policy and self.holds(body):  # whoever deletes one that holds, thaws
            self._deleted[policy] = self._clock.now()
        self._ends.pop(uid, None)
        self._in_force.pop(uid, None)
        self._thawed.pop(uid, None)
        self._of_policy[policy].pop(uid, None)
        if not self._of_policy[policy]:
            del self._of_policy[policy]
        self._tell_removed(body)

    def _policy_of(self, freeze: Json) -> str:
        """The uid of the policy that made it; empty for anybody else's."""
        spec = freeze["spec"]
        if spec["requestedBy"] != self._username:
            return ""
        return str((spec.get("policy") or {}).get("uid", ""))
