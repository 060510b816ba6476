"""Cut the traffic of a graceful stop: Services and InferencePools of which every pod is held.

Which lead to the pods is looked up at this moment, not mirrored. What leads to others too is named and
left as it is. Each cut is recorded before it is written, for the restore to give back; what cannot be
recorded is not cut. Nothing here is a precondition of the stop.
"""

from collections.abc import Callable, Sequence
from functools import partial

from killswitch.core import kinds, projections, traffic
from killswitch.core.errors import KillSwitchError, NotFoundError
from killswitch.core.resources import INFERENCE_POOLS, PODS, SERVICES, Resource
from killswitch.core.stops import Stop, holds_pod
from killswitch.core.traffic import Entrance, Reach
from killswitch.ports import Clock, Json
from killswitch.reactor import records
from killswitch.reactor.shared import SharedLists

Note = Callable[[str], None]


async def cut(
    lists: SharedLists, clock: Clock, shutdown: Json, stops: Sequence[Stop], note: Note
) -> None:
    """Cut what leads to nothing but these stops' pods; `note` takes what is not cut, and why."""
    for stop in stops:
        if not stop.namespace:
            continue
        try:
            found = await _leading(lists, shutdown, stop, note)
            stored = await records.store(lists, clock, shutdown, found, stop.namespace)
        except KillSwitchError as error:
            note(f"traffic in {stop.namespace} is not cut: {error}")
            continue
        for each in found:
            if each.uid in stored:
                await _cut(lists, each, note)


async def _leading(lists: SharedLists, shutdown: Json, stop: Stop, note: Note) -> list[Entrance]:
    """What leads to the stop's pods alone and is not cut yet."""
    bodies = (await lists.list(PODS, stop.namespace)).items
    pods = [pod for body in bodies if (pod := projections.pod(body)) is not None]
    holds = partial(holds_pod, stop)
    found = []
    for resource in (SERVICES, INFERENCE_POOLS):
        for each in await _entrances(lists, resource, shutdown, stop.namespace, note):
            reached = traffic.reach(each, pods, holds)
            if reached is Reach.SHARED and any(
                traffic.reach(each, [pod], holds) is Reach.HELD for pod in pods
            ):
                note(f"{each} is not cut: it leads to others, too")
            if reached is Reach.HELD:
                found.append(each)
    return found


async def _entrances(
    lists: SharedLists, resource: Resource, shutdown: Json, namespace: str, note: Note
) -> list[Entrance]:
    """Of this kind, those that are open."""
    try:
        bodies = (await lists.list(resource, namespace)).items
    except NotFoundError:
        return []  # the cluster does not serve this kind
    except KillSwitchError as error:
        note(f"{resource.kind}s in {namespace} are not cut: {error}")
        return []
    mark = traffic.mark(shutdown)
    found = (traffic.entrance(resource, body, mark) for body in bodies)
    return [each for each in found if each is not None and each.was is None]


async def _cut(lists: SharedLists, entrance: Entrance, note: Note) -> None:
    setting = entrance.setting
    body = kinds.patch([(setting.path, setting.rest)])
    try:
        await lists.cluster.patch(entrance.resource, entrance.name, body, entrance.namespace)
    except NotFoundError:
        return  # it leads nowhere any more
    except KillSwitchError as error:
        note(f"{entrance} is not cut: {error}")
