"""Write what the reactor knows about its policies: readings, demand, inhibition.

Level-triggered and off the kill path: a policy is dirty when a verdict, the demand or the
inhibition changed; a failed write leaves it dirty. Values alone do not cause writes, but each
status is written once a minute: `observedAt` then shows that a reactor is alive and reading.
"""

import math
from collections.abc import Sequence

import structlog

from killswitch.core import conditions, times
from killswitch.core.caps import Cap
from killswitch.core.conditions import PolicyCondition, Reason
from killswitch.core.errors import KillSwitchError, NotFoundError
from killswitch.core.readings import Reading
from killswitch.core.resources import CLUSTER_POLICIES, POLICIES
from killswitch.core.switch import State
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor.engine import Engine
from killswitch.reactor.finisher import FIELD_MANAGER
from killswitch.reactor.paths import Paths
from killswitch.reactor.watched import Watched
from killswitch.signals.watchdog import PathState

_LOG = structlog.get_logger(__name__)
_PAUSE = 0.25
_HEARTBEAT = 60.0
_MOST_PATHS = 8


async def report(engine: Engine, cluster: Cluster, clock: Clock) -> None:
    """Write dirty policies' status until cancelled."""
    written: dict[str, float] = {}
    while True:
        now = clock.monotonic()
        quiet = {uid for uid in engine.watched if now - written.get(uid, now) > _HEARTBEAT}
        for uid in engine.dirty | quiet:
            engine.dirty.discard(uid)
            watched = engine.watched.get(uid)
            before = engine.view.policies.transitions.get(uid)
            if watched is None or before is None:
                continue
            written[uid] = now
            try:
                await _write(watched, before, cluster, engine, clock.now())
            except NotFoundError:
                continue
            except KillSwitchError:
                engine.dirty.add(uid)
                await clock.sleep(_PAUSE)
            except Exception:  # one policy's oddity must not silence the others
                _LOG.exception("a status cannot be written", policy=str(watched.policy))
        await clock.sleep(_PAUSE)


async def _write(
    watched: Watched, before: Sequence[Json], cluster: Cluster, engine: Engine, now: float
) -> None:
    policy = watched.policy
    resource = POLICIES if policy.namespace else CLUSTER_POLICIES
    await cluster.apply(
        resource,
        policy.name,
        {"status": status(watched, before, engine.intake.paths, now) | _cap(engine.cap)},
        policy.namespace,
        subresource="status",
        manager=FIELD_MANAGER,
    )


def _cap(cap: Cap) -> Json:
    if not cap.on:
        return {}
    window = f"{math.ceil(cap.window)}s"
    return {"cap": {"targets": cap.targets, "percent": cap.percent, "window": window}}


def status(watched: Watched, observed: Sequence[Json], paths: Paths, now: float) -> Json:
    """The part of a policy's status that the reactor owns, given the conditions so far."""
    generation = watched.policy.generation
    entries = [
        conditions.make(name, value, reason, message, generation=generation, now=times.text(now))
        for name, value, reason, message in _judgements(watched, paths)
    ]
    return {
        "conditions": [conditions.merge(observed, each) for each in entries],
        "signals": [
            _signal(each, paths.of(watched.policy.uid, each.signal), now)
            for each in watched.readings.values()
        ],
    }


def _judgements(watched: Watched, paths: Paths) -> list[tuple[str, bool, str, str]]:
    tally, inhibition = watched.tally, watched.inhibition
    blind = tally.blind if tally else tuple(watched.readings.values())
    uid = watched.policy.uid
    unknown = ", ".join(_unknown(each, paths.of(uid, each.signal)) for each in blind)
    return [
        (
            PolicyCondition.SIGNALS_AVAILABLE,
            not blind,
            Reason.BLIND if blind else Reason.ALL_ANSWER,
            unknown[:2000] if blind else "every signal answers",
        ),
        (PolicyCondition.DEMANDED, *_demand(watched)),
        (
            PolicyCondition.INHIBITED,
            inhibition is not None,
            inhibition.cause if inhibition else Reason.NOT_INHIBITED,
            inhibition.message if inhibition else "nothing inhibits",
        ),
    ]


def _demand(watched: Watched) -> tuple[bool, str, str]:
    """Whether a quorum is met, which, and the votes; `1 of 2 tripped, 2 required, 1 to freeze`."""
    first, rung = watched.tally, watched.policy.freeze
    if first is None:
        return False, Reason.NO_QUORUM, "not judged yet"
    two = watched.policy.stops and rung is not None
    votes = f"{first}, {rung.quorum} to freeze" if two and rung is not None else str(first)
    if first.demanded:
        return True, Reason.QUORUM if watched.policy.stops else Reason.FREEZE_QUORUM, votes
    if two and watched.freeze.tally is not None and watched.freeze.tally.demanded:
        return True, Reason.FREEZE_QUORUM, votes
    pending = any(each.state is State.PENDING for each in watched.switches)
    return False, Reason.HOLD_DOWN if pending else Reason.NO_QUORUM, votes


def _unknown(reading: Reading, states: Sequence[PathState]) -> str:
    """Why nothing is known of a signal, its silent paths named."""
    told = reading.message
    silent = [
        each.message for each in states if each.silent and not told.startswith(f"{each.path}:")
    ]
    return f"{reading.signal}: {reading.reason} ({'; '.join([told, *silent])})"


def _signal(reading: Reading, states: Sequence[PathState], now: float) -> Json:
    return {
        "name": reading.signal,
        "verdict": str(reading.verdict),
        "reason": str(reading.reason or ""),
        "value": "" if reading.value is None else f"{reading.value:g}",
        "message": reading.message[:1024],
        "observedAt": times.text(reading.read_at),
        "paths": [_path(each, now) for each in states[:_MOST_PATHS]],
    }


def _path(state: PathState, now: float) -> Json:
    heard = "Heard" if state.ever else "Awaited"
    found: Json = {"path": state.path[:320], "state": "Silent" if state.silent else heard}
    if state.silent:
        found["message"] = state.message[:1024]
    if state.ever:
        found["lastHeard"] = times.text(now - state.seconds)
    return found
