"""What a stop is seen to do while it runs, and what it came to: words, exit code, answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from killswitch.cli import render
from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import PROGRAM
from killswitch.cli.references import argument, shown
from killswitch.cli.screen import Screen, Span, Tone
from killswitch.core import conditions, durations
from killswitch.core import nodes as node_actions
from killswitch.core.conditions import ShutdownCondition
from killswitch.core.errors import KillSwitchError
from killswitch.core.nodes import NodeAction
from killswitch.core.resources import CLUSTER_SHUTDOWNS, NODES, SHUTDOWNS, Resource
from killswitch.core.stops import Stop
from killswitch.ports import Json
from killswitch.reactor.stop import Outcome

_SAID_OF_NODES = {
    "recorded": "what was there is stored",
    "scaled": "every node is cordoned",
    "proven": "an uncordon was tried and denied",
}
"""The other stages are about pods, and a stop of nodes ends none."""
_SAID = {
    "deleted": "every pod was told to go, with 1 s of grace",
    "recorded": "what was there is stored",
    "scaled": "every workload is at rest",
    "proven": "a restart was tried and denied",
    "stopped": "no pod left in an uncached list",
}
_SAID_GRACEFULLY = _SAID | {
    "cut": "traffic that leads to these pods alone is cut",
    "drained": "nothing is under way any more, or the drain is over",
    "deleted": "every pod was told to go, with its own grace, within `terminate`",
}
_RUN_ON = "the pods there run on"
_EMPTIED = "no pod is left there that had to go"
_BECAME = {
    NodeAction.CORDON: ("cordoned", _RUN_ON),
    NodeAction.DRAIN: ("cordoned", _EMPTIED),
    NodeAction.TAINT: ("tainted", _EMPTIED),
    NodeAction.QUARANTINE: ("cordoned, tainted", _RUN_ON),
}
"""What nodes have become, and what that means for their pods."""
_UNTRIED = "the lock could not be tried"
"""How reactor.proof begins where there is nothing to try or no right to."""
_SHOWN_PROBLEMS = 2
_SHOWN_PODS = 20


@dataclass(slots=True)
class Progress:
    """One line per stage, at the moment it is first reached."""

    screen: Screen
    outcome: Outcome
    decided: float
    nodes: bool = False
    """Whether nodes are stopped, not pods."""
    place: str = ""
    """Where, if several are under way at once."""
    graceful: bool = False
    _problems: int = 0
    _said: set[str] = field(default_factory=set)
    """Stages that were told to be complete."""

    def locked(self, shutdown: Json) -> None:
        """The API server has agreed and holds the lock."""
        what = shown(_resource(shutdown), *_names(shutdown))
        self._line("locked", self.outcome.stages["locked"], f"{what}: held {held_until(shutdown)}")

    def reached(self, stage: str, at: float) -> None:
        """A stage of the sequence, once or again; problems that were met since are said with it."""
        said = _SAID_GRACEFULLY if self.graceful else _SAID
        words = (_SAID_OF_NODES if self.nodes else said).get(stage)
        if stage == "proven" and words is not None:  # beside the others, whose problems these are
            self._observed(stage, at, words)
            return
        new = self._new_problems()
        if stage in self._said:
            self._tell(new)
        elif stage == "stopped" and words is not None:  # whatever went wrong on the way
            self._observed(stage, at, words)
            self._tell(new)
        elif new:
            self._line(stage, at, "not complete", Tone.WARN)
            self._tell(new)
        elif words is not None:
            self._observed(stage, at, words)

    def _observed(self, stage: str, at: float, words: str) -> None:
        if stage not in self._said:
            self._line(stage, at, words)
            self._said.add(stage)

    def rest(self) -> None:
        """Problems after the last stage that was reached."""
        self._tell(self._new_problems())

    def _new_problems(self) -> list[str]:
        new = self.outcome.problems[self._problems :]
        self._problems = len(self.outcome.problems)
        if self.outcome.unprovable:  # no failure of any stage: `conclude` says it
            new = [each for each in new if not each.startswith(_UNTRIED)]
        return new

    def _tell(self, problems: list[str]) -> None:
        for problem in problems[:_SHOWN_PROBLEMS]:
            self.screen.line(f"             {problem}")
        if len(problems) > _SHOWN_PROBLEMS:
            self.screen.line(f"             and {len(problems) - _SHOWN_PROBLEMS} more")

    def _line(self, stage: str, at: float, text: str, tone: Tone = Tone.GOOD) -> None:
        after = durations.text(max(0.0, at - self.decided))
        where = f"{self.place}: " if self.place else ""
        self.screen.line(f"  {after:>9}  ", Span(f"{stage:<9}", tone), where, text)


def held_until(shutdown: Json) -> str:
    """`until 2 people approve`: how long it holds."""
    needed = shutdown["spec"]["requiredApprovals"]
    return f"until {'1 person approves' if needed == 1 else f'{needed} people approve'}"


@dataclass(frozen=True, slots=True)
class Ended:
    """What one Shutdown came to: the exit code, and the answer for programs."""

    code: ExitCode
    answer: Json
    name: str


async def conclude(
    session: Session,
    screen: Screen,
    shutdown: Json,
    stops: Sequence[Stop],
    outcome: Outcome,
    *,
    place: str = "",
) -> Ended:
    """The last words and the exit code: OK only for what was observed."""
    where = f": {place}" if place else ""
    nodes = [node.name for stop in stops for node in stop.nodes]
    proven = "proven" in outcome.stages or await _proven_by_others(session, shutdown)
    open_nodes = await _schedulable(session, nodes)
    took = outcome.stages.get("stopped", session.clock.now()) - outcome.stages["decided"]
    # What stopped was seen under an engaged Shutdown; where no lock can be tried that is all there
    # is to see (docs/decisions/0006).
    seen = outcome.stopped and not outcome.not_known
    done = seen and (proven or outcome.unprovable) and not open_nodes
    if done and nodes:
        became, pods = _BECAME[node_actions.action(shutdown["spec"])]
        said = f"{became} and held, {durations.text(took)}; {pods}"
        screen.line(Span("Verified", Tone.GOOD), f"{where}: {said}")
    elif done:
        screen.line(Span("Verified", Tone.GOOD), f"{where}: no pod left, {durations.text(took)}")
    else:
        end = _open_end(outcome, open_nodes, nodes=bool(nodes), proven=proven)
        _unfinished(screen, shutdown, outcome, end, proven=proven)
        if open_nodes:
            who = "Next: someone who may patch nodes runs: kubectl cordon"
            screen.line(f"{who} {' '.join(open_nodes)}")
    if done and not proven:
        untried = next((p for p in outcome.problems if p.startswith(_UNTRIED)), _UNTRIED)
        screen.line(Span("Not proven", Tone.WARN), f": the lock is engaged, but {untried}")
    _way_back(screen, shutdown)
    return Ended(
        ExitCode.OK if done else ExitCode.NOT_VERIFIED,
        _answer(shutdown, outcome, verified=done, proven=proven),
        f"{_resource(shutdown).kind.lower()}.{_resource(shutdown).group}/{_names(shutdown)[0]}",
    )


def _unfinished(
    screen: Screen, shutdown: Json, outcome: Outcome, end: str, *, proven: bool
) -> None:
    """What is left, what holds nevertheless, and who can do the rest."""
    screen.line(Span("Not verified", Tone.BAD), f": {end}")
    for pod in outcome.left[:_SHOWN_PODS]:
        gone = ", terminating" if pod.terminating else ""
        gone += ", static: deleting it stops nothing, a node guard can" if pod.mirror else ""
        screen.line(f"  pod {pod.namespace}/{pod.name} on {pod.node or 'no node yet'}{gone}")
    render.more(screen, outcome.left, _SHOWN_PODS)
    if proven:
        screen.line("The lock holds all the same: nothing that it covers can be started or raised.")
    else:
        screen.line(
            "The lock is engaged: the API server took it. No restart was seen denied from here."
        )
    deletable = [pod for pod in outcome.left if not pod.mirror]
    if deletable:
        screen.line(
            "Next: someone who may delete pods runs: kubectl delete pod -n "
            f"{deletable[0].namespace} {' '.join(p.name for p in deletable[:5])} --grace-period=1"
        )
    place = "" if not _names(shutdown)[1] else f" -n {_names(shutdown)[1]}"
    screen.line(f"Next: watch what the operator does about it: {PROGRAM} status{place}")


def _open_end(outcome: Outcome, open_nodes: list[str], *, nodes: bool, proven: bool) -> str:
    if open_nodes:
        return f"still schedulable: {', '.join(open_nodes)}"
    if outcome.left:
        count = len(outcome.left)
        return "1 pod is left" if count == 1 else f"{count} pods are left"
    if outcome.stopped and outcome.not_known:
        return str(outcome.not_known)
    if outcome.stopped and not proven:
        done = "cordoned" if nodes else "no pod is left"
        return f"{done}, but whether the lock holds could not be seen"
    return outcome.problems[-1] if outcome.problems else "the end was not seen"


def _way_back(screen: Screen, shutdown: Json) -> None:
    spec = shutdown["spec"]
    needed, by = spec["requiredApprovals"], spec["requestedBy"]
    people = "one person" if needed == 1 else f"{needed} people"
    target = argument(_resource(shutdown), *_names(shutdown))
    screen.line(f"Back: {people} other than {by} run: {PROGRAM} approve {target} --reason …")


async def _proven_by_others(session: Session, shutdown: Json) -> bool:
    """Whether a reactor has seen the lock deny, where this user may not even try."""
    try:
        current = await session.cluster.get(_resource(shutdown), *_names(shutdown))
    except KillSwitchError:
        return False
    found = (current.get("status") or {}).get("conditions") or ()
    return conditions.holds(found, ShutdownCondition.LOCKED)


async def _schedulable(session: Session, names: Sequence[str]) -> list[str]:
    """Nodes that are not seen cordoned."""
    found = []
    for name in names:
        try:
            body = await session.cluster.get(NODES, name)
        except KillSwitchError:
            found.append(name)
        else:
            found += [] if body.get("spec", {}).get("unschedulable") else [name]
    return found


def _answer(shutdown: Json, outcome: Outcome, *, verified: bool, proven: bool) -> Json:
    name, namespace = _names(shutdown)
    decided = outcome.stages["decided"]
    return {
        "kind": shutdown["kind"],
        "namespace": namespace,
        "name": name,
        "verified": verified,
        "proven": proven,
        "requiredApprovals": shutdown["spec"]["requiredApprovals"],
        "stages": {stage: round(at - decided, 4) for stage, at in outcome.stages.items()},
        "left": [
            {"namespace": pod.namespace, "pod": pod.name, "node": pod.node} for pod in outcome.left
        ],
        "problems": outcome.problems,
    }


def _resource(shutdown: Json) -> Resource:
    return SHUTDOWNS if shutdown["kind"] == SHUTDOWNS.kind else CLUSTER_SHUTDOWNS


def _names(shutdown: Json) -> tuple[str, str]:
    return shutdown["metadata"]["name"], shutdown["metadata"].get("namespace", "")
