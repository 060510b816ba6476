"""Each kind with a controller here: decision → lock effective → all pods marked → gone, beside its rest alone.

What makes the pods is the real controller manager with its default client limits, or a scripted
stand-in (tests/cluster/stand_ins.py). The baseline does what people do without a kill switch, in
turns with our stops on the same API server: scale to 0, or the field by which the kind is stopped;
where there is none, delete its pods with their own grace. Lock effective: a dry-run create of one
more pod of the target is denied. Kwok ends a pod as soon as it is marked, whatever its grace.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from bench.figures import Figure, figure, median
from bench.scene import reactor
from bench.setting import Setting
from bench.thousand import Watcher
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core import kinds
from killswitch.core.kinds import Verb
from killswitch.core.readings import Answer
from killswitch.core.resources import PODS, POLICIES
from killswitch.ports import Json
from killswitch.reactor.engine import Engine
from tests.cluster import crds, stand_ins
from tests.cluster.examples import NAME, Example, examples
from tests.kernel.objects import pods

ROUNDS = 3
_NODES = 4
_LONGEST = 60.0


@dataclass(frozen=True, slots=True)
class Stopped:
    """Seconds from the decision; `locked` is 0 for the baseline."""

    locked: float
    marked: float
    gone: float


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named kind_*."""
    crds.install(setting.control_plane)
    for name, example in examples(_NODES).items():
        if example.returning:
            yield from _figures(name, *asyncio.run(_kind(setting, example)))


def _figures(kind: str, ours: list[Stopped], base: list[Stopped]) -> Iterator[Figure]:
    word = kind.partition(".")[0].lower()
    locked = 1000 * median([each.locked for each in ours])
    yield figure(f"kind_{word}_locked", locked, "ms", n=len(ours))
    for what in ("marked", "gone"):
        value, baseline = (
            1000 * median([getattr(each, what) for each in group]) for group in (ours, base)
        )
        yield figure(f"kind_{word}_{what}", value, "ms", baseline=baseline, n=len(ours))


async def _kind(setting: Setting, example: Example) -> tuple[list[Stopped], list[Stopped]]:
    ours: list[Stopped] = []
    base: list[Stopped] = []
    word = example.kind.resource.plural
    async with setting.cluster() as cluster:
        for number in range(ROUNDS):
            for group, measured in ((ours, _fire), (base, _rest)):
                place = f"bench-{word}-{number}-{measured.__name__.strip('_')}"
                async with _scene(setting, cluster, example, place) as watcher:
                    group.append(await measured(setting, cluster, example, place, watcher))
    return ours, base


@contextlib.asynccontextmanager
async def _scene(
    setting: Setting, cluster: KubernetesApi, example: Example, place: str
) -> AsyncIterator[Watcher]:
    """A namespace in which it runs, and what an independent watch sees of its pods."""
    plane = setting.control_plane
    await setting.namespace(cluster, place)
    watcher = Watcher()
    async with stand_ins.playing(plane, place, *example.stand_ins):
        follow = asyncio.create_task(_follow(cluster, place, watcher))
        await _create(cluster, example, place)
        await _until(lambda: len(watcher.alive) == example.pods)
        await asyncio.sleep(1)  # until nobody writes about them any more
        try:
            yield watcher
        finally:
            follow.cancel()
            await asyncio.gather(follow, return_exceptions=True)


async def _create(cluster: KubernetesApi, example: Example, place: str) -> None:
    named = () if example.made else ((example.resource, example.body),)
    for resource, body in (*example.around, *named):
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        await cluster.create(resource, {**kind, **body}, place)
    for resource, body in example.below:
        owner = await cluster.get(example.resource, example.name, place)
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        await cluster.create(resource, example.owned({**kind, **body}, owner), place)


async def _follow(cluster: KubernetesApi, place: str, watcher: Watcher) -> None:
    version = (await cluster.list(PODS, place)).version
    while True:
        async for change in cluster.watch(PODS, version, place):
            version = change.object["metadata"]["resourceVersion"]
            watcher.see(change.type, change.object, time.perf_counter())


async def _fire(
    setting: Setting, cluster: KubernetesApi, example: Example, place: str, watcher: Watcher
) -> Stopped:
    """One tripping sample of a policy that names it."""
    query = f"bench_of_{place}"
    async with reactor(setting, cluster) as running:
        created = await cluster.create(POLICIES, _policy(example, query), place)
        await _until(lambda: sees(running.engine, created, example, place))
        uid = (await cluster.get(example.resource, example.name, place))["metadata"]["uid"]
        before = set(watcher.alive)
        started = time.perf_counter()
        running.engine.intake.deliver(query, Answer((1.0,), 0.0))
        denied = await asyncio.to_thread(_denied, setting, example, place, uid)
        return await _stopped(watcher, before, started, denied - started)


def sees(engine: Engine, policy: Json, example: Example, place: str) -> bool:
    """Whether the reactor knows the policy, and the target with its pods."""
    inventory = engine.view.inventory
    target = inventory.workload(place, example.kind.name, example.name)
    known = target is not None or example.resource == PODS
    watched = policy["metadata"]["uid"] in engine.watched
    return watched and known and len(inventory.pods_in(place)) >= example.pods


def _denied(setting: Setting, example: Example, place: str, uid: str) -> float:
    """When a dry-run create of one more pod of it was refused by the lock."""
    api = setting.control_plane.api()
    pod = _probe(example, uid)
    deadline = time.perf_counter() + _LONGEST
    while time.perf_counter() < deadline:
        answer = api.create(pods(place), pod, dry_run=True)
        if answer.status == 403:
            return time.perf_counter()
    raise AssertionError(f"no lock: {answer.message}")


def _probe(example: Example, uid: str) -> Json:
    """One more pod of the target; of a bare pod, the pod itself."""
    pod: Json = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one-more"}}
    pod["spec"] = {"containers": [{"name": "c", "image": "i"}]}
    if example.resource == PODS:
        pod["metadata"]["name"] = example.name
        return pod
    return example.owned(pod, {"metadata": {"uid": uid}})


async def _rest(
    _setting: Setting, cluster: KubernetesApi, example: Example, place: str, watcher: Watcher
) -> Stopped:
    """What people do: the kind's own rest, or its pods deleted."""
    kind, resource = example.kind, example.resource
    before = set(watcher.alive)
    started = time.perf_counter()
    if kind.verb is Verb.SCALE:
        zero = {"spec": {"replicas": 0}}
        await cluster.patch(resource, example.name, zero, place, subresource="scale")
    elif kind.settings:
        body = kinds.patch((each.path, each.rest) for each in kind.settings)
        await cluster.patch(resource, example.name, body, place)
        for child, each in example.below:  # a CronJob leaves its Jobs running
            await cluster.patch(child, each["metadata"]["name"], body, place)
    else:
        for pod in (await cluster.list(PODS, place)).items:
            await cluster.delete(PODS, pod["metadata"]["name"], place)
    return await _stopped(watcher, before, started, 0.0)


async def _stopped(watcher: Watcher, before: set[str], started: float, locked: float) -> Stopped:
    await _until(lambda: before <= watcher.gone.keys())
    marked = max(watcher.marked[uid] for uid in before)
    gone = max(watcher.gone[uid] for uid in before)
    return Stopped(locked, marked - started, gone - started)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(_LONGEST):
        while not true():
            await asyncio.sleep(0.02)


def _policy(example: Example, query: str) -> Json:
    """A policy that stops it when the query answers more than 0.5."""
    signal = {"name": "s", "prometheus": {"query": query, "above": "0.5"}, "onNoData": "Hold"}
    return {
        "apiVersion": POLICIES.api_version,
        "kind": POLICIES.kind,
        "metadata": {"name": NAME},
        "spec": {
            "mode": "Enforce",
            "owner": "bench",
            "backup": "bench",
            "targets": [example.target],
            "signals": [signal],
            "action": {"acceptLoss": True},
        },
    }
