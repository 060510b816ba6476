"""One policy under watch, and who watches it."""

from dataclasses import dataclass, field, replace

from killswitch.api.compiled import CompiledPolicy
from killswitch.core.caps import Cap
from killswitch.core.interlocks import Cause, Inhibition
from killswitch.core.quorum import Span, Tally
from killswitch.core.readings import Blindness, Path, Reading, Verdict, combined
from killswitch.core.stops import Boundaries
from killswitch.core.switch import State
from killswitch.core.windows import Window
from killswitch.reactor.detecting import Detecting
from killswitch.signals.episodes import Episode


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this reactor is and where it may act."""

    username: str
    replica: str
    namespace: str
    boundaries: Boundaries
    cap: Cap = field(default_factory=Cap)
    """What all policies together may stop."""


@dataclass(slots=True)
class Switched:
    """Where one switch of a policy stands: that of its stop, or that of its freezing rung."""

    state: State = State.DISARMED
    inhibition: Inhibition | None = None
    tally: Tally | None = None
    refused: str = ""
    retry_at: float = 0.0
    """When (monotonic, as the other moments here) what was refused is tried again."""
    plan_at: float = 0.0
    """Before this moment a switch that is latched needs no new plan."""

    @property
    def resting(self) -> bool:
        """Whether it is neither on its way, nor holds, nor is held up."""
        return self.state in {State.ARMED, State.DISARMED} and self.inhibition is None

    def refusal(self, now: float) -> Inhibition | None:
        """The API server's last refusal, while it is too early to ask again."""
        if not self.refused or now >= self.retry_at:
            return None
        return Inhibition(Cause.REFUSED, self.refused)

    def note(self, tally: Tally, inhibition: Inhibition | None) -> bool:
        """Keep what was judged; whether it differs in a way that people should see."""
        before, self.tally = self.tally, tally
        changed = before is None or _seen(before) != _seen(tally) or inhibition != self.inhibition
        self.inhibition = inhibition
        return changed


@dataclass(slots=True)
class Watched:
    """A policy's compiled form, its last readings, and where its switches stand."""

    policy: CompiledPolicy
    readings: dict[str, Reading]
    """What each signal says: of all its paths together."""
    heard: dict[str, tuple[Reading, ...]] = field(default_factory=dict)
    """The last word of each path, of the signals that have more than one."""
    believed_until: dict[str, float] = field(default_factory=dict)
    """When what was heard becomes too old to be believed, of the signals that know something."""
    crossed: set[str] = field(default_factory=set)
    """Signals that were beyond their threshold when something was last known of them."""
    windows: dict[str, Window] = field(default_factory=dict)
    """Of the signals that count events."""
    episodes: dict[str, Episode] = field(default_factory=dict)
    """Of the signals that alerts speak of."""
    detecting: dict[str, Detecting] = field(default_factory=dict)
    """Of the signals that have a detector."""
    look_at: float = 0.0
    """When (monotonic, as the other moments here) their windows are read again at the latest."""
    since: dict[str, Span] = field(default_factory=dict)
    stop: Switched = field(default_factory=Switched)
    freeze: Switched = field(default_factory=Switched)

    @property
    def switches(self) -> tuple[Switched, ...]:
        """Those that its policy has, the one that people mean by "the switch" first."""
        if not self.policy.stops:
            return (self.freeze,)
        return (self.stop,) if self.policy.freeze is None else (self.stop, self.freeze)

    @property
    def state(self) -> State:
        """Of its first switch."""
        return self.switches[0].state

    @property
    def tally(self) -> Tally | None:
        """Of its first switch."""
        return self.switches[0].tally

    @property
    def inhibition(self) -> Inhibition | None:
        """What inhibits its first switch, or else the freezing rung."""
        return next((each.inhibition for each in self.switches if each.inhibition), None)

    def take(self, reading: Reading, *, max_age: float, now: float, elapsed: float) -> bool:
        """Let a path's reading count; whether the signal says something else than before.

        `now` is wall time, `elapsed` the same moment in monotonic time.
        """
        name, before = reading.signal, self.readings[reading.signal]
        known = self.heard.get(name) or (before,)
        others = tuple(each for each in known if each.path is not reading.path)
        if others and name not in self.detecting:  # a detector combines its paths itself
            self.heard[name] = (*others, reading)
            reading = combined(self.heard[name], max_age=max_age, now=now)
        else:
            self.heard.pop(name, None)  # what the only path said before counts no more
        self.readings[name] = reading
        self._know(reading)
        if reading.verdict is Verdict.UNKNOWN or reading.lasting:
            self.believed_until.pop(name, None)
        elif reading is not before:
            self.believed_until[name] = elapsed + max_age
        return reading.differs(before)

    def withdraw(
        self, name: str, path: Path, *, max_age: float, now: float, elapsed: float
    ) -> bool:
        """Let a path's word count no more; whether the signal says something else than before."""
        left = tuple(each for each in self.heard.get(name, ()) if each.path is not path)
        if not left:
            return False
        before = self.readings[name]
        self.heard[name] = left
        self.readings[name] = reading = combined(left, max_age=max_age, now=now)
        self._know(reading)
        if reading.verdict is not Verdict.UNKNOWN:
            self.believed_until[name] = elapsed + max_age - max(0.0, now - reading.read_at)
        return reading.differs(before)

    def expire(self, now: float, elapsed: float) -> bool:
        """Let go of what nobody has said again for `maxAge`; whether there was anything.

        Polls answer or fail all the time. Where they do not, nothing is known any more.
        """
        late = [name for name, until in self.believed_until.items() if elapsed > until]
        for name in late:
            del self.believed_until[name]
            message = f"{self.readings[name].message}; nothing was heard since"
            self.readings[name] = replace(
                self.readings[name],
                verdict=Verdict.UNKNOWN,
                reason=Blindness.STALE,
                message=message,
                read_at=now,
            )
        return bool(late)

    def _know(self, reading: Reading) -> None:
        """Unknown changes nothing: one lost poll must not end a signal's hysteresis."""
        if reading.verdict is Verdict.TRIPPED:
            self.crossed.add(reading.signal)
        elif reading.verdict is Verdict.CLEAR:
            self.crossed.discard(reading.signal)

    @property
    def quiet(self) -> bool:
        """Whether nothing is tripped, kept or inhibited: a reading that stays clear changes nothing."""
        return not self.since and all(each.resting for each in self.switches)


def _seen(tally: Tally) -> tuple[object, ...]:
    votes = tuple((vote.reading.verdict, vote.reading.reason, vote.counted) for vote in tally.votes)
    return (tally.demanded, tally.pending, *votes)
