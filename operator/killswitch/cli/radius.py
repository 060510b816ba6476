"""The blast radius in words and for programs: the same for `plan` and before a stop is confirmed."""

from collections.abc import Iterable, Sequence
from typing import Any

from killswitch.cli import render
from killswitch.cli.screen import Screen, Span, Tone
from killswitch.cli.surroundings import NOT_ASKED, Surroundings
from killswitch.core.blast import Blast, Entrance, Lead, Loss
from killswitch.core.opponents import Opponent
from killswitch.core.servers import Requests
from killswitch.core.words import several

_SHOWN = 5


def say(screen: Screen, found: Blast) -> None:
    """What the plan itself tells: what is above, what is lost, what a release starts."""
    for above in found.above[:_SHOWN]:
        word = Span("Above", Tone.PLAIN if above.stopped else Tone.WARN)
        screen.line(word, f": {above}")
    render.more(screen, found.above, _SHOWN)
    for each in found.restless[:_SHOWN]:
        screen.line(Span("No rest", Tone.WARN), f": {each}")
    render.more(screen, found.restless, _SHOWN)
    if found.not_known:
        screen.line(Span("Not known", Tone.WARN), f": {found.not_known}")
    for kind, since in found.gates:
        screen.line(f"Rests with: {since} or newer ({kind}); the lock holds without")
    say_losses(screen, found.losses)


def say_losses(screen: Screen, losses: Iterable[Loss]) -> None:
    """What cannot come back, and whose it is."""
    for each in losses:
        screen.line(
            Span("Lost for good", Tone.BAD), f": {each.lost} ({several(each.names, _SHOWN)})"
        )


def say_around(screen: Screen, found: Blast, around: Surroundings) -> None:
    """Who depends on it, how much it answers now, and what could not be looked at."""
    for entrance in found.entrances[:_SHOWN]:
        screen.line(f"Leads to it: {entrance.kind} {entrance.name}: {_behind(entrance)}")
    render.more(screen, found.entrances, _SHOWN)
    for lead in found.leads[:_SHOWN]:
        screen.line(f"Leads to it: {lead.route.kind} {lead.route.name}{_traffic(lead)}")
    render.more(screen, found.leads, _SHOWN)
    for tenant in found.tenants[:_SHOWN]:
        server = f"{tenant.server[0]} {tenant.server[1]}"
        screen.line(Span("Stops too", Tone.WARN), f": {tenant.kind} {tenant.name}, on {server}")
    render.more(screen, found.tenants, _SHOWN)
    _say_opponents(screen, around.opponents)
    _say_requests(screen, around.requests)
    if around.hidden:
        hidden = ", ".join(around.hidden)
        words = f": {hidden} are hidden from you: who depends on it or fights it is not known"
        screen.line(Span("Not seen", Tone.WARN), words)


def _say_opponents(screen: Screen, found: Sequence[Opponent]) -> None:
    """Those first that a release would let start it."""
    ordered = sorted(found, key=lambda each: (not each.starts, each.rests, each.name))
    for each in ordered[:_SHOWN]:
        what = f"{each.name} on {several(each.targets, _SHOWN)}: {each.words}"
        if each.starts:
            cure = f"; pause it: --quiet {each.quiet.lower()}" if each.quiet else ""
            word, rest = Span("Fights", Tone.WARN), f"; not paused: a release starts it{cure}"
        else:
            word = Span("Fights" if each.paused else "Rests")
            rest = "; paused after the stop, until the restore" if each.paused else ""
        screen.line(word, f": {what}{rest}")
    render.more(screen, ordered, _SHOWN)


def _say_requests(screen: Screen, found: Requests) -> None:
    if found.why == NOT_ASKED:
        return
    if found.known:
        rates = ", ".join(f"{rate:.3g}/s ({name})" for name, rate in found.rates.items())
        silent = f"; {render.count(found.silent, 'pod')} unknown" if found.silent else ""
        screen.line(f"Requests now: {rates}{silent}")
    else:
        screen.line(Span("Requests now", Tone.WARN), f": not known: {found.why}")


def _behind(entrance: Entrance) -> str:
    if entrance.shared:
        return f"{entrance.stopping} of the {render.count(entrance.pods, 'pod')} behind it stop"
    return "no pod is left behind it"


def _traffic(lead: Lead) -> str:
    hosts = f" ({several(lead.route.hosts, _SHOWN)})" if lead.route.hosts else ""
    end = "nothing answers" if lead.wholly else "others go on behind it"
    return f"{hosts} through {several(lead.through, _SHOWN)}: {end}"


def value(found: Blast, around: Surroundings) -> dict[str, Any]:
    """The same for programs. `requests.perSecond` is null where nobody tells."""
    requests = around.requests
    return {
        "objects": dict(found.objects),
        "replicas": found.replicas,
        "pods": found.pods,
        "gpus": found.gpus,
        "nodes": dict(found.nodes),
        "above": [
            {"namespace": e.namespace, "below": e.below, "top": e.top, "stopped": e.stopped}
            for e in found.above
        ],
        "lost": [{"what": each.lost, "workloads": list(each.names)} for each in found.losses],
        "noRest": list(found.restless),
        "notKnown": found.not_known,
        "needs": [{"kind": kind, "since": since} for kind, since in found.gates],
        "services": [
            {
                "kind": e.kind,
                "namespace": e.namespace,
                "name": e.name,
                "stopping": e.stopping,
                "pods": e.pods,
            }
            for e in found.entrances
        ],
        "routes": [
            {
                "kind": each.route.kind,
                "namespace": each.route.namespace,
                "name": each.route.name,
                "hosts": list(each.route.hosts),
                "through": list(each.through),
                "wholly": each.wholly,
            }
            for each in found.leads
        ],
        "tenants": [
            {"kind": e.kind, "namespace": e.namespace, "name": e.name, "server": " ".join(e.server)}
            for e in found.tenants
        ],
        "fighters": [
            {
                "name": each.name,
                "targets": list(each.targets),
                "rests": each.rests,
                "paused": each.paused,
                "startsAtRelease": each.starts,
                "message": each.words,
            }
            for each in around.opponents
        ],
        "requests": {
            "perSecond": dict(requests.rates) if requests.known else None,
            "podsUnknown": requests.silent,
            "why": requests.why,
        },
        "hidden": list(around.hidden),
    }
