"""The stop sequence of nodes: record, cordon (and taint), prove, then see the pods go.

    record    what was there: cordoned already? tainted already?              records.py
    put       the cordon with the label that the node lock is selected by, and the taint, in one patch
    prove     an uncordon as a dry run is denied                              proof.py
    empty     Drain: delete or evict the pods of governed namespaces; Taint: the cluster's own taint
              controller evicts; either way look until none is left

Other way round than for workloads: pods that went before the cordon would be scheduled there again.
Others drain nodes too (upgrades, autoscalers, remediators): each step looks anew at what is there.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from killswitch.core import grace, nodes, projections, times
from killswitch.core.errors import (
    ConflictError,
    KillSwitchError,
    NotFoundError,
    OverloadedError,
    RefusedError,
    ServerError,
    TimedOutError,
    UnavailableError,
)
from killswitch.core.inventory import Node, Pod, Taint
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.nodes import NodeAction
from killswitch.core.resources import NAMESPACES, NODES, PODS
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor import proof, records
from killswitch.reactor.deleting import PATIENCE, WIDTH, Deletions
from killswitch.reactor.fan_out import fan_out
from killswitch.reactor.persistence import persistently
from killswitch.reactor.proof import Trial
from killswitch.reactor.shared import SharedLists

if TYPE_CHECKING:
    from killswitch.reactor.stop import Outcome, Run

_TRIAL = 1.0
"""Seconds for which one round tries to prove the lock."""
_FIRST, _LONGEST = 0.05, 1.0
"""Seconds between two looks at what is left."""
_TRIES = 5
"""How often a taint is written again that met another write of the node."""
_BUDGET = "disruption budget"
"""How an eviction is told that has to wait, from one that a busy API server put off."""

Holds = Callable[[Json, "Outcome"], Awaitable[bool]]


@dataclass(slots=True)
class _Leaving:
    """What was asked to go in one run."""

    deletions: Deletions
    shortened: set[str] = field(default_factory=set)
    """uids of the terminating pods whose grace was made short."""


class NodeSequence:
    """The steps of a stop of nodes. Remembers nothing between calls."""

    def __init__(
        self, lists: SharedLists, clock: Clock, *, records_namespace: str, holds: Holds
    ) -> None:
        """`holds` says whether a stop is still engaged, as etcd has it."""
        self._lists = lists
        self._cluster: Cluster = lists.cluster
        self._clock = clock
        self._records_namespace = records_namespace
        self._holds = holds

    async def execute(self, run: "Run") -> None:
        """Return when the nodes are as they shall be, or at `run.until` with what is left."""
        held = tuple(node for stop in run.stops for node in stop.nodes)
        run.outcome.targets = len(held)
        if await self._record(run.shutdown, held, run.outcome):
            run.reached("recorded")
        pause = _FIRST
        async with Deletions(self._cluster, self._clock, run.outcome.note) as deletions:
            leaving = _Leaving(deletions)
            while await self._holds(run.shutdown, run.outcome):
                if not await self._advance(run, held, leaving):
                    return
                if self._clock.monotonic() >= run.until:
                    return
                await self._clock.sleep(pause)
                pause = min(pause * 1.5, _LONGEST)

    async def _advance(self, run: "Run", held: Sequence[Node], leaving: _Leaving) -> bool:
        """One look and what follows from it; whether another one may come further."""
        outcome = run.outcome
        put = await self._put_all(run.shutdown, held, outcome)
        if put:
            run.reached("scaled")
        outcome.asked.set()
        if not await self._look(run.shutdown, held, outcome):
            return False
        if nodes.action(run.shutdown["spec"]) is NodeAction.DRAIN:
            await self._send_away(run, leaving)
        if not outcome.left:
            run.reached("deleted")
        if "proven" not in outcome.stages:
            await self._prove(run)
        if put and not outcome.left:
            run.reached("stopped")
        return bool(outcome.left)

    async def _record(self, shutdown: Json, held: Sequence[Node], outcome: "Outcome") -> bool:
        """Whether what was there is stored. Where not, the nodes are stopped all the same.

        The cordon is the stop, and a restore that finds no record leaves a node to people.
        """
        try:
            # A cordon that somebody set a moment ago must not be taken for ours by the restore.
            fresh = await self._fresh(held)
            await records.store(self._lists, self._clock, shutdown, fresh, self._records_namespace)
        except (NotFoundError, RefusedError, ServerError, TimedOutError) as error:
            outcome.note(f"what was there could not be recorded: {error}")
            return False
        return True

    async def _fresh(self, held: Sequence[Node]) -> list[Node]:
        """The nodes as etcd has them; without those that have left the cluster."""
        found: list[Node] = []

        async def look(node: Node) -> None:
            try:
                body = await persistently(self._clock, lambda: self._cluster.get(NODES, node.name))
            except NotFoundError:
                return
            found.append(projections.node(body))

        await _of_each(held, look)
        return found

    async def _put_all(self, shutdown: Json, held: Sequence[Node], outcome: "Outcome") -> bool:
        """Whether each node is cordoned, and tainted where it shall be."""
        wanted = nodes.taint(shutdown)
        accepted = True

        async def put(node: Node) -> None:
            nonlocal accepted
            try:
                await self._put(node.name, wanted)
            except NotFoundError:
                return  # it has left the cluster
            except KillSwitchError as error:
                outcome.note(f"could not rest node {node.name}: {error}")
                accepted = False

        await fan_out(held, put, width=WIDTH, patience=PATIENCE)
        return accepted

    async def _put(self, name: str, wanted: Taint | None) -> None:
        for _ in range(_TRIES):
            body = await self._cluster.get(NODES, name)
            node = projections.node(body)
            if nodes.as_left(node, wanted):
                return
            # The label makes the node lock apply to it (see api/admission/lock).
            change: Json = {
                "metadata": {"labels": {GOVERNED_LABEL: "true"}},
                "spec": {"unschedulable": True},
            }
            if wanted is not None and nodes.lacks(node, wanted):
                taint = {"key": wanted.key, "value": wanted.value, "effect": wanted.effect}
                # A list is written whole: not over a taint that somebody else has just set.
                change["metadata"]["resourceVersion"] = body["metadata"]["resourceVersion"]
                change["spec"]["taints"] = [*(body["spec"].get("taints") or ()), taint]
            try:
                await self._cluster.patch(NODES, name, change)
            except ConflictError:
                continue
            return
        raise ConflictError(f"node {name} is written too often by others")

    async def _prove(self, run: "Run") -> None:
        within = min(run.until, self._clock.monotonic() + _TRIAL)
        trial, words = await proof.prove(self._cluster, self._clock, run.stops, (), within)
        if trial is Trial.DENIED:
            run.outcome.proof = words
            run.reached("proven")
            return
        run.outcome.note(words)
        run.outcome.unprovable = trial is Trial.IMPOSSIBLE

    async def _look(self, shutdown: Json, held: Sequence[Node], outcome: "Outcome") -> bool:
        """Whether what is left on the nodes that shall go could be seen; `outcome.left` has it."""
        action = nodes.action(shutdown["spec"])
        if not action.empties:
            return True
        try:
            outcome.left = await persistently(self._clock, lambda: self._going(held, action))
        except (RefusedError, ServerError, TimedOutError) as error:
            outcome.note(f"what is left could not be seen: {error}")
            return False
        outcome.pods = max(outcome.pods, len(outcome.left))
        return True

    async def _going(self, held: Sequence[Node], action: NodeAction) -> tuple[Pod, ...]:
        governed: set[str] = set()
        if action is NodeAction.DRAIN:
            page = await self._cluster.list(NAMESPACES, labels=f"{GOVERNED_LABEL}=true")
            governed = {each["metadata"]["name"] for each in page.items}
        found: list[Pod] = []

        async def look(node: Node) -> None:
            page = await self._cluster.list(PODS, fields=f"spec.nodeName={node.name}")
            pods = (projections.pod(body) for body in page.items)
            found.extend(
                pod for pod in pods if pod is not None and not nodes.stays(pod, action, governed)
            )

        await _of_each(held, look)
        return tuple(found)

    async def _send_away(self, run: "Run", leaving: _Leaving) -> None:
        """Drain: evict while Graceful lasts, then, or at once, delete with one second of grace."""
        outcome = run.outcome
        if self._evicts(run.shutdown, outcome):
            waiting = [pod for pod in outcome.left if not pod.terminating]
            await fan_out(waiting, lambda pod: self._evict(pod, outcome), width=WIDTH)
            return
        # Terminating ones too, once: a second delete can only shorten a running grace.
        again = [p for p in outcome.left if not p.terminating or p.uid not in leaving.shortened]
        leaving.shortened |= {pod.uid for pod in again}
        await leaving.deletions.ask(again, lambda: run.reached("deleted"))

    def _evicts(self, shutdown: Json, outcome: "Outcome") -> bool:
        """Whether `graceful.terminate` is not over, counted from the cordon, whoever set it."""
        terms = grace.of(shutdown)
        if terms is None:
            return False
        stored = (shutdown.get("status") or {}).get("stages", {}).get("scaled")
        since = times.seconds(stored) if stored else outcome.stages.get("scaled")
        if since is None:  # not cordoned yet: the time has not begun
            return True
        left = grace.remaining(since, terms.terminate, self._clock.now())
        outcome.hurries_at = self._clock.monotonic() + left
        return left > 0

    async def _evict(self, pod: Pod, outcome: "Outcome") -> None:
        what = f"pod {pod.namespace}/{pod.name} on {pod.node}"
        try:
            left = outcome.left_for_pods(self._clock.monotonic())
            given = grace.given(pod.grace, left)
            await self._cluster.evict(pod.name, pod.namespace, uid=pod.uid, grace=given)
        except (NotFoundError, ConflictError):
            return  # gone, or another's by now
        except OverloadedError as error:
            why = "its disruption budget allows none now" if _BUDGET in str(error) else str(error)
            outcome.note(f"{what} waits: {why}")
        except ServerError as error:  # e.g. several budgets cover it
            outcome.note(f"{what} cannot be evicted, and is deleted when its time is over: {error}")
        except (RefusedError, UnavailableError) as error:
            outcome.note(f"could not evict {what}: {error}")


async def _of_each(held: Sequence[Node], look: Callable[[Node], Awaitable[None]]) -> None:
    """Look at each node; the first failure is raised as it is, alone."""
    try:
        await fan_out(held, look, width=WIDTH)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
