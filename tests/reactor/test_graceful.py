"""Stop category 1 on a real API server: no new traffic, time to end, then as any stop."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from killswitch.core import times
from killswitch.core.names import CUT_KEY
from killswitch.core.readings import Blindness, NoAnswer
from killswitch.core.resources import DEPLOYMENTS, INFERENCE_POOLS, NODES, PODS, SERVICES, SHUTDOWNS
from killswitch.ports import Json
from tests.cluster import crds
from tests.cluster.control_plane import ControlPlane
from tests.reactor.harness import Bench, eventually, reactor

pytestmark = pytest.mark.cluster
VLLM = {"kind": "Deployment", "name": "vllm"}
MUTE = "mute-node"


async def service(setting: Bench, name: str, selector: Json, **spec: Any) -> Json:
    """A Service of the namespace."""
    body = {"metadata": {"name": name}, "spec": {"selector": selector, **spec}}
    body["spec"].setdefault("ports", [{"port": 80}])
    return await setting.cluster.create(
        SERVICES, {"apiVersion": "v1", "kind": "Service", **body}, setting.namespace
    )


async def selector(setting: Bench, name: str) -> Json:
    """What a Service selects now."""
    found = await setting.cluster.get(SERVICES, name, setting.namespace)
    return found["spec"]["selector"]  # type: ignore[no-any-return]


async def graceful(setting: Bench, name: str = "runaway", **terms: str) -> None:
    """A policy that stops Deployment vllm gracefully."""
    terms = {"drain": "1h", "terminate": "30s", **terms}
    await setting.policy(name, targets=[VLLM], action={"category": "Graceful", "graceful": terms})


async def cut(setting: Bench, name: str = "runaway-1") -> Json:
    """The Shutdown once its cut is stored."""

    async def look() -> Json | None:
        found = await setting.cluster.get(SHUTDOWNS, name, setting.namespace)
        return found if "cut" in found.get("status", {}).get("stages", {}) else None

    return await eventually(look)


async def in_flight(setting: Bench, words: str, name: str = "runaway-1") -> None:
    """Return once the Shutdown says so of the requests under way."""

    async def look() -> bool:
        found = await setting.cluster.get(SHUTDOWNS, name, setting.namespace)
        return bool(found.get("status", {}).get("inFlight") == words)

    await eventually(look)


def message(shutdown: Json, type_: str) -> str:
    """Of one of its conditions."""
    return str(next(c["message"] for c in shutdown["status"]["conditions"] if c["type"] == type_))


async def test_traffic_is_cut_before_anything_ends(setting: Bench) -> None:
    """What leads to others too is named and goes on; every stage is in its order."""
    await setting.deployment("vllm")
    await setting.deployment("other")
    for name in ("vllm", "other"):
        await setting.edit_labels(name, {"tier": "serving"})
        template = {"metadata": {"labels": {"app": name, "tier": "serving"}}}
        spec = {"spec": {"template": template}}
        await setting.cluster.patch(DEPLOYMENTS, name, spec, setting.namespace)

    async def labelled() -> bool:
        pods = await setting.pods()
        return len(pods) == 4 and all("tier" in p["metadata"]["labels"] for p in pods)

    await eventually(labelled)
    await service(setting, "vllm", {"app": "vllm"})
    await service(setting, "both", {"tier": "serving"})
    await service(
        setting, "ranks", {"app": "vllm"}, clusterIP="None", publishNotReadyAddresses=True
    )
    await graceful(setting, drain="1s")
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        shutdown = await setting.stopped("runaway-1")
    mark = shutdown["metadata"]["uid"][:8]
    assert await selector(setting, "vllm") == {"app": "vllm", CUT_KEY: mark}
    assert await selector(setting, "both") == {"tier": "serving"}
    assert await selector(setting, "ranks") == {"app": "vllm"}
    stages = shutdown["status"]["stages"]
    order = ["decided", "locked", "cut", "drained", "deleted", "recorded", "scaled", "stopped"]
    assert sorted(stages.keys() - {"proven"}, key=lambda stage: stages[stage]) == order
    assert stages["locked"] <= stages["proven"] <= stages["drained"]
    assert {p["metadata"]["labels"]["app"] for p in await setting.pods()} == {"other"}
    recorded = [each for each in await setting.recorded() if each["kind"] == "Service"]
    field = f"/spec/selector/{CUT_KEY.replace('/', '~1')}"
    assert [(each["name"], each["settings"]) for each in recorded] == [("vllm", [{"field": field}])]


async def test_what_is_shared_is_named(setting: Bench) -> None:
    """People must know that requests still arrive while it drains."""
    await setting.deployment("vllm", 1)
    await setting.deployment("other", 1)
    await service(setting, "both", {"app": "nobody"})
    for pod in await setting.pods():
        labels = {"metadata": {"labels": {"tier": "serving"}}}
        await setting.cluster.patch(PODS, pod["metadata"]["name"], labels, setting.namespace)
    body = {"spec": {"selector": {"tier": "serving", "app": None}}}
    await setting.cluster.patch(SERVICES, "both", body, setting.namespace)
    await graceful(setting, inFlight="running")
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        shutdown = await cut(setting)
    assert "Service both is not cut: it leads to others, too" in message(shutdown, "Stopped")


async def test_the_drain_ends_once_nothing_is_under_way(setting: Bench) -> None:
    """While there is something, or it is not known, the pods go on."""
    await setting.deployment("vllm", 2)
    await graceful(setting, inFlight="running")
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        setting.dial.turn("running", 3)
        await in_flight(setting, "3")
        setting.dial.answers["running"] = NoAnswer(Blindness.TIMEOUT, "late")
        await in_flight(setting, "unknown: Timeout")
        assert [p["metadata"].get("deletionTimestamp") for p in await setting.pods()] == [None] * 2
        setting.dial.turn("running", 0)
        shutdown = await setting.stopped("runaway-1")
    assert shutdown["status"]["inFlight"] == "0"
    assert await setting.pods() == []
    assert await setting.replicas("vllm") == 0


async def test_a_drain_that_nobody_can_look_into_lasts_its_time(setting: Bench) -> None:
    """Not knowing neither ends it early nor prolongs it."""
    await setting.deployment("vllm", 1)
    await graceful(setting, drain="2s", inFlight="nothing-of-that-name")
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        shutdown = await setting.stopped("runaway-1")
    stages = {name: times.seconds(at) for name, at in shutdown["status"]["stages"].items()}
    assert stages["drained"] - stages["cut"] >= 2
    assert shutdown["status"]["inFlight"] == "unknown: Absent"


@contextlib.asynccontextmanager
async def mute_pods(setting: Bench, count: int) -> AsyncIterator[list[str]]:
    """Pods of Deployment vllm on a node without a kubelet: once deleted they stay, and tell how."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": MUTE}}
    await setting.cluster.create(NODES, node)
    template = {
        "metadata": {"labels": {"app": "vllm"}},
        "spec": {
            "nodeName": MUTE,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "server", "image": "models.invalid/vllm"}],
        },
    }
    try:
        await setting.deployment("vllm", count, template=template)
        yield [pod["metadata"]["name"] for pod in await setting.pods()]
    finally:
        for pod in await setting.pods():
            name = pod["metadata"]["name"]
            await setting.cluster.delete(PODS, name, setting.namespace, grace=0)
        await setting.cluster.delete(NODES, MUTE)


async def graces(setting: Bench) -> list[int | None]:
    """How long each pod may take to end, in seconds; None where nobody asked it to."""
    return [p["metadata"].get("deletionGracePeriodSeconds") for p in await setting.pods()]


async def _graces_are(setting: Bench, *expected: int | None) -> bool:
    return await graces(setting) == [*expected]


async def _given(setting: Bench) -> list[int]:
    """How long the pods may take to end, once all were asked to."""
    found = await graces(setting)
    return [] if None in found else [each for each in found if each is not None]


async def _rested(setting: Bench) -> Json | None:
    found = await setting.cluster.get(SHUTDOWNS, "runaway-1", setting.namespace)
    stages: Json = found["status"]["stages"]
    return stages if "scaled" in stages else None


async def test_pods_end_by_themselves_and_then_within_a_second(setting: Bench) -> None:
    """First what `terminate` leaves of their own grace, 30 s; at its end one second; never 0.

    A kubelet would not heed the second, so the first must not be longer (kubernetes#113606).
    """
    async with mute_pods(setting, 2):
        await graceful(setting, drain="0s", terminate="5s")
        async with reactor(setting):
            setting.dial.turn("runaway", 500)
            given = await eventually(lambda: _given(setting))
            assert 1 < max(given) <= 5
            await eventually(lambda: _graces_are(setting, 1, 1))
            stages = await eventually(lambda: _rested(setting))
            assert {"drained", "deleted"} <= set(stages)
            assert "stopped" not in stages


async def test_the_next_reactor_goes_on_where_the_last_one_stood(setting: Bench) -> None:
    """Cut long ago, drained a while ago: nothing is waited for again."""
    async with mute_pods(setting, 1):
        await graceful(setting, drain="1h", terminate="1h")
        async with reactor(setting):
            setting.dial.turn("runaway", 500)
            before = await cut(setting)
        assert await graces(setting) == [None]
        body = {"status": {"stages": {"drained": before["status"]["stages"]["cut"]}}}
        await setting.cluster.patch(
            SHUTDOWNS, "runaway-1", body, setting.namespace, subresource="status"
        )
        async with reactor(setting, "reactor-1"):
            await eventually(lambda: _graces_are(setting, 30))
        long_ago = dict.fromkeys(("cut", "drained"), "2020-01-01T00:00:00.000000Z")
        await setting.cluster.patch(
            SHUTDOWNS,
            "runaway-1",
            {"status": {"stages": long_ago}},
            setting.namespace,
            subresource="status",
        )
        async with reactor(setting, "reactor-2"):
            await eventually(lambda: _graces_are(setting, 1))


async def test_a_stop_that_does_not_wait_overtakes_one_that_does(setting: Bench) -> None:
    """A person's Immediate Shutdown ends the pods at once, and with them the drain."""
    await setting.deployment("vllm", 2)
    await graceful(setting, drain="1h")
    body = {
        "apiVersion": SHUTDOWNS.api_version,
        "kind": "Shutdown",
        "metadata": {"name": "now", "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {
            "requestedBy": await setting.cluster.whoami(),
            "reason": "at once",
            "requiredApprovals": 1,
            "locks": {"deployments.apps/vllm": ""},
        },
    }
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await cut(setting)
        assert len(await setting.pods()) == 2
        await setting.cluster.create(SHUTDOWNS, body, setting.namespace)
        await setting.stopped("now")
        await setting.stopped("runaway-1")
    assert await setting.pods() == []
    assert [each["replicas"] for each in await setting.recorded()] == [2]


async def test_what_is_released_while_it_drains_goes_on(
    kernel: ControlPlane, setting: Bench
) -> None:
    """Nobody asks its pods to go any more."""
    await setting.deployment("vllm", 2)
    await graceful(setting, drain="3s")
    before = {pod["metadata"]["uid"] for pod in await setting.pods()}
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        shutdown = await cut(setting)
        setting.dial.turn("runaway", 1)
        setting.approve(kernel, "runaway-1", "bob", "carol")

        async def over() -> bool:
            age = times.seconds(shutdown["status"]["stages"]["cut"]) + 5
            return time.time() > age

        await eventually(over)
    assert {pod["metadata"]["uid"] for pod in await setting.pods()} == before
    assert await setting.replicas("vllm") == 2


async def test_an_inference_pool_is_cut_where_there_are_any(
    kernel: ControlPlane, setting: Bench
) -> None:
    """By its matchLabels; recorded under its kind with its group."""
    crds.install(kernel, [crds.open_definition(INFERENCE_POOLS)])
    await setting.deployment("vllm", 1)
    body = {
        "apiVersion": INFERENCE_POOLS.api_version,
        "kind": "InferencePool",
        "metadata": {"name": "pool"},
        "spec": {"selector": {"matchLabels": {"app": "vllm"}}},
    }
    await setting.cluster.create(INFERENCE_POOLS, body, setting.namespace)
    await graceful(setting, drain="0s")
    async with reactor(setting):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
    found = await setting.cluster.get(INFERENCE_POOLS, "pool", setting.namespace)
    assert CUT_KEY in found["spec"]["selector"]["matchLabels"]
    kinds = [each["kind"] for each in await setting.recorded()]
    assert kinds == ["InferencePool.inference.networking.k8s.io", "Deployment"]
