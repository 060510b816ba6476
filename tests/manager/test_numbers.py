"""What is measured of a stop by reactor and manager together, on the real control plane."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from killswitch.adapters.clock import SystemClock
from killswitch.core import times
from killswitch.core.resources import SHUTDOWNS
from killswitch.manager.numbers import Numbers
from killswitch.manager.rounds import Key
from killswitch.manager.shutdowns import Shutdowns
from killswitch.ports import Json
from killswitch.settings import Settings
from killswitch.telemetry.traces import traces
from tests.kernel.objects import shutdown
from tests.manager.harness import Scene
from tests.reactor.harness import eventually, reactor
from tests.telemetry.otlp import Receiver

pytestmark = pytest.mark.cluster
VLLM = {"kind": "Deployment", "name": "vllm"}


async def test_a_stop_is_one_trace_and_is_measured_until_verified(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the sample behind the decision to the manager's own look."""
    await scene.bench.deployment("vllm")
    numbers = Numbers()
    assert numbers.unready
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        acting, looking = traces("killswitch-reactor", "r"), traces("killswitch-manager", "m")
        assert acting is not None
        assert looking is not None
        async with (
            scene.manager(numbers, looking),
            reactor(scene.bench, traces=acting),
        ):
            await scene.bench.policy("watched-by-both", targets=[VLLM])
            scene.bench.dial.turn("watched-by-both", 900)
            stopped = await scene.bench.stopped("watched-by-both-1")

            async def verified() -> float | None:
                return numbers.registry.get_sample_value("killswitch_verified_seconds_count")

            assert await eventually(verified) == 1
            answer = await asyncio.to_thread(_latency, scene)
        value = numbers.registry.get_sample_value
        assert not numbers.unready
        assert value("killswitch_lock_denies") == 1
        assert value("killswitch_lock_tried_timestamp_seconds")
        await asyncio.to_thread(acting.close)
        await asyncio.to_thread(looking.close)
        root = receiver.named("stop")
        assert root.trace_id.hex() == stopped["metadata"]["uid"].replace("-", "")
        below = {each.name for each in receiver.spans if each.parent_span_id == root.span_id}
        assert below == {
            *("sample", "decision", "lock", "delete", "record", "scale", "prove", "sweep"),
            "verify",
        }
    name = f"Shutdown {scene.namespace}/watched-by-both-1"
    (stop,) = [each for each in answer["stops"] if each["shutdown"] == name]
    assert stop["path"] == "poll"
    assert list(stop["seconds"]) == [
        *("sample", "decision", "lock", "delete", "record", "scale", "proof", "stop", "verified")
    ]


async def test_a_stop_verified_before_its_decision_is_reported_is_measured_then(
    scene: Scene,
) -> None:
    """Once; until then nobody knows how long it took, and nothing is counted."""
    numbers, cluster = Numbers(), scene.bench.cluster
    shutdowns = Shutdowns(cluster, SystemClock(), Settings(), numbers)
    key = Key(SHUTDOWNS, scene.namespace, "quick")
    await cluster.create(SHUTDOWNS, shutdown("quick", "admin"), scene.namespace)

    async def measured() -> float | None:
        await shutdowns.look(key)
        return numbers.registry.get_sample_value("killswitch_verified_seconds_count")

    assert [await measured(), await measured()] == [0, 0]
    body = {"status": {"stages": {"decided": times.text(SystemClock().now() - 2)}}}
    await cluster.apply(
        SHUTDOWNS, "quick", body, scene.namespace, subresource="status", manager="a-reactor"
    )
    assert [await measured(), await measured()] == [1, 1]


def _latency(scene: Scene) -> Json:
    """What `killswitch latency` says of this namespace."""
    done = subprocess.run(
        [*(sys.executable, "-m", "killswitch", "latency"), "-n", scene.namespace, "-o", "json"],
        capture_output=True,
        check=True,
        env={**os.environ, "KUBECONFIG": str(scene.kernel.admin.kubeconfig)},
    )
    answer: Json = json.loads(done.stdout)
    return answer
