"""Finish every engaged Shutdown, whoever made it: this reactor, another one, or a person.

Level-triggered: an engaged Shutdown gets the sequence until no pod is left *and* every workload
is at rest; then it is left alone. A reactor that starts in the middle of a stop therefore completes
it, and a Shutdown made with kubectl alone is executed like any other. Rest matters though the lock
holds: a workload that still asks for its pods would get them by the last approval, and release
must start nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from killswitch.api.orders import Order
from killswitch.core import conditions, holdings, times
from killswitch.core.conditions import Reason, ShutdownCondition
from killswitch.core.errors import KillSwitchError, NotFoundError, RefusedError
from killswitch.core.locks import engaged
from killswitch.core.resources import CLUSTER_SHUTDOWNS, SHUTDOWNS
from killswitch.core.stops import Stop
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor.escalating import Ladder
from killswitch.reactor.fan_out import cancel
from killswitch.reactor.persistence import persistently
from killswitch.reactor.stop import Outcome, StopSequence
from killswitch.reactor.view import View

FIELD_MANAGER = "killswitch-reactor"
_LOG = structlog.get_logger(__name__)
_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
"""Seconds between two rounds that could not finish, doubled each time."""
_ROUND = 5.0
"""Seconds after which an unfinished stop is reported and tried from the top."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stop has come that this reactor decided."""

    shutdown: Json
    statement: Json
    """Its evidence."""
    outcome: Outcome
    new: frozenset[str]
    """The stages that it has reached since this was told last."""


Progressed = Callable[[Progress], None]
"""Told after each round of requests: never between a decision and the requests it demands."""


@dataclass(frozen=True, slots=True)
class _Announced:
    """A Shutdown that this reactor is about to engage."""

    digest: str
    decided: float
    statement: Json


class Finisher:
    """One task per engaged, unfinished Shutdown."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        sequence: StopSequence,
        replica: str,
        *,
        progressed: Progressed,
        ladder: Ladder,
        view: View,
    ) -> None:
        """`replica` names this reactor in the fields that it writes."""
        # Each replica applies its own fields: with one name for all, the second to write would
        # take away what only the first knows, such as the moment of the decision.
        self._manager = field_manager(replica)
        self._cluster = cluster
        self._clock = clock
        self._sequence = sequence
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._asked: dict[str, asyncio.Event] = {}
        self._held: dict[str, frozenset[str]] = {}
        self._unread: dict[str, Json] = {}
        """Specs of Shutdowns whose keys were not looked at yet."""
        self._announced: dict[tuple[str, str, str], _Announced] = {}
        self._progressed = progressed
        self._ladder = ladder
        self._view = view

    @property
    def held(self) -> frozenset[str]:
        """Keys of the resources that unfinished Shutdowns hold by name: `deployments.apps`."""
        for uid, spec in self._unread.items():  # not at their start, where milliseconds count
            self._held[uid] = holdings.named(spec)
        self._unread.clear()
        return frozenset().union(*self._held.values())

    def announce(self, order: Order, statement: Json, decided: float) -> None:
        """This reactor is about to engage: its watch may show the Shutdown before the answer."""
        self._announced[order.resource.kind, order.namespace, order.name] = _Announced(
            order.body["spec"]["evidenceDigest"], decided, statement
        )

    def consider(self, shutdown: Json) -> None:
        """Start finishing it unless that is done, running, or not wanted any more."""
        known = shutdown["metadata"]["uid"] in self._tasks
        if not known and engaged(shutdown) and not finished(shutdown):
            self.start(shutdown, held_by(shutdown, self._view))

    def start(self, shutdown: Json, stops: Sequence[Stop]) -> asyncio.Event:
        """Run the sequence for this Shutdown; a second call while it runs changes nothing.

        The event is set once its pods' deletions were asked for, or it ended before.
        """
        metadata = shutdown["metadata"]
        uid = metadata["uid"]
        if uid not in self._tasks:
            outcome = Outcome()
            key = (shutdown["kind"], metadata.get("namespace", ""), metadata["name"])
            announced = self._announced.pop(key, None)
            statement = None
            if announced is not None:
                outcome.stages = {"decided": announced.decided, "locked": self._clock.now()}
                if shutdown["spec"].get("evidenceDigest") == announced.digest:
                    statement = announced.statement  # else another replica was first, and tells
            task = asyncio.create_task(self._finish(shutdown, stops, outcome, statement))
            self._tasks[uid], self._asked[uid] = task, outcome.asked
            self._unread[uid] = shutdown["spec"]
            task.add_done_callback(lambda _done: self._ended(uid))
        return self._asked[uid]

    def _ended(self, uid: str) -> None:
        self._tasks.pop(uid, None)
        self._held.pop(uid, None)
        self._unread.pop(uid, None)
        self._asked.pop(uid).set()

    async def close(self) -> None:
        """Cut off what is being finished; another replica, or the next start, takes it up."""
        await cancel([*self._tasks.values()])

    async def _finish(
        self, shutdown: Json, stops: Sequence[Stop], outcome: Outcome, statement: Json | None
    ) -> None:
        pause, told = _PAUSE, frozenset[str]()
        while True:
            until = self._clock.monotonic() + _ROUND
            outcome.problems.clear()  # told are those of this round: an earlier one may be over
            try:
                await self._sequence.execute(
                    shutdown,
                    stops,
                    until=until,
                    outcome=outcome,
                    told=lambda: self._report(shutdown, outcome),
                    unseen=lambda: holdings.unseen(shutdown["spec"], self._view.inventory),
                )
            except* KillSwitchError as errors:  # e.g. a conflict: the next round tries again
                outcome.note("; ".join(str(each) for each in errors.exceptions))
            except* Exception as errors:  # a defect of ours must not leave a stop unfinished
                _LOG.exception("a stop failed", shutdown=shutdown["metadata"]["name"])
                outcome.note("; ".join(repr(each) for each in errors.exceptions))
            if statement is not None:
                reached = frozenset(outcome.stages)
                self._tell(Progress(shutdown, statement, outcome, reached - told))
                told = reached
            if not await self._still_engaged(shutdown):
                return
            await self._escalate(shutdown, outcome)
            await self._report(shutdown, outcome)
            if outcome.finished and not contradicted(shutdown):
                return
            await self._clock.sleep(pause)
            waits = outcome.waits(self._clock.monotonic())
            pause = _PAUSE if waits else min(2 * pause, _LONGEST_PAUSE)
            # What came to be seen meanwhile, such as a kind that was not listed yet, is of it too.
            stops = held_by(shutdown, self._view)

    async def _escalate(self, shutdown: Json, outcome: Outcome) -> None:
        try:
            await self._ladder.climb(shutdown, outcome)
        except Exception:  # the stop goes on without it, and is reported
            _LOG.exception("a stop was not escalated", shutdown=shutdown["metadata"]["name"])

    def _tell(self, progress: Progress) -> None:
        try:
            self._progressed(progress)
        except Exception:  # what is measured of a stop must not keep it from being finished
            _LOG.exception("a stop was not measured")

    async def _still_engaged(self, shutdown: Json) -> bool:
        """Whether people have not released it meanwhile: then nothing is deleted any more.

        Where that cannot be read it may still be engaged: the sequence looks again by itself.
        """
        metadata = shutdown["metadata"]
        resource = SHUTDOWNS if shutdown["kind"] == SHUTDOWNS.kind else CLUSTER_SHUTDOWNS
        try:
            current = await persistently(
                self._clock,
                lambda: self._cluster.get(
                    resource, metadata["name"], metadata.get("namespace", "")
                ),
            )
        except NotFoundError:
            return False
        except KillSwitchError:
            return True
        shutdown["status"] = current.get("status", {})
        return engaged(current)

    async def _report(self, shutdown: Json, outcome: Outcome) -> None:
        """Write stages and conditions; what another reactor wrote before stays."""
        metadata = shutdown["metadata"]
        resource = SHUTDOWNS if shutdown["kind"] == SHUTDOWNS.kind else CLUSTER_SHUTDOWNS
        body = {"status": status(shutdown, outcome, now=self._clock.now())}
        try:
            await persistently(
                self._clock,
                lambda: self._cluster.apply(
                    resource,
                    metadata["name"],
                    body,
                    metadata.get("namespace", ""),
                    subresource="status",
                    manager=self._manager,
                ),
            )
        except (NotFoundError, RefusedError) as error:
            outcome.note(f"could not report: {error}")
        except KillSwitchError as error:  # e.g. a conflict: the next round writes again
            outcome.note(str(error))


def held_by(shutdown: Json, view: View) -> tuple[Stop, ...]:
    """What an engaged Shutdown holds now."""
    namespace = shutdown["metadata"].get("namespace", "")
    return holdings.for_shutdown(
        shutdown["kind"], namespace, shutdown["spec"], view.inventory
    ).stops


def field_manager(replica: str) -> str:
    """In whose name one replica writes what only it knows."""
    return f"{FIELD_MANAGER}-{replica}"[:128]


def finished(shutdown: Json) -> bool:
    """Whether some reactor saw no pod left, brought every workload to rest, and it stayed so."""
    before = shutdown.get("status", {})
    told = conditions.find(before.get("conditions", ()), ShutdownCondition.STOPPED)
    # Of whose pods nothing is known, there is nothing more to do: people must name them.
    stopped = told is not None and (
        told["status"] == "True" or told["reason"] == Reason.PODS_NOT_KNOWN
    )
    return stopped and not contradicted(shutdown) and "scaled" in before.get("stages", {})


def contradicted(shutdown: Json) -> bool:
    """Whether who verifies it sees something left, where a reactor saw nothing more to do.

    `Stopping` may still be its word from before the reactor's, unless that did not know the pods. It
    becomes another one at the deadline.
    """
    before = shutdown.get("status", {})
    observed = before.get("conditions", ())
    verified = conditions.find(observed, ShutdownCondition.VERIFIED)
    if verified is None or verified["status"] != "False":
        return False
    told = conditions.find(observed, ShutdownCondition.STOPPED)
    known = told is None or told["reason"] != Reason.PODS_NOT_KNOWN
    if verified["reason"] == Reason.STOPPING and known:
        return False
    left: int = before.get("remaining", 0)
    return left > 0 or verified["reason"] == Reason.CAME_BACK


def status(shutdown: Json, outcome: Outcome, *, now: float) -> Json:
    """The part of a Shutdown's status that the reactor owns."""
    before = shutdown.get("status", {})
    generation = shutdown["metadata"].get("generation", 0)
    stages = {name: times.text(at) for name, at in outcome.stages.items()}
    problems = "; ".join(outcome.problems[-3:])[:1000]
    proven = "proven" in outcome.stages
    left = ", ".join(f"{pod.name} on {pod.node or 'no node'}" for pod in outcome.left[:5])
    entries = [
        conditions.make(
            ShutdownCondition.LOCKED,
            proven,
            Reason.LOCK_PROVEN if proven else Reason.LOCK_NOT_PROVEN,
            outcome.proof if proven else problems or "not proven yet",
            generation=generation,
            now=times.text(now),
        ),
        conditions.make(
            ShutdownCondition.STOPPED,
            outcome.stopped and not outcome.not_known,
            _stopped_reason(outcome),
            _stopped_message(outcome, left, problems),
            generation=generation,
            now=times.text(now),
        ),
    ]
    observed = before.get("conditions", ())
    return {
        "conditions": [conditions.merge(observed, each) for each in entries],
        # The first reactor's times are the true ones: a later helper only fills gaps.
        "stages": {**stages, **_known(before, stages)},
        "targets": max(outcome.targets, before.get("targets", 0)),
        "pods": max(outcome.pods, before.get("pods", 0)),
        **({"inFlight": outcome.in_flight[:64]} if outcome.in_flight else {}),
    }


def _known(before: Json, stages: Json) -> Json:
    """The times that are stored already, of the stages that this reactor reached too.

    And of those before a stop that is taken up again: this reactor may have written them.
    """
    mine = stages.keys() | {"decided", "locked"}
    return {name: at for name, at in before.get("stages", {}).items() if name in mine}


def _stopped_reason(outcome: Outcome) -> Reason:
    if not outcome.stopped:
        return Reason.STOPPING
    return Reason.PODS_NOT_KNOWN if outcome.not_known else Reason.NO_PODS


def _stopped_message(outcome: Outcome, left: str, problems: str) -> str:
    if outcome.stopped and outcome.not_known:
        return f"{outcome.not_known}; {problems}" if problems else str(outcome.not_known)
    if outcome.stopped:
        return f"no pod left; {problems}" if problems else "no pod left"
    return "; ".join(part for part in (f"left: {left}" if left else "", problems) if part) or (
        "stopping"
    )
