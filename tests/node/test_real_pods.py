"""The guard's hands on pods that a real kubelet, containerd and runc have made."""

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from killswitch.node.cgroups import Cgroups
from tests.cluster import cgroups
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.cluster.node import RealNode
from tests.cluster.processes import free_port
from tests.cluster.test_node import commands, start_pod
from tests.cluster.test_processes import until
from tests.node.scene import TOP, VARIANTS, hands, unavailable, unified

pytestmark = [pytest.mark.cluster]

_CLASSES: dict[str, dict[str, Any]] = {
    "besteffort": {},
    "burstable": {"requests": {"cpu": "10m"}},
    "guaranteed": {"limits": {"cpu": "100m", "memory": "256Mi"}},
}


@pytest.fixture
def api(control_plane: ControlPlane) -> Api:
    """The administrator's."""
    return control_plane.api()


@pytest.fixture(params=VARIANTS)
def guard(request: pytest.FixtureRequest, real_node: RealNode) -> Cgroups:
    """On a machine with cgroup v1 runc puts pods into the v2 hierarchy beside it too."""
    variant = str(request.param)
    if reason := unavailable(variant):
        pytest.skip(reason)
    top = TOP if variant == "v1" else unified()
    counting = TOP if cgroups.unified() else TOP / "pids"
    return hands(top, variant, counting, root=f"/{real_node.cgroup.name}")


@pytest.fixture
def scene(real_node: RealNode, guard: Cgroups, api: Api, namespace: str) -> Iterator[str]:
    """A namespace whose pods are gone from the node after the test."""
    yield namespace
    real_node.cgroup.thaw()
    for uid in guard.closed_pods() | guard.frozen_pods():
        guard.reopen(uid, "0")
    path = f"/api/v1/namespaces/{namespace}/pods"
    for pod in api.get(path).body["items"]:
        api.delete(f"{path}/{pod['metadata']['name']}", {"gracePeriodSeconds": 1})
    assert until(lambda: real_node.processes_of_all() == [], within=30)


def answered(port: int, within: float = 5.0) -> int | None:
    """How many requests a server has answered, this one included; None when it does not answer."""
    try:
        url = f"http://127.0.0.1:{port}/v1/completions"
        with urllib.request.urlopen(url, timeout=within) as answer:
            return int(json.load(answer)["answered"])
    except OSError:
        return None


def test_every_class_of_pods_is_seen_frozen_and_thawed_with_its_state(
    real_node: RealNode, guard: Cgroups, api: Api, scene: str
) -> None:
    """A frozen server does not answer; thawed, it has forgotten nothing."""
    ports, uids = {}, {}
    for name, resources in _CLASSES.items():
        ports[name] = free_port()
        spec = real_node.pod_spec(port=ports[name], flags=["-hold=16"])
        spec["containers"][0]["resources"] = resources
        uids[name] = start_pod(api, scene, name, spec)
    assert guard.pods() >= set(uids.values())
    assert guard.driver == "cgroupfs"
    assert until(lambda: all(answered(port) for port in ports.values()))
    before = {name: answered(port) for name, port in ports.items()}
    for uid in uids.values():
        guard.freeze(uid)
    assert until(lambda: all(guard.frozen(uid) for uid in uids.values()))
    assert [answered(port, within=0.2) for port in ports.values()] == [None] * 3
    assert guard.frozen_pods() == set(uids.values())
    for uid in uids.values():
        guard.thaw(uid)
    for name, port in ports.items():
        after, was = answered(port), before[name]
        assert after is not None
        assert was is not None
        assert was < after <= was + 2  # perhaps the one that was not waited for
        assert real_node.processes(uids[name]) == guard.processes(uids[name])


def test_a_killed_pod_is_not_restarted_in_place_and_can_be_deleted(
    real_node: RealNode, guard: Cgroups, api: Api, scene: str
) -> None:
    """With restartPolicy Always, deaf to SIGTERM, forking all the time: the closed cgroup holds."""
    spec = real_node.pod_spec(flags=["-children=2", "-fork-every=5ms", "-hold=64"])
    spec["restartPolicy"] = "Always"
    uid = start_pod(api, scene, "model", spec)
    assert until(lambda: "brief" in commands(real_node.processes(uid)))
    assert guard.kill(uid) >= 4
    assert real_node.processes(uid) == []
    watched = time.monotonic() + 5
    while time.monotonic() < watched:
        assert "serve" not in commands(real_node.processes(uid))
        time.sleep(0.01)
    guard.kill(uid)
    assert guard.empty(uid)
    path = f"/api/v1/namespaces/{scene}/pods/model"
    api.delete(path, {"gracePeriodSeconds": 1})
    assert until(lambda: api.get(path).status == 404, within=30)
    assert until(lambda: real_node.cgroup.pod(uid) is None, within=30)
    assert guard.empty(uid)


def test_a_reopened_pod_is_started_again_by_its_kubelet(
    real_node: RealNode, guard: Cgroups, api: Api, scene: str
) -> None:
    """The order is gone while the pod is still there: it may run."""
    port = free_port()
    uid = start_pod(api, scene, "model", real_node.pod_spec(port=port))
    former = guard.close(uid)
    guard.kill(uid)
    assert guard.closed_pods() == {uid}
    assert guard.reopen(uid, former)
    assert until(lambda: answered(port) == 1, within=60)
    assert uid in guard.pods()
