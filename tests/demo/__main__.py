"""Runs the demo and prints its measured times; ends by itself and leaves nothing running."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from killswitch.core import durations, times
from tests.cluster.api import Api
from tests.cluster.binaries import CannotBuildError
from tests.demo import on_the_node
from tests.demo.screen import Screen
from tests.demo.servers import ModelServers
from tests.demo.stage import ROOT, Stage, stage

PLACE, APP = "model-serving", "vllm"
POLICY = "vllm-runaway-tokens"
_SHUTDOWN = f"/apis/killswitch.dev/v1alpha1/namespaces/{PLACE}/shutdowns/{POLICY}-1"
_POLICY = f"/apis/killswitch.dev/v1alpha1/namespaces/{PLACE}/killswitchpolicies/{POLICY}"
_PODS = f"/api/v1/namespaces/{PLACE}/pods"


def main() -> None:
    """The whole story."""
    screen = Screen()
    try:
        screen.chapter("A real control plane, Prometheus and killswitch, installed by its chart")
        with stage(screen.say) as scene:
            servers = _set_the_scene(scene, screen)
            try:
                _arm(scene, screen)
                _anomaly(scene, screen, servers)
                _refusals(scene, screen)
                _release(scene, screen, servers)
                _evidence(scene, screen)
                on_the_node.show(scene, screen)
            finally:
                servers.close()
    except CannotBuildError as error:
        sys.exit(str(error))
    screen.table()
    screen.say(f"Everything ended and removed after {time.monotonic() - screen.started:.0f} s.")


def _set_the_scene(scene: Stage, screen: Screen) -> ModelServers:
    plane = scene.control_plane
    scene.install(f"prometheus.url={scene.prometheus.url}", "nodeGuard.enabled=true")
    scene.run_operator(poll_interval="0.1", armed_interval="5")
    plane.kubectl("create", "namespace", PLACE)
    scene.people(PLACE)
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(_deployment(APP, 3)))
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(_deployment("chat", 1)))
    scene.wait("pods run", lambda: _running(scene, APP) == 3 and _running(scene, "chat") == 1)
    own = Api(plane.server, plane.ca_file, plane.admin.token)
    servers = ModelServers(own, PLACE, APP)
    scene.prometheus.add_target(servers.exporter.address, job="vllm")
    screen.say("3 vLLM servers with 8 GPUs each and a chat server run; Prometheus scrapes them.")
    return servers


def _arm(scene: Stage, screen: Screen) -> None:
    screen.chapter("A policy, applied with kubectl")
    file = scene.folder / "policy.yaml"
    file.write_text(yaml.safe_dump(_policy(), sort_keys=False))
    line = f"kubectl apply -f policies/{POLICY}.yaml   # thresholds and times set for this demo"
    answer = scene.control_plane.kubectl("apply", "-f", str(file))
    screen.command("author", line, answer.stdout)
    took = scene.wait("the policy is armed", lambda: scene.holds(_POLICY, "Armed"))
    scene.wait("its signal answers", lambda: scene.holds(_POLICY, "SignalsAvailable"))
    screen.measured("policy applied → armed, the lock proven", durations.text(took))
    answer = scene.control_plane.kubectl("get", "ksp", "-n", PLACE)
    screen.command("author", f"kubectl get ksp -n {PLACE}", answer.stdout)


def _anomaly(scene: Stage, screen: Screen, servers: ModelServers) -> None:
    screen.chapter("The anomaly: the servers start to generate a hundred times their tokens")
    before = time.time()
    servers.tokens_per_second = 5000.0
    scene.wait("the stop", lambda: scene.control_plane.api().get(_SHUTDOWN).status == 200)
    scene.wait("the stop is verified", lambda: scene.holds(_SHUTDOWN, "Verified"))
    # The manager verifies by itself; the report of the reactor that decided may come after it.
    scene.wait("the stages are told", lambda: {"decided", "stopped"} <= _stages(scene).keys())
    stages = _stages(scene)
    screen.measured("anomaly begins → decision", durations.text(stages["decided"] - before))
    for name, what in {
        "locked": "locked in the API server",
        "deleted": "every pod's deletion accepted",
        "proven": "a restart refused (dry run)",
        "stopped": "no pod left",
    }.items():
        if name in stages:
            took = durations.text(stages[name] - stages["decided"])
            screen.measured(f"decision → {what}", took)
    answer = scene.control_plane.kubectl("get", "sd,deploy,pods", "-n", PLACE)
    screen.command("anyone", f"kubectl get sd,deploy,pods -n {PLACE}", answer.stdout)


def _stages(scene: Stage) -> dict[str, float]:
    status = scene.control_plane.api().get(_SHUTDOWN).body.get("status", {})
    return {name: times.seconds(at) for name, at in status.get("stages", {}).items()}


def _refusals(scene: Stage, screen: Screen) -> None:
    screen.chapter("Attempts to restart are refused by the API server itself")
    plane = scene.control_plane
    for arguments in (
        ("scale", f"deployment/{APP}", "--replicas=3", "-n", PLACE),
        ("patch", "deployment", APP, "-n", PLACE, "-p", '{"spec":{"replicas":5}}'),
        ("delete", "shutdown", f"{POLICY}-1", "-n", PLACE),
    ):
        result = plane.kubectl(*arguments, check=False)
        assert result.returncode != 0, f"kubectl {arguments} was not refused"
        screen.command("cluster-admin", f"kubectl {' '.join(arguments)}", result.stderr, limit=3)
    assert _running(scene, APP) == 0, "something came back"
    assert _running(scene, "chat") == 1, "a neighbour was stopped"
    screen.say("Nothing came back, and the chat server beside it was never touched.")


def _release(scene: Stage, screen: Screen, servers: ModelServers) -> None:
    screen.chapter("Two people release it, a third restores it: two separate acts")
    servers.tokens_per_second = 40.0
    plane, name = scene.control_plane, f"{POLICY}-1"
    for person, reason in (
        ("alice", "the looping client is blocked"),
        ("bob", "looked at the traffic: agreed"),
    ):
        result = scene.killswitch(
            "approve", name, "-n", PLACE, "--reason", reason, user=plane.user(person)
        )
        assert result.returncode == 0, result.stdout + result.stderr
        line = f"kubectl killswitch approve {name} -n {PLACE} --reason '{reason}'"
        screen.command(person, line, result.stdout, limit=4)
    scene.wait("released", lambda: scene.holds(_SHUTDOWN, "Released"))
    assert _running(scene, APP) == 0, "release must not restart"
    screen.say("Released: nothing has started by that.")
    result = scene.killswitch(
        "restore", name, "-n", PLACE, "--reason", "back to work", user=plane.user("carol")
    )
    assert result.returncode == 0, result.stdout + result.stderr
    line = f"kubectl killswitch restore {name} -n {PLACE} --reason 'back to work'"
    screen.command("carol", line, result.stdout, limit=4)
    took = scene.wait("restored", lambda: scene.holds(_SHUTDOWN, "Restored"))
    scene.wait("pods run again", lambda: _running(scene, APP) == 3)
    screen.measured("restore: canary, 2 s of soak, then exactly 3", durations.text(took))


def _evidence(scene: Stage, screen: Screen) -> None:
    screen.chapter("Why? The evidence is kept")
    plane = scene.control_plane
    result = scene.killswitch("why", f"{POLICY}-1", "-n", PLACE, user=plane.user("alice"))
    assert result.returncode == 0, result.stdout + result.stderr
    screen.command("alice", f"kubectl killswitch why {POLICY}-1", result.stdout, limit=40)


def _running(scene: Stage, app: str) -> int:
    answer = scene.control_plane.api().get(_PODS, labelSelector=f"app={app}")
    return sum(pod["status"].get("phase") == "Running" for pod in answer.body.get("items", ()))


def _policy() -> dict[str, Any]:
    """The shipped policy with a threshold and times that fit into a demo."""
    text = (ROOT / "policies" / f"{POLICY}.yaml").read_text()
    policy: dict[str, Any] = yaml.safe_load(text)
    spec = policy["spec"]
    policy["metadata"]["namespace"] = PLACE
    query = f'sum(rate(vllm:generation_tokens_total{{namespace="{PLACE}"}}[2s]))'
    spec["mode"] = "Enforce"
    spec["signals"][0]["prometheus"] = {"query": query, "above": "2000"}
    spec["signals"][0] |= {"for": "200ms", "maxAge": "5s"}
    spec["targets"] = [{"kind": "Deployment", "selector": {"matchLabels": {"app": APP}}}]
    spec["restore"] = {"canaryReplicas": 1, "soak": "2s"}
    return policy


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    container = {
        "name": "server",
        "image": f"models.invalid/{name}",
        "resources": {"limits": {"nvidia.com/gpu": "8"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": PLACE, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


if __name__ == "__main__":
    assert Path.cwd() == ROOT, "run it from the repository's root: make demo"
    main()
