"""The control plane is a real one: its people, its controllers, its restarts, its end."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.api import Api
from tests.cluster.control_plane import NAMES, QUICK, ControlPlane
from tests.cluster.test_processes import alive, until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.cluster]


def deployment(name: str, replicas: int, gpus: int = 1) -> dict[str, Any]:
    """A Deployment whose pods want GPUs."""
    labels = {"app": name}
    container = {
        "name": "server",
        "image": "registry.example/model:1",
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
    }
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def pods(api: Api, namespace: str, **query: str) -> list[dict[str, Any]]:
    """All pods of a namespace."""
    items: list[dict[str, Any]] = api.get(f"/api/v1/namespaces/{namespace}/pods", **query).body[
        "items"
    ]
    return items


def running(api: Api, namespace: str) -> int:
    """How many pods are Running and not on their way out."""
    return sum(
        pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        for pod in pods(api, namespace)
    )


def who(api: Api) -> dict[str, Any]:
    """Whom the API server takes this user for."""
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    found: dict[str, Any] = api.create(path, {}).body["status"]["userInfo"]
    return found


@pytest.fixture(scope="module")
def own() -> Iterator[ControlPlane]:
    """A control plane whose API server may be killed without disturbing other tests."""
    with ControlPlane(controllers=False, scheduler=False, kwok=False) as started:
        yield started


def test_kubectl_and_server_are_of_one_version(control_plane: ControlPlane) -> None:
    """Both say 1.36.3, as built with the linker's flags."""
    said = json.loads(control_plane.kubectl("version", "-o", "json").stdout)
    assert said["clientVersion"]["gitVersion"] == "v1.36.3"
    assert said["serverVersion"]["gitVersion"] == "v1.36.3"


@pytest.mark.parametrize("name", NAMES)
def test_people_are_who_their_token_says(control_plane: ControlPlane, name: str) -> None:
    """The API server knows the name, and gives no rights with it."""
    api = control_plane.api(control_plane.user(name))
    assert who(api)["username"] == name
    assert who(api)["groups"] == ["system:authenticated"]
    assert api.get("/api/v1/namespaces/default/pods").status == 403


def test_the_administrator_may_do_everything(control_plane: ControlPlane) -> None:
    """By membership in system:masters."""
    assert "system:masters" in who(control_plane.api())["groups"]


def test_an_unknown_name_is_refused_at_once(control_plane: ControlPlane) -> None:
    """A typing error in a test shall not become an anonymous user."""
    with pytest.raises(KeyError, match="trudy"):
        control_plane.user("trudy")


def test_kubectl_works_as_a_certain_user(control_plane: ControlPlane) -> None:
    """Its kubeconfig holds that user's token."""
    alice = control_plane.user("alice")
    answer = control_plane.kubectl("auth", "whoami", "-o", "json", user=alice)
    assert json.loads(answer.stdout)["status"]["userInfo"]["username"] == "alice"
    with pytest.raises(AssertionError, match="forbidden"):
        control_plane.kubectl("get", "pods", user=alice)


def test_a_service_account_is_made_with_a_token(
    control_plane: ControlPlane, namespace: str
) -> None:
    """It authenticates as the account, in its groups; asking again gives the same one."""
    robot = control_plane.service_account(namespace, "robot")
    info = who(control_plane.api(robot))
    assert info["username"] == f"system:serviceaccount:{namespace}:robot"
    assert f"system:serviceaccounts:{namespace}" in info["groups"]
    assert control_plane.service_account(namespace, "robot") == robot


def test_errors_of_the_api_are_answers(control_plane: ControlPlane, namespace: str) -> None:
    """Status and message come back; nothing is raised."""
    api, path = control_plane.api(), f"/api/v1/namespaces/{namespace}/configmaps"
    assert api.get(f"{path}/none").status == 404
    assert api.create(path, {"metadata": {"name": "a"}}, dry_run=True).status == 201
    assert api.get(f"{path}/a").status == 404
    assert api.create(path, {"metadata": {"name": "a"}}).status == 201
    again = api.create(path, {"metadata": {"name": "a"}})
    assert again.status == 409
    assert '"a" already exists' in again.message


@pytest.mark.parametrize(
    ("kind", "body", "manager"),
    [
        ("merge", {"data": {"key": "new"}}, "anybody"),
        ("strategic", {"data": {"key": "new"}}, "anybody"),
        ("json", [{"op": "replace", "path": "/data/key", "value": "new"}], "anybody"),
        ("apply", {"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "new"}}, "first"),
    ],
)
def test_each_kind_of_patch_is_understood(
    control_plane: ControlPlane, namespace: str, kind: str, body: Any, manager: str
) -> None:
    """All four content types reach the server."""
    api, path = control_plane.api(), f"/api/v1/namespaces/{namespace}/configmaps"
    api.request(
        "POST",
        path,
        {"metadata": {"name": "a"}, "data": {"key": "old"}},
        query={"fieldManager": "first"},
    )
    if kind == "apply":  # whoever created it by POST is another manager to the server
        answer = api.patch(f"{path}/a", body, kind=kind, fieldManager=manager)
        assert answer.status == 409
        answer = api.patch(f"{path}/a", body, kind=kind, fieldManager=manager, force="true")
    else:
        answer = api.patch(f"{path}/a", body, kind=kind, fieldManager=manager)
    assert answer.status == 200
    assert api.get(f"{path}/a").body["data"] == {"key": "new"}


def test_threads_may_share_one_api(control_plane: ControlPlane) -> None:
    """They take turns on its connection."""
    api = control_plane.api()
    statuses: list[int] = []

    def ask() -> None:
        statuses.extend(api.get("/api/v1/namespaces/default").status for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 100


def test_pods_of_a_deployment_run_on_gpu_nodes(control_plane: ControlPlane, namespace: str) -> None:
    """Controllers make them, the scheduler counts GPUs, kwok plays the kubelet; both ways."""
    api = control_plane.api()
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    assert api.create(path, deployment("model", 3)).status == 201
    assert until(lambda: running(api, namespace) == 3, within=30)
    nodes = api.get("/api/v1/nodes", labelSelector="accelerator=nvidia").body["items"]
    names = {node["metadata"]["name"] for node in nodes}
    assert {pod["spec"]["nodeName"] for pod in pods(api, namespace)} <= names
    assert api.patch(f"{path}/model/scale", {"spec": {"replicas": 1}}).status == 200
    assert until(lambda: len(pods(api, namespace)) == 1, within=30)
    assert api.patch(f"{path}/model/scale", {"spec": {"replicas": 0}}).status == 200
    assert until(lambda: pods(api, namespace) == [], within=30)


def test_more_gpus_than_a_node_has_are_not_scheduled(
    control_plane: ControlPlane, namespace: str
) -> None:
    """nvidia.com/gpu is a real resource to the scheduler."""
    api = control_plane.api()
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    api.create(path, deployment("giant", 1, gpus=9000))

    def refused() -> bool:
        return any(
            "Insufficient nvidia.com/gpu" in condition.get("message", "")
            for pod in pods(api, namespace)
            for condition in pod["status"].get("conditions", [])
        )

    assert until(refused, within=30)
    api.delete(f"{path}/giant")


def test_the_controllers_client_limits_are_the_defaults() -> None:
    """Real clusters run with 20 requests a second, so figures must be measured with them."""
    with ControlPlane(scheduler=False, kwok=False) as plain:
        pid = plain.pid("kube-controller-manager")
        flags = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    assert flags[0].endswith("kube-controller-manager")
    assert [flag for flag in flags if flag.startswith("--kube-api-")] == []


def test_everything_listens_on_loopback_only(control_plane: ControlPlane) -> None:
    """No port of the control plane is open to the network."""
    open_files = [
        str(descriptor.readlink())
        for pid in control_plane.pids()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir()
        if descriptor.is_symlink()  # some are closed while this looks
    ]
    inodes = {name[len("socket:[") : -1] for name in open_files if name.startswith("socket:[")}
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    listening = [row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes]
    assert len(listening) >= 6
    # 127.0.0.1 in the kernel's notation, as IPv4 and mapped into IPv6.
    assert set(listening) <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_a_killed_api_server_comes_back_with_its_data(own: ControlPlane) -> None:
    """Same port, same objects, same tokens."""
    api = own.api()
    body = {"metadata": {"name": "kept"}, "data": {"key": "value"}}
    assert api.create("/api/v1/namespaces/default/configmaps", body).status == 201
    before, server = set(own.pids()), own.server
    own.restart_api_server()
    assert own.server == server
    assert len(set(own.pids()) - before) == 1
    assert api.get("/api/v1/namespaces/default/configmaps/kept").body["data"] == {"key": "value"}
    assert who(own.api(own.user("bob")))["username"] == "bob"


def test_while_the_api_server_is_down_calls_fail_and_then_recover(own: ControlPlane) -> None:
    """A refused connection is an error of the transport, not an answer."""
    own.stop_api_server()
    with pytest.raises(OSError, match="refused"):
        own.api().get("/readyz")
    own.start_api_server()
    assert own.api().get("/readyz").status == 200


def test_it_is_ready_within_seconds_and_stops_without_a_trace() -> None:
    """No process and no file is left; the bound is generous, four seconds are usual."""
    started = time.monotonic()
    with ControlPlane(controller_manager_flags=QUICK) as plane:
        assert time.monotonic() - started < 30
        pids, directory = plane.pids(), plane.directory
        assert len(pids) == 5
        assert all(alive(pid) for pid in pids)
    assert [pid for pid in pids if alive(pid)] == []
    assert not directory.exists()


def test_nothing_outlives_a_killed_owner() -> None:
    """Not even when a test run is ended by SIGKILL."""
    program = """
import time
from tests.cluster.control_plane import ControlPlane
with ControlPlane() as plane:
    print(*plane.pids(), plane.directory, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        *pids, directory = owner.stdout.readline().split()
        assert len(pids) == 5
        owner.kill()
    assert until(lambda: not any(alive(int(pid)) for pid in pids))
    subprocess.run(["rm", "-r", directory], check=True)
