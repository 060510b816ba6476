"""A real kubelet with the node guard: decision → frozen, → dead, thaw → answered; and at rest.

Servers that ignore SIGTERM run as real processes. What is watched is the kernel: freezer states and
process ids in the pods' cgroups, not what any API says of them. The same stop without a guard and
`kubectl scale` are the baselines of the same run. Skipped, with the reason, where there can be no
node.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from bench import cores
from bench.figures import Figure, figure, median, percentile
from bench.reactor_rest import megabytes
from bench.scene import pod_spec, policy, reactor
from bench.setting import Setting
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.errors import NotFoundError
from killswitch.core.readings import Answer
from killswitch.core.resources import DEPLOYMENTS, FREEZES, PODS, POLICIES
from killswitch.node.cgroups import Cgroups
from killswitch.reactor.run import Reactor
from tests.cluster import cgroups
from tests.cluster.guard import GuardProcess
from tests.cluster.node import NAME, RealNode
from tests.cluster.processes import free_port
from tests.kernel import guards

REPLICAS = 3
ROUNDS = 3
"""Of stops without a guard, which take seconds each."""
KILLS, FREEZES_OF_ONE, FREEZES_OF_MANY = 12, 30, 15
MANY = 30
_PLACE = "bench-node"
_LOOK = 0.0003
"""Seconds between two looks at the kernel: more often would take the guard's share of the cores."""
_REST = 20.0
_PODS = 110
_CPU = 1500
"""Thousandths of a core that a Deployment's servers ask for together."""


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named node_*."""
    if reason := RealNode.unavailable():
        print(f"# no node figures: {reason}", file=sys.stderr, flush=True)
        return
    with cores.given_to_the_node(), RealNode(setting.control_plane, gpus=100) as node:
        scene = _Scene(setting, node)
        with cores.given_to_the_rest(setting.control_plane.pids()):
            api_only, scaled = asyncio.run(scene.without_guard())
        with scene.guard(), cores.given_to_the_rest(setting.control_plane.pids()):
            yield from asyncio.run(scene.with_guard(api_only, scaled))
        yield from scene.at_rest()


class _Scene:
    def __init__(self, setting: Setting, node: RealNode) -> None:
        self.setting = setting
        self.node = node
        self._number = 0

    def guard(self) -> GuardProcess:
        """The node's guard, by the version of cgroups that this machine's kubelet uses."""
        return GuardProcess(self.node, guards.guard(self.setting.control_plane, NAME))

    async def without_guard(self) -> tuple[float, float]:
        """Seconds to the last process's death: our stop through the API alone, and a scale alone."""
        async with self.setting.cluster() as cluster:
            await self.setting.namespace(cluster, _PLACE)
            async with reactor(self.setting, cluster) as running:
                ours = [await self._stop(cluster, running) for _ in range(ROUNDS)]
            return median(ours), await self._scale(cluster)

    async def with_guard(self, api_only: float, scaled: float) -> list[Figure]:
        """All that needs one."""
        async with self.setting.cluster() as cluster, reactor(self.setting, cluster) as running:
            await self._stop(cluster, running)  # the first of everything is slow
            single = [await self._stop(cluster, running, 1) for _ in range(KILLS)]
            kills = [await self._stop(cluster, running) for _ in range(KILLS)]
            one, thaws = await self._freezes(cluster, running, 1, FREEZES_OF_ONE)
            many, _ = await self._freezes(cluster, running, MANY, FREEZES_OF_MANY)
        dead = median(kills)
        return [
            _milliseconds("node_decision_to_dead", single, most=15, pods=1),
            _milliseconds(f"node_decision_to_dead_{REPLICAS}", kills, most=15, pods=REPLICAS),
            figure(
                "node_dead_against_api_only",
                api_only / dead,
                "x",
                aim=">= 100 x",
                met=api_only >= 100 * dead,
                api_only_s=round(api_only, 3),
            ),
            figure(
                "node_dead_against_scale",
                scaled / dead,
                "x",
                aim=">= 1000 x",
                met=scaled >= 1000 * dead,
                scale_s=round(scaled, 3),
                grace_s=30,
            ),
            _milliseconds("node_decision_to_frozen", one, most=10, pods=1),
            _milliseconds(f"node_decision_to_frozen_{MANY}", many, most=25, pods=MANY),
            _milliseconds("node_thaw_to_answer", thaws, most=5, pods=1),
        ]

    def at_rest(self) -> Iterator[Figure]:
        """Memory and CPU of a guard whose node has as many pods as a kubelet takes."""
        place = "bench-node-rest"
        plane = self.setting.control_plane
        (name,) = plane.add_gpu_nodes(1, prefix="rest")
        assert plane.api().create("/api/v1/namespaces", {"metadata": {"name": place}}).status == 201
        for number in range(_PODS):
            body = {"metadata": {"name": f"p-{number}"}, "spec": {**pod_spec(), "nodeName": name}}
            answer = plane.api().create(f"/api/v1/namespaces/{place}/pods", body)
            assert answer.status == 201, answer.message
        user = guards.guard(plane, name)
        with GuardProcess(self.node, user, {"NODE_NAME": name}, name="guard-rest") as guard:
            time.sleep(_REST / 2)
            pids = guard.pids
            used = sum(map(_scheduled, pids))
            time.sleep(_REST)
            share = (sum(map(_scheduled, pids)) - used) / _REST * 100
            memory = [megabytes(pid) for pid in pids]
        yield figure(
            "node_guard_rss",
            max(memory),
            "MB",
            aim="<= 35 MB",
            met=max(memory) <= 35,
            supervisor_mb=round(memory[0], 1),
            worker_mb=round(memory[-1], 1),
            pods=_PODS,
        )
        yield figure(
            "node_guard_cpu", share, "%", aim="<= 0.5 % of a core", met=share <= 0.5, pods=_PODS
        )

    async def _stop(self, cluster: KubernetesApi, running: Reactor, count: int = REPLICAS) -> float:
        """Seconds from the tripping sample until the last process of a Deployment is dead."""
        name = self._name("stop")
        uids = await self._serve(cluster, name, count)
        trip = await self._armed(cluster, running, policy(name, name.replace("-", "_")))
        with self._processes(uids) as last_dead:
            started = time.perf_counter()
            trip()
            took = await last_dead() - started
        await self._remove(cluster, name, uids)
        return took

    async def _scale(self, cluster: KubernetesApi) -> float:
        name = self._name("scaled")
        uids = await self._serve(cluster, name, REPLICAS)
        with self._processes(uids) as last_dead:
            started = time.perf_counter()
            body = {"spec": {"replicas": 0}}
            await cluster.patch(DEPLOYMENTS, name, body, _PLACE, subresource="scale")
            return await last_dead() - started

    async def _freezes(
        self, cluster: KubernetesApi, running: Reactor, count: int, rounds: int
    ) -> tuple[list[float], list[float]]:
        """Seconds from sample to frozen, and from a person's thaw to the first answered request."""
        name, port = self._name("hold"), free_port() if count == 1 else 0
        uids = await self._serve(cluster, name, count, port=port)
        frozen, answered = [], []
        for number in range(rounds + 1):
            taken = await self._freeze(cluster, running, f"{name}-{number}", uids=uids, port=port)
            if number:  # the first of everything is slow
                frozen.append(taken[0])
                answered.append(taken[1])
        await cluster.delete(DEPLOYMENTS, name, _PLACE)
        await self._remove(cluster, name, uids)
        return frozen, answered

    async def _freeze(
        self,
        cluster: KubernetesApi,
        running: Reactor,
        own: str,
        *,
        uids: Sequence[str],
        port: int,
    ) -> tuple[float, float]:
        kernel, name = self._kernel(), own.rpartition("-")[0]
        body = policy(own, own.replace("-", "_"))
        body["spec"]["targets"] = [{"kind": "Deployment", "name": name}]
        rung = {"for": "1h", "onExpiry": "Thaw"}
        body["spec"]["action"] = {"type": "Freeze", "freeze": rung}
        trip = await self._armed(cluster, running, body)
        started = time.perf_counter()
        trip()
        await _seen(lambda: all(kernel.frozen(uid) for uid in uids))
        frozen = time.perf_counter() - started
        order = {"spec": {"thaw": {"by": self.setting.username, "reason": "bench"}}}
        await _listed(cluster, f"{own}-freeze-1")
        async with _asked(port) as answer:
            started = time.perf_counter()
            await cluster.patch(FREEZES, f"{own}-freeze-1", order, _PLACE)
            await answer() if port else None
            answered = time.perf_counter() - started
        await _seen(lambda: not any(kernel.frozen(uid) for uid in uids))
        await cluster.delete(POLICIES, own, _PLACE)
        return frozen, answered

    async def _armed(
        self, cluster: KubernetesApi, running: Reactor, body: dict[str, Any]
    ) -> Callable[[], None]:
        """What trips a policy that the reactor watches."""
        created = await cluster.create(POLICIES, body, _PLACE)
        while created["metadata"]["uid"] not in running.engine.watched:
            await asyncio.sleep(0.01)
        query = body["spec"]["signals"][0]["prometheus"]["query"]
        return lambda: running.engine.intake.deliver(query, Answer((1.0,), 0.0))

    async def _serve(
        self, cluster: KubernetesApi, name: str, count: int, *, port: int = 0
    ) -> list[str]:
        """Uids of a Deployment's pods, once every server runs and the reactor knows them."""
        labels = {"app": name}
        spec = self.node.pod_spec(port=port)
        # As a model server has: one that asks for no CPU at all dies last where cores are short.
        spec["containers"][0]["resources"]["requests"] = {"cpu": f"{_CPU // count}m"}
        body = {
            "apiVersion": DEPLOYMENTS.api_version,
            "kind": DEPLOYMENTS.kind,
            "metadata": {"name": name},
            "spec": {
                "replicas": count,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }
        await cluster.create(DEPLOYMENTS, body, _PLACE)
        async with asyncio.timeout(120):
            while len(found := await self._running(cluster, name)) < count:
                await asyncio.sleep(0.2)
        await asyncio.sleep(2)  # the kubelet reports them, and the reactor's view follows
        return found

    async def _running(self, cluster: KubernetesApi, name: str) -> list[str]:
        listed = (await cluster.list(PODS, _PLACE, labels=f"app={name}")).items
        uids = [each["metadata"]["uid"] for each in listed]
        return [uid for uid in uids if any(map(_serves, self.node.processes(uid)))]

    async def _remove(self, cluster: KubernetesApi, name: str, uids: Sequence[str]) -> None:
        """Return when the pods are gone: their remains must not slow down what follows."""
        async with asyncio.timeout(120):
            while listed := (await cluster.list(PODS, _PLACE, labels=f"app={name}")).items:
                for each in listed:
                    if each["metadata"]["uid"] in uids:
                        await _delete(cluster, each["metadata"]["name"])
                await asyncio.sleep(0.5)

    @contextmanager
    def _processes(self, uids: Sequence[str]) -> Iterator[Callable[[], Awaitable[float]]]:
        """What is yielded returns when the last process of these pods has ended, and tells when.

        The kernel tells of each by itself (pidfd): looking again and again would take the guard's
        share of the cores.
        """
        loop, ended = asyncio.get_running_loop(), dict[int, asyncio.Future[float]]()

        def note(descriptor: int) -> None:
            loop.remove_reader(descriptor)
            ended[descriptor].set_result(time.perf_counter())

        for pid in (pid for uid in uids for pid in self.node.processes(uid)):
            descriptor = os.pidfd_open(pid)
            ended[descriptor] = loop.create_future()
            loop.add_reader(descriptor, note, descriptor)

        async def last() -> float:
            async with asyncio.timeout(120):
                return max(await asyncio.gather(*ended.values()))

        try:
            yield last
        finally:
            for descriptor in ended:
                loop.remove_reader(descriptor)
                os.close(descriptor)

    def _kernel(self) -> Cgroups:
        return Cgroups(root=f"/{self.node.cgroup.name}")

    def _name(self, what: str) -> str:
        self._number += 1
        return f"{what}-{self._number}"


def _milliseconds(name: str, taken: Sequence[float], *, most: float, pods: int) -> Figure:
    value = median(taken) * 1000
    return figure(
        name,
        value,
        "ms",
        aim=f"<= {most:g} ms p50",
        met=value <= most,
        quantile="p50",
        p99_ms=round(percentile(taken, 0.99) * 1000, 2),
        least_ms=round(min(taken) * 1000, 2),
        n=len(taken),
        pods=pods,
        cgroups="v2" if cgroups.unified() else "v1",
        cores=cores.told(),
    )


def _scheduled(pid: int) -> float:
    """CPU seconds of all threads so far, in nanoseconds' steps: a guard at rest uses few ticks."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _serves(pid: int) -> bool:
    """Whether it is a server; the sandbox beside it holds no model."""
    try:
        return b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def _seen(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(_LOOK)


async def _listed(cluster: KubernetesApi, name: str) -> None:
    """Return once the Freeze can be asked for: its POST may not have been answered yet."""
    async with asyncio.timeout(30):
        while name not in {
            each["metadata"]["name"] for each in (await cluster.list(FREEZES, _PLACE)).items
        }:
            await asyncio.sleep(0.05)


async def _delete(cluster: KubernetesApi, name: str) -> None:
    with suppress(NotFoundError):
        await cluster.delete(PODS, name, _PLACE, grace=1)


@asynccontextmanager
async def _asked(port: int) -> AsyncIterator[Callable[[], Any]]:
    """A request that waits at a frozen server: what is yielded returns with its answer."""
    if not port:
        yield lambda: None
        return
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
    try:
        yield reader.readline
    finally:
        writer.close()
