"""The manager process: kopf's events and a periodic list wake the flows; the lock is proven."""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from killswitch.api import orders
from killswitch.core.audit import Refusal, Tally
from killswitch.core.errors import KillSwitchError
from killswitch.core.resources import CLUSTER_POLICIES, FREEZES, POLICIES, SHUTDOWNS, Resource
from killswitch.manager.armed import prove
from killswitch.manager.freezes import Freezes
from killswitch.manager.govern import govern
from killswitch.manager.guards import Guards
from killswitch.manager.numbers import Numbers
from killswitch.manager.operator import WATCHED, Operator
from killswitch.manager.places import Places
from killswitch.manager.policies import Policies
from killswitch.manager.reactions import Reactions
from killswitch.manager.rounds import Key, Rounds
from killswitch.manager.shutdowns import Shutdowns
from killswitch.ports import Clock, Cluster, QueryChecker, SampleFeeds
from killswitch.settings import Settings
from killswitch.telemetry.traces import Traces

_RELIST = 30.0
_POLICY_KINDS = (POLICIES, CLUSTER_POLICIES)
_LOG = structlog.get_logger(__name__)


class Manager:
    """Everything of the manager; `run` returns only when cancelled."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        checker: QueryChecker,
        feeds: SampleFeeds,
        settings: Settings,
        *,
        numbers: Numbers | None = None,
        traces: Traces | None = None,
        reactor: str = "",
    ) -> None:
        """Nothing runs before `run`. `reactor` is the username of its account, to ask what it may."""
        self.numbers = numbers or Numbers()
        self._tally = Tally()
        self._cluster = cluster
        self._clock = clock
        self._settings = settings
        self._rounds = Rounds(clock, self._look)
        self._reactions = Reactions(feeds, clock, settings, self._rounds.wake)
        self._guards = Guards(cluster, clock, self._rounds.wake)
        self.numbers.guards(self._guards.count, self._guards.frozen)
        places = Places(cluster, clock)
        self._policies = Policies(
            cluster,
            clock,
            checker,
            self._reactions,
            settings,
            guards=self._guards,
            places=places,
            reactor=reactor,
        )
        self._freezes = Freezes(cluster, clock, self._guards, settings)
        self._shutdowns = Shutdowns(
            cluster, clock, settings, self.numbers, traces, places=places, tally=self._tally
        )

    def refused(self, refusals: Sequence[Refusal]) -> None:
        """The API server's audit events tell of these; they are told with the next look at each stop."""
        for each in refusals:
            self._tally.add(each)

    async def run(self) -> None:
        """Watch, list, prove and look until cancelled."""
        loop = asyncio.get_running_loop()

        def changed(resource: Resource, namespace: str, name: str) -> None:
            with contextlib.suppress(RuntimeError):  # this loop has ended, kopf not yet
                loop.call_soon_threadsafe(self._changed, Key(resource, namespace, name))

        operator = Operator(changed)
        operator.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._rounds.run())
                group.create_task(self._reactions.run())
                group.create_task(self._guards.run())
                group.create_task(self._prove())
                group.create_task(self._relist())
        finally:
            await asyncio.to_thread(operator.stop)

    def _changed(self, key: Key) -> None:
        self._rounds.wake(key)
        if key.resource not in _POLICY_KINDS:
            # Its policy's `Fired` may have changed with it; which one is looked up there.
            self._wake_policies_later(key)

    def _wake_policies_later(self, key: Key) -> None:
        name = orders.policy_name(key.name)
        if key.resource == FREEZES:
            name = name.removesuffix("-freeze")
        if key.resource in (SHUTDOWNS, FREEZES):
            self._rounds.wake(Key(POLICIES, key.namespace, name))
        # A cluster policy engages in many namespaces.
        self._rounds.wake(Key(CLUSTER_POLICIES, "", name))

    async def _look(self, key: Key) -> float | None:
        if key.resource in _POLICY_KINDS:
            return await self._policies.look(key)
        if key.resource == FREEZES:
            return await self._freezes.look(key)
        return await self._shutdowns.look(key)

    async def _prove(self) -> None:
        """Try the lock again and again; when the outcome changes, every policy is told."""
        username = ""
        while True:
            try:
                username = username or await self._cluster.whoami()
            except KillSwitchError:
                await self._clock.sleep(1.0)
                continue
            proof = await prove(self._cluster, self._settings, username)
            self.numbers.tried(denied=proof.denied, now=self._clock.now())
            if proof != self._policies.proof:
                _LOG.info("lock tried", denied=proof.denied, message=proof.message)
                self._policies.proof = proof
                await self._wake_all(_POLICY_KINDS)
            # Not proven: look again soon, a fresh installation compiles its policies first.
            pause = self._settings.armed_interval if proof.denied else 1.0
            await self._clock.sleep(pause)

    async def _relist(self) -> None:
        while True:
            await self._govern()
            await self._wake_all(WATCHED)
            await self._clock.sleep(_RELIST)

    async def _govern(self) -> None:
        """Govern the namespaces that the settings name, as soon as each is there."""
        for namespace in self._settings.governed_namespaces:
            try:
                if await govern(self._cluster, namespace):
                    _LOG.info("governed", namespace=namespace)
            except KillSwitchError as error:  # the next round tries again
                _LOG.warning("not governed", namespace=namespace, error=str(error))

    async def _wake_all(self, resources: tuple[Resource, ...]) -> None:
        for resource in resources:
            with contextlib.suppress(KillSwitchError):  # the next round lists again
                for body in (await self._cluster.list(resource)).items:
                    metadata = body["metadata"]
                    self._rounds.wake(
                        Key(resource, metadata.get("namespace", ""), metadata["name"])
                    )
