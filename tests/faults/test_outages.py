"""The worst moments: the API server dies in the middle of a stop, a reactor is killed after the lock."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from killswitch.adapters import credentials
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core import times
from killswitch.core.errors import KillSwitchError, RefusedError
from killswitch.core.resources import DEPLOYMENTS, FREEZES, SHUTDOWNS
from killswitch.reactor.finisher import finished
from tests.cluster.control_plane import ControlPlane
from tests.faults.conftest import breakable
from tests.kernel.objects import freeze
from tests.kernel.test_bypasses import ahead
from tests.reactor.harness import Bench, Dial, eventually, reactor

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
VLLM = {"kind": "Deployment", "name": "vllm"}
PODS_BEFORE = 24


MOMENTS = {
    "the lock": ("POST", "/shutdowns", 1),
    "a deletion": ("DELETE", "/pods/", 3),
    "the record": ("POST", "/shutdownrecords", 1),
    "the scaling": ("PATCH", "/scale", 1),
}
"""At which request the API server is killed: method, part of the path, and the how manieth."""


@dataclass
class Outage:
    """Ends the API server in the midst of a stop, and starts it again."""

    control_plane: ControlPlane
    method: str
    part: str
    at: int
    seen: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _restarting: asyncio.Task[None] | None = None

    async def before(self, method: str, path: str) -> None:
        """A request is about to be sent."""
        if method == self.method and self.part in path:
            self.seen += 1
            if self.seen == self.at:
                await asyncio.to_thread(self.control_plane.stop_api_server)
                self._restarting = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        await asyncio.sleep(1)
        await asyncio.to_thread(self.control_plane.start_api_server)
        self.over.set()


class InterruptedApi(KubernetesApi):
    """The product's client, with an outage at one of its requests."""

    outage: Outage

    async def _request(self, method: str, path: str, **more: Any) -> Any:
        """As ever, but the API server may be gone by then."""
        await self.outage.before(method, path)
        return await super()._request(method, path, **more)


@pytest.fixture
def own() -> Iterator[ControlPlane]:
    """A fresh one each: after a restart its controllers back off for longer than a start takes."""
    with breakable() as running:
        yield running


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_stop_survives_the_api_servers_restart(
    own: ControlPlane, scene: Bench, moment: str
) -> None:
    """Killed at any of its steps, back a second later: it completes, and nothing came back."""
    await scene.deployment("vllm", PODS_BEFORE)
    before = {pod["metadata"]["uid"] for pod in await scene.pods()}
    await scene.policy("runaway", targets=[VLLM])
    outage = Outage(own, *MOMENTS[moment])
    async with InterruptedApi(credentials.load(kubeconfig=str(own.admin.kubeconfig))) as api:
        api.outage = outage
        dial = Dial()
        async with reactor(Bench(api, scene.namespace, dial)):
            dial.turn("runaway", 500)
            async with asyncio.timeout(60):
                await outage.over.wait()
            seen = await _stopped_without_new_pods(scene, "runaway-1", before)
    assert seen <= before
    assert await scene.pods() == []
    assert await scene.replicas("vllm") == 0
    assert [target["replicas"] for target in await scene.recorded()] == [PODS_BEFORE]
    with pytest.raises(RefusedError, match="held down by"):
        await scene.cluster.patch(DEPLOYMENTS, "vllm", {"spec": {"replicas": 1}}, scene.namespace)


async def test_a_reactor_killed_after_the_lock_leaves_a_lock_and_a_successor(
    own: ControlPlane, scene: Bench, tmp_path: Path
) -> None:
    """SIGKILL as soon as the Shutdown is there: nothing comes back, the next process completes."""
    await scene.deployment("vllm", PODS_BEFORE)
    before = {pod["metadata"]["uid"] for pod in await scene.pods()}
    # No Prometheus answers, and this policy says that not knowing is a reason to stop.
    signal_ = {"name": "load", "prometheus": {"query": "up", "above": "1"}, "onNoData": "Fire"}
    first = _reactor_process(own, "first", tmp_path)
    try:
        await scene.policy("runaway", targets=[VLLM], signals=[signal_])
        await eventually(lambda: scene.cluster.get(SHUTDOWNS, "runaway-1", scene.namespace))
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    locked = await scene.cluster.get(SHUTDOWNS, "runaway-1", scene.namespace)
    assert not any(
        each["type"] == "Stopped" and each["status"] == "True"
        for each in locked.get("status", {}).get("conditions", ())
    ), "the stop was over before the reactor was killed: nothing is proven"
    # The controller manager has all the time it likes, and no reactor is there to hinder it.
    await asyncio.sleep(3)
    assert {pod["metadata"]["uid"] for pod in await scene.pods()} <= before
    second = _reactor_process(own, "second", tmp_path)
    try:
        seen = await _stopped_without_new_pods(scene, "runaway-1", before)
    finally:
        second.terminate()
        second.wait(10)
    assert seen <= before
    assert await scene.pods() == []
    assert await scene.replicas("vllm") == 0
    assert [target["replicas"] for target in await scene.recorded()] == [PODS_BEFORE]
    assert [each["metadata"]["name"] for each in await scene.shutdowns()] == ["runaway-1"]


async def test_a_freeze_that_ends_while_the_api_server_is_down_stops_when_it_is_back(
    own: ControlPlane, scene: Bench
) -> None:
    """Two reactors, which lose all connections; one Shutdown, and no pod is left."""
    await scene.deployment("vllm", 2)
    body = freeze("f", "admin", until=ahead(seconds=8), then="Stop")
    await scene.cluster.create(FREEZES, body, scene.namespace)
    async with reactor(scene, "reactor-0"), reactor(scene, "reactor-1"):
        await asyncio.to_thread(own.stop_api_server)
        until = times.seconds(body["spec"]["until"])
        await asyncio.sleep(max(0.0, until - time.time()) + 1)
        await asyncio.to_thread(own.start_api_server)
        await _stopped_without_new_pods(scene, "f-expired", set())
        await scene.with_condition(FREEZES, "f", "Ended", "True", "ShutdownMade")
    assert [each["metadata"]["name"] for each in await scene.shutdowns()] == ["f-expired"]


async def _stopped_without_new_pods(scene: Bench, name: str, before: set[str]) -> set[str]:
    """Every pod uid seen until the Shutdown says Stopped and its workload is at rest."""
    seen = set(before)

    async def stopped() -> bool:
        try:
            seen.update(pod["metadata"]["uid"] for pod in await scene.pods())
            found = await scene.cluster.get(SHUTDOWNS, name, scene.namespace)
        except KillSwitchError:  # still coming up
            return False
        return finished(found)

    await eventually(stopped, within=90)
    return seen


def _reactor_process(own: ControlPlane, replica: str, folder: Path) -> "subprocess.Popen[bytes]":
    """`killswitch reactor` as the chart runs it, with a Prometheus that nobody plays."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(own.admin.kubeconfig),
        "KILLSWITCH_PROMETHEUS_URL": "http://127.0.0.1:9",
        "KILLSWITCH_POLL_INTERVAL": "0.1",
        "HOSTNAME": replica,
    }
    with (folder / f"{replica}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "killswitch", "reactor"],
            env=environment,
            stdout=log,
            stderr=log,
        )
