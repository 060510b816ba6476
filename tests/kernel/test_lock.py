"""The lock: what an engaged Shutdown denies, whoever asks, and what it leaves alone."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.api import Answer, Api
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import (
    approval,
    deployment,
    deployments,
    pod,
    pods,
    shutdown,
    shutdowns,
)

pytestmark = pytest.mark.cluster
SCALE_UP = {"spec": {"replicas": 3}}


def engage(kernel: ControlPlane, namespace: str, name: str = "stop", **spec: Any) -> None:
    """Alice stops; return when the lock is effective on this API server."""
    api = kernel.api(kernel.user("alice"))
    answer = api.create(shutdowns(namespace), shutdown(name, "alice", **spec))
    assert answer.status == 201, answer.message


def eventually_denied(attempt: Callable[[], Answer]) -> Answer:
    """The denial, which follows the Shutdown within milliseconds; attempts must be dry runs."""
    deadline = time.monotonic() + 30
    while (answer := attempt()).status < 400:
        assert time.monotonic() < deadline, "not denied"
    return answer


def eventually(attempt: Callable[[], Answer], status: int) -> Answer:
    """The answer with this status, which follows within milliseconds."""
    deadline = time.monotonic() + 30
    while (answer := attempt()).status != status:
        assert time.monotonic() < deadline, answer.message
        time.sleep(0.02)
    return answer


def past_rbac(attempt: Callable[[], Answer]) -> Answer:
    """What admission answers, once the API server has heard of the role that lets it get there."""
    deadline = time.monotonic() + 30
    while "cannot create resource" in (answer := attempt()).message:
        assert time.monotonic() < deadline, answer.message
        time.sleep(0.02)
    return answer


@pytest.fixture
def held(kernel: ControlPlane, governed: str) -> str:
    """A namespace where Deployment vllm stands at 0 and is held by Shutdown `stop`."""
    api = kernel.api()
    assert api.create(deployments(governed), deployment("vllm", 0)).status == 201
    assert api.create(deployments(governed), deployment("other", 0)).status == 201
    engage(kernel, governed)
    path = f"{deployments(governed, 'vllm')}/scale"
    eventually_denied(lambda: api.patch(path, SCALE_UP, dry_run=True))
    return governed


RAISES: dict[str, Callable[[Api, str], Answer]] = {
    "/scale": lambda api, ns: api.patch(f"{deployments(ns, 'vllm')}/scale", SCALE_UP),
    "main object": lambda api, ns: api.patch(deployments(ns, "vllm"), SCALE_UP),
    "strategic merge": lambda api, ns: api.patch(
        deployments(ns, "vllm"), SCALE_UP, kind="strategic"
    ),
    "JSON patch": lambda api, ns: api.patch(
        deployments(ns, "vllm"),
        [{"op": "replace", "path": "/spec/replicas", "value": 3}],
        kind="json",
    ),
    "server-side apply": lambda api, ns: api.patch(
        deployments(ns, "vllm"),
        deployment("vllm", 3),
        kind="apply",
        fieldManager="ci",
        force="true",
    ),
    "replicas left out, which means one": lambda api, ns: api.patch(
        deployments(ns, "vllm"), {"spec": {"replicas": None}}
    ),
}


@pytest.mark.parametrize("way", RAISES)
@pytest.mark.parametrize("person", ["admin", "alice", "mallory"])
def test_no_way_of_raising_the_replicas_passes(
    kernel: ControlPlane, held: str, way: str, person: str
) -> None:
    """Not for cluster-admin, nor for the person who engaged, nor for anybody else."""
    user = kernel.admin if person == "admin" else kernel.user(person)
    answer = RAISES[way](kernel.api(user), held)
    assert answer.status == 403
    assert (
        f"held down by Shutdown {held}/stop (it leaks); people release it:"
        f" kubectl killswitch approve stop -n {held}"
    ) in answer.message


@pytest.mark.parametrize("way", RAISES)
def test_the_same_ways_pass_for_a_neighbour(kernel: ControlPlane, held: str, way: str) -> None:
    """The denials above are the lock's, not the request's."""

    class Neighbour(Api):
        """Turns every request for vllm into one for its neighbour."""

        def request(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
            if isinstance(body, dict) and "metadata" in body:
                body = deployment("other", 3)
            return super().request(method, path.replace("/vllm", "/other"), body, **more)

    api = Neighbour(kernel.server, kernel.ca_file, kernel.admin.token)
    answer = RAISES[way](api, held)
    api.close()
    assert answer.status == 200, answer.message


def test_lowering_is_always_allowed(kernel: ControlPlane, governed: str) -> None:
    """To 0 with the field absent too, as a Scale of 0 replicas leaves it out."""
    api = kernel.api()
    api.create(deployments(governed), deployment("vllm", 3))
    engage(kernel, governed)
    path = f"{deployments(governed, 'vllm')}/scale"
    eventually_denied(lambda: api.patch(path, {"spec": {"replicas": 9}}, dry_run=True))
    assert api.patch(path, {"spec": {"replicas": 1}}).status == 200
    assert api.patch(path, {"spec": {"replicas": 0}}).status == 200


def test_a_controllers_service_account_is_denied_like_a_person(
    kernel: ControlPlane, held: str
) -> None:
    """An HPA, KEDA or GitOps controller writes with a token like this one."""
    account = kernel.service_account(held, "autoscaler")
    kernel.kubectl(
        "create", "rolebinding", "autoscaler", "--clusterrole=test-responder",
        f"--serviceaccount={held}:autoscaler", f"--namespace={held}",
    )  # fmt: skip
    api = kernel.api(account)
    answer = api.patch(f"{deployments(held, 'vllm')}/scale", SCALE_UP)
    assert (answer.status, "held down by" in answer.message) == (403, True)
    assert api.patch(f"{deployments(held, 'other')}/scale", SCALE_UP).status == 200


def test_a_template_edit_brings_no_pod(kernel: ControlPlane, governed: str) -> None:
    """A new ReplicaSet of a held Deployment is refused, so its pods never appear."""
    api = kernel.api()
    created = api.create(deployments(governed), deployment("vllm", 2)).body
    sets = f"/apis/apps/v1/namespaces/{governed}/replicasets"
    deadline = time.monotonic() + 30
    while not api.get(sets).body["items"]:
        assert time.monotonic() < deadline, "no ReplicaSet appeared"
        time.sleep(0.05)
    lock = {"deployments.apps/vllm": "", f"uid/{created['metadata']['uid']}": ""}
    engage(kernel, governed, locks=lock)
    path = f"{deployments(governed, 'vllm')}/scale"
    eventually_denied(lambda: api.patch(path, {"spec": {"replicas": 9}}, dry_run=True))
    kernel.kubectl("set", "image", "deployment/vllm", "c=new", "-n", governed)
    events = f"/api/v1/namespaces/{governed}/events"
    deadline = time.monotonic() + 30
    while not [e for e in api.get(events).body["items"] if e["reason"] == "ReplicaSetCreateError"]:
        assert time.monotonic() < deadline, "the controller was not refused"
        time.sleep(0.1)
    found = api.get(sets).body["items"]
    images = [each["spec"]["template"]["spec"]["containers"][0]["image"] for each in found]
    assert images == ["i"]


@pytest.mark.parametrize(
    ("owner", "labels"),
    [
        pytest.param({"kind": "ReplicaSet", "name": "x", "uid": "u-1"}, {}, id="by owner uid"),
        pytest.param(
            {"kind": "ReplicaSet", "name": "vllm-5d44c", "uid": "u-9"},
            {"pod-template-hash": "5d44c"},
            id="by the Deployment's name",
        ),
        pytest.param(
            {"kind": "StatefulSet", "name": "db", "uid": "u-9"}, {}, id="by the StatefulSet's name"
        ),
    ],
)
def test_pods_of_what_is_held_are_refused(
    kernel: ControlPlane, governed: str, owner: dict[str, str], labels: dict[str, str]
) -> None:
    """Whether the lock knows the owner's uid or only the workload's name."""
    locks = {"uid/u-1": "", "deployments.apps/vllm": "", "statefulsets.apps/db": ""}
    engage(kernel, governed, locks=locks)
    api = kernel.api()
    body = pod("p", labels, owner)
    answer = eventually_denied(lambda: api.create(pods(governed), body, dry_run=True))
    assert "held down by" in answer.message
    stranger = pod("p", labels, {**owner, "name": "else-5d44c", "uid": "u-2"})
    assert api.create(pods(governed), stranger, dry_run=True).status == 201


def test_a_label_scope_refuses_copies_under_another_name(
    kernel: ControlPlane, governed: str
) -> None:
    """Pods with the labels are refused whoever owns them; others pass."""
    engage(kernel, governed, scope={"podLabels": {"model": "m1"}})
    api = kernel.api()
    copy = pod("copy", {"model": "m1", "app": "innocent"})
    eventually_denied(lambda: api.create(pods(governed), copy, dry_run=True))
    assert api.create(pods(governed), pod("p", {"model": "m2"}), dry_run=True).status == 201


def test_a_whole_namespace_scope_refuses_everything_there_and_nothing_elsewhere(
    kernel: ControlPlane, governed: str
) -> None:
    """Pods, new Deployments and raises there; nothing in another namespace."""
    api = kernel.api()
    api.create(deployments(governed), deployment("vllm", 0))
    engage(kernel, governed, scope={"wholeNamespace": True})
    eventually_denied(lambda: api.create(pods(governed), pod("p"), dry_run=True))
    assert api.create(deployments(governed), deployment("new"), dry_run=True).status == 403
    assert api.patch(f"{deployments(governed, 'vllm')}/scale", SCALE_UP).status == 403
    assert api.create(pods("default"), pod("p"), dry_run=True).status == 201


def test_release_lets_go(kernel: ControlPlane, held: str) -> None:
    """After the last approval the same request passes, and nothing has started by itself."""
    api = kernel.api()
    path = f"{deployments(held, 'vllm')}/scale"
    for person in ("bob", "carol"):
        assert api.patch(path, SCALE_UP).status == 403
        answer = kernel.api(kernel.user(person)).patch(shutdowns(held, "stop"), approval(person))
        assert answer.status == 200, answer.message
    assert api.get(path).body["spec"].get("replicas", 0) == 0
    deadline = time.monotonic() + 30
    while (answer := api.patch(path, SCALE_UP)).status != 200:
        assert time.monotonic() < deadline, answer.message


def test_two_shutdowns_on_one_target_must_both_be_released(kernel: ControlPlane, held: str) -> None:
    """Either alone still holds."""
    engage(kernel, held, "second", approvals=1)
    path = f"{deployments(held, 'vllm')}/scale"
    bob, carol = kernel.api(kernel.user("bob")), kernel.api(kernel.user("carol"))
    assert bob.patch(shutdowns(held, "second"), approval("bob")).status == 200
    assert kernel.api().patch(path, SCALE_UP).status == 403
    assert bob.patch(shutdowns(held, "stop"), approval("bob")).status == 200
    assert kernel.api().patch(path, SCALE_UP).status == 403
    assert carol.patch(shutdowns(held, "stop"), approval("carol")).status == 200
    deadline = time.monotonic() + 30
    while kernel.api().patch(path, SCALE_UP).status != 200:
        assert time.monotonic() < deadline


def test_a_released_shutdown_costs_nothing_and_locks_nothing(
    kernel: ControlPlane, governed: str
) -> None:
    """With the label off it is no parameter any more."""
    engage(kernel, governed, approvals=1, scope={"wholeNamespace": True})
    bob = kernel.api(kernel.user("bob"))
    assert bob.patch(shutdowns(governed, "stop"), approval("bob")).status == 200
    off = {"metadata": {"labels": {"killswitch.dev/engaged": "false"}}}
    assert bob.patch(shutdowns(governed, "stop"), off).status == 200
    assert kernel.api().create(pods(governed), pod("p"), dry_run=True).status == 201
