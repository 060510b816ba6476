"""What an edited policy keeps: all that was learned of the signals that the edit has left as they were."""

from dataclasses import replace

from killswitch.api.compiled import CompiledPolicy
from killswitch.core import readings
from killswitch.core.readings import Reading, Verdict
from killswitch.core.windows import Window
from killswitch.reactor import alerting
from killswitch.reactor.detecting import Detecting, detecting
from killswitch.reactor.watched import Watched


def watched(
    policy: CompiledPolicy, before: Watched | None, *, now: float, elapsed: float
) -> Watched:
    """The policy as it is watched from now on; `before` is how its last generation was.

    `now` is wall time, `elapsed` the same moment in monotonic time.
    """
    same = _same(policy, before)
    found = Watched(
        policy,
        _readings(policy, before, now, same),
        believed_until=_believed(policy, before, elapsed, same),
        windows=_windows(policy, before, elapsed),
        episodes=alerting.episodes(policy, before),
        detecting=_detecting(policy, before),
        crossed=before.crossed & same if before else set(),
    )
    if before is not None:
        found.since = before.since
        found.stop.state, found.freeze.state = before.stop.state, before.freeze.state
    return found


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


def _believed(
    policy: CompiledPolicy, before: Watched | None, now: float, same: set[str]
) -> dict[str, float]:
    """When what is kept becomes too old: an edit must not make it last for ever."""
    return {
        signal.name: before.believed_until.get(signal.name, now + signal.max_age)
        for signal in policy.signals
        if before is not None
        and signal.name in same
        and before.readings[signal.name].verdict is not Verdict.UNKNOWN
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
