"""What is known of a freeze before it is ordered, and why one that cannot work is refused.

A freeze that freezes nothing looks like containment and is none, so each refusal says what does
work: `stop`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from killswitch.cli import guards
from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.guards import Guards, Reach
from killswitch.cli.observe import Observed
from killswitch.cli.problems import PROGRAM, Problem, said
from killswitch.cli.render import told
from killswitch.cli.scope import Scope
from killswitch.core import budgets, durations, lock_keys, times
from killswitch.core.budgets import Endurance
from killswitch.core.errors import RefusedError
from killswitch.core.inventory import Pod
from killswitch.core.resources import FREEZES, Resource
from killswitch.core.stops import Plan, Refusal
from killswitch.ports import Json

_REVIEWS = Resource(
    "authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False
)


@dataclass(frozen=True, slots=True)
class Request:
    """What the person asked for."""

    scope: Scope
    reason: str
    seconds: float
    then: str
    """Thaw or Stop."""
    approvals: int
    past_liveness: bool = False
    unguarded: bool = False


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and by how much the API server's clock is ahead of this machine's.

    The end of a Freeze is a moment: taken from a wrong clock it would come too late, or be refused.
    """

    name: str
    ahead: float

    def now(self, session: Session) -> float:
        """The API server's time."""
        return session.clock.now() + self.ahead


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a freeze would meet."""

    asker: Asker
    plan: Plan
    observed: Observed
    guards: Guards
    reach: Reach
    endurance: Endurance
    now: float
    """When it was looked, by the API server's clock."""

    @property
    def pods(self) -> tuple[Pod, ...]:
        """What it would freeze now."""
        return tuple(pod for stop in self.plan.stops for pod in stop.pods)


async def asker(session: Session) -> Asker:
    """The user as the API server sees them."""
    body = {"apiVersion": _REVIEWS.api_version, "kind": _REVIEWS.kind}
    before = session.clock.now()
    answer = await session.cluster.create(_REVIEWS, body)
    stamp = answer["metadata"].get("creationTimestamp")
    made = times.seconds(stamp) if stamp else before
    # Whole seconds, rounded down: a moment within the request says that both clocks agree.
    agree = before - 1 <= made <= session.clock.now()
    return Asker(answer["status"]["userInfo"]["username"], 0.0 if agree else made - before)


async def prospect(
    session: Session, who: Asker, plan: Plan, observed: Observed, seconds: float
) -> Prospect:
    """The guards of the plan's nodes, and what its pods endure."""
    pods = [pod for stop in plan.stops for pod in stop.pods]
    found = await guards.of_nodes(session, (pod.node for pod in pods))
    now = who.now(session)
    reach = guards.reach(pods, found, now)
    endurance = budgets.endurance(_templates(plan, observed), seconds)
    return Prospect(who, plan, observed, found, reach, endurance, now)


def _templates(plan: Plan, observed: Observed) -> Mapping[str, Json]:
    """Pods by what people call them: all that a workload made alike is named once."""
    found: dict[str, Json] = {}
    for stop in plan.stops:
        owners = {
            uid: f"{workload.kind.word}/{workload.name}"
            for workload in stop.targets
            for uid in lock_keys.owner_uids(workload, observed.inventory)
        }
        for pod in stop.pods:
            body = observed.pods[pod.uid]
            name = owners.get(pod.owner, f"pod {pod.name}")
            if name in found and budgets.budgets(found[name]) != budgets.budgets(body):
                name = f"pod {pod.name}"
            found.setdefault(name, body)
    return found


def refuse(request: Request, seen: Prospect, namespace: str) -> None:
    """Raise the Problem for which this freeze cannot work; return where it can."""
    for why in (_nothing, _idle, _unguarded, _restarts):
        problem = why(request, seen, namespace)
        if problem is not None:
            raise problem


def instead(scope: Scope, namespace: str) -> str:
    """The command that stops the same."""
    return f"{PROGRAM} stop {scope.flags} -n {namespace} --reason …"


def _nothing(request: Request, seen: Prospect, namespace: str) -> Problem | None:
    if seen.plan.stops:
        return None
    what, refused = f"freeze {request.scope}", seen.plan.refused
    protected = any(each.reason is Refusal.PROTECTED for each in refused)
    if seen.observed.hidden and not protected:
        cure = f"stop it, for which the name is enough: {instead(request.scope, namespace)}"
        return Problem(what, "; ".join(seen.observed.unseen), cure, ExitCode.REFUSED)
    why = "; ".join(told(each) for each in refused) or "nothing matches"
    return Problem(what, why, f"see what is there: {PROGRAM} plan --all -n {namespace}")


def _idle(request: Request, seen: Prospect, namespace: str) -> Problem | None:
    if request.unguarded or seen.observed.blind or any(pod.node for pod in seen.pods):
        return None
    why = "no pod of it runs: there is nothing to freeze"
    cure = (
        f"keep it from starting: {instead(request.scope, namespace)}; "
        "to freeze what starts meanwhile: add --unguarded"
    )
    return Problem(f"freeze {request.scope}", why, cure)


def _unguarded(request: Request, seen: Prospect, namespace: str) -> Problem | None:
    if request.unguarded or seen.guards.unknown or seen.reach.guarded or not seen.reach.unguarded:
        return None
    counts = guards.places(seen.reach.unguarded, seen.guards, seen.now)
    why = f"no live node guard where its pods run, so nobody would carry it out: {counts}"
    cure = (
        f"stop it: {instead(request.scope, namespace)}; to have guards: helm upgrade … --set nodeGuard.enabled=true; "
        "to order it all the same: add --unguarded"
    )
    return Problem(f"freeze {request.scope}", why, cure)


def _restarts(request: Request, seen: Prospect, namespace: str) -> Problem | None:
    if request.past_liveness or seen.endurance.endures:
        return None
    cure = (
        f"take a shorter --for; or let them be restarted, which loses their memory: add "
        f"--past-liveness; or stop it: {instead(request.scope, namespace)}"
    )
    return Problem(
        f"freeze {request.scope} for {durations.text(request.seconds)}",
        seen.endurance.restarts,
        cure,
    )


def not_installed(request: Request, namespace: str, lacking: str) -> Problem:
    """There is nothing that could carry it out: nothing is changed."""
    cure = f"stop it: {instead(request.scope, namespace)}"
    return Problem(f"freeze {request.scope}", f"{lacking}. Nothing was changed", cure)


def not_ordered(request: Request, namespace: str, error: RefusedError) -> Problem:
    """The Freeze was not let in."""
    why = f"{said(error)}. Nothing was frozen"
    check = f"kubectl auth can-i create {FREEZES.plural}.{FREEZES.group} -n {namespace}"
    cure = f"see whether you may: {check}; or stop it: {instead(request.scope, namespace)}"
    return Problem(f"freeze {request.scope}", why, cure, ExitCode.REFUSED)


def warnings(seen: Prospect) -> Iterable[tuple[str, str]]:
    """What it does not do, or does besides: a word and a sentence each."""
    if seen.guards.unknown:
        yield "Node guards", f"not known: {seen.guards.unknown}"
    elif seen.reach.unguarded:
        where = guards.places(seen.reach.unguarded, seen.guards, seen.now)
        yield "Not frozen", f"what runs where no live node guard is: {where}"
    if seen.endurance.restarts:
        yield "Restarts", seen.endurance.restarts
    if seen.endurance.withdrawn:
        yield "Traffic", seen.endurance.withdrawn
