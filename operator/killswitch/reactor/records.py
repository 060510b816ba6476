"""Step 3a of a stop: what was there, stored once before the first write that loses it.

What an earlier, unrestored stop recorded stays the truth while that stop holds, and after its
release as long as the target is still at rest; a later stop never overwrites it with 0, nor the
settings of other kinds with what an earlier one wrote there. A target that people have started again
by hand meanwhile is recorded anew.
"""

import contextlib
from collections.abc import Sequence

from killswitch.api import recording
from killswitch.api.recording import Touched
from killswitch.core import conditions, nodes
from killswitch.core.conditions import ShutdownCondition
from killswitch.core.errors import ConflictError, RefusedError
from killswitch.core.inventory import Node, Workload
from killswitch.core.locks import engaged
from killswitch.core.resources import CLUSTER_SHUTDOWNS, RECORDS, SHUTDOWNS
from killswitch.ports import Clock, Json
from killswitch.reactor.persistence import persistently
from killswitch.reactor.shared import SharedLists


def at_rest(item: Touched) -> bool:
    """Whether it is as a stop leaves it. A pod of this uid never runs again, a cut stays one."""
    if isinstance(item, Node):
        return nodes.as_left(item, None)
    return item.at_rest if isinstance(item, Workload) else True


async def store(
    lists: SharedLists,
    clock: Clock,
    shutdown: Json,
    items: Sequence[Touched],
    namespace: str,
) -> set[str]:
    """The uids whose former state is stored, now or by an earlier stop.

    All of these items', but of pods whose manifests the author may not record.
    RefusedError or NotFoundError: it could not be stored, so nothing may be scaled.
    """
    while True:
        recorded, chunks = await persistently(
            clock, lambda: _recorded(lists, shutdown, items, namespace)
        )
        missing = [item for item in items if item.uid not in recorded]
        bodies = recording.of_targets(shutdown, missing, namespace, first=chunks)
        try:
            lost = [await _write(lists, clock, body, namespace) for body in bodies]
        except ConflictError:
            continue  # another replica wrote this chunk: look again
        return (recorded | {item.uid for item in missing}).difference(*lost)


async def _write(lists: SharedLists, clock: Clock, body: Json, namespace: str) -> set[str]:
    """Store one record, and without its manifests if the author may not make pods: whose (uids) they were."""

    async def create(record: Json) -> None:
        await persistently(clock, lambda: lists.cluster.create(RECORDS, record, namespace))

    targets = body["spec"]["targets"]
    manifests = {each["uid"] for each in targets if "manifest" in each}
    try:
        await create(body)
    except RefusedError:
        if not manifests:
            raise
    else:
        return set()
    bare = [{k: v for k, v in each.items() if k != "manifest"} for each in targets]
    await create({**body, "spec": {**body["spec"], "targets": bare}})
    return manifests


async def _recorded(
    lists: SharedLists, shutdown: Json, items: Sequence[Touched], namespace: str
) -> tuple[set[str], int]:
    """Targets recorded by unrestored stops, and how many chunks this stop has already."""
    records = (await lists.list(RECORDS, namespace)).items
    holders = await _unrestored(lists, namespace)
    resting = {item.uid for item in items if at_rest(item)}
    recorded: set[str] = set()
    chunks = 0
    for record in records:
        spec, holder = record["spec"], record["spec"]["shutdownUid"]
        own = holder == shutdown["metadata"]["uid"]
        chunks += own and "targets" in spec
        targets = {target["uid"] for target in spec.get("targets") or ()}
        if own or holders.get(holder):
            recorded |= targets
        elif holder in holders:
            recorded |= targets & resting
    return recorded, chunks


async def _unrestored(lists: SharedLists, namespace: str) -> dict[str, bool]:
    """Shutdowns by uid that are not restored, and whether each still holds."""
    found = [*(await lists.list(SHUTDOWNS, namespace)).items]
    with contextlib.suppress(RefusedError):  # a person may lack this right, cluster-wide
        found += (await lists.list(CLUSTER_SHUTDOWNS)).items
    return {
        each["metadata"]["uid"]: engaged(each)
        for each in found
        if not conditions.holds(
            each.get("status", {}).get("conditions", ()), ShutdownCondition.RESTORED
        )
    }
