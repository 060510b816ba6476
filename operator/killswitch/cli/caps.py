"""The cap over all policies, as far as whoever asks may see: for `plan`."""

import asyncio

from killswitch.cli import observe
from killswitch.cli.connect import Session
from killswitch.cli.observe import BOUNDARIES
from killswitch.cli.screen import Screen, Span, Tone
from killswitch.core import caps, durations
from killswitch.core.caps import Cap, Fire, Spending
from killswitch.core.errors import KillSwitchError
from killswitch.core.names import GOVERNED_LABEL
from killswitch.core.resources import CLUSTER_SHUTDOWNS, NAMESPACES, NODES, SHUTDOWNS
from killswitch.core.stops import Plan
from killswitch.ports import Json
from killswitch.reactor.spending import everything


async def spending(session: Session, policy: Json, plan: Plan) -> Spending | None:
    """What a fire of the policy would add; None where no cap is known, or it cannot be counted.

    The reactor writes on each policy which cap it keeps to.
    """
    told = (policy.get("status") or {}).get("cap")
    if not told:
        return None
    cap = Cap(told["targets"], told["percent"], durations.seconds(told["window"]))
    nodes = any(stop.nodes for stop in plan.stops)
    try:
        fires = await _fires(session)
        whole = await _everything(session, nodes=nodes) if cap.percent else 0
    except KillSwitchError:
        return None
    now = session.clock.now()
    spent = caps.spent(fires, nodes=nodes, now=now, window=cap.window)
    return Spending(cap, spent, plan.count, whole)


async def _fires(session: Session) -> list[Fire]:
    pages = await asyncio.gather(
        *(session.cluster.list(each) for each in (SHUTDOWNS, CLUSTER_SHUTDOWNS))
    )
    found = (caps.fire(each, lambda: 1) for page in pages for each in page.items)
    return [each for each in found if each is not None]


async def _everything(session: Session, *, nodes: bool) -> int:
    if nodes:
        return len((await session.cluster.list(NODES)).items)
    governed = await session.cluster.list(NAMESPACES, labels=f"{GOVERNED_LABEL}=true")
    names = [each["metadata"]["name"] for each in governed.items]
    seen = await observe.namespaces(session, names)
    return everything(seen.inventory, BOUNDARIES, nodes=False)


def say(screen: Screen, policy: Json, found: Spending | None) -> None:
    """How much of the cap is used, and what the fire would add."""
    if found is None:
        if (policy.get("status") or {}).get("cap"):
            words = ": there is one, and you may not list what counts towards it"
            screen.line(Span("Cap of all policies", Tone.WARN), words)
        return
    cap = found.cap
    most = [f"{cap.targets} targets"] if cap.targets else []
    most += [f"{cap.percent} % of {found.everything}"] if cap.percent else []
    within = durations.text(cap.window)
    screen.line(
        Span("Cap of all policies", Tone.STRONG),
        f": {found.spent} stopped within {within}, {found.adding} more by this; at most"
        f" {' and '.join(most)}",
    )
