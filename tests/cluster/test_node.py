"""The real node runs real processes, is Ready, and leaves none of them behind."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import cgroups
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.cluster.node import NAME, RealNode
from tests.cluster.processes import free_port
from tests.cluster.test_processes import alive, until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.cluster]


def start_pod(api: Api, namespace: str, name: str, spec: dict[str, Any]) -> str:
    """Create a pod and return its uid once it runs."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    answer = api.create(path, {"metadata": {"name": name}, "spec": spec})
    assert answer.status == 201, answer.message
    assert until(lambda: api.get(f"{path}/{name}").body["status"]["phase"] == "Running", within=30)
    return str(answer.body["metadata"]["uid"])


@pytest.fixture
def api(control_plane: ControlPlane) -> Api:
    """The administrator's."""
    return control_plane.api()


@pytest.fixture
def scene(real_node: RealNode, api: Api, namespace: str) -> Iterator[str]:
    """A namespace whose pods are gone from the node after the test."""
    yield namespace
    path = f"/api/v1/namespaces/{namespace}/pods"
    real_node.cgroup.thaw()
    api.delete(f"/apis/apps/v1/namespaces/{namespace}/deployments")
    for pod in api.get(path).body["items"]:
        api.delete(f"{path}/{pod['metadata']['name']}", {"gracePeriodSeconds": 1})
    assert until(lambda: real_node.processes_of_all() == [], within=30)


def commands(pids: list[int]) -> list[str]:
    """What each process was started as; those that are just ending or starting are left out."""
    found = []
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words[0] in {"/server", "/proc/self/exe"}:
            found.append(words[1])
    return found


def test_a_machine_without_root_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is what a skipped test shows."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert RealNode.unavailable() == "a real node needs Linux and root"


def test_a_machine_without_containerd_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names what is missing."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: None if name == "containerd" else name)
    assert RealNode.unavailable() == ("a real node needs containerd: install containerd and runc")


def test_it_is_a_node_of_the_right_version_with_gpus(real_node: RealNode, api: Api) -> None:
    """Ready beside kwok's nodes, and the patched GPUs outlive the kubelet's status updates."""
    node = api.get(f"/api/v1/nodes/{NAME}").body
    assert real_node.ready()
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3"
    beat = max(each["lastHeartbeatTime"] for each in node["status"]["conditions"])

    def later() -> dict[str, Any]:
        found: dict[str, Any] = api.get(f"/api/v1/nodes/{NAME}").body["status"]
        return found

    assert until(lambda: max(c["lastHeartbeatTime"] for c in later()["conditions"]) > beat)
    assert later()["allocatable"]["nvidia.com/gpu"] == "8"


def test_a_pod_is_processes_that_its_cgroup_tells(
    real_node: RealNode, api: Api, scene: str
) -> None:
    """The sandbox, the server and its detached children; /metrics answers."""
    port = free_port()
    uid = start_pod(api, scene, "model", real_node.pod_spec(port=port, flags=["-children=2"]))
    assert until(lambda: len(real_node.processes(uid)) == 4)
    assert sorted(commands(real_node.processes(uid))) == ["child", "child", "pause", "serve"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert b'vllm:generation_tokens_total{model_name="stand-in"}' in answer.read()


def test_replicas_of_a_deployment_run_beside_each_other(
    real_node: RealNode, api: Api, scene: str
) -> None:
    """They share the host's network, each on a port of its own."""
    labels = {"app": "model"}
    # Polite ones: the collector deletes them with their own grace, which cannot be shortened then.
    template = {"metadata": {"labels": labels}, "spec": real_node.pod_spec(flags=["-polite"])}
    body = {
        "metadata": {"name": "model"},
        "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": template},
    }
    api.create(f"/apis/apps/v1/namespaces/{scene}/deployments", body)

    def servers() -> int:
        return commands(real_node.processes_of_all()).count("serve")

    assert until(lambda: servers() == 3, within=30)
    found = api.get(f"/api/v1/namespaces/{scene}/pods").body["items"]
    assert {pod["spec"]["nodeName"] for pod in found} == {NAME}


def test_a_server_deaf_to_sigterm_dies_by_the_shortened_grace(
    real_node: RealNode, api: Api, scene: str
) -> None:
    """Scheduled for 30 s, deleted with 1 s: its last process is dead after about two."""
    uid = start_pod(api, scene, "model", real_node.pod_spec(flags=["-children=1"]))
    assert until(lambda: len(real_node.processes(uid)) == 3)
    pids, started = real_node.processes(uid), time.monotonic()
    api.delete(f"/api/v1/namespaces/{scene}/pods/model", {"gracePeriodSeconds": 1})
    assert until(lambda: not any(alive(pid) for pid in pids), within=15)
    assert 0.9 < time.monotonic() - started < 10
    assert until(lambda: api.get(f"/api/v1/namespaces/{scene}/pods/model").status == 404, within=30)


def test_containers_run_on_while_the_kubelet_is_down(
    real_node: RealNode, api: Api, scene: str
) -> None:
    """A node that is cut off goes on serving; back again, the kubelet carries out the deletion."""
    uid = start_pod(api, scene, "model", real_node.pod_spec())
    pids = real_node.processes(uid)
    real_node.stop_kubelet()
    try:
        api.delete(f"/api/v1/namespaces/{scene}/pods/model", {"gracePeriodSeconds": 1})
        assert not until(lambda: not all(alive(pid) for pid in pids), within=2)
    finally:
        real_node.start_kubelet()
    assert until(lambda: not any(alive(pid) for pid in pids), within=30)


def test_a_pods_cgroup_can_be_frozen_and_thawed(real_node: RealNode, api: Api, scene: str) -> None:
    """A frozen server accepts and does not answer; thawed, it does."""
    port = free_port()
    uid = start_pod(api, scene, "model", real_node.pod_spec(port=port))
    folder = real_node.cgroup.pod(uid)
    assert folder is not None
    metrics = f"http://127.0.0.1:{port}/metrics"
    assert until(lambda: _answers(metrics))
    if cgroups.unified():
        (folder / "cgroup.freeze").write_text("1")
    else:
        (folder / "freezer.state").write_text("FROZEN")
    assert not _answers(metrics)
    real_node.cgroup.thaw()
    assert _answers(metrics)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=0.5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


_OWNER = """
import sys
from tests.cluster.control_plane import ControlPlane
from tests.cluster.node import RealNode
from tests.cluster.test_processes import until
with ControlPlane(kwok=False) as plane, RealNode(plane) as node:
    spec = {**node.pod_spec(flags=["-children=1"]), "nodeName": "real-0"}
    path = "/api/v1/namespaces/default/pods"
    answer = plane.api().create(path, {"metadata": {"name": "a"}, "spec": spec})
    uid = answer.body["metadata"]["uid"]
    assert until(lambda: len(node.processes(uid)) == 3, within=30)
    pids = plane.pids() + node.pids() + node.processes(uid)
    print(node.cgroup.name, plane.directory, *pids, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_nothing_outlives_its_owner(killed: bool) -> None:
    """Containers, shims and daemons end with it; the cgroups go now or with the next node."""
    if reason := RealNode.unavailable():
        pytest.skip(reason)
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        name, directory, *pids = owner.stdout.readline().split()
        assert len(pids) == 4 + 2 + 3
        if killed:
            owner.send_signal(signal.SIGKILL)
        owner.communicate()
    assert until(lambda: not any(alive(int(pid)) for pid in pids))
    assert until(lambda: _mentioning(directory) == [])
    if killed:
        assert until(lambda: _removed(name))
        subprocess.run(["rm", "-r", directory], check=True)
    assert list(Path("/sys/fs/cgroup").glob(f"**/{name}")) == []
    assert not Path(directory).exists()


def _removed(name: str) -> bool:
    cgroups.remove_left_behind()
    return list(Path("/sys/fs/cgroup").glob(f"**/{name}")) == []


def _mentioning(text: str) -> list[str]:
    """Processes with this in their command line: shims carry the node's folder in theirs."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found
