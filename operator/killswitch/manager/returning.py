"""Write back what a stop changed: counts, fields, pods, traffic, fighters. Nothing else.

Each of these may be repeated: what is back already is not written again, and what somebody else has
changed meanwhile is left. Nobody decides here when it is time: that is restore.py's.
"""

import contextlib
import json
from collections.abc import Iterable, Sequence

from killswitch.core import undoing
from killswitch.core.errors import ConflictError, NotFoundError, RefusedError
from killswitch.core.resources import PODS
from killswitch.manager.claims import Target
from killswitch.manager.present import Present, Touched
from killswitch.ports import Cluster, Json

_NO_RIGHT = 'cannot create resource "pods"'
"""In what RBAC answers; admission, quotas and locks say other things, which may pass."""


async def raised(
    cluster: Cluster, present: Sequence[Present], limit: int | None, ours: set[int]
) -> list[str]:
    """Raise each workload to its recorded count, at most to `limit`; who is not ready yet.

    Only from a count in `ours`, where this restore left it: any other is somebody else's decision.
    (A person who chose the canaries' own count cannot be told from this restore.) Never above what
    its autoscaler allows; but at least 1, since an autoscaler does not wake at 0.
    """
    waiting = []
    for each in present:
        want = each.wanted if limit is None else min(limit, each.wanted)
        if each.replicas in ours and each.replicas < want:
            body = {"spec": {"replicas": want}}
            kind, name = each.kind, each.target.record["name"]
            await cluster.patch(kind.resource, name, body, each.namespace, subresource="scale")
            waiting.append(each.name)
        elif each.ready is not None and each.ready < min(want, each.replicas):
            waiting.append(each.name)
    return waiting


async def put_back(cluster: Cluster, present: Sequence[Present]) -> list[str]:
    """Put the fields of kinds without a count back; who has not followed yet."""
    waiting = []
    for each in present:
        change = undoing.undo(each.body, each.fields)
        if change is not None:
            name = each.target.record["name"]
            await cluster.patch(each.kind.resource, name, change, each.namespace)
            waiting.append(each.name)
        elif not each.settled:
            waiting.append(each.name)
    return waiting


async def made_again(
    cluster: Cluster, pods: Iterable[Target]
) -> tuple[list[str], list[str], list[str]]:
    """Make pods again that nobody owned, from their manifests.

    Who was made just now; who was refused, in words: a pod that may not be made (a quota, an admission
    webhook) keeps nothing else from coming back; and who is left to people, since the chart gives
    the right to make pods only where it is asked to.
    """
    made, refused, left = [], [], []
    for each in pods:
        body: Json = {"apiVersion": PODS.api_version, "kind": PODS.kind}
        body |= json.loads(each.record["manifest"])
        try:
            await cluster.create(PODS, body, each.place)
        except ConflictError:  # somebody was quicker: it is there
            pass
        except RefusedError as error:
            if _NO_RIGHT in str(error):
                left.append(each.name)
            else:
                refused.append(f"{each.name} could not be made again: {error}")
            continue
        made.append(each.name)
    return made, refused, left


async def resumed(cluster: Cluster, touched: Iterable[Touched]) -> None:
    """Give back what was cut or quieted, where it still is as we left it."""
    for each in touched:
        change = undoing.undo(each.body, each.fields)
        if change is not None:
            with contextlib.suppress(NotFoundError):  # deleted meanwhile
                await cluster.patch(each.resource, each.name, change, each.namespace)
