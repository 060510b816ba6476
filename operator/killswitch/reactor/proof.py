"""Step 4a of a stop: is it locked? A dry run that would restart something must be refused.

Each API server has its own cache of policies and Shutdowns, so it must be refused by each of them
that answers. One that does not answer proves nothing, and is named.

Only a refusal in the lock's own words proves anything. Where nothing may be tried, or there is
nothing to restart, the lock stays unproven, which is not the same as open
(docs/decisions/0006-unproven-is-not-unlocked.md).
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from enum import Enum, auto
from typing import Any

from killswitch.core import kinds
from killswitch.core.errors import (
    ConflictError,
    NotFoundError,
    OverloadedError,
    RefusedError,
    ServerError,
    TimedOutError,
    UnavailableError,
)
from killswitch.core.inventory import Workload
from killswitch.core.kinds import Verb
from killswitch.core.resources import NODES, PODS
from killswitch.core.stops import Stop
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor.persistence import persistently

_DENIAL = "held down by"
"""How the lock's own message begins."""
_FIRST, _LONGEST = 0.005, 0.25


class Trial(Enum):
    """What a dry-run restart met."""

    DENIED = auto()  # by the lock, in its own words
    ALLOWED = auto()
    UNCERTAIN = auto()  # refused, but not in the lock's words
    IMPOSSIBLE = auto()  # there is nothing to restart, or no right to try
    UNREACHED = auto()  # no answer


async def prove(
    cluster: Cluster,
    clock: Clock,
    stops: Sequence[Stop],
    resting: Collection[str],
    until: float,
) -> tuple[Trial, str]:
    """What the stops met at `until` (monotonic) at the latest: DENIED if all did, everywhere.

    `resting` are the uids of targets that are at rest: only of those can it be undone.

    Else the first that was not; the text says where and in which words. Of DENIED it says by whom.
    """
    servers = cluster.endpoints()
    trials = await asyncio.gather(
        *(_prove(server, clock, stops, resting, until) for server in servers)
    )
    for server, (trial, words) in zip(servers, trials, strict=True):
        if trial not in {Trial.DENIED, Trial.UNREACHED}:
            return trial, words if len(servers) == 1 else f"{words} (asked {server})"
    silent = [words for trial, words in trials if trial is Trial.UNREACHED]
    denied = len(trials) - len(silent)
    if not denied:
        return Trial.UNCERTAIN, "; ".join(silent)
    if len(servers) == 1:
        return Trial.DENIED, "a dry-run restart was denied"
    by = f"a dry-run restart was denied by {denied} of {len(servers)} API servers"
    return Trial.DENIED, "; ".join((by, *silent))


async def _prove(
    server: Cluster,
    clock: Clock,
    stops: Sequence[Stop],
    resting: Collection[str],
    until: float,
) -> tuple[Trial, str]:
    """What they met at this one API server."""
    for stop in stops:
        place, pause = stop.namespace or "these nodes", _FIRST
        while True:
            try:
                trial, words = await persistently(
                    clock,
                    lambda stop=stop: _try(server, stop, resting),  # type: ignore[misc]
                    within=max(0.0, until - clock.monotonic()),
                )
            except (OverloadedError, UnavailableError) as error:
                return Trial.UNREACHED, f"{server} did not answer: {error}"
            if trial is Trial.DENIED:
                break
            if trial is Trial.IMPOSSIBLE:
                return trial, f"the lock could not be tried in {place}: {words}"
            if clock.monotonic() >= until:
                return trial, f"the lock does not deny a restart in {place} {words}".rstrip()
            await clock.sleep(pause)
            pause = min(2 * pause, _LONGEST)
    return Trial.DENIED, ""


async def _try(cluster: Cluster, stop: Stop, resting: Collection[str]) -> tuple[Trial, str]:
    """What a dry-run restart met, and in which words."""
    words = "nothing to restart"
    for attempt in _restarts(cluster, stop, resting):
        try:
            await attempt()
        except (NotFoundError, ConflictError):
            continue
        except (ServerError, TimedOutError) as error:
            return Trial.UNCERTAIN, f"in the lock's words: {error}"
        except RefusedError as error:
            words = str(error)
            if _DENIAL in words:
                return Trial.DENIED, words
            if error.code == 422:  # its policies are not loaded yet: it may be seconds
                return Trial.UNCERTAIN, f"in the lock's words: {words}"
            continue  # no right to do it: try the next way
        return Trial.ALLOWED, ""
    return Trial.IMPOSSIBLE, words


def _restarts(cluster: Cluster, stop: Stop, resting: Collection[str]) -> list[Callable[[], Any]]:
    """Dry runs that would restart something held: the narrowest rights first."""
    if stop.nodes:
        body = {"spec": {"unschedulable": False}}
        return [
            lambda node=node: cluster.patch(NODES, node.name, body, dry_run=True)  # type: ignore[misc]
            for node in stop.nodes[:3]
        ]
    counted = [each for each in stop.targets if each.kind.counted]
    raised = {"spec": {"replicas": max((t.replicas or 1 for t in counted), default=1) + 1}}
    ways: list[Callable[[], Any]] = [
        lambda target=target: cluster.patch(  # type: ignore[misc]
            target.kind.resource,
            target.name,
            raised,
            target.namespace,
            subresource="scale",
            dry_run=True,
        )
        for target in counted[:3]
    ]
    stopped = [each for each in stop.targets if each.kind.verb is Verb.SET and each.uid in resting]
    ways += [
        lambda target=target: cluster.patch(  # type: ignore[misc]
            target.kind.resource,
            target.name,
            _undone(target),
            target.namespace,
            dry_run=True,
        )
        for target in stopped[:3]
    ]
    probe = _probe_pod(stop)
    return [*ways, lambda: cluster.create(PODS, probe, stop.namespace, dry_run=True)]


def _undone(target: Workload) -> Json:
    """What takes it out of its rest: what stood there before, or nothing."""
    settings = zip(target.kind.settings, target.values, strict=True)
    return kinds.patch((each.path, None if was == each.rest else was) for each, was in settings)


def _probe_pod(stop: Stop) -> Json:
    """A pod that the lock must refuse; only ever created as a dry run."""
    held = next((key for key in stop.locks if key.startswith(f"{PODS.key}/")), "")
    name = held.rpartition("/")[2] or "killswitch-probe"
    metadata: Json = {"name": name, "labels": dict(stop.pod_labels or {})}
    owner = next((key for key in stop.locks if key.startswith("uid/")), None)
    if owner is not None:
        metadata["ownerReferences"] = [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "killswitch-probe",
                "uid": owner.removeprefix("uid/"),
                "controller": True,
            }
        ]
    container = {"name": "probe", "image": "killswitch.invalid/probe"}
    spec = {"containers": [container], "restartPolicy": "Never"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
