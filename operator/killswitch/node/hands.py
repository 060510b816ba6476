"""What is done to the pods' cgroups, and what is held of it; one pod's trouble never stops another's.

All are told to freeze before anything is waited for; then the kills; then what is let go. Everything
may be done again: a look that failed is repaired by the next.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from killswitch.core.containment import Resident, Want
from killswitch.core.errors import CgroupError
from killswitch.node import holds
from killswitch.node.cgroups import Cgroups
from killswitch.node.clock import Clock
from killswitch.node.holds import Hold
from killswitch.node.knowledge import Knowledge, Wanted

Json = Mapping[str, Any]

_KILL_WITHIN = 0.05
"""Seconds to wait for all that was killed; a large server's memory may take seconds to be given
back: what lives longer is looked at again."""
_FREEZE_WITHIN = 0.02
"""Seconds to wait for all that was told to freeze; what takes longer is looked at again."""
_RECHECK = 1.0
"""Seconds between two looks at whether what is held is still as wanted."""
_REOPEN_AFTER = 1.0
"""Seconds that a dead pod stays closed after its order: the next one, which takes over from it, may
come by another watch."""
_SWEEP = 30.0
"""Seconds between two searches for what is frozen or closed and held by nobody."""
_HISTORY = 50
_CLOSED = "0"
"""A closed pod's limit of processes; to `reopen`, that nobody knows what it was."""
_LOG = logging.getLogger(__name__)


class Hands:
    """The holds of this node."""

    def __init__(self, cgroups: Cgroups, knowledge: Knowledge, clock: Clock) -> None:
        self.cgroups = cgroups
        self.holds: dict[str, Hold] = {}
        self.history: deque[Json] = deque(maxlen=_HISTORY)
        """Report entries of what is held no more, the oldest first."""
        self.limits: dict[str, str] = {}
        """How many processes each pod may have, noted while it is open: a guard that dies between
        closing a pod and remembering it has a successor who knows."""
        self.changed = False
        """Whether anything that is reported has changed; whoever tells resets it."""
        self._knowledge = knowledge
        self._clock = clock
        self._now = 0.0
        self._recheck_at = self._sweep_at = 0.0
        self._try_at: float | None = None

    def work(self, wanted: Mapping[str, Wanted]) -> None:
        """Make the node as it is wanted; every pod that can be acted upon is."""
        self._now = self._clock.boot()
        due = self._due(wanted)
        self._freeze(due)
        self._kill([hold for hold in due if hold.want is Want.KILL])
        self._confirm([hold for hold in due if hold.want is Want.FREEZE])
        self._let_go(wanted)
        undone = [self.holds[uid].again for uid in wanted if self.holds[uid].done_at is None]
        self._try_at = min(undone, default=None)
        self.changed |= bool(due)
        for hold in due:
            if hold.done_at is not None:
                _LOG.info("done", extra={"report": hold.report(self._now)})

    def next_look(self) -> float:
        """Boot time at which there is something to do although nothing was told."""
        times = [self._now + _SWEEP]
        if self.holds:
            times.append(self._recheck_at)
        if self._try_at is not None:
            times.append(self._try_at)
        return min(times)

    def sweep_soon(self) -> None:
        """Search at the next look for what is frozen or closed and held by nobody."""
        self._sweep_at = 0.0

    def thaw_all(self, why: str) -> None:
        """Let every frozen pod run; what is dead stays closed."""
        frozen = {uid for uid, hold in self.holds.items() if hold.want is Want.FREEZE}
        strays = self._stray(self.cgroups.frozen_pods, self.holds.keys() - frozen)
        for uid in frozen | strays:
            self._release(uid, why)

    def reopen_unstopped(self, why: str) -> None:
        """Reopen every dead pod that nothing but an isolation keeps closed."""
        for uid, hold in list(self.holds.items()):
            if hold.want is Want.KILL and not self._knowledge.stopped(hold):
                self._release(uid, why)

    # --- take up --------------------------------------------------------------------------------

    def _due(self, wanted: Mapping[str, Wanted]) -> list[Hold]:
        """What is not as wanted, and has waited long enough since the last try."""
        found = [self._hold(uid, each) for uid, each in wanted.items()]
        if self.holds and self._now >= self._recheck_at:
            self._recheck_at = self._now + _RECHECK
            present = self._present()
            for hold in found:
                if hold.done_at is not None and not self._stands(hold, present):
                    hold.undone()
        return [hold for hold in found if hold.done_at is None and hold.again <= self._now]

    def _hold(self, uid: str, wanted: Wanted) -> Hold:
        """What is in hand for this cgroup, begun anew when something else is wanted."""
        before = self.holds.get(uid)
        if before is None or (before.who, before.cause) != (wanted.who, wanted.cause):
            self.changed = True
        if before is not None and before.want is wanted.want:
            before.who, before.cause = wanted.who, wanted.cause
            before.unwanted_since = None
            return before
        hold = Hold(wanted.who, wanted.want, wanted.cause, self._clock.wall(), self._now)
        if before is not None:
            hold.former, hold.found = before.former, before.found
        self.holds[uid] = hold
        return hold

    def _stands(self, hold: Hold, present: Collection[str]) -> bool:
        """Whether what was done still is so; a cgroup that is gone stays gone until it is back."""
        uid = hold.who.cgroup
        if uid not in present:
            return True
        try:
            if hold.want is Want.FREEZE:
                return not hold.gone and self.cgroups.frozen(uid)
            return self.cgroups.limit(uid) == _CLOSED and self.cgroups.empty(uid)
        except CgroupError:
            return False

    # --- freeze and kill ------------------------------------------------------------------------

    def _freeze(self, due: Iterable[Hold]) -> None:
        for hold in due:
            try:
                there = self.cgroups.freeze(hold.who.cgroup)
            except CgroupError as error:
                self._failed(hold, error)
            else:
                hold.message = ""
                hold.gone = hold.found and not there
                hold.found |= there

    def _kill(self, due: Iterable[Hold]) -> None:
        struck: dict[str, Hold] = {}
        for hold in due:
            uid = hold.who.cgroup
            if not hold.found and not hold.message:
                hold.postpone(self._now, holds.NO_CGROUP)
                continue
            try:
                hold.former = hold.former or self.limits.get(uid) or self._limit(uid)
            except CgroupError as error:  # not a reason to let it live
                _LOG.warning("cannot read its limit", extra={"uid": uid, "error": str(error)})
            struck[uid] = hold
        for uid, outcome in self.cgroups.kill_all(struck, _KILL_WITHIN).items():
            hold = struck[uid]
            if isinstance(outcome, CgroupError):
                self._failed(hold, outcome)
            else:
                hold.found = True
                hold.processes += outcome
                hold.done(self._clock.wall())

    def _limit(self, uid: str) -> str:
        """How many processes it may have; empty when it is closed and nobody knows any more."""
        limit = self.cgroups.limit(uid)
        return "" if limit == _CLOSED else limit

    def _confirm(self, due: Iterable[Hold]) -> None:
        """Wait a moment for what was told to freeze."""
        waiting = [hold for hold in due if not hold.message]
        deadline = time.monotonic() + _FREEZE_WITHIN
        while waiting := [hold for hold in waiting if not self._rests(hold)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.0005)
        for hold in waiting:
            hold.postpone(self._now, "its processes do not come to rest; they are told again")

    def _rests(self, hold: Hold) -> bool:
        """Whether nothing more is to be waited for now."""
        uid = hold.who.cgroup
        if not hold.found:
            hold.postpone(self._now, holds.NO_CGROUP)
            return True
        try:
            if not hold.gone and not self.cgroups.frozen(uid):
                return False
            at = self._clock.wall()
            hold.processes = len(self.cgroups.processes(uid))
            if hold.former and self._knowledge.may_let_go(hold.cause):
                # It was to be dead and is to be frozen now: its containers may begin, and freeze.
                self.cgroups.reopen(uid, hold.former)
                hold.former = ""
        except CgroupError as error:
            self._failed(hold, error)
        else:
            hold.done(at)
        return True

    def _failed(self, hold: Hold, error: CgroupError) -> None:
        text = str(error)
        if hold.message != text:
            _LOG.warning("not done", extra={"uid": hold.who.cgroup, "error": text})
        hold.postpone(self._now, text)
        self.changed = True

    # --- let go ---------------------------------------------------------------------------------

    def _let_go(self, wanted: Mapping[str, Wanted]) -> None:
        """Thaw and reopen what nothing wants any more, held by this guard or left by another."""
        for uid, hold in list(self.holds.items()):
            if uid in wanted:
                continue
            hold.cause = self._knowledge.settled(hold.cause)
            if not self._knowledge.may_let_go(hold.cause):
                continue
            since = hold.unwanted_since = hold.unwanted_since or self._now
            if hold.want is Want.FREEZE or self._now - since >= _REOPEN_AFTER:
                self._release(uid)
        if self._knowledge.sure and self._now >= self._sweep_at:
            self._sweep_at = self._now + _SWEEP
            present = self._present()
            self._knowledge.residents.bury(present)
            self._note_limits(present)
            for find in (self.cgroups.frozen_pods, self.cgroups.closed_pods):
                for uid in self._stray(find, wanted.keys() | self.holds.keys()):
                    self._release(uid)

    def _note_limits(self, present: Iterable[str]) -> None:
        before = self.limits
        try:
            self.limits = {uid: before.get(uid) or self._limit(uid) for uid in present}
        except CgroupError as error:
            _LOG.warning("cannot read limits", extra={"error": str(error)})
        self.changed |= self.limits != before

    def _release(self, uid: str, why: str = "") -> None:
        hold = self.holds.get(uid)
        if uid in self._knowledge.residents.forbidden():
            self.holds.pop(uid, None)
            return
        try:
            there = self.cgroups.thaw(uid)
            if self.cgroups.limit(uid) == _CLOSED:
                former = (hold and hold.former) or self.limits.get(uid) or _CLOSED
                self.cgroups.reopen(uid, former)
        except CgroupError as error:
            _LOG.warning("cannot let go", extra={"uid": uid, "error": str(error)})
            if hold is not None:
                self._failed(hold, error)
            return
        self.changed = True
        _LOG.info("let go", extra={"uid": uid, "why": why})
        if hold is not None:
            del self.holds[uid]
            self._into_history(hold, why, there=there)

    def _into_history(self, hold: Hold, why: str, *, there: bool) -> None:
        if there:
            self.history.append(holds.entry(hold, "Thawed", self._clock.wall(), why))
        elif hold.found:
            at = hold.done_at or self._clock.wall()
            self.history.append(holds.entry(hold, "Dead", at, "its cgroup is gone"))

    def _stray(self, find: Callable[[], set[str]], held: Iterable[str]) -> set[str]:
        """What is frozen or closed without being wanted so, none of it forbidden."""
        try:
            return find() - set(held) - self._knowledge.residents.forbidden()
        except CgroupError as error:
            _LOG.warning("cannot search", extra={"error": str(error)})
            return set()

    def _present(self) -> set[str]:
        try:
            return self.cgroups.pods()
        except CgroupError as error:
            _LOG.warning("cannot list cgroups", extra={"error": str(error)})
            return set(self.holds)

    def take_back(self, who: Resident, hold: Hold) -> None:
        """What an earlier process held."""
        self.holds[who.cgroup] = hold
