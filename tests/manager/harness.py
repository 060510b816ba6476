"""A manager in this process over the real API server, and people who act."""

import asyncio
import contextlib
import gc
import os
import time
import warnings
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from killswitch.adapters import credentials
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.adapters.promql import PromqlChecker
from killswitch.core import conditions, holdings, kinds, times
from killswitch.core.conditions import Reason
from killswitch.core.resources import DEPLOYMENTS, EVENTS, POLICIES, SHUTDOWNS
from killswitch.manager.numbers import Numbers
from killswitch.manager.places import Places
from killswitch.manager.run import Manager
from killswitch.ports import Json, SampleFeeds
from killswitch.reactor.finisher import FIELD_MANAGER
from killswitch.reactor.stop import StopSequence
from killswitch.settings import Settings
from killswitch.telemetry.traces import Traces
from tests.cluster.control_plane import ControlPlane, User
from tests.fakes.sample_feeds import FakeSampleFeeds
from tests.kernel.objects import approval, shutdown, shutdowns
from tests.reactor.harness import Bench, eventually


@dataclass
class Scene:
    """One namespace, the product's client, and the people around it."""

    kernel: ControlPlane
    bench: Bench
    feeds: SampleFeeds = field(default_factory=FakeSampleFeeds)

    @property
    def namespace(self) -> str:
        """The governed namespace of this test."""
        return self.bench.namespace

    @property
    def vllm(self) -> Json:
        """The target that most tests have."""
        return {"kind": "Deployment", "name": "vllm"}

    @contextlib.asynccontextmanager
    async def manager(
        self,
        numbers: Numbers | None = None,
        traces: Traces | None = None,
        *,
        account: User | None = None,
        reactor: str = "",
        **settings: Any,
    ) -> AsyncIterator[None]:
        """A running manager; cancelled at the end like a killed process.

        It is the administrator unless an account is given. `reactor` is the username that it takes for
        the reactor's.
        """
        user = account or self.kernel.admin
        credential = credentials.load(kubeconfig=str(user.kubeconfig))
        async with (
            KubernetesApi(credential) as cluster,
            self._manager(cluster, user, numbers, traces, settings, reactor=reactor),
        ):
            yield

    @contextlib.asynccontextmanager
    async def _manager(
        self,
        cluster: KubernetesApi,
        user: User,
        numbers: Numbers | None,
        traces: Traces | None,
        settings: dict[str, Any],
        *,
        reactor: str,
    ) -> AsyncIterator[None]:
        chosen = Settings(armed_interval=1.0, **settings)
        running = Manager(
            cluster,
            SystemClock(),
            PromqlChecker(),
            self.feeds,
            chosen,
            numbers=numbers,
            traces=traces,
            reactor=reactor,
        )
        before = os.environ.get("KUBECONFIG")
        os.environ["KUBECONFIG"] = str(user.kubeconfig)  # kopf logs in by itself
        task = asyncio.create_task(running.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with warnings.catch_warnings():
                # kopf ends its loop before its TLS connections have said goodbye.
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
            if before is None:
                del os.environ["KUBECONFIG"]
            else:
                os.environ["KUBECONFIG"] = before

    def approve(self, name: str, *people: str) -> None:
        """These people approve."""
        for person in people:
            api = self.kernel.api(self.kernel.user(person))
            answer = api.patch(shutdowns(self.namespace, name), approval(person))
            assert answer.status == 200, answer.message

    def order_restore(self, name: str, person: str = "bob", **more: Any) -> None:
        """This person asks for the restore."""
        order = {"by": person, "reason": "fixed", **more}
        api = self.kernel.api(self.kernel.user(person))
        answer = api.patch(shutdowns(self.namespace, name), {"spec": {"restore": order}})
        assert answer.status == 200, answer.message

    def delete(self, name: str, person: str = "bob") -> None:
        """This person deletes a released Shutdown."""
        api = self.kernel.api(self.kernel.user(person))
        answer = api.delete(shutdowns(self.namespace, name))
        assert answer.status == 200, answer.message

    async def condition(self, name: str, type_: str, status: str, reason: str = "") -> str:
        """The message of a Shutdown's condition, once it stands so."""
        found = await self.bench.with_condition(SHUTDOWNS, name, type_, status, reason)
        return _message(found, type_)

    async def policy_condition(self, name: str, type_: str, status: str, reason: str = "") -> str:
        """The message of a policy's condition, once it stands so."""
        found = await self.bench.with_condition(POLICIES, name, type_, status, reason)
        return _message(found, type_)

    async def event(self, kind: str, name: str, reason: str, type_: str = "Normal") -> str:
        """The message of an Event about that object, once it is there."""

        async def look() -> str | None:
            for each in (await self.bench.cluster.list(EVENTS, self.namespace)).items:
                about = (each["involvedObject"]["kind"], each["involvedObject"]["name"])
                if (about, each["reason"], each["type"]) == ((kind, name), reason, type_):
                    return str(each["message"])
            return None

        return await eventually(look)

    async def reactor_reports(
        self,
        name: str,
        *,
        ago: float = 0.0,
        unknown: str = "",
        inhibited: tuple[str, str] | None = None,
        paths: Sequence[Json] = (),
    ) -> None:
        """Write the policy's status as a reactor would that has read every signal `ago` seconds ago.

        `unknown` is why they are Unknown; `inhibited` the cause and its message; `paths` are those
        of each signal.
        """
        body = await self.bench.cluster.get(POLICIES, name, self.namespace)
        generation = body["metadata"]["generation"]
        at = times.text(SystemClock().now() - ago)
        signals = [
            {
                "name": each["name"],
                "verdict": "Unknown" if unknown else "Clear",
                "reason": unknown,
                "value": "" if unknown else "1",
                "message": f"as of {at}",
                "observedAt": at,
                "paths": list(paths),
            }
            for each in body["spec"]["signals"]
        ]
        names = ", ".join(each["name"] for each in signals)
        cause, why = inhibited or (Reason.NOT_INHIBITED, "nothing inhibits")
        blind = Reason.BLIND if unknown else Reason.ALL_ANSWER
        judged = (
            ("SignalsAvailable", not unknown, blind, f"{names}: {unknown or 'answers'}"),
            ("Inhibited", inhibited is not None, cause, why),
        )
        observed = body.get("status", {}).get("conditions", ())
        entries = [
            conditions.merge(
                observed, conditions.make(*each, generation=generation, now=times.text(time.time()))
            )
            for each in judged
        ]
        await self.bench.cluster.apply(
            POLICIES,
            name,
            {"status": {"conditions": entries, "signals": signals}},
            self.namespace,
            subresource="status",
            manager=FIELD_MANAGER,
        )

    async def change_policy(self, name: str, **spec: Any) -> None:
        """Merge-patch a policy's spec."""
        await self.bench.cluster.patch(POLICIES, name, {"spec": spec}, self.namespace)

    async def armed_policy(self, name: str, **spec: Any) -> None:
        """A policy that is Armed, since a reactor has reported on it."""
        await self.bench.policy(name, targets=[self.vllm], **spec)
        await self.reactor_reports(name)
        await self.policy_condition(name, "Armed", "True", "LockProven")

    async def stopped(self, name: str = "stop", **spec: Any) -> None:
        """A Shutdown of Deployment vllm by admin whose sequence has been run."""
        cluster, clock = self.bench.cluster, SystemClock()
        body = shutdown(name, "admin", **spec)
        created = await cluster.create(SHUTDOWNS, body, self.namespace)
        seen = {"status": {"stages": {"locked": times.text(clock.now())}}}
        await cluster.patch(SHUTDOWNS, name, seen, self.namespace, subresource="status")
        named = {each.rpartition("/")[0] for each in created["spec"].get("locks") or ()}
        there = await Places(cluster, clock).see([self.namespace], await _kinds(cluster, named))
        plan = holdings.for_shutdown("Shutdown", self.namespace, created["spec"], there.inventory)
        sequence = StopSequence(cluster, clock, records_namespace="killswitch-system")
        await sequence.execute(created, plan.stops, until=clock.monotonic() + 5)

    async def replicas(self, name: str, count: int) -> None:
        """Return when the Deployment asks for this many."""

        async def look() -> bool:
            return await self.bench.replicas(name) == count

        await eventually(look)

    async def edit(self, name: str, body: Json) -> None:
        """Merge-patch a Deployment."""
        await self.bench.cluster.patch(DEPLOYMENTS, name, body, self.namespace)


async def _kinds(cluster: KubernetesApi, keys: set[str]) -> set[str]:
    """The names of the kinds that these lock keys are of."""
    found = {each.resource.key: each.resource for each in await cluster.served()}
    return {kinds.named(each.kind, each.group) for key, each in found.items() if key in keys}


def _message(body: Json, type_: str) -> str:
    found = next(c for c in body["status"]["conditions"] if c["type"] == type_)
    return str(found["message"])
