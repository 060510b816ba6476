"""The demo's chapter on a real node: frozen, thawed with its state, killed; in real processes.

Shown where there can be a real kubelet (root, containerd, runc); elsewhere the reason is told.
"""

import json
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from killswitch.core import durations
from killswitch.node.cgroups import Cgroups
from tests.cluster.guard import GuardProcess
from tests.cluster.node import NAME, RealNode
from tests.cluster.processes import free_port
from tests.cluster.test_node import commands
from tests.demo.screen import Screen
from tests.demo.stage import SYSTEM, Stage
from tests.kernel.objects import freeze, freezes, shutdown, shutdowns
from tests.kernel.test_bypasses import ahead

PLACE, APP = "gpu-lab", "llm"
_LABELS = {"killswitch.dev/governed": "true"}
_LOOK = 0.0003
"""Seconds between two looks at the kernel."""


def show(scene: Stage, screen: Screen) -> None:
    """The whole chapter."""
    screen.chapter("On the node: stopped in milliseconds, and given back as it was")
    if reason := RealNode.unavailable():
        screen.say(f"Not shown on this machine: {reason}.")
        return
    with RealNode(scene.control_plane) as node:
        _Chapter(scene, screen, node).tell()


class _Chapter:
    def __init__(self, scene: Stage, screen: Screen, node: RealNode) -> None:
        self._scene = scene
        self._screen = screen
        self._node = node
        self._api = scene.control_plane.api()
        self._alice = scene.control_plane.user("alice")
        self._kernel = Cgroups(root=f"/{node.cgroup.name}")

    def tell(self) -> None:
        """Without a guard first, then with it."""
        body = {"metadata": {"name": PLACE, "labels": _LABELS}}
        assert self._api.create("/api/v1/namespaces", body).status == 201
        self._scene.people(PLACE)
        self._without_guard()
        port = free_port()
        uid = self._serve(APP, port)
        self._say_answers(port, "a model server in a real container answers")
        user = self._scene.control_plane.service_account(SYSTEM, "killswitch-node", NAME)
        with GuardProcess(self._node, user):
            self._scene.wait("the guard is there", lambda: _guarded(self._api))
            self._freeze(uid, port)
            self._stop(uid)

    def _without_guard(self) -> None:
        uid = self._serve("plain", 0)
        took = self._stopped("plain", uid)
        self._screen.measured(
            "Shutdown sent → last process dead, without a guard", durations.text(took)
        )

    def _freeze(self, uid: str, port: int) -> None:
        body = freeze("measured", "alice", until=ahead(minutes=5), locks=_lock(APP))
        took = self._timed(freezes(PLACE), body, lambda: self._kernel.frozen(uid))
        self._screen.measured("Freeze sent → every process frozen", durations.text(took))
        assert _served(port) is None, "a frozen server answered"
        self._screen.say("Frozen: the process is there, with its weights in memory, and silent.")
        self._command("thaw", "measured", "--reason", "to show it")
        self._command(
            "freeze", f"deployment/{APP}", "--for", "5m", "--then", "thaw",
            "--reason", "is it leaking?",
        )  # fmt: skip
        self._command("status")
        (name,) = [
            each["metadata"]["name"]
            for each in self._api.get(freezes(PLACE)).body["items"]
            if each["metadata"]["name"] != "measured"
        ]
        self._command("thaw", name, "--reason", "false alarm")
        self._say_answers(port, "thawed, it goes on where it was")

    def _stop(self, uid: str) -> None:
        took = self._stopped(APP, uid)
        self._screen.measured(
            "Shutdown sent → last process dead, with the guard", durations.text(took)
        )
        self._scene.wait("verified", lambda: self._scene.holds(shutdowns(PLACE, APP), "Verified"))
        self._scene.wait("the guard has told of it", lambda: _told(self._api, uid))
        self._command("why", APP)

    def _stopped(self, name: str, uid: str) -> float:
        body = shutdown(name, "alice", locks=_lock(name))
        return self._timed(shutdowns(PLACE), body, lambda: self._kernel.empty(uid))

    def _timed(self, path: str, body: dict[str, Any], true: Callable[[], bool]) -> float:
        """Seconds from sending this as alice until the kernel shows it."""
        api = self._scene.control_plane.api(self._alice)
        api.get(path)  # a warm connection
        sent = threading.Thread(target=lambda: api.create(path, body))
        started = time.perf_counter()
        sent.start()
        while not true():
            assert time.perf_counter() - started < 60, f"{body['kind']} had no effect"
            time.sleep(_LOOK)
        took = time.perf_counter() - started
        sent.join()
        return took

    def _serve(self, name: str, port: int) -> str:
        """The uid of a Deployment's pod, once it serves."""
        labels = {"app": name}
        template = {"metadata": {"labels": labels}, "spec": self._node.pod_spec(port=port)}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        path = f"/apis/apps/v1/namespaces/{PLACE}/deployments"
        assert self._api.create(path, {"metadata": {"name": name}, "spec": spec}).status == 201
        pods = f"/api/v1/namespaces/{PLACE}/pods"

        def uid() -> str:
            found = self._api.get(pods, labelSelector=f"app={name}").body["items"]
            return str(found[0]["metadata"]["uid"]) if found else ""

        self._scene.wait(
            f"{name} serves", lambda: "serve" in commands(self._node.processes(uid() or "none"))
        )
        return uid()

    def _say_answers(self, port: int, what: str) -> None:
        self._scene.wait(what, lambda: _served(port) is not None)
        counts = [str(_served(port)) for _ in range(3)]
        self._screen.say(f"curl …/v1/completions: {what}; requests served: {', '.join(counts)}")

    def _command(self, *arguments: str) -> None:
        result = self._scene.killswitch(*arguments, "-n", PLACE, user=self._alice)
        assert result.returncode == 0, result.stdout + result.stderr
        shown = [f"'{each}'" if " " in each or "?" in each else each for each in arguments]
        line = f"kubectl killswitch {' '.join(shown)} -n {PLACE}"
        self._screen.command("alice", line, result.stdout, limit=20)


def _lock(name: str) -> dict[str, str]:
    return {f"deployments.apps/{name}": ""}


def _guarded(api: Any) -> bool:
    guard = api.get(f"/apis/killswitch.dev/v1alpha1/nodeguards/{NAME}").body
    return "renewedAt" in guard.get("status", {})


def _told(api: Any, uid: str) -> bool:
    """Whether the guard's report says that this pod is dead."""
    guard = api.get(f"/apis/killswitch.dev/v1alpha1/nodeguards/{NAME}").body
    pods = guard.get("status", {}).get("pods", ())
    return any((each["uid"], each["state"]) == (uid, "Dead") for each in pods)


def _served(port: int) -> int | None:
    """The server's own count of requests; None when it does not answer."""
    try:
        url = f"http://127.0.0.1:{port}/v1/completions"
        with urllib.request.urlopen(url, timeout=1) as answer:
            return int(json.load(answer)["answered"])
    except OSError:
        return None
