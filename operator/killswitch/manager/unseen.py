"""Why a kind of workload cannot be stopped here: not served, not to be listed, not to be written.

Asked of the API server for the manager's own account, which restores, and for the reactor's, which stops: a role
may be aggregated to one of them alone. What cannot be asked is taken for granted: the reactor names what it
cannot see in the Shutdowns that hold it.
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
    """What the manager and the reactor may see and write of kinds."""

    def __init__(self, cluster: Cluster, clock: Clock, reactor: str = "") -> None:
        """Nothing has been asked. `reactor` is the username of its account; empty: it is not asked about."""
        self._cluster = cluster
        self._accounts = {"manager": "", **({"reactor": reactor} if reactor else {})}
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
        lacks = {
            process: await self._lacks(account, kind) for process, account in self._accounts.items()
        }
        told = [f"the {who} may not {', '.join(what)}" for who, what in lacks.items() if what]
        if not told:
            return ""
        return (
            f"{name}: {', '.join(told)}; give it the right, by the chart's"
            f" kinds.extra or a ClusterRole that is aggregated to it"
        )

    async def _lacks(self, account: str, kind: Kind) -> list[str]:
        """What this account may not do of what a stop or its restore needs; the reactor watches."""
        seen = (("list", ""), ("watch", "")) if account else (("list", ""),)
        needed = (*seen, *_WRITES[kind.verb])
        return [
            f"{verb} {kind.resource.plural}{'/' if part else ''}{part}"
            for verb, part in needed
            if not await allowed(
                self._cluster, verb, kind.resource, subresource=part, account=account
            )
        ]
