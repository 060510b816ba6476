"""What node guards did, for `why`.

The story of a Freeze, what was killed for a Shutdown, what of a workload is frozen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from killswitch.cli import decided, freezes, freezing, guards, observe, render
from killswitch.cli import scope as scopes
from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.guards import Guards
from killswitch.cli.problems import PROGRAM
from killswitch.cli.references import argument, shown
from killswitch.cli.screen import Cell, Screen, Span, Tone
from killswitch.core import durations, locks
from killswitch.core.containment import freeze_in_force
from killswitch.core.errors import KillSwitchError
from killswitch.core.inventory import Pod
from killswitch.core.names import ENGAGED_LABEL
from killswitch.core.reports import Word
from killswitch.core.resources import FREEZES
from killswitch.ports import Json

_SHOWN = 20


async def freeze(session: Session, screen: Screen, body: Json) -> ExitCode:
    """Tell the story of a Freeze."""
    now = session.clock.now()
    name, place = body["metadata"]["name"], body["metadata"]["namespace"]
    judged, over = freezes.judged(body, now), freezes.ended(body)
    pods = None if over else await observe.covered(session, body)
    found = await guards.of_nodes(session, (pod.node for pod in pods or ()))
    evidence = await decided.evidence(session, FREEZES, body)
    remark = f": {judged.why}" if judged.why else ""
    screen.line(Span(shown(FREEZES, name, place), Tone.STRONG), "  ", judged.cell, remark)
    decided.say(screen, body, evidence)
    end = "" if over else f" ({freezes.end(body, now)})"
    screen.line(f"Ends: {body['spec']['until']}, then {body['spec']['onExpiry'].lower()}{end}")
    if not over:
        _pods(screen, pods, found, now)
    if body["spec"].get("thaw"):
        order = body["spec"]["thaw"]
        screen.line(f"Thawed by {order['by']}: {order['reason']}")
    screen.line(f"Next: {_next(body)}")
    rows = None if pods is None else [_row_value(pod, found) for pod in pods]
    screen.answer({**freezes.value(body, now), "evidence": evidence, "podsNow": rows}, name)
    return ExitCode.OK


def _pods(screen: Screen, pods: Sequence[Pod] | None, found: Guards, now: float) -> None:
    if pods is None:
        screen.line(Span("Pods", Tone.WARN), ": hidden from you")
        return
    if found.unknown:
        screen.line(Span("Node guards", Tone.WARN), f": not known: {found.unknown}")
    rows: list[Sequence[Cell]] = [_row(pod, found, now) for pod in pods[:_SHOWN]]
    screen.table(("POD", "NODE", "STATE", "TOOK", "IN WORDS"), rows)
    if len(pods) > _SHOWN:
        screen.line(f"and {len(pods) - _SHOWN} more")
    if not pods:
        screen.line("Pods: none runs; what starts meanwhile is frozen where a guard is")


def _row(pod: Pod, found: Guards, now: float) -> Sequence[Cell]:
    word = found.word(pod)
    where = pod.node or "-"
    if found.unknown or not pod.node:
        return pod.name, where, "?", "-", "no node yet" if not pod.node else ""
    silent = "" if found.live(pod.node, now) else "no live node guard"
    if word is None:
        return pod.name, where, Span("runs", Tone.BAD), "-", silent or "not reported"
    took = "-" if word.took is None else durations.text(word.took)
    tone = Tone.GOOD if word.frozen else Tone.BAD
    words = "; ".join(each for each in (word.message, silent, _other(word)) if each)
    return pod.name, where, Span(_state(word), tone), took, words


def _state(word: Word) -> str:
    return word.state if word.done is not None else f"not yet {word.state}"


def _other(word: Word) -> str:
    kind, _, name = word.order
    return f"for {kind} {name}" if kind != FREEZES.kind else ""


def _row_value(pod: Pod, found: Guards) -> Json:
    word = found.word(pod)
    return {
        "namespace": pod.namespace,
        "pod": pod.name,
        "node": pod.node,
        "state": None if word is None else word.state,
        "frozen": None if found.unknown else word is not None and word.frozen,
        "seconds": None if word is None else word.took,
        "message": "" if word is None else word.message,
    }


def _next(body: Json) -> str:
    name, place = body["metadata"]["name"], body["metadata"]["namespace"]
    if freezes.ended(body):
        target = argument(FREEZES, name, place)
        return (
            f"nothing; it may be deleted: kubectl delete {FREEZES.plural}.{FREEZES.group} {target}"
        )
    if body["spec"].get("thaw"):
        return f"see whether its guards live: {PROGRAM} status -n {place}"
    instead = freezing.instead(scopes.of_order(body["spec"]), place)
    return f"let go: {PROGRAM} thaw {name} -n {place} --reason …; or for good: {instead}"


def say_killed(screen: Screen, body: Json, found: Guards, static: Sequence[Pod]) -> None:
    """What node guards did for a Shutdown, node by node; and what became of static pods."""
    if found.unknown:
        screen.line(
            Span("Node guards", Tone.WARN), f": what they did is not known: {found.unknown}"
        )
    words = found.of(body)
    if words:
        screen.line(f"Node guards: {_sum(words)}")
        rows: list[Sequence[Cell]] = [_node_row(node, did) for node, did in words.items()]
        screen.table(("NODE", "DEAD", "SLOWEST", "PROCESSES", "NOT DONE"), rows[:_SHOWN])
        if len(rows) > _SHOWN:
            screen.line(f"and {len(rows) - _SHOWN} more nodes")
    elif found.reports:
        screen.line("Node guards: none reports a pod of it (their reports come within two seconds)")
    for pod in static:
        word = found.word(pod)
        dead = word is not None and word.state == "Dead" and word.done is not None
        state = "dead, by its node guard" if dead else "no node guard says that it is dead"
        screen.line(f"Static pod {pod.namespace}/{pod.name} on {pod.node}: {state}")


def _sum(words: dict[str, list[Word]]) -> str:
    dead = [(node, word) for node, did in words.items() for word in _dead(did)]
    nodes = len({node for node, _ in dead})
    said = f"{render.count(len(dead), 'pod')} dead on {render.count(nodes, 'node')}"
    slowest = max(((word.took or 0.0, node) for node, word in dead), default=None)
    if slowest is None:
        return said
    return f"{said}, the slowest {durations.text(slowest[0])} from the order heard, on {slowest[1]}"


def _node_row(node: str, did: Sequence[Word]) -> Sequence[Cell]:
    dead = _dead(did)
    slowest = max((word.took or 0.0 for word in dead), default=None)
    left = [f"{word.pod}: {word.message or 'under way'}" for word in did if word not in dead]
    return (
        node,
        str(len(dead)),
        "-" if slowest is None else durations.text(slowest),
        str(sum(word.processes for word in dead)),
        Span("; ".join(left), Tone.BAD) if left else "-",
    )


def _dead(did: Sequence[Word]) -> list[Word]:
    return [word for word in did if word.state == "Dead" and word.done is not None]


def killed_value(body: Json, found: Guards, static: Sequence[Pod]) -> dict[str, Any]:
    """The same for programs."""
    words = found.of(body)
    return {
        "nodeGuards": None if found.unknown else [
            {
                "node": node,
                "dead": len(_dead(did)),
                "slowestSeconds": max((w.took or 0.0 for w in _dead(did)), default=None),
                "processes": sum(word.processes for word in _dead(did)),
                "notDone": [{"pod": w.pod, "message": w.message} for w in did if w not in _dead(did)],
            }
            for node, did in words.items()
        ],
        "staticPods": [_row_value(pod, found) for pod in static],
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Frozen:
    """A Freeze in force over pods of one workload."""

    body: Json
    pods: tuple[Pod, ...]
    guards: Guards
    now: float

    @property
    def seen(self) -> int | None:
        """How many of them the guards say are frozen; None where that is not known."""
        if self.guards.unknown:
            return None
        words = (self.guards.word(pod) for pod in self.pods)
        return sum(word is not None and word.frozen for word in words)


async def of_workload(session: Session, workload: Json) -> list[Frozen]:
    """Freezes in force over its pods, as far as the user may see."""
    place, labels = session.namespace, f"{ENGAGED_LABEL}=true"
    try:
        stored = (await session.cluster.list(FREEZES, place, labels=labels)).items
    except KillSwitchError:
        return []
    stored = [each for each in stored if freeze_in_force(each)]
    if not stored:
        return []
    seen = await observe.namespaces(session, [place])
    uid = workload["metadata"]["uid"]
    owners = [uid, *(each.uid for each in seen.inventory.below(uid))]
    pods = seen.inventory.pods_of(owners)
    found = await guards.of_nodes(session, (pod.node for pod in pods))
    now = session.clock.now()
    covered = ((each, tuple(p for p in pods if locks.covers(each, p))) for each in stored)
    return [Frozen(each, some, found, now) for each, some in covered if some]


def say_frozen(screen: Screen, frozen: Sequence[Frozen]) -> None:
    """By which Freeze, how many of its pods, and for how long still."""
    for each in frozen:
        metadata = each.body["metadata"]
        name = shown(FREEZES, metadata["name"], metadata["namespace"])
        seen = "?" if each.seen is None else each.seen
        words = f"{seen} of {len(each.pods)} pods; ends in {freezes.end(each.body, each.now)}"
        reason = each.body["spec"]["reason"]
        screen.line("Frozen by ", Span(name, Tone.STRONG), f": {words}: {reason}")
        screen.line(f"Next: {_next(each.body)}")


def frozen_value(frozen: Sequence[Frozen]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {**freezes.value(each.body, each.now), "podsOfIt": len(each.pods), "frozenOfIt": each.seen}
        for each in frozen
    ]
