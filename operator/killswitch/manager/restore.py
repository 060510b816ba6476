"""Bring back exactly what was there: canary, soak, then the recorded rest. Never more.

    canary  counted kinds up to the canaries' count; the others whole, where nothing counted is there
    soak    the canaries stay ready, and the policy's own signals demand nothing
    full    counted kinds to their recorded count, the others whole, then pods that nobody owned
    then    traffic, then autoscalers, then GitOps

Level-triggered: each look compares what was recorded (recorded.py) with what is, does the next step
(returning.py) and returns what to say. The only memory is `status.stages.canaryReady`, so a manager that
starts in the middle goes on. What changed meanwhile is shown and needs a person's `acceptDrift`; what
somebody else has changed meanwhile is left alone; what another Shutdown covers too is shared out by
claims.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from killswitch.core import conditions, durations, times
from killswitch.core.conditions import PolicyCondition, Reason
from killswitch.core.errors import NotFoundError, RefusedError
from killswitch.core.resources import BYPASSES, CLUSTER_POLICIES, POLICIES
from killswitch.manager import nodes, returning
from killswitch.manager.present import Present, Touched, Work
from killswitch.manager.recorded import Records
from killswitch.ports import Clock, Cluster, Json

_HELD = "held down by"
_NOT_MADE = (
    "is not made again: the manager may not (chart value kinds.recreatePods); its manifest stands in the"
    " ShutdownRecords"
)
_SOON, _LATER, _SELDOM = 0.5, 5.0, 30.0


@dataclass(frozen=True, slots=True)
class Step:
    """What a look at a restore amounts to."""

    done: bool
    reason: Reason
    message: str
    canary_ready: str | None = None
    """Since when the canaries are ready; None forgets an earlier soak."""
    again: float | None = _SOON
    """Seconds until the next look."""
    resumed: tuple[str, ...] = ()
    """The fighters that were given back, by what people call them."""


class Restorer:
    """The flow of one Shutdown's restore."""

    def __init__(
        self, cluster: Cluster, clock: Clock, records: Records, *, operator_namespace: str
    ) -> None:
        """Keeps no state. Bypasses of cluster policies are in the operator's namespace."""
        self._cluster = cluster
        self._clock = clock
        self._records = records
        self._operator_namespace = operator_namespace

    async def look(self, shutdown: Json) -> Step:
        """Do the next step of a released Shutdown whose restore was asked for."""
        work = await self._records.work(shutdown)
        if work.empty:
            return _nothing_recorded(work.orphans)
        drift = [found for each in work.workloads if (found := each.drift())]
        if drift and not shutdown["spec"]["restore"].get("acceptDrift"):
            words = "; ".join(drift[:10])
            cure = "look at it, then: kubectl killswitch restore --accept-drift"
            return Step(done=False, reason=Reason.DRIFT, message=f"{words}. {cure}", again=5.0)
        try:
            await nodes.give_back(self._cluster, shutdown, work.nodes)
            step = await self._stages(shutdown, work)
            if step.done:
                await self._give_back(work)
        except RefusedError as error:
            reason = Reason.HELD_ELSEWHERE if _HELD in str(error) else Reason.WRITE_REFUSED
            message, since = str(error)[:1000], _soaked(shutdown)
            return Step(
                done=False, reason=reason, message=message, canary_ready=since, again=_LATER
            )
        return _closed(step, work) if step.done else step

    async def _stages(self, shutdown: Json, work: Work) -> Step:
        counted = [each for each in work.workloads if each.kind.counted]
        whole = [each for each in work.workloads if each.kind.settings and not each.kind.counted]
        first = counted or whole
        terms = shutdown["spec"]["restorePolicy"]
        canary, soak = int(terms["canaryReplicas"]), durations.seconds(terms["soak"])
        since = _soaked(shutdown)
        if first:
            if since is None or any(each.down for each in first):
                # As the stop left it after the soak began: stopped meanwhile, so it begins anew.
                since = None
            waiting = await self._canaries(first, canary, begun=since is not None)
            if waiting:
                return _waiting(Reason.CANARY, waiting, None)
            since = since or times.text(self._clock.now())
        left = 0.0 if since is None else soak - (self._clock.now() - times.seconds(since))
        if (left > 0 or _held_back(work, canary)) and (demand := await self._demand(shutdown)):
            # What is held at the canaries does not soak: that begins anew after it.
            return Step(done=False, reason=Reason.DEMANDING, message=demand, again=2.0)
        if left > 0:
            message = f"the canaries are ready; {durations.text(left)} of soak left"
            again = min(left, 2.0)
            return Step(
                done=False, reason=Reason.SOAKING, message=message, canary_ready=since, again=again
            )
        waiting = await self._full(work, counted, whole, canary)
        if waiting:
            return _waiting(Reason.FULL, waiting, since)
        return _complete(work, since)

    async def _canaries(self, first: Sequence[Present], canary: int, *, begun: bool) -> list[str]:
        """Who of the canaries is not ready; before the soak has begun they are started."""
        if not first[0].kind.counted:
            return await returning.put_back(self._cluster, first)
        # Once it has begun nothing is raised from 0 any more: `down` has begun it anew.
        ours: set[int] = set() if begun else {0}
        return await returning.raised(self._cluster, first, canary, ours)

    async def _full(
        self, work: Work, counted: Sequence[Present], whole: Sequence[Present], canary: int
    ) -> list[str]:
        waiting = await returning.raised(self._cluster, counted, None, {0, canary})
        waiting += await returning.put_back(self._cluster, whole)
        if waiting:
            return waiting
        made, work.refused, left = await returning.made_again(self._cluster, work.pods)
        if not made:
            work.remarks += [f"{name} {_NOT_MADE}" for name in left]
        return made

    async def _give_back(self, work: Work) -> None:
        """Traffic, then autoscalers, then GitOps: each finds all before it as it is to be."""
        await returning.resumed(self._cluster, work.traffic)
        for gitops in (False, True):
            group = [each for each in work.fighters if each.gitops is gitops]
            await returning.resumed(self._cluster, group)

    async def _demand(self, shutdown: Json) -> str:
        """Which signals of the Shutdown's policy demand a stop now, in a sentence; empty: none.

        A policy that is gone, disabled or bypassed by people has no say.
        """
        reference = shutdown["spec"].get("policy")
        if reference is None:
            return ""
        place = shutdown["metadata"].get("namespace", "")
        resource = POLICIES if reference["kind"] == POLICIES.kind else CLUSTER_POLICIES
        home = place if resource is POLICIES else ""
        try:
            policy = await self._cluster.get(resource, reference["name"], home)
        except NotFoundError:
            return ""
        observed = policy.get("status", {}).get("conditions", ())
        found = conditions.find(observed, PolicyCondition.DEMANDED)
        stopped = found is None or found["status"] != "True"
        if stopped or policy["spec"].get("mode") == "Disabled" or await self._bypassed(policy):
            return ""
        signals = policy["status"].get("signals", ())
        tripped = [each["name"] for each in signals if each["verdict"] == "Tripped"]
        named = f"signal {', '.join(tripped)}" if tripped else "it"
        return (
            f"{reference['kind']} {reference['name']} still demands a stop: {named}"
            f" ({found['message'] if found else ''}); it goes no further than the canaries. Find out"
            " why, or suspend the policy with a Bypass"
        )

    async def _bypassed(self, policy: Json) -> bool:
        metadata = policy["metadata"]
        home = metadata.get("namespace") or self._operator_namespace
        now = self._clock.now()
        return any(
            each["spec"]["policy"] == metadata["name"]
            and times.seconds(each["spec"]["until"]) > now
            for each in (await self._cluster.list(BYPASSES, home)).items
        )


def _soaked(shutdown: Json) -> str | None:
    """Since when the canaries are ready, as an earlier look found."""
    found: str | None = shutdown.get("status", {}).get("stages", {}).get("canaryReady")
    return found


def _held_back(work: Work, canary: int) -> bool:
    """Whether anything is left for the full stage."""
    counted = [each for each in work.workloads if each.kind.counted]
    return (
        bool(work.pods)
        or any(each.replicas <= canary < each.wanted for each in counted)
        or any(each.down for each in work.workloads if not each.kind.counted)
    )


def _waiting(reason: Reason, names: Sequence[str], canary_ready: str | None) -> Step:
    message = f"waits for {', '.join(names[:5])}"
    return Step(done=False, reason=reason, message=message, canary_ready=canary_ready)


def _nothing_recorded(orphans: Sequence[str]) -> Step:
    known = "; ".join(orphans[:5])
    words = "nothing is recorded of what this stop held, so nothing comes back by it"
    message = f"{words}; {known}: scale it by hand" if known else words
    return Step(done=False, reason=Reason.NOTHING_RECORDED, message=message, again=_SELDOM)


def _complete(work: Work, canary_ready: str | None = None) -> Step:
    return Step(
        done=True,
        reason=Reason.COMPLETE,
        message=_summary(work),
        canary_ready=canary_ready,
        again=None,
        resumed=tuple(each.title for each in work.fighters if not each.conflicts),
    )


def _closed(step: Step, work: Work) -> Step:
    """The last step, kept open while some target is another restore's, or nobody's."""
    if work.waits:
        reason = work.waits[0][0]
        words = "; ".join(text for _, text in work.waits[:5])
        message = f"{words}; {step.message}" if work.workloads else words
        # What a later stop took down again has not soaked.
        ready = None if reason is Reason.SUPERSEDED else step.canary_ready
        return replace(
            step, done=False, reason=reason, message=message, canary_ready=ready, again=_LATER
        )
    if work.refused:  # what comes after them has come back all the same
        words = f"{'; '.join(work.refused[:5])}; {step.message}"[:2000]
        reason = Reason.HELD_ELSEWHERE if _HELD in words else Reason.WRITE_REFUSED
        return replace(step, done=False, reason=reason, message=words, again=_LATER)
    if work.orphans:
        words = f"{'; '.join(work.orphans[:5])}: scale it by hand; {step.message}"
        return replace(
            step, done=False, reason=Reason.NOTHING_RECORDED, message=words, again=_SELDOM
        )
    return step


def _summary(work: Work) -> str:
    differing = [words for each in work.workloads if (words := each.differs())]
    parts = []
    given = [each for each in work.workloads if each.kind.settings]
    if given or not (work.returned or work.nodes or work.pods or work.remarks):
        parts.append(f"{len(given) - len(differing)} workloads at their recorded {_what(given)}")
    parts += [f"{len(work.nodes)} nodes as they were"] if work.nodes else []
    parts += differing[:5]
    parts += _given_back(work.traffic, "given traffic again")
    parts += _given_back(work.fighters, "resumed")
    parts += [f"{name} is gone" for name in work.vanished[:5]]
    return "; ".join([*parts, *work.returned[:5], *work.remarks[:5]])


def _what(workloads: Sequence[Present]) -> str:
    """What is said to be as it was recorded."""
    return "count" if all(each.kind.counted for each in workloads) else "state"


def _given_back(touched: Sequence[Touched], how: str) -> list[str]:
    conflicts = [words for each in touched for words in each.conflicts]
    fine = [each.title for each in touched if not each.conflicts]
    return ([f"{', '.join(fine[:5])} {how}"] if fine else []) + conflicts[:5]
