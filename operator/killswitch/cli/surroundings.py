"""What stands around a plan: Services, routes, models that share a server, requests per second.

Asked with the user's own rights, and only where the cluster serves it; what is hidden is named.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from killswitch.cli.connect import Session
from killswitch.cli.observe import Observed
from killswitch.core import blast, fighters, opponents, servers
from killswitch.core.blast import Around
from killswitch.core.errors import KillSwitchError
from killswitch.core.opponents import Opponent
from killswitch.core.resources import Resource
from killswitch.core.servers import Requests
from killswitch.core.stops import Plan
from killswitch.ports import Json

_FEW = 8
"""Namespaces up to which each is asked by itself, rather than all of the cluster."""
NOT_ASKED = "not asked: --prometheus URL"


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted beside the plan."""

    prometheus: str | None = None
    """Where to ask for requests per second."""
    quiet: tuple[str, ...] = ("KEDA",)
    """Who would be paused after the stop."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was found, and what could not be looked at."""

    around: Around = field(default_factory=Around)
    hidden: tuple[str, ...] = ()
    """Resources that could not be listed, by key: whether any depends on the plan is not known."""
    opponents: tuple[Opponent, ...] = ()
    """Who would start it again."""
    requests: Requests = field(default_factory=lambda: Requests({}, why=NOT_ASKED))


async def look(session: Session, plan: Plan, observed: Observed, ask: Ask) -> Surroundings:
    """What stands around the plan in its namespaces. Never raises for what the user may not see."""
    places = list(dict.fromkeys(stop.namespace for stop in plan.stops if stop.namespace))
    if not places:
        return Surroundings()
    served = observed.catalogue.serves
    fighting = [(each.resource, each) for each in fighters.TABLE if each.resource is not None]
    wide = {resource.key for resource, each in fighting if each.everywhere}
    keys = (*blast.SELECTORS, *blast.ROUTES, *blast.TENANTS)
    resources = {key: resource for key in keys if (resource := served(key)) is not None}
    resources |= {
        known.key: resource for known, _ in fighting if (resource := served(known.key)) is not None
    }
    # Each namespace by itself: whoever may stop in some need not be able to list all.
    spots = places if len(places) <= _FEW else [""]
    wanted = [
        (each, place)
        for each in resources.values()
        for place in ([""] if each.key in wide else spots)
    ]
    requests, found = await asyncio.gather(
        _requests(plan, ask.prometheus),
        asyncio.gather(*(_list(session, *each) for each in wanted)),
    )
    bodies: dict[str, list[Json]] = {key: [] for key in resources}
    hidden: dict[str, None] = {}
    for (resource, _), items in zip(wanted, found, strict=True):
        if items is None:
            hidden[resource.key] = None
        else:
            bodies[resource.key] += items
    met = [(each, body) for known, each in fighting for body in bodies.get(known.key, ())]
    return Surroundings(
        _around(bodies),
        tuple(hidden),
        opponents.of(observed.bodies(plan), met, ask.quiet),
        requests,
    )


def _around(bodies: Mapping[str, list[Json]]) -> Around:
    return Around(
        selectors=[blast.selector(b) for key in blast.SELECTORS for b in bodies.get(key, ())],
        routes=[blast.route(b) for key in blast.ROUTES for b in bodies.get(key, ())],
        tenants=[
            model
            for key in blast.TENANTS
            for body in bodies.get(key, ())
            if (model := blast.tenant(key, body)) is not None
        ],
    )


async def _list(session: Session, resource: Resource, namespace: str) -> list[Json] | None:
    try:
        return (await session.cluster.list(resource, namespace)).items
    except KillSwitchError:
        return None


async def _requests(plan: Plan, prometheus: str | None) -> Requests:
    """What the metrics of model servers say of the plan's pods now."""
    if not prometheus:
        return Requests({}, why=NOT_ASKED)
    from killswitch.adapters.prometheus import PrometheusSource

    pods = [pod for stop in plan.stops for pod in stop.pods]
    places = {pod.namespace for pod in pods}
    if not pods:
        return Requests({}, why="no pod runs")
    source = PrometheusSource(prometheus)
    try:
        answers = await asyncio.gather(
            *(source.measure(each.query(places)) for each in servers.SERVERS)
        )
    finally:
        source.close()
    names = (each.name for each in servers.SERVERS)
    return servers.requests(dict(zip(names, answers, strict=True)), pods)
