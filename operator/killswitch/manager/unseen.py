"""Why a kind of workload cannot be stopped here: not served, not to be listed, not to be written.

Asked of the API server for the manager's own account. The chart gives the reactor the same rights on workloads;
a role that is aggregated to the manager alone is not noticed here: then the reactor names what it cannot see
only in the Shutdowns that hold it.
"""

from killswitch.access import allowed
from killswitch.core.kinds import Kind, Verb
from killswitch.ports import Clock, Cluster

_FRESH = 10.0
"""Seconds for which an answer is good: rights come and go."""
_WRITES = {
    Verb.SCALE: (("patch", "scale"),),
    Verb.SET: (("patch", ""),),
    Verb.RECREATE: (),
    Verb.NONE: (),
}


class Sight:
    """What the manager may see and write of kinds."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        """Nothing has been asked."""
        self._cluster = cluster
        self._clock = clock
        self._known: dict[Kind, tuple[float, str]] = {}

    async def problem(self, name: str, kind: Kind | None) -> str:
        """Why workloads of this kind cannot be stopped, with the cure; empty: they can, as far as is known."""
        if kind is None:
            return (
                f"{name}: the cluster does not serve this kind; install it, or correct kind and group"
                " in spec.targets"
            )
        at, known = self._known.get(kind, (float("-inf"), ""))
        if self._clock.monotonic() - at > _FRESH:
            known = await self._denied(name, kind)
            self._known[kind] = self._clock.monotonic(), known
        return known

    async def _denied(self, name: str, kind: Kind) -> str:
        needed = (("list", ""), *_WRITES[kind.verb])
        denied = [
            f"{verb} {kind.resource.plural}{'/' if part else ''}{part}"
            for verb, part in needed
            if not await allowed(self._cluster, verb, kind.resource, subresource=part)
        ]
        if not denied:
            return ""
        return (
            f"{name}: the operator may not {', '.join(denied)}; give it the right, by the chart's"
            f" kinds.extra or a ClusterRole that is aggregated to it"
        )
