"""The guard beside a real kubelet, containerd and runc: what dies, what stands still, what goes on.

By both versions of cgroups: on a machine with v1, runc puts every container into the v2 hierarchy
that is mounted beside it as well, where freezing and killing work (the pids controller does not, so
there a closed pod is a frozen one). On a machine with v2 alone, that one.
"""

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import cgroups
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.cluster.guard import GuardProcess
from tests.cluster.node import NAME, RealNode, server
from tests.cluster.processes import free_port
from tests.cluster.test_node import commands, start_pod
from tests.cluster.test_processes import until
from tests.kernel import guards
from tests.kernel.objects import (
    GROUP,
    approval,
    deployment,
    freeze,
    freezes,
    pods,
    shutdown,
    shutdowns,
)
from tests.kernel.test_bypasses import ahead

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
BESIDE = Path("/sys/fs/cgroup/unified")
EVERYTHING = {"scope": {"wholeNamespace": True}}


def _versions() -> dict[str, dict[str, str]]:
    """The guard's settings for each version of cgroups that this machine has."""
    if cgroups.unified():
        return {"v2": {}}
    beside = {"v2": {"KILLSWITCH_CGROUPS": str(BESIDE)}} if BESIDE.exists() else {}
    return {"v1": {}, **beside}


@pytest.fixture(params=_versions())
def guard(
    request: pytest.FixtureRequest, kernel: ControlPlane, real_node: RealNode
) -> Iterator[GuardProcess]:
    """A running guard of the real node."""
    settings = _versions()[request.param]
    user = guards.guard(kernel, NAME)
    with GuardProcess(real_node, user, settings) as running:
        assert until(lambda: "renewedAt" in report(kernel), within=30), running.log
        yield running


@pytest.fixture
def place(real_node: RealNode, kernel: ControlPlane, governed: str) -> Iterator[str]:
    """A governed namespace whose pods are gone from the node after the test."""
    yield governed
    api = kernel.api()
    for body in api.get(freezes(governed)).body["items"]:
        api.delete(freezes(governed, body["metadata"]["name"]))
    api.delete(f"/apis/apps/v1/namespaces/{governed}/deployments")

    def gone() -> bool:
        real_node.cgroup.thaw()
        for body in api.get(pods(governed)).body["items"]:
            api.delete(pods(governed, body["metadata"]["name"]), {"gracePeriodSeconds": 1})
        return real_node.processes_of_all() == []

    assert until(gone, within=60)


def report(kernel: ControlPlane) -> dict[str, Any]:
    """What the guard says."""
    status: dict[str, Any] = kernel.api().get(f"{GROUP}/nodeguards/{NAME}").body.get("status", {})
    return status


def told(kernel: ControlPlane, uid: str) -> str:
    """What the guard says of this pod."""
    found = [each["state"] for each in report(kernel).get("pods", ()) if each["uid"] == uid]
    return found[0] if found else ""


def model(real_node: RealNode, api: Api, place: str, name: str = "model", **spec: Any) -> str:
    """The uid of a pod with a server, once all its processes run."""
    body = spec or real_node.pod_spec()
    uid = start_pod(api, place, name, body)
    assert until(lambda: "serve" in commands(real_node.processes(uid)))
    return uid


def stop(api: Api, place: str, name: str = "stop", **spec: Any) -> None:
    """Engage."""
    answer = api.create(shutdowns(place), shutdown(name, "admin", **(spec or EVERYTHING)))
    assert answer.status == 201, answer.message


def hold(api: Api, place: str, name: str = "hold", **change: Any) -> None:
    """Freeze for an hour."""
    terms = {"until": ahead(hours=1), **EVERYTHING, **change}
    answer = api.create(freezes(place), freeze(name, "admin", **terms))
    assert answer.status == 201, answer.message


def thaw(api: Api, place: str, name: str = "hold") -> None:
    """Let go."""
    order = {"spec": {"thaw": {"by": "admin", "reason": "false alarm"}}}
    assert api.patch(freezes(place, name), order).status == 200


def count(port: int) -> int | None:
    """The server's own count of the requests it has served; None when it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/completions", timeout=1) as answer:
            return int(json.load(answer)["answered"])
    except OSError:
        return None


def test_a_frozen_server_is_silent_and_goes_on_with_its_state(
    guard: GuardProcess, kernel: ControlPlane, real_node: RealNode, place: str
) -> None:
    """The same process, the same memory: the count goes on where it was."""
    api, port = kernel.api(), free_port()
    spec = real_node.pod_spec(port=port, flags=["-hold=64"])
    uid = model(real_node, api, place, **spec)
    assert until(lambda: count(port) is not None)
    before, pids = count(port), real_node.processes(uid)
    assert before is not None
    hold(api, place)
    assert until(lambda: told(kernel, uid) == "Frozen"), guard.log
    assert count(port) is None
    assert api.get(pods(place, "model")).body["status"]["phase"] == "Running"
    thaw(api, place)
    assert until(lambda: count(port) is not None), guard.log
    assert real_node.processes(uid) == pids
    # The request that nobody answered was waiting, and counts as well.
    assert before + 2 <= (count(port) or 0) <= before + 6
    assert until(lambda: told(kernel, uid) == "Thawed")


def test_a_pod_is_frozen_again_by_another_freeze(
    guard: GuardProcess, kernel: ControlPlane, real_node: RealNode, place: str
) -> None:
    """What was thawed is history, and the report says what is."""
    api = kernel.api()
    uid = model(real_node, api, place)
    for name in ("first", "second", "third"):
        hold(api, place, name)
        assert until(lambda: told(kernel, uid) == "Frozen"), guard.log
        thaw(api, place, name)
        assert until(lambda: told(kernel, uid) == "Thawed"), guard.log


def test_nothing_of_a_stopped_pod_lives_nor_comes_back(
    guard: GuardProcess, kernel: ControlPlane, real_node: RealNode, place: str
) -> None:
    """Deaf to SIGTERM, with workers in sessions of their own; the kubelet restarts nothing."""
    api = kernel.api()
    uid = model(real_node, api, place, **real_node.pod_spec(flags=["-children=3"]))
    assert until(lambda: len(real_node.processes(uid)) == 5)
    stop(api, place)
    assert until(lambda: real_node.processes(uid) == []), guard.log
    assert until(lambda: told(kernel, uid) == "Dead")
    assert not until(lambda: commands(real_node.processes(uid)) != [], within=6)
    assert api.delete(pods(place, "model"), {"gracePeriodSeconds": 1}).status == 200
    assert until(lambda: api.get(pods(place, "model")).status == 404, within=60), guard.log


def test_a_server_that_forks_all_the_time_dies_whole(
    guard: GuardProcess, kernel: ControlPlane, real_node: RealNode, place: str
) -> None:
    """Children that are born while it is killed die too."""
    api = kernel.api()
    spec = real_node.pod_spec(flags=["-fork-every=2ms", "-children=2"])
    uid = model(real_node, api, place, **spec)
    stop(api, place)
    assert until(lambda: told(kernel, uid) == "Dead"), guard.log
    assert commands(real_node.processes(uid)) == []


def test_every_container_of_a_pod_dies(
    guard: GuardProcess, kernel: ControlPlane, real_node: RealNode, place: str
) -> None:
    """Init containers that stay (sidecars) and several servers; a neighbour is not touched."""
    api = kernel.api()
    spec = real_node.pod_spec()
    spec["initContainers"] = [{**server("sidecar"), "restartPolicy": "Always"}]
    spec["containers"].append(server("second"))
    uid = start_pod(api, place, "model", spec)
    other = model(real_node, api, place, "other")
    assert until(lambda: commands(real_node.processes(uid)).count("serve") == 3)
    alive = real_node.processes(other)
    stop(api, place, locks={"pods/model": ""})
    assert until(lambda: told(kernel, uid) == "Dead"), guard.log
    assert real_node.processes(uid) == []
    assert real_node.processes(other) == alive


def test_an_init_container_is_stopped_at_its_work(
    guard: GuardProcess, kernel: ControlPlane, real_node: RealNode, place: str
) -> None:
    """The pod is Pending, and computes already."""
    api = kernel.api()
    spec = real_node.pod_spec()
    spec["initContainers"] = [server("loader")]
    path = pods(place)
    uid = api.create(path, {"metadata": {"name": "model"}, "spec": spec}).body["metadata"]["uid"]
    assert until(lambda: "serve" in commands(real_node.processes(uid)), within=30)
    stop(api, place)
    assert until(lambda: told(kernel, uid) == "Dead"), guard.log
    assert not until(lambda: commands(real_node.processes(uid)) != [], within=3)


def test_a_static_pod_is_held_and_let_go(
    guard: GuardProcess, kernel: ControlPlane, real_node: RealNode, place: str
) -> None:
    """No API can stop one. After the release its kubelet starts it again."""
    api = kernel.api()
    metadata = {"name": "static", "namespace": place, "labels": {"app": "static"}}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    real_node.run_static("static", {**manifest, "spec": real_node.pod_spec()})
    try:
        name = f"static-{NAME}"
        assert until(lambda: api.get(pods(place, name)).status == 200, within=30)
        mirror = api.get(pods(place, name)).body["metadata"]
        uid = mirror["annotations"]["kubernetes.io/config.mirror"]
        assert until(lambda: "serve" in commands(real_node.processes(uid)), within=30)
        stop(api, place)
        assert until(lambda: told(kernel, mirror["uid"]) == "Dead"), guard.log
        assert not until(lambda: commands(real_node.processes(uid)) != [], within=6)
        for person in ("alice", "bob"):
            answer = kernel.api(kernel.user(person)).patch(
                shutdowns(place, "stop"), approval(person)
            )
            assert answer.status == 200, answer.message
        assert until(lambda: "serve" in commands(real_node.processes(uid)), within=90), guard.log
    finally:
        real_node.remove_static("static")


def test_a_freeze_beyond_the_liveness_budget_costs_the_state_and_no_more(
    guard: GuardProcess, kernel: ControlPlane, real_node: RealNode, place: str
) -> None:
    """The kubelet wants to restart it; frozen it cannot compute, and after the thaw it serves."""
    api, port = kernel.api(), free_port()
    probe = {
        "httpGet": {"path": "/healthz", "port": port, "host": "127.0.0.1"},
        "periodSeconds": 1,
        "failureThreshold": 2,
    }
    spec = real_node.pod_spec(port=port, grace=1, livenessProbe=probe)
    uid = model(real_node, api, place, **spec)
    assert until(lambda: count(port) is not None)
    hold(api, place)
    assert until(lambda: told(kernel, uid) == "Frozen"), guard.log
    events = f"/api/v1/namespaces/{place}/events"

    def wants_to_kill() -> bool:
        return any(each["reason"] == "Killing" for each in api.get(events).body["items"])

    assert until(wants_to_kill, within=30)
    assert count(port) is None
    thaw(api, place)
    assert until(lambda: count(port) is not None, within=60), guard.log


def test_a_stop_ends_a_freeze(
    guard: GuardProcess, kernel: ControlPlane, real_node: RealNode, place: str
) -> None:
    """On v1 the frozen cannot die: they are thawed for that, after the signal."""
    api = kernel.api()
    uid = model(real_node, api, place)
    hold(api, place)
    assert until(lambda: told(kernel, uid) == "Frozen"), guard.log
    stop(api, place)
    assert until(lambda: told(kernel, uid) == "Dead"), guard.log
    assert commands(real_node.processes(uid)) == []


def test_what_starts_during_a_freeze_is_frozen(
    guard: GuardProcess, kernel: ControlPlane, real_node: RealNode, place: str
) -> None:
    """A Freeze locks nothing: a rollout's new pods come, and stand still."""
    api = kernel.api()
    hold(api, place, locks={"deployments.apps/model": ""}, scope=None)
    body = deployment("model")
    labels = body["spec"]["selector"]["matchLabels"]
    body["spec"]["template"] = {"metadata": {"labels": labels}, "spec": real_node.pod_spec(grace=1)}
    assert api.create(f"/apis/apps/v1/namespaces/{place}/deployments", body).status == 201

    def frozen() -> bool:
        found = api.get(pods(place)).body["items"]
        return bool(found) and told(kernel, found[0]["metadata"]["uid"]) == "Frozen"

    assert until(frozen, within=30), guard.log
    thaw(api, place)
    assert until(lambda: "serve" in commands(real_node.processes_of_all()), within=60), guard.log


@pytest.mark.parametrize("then", ["Thaw", "Stop"])
def test_a_dead_guards_freeze_ends_as_its_object_says(
    guard: GuardProcess, kernel: ControlPlane, real_node: RealNode, place: str, then: str
) -> None:
    """Killed while it holds; the next one finds the time over, with nobody to tell it so."""
    api = kernel.api()
    uid = model(real_node, api, place)
    hold(api, place, until=ahead(seconds=6), then=then)
    assert until(lambda: told(kernel, uid) == "Frozen"), guard.log
    pids = real_node.processes(uid)
    for pid in guard.pids:
        os.kill(pid, 9)
    guard.stop(kill=True)
    guard.start()
    if then == "Stop":
        assert until(lambda: not set(pids) & set(real_node.processes(uid)), within=30), guard.log
        assert until(lambda: told(kernel, uid) == "Dead")
    else:
        assert until(lambda: told(kernel, uid) == "Thawed", within=30), guard.log
        assert real_node.processes(uid) == pids
