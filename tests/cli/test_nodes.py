"""Nodes by hand: what a person may do with them, what is planned, and what is said of it."""

import time
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Stage
from tests.cluster.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


@pytest.fixture
def node(kernel: ControlPlane, stage: Stage) -> Iterator[str]:
    """A node of this test alone with a pod of the governed namespace on it."""
    kernel.api().create("/api/v1/namespaces", {"metadata": {"name": "killswitch-system"}})
    stage.govern()
    (name,) = kernel.add_gpu_nodes(1, gpus=2, prefix=f"cli-{stage.namespace}")
    limits = {"nvidia.com/gpu": "2"}
    container = {"name": "c", "image": "i", "resources": {"limits": limits}}
    body = {
        "metadata": {"name": "model"},
        "spec": {"nodeName": name, "containers": [container]},
    }
    path = f"/api/v1/namespaces/{stage.namespace}/pods"
    deadline = time.monotonic() + 20
    while kernel.api().create(path, body).status != 201:  # its service account comes first
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield name
    kernel.api().delete(f"{path}/model")


def test_a_plan_of_a_drain_shows_the_pods_that_go(stage: Stage, node: str) -> None:
    """And a cordon shows none: what runs there runs on."""
    admin = stage.control_plane.admin
    drain = stage.raw("plan", "--node", node, "--action", "drain", by=admin)
    assert drain.returncode == 0, drain.stderr
    assert f"Stop node/{node}: 1 node with 1 pod and 2 GPUs" in drain.stdout
    cordon = stage.raw("plan", "--node", node, by=admin)
    assert f"Stop node/{node}: 1 node\n" in cordon.stdout


def test_gpus_that_nobody_uses_are_no_part_of_the_headline(stage: Stage, node: str) -> None:
    """The table has those of the node; what stops is pods without any."""
    admin = stage.control_plane.admin
    pods = f"/api/v1/namespaces/{stage.namespace}/pods"
    api = stage.control_plane.api()
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
    assert api.create(pods, {"metadata": {"name": "plain"}, "spec": spec}).status == 201
    assert api.delete(f"{pods}/model?gracePeriodSeconds=0").status == 200
    try:
        drain = stage.raw("plan", "--node", node, "--action", "drain", by=admin)
        assert f"Stop node/{node}: 1 node with 1 pod\n" in drain.stdout
    finally:
        api.delete(f"{pods}/plain")


SAID = {
    "drain": "cordoned and held",
    "taint": "tainted and held",
    "quarantine": "cordoned, tainted and held",
}
LEFT = {"drain": [], "taint": [], "quarantine": ["model"]}
EFFECTS = {
    "drain": [],
    "taint": [("killswitch.dev/stopped", "NoExecute")],
    "quarantine": [("killswitch.dev/quarantine", "NoSchedule")],
}


@pytest.mark.parametrize("action", SAID)
def test_a_person_stops_a_node_by_each_action(stage: Stage, node: str, action: str) -> None:
    """With no operator running: lock, write, look until nothing is left that had to go."""
    admin = stage.control_plane.admin
    arguments = ("--node", node, "--action", action, "--reason", "r", "--deadline", "30s")
    done = stage.raw("stop", *arguments, by=admin)
    assert done.returncode == 0, done.stdout + done.stderr
    assert SAID[action] in done.stdout
    assert done.stdout.count("  scaled ") == 1, done.stdout
    assert stage.pods() == LEFT[action]
    spec = stage.control_plane.api().get(f"/api/v1/nodes/{node}").body["spec"]
    taints = [
        (each["key"], each["effect"])
        for each in spec.get("taints", ())
        if each["key"].startswith("killswitch.dev/")
    ]
    assert (spec["unschedulable"], taints) == (True, EFFECTS[action])


def test_an_action_without_a_node_is_wrong_usage(stage: Stage) -> None:
    """Exit 2, with the cure."""
    done = stage.run("stop", "--all", "--action", "drain", "--reason", "r")
    assert done.returncode == 2
    assert "--action is about nodes" in done.stderr
