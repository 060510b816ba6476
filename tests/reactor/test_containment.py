"""A defect of ours stays where it is: it is told, and neither the others nor the stop suffer."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from killswitch.adapters import credentials
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.readings import Answer, NoAnswer
from killswitch.core.resources import POLICIES
from killswitch.reactor.poller import Poller
from tests.cluster.control_plane import ControlPlane
from tests.reactor.harness import Bench, Dial, reactor

VLLM = {"kind": "Deployment", "name": "vllm"}


@pytest.mark.cluster
async def test_a_policy_that_cannot_be_judged_says_so_and_spares_the_others(
    setting: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """InternalError stands on its status; the policy beside it fires."""
    await setting.deployment("vllm", 1)
    await setting.policy("broken", targets=[VLLM])
    await setting.policy("sound", targets=[VLLM])
    async with reactor(setting) as running:
        bypass = running.engine.view.bypass

        def defect(namespace: str, policy: str, now: float) -> str | None:
            if (namespace, policy) == (setting.namespace, "broken"):
                raise ZeroDivisionError
            return bypass(namespace, policy, now)

        monkeypatch.setattr(running.engine.view, "bypass", defect)
        setting.dial.turn("broken", 500)
        setting.dial.turn("sound", 500)
        await setting.stopped("sound-1")
        found = await setting.with_condition(
            POLICIES, "broken", "Inhibited", "True", "InternalError"
        )
    message = next(c for c in found["status"]["conditions"] if c["type"] == "Inhibited")["message"]
    assert message == "nothing was decided: ZeroDivisionError()"
    assert [each["metadata"]["name"] for each in await setting.shutdowns()] == ["sound-1"]


class _Defective(KubernetesApi):
    """The product's client with a defect at its first deletion."""

    defects = 1

    async def delete(self, *args: Any, **more: Any) -> Any:
        """As ever, but once."""
        if self.defects:
            self.defects -= 1
            raise ZeroDivisionError
        return await super().delete(*args, **more)


@pytest.mark.cluster
async def test_a_stop_that_meets_a_defect_is_tried_again(
    kernel: ControlPlane, setting: Bench
) -> None:
    """The lock holds meanwhile, and the stop completes."""
    await setting.deployment("vllm", 2)
    await setting.policy("runaway", targets=[VLLM])
    loaded = credentials.load(kubeconfig=str(kernel.admin.kubeconfig))
    async with _Defective(loaded) as api, reactor(Bench(api, setting.namespace, setting.dial)):
        setting.dial.turn("runaway", 500)
        await setting.stopped("runaway-1")
    assert api.defects == 0
    assert await setting.pods() == []


async def test_polling_goes_on_after_a_defect() -> None:
    """Silence would look like health."""
    asked: list[str] = []
    again = asyncio.Event()

    def deliver(query: str, _answer: Answer | NoAnswer) -> None:
        asked.append(query)
        if len(asked) > 1:
            again.set()
        raise ZeroDivisionError

    poller = Poller(Dial(), SystemClock(), deliver, interval=0.01)
    running = asyncio.create_task(poller.run())
    poller.ask({"up"})
    async with asyncio.timeout(5):
        await again.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert asked[:2] == ["up", "up"]


@pytest.mark.cluster
async def test_a_step_that_fails_holds_up_no_other(
    setting: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hold-downs end by time although something else in the same tick is broken."""
    await setting.deployment("vllm", 1)
    signal = {"name": "load", "prometheus": {"query": "q", "above": "100"}, "onNoData": "Hold"}
    await setting.policy("runaway", targets=[VLLM], signals=[{**signal, "for": "500ms"}])
    async with reactor(setting) as running:

        def defect(*_: object) -> None:
            raise ZeroDivisionError

        await asyncio.sleep(0.5)
        monkeypatch.setattr(running, "_recaller", SimpleNamespace(ask=defect, stop=lambda: None))
        setting.dial.turn("q", 500)
        await setting.stopped("runaway-1")
