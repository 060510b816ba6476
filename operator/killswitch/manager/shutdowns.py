"""A Shutdown's life after its lock: verified, released, restored."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from killswitch.core import (
    at_release,
    audit,
    conditions,
    durations,
    fighters,
    grace,
    times,
)
from killswitch.core.audit import Tally
from killswitch.core.conditions import Reason, ShutdownCondition
from killswitch.core.errors import KillSwitchError, NotFoundError, RefusedError
from killswitch.core.inventory import Inventory
from killswitch.core.names import ENGAGED_LABEL
from killswitch.core.words import several
from killswitch.manager import events, held, nodes
from killswitch.manager.attempts import Attempts
from killswitch.manager.fighters import Fighters, after_restore
from killswitch.manager.held import Held
from killswitch.manager.numbers import Numbers
from killswitch.manager.places import Places
from killswitch.manager.recorded import Records
from killswitch.manager.restore import Restorer, Step
from killswitch.manager.rounds import Key
from killswitch.manager.status import Judgement, StatusWriter
from killswitch.manager.verification import left, ungoverned
from killswitch.ports import Clock, Cluster, Json
from killswitch.settings import Settings
from killswitch.telemetry.traces import Traces

_LOG = structlog.get_logger(__name__)
_FAST, _SLOW = 0.2, 2.0
_ALARMING = {
    Reason.DEADLINE,
    Reason.PODS_NOT_KNOWN,
    Reason.CAME_BACK,
    Reason.NOTHING_RECORDED,
    Reason.UNGOVERNED,
    Reason.UNGUARDED,
}
_FALLEN_BACK = {Reason.CAME_BACK, Reason.UNGUARDED}
"""Why a stop is not verified that was."""


_INVALID = 422
_BEST_EFFORT = {"fighters", "attempts"}
"""Of the status; no judgement waits for it."""
_NEW = 60.0
"""Seconds for which a Shutdown is looked at in this way without waiting for its turn."""
_PACE = 0.2
"""Seconds between two looks for fighters, over all Shutdowns: each takes a dozen lists."""


@dataclass(frozen=True, slots=True)
class _Beheld:
    """When it was last looked for what a release of a Shutdown would start, and what was found."""

    uid: str
    at: float
    words: str
    began: float
    """When it was decided (seconds since the epoch)."""


class Shutdowns:
    """The flow for Shutdowns and ClusterShutdowns."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        settings: Settings,
        numbers: Numbers,
        traces: Traces | None = None,
        *,
        places: Places | None = None,
        tally: Tally | None = None,
    ) -> None:
        """Keeps no state but what it has still to measure, and what it has counted."""
        self._numbers = numbers
        self._traces = traces
        self._verified: dict[Key, float] = {}
        """When stops were first verified whose decision the reactor has not reported yet."""
        self._cluster = cluster
        self._clock = clock
        self._settings = settings
        self._writer = StatusWriter(cluster, clock)
        self._beheld: dict[Key, _Beheld] = {}
        self._places = places or Places(cluster, clock)
        self._turn_at = 0.0
        self._records = Records(cluster, self._places, records_namespace=settings.namespace)
        self._fighters = Fighters(cluster, clock, self._places, self._records)
        self._attempts = Attempts(cluster, numbers, tally or Tally(), clock)
        self._restorer = Restorer(
            cluster, clock, self._records, operator_namespace=settings.namespace
        )

    async def look(self, key: Key) -> float | None:
        """Bring one Shutdown's status up to date; seconds until the next look."""
        try:
            shutdown = await self._cluster.get(key.resource, key.name, key.namespace)
        except NotFoundError:
            self._verified.pop(key, None)
            self._forget(key)
            return None
        if key.namespace == self._settings.canary_namespace:
            return None
        spec = shutdown["spec"]
        given, needed = len(spec.get("approvals") or {}), spec["requiredApprovals"]
        released = given >= needed
        judgements: list[Judgement] = []
        fields: Json = {"approvals": f"{given}/{needed}"}
        again = None
        if not released:
            judgement, more, again = await self._verify(key, shutdown)
            if judgement[1]:
                await nodes.withdraw(self._cluster, shutdown)
            judgements.append(judgement)
            fields |= more
        told = fields.get("fighters", shutdown.get("status", {}).get("fighters", ()))
        judgements.insert(0, _released(given, needed, fighters.starting(told)))
        if released:
            self._forget(key)
            await self._let_go(key, shutdown)
            await nodes.withdraw(self._cluster, shutdown)
            step = await self._restore(shutdown)
            judgements.append((ShutdownCondition.RESTORED, step.done, step.reason, step.message))
            fields["fighters"] = after_restore(told, step.resumed)
            again = step.again
            # A soak that began is remembered; None forgets it, since what was ready is not any more.
            fields["stages"] = {"canaryReady": step.canary_ready} if step.canary_ready else None
        await self._write(key, shutdown, judgements, fields)
        if "elapsed" in fields and not shutdown.get("status", {}).get("elapsed"):
            self._verified[key] = self._clock.now()
        self._measure(key, shutdown)
        return again

    def _forget(self, key: Key) -> None:
        """It is gone or released: nobody is kept from anything by it."""
        beheld = self._beheld.pop(key, None)
        stop = audit.named(key.resource.kind, key.namespace, key.name)
        self._attempts.forget(beheld.uid if beheld is not None else "", stop)

    def _measure(self, key: Key, shutdown: Json) -> None:
        """Once for a stop that was verified here: how long after its decision, if that is known.

        A quick stop is verified before its reactor reports when it was decided.
        """
        decided = shutdown.get("status", {}).get("stages", {}).get("decided")
        if key not in self._verified or not decided:
            return
        moments = {"decided": times.seconds(decided), "verified": self._verified.pop(key)}
        self._numbers.verified.observe(max(0.0, moments["verified"] - moments["decided"]))
        if self._traces is not None:
            metadata = shutdown["metadata"]
            attributes = {"killswitch.shutdown": metadata["name"]}
            self._traces.verification(metadata["uid"], moments, attributes)

    async def _verify(self, key: Key, shutdown: Json) -> tuple[Judgement, Json, float | None]:
        """Look for what is left; the condition, the fields, and when to look again.

        A verified stop is looked at again as long as it is engaged: what was true once is not a
        proof that nothing has come back.
        """
        found = await left(self._cluster, self._places, shutdown, self._clock.now())
        observed = shutdown.get("status", {}).get("conditions", ())
        before = conditions.find(observed, ShutdownCondition.VERIFIED)
        fields: Json = {"remaining": found.count, "leftovers": found.as_status()}
        type_ = ShutdownCondition.VERIFIED
        if unheld := await ungoverned(self._cluster, shutdown):
            words = f"{unheld}; left: {found}" if found.count else unheld
            return (type_, False, Reason.UNGOVERNED, words), fields, _SLOW
        verified = before is not None and before["status"] == "True"
        took = self._clock.now() - grace.began(shutdown)
        late = took > grace.longest(shutdown["spec"])
        holds: str | None = ""
        done = (
            conditions.holds(observed, ShutdownCondition.STOPPED)
            or _reason(observed) == Reason.PODS_NOT_KNOWN  # it has done all that it can
        )
        if before is not None and (verified or late or done):
            holds, more = await self._hold(key, shutdown)
            fields |= more
        back = before is not None and (verified or before["reason"] in _FALLEN_BACK)
        if found.count and back:
            if found.count == found.silent:
                words = f"nobody vouches for it any more, its node guard is silent: {found}"
                return (type_, False, Reason.UNGUARDED, words), fields, _SLOW
            return (type_, False, Reason.CAME_BACK, f"back: {found}"), fields, _SLOW
        rest = self._settings.verify_interval
        seen = f"{found.kept}{found.testimony}"
        if not found.count and found.not_known:
            words = f"{found.not_known}{found.kept}{found.testimony}{holds or ''}"
            # Until it says so, the reactor may know: it has seen the pods before they went.
            settled = late or _reason(observed) == Reason.PODS_NOT_KNOWN
            reason = Reason.PODS_NOT_KNOWN if settled else Reason.STOPPING
            return (type_, False, reason, words), fields, _SLOW if settled else _FAST
        if verified and before is not None:
            words = _still(before["message"], seen, holds)
            return (type_, True, Reason(before["reason"]), words), fields, rest
        if found.count:
            reason = Reason.DEADLINE if late else Reason.STOPPING
            words = f"left: {found}"
            if late:
                words += await nodes.unready(self._cluster, found.pods)
            return (type_, False, reason, words), fields, _SLOW if late else _FAST
        text, since = _took(shutdown, took)
        what = nodes.done(shutdown) if shutdown["spec"].get("nodes") else "no pod left"
        again = " again" if back else ""
        message = f"{what}{again}, {text} {since}{seen}{holds or ''}"
        if not back:
            fields["elapsed"] = text
        # Who would start it again is looked at after that: people wait for this word.
        return (type_, True, Reason.NO_PODS, message), fields, _FAST

    async def _hold(self, key: Key, shutdown: Json) -> tuple[str | None, Json]:
        """What would start at the release, to be added to a sentence; fighters and attempts.

        The more Shutdowns hold, the rarer each is looked at: None says that it is not its turn, and
        what an earlier manager told of it stands. Not to be able to look leaves what was known, and
        is no reason to doubt the stop.
        """
        uid, now = shutdown["metadata"]["uid"], self._clock.monotonic()
        before, began = self._beheld.get(key), grace.began(shutdown)
        young = self._clock.now() - began <= _NEW
        if (
            before is not None
            and before.uid == uid
            and now - before.at < self._rest(began, young=young)
        ):
            return before.words, {}
        if before is None and not young:
            # A manager that starts finds all that hold: their looks must not keep new stops waiting.
            if now < self._turn_at:
                return None, {}
            self._turn_at = now + _PACE
        fields: Json = {}
        words = await self._behold(shutdown, fields)
        self._beheld[key] = _Beheld(uid, now, words, began)
        return words, fields

    async def _behold(self, shutdown: Json, fields: Json) -> str:
        """The words; into `fields` goes what could be looked at, one whatever becomes of the other.

        Best effort, on contents that many may write: no error of it keeps a stop from being judged.
        """
        unknown = "; what would start at a release is not known: "
        words = ""
        found = Held(Inventory())
        try:
            recorded = await self._records.targets(shutdown)
            found = await held.look(self._places, recorded, shutdown)
            if found.hidden:
                words = f"{unknown}{found.hidden}"
            else:
                fields["fighters"] = await self._fighters.look(shutdown, found)
                words = _would_start(found, fields["fighters"])
        except KillSwitchError as error:
            words = f"{unknown}{error}"
        except Exception as error:  # noqa: BLE001 - people write what is read here
            words = f"{unknown}{type(error).__name__}, see the manager's log"
            _LOG.exception("fighters not looked at", shutdown=audit.reference(shutdown))
        try:
            fields["attempts"] = await self._attempts.look(shutdown, found)
        except KillSwitchError as error:
            _LOG.warning("attempts not read", shutdown=audit.reference(shutdown), error=str(error))
        except Exception:  # noqa: BLE001 - as above
            _LOG.exception("attempts not read", shutdown=audit.reference(shutdown))
        return words

    def _rest(self, began: float, *, young: bool) -> float:
        """Seconds between two such looks at a Shutdown of then.

        What has just been stopped waits for others that have, not for all that has long been held.
        """
        moments = [each.began for each in self._beheld.values()]
        others = [each for each in moments if each >= began - _NEW] if young else moments
        return max(self._settings.verify_interval, _PACE * len(others))

    async def _let_go(self, key: Key, shutdown: Json) -> None:
        """A released Shutdown locks nothing: take it off the lock's list of parameters."""
        if (shutdown["metadata"].get("labels") or {}).get(ENGAGED_LABEL) == "true":
            label = {"metadata": {"labels": {ENGAGED_LABEL: "false"}}}
            await self._cluster.patch(key.resource, key.name, label, key.namespace)

    async def _restore(self, shutdown: Json) -> Step:
        observed = shutdown.get("status", {}).get("conditions", ())
        done = conditions.find(observed, ShutdownCondition.RESTORED)
        if done and done["status"] == "True":
            return Step(
                done=True,
                reason=Reason(done["reason"]),
                message=done["message"],
                canary_ready=shutdown["status"].get("stages", {}).get("canaryReady"),
                again=None,
            )
        if not shutdown["spec"].get("restore"):
            message = "released: nothing starts until somebody asks: kubectl killswitch restore"
            return Step(done=False, reason=Reason.NOT_REQUESTED, message=message, again=None)
        return await self._restorer.look(shutdown)

    async def _write(
        self, key: Key, shutdown: Json, judgements: list[Judgement], fields: Json
    ) -> None:
        """Write, keeping what an earlier look wrote; tell people of what is new."""
        before = shutdown.get("status", {})
        observed = before.get("conditions", ())
        kept = [
            (each["type"], each["status"] == "True", each["reason"], each["message"])
            for each in observed
            if each["type"] in {ShutdownCondition.VERIFIED, ShutdownCondition.RESTORED}
            and each["type"] not in {judgement[0] for judgement in judgements}
        ]
        for name in ("remaining", "elapsed", "leftovers", "fighters", "attempts"):
            if name in before:
                fields.setdefault(name, before[name])
        generation = shutdown["metadata"].get("generation", 0)
        told_by = {"observedGeneration": generation, **fields}
        try:
            await self._writer.write(key.resource, shutdown, [*kept, *judgements], **told_by)
        except RefusedError as error:
            if error.code != _INVALID or not _BEST_EFFORT & fields.keys():
                raise
            # What people and controllers are called must not keep the judgement from being told.
            _LOG.exception("fighters and attempts not written", shutdown=audit.reference(shutdown))
            told_by = {name: each for name, each in told_by.items() if name not in _BEST_EFFORT}
            await self._writer.write(key.resource, shutdown, [*kept, *judgements], **told_by)
        for type_, value, reason, message in judgements:
            told = conditions.find(observed, type_)
            if told is None or told["reason"] != reason:
                await events.tell(
                    self._cluster,
                    self._clock,
                    shutdown,
                    str(reason),
                    message,
                    warning=not value and reason in _ALARMING,
                )


def _reason(observed: Sequence[Json]) -> str:
    """Why `Stopped` is as the reactor says; empty: it has not said anything."""
    found = conditions.find(observed, ShutdownCondition.STOPPED)
    return "" if found is None else str(found["reason"])


def _released(given: int, needed: int, starts: str) -> Judgement:
    """With who starts the targets by that: people who approve should know."""
    type_ = ShutdownCondition.RELEASED
    if given >= needed:
        return (type_, True, Reason.APPROVED, f"{given} of {needed} approvals")
    words = f"{given} of {needed} approvals" + (f"; {starts}" if starts else "")
    return (type_, False, Reason.AWAITING_APPROVALS, words[:4096])


def _would_start(now: Held, told: Sequence[Json]) -> str:
    """What a release would start, named, to be added to a sentence; empty: nothing known."""
    loud = [each["name"] for each in told if each["state"] == fighters.State.UNQUIETED]
    quiet = f"not quieted: {several(loud)}" if loud else ""
    return "".join(f"; {each}" for each in (at_release.sentence(now.starting()), quiet) if each)


def _still(told: str, seen: str, holds: str | None) -> str:
    """What is told of a stop that goes on being verified; as before while it is not its turn."""
    return told if holds is None else f"{told.split('; ', maxsplit=1)[0]}{seen}{holds}"


def _took(shutdown: Json, seconds: float) -> tuple[str, str]:
    """How long it took, and since when; an upper bound where no decision was recorded.

    `creationTimestamp` has whole seconds, so anything finer since then would be invented.
    """
    if shutdown.get("status", {}).get("stages", {}).get("decided"):
        return durations.text(max(seconds, 0.0)), "after the decision"
    whole = max(math.ceil(seconds), 1)
    return (
        f"within {whole} s" if whole < 60 else f"within {durations.text(whole)}",
        "of its creation",
    )
