"""Name what a release would start (`core/at_release.py`): above all what still asks for pods.

The lock holds them, so nothing is lost meanwhile. But a controller that ignores the field by which it
should rest (an older KServe), or a kind without such a field, has them up again at the moment of the
release, and people must know before they approve. Looked at from the view alone, some Shutdowns in
each turn, as long as they are engaged: a controller that comes to rest late is not accused for ever.
"""

from collections.abc import Sequence

from killswitch.core import at_release, conditions, times
from killswitch.core.conditions import Reason, ShutdownCondition
from killswitch.core.errors import KillSwitchError
from killswitch.core.inventory import Workload
from killswitch.core.locks import engaged
from killswitch.core.resources import CLUSTER_SHUTDOWNS, SHUTDOWNS
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor.finisher import FIELD_MANAGER, held_by
from killswitch.reactor.view import View

_MANAGER = f"{FIELD_MANAGER}-restless"
"""In whose name it is written: every replica sees the same."""
_PATIENCE = 10.0
"""Seconds after the stop in which controllers may come to rest."""
_AT_ONCE = 10
"""Shutdowns in one look."""
_TURN = 1.0
"""Seconds between two looks."""


class Restless:
    """Looks at one engaged Shutdown after the other."""

    def __init__(self, cluster: Cluster, clock: Clock, view: View) -> None:
        """Nothing was looked at yet."""
        self._cluster = cluster
        self._clock = clock
        self._view = view
        self._waiting: list[str] = []

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._clock.sleep(_TURN)
            await self.look()

    async def look(self) -> None:
        """Look at the next few; what is new of one is written on its status."""
        stored = self._view.shutdowns.objects
        if not self._waiting:
            self._waiting = list(stored)
        for _ in range(min(_AT_ONCE, len(self._waiting))):
            shutdown = stored.get(self._waiting.pop())
            if shutdown is not None and self._settled(shutdown):
                await self._tell(shutdown)

    def _settled(self, shutdown: Json) -> bool:
        """Whether it has been stopped for long enough to know."""
        observed = (shutdown.get("status") or {}).get("conditions") or ()
        found = conditions.find(observed, ShutdownCondition.STOPPED)
        if found is None or found["status"] != "True" or not engaged(shutdown):
            return False
        return self._clock.now() - times.seconds(found["lastTransitionTime"]) >= _PATIENCE

    async def _tell(self, shutdown: Json) -> None:
        told = conditions.find(shutdown["status"]["conditions"], ShutdownCondition.STOPPED)
        held = (each for stop in held_by(shutdown, self._view) for each in stop.targets)
        found = at_release.starts(held, self._view.inventory)
        if told is None:
            return
        message = with_restless(told["message"], found)
        if message == told["message"]:
            return
        metadata = shutdown["metadata"]
        entry = conditions.make(
            ShutdownCondition.STOPPED,
            status=True,
            reason=Reason(told["reason"]),
            message=message,
            generation=told["observedGeneration"],
            now=told["lastTransitionTime"],
        )
        resource = SHUTDOWNS if shutdown["kind"] == SHUTDOWNS.kind else CLUSTER_SHUTDOWNS
        try:
            await self._cluster.apply(
                resource,
                metadata["name"],
                {"status": {"conditions": [entry]}},
                metadata.get("namespace", ""),
                subresource="status",
                manager=_MANAGER,
            )
        except KillSwitchError:
            return  # it comes to its turn again


def with_restless(message: str, found: Sequence[Workload]) -> str:
    """The message, with what a release would start at its end; nothing where nothing would."""
    bare = message.partition(f"; {at_release.BEGINS}")[0]
    told = at_release.sentence([str(each) for each in found])
    return f"{bare}; {told}" if told else bare
