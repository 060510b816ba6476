"""Webhooks that fail (failurePolicy Fail): answered 5xx, for as long as nobody mends them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from killswitch.core.errors import InvalidPolicyError
from killswitch.core.resources import POLICIES, SHUTDOWNS
from tests.cluster.control_plane import ControlPlane
from tests.faults.conftest import message
from tests.kernel.objects import shutdown
from tests.reactor.harness import Bench, EveryQuery, eventually, reactor

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
VLLM = {"kind": "Deployment", "name": "vllm"}


@contextlib.contextmanager
def failing_webhook(own: ControlPlane, rule: dict[str, Any], **more: Any) -> Iterator[None]:
    """Nobody answers at the webhook's address, unless `more` gives another; it must be asked."""
    hook = {
        "name": "dead.example.com",
        "clientConfig": {"url": "https://127.0.0.1:9/"},
        "rules": [{"apiVersions": ["*"], "scope": "*", **rule}],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
        **more,
    }
    body = {"metadata": {"name": "dead"}, "webhooks": [hook]}
    assert own.api().create(HOOKS, body).status == 201
    try:
        yield
    finally:
        assert own.api().delete(f"{HOOKS}/dead").status == 200


async def test_pods_that_a_webhook_keeps_hold_up_no_other(own: ControlPlane, scene: Bench) -> None:
    """The lock, the scaling, the proof and other pods go on; the kept ones are named meanwhile."""
    await scene.deployment("kept", 40)
    await scene.deployment("other", 3)
    deletes = {"apiGroups": [""], "resources": ["pods"], "operations": ["DELETE"]}
    selector = {"objectSelector": {"matchLabels": {"app": "kept"}}}
    body = shutdown("everything", "admin", scope={"wholeNamespace": True})
    async with reactor(scene):
        with failing_webhook(own, deletes, **selector):
            await asyncio.sleep(1)  # until the API server asks it
            await scene.cluster.create(SHUTDOWNS, body, scene.namespace)
            found = await scene.with_condition(SHUTDOWNS, "everything", "Stopped", "False")
            await eventually(lambda: _gone(scene, "other"))
            await scene.with_condition(SHUTDOWNS, "everything", "Locked", "True")
            assert await scene.replicas("other") == 0
            assert await scene.replicas("kept") == 0
            assert "failed calling webhook" in message(found, "Stopped")
        await eventually(lambda: _stopped(scene), within=60)
    assert await scene.pods() == []


async def test_a_target_whose_deletions_hang_delays_no_other(
    own: ControlPlane, scene: Bench
) -> None:
    """More requests hang than one stop or the whole pool would send at once.

    Another target of the same stop is stopped and brought to rest, and so is one of another stop,
    while not one deletion of the first target has been answered.
    """
    await scene.deployment("kept", 80)
    for name in ("other", "third"):
        await scene.deployment(name, 3)
    await scene.policy("runaway", targets=[{"kind": "Deployment", "name": "third"}])
    deletes = {"apiGroups": [""], "resources": ["pods"], "operations": ["DELETE"]}
    locks = {"deployments.apps/kept": "", "deployments.apps/other": ""}
    body = shutdown("both", "admin", locks=locks)
    async with mute_server() as url, reactor(scene):
        more = {
            "clientConfig": {"url": url},
            "timeoutSeconds": 30,
            "objectSelector": {"matchLabels": {"app": "kept"}},
        }
        with failing_webhook(own, deletes, **more):
            await asyncio.sleep(1)  # until the API server asks it
            await scene.cluster.create(SHUTDOWNS, body, scene.namespace)
            await eventually(lambda: _gone(scene, "other"))
            await eventually(lambda: _at_rest(scene, "other"))
            await scene.with_condition(SHUTDOWNS, "both", "Locked", "True")
            scene.dial.turn("runaway", 500)
            await scene.stopped("runaway-1")
            kept = await scene.pods("kept")
    assert len(kept) == 80
    assert not any("deletionTimestamp" in pod["metadata"] for pod in kept)


@contextlib.asynccontextmanager
async def mute_server() -> AsyncIterator[str]:
    """Takes connections and never says a word."""
    taken: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(
        lambda _reader, writer: taken.append(writer), "127.0.0.1", 0
    )
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for writer in taken:
            writer.transport.abort()


async def _at_rest(scene: Bench, name: str) -> bool:
    return await scene.replicas(name) == 0


async def _gone(scene: Bench, app: str) -> bool:
    return await scene.pods(app) == []


async def _stopped(scene: Bench) -> bool:
    found = await scene.cluster.get(SHUTDOWNS, "everything", scene.namespace)
    conditions = found.get("status", {}).get("conditions", ())
    return any(c["type"] == "Stopped" and c["status"] == "True" for c in conditions)


class Nothing:
    """A checker that refuses every query."""

    def check(self, field: str, query: str) -> dict[str, str]:
        """No."""
        raise InvalidPolicyError(field, "cannot work", "write another")


CREATES = {"apiGroups": ["killswitch.dev"], "resources": ["shutdowns"], "operations": ["CREATE"]}


async def test_a_lock_that_a_webhook_keeps_away_is_told_and_tried_on(
    own: ControlPlane, scene: Bench
) -> None:
    """EngagementRefused with the webhook's words, not silence; it engages once that is mended."""
    await scene.deployment("vllm", 1)
    async with reactor(scene):
        with failing_webhook(own, CREATES):
            await asyncio.sleep(1)
            await scene.policy("runaway", targets=[VLLM])
            scene.dial.turn("runaway", 500)
            found = await scene.with_condition(
                POLICIES, "runaway", "Inhibited", "True", "EngagementRefused"
            )
            assert "failed calling webhook" in message(found, "Inhibited")
            assert len(await scene.pods()) == 1
        await scene.stopped("runaway-1")


@pytest.mark.parametrize("how", ["deleted", "made invalid"])
async def test_a_policy_that_goes_during_its_fire_takes_nothing_along(
    own: ControlPlane, scene: Bench, how: str
) -> None:
    """The reactor lives on, fires others, and never carries out the order of the one that went."""
    await scene.deployment("vllm", 1)
    await scene.deployment("other", 1)
    async with reactor(scene) as running:
        with failing_webhook(own, CREATES):
            await asyncio.sleep(1)
            created = await scene.policy("runaway", targets=[VLLM])
            uid = created["metadata"]["uid"]
            scene.dial.turn("runaway", 500)
            await scene.with_condition(
                POLICIES, "runaway", "Inhibited", "True", "EngagementRefused"
            )
            if how == "deleted":
                await scene.cluster.delete(POLICIES, "runaway", scene.namespace)
            else:
                running.engine.checker = Nothing()
                source = {"query": "up", "above": "2"}
                signal = {"name": "load", "prometheus": source, "onNoData": "Hold"}
                await scene.cluster.patch(
                    POLICIES, "runaway", {"spec": {"signals": [signal]}}, scene.namespace
                )

            async def forgotten() -> bool:
                return uid not in running.engine.watched

            await eventually(forgotten)
            await asyncio.sleep(2)  # ticks and attempts that are under way
        running.engine.checker = EveryQuery()
        await scene.policy("sound", targets=[{"kind": "Deployment", "name": "other"}])
        scene.dial.turn("sound", 500)
        await scene.stopped("sound-1")
    assert [each["metadata"]["name"] for each in await scene.shutdowns()] == ["sound-1"]
