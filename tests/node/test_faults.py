"""The control plane away, slow, cut off, back again: the guard acts on what it knows."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.cluster.control_plane import QUICK, ControlPlane
from tests.cluster.kernel import CRDS
from tests.cluster.proxy import Proxy, proxied
from tests.node.guards import GROUP, GuardedNode, eventually
from tests.node.scene import Scene

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def own() -> Iterator[ControlPlane]:
    """A control plane to break, with the kinds and without the admission policies.

    Those keep history from being written, and are blind for half a minute after a restart. A
    StandingOrder may be less patient here than its schema allows: half a minute is long for a test.
    """
    with ControlPlane(controller_manager_flags=QUICK, scheduler=False) as running:
        for file in CRDS.glob("*.yaml"):
            crd = yaml.safe_load(file.read_text())
            if crd["spec"]["names"]["kind"] == "StandingOrder":
                schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
                del schema["properties"]["spec"]["x-kubernetes-validations"]
            running.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(crd))
        path = f"{GROUP}/nodeguards"
        eventually(lambda: running.api().get(path).status == 200, "the kinds are served")
        yield running


class Link:
    """A proxy before the API server, in a thread of its own."""

    def __init__(self, target: str) -> None:
        self.url = ""
        self._proxy: Proxy | None = None
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=lambda: self._loop.run_until_complete(self._run(target))
        )
        self._thread.start()
        assert self._ready.wait(10)

    async def _run(self, target: str) -> None:
        async with proxied(target) as self._proxy:
            self.url = self._proxy.url
            self._ready.set()
            await self._end.wait()
        await asyncio.sleep(0.1)  # what was aborted is closed by the loop

    def drop(self) -> None:
        """Reset every connection; new ones are served."""
        assert self._proxy is not None
        self._loop.call_soon_threadsafe(self._proxy.drop_all)

    def cut(self) -> None:
        """Pass nothing on any more, and say nothing of it."""
        assert self._proxy is not None
        self._loop.call_soon_threadsafe(self._proxy.swallow)

    def mend(self) -> None:
        """Pass everything on again, what was held up first."""
        assert self._proxy is not None
        self._loop.call_soon_threadsafe(self._proxy.passes.set)

    def close(self) -> None:
        """End it."""
        self.mend()
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def link(own: ControlPlane) -> Iterator[Link]:
    """Between the guard and the API server."""
    made = Link(own.server)
    yield made
    made.close()


@pytest.fixture
def node(own: ControlPlane, link: Link, cgroups: Scene, tmp_path: Path) -> Iterator[GuardedNode]:
    """A node whose guard reaches the API server by that link."""
    made = GuardedNode(own, cgroups, tmp_path, server=link.url)
    yield made
    made.close()


@contextlib.contextmanager
def away(own: ControlPlane, how: str) -> Iterator[None]:
    """No API server: killed, or there and silent."""
    if how == "gone":
        own.stop_api_server()
        yield
        own.start_api_server()
        return
    pid = own.pid("kube-apiserver")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("how", ["gone", "paused"])
@pytest.mark.parametrize("then", ["Thaw", "Stop"])
def test_a_freeze_ends_as_it_says_without_an_api_server(
    own: ControlPlane, node: GuardedNode, how: str, then: str
) -> None:
    """The guard keeps its end by itself, and reports it when somebody listens again."""
    model = node.model("vllm")
    node.guard()
    node.freeze(seconds=4, then=then)
    eventually(lambda: model.frozen, "it is frozen")
    with away(own, how):
        ended = (lambda: model.running) if then == "Thaw" else (lambda: model.dead)
        eventually(ended, "it has come to its end")
    node.reported(model, "Thawed" if then == "Thaw" else "Dead")


def test_an_api_server_that_restarts_lets_nothing_go(own: ControlPlane, node: GuardedNode) -> None:
    """Lists that fail remove no order; what is ordered afterwards is done."""
    held, doomed, late = node.model("held"), node.model("doomed"), node.model("late")
    node.guard()
    node.freeze(scope={"podLabels": {"app": "held"}})
    node.shutdown(scope={"podLabels": {"app": "doomed"}})
    eventually(lambda: held.frozen and doomed.dead, "they are held")
    before = held.count
    own.restart_api_server()
    node.shutdown("late", scope={"podLabels": {"app": "late"}})
    eventually(lambda: late.dead, "the guard listens again")
    assert held.count == before
    assert doomed.limit == "0"


def test_a_guard_that_starts_without_an_api_server_goes_on(
    own: ControlPlane, node: GuardedNode
) -> None:
    """What its state file says is done again; what is frozen stays so; its end is kept."""
    held, doomed = node.model("held"), node.model("doomed")
    guard = node.guard()
    node.freeze(seconds=20, scope={"podLabels": {"app": "held"}})
    node.shutdown(scope={"podLabels": {"app": "doomed"}})
    node.reported(held, "Frozen")
    node.reported(doomed, "Dead")
    guard.stop(kill=True)
    node.scene.hands().thaw(held.cgroup)
    node.scene.hands().reopen(doomed.cgroup, "max")
    node.start(doomed)
    with away(own, "gone"):
        node.guard(wait=False)
        eventually(lambda: held.frozen and doomed.dead, "they are held again")
        eventually(lambda: held.running, "the Freeze has come to its end")
    assert doomed.dead


def test_a_watch_that_is_cut_during_a_kill(node: GuardedNode, link: Link) -> None:
    """The order is found by the next list."""
    models = [node.model(f"m{number}") for number in range(5)]
    node.guard()
    link.drop()
    node.shutdown()
    link.drop()
    eventually(lambda: all(model.dead for model in models), "all are dead")
    link.drop()
    for model in models:
        node.reported(model, "Dead")


def test_what_was_ordered_behind_a_silent_link_is_done_when_it_is_back(
    node: GuardedNode, link: Link
) -> None:
    """Nobody told the guard that its connections were dead."""
    model, held = node.model("vllm"), node.model("held")
    node.guard()
    node.freeze(scope={"podLabels": {"app": "held"}})
    node.reported(held, "Frozen")
    link.cut()
    node.shutdown(scope={"podLabels": {"app": "vllm"}})
    node.thaw()
    time.sleep(1)
    assert model.running
    assert held.frozen
    link.mend()
    eventually(lambda: model.dead and held.running, "the guard has heard of it", 60)


@pytest.mark.parametrize("then", ["Freeze", "Kill"])
def test_a_node_that_is_cut_off_acts_by_its_standing_order(
    own: ControlPlane, node: GuardedNode, link: Link, then: str
) -> None:
    """Not while the API server restarts; when it is back everything is undone and told."""
    model, other = node.model("vllm"), node.model(f"other-{then.lower()}", namespace="default")
    node.standing(then=then, after="12s")
    node.guard()
    own.restart_api_server()
    eventually(lambda: node.log("watching again"), "it is back")
    assert model.running
    link.cut()
    acted = (lambda: model.frozen) if then == "Freeze" else (lambda: model.dead)
    eventually(acted, "it acts by itself", 60)
    assert other.running
    link.mend()
    node.reported(model, "Thawed")
    eventually(lambda: model.limit == "max", "it is open")
    assert model.running or then == "Kill"
    told = eventually(lambda: node.status().get("isolation"), "it tells of it")
    assert told["since"] < told["ended"]
    assert (told["action"], told["pods"]) == (then, 1)


def test_what_is_history_is_never_sent_to_a_guard(own: ControlPlane, node: GuardedNode) -> None:
    """Thousands of Shutdowns without the label beside one with it."""
    model = node.model("vllm")
    path = f"{GROUP}/namespaces/{node.namespace}/shutdowns"
    spec = {"requestedBy": "x", "reason": "long ago", "requiredApprovals": 1}
    bodies = [
        {
            "apiVersion": "killswitch.dev/v1alpha1",
            "kind": "Shutdown",
            "metadata": {"name": f"old-{number}"},
            "spec": {**spec, "scope": {"wholeNamespace": True}},
        }
        for number in range(2000)
    ]
    with ThreadPoolExecutor(4) as pool:
        answers = [
            each.status for each in pool.map(lambda body: own.api().create(path, body), bodies)
        ]
    assert set(answers) == {201}
    node.shutdown()
    node.guard()
    eventually(lambda: model.dead, "it is dead")
    file = node.state / "node.json"
    eventually(lambda: file.exists() and '"stop"' in file.read_text(), "it is remembered")
    assert "old-" not in file.read_text()


def test_an_older_installation_has_fewer_kinds(tmp_path: Path, cgroups: Scene) -> None:
    """Without Freeze and StandingOrder it stops what it can, and tells what it cannot read."""
    with ControlPlane(controllers=False, scheduler=False, kwok=False) as old:
        for name in ("shutdowns", "clustershutdowns"):
            old.kubectl("apply", "--server-side", "-f", str(CRDS / f"{name}.yaml"))
        eventually(lambda: old.api().get(f"{GROUP}/shutdowns").status == 200, "they are served")
        node = GuardedNode(old, cgroups, tmp_path)
        try:
            model, stray = node.model("vllm"), node.model("stray")
            cgroups.hands().freeze(stray.cgroup)
            node.shutdown(scope={"podLabels": {"app": "vllm"}})
            node.guard(wait=False)
            eventually(lambda: model.dead and stray.running, "it does what it can")
            missing = {each["kind"] for each in node.log("cannot watch")}
            assert missing >= {"Freeze", "StandingOrder"}
        finally:
            node.close()
