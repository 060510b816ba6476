"""The end of a Freeze: in its Shutdown, once, whoever froze; or when its policy has stopped its targets.

Any reactor makes it, at the end or whenever it first sees that the end has passed: a Freeze is a
promise that somebody looks in time, and nobody did. It is tried until the API server accepts it.
What people thawed up to that moment is not stopped: the Freeze is read again before the Shutdown
is made. Then `Ended` is written, by which guards know that the Shutdown rules from now on.

A policy that froze and then stopped has no use for its Freeze any more: left in force it would freeze what
people restore, and could stop it again. It ends once no pod is left that it could let go.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import structlog

from killswitch.api import orders
from killswitch.api.compiled import CompiledPolicy
from killswitch.core import conditions, containment, times
from killswitch.core.conditions import FreezeCondition, Reason, ShutdownCondition
from killswitch.core.errors import KillSwitchError, NotFoundError, RefusedError
from killswitch.core.locks import engaged
from killswitch.core.resources import FREEZES, REPLICASETS
from killswitch.ports import Clock, Cluster, Json
from killswitch.reactor import engaging
from killswitch.reactor.fan_out import cancel
from killswitch.reactor.finisher import field_manager
from killswitch.reactor.freezes import Freezes
from killswitch.reactor.view import View
from killswitch.reactor.watched import Identity

_FIRST, _LONGEST = 0.05, 2.0
"""Seconds between two attempts, doubled each time."""
_SIGNED = ("requestedBy", "reason")
"""By which a Shutdown is known as the one that a Freeze ended in, beside its policy."""
_CHANGING = ("uid/", f"{REPLICASETS.key}/")
"""How keys begin that come and go with a workload's rollouts."""
Attempt = Callable[[], Awaitable[str]]
"""One try to end a Freeze: why it is not ended yet, or nothing."""
_LOG = structlog.get_logger(__name__)


class Ending:
    """One task for each Freeze that comes to its end."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        identity: Identity,
        view: View,
        freezes: Freezes,
        *,
        policy: Callable[[str], CompiledPolicy | None],
    ) -> None:
        """`policy` looks up a policy by its uid, as it stands now."""
        self._cluster = cluster
        self._clock = clock
        self._identity = identity
        self._manager = field_manager(identity.replica)
        self._view = view
        self._freezes = freezes
        self._policy = policy
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def due(self) -> None:
        """Begin to end each Freeze whose time is over."""
        for freeze in tuple(self._freezes.ending()):
            self._begin(freeze, partial(self._attempt, freeze))
        for freeze, shutdown in tuple(self._overtaken()):
            self._begin(freeze, partial(self._try, freeze, partial(_overtaken_by, shutdown)))

    def _begin(self, freeze: Json, attempt: Attempt) -> None:
        uid = freeze["metadata"]["uid"]
        if uid not in self._tasks:
            self._tasks[uid] = asyncio.create_task(self._end(freeze, attempt))

    def _overtaken(self) -> Iterator[tuple[Json, Json]]:
        """Policies' Freezes that hold, each with the policy's finished Shutdown of all that it freezes."""
        for freeze in self._freezes.holding():
            for shutdown in self._view.shutdowns_of(freeze["spec"]["policy"]["uid"]):
                if _overtakes(shutdown, freeze):
                    yield freeze, shutdown
                    break

    async def close(self) -> None:
        """Cut off what is under way; another replica, or the next start, takes it up."""
        await cancel([*self._tasks.values()])

    async def _end(self, freeze: Json, attempt: Attempt) -> None:
        """Return once it is ended, by this reactor or by anybody."""
        pause, told, name = _FIRST, "", freeze["metadata"]["name"]
        try:
            while problem := await attempt():
                if problem != told:  # once, not at each attempt
                    told = problem
                    _LOG.warning("a Freeze is not ended", freeze=name, problem=problem)
                await self._clock.sleep(pause)
                pause = min(2 * pause, _LONGEST)
        finally:
            del self._tasks[freeze["metadata"]["uid"]]

    async def _attempt(self, freeze: Json) -> str:
        """Stop what it froze, and say so. Why it is not ended yet; empty once it is."""

        async def stop() -> str:
            name = (await self._stop(freeze))["metadata"]["name"]
            return f"nobody thawed it in time: Shutdown {name} holds its targets"

        return await self._try(freeze, stop)

    async def _try(self, freeze: Json, act: Callable[[], Awaitable[str]]) -> str:
        """The same for any act that gives the reason for the end."""
        try:
            if await self._still_in_force(freeze):
                await self._ended(freeze, await act())
        except KillSwitchError as error:
            return str(error) or repr(error)
        except Exception as error:  # a defect of ours must not leave an end undone
            _LOG.exception("a Freeze could not be ended", freeze=freeze["metadata"]["name"])
            return repr(error)
        return ""

    async def _still_in_force(self, freeze: Json) -> bool:
        """Whether nobody has thawed, ended or deleted it, as etcd has it."""
        metadata = freeze["metadata"]
        try:
            current = await self._cluster.get(FREEZES, metadata["name"], metadata["namespace"])
        except NotFoundError:
            current = None
        except RefusedError:
            # It may not be looked at: what the watch says must do.
            seen = self._freezes.stored.objects.get(metadata["uid"])
            return seen is not None and containment.freeze_in_force(seen)
        if current is None or current["metadata"]["uid"] != metadata["uid"]:
            self._freezes.stored.remove(metadata["uid"])
            return False
        self._freezes.stored.put(current)
        return containment.freeze_in_force(current)

    async def _stop(self, freeze: Json) -> Json:
        """The Shutdown that it ends in: made now, or before; released or not, never a second one."""
        me = self._identity.username
        policy = (freeze["spec"].get("policy") or {}).get("uid")
        order = orders.at_end_of(freeze, me, self._policy(policy) if policy else None)

        def same(found: Json) -> bool:
            # Immutable, and by an account that nobody else has. The reason names the end, which no
            # later Freeze of this name can have: that one's would lie behind its creation.
            theirs = (found["spec"].get("policy") or {}).get("uid")
            ours = all(found["spec"][name] == order.body["spec"][name] for name in _SIGNED)
            return ours and theirs == policy

        shutdown = await engaging.once(self._cluster, order, same=same)
        name = shutdown["metadata"]["name"]
        _LOG.info("stopped at the end of a Freeze", freeze=freeze["metadata"]["name"], name=name)
        self._view.shutdowns.expect(shutdown)
        return shutdown

    async def _ended(self, freeze: Json, message: str) -> None:
        """Say that it is over, and why."""
        metadata = freeze["metadata"]
        ended = conditions.make(
            FreezeCondition.ENDED,
            status=True,
            reason=Reason.STOPPED,
            message=message,
            generation=metadata.get("generation", 0),
            now=times.text(self._clock.now()),
        )
        stored = await self._cluster.apply(
            FREEZES,
            metadata["name"],
            {"status": {"conditions": [ended]}},
            metadata["namespace"],
            subresource="status",
            manager=self._manager,
        )
        self._freezes.stored.put(stored)


async def _overtaken_by(shutdown: Json) -> str:
    return f"its policy has stopped its targets: Shutdown {shutdown['metadata']['name']}"


def _overtakes(shutdown: Json, freeze: Json) -> bool:
    """Whether a Shutdown of the same policy holds all that is frozen, and no pod of it is left.

    ReplicaSets and uids are left out of the comparison: they change with a rollout, and what is held
    by its name is held.
    """
    stopped = conditions.holds(
        shutdown.get("status", {}).get("conditions", ()), ShutdownCondition.STOPPED
    )
    if not (stopped and engaged(shutdown)):
        return False
    namespace, held = freeze["metadata"]["namespace"], shutdown["spec"]
    if namespace in (held.get("namespaces") or ()):
        return True
    if shutdown["metadata"].get("namespace") != namespace:
        return False
    spec = freeze["spec"]
    locks = spec.get("locks") or {}
    named = {key: value for key, value in locks.items() if not key.startswith(_CHANGING)}
    return not engaging.beyond({**spec, "locks": named}, held)
