"""The steps of a policy's ladder: its stop, and the freezing rung before it.

Each has a switch of its own, moved by the same table; what differs between them is here.
"""

from typing import Protocol

from killswitch.api.compiled import CompiledPolicy
from killswitch.core.interlocks import Cause, Inhibition
from killswitch.core.locks import engaged
from killswitch.ports import Json
from killswitch.reactor.acting import Acting
from killswitch.reactor.freezes import Freezes
from killswitch.reactor.freezing import Freezing
from killswitch.reactor.view import View
from killswitch.reactor.watched import Switched, Watched


class Step(Protocol):
    """What the engine asks about one step."""

    acting: Acting
    freezes: bool
    """Whether it freezes; else it stops."""

    def switch(self, watched: Watched) -> Switched:
        """Where its switch stands."""
        ...

    def needed(self, policy: CompiledPolicy) -> int:
        """How many signals must count."""
        ...

    def holders(self, policy: CompiledPolicy) -> list[Json]:
        """What holds targets already: the fact behind LATCHED."""
        ...

    def cooldown_ends(self, policy: CompiledPolicy) -> float | None:
        """Until when (seconds since the epoch) people's letting go is respected; None: nobody did."""
        ...

    def blind(self) -> Inhibition | None:
        """Why it cannot act at all, or None."""
        ...


class StopStep:
    """The stop at the quorum."""

    freezes = False

    def __init__(self, view: View, acting: Acting) -> None:
        """What it looks at, and by what it acts."""
        self._view = view
        self.acting = acting

    def switch(self, watched: Watched) -> Switched:
        """The stop's own."""
        return watched.stop

    def needed(self, policy: CompiledPolicy) -> int:
        """The policy's quorum."""
        return policy.quorum

    def holders(self, policy: CompiledPolicy) -> list[Json]:
        """Engaged Shutdowns. A Freeze is none: it neither delays nor prevents a stop."""
        return [each for each in self._view.shutdowns_of(policy.uid) if engaged(each)]

    def cooldown_ends(self, policy: CompiledPolicy) -> float | None:
        """Counted from the last release."""
        released = self._view.released_at(policy.uid)
        return None if released is None else released + policy.cooldown

    def blind(self) -> Inhibition | None:
        """The engine does not start before all Shutdowns are listed."""
        return None


class FreezeStep:
    """The freezing rung."""

    freezes = True

    def __init__(self, view: View, freezes: Freezes, acting: Freezing) -> None:
        """What it looks at, and by what it acts."""
        self._view = view
        self._freezes = freezes
        self._freezing = acting
        self.acting: Acting = acting

    def switch(self, watched: Watched) -> Switched:
        """The rung's own."""
        return watched.freeze

    def needed(self, policy: CompiledPolicy) -> int:
        """The rung's quorum."""
        return policy.quorum if policy.freeze is None else policy.freeze.quorum

    def holders(self, policy: CompiledPolicy) -> list[Json]:
        """Active Freezes, and engaged Shutdowns: what is stopped need not be frozen."""
        return self._freezing.holders(policy.uid)

    def cooldown_ends(self, policy: CompiledPolicy) -> float | None:
        """Counted from the last release, or the end of the last Freeze: thaw, or expiry."""
        ends = (self._view.released_at(policy.uid), self._freezes.ended_at(policy.uid))
        last = max((each for each in ends if each is not None), default=None)
        return None if last is None else last + policy.cooldown

    def blind(self) -> Inhibition | None:
        """Stops do not wait for Freezes to be listed; another Freeze of the same would be made."""
        if self._freezes.listed:
            return None
        return Inhibition(Cause.REFUSED, "not frozen: Freezes could not be listed yet")
