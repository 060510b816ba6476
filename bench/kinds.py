"""Each kind with a controller here: decision → lock effective → all pods marked → gone, beside its rest alone.

What makes the pods is the real controller manager with its default client limits, or a scripted
stand-in (tests/cluster/stand_ins.py). The baseline does what people do without a kill switch, in
turns with our stops on the same API server: scale to 0, or the field by which the kind is stopped;
where there is none, delete its pods with their own grace. Lock effective: a dry-run create of one
more pod of the target is denied; asking for that without a pause slows down what is measured, so
it has rounds of its own. Kwok ends a pod as soon as it is marked, whatever its grace.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from bench.figures import Figure, figure, median
from bench.scene import policy, reactor
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

T = TypeVar("T")
ROUNDS = 3
"""Of each: until the lock, until the pods are gone, and of the baseline."""
_REST = 0.5
"""Seconds in which nothing happens before each measurement."""
_NODES = 4
_LONGEST = 60.0


@dataclass(frozen=True, slots=True)
class Stopped:
    """Seconds from the decision."""

    marked: float
    gone: float


def measure(setting: Setting) -> Iterator[Figure]:
    """Figures named kind_*."""
    crds.install(setting.control_plane)
    for name, example in examples(_NODES).items():
        if example.returning and not example.apart:
            yield from _figures(name, *asyncio.run(_kind(setting, example)))


def _figures(
    kind: str, locked: list[float], ours: list[Stopped], base: list[Stopped]
) -> Iterator[Figure]:
    word, count = kind.partition(".")[0].lower(), len(ours)
    yield figure(f"kind_{word}_locked", 1000 * median(locked), "ms", n=count)
    for what in ("marked", "gone"):
        value, baseline = (
            1000 * median([getattr(each, what) for each in group]) for group in (ours, base)
        )
        yield figure(f"kind_{word}_{what}", value, "ms", baseline=baseline, n=count)


async def _kind(
    setting: Setting, example: Example
) -> tuple[list[float], list[Stopped], list[Stopped]]:
    locked: list[float] = []
    ours: list[Stopped] = []
    base: list[Stopped] = []
    word = f"bench-{example.kind.resource.plural}"
    async with setting.cluster() as cluster:
        for number in range(ROUNDS):
            async with _scene(setting, cluster, example, f"{word}-lock-{number}") as scene:
                locked.append(await _fire(setting, scene, _until_locked))
            async with _scene(setting, cluster, example, f"{word}-stop-{number}") as scene:
                ours.append(await _fire(setting, scene, _until_gone))
            async with _scene(setting, cluster, example, f"{word}-rest-{number}") as scene:
                base.append(await _rest(scene))
    return locked, ours, base


@dataclass(frozen=True, slots=True)
class Scene:
    """One example in a namespace of its own, and what an independent watch sees of its pods."""

    cluster: KubernetesApi
    example: Example
    place: str
    watcher: Watcher


@contextlib.asynccontextmanager
async def _scene(
    setting: Setting, cluster: KubernetesApi, example: Example, place: str
) -> AsyncIterator[Scene]:
    """A namespace in which it runs."""
    plane = setting.control_plane
    await setting.namespace(cluster, place)
    watcher = Watcher()
    # In a group, so that a watch that ends tells why instead of seeing nothing more.
    async with stand_ins.playing(plane, place, *example.stand_ins), asyncio.TaskGroup() as group:
        version = (await cluster.list(PODS, place)).version
        follow = group.create_task(_follow(cluster, place, version, watcher))
        await _create(cluster, example, place)
        await _until(lambda: len(watcher.alive) == example.pods)
        await asyncio.sleep(1)  # until nobody writes about them any more
        try:
            yield Scene(cluster, example, place, watcher)
        finally:
            follow.cancel()


async def _create(cluster: KubernetesApi, example: Example, place: str) -> None:
    named = () if example.made else ((example.resource, example.body),)
    for resource, body in (*example.around, *named):
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        await cluster.create(resource, {**kind, **body}, place)
    for resource, body in example.below:
        owner = await cluster.get(example.resource, example.name, place)
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        await cluster.create(resource, example.owned({**kind, **body}, owner), place)


async def _follow(cluster: KubernetesApi, place: str, version: str, watcher: Watcher) -> None:
    while True:
        async for change in cluster.watch(PODS, version, place):
            version = change.object["metadata"]["resourceVersion"]
            if change.type != "BOOKMARK":
                watcher.see(change.type, change.object, time.perf_counter())


async def _fire(
    setting: Setting, scene: Scene, seen: Callable[[Setting, Scene, Json, float], Awaitable[T]]
) -> T:
    """What `seen` sees after one tripping sample of a policy that names it."""
    query = f"bench_of_{scene.place}"
    async with reactor(setting, scene.cluster) as running:
        body = policy(NAME, query, [scene.example.target], action={"acceptLoss": True})
        created = await scene.cluster.create(POLICIES, body, scene.place)
        await _until(lambda: sees(running.engine, created, scene.example, scene.place))
        await _until(lambda: not running.engine.dirty)
        example = scene.example
        target = await scene.cluster.get(example.resource, example.name, scene.place)
        await asyncio.sleep(_REST)
        started = time.perf_counter()
        running.engine.intake.deliver(query, Answer((1.0,), 0.0))
        return await seen(setting, scene, target, started)


def sees(engine: Engine, policy: Json, example: Example, place: str) -> bool:
    """Whether the reactor knows the policy, and the target with its pods and all that is between."""
    inventory = engine.view.inventory
    target = inventory.workload(place, example.kind.name, example.name)
    known = target is not None or example.resource == PODS
    watched = policy["metadata"]["uid"] in engine.watched
    whole = not inventory.unseen and len(inventory.pods_in(place)) >= example.pods
    return watched and known and whole


async def _until_locked(setting: Setting, scene: Scene, target: Json, started: float) -> float:
    """Seconds until a dry-run create of one more pod of it was refused by the lock."""
    pod, place, api = _probe(scene.example, target), scene.place, setting.control_plane.api()

    def ask() -> float:
        while time.perf_counter() < started + _LONGEST:
            if api.create(pods(place), pod, dry_run=True).status == 403:
                return time.perf_counter() - started
        raise AssertionError(f"no lock in {place}")

    return await asyncio.to_thread(ask)


async def _until_gone(_: Setting, scene: Scene, _target: Json, started: float) -> Stopped:
    """Seconds until its last pod was marked and gone."""
    return await _stopped(scene.watcher, set(scene.watcher.alive), started)


def _probe(example: Example, target: Json) -> Json:
    """One more pod of the target; of a bare pod, the pod itself."""
    pod: Json = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one-more"}}
    pod["spec"] = {"containers": [{"name": "c", "image": "i"}]}
    if example.resource == PODS:
        pod["metadata"]["name"] = example.name
        return pod
    return example.owned(pod, target)


async def _rest(scene: Scene) -> Stopped:
    """What people do: the kind's own rest, or its pods deleted."""
    cluster, example, place = scene.cluster, scene.example, scene.place
    kind, resource = example.kind, example.resource
    before = set(scene.watcher.alive)
    await asyncio.sleep(_REST)
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
    return await _stopped(scene.watcher, before, started)


async def _stopped(watcher: Watcher, before: set[str], started: float) -> Stopped:
    try:
        await _until(lambda: before <= watcher.gone.keys())
    except TimeoutError as error:
        left = before - watcher.gone.keys()
        marked = left & watcher.marked.keys()
        raise AssertionError(
            f"{len(left)} of {len(before)} pods stay, {len(marked)} marked"
        ) from error
    last_marked = max(watcher.marked[uid] for uid in before)
    last_gone = max(watcher.gone[uid] for uid in before)
    return Stopped(last_marked - started, last_gone - started)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(_LONGEST):
        while not true():
            await asyncio.sleep(0.02)
