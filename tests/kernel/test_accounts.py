"""The operator's own accounts: which field of what they may write, and where."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from killswitch.core import fighters, kinds
from killswitch.core.fighters import Fighter
from killswitch.core.kinds import Kind, Setting, Verb
from killswitch.core.resources import INFERENCE_POOLS, SERVICES, Resource
from tests.cluster import crds
from tests.cluster.api import Answer, Api
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import (
    Json,
    approval,
    deployment,
    deployments,
    pod,
    pods,
    shutdown,
    shutdowns,
)
from tests.kernel.workloads import HELD, merged, resting, running, workload

pytestmark = pytest.mark.cluster
Way = tuple[Setting, ...]
OPERATOR = "killswitch-system"


@pytest.fixture(scope="module")
def accounts(kernel: ControlPlane) -> Iterator[ControlPlane]:
    """The operator's two accounts with more RBAC than they ever get: only admission bounds them.

    Every kind of the table is served.
    """
    crds.install(kernel)
    kernel.api().create("/api/v1/namespaces", {"metadata": {"name": OPERATOR}})
    for name in ("killswitch-reactor", "killswitch-manager"):
        kernel.service_account(OPERATOR, name)
        kernel.kubectl(
            "create", "clusterrolebinding", f"unbounded-{name}", "--clusterrole=cluster-admin",
            f"--serviceaccount={OPERATOR}:{name}",
        )  # fmt: skip
    yield kernel
    bindings = ("unbounded-killswitch-reactor", "unbounded-killswitch-manager")
    kernel.kubectl("delete", "clusterrolebinding", *bindings)


@pytest.mark.parametrize("account", ["killswitch-reactor", "killswitch-manager"])
def test_the_operator_deletes_pods_and_scales_in_governed_namespaces_only(
    accounts: ControlPlane, governed: str, account: str
) -> None:
    """One by one and as a collection; what is refused elsewhere passes here."""
    admin, operator = (
        accounts.api(),
        accounts.api(accounts.service_account(OPERATOR, account)),
    )
    other = f"wild-{account}-{governed}"
    admin.create("/api/v1/namespaces", {"metadata": {"name": other}})
    for place in (governed, other):
        body = pod("p")
        body["spec"]["schedulerName"] = "nobody"
        deadline = time.monotonic() + 10
        while admin.create(pods(place), body).status != 201:  # its service account comes first
            assert time.monotonic() < deadline
            time.sleep(0.05)
        admin.create(deployments(place), deployment("d", 2))
    lower = {"spec": {"replicas": 0}}
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "p", "namespace": other},
    }
    for answer in (
        operator.delete(pods(other, "p")),
        operator.delete(pods(other)),
        operator.create(f"{pods(other, 'p')}/eviction", eviction),
        operator.patch(f"{deployments(other, 'd')}/scale", lower),
        operator.patch(deployments(other, "d"), lower),
    ):
        assert answer.status == 403, answer
        assert "the operator acts in governed namespaces only" in answer.message
    assert operator.delete(pods(governed, "p")).status == 200
    assert operator.patch(f"{deployments(governed, 'd')}/scale", lower).status == 200


def test_the_reactor_only_lowers_and_the_manager_may_raise(
    accounts: ControlPlane, governed: str
) -> None:
    """A dry-run raise is how the reactor proves the lock, so that passes."""
    accounts.api().create(deployments(governed), deployment("d", 1))
    path, more = f"{deployments(governed, 'd')}/scale", {"spec": {"replicas": 2}}
    reactor = accounts.api(accounts.service_account(OPERATOR, "killswitch-reactor"))
    for way in (path, deployments(governed, "d")):
        answer = reactor.patch(way, more)
        assert (answer.status, "the reactor only lowers" in answer.message) == (403, True)
    assert reactor.patch(path, more, dry_run=True).status == 200
    manager = accounts.api(accounts.service_account(OPERATOR, "killswitch-manager"))
    assert manager.patch(path, more).status == 200


def test_the_operator_cannot_release_even_as_cluster_admin(
    accounts: ControlPlane, governed: str
) -> None:
    """Approvers are people: no right makes a service account one."""
    body = shutdown("stop", "admin", approvals=1)
    accounts.api().create(shutdowns(governed), body)
    for account in ("killswitch-reactor", "killswitch-manager"):
        operator = accounts.api(accounts.service_account(OPERATOR, account))
        name = f"system:serviceaccount:{OPERATOR}:{account}"
        answer = operator.patch(shutdowns(governed, "stop"), approval(name))
        assert (answer.status, "approvers are people" in answer.message) == (403, True)


@pytest.fixture
def reactor(accounts: ControlPlane) -> Api:
    """The API as the reactor's account."""
    return accounts.api(accounts.service_account(OPERATOR, "killswitch-reactor"))


@pytest.fixture
def manager(accounts: ControlPlane) -> Api:
    """The API as the manager's account."""
    return accounts.api(accounts.service_account(OPERATOR, "killswitch-manager"))


def refused(answer: Answer, words: str) -> bool:
    """By an admission policy that says so."""
    return answer.status == 403 and words in answer.message


ELSE: dict[str, Json] = {
    "a label": {"metadata": {"labels": {"seen": "yes"}}},
    "an annotation": {"metadata": {"annotations": {"seen": "yes"}}},
    "an annotation taken off": {"metadata": {"annotations": {"team": None}}},
    "a finalizer": {"metadata": {"finalizers": ["example.com/mine"]}},
    "an owner": {
        "metadata": {
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]
        }
    },
}
"""What a stop writes on no object."""
INSIDE: dict[str, Json] = {
    "Deployment": {"spec": {"minReadySeconds": 5}},
    "StatefulSet": {"spec": {"minReadySeconds": 5}},
    "ReplicaSet": {"spec": {"minReadySeconds": 5}},
    "ReplicationController": {"spec": {"minReadySeconds": 5}},
    "DaemonSet": {"spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}},
    "Job": {"spec": {"backoffLimit": 1}},
    "CronJob": {"spec": {"schedule": "* * * * *"}},
    "VLLMRuntime": {"spec": {"model": {"modelURL": "other"}}},
}
"""A field beside those that a stop writes; of other kinds the one of their CRD."""


def _inside(kind: Kind) -> Json:
    own = crds.definition(kind)["spec"]["versions"][0]["schema"] if kind.name not in INSIDE else {}
    if not own:
        return INSIDE[kind.name]
    fields = own["openAPIV3Schema"]["properties"]["spec"]["properties"]
    free = next(each for each in fields if ("spec", each) not in resting(kind))
    return {"spec": {free: {"other": "value"}}}


@pytest.mark.parametrize("kind", HELD, ids=str)
def test_of_a_workload_the_operator_changes_what_rests_it_and_no_more(
    accounts: ControlPlane, governed: str, reactor: Api, manager: Api, kind: Kind
) -> None:
    """The reactor to rest, the manager back; nothing beside it, nor with it, nor elsewhere."""
    admin = accounts.api()
    where = kind.resource.path(governed, "w")
    body = workload(kind, "w", running(kind))
    assert admin.create(kind.resource.path(governed), body).status == 201
    rest, start = (kinds.patch(each(kind).items()) for each in (resting, running))
    for name, change in {**ELSE, "a field": _inside(kind)}.items():
        for api in (reactor, manager):
            for more in ({}, rest):
                answer = api.patch(where, merged(merged({}, more), change))
                assert refused(answer, "changes nothing of a workload but"), (name, answer)
            assert api.patch(where, change, dry_run=True).status == 200, name
    assert reactor.patch(where, rest).status == 200
    assert refused(reactor.patch(where, start), "the reactor only lowers")
    assert manager.patch(where, start).status == 200
    other = f"wild-{governed}"
    admin.create("/api/v1/namespaces", {"metadata": {"name": other}})
    assert admin.create(kind.resource.path(other), body).status == 201
    for api in (reactor, manager):
        answer = api.patch(kind.resource.path(other, "w"), rest)
        assert refused(answer, "governed namespaces only"), answer


@pytest.mark.parametrize("name", ["CronJob", "InferenceService"])
def test_even_the_largest_object_is_compared(
    accounts: ControlPlane, governed: str, reactor: Api, name: str
) -> None:
    """In many small parts it still fits CEL's budget, and comes to rest."""
    kind = kinds.TABLE[name]
    body = workload(kind, "w", running(kind))
    body["metadata"]["annotations"] = {f"key-{number}": "v" * 50 for number in range(1500)}
    body["metadata"]["labels"] = {f"key-{number}": "v" for number in range(1500)}
    many = [{"name": f"E{number}", "value": "v" * 50} for number in range(5000)]
    if name == "InferenceService":
        body["spec"]["predictor"] = {"model": {"env": many}}
    else:
        template = body["spec"]["jobTemplate"]["spec"]["template"]
        template["spec"]["containers"][0]["env"] = many
    answer = accounts.api().create(kind.resource.path(governed), body)
    assert answer.status == 201, answer.message
    answer = reactor.patch(kind.resource.path(governed, "w"), kinds.patch(resting(kind).items()))
    assert answer.status == 200, answer.message


def test_the_reactor_writes_no_other_value_than_rest(
    accounts: ControlPlane, governed: str, reactor: Api
) -> None:
    """Not even on what runs already."""
    admin = accounts.api()
    for name, values in {
        "Model.mlops.seldon.io": {"replicas": 9},
        "LocalQueue": {"stopPolicy": "Hold"},
        "Sandbox": {"operatingMode": "Fast"},
    }.items():
        kind = kinds.TABLE[name]
        body = workload(kind, "w", running(kind))
        assert admin.create(kind.resource.path(governed), body).status == 201
        answer = reactor.patch(kind.resource.path(governed, "w"), {"spec": values})
        assert refused(answer, "changes nothing of a workload but"), answer


@pytest.mark.parametrize("kind", [k for k in HELD if k.verb is Verb.SCALE], ids=str)
def test_the_reactor_lowers_every_scale_and_raises_none(
    accounts: ControlPlane, governed: str, reactor: Api, manager: Api, kind: Kind
) -> None:
    """Custom kinds alike."""
    where = kind.resource.path(governed, "w")
    body = workload(kind, "w", running(kind))
    assert accounts.api().create(kind.resource.path(governed), body).status == 201
    for count, status in {2: 200, 3: 403, 0: 200}.items():
        answer = reactor.patch(f"{where}/scale", {"spec": {"replicas": count}})
        assert answer.status == status, answer.message
    assert manager.patch(f"{where}/scale", {"spec": {"replicas": 3}}).status == 200


def _service(name: str, selector: dict[str, str] | None) -> Json:
    spec: Json = {"ports": [{"port": 80}]}
    if selector is not None:
        spec["selector"] = selector
    return {"metadata": {"name": name, "annotations": {"team": "a"}}, "spec": spec}


def _pool(name: str, selector: dict[str, str] | None) -> Json:
    return {
        "apiVersion": INFERENCE_POOLS.api_version,
        "kind": INFERENCE_POOLS.kind,
        "metadata": {"name": name, "annotations": {"team": "a"}},
        "spec": {"selector": {"matchLabels": selector or {}}, "targetPorts": [{"number": 80}]},
    }


def _cut(resource: Resource, value: str | None, **more: Any) -> Json:
    keys = {"killswitch.dev/cut": value, **more}
    return {"spec": {"selector": keys if resource == SERVICES else {"matchLabels": keys}}}


@pytest.mark.parametrize("resource", [SERVICES, INFERENCE_POOLS], ids=lambda each: each.kind)
def test_the_reactor_cuts_traffic_and_the_manager_gives_it_back(
    accounts: ControlPlane, governed: str, reactor: Api, manager: Api, resource: Resource
) -> None:
    """One key of the selector, in governed namespaces, and nothing else of the object."""
    admin, where = accounts.api(), resource.path(governed, "s")
    make = _service if resource == SERVICES else _pool
    for name, selector in (("s", {"app": "vllm"}), ("manual", None)):
        answer = admin.create(resource.path(governed), make(name, selector))
        assert answer.status == 201, answer.message
    words = f"of a {resource.kind} the reactor sets"
    assert refused(manager.patch(where, _cut(resource, "u1")), words)
    assert reactor.patch(where, _cut(resource, "u1")).status == 200
    assert reactor.patch(where, _cut(resource, "u1")).status == 200  # another replica helps
    ports: Json = {"type": "NodePort"} if resource == SERVICES else {"targetPorts": []}
    for change in (
        _cut(resource, "u2"),
        _cut(resource, None),
        _cut(resource, "u1", app="other"),
        {"spec": ports},
        *ELSE.values(),
    ):
        assert refused(reactor.patch(where, change), words), change
    for change in (_cut(resource, None, app="other"), {"metadata": {"labels": {"a": "b"}}}):
        assert refused(manager.patch(where, change), words), change
    assert manager.patch(where, _cut(resource, None)).status == 200
    assert refused(reactor.patch(resource.path(governed, "manual"), _cut(resource, "u")), words)
    other = f"wild-{governed}"
    admin.create("/api/v1/namespaces", {"metadata": {"name": other}})
    assert admin.create(resource.path(other), make("s", {"app": "vllm"})).status == 201
    answer = reactor.patch(resource.path(other, "s"), _cut(resource, "u1"))
    assert refused(answer, "governed namespaces only"), answer


WAYS = [(each, way) for each in fighters.TABLE for way in each.ways]


def _fighter(fighter: Fighter) -> Json:
    resource = fighter.resource
    assert resource is not None
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": "f", "annotations": {"team": "a"}},
        "spec": {"source": {"path": "a"}, "syncPolicy": {"automated": {"prune": True}}},
    }


@pytest.mark.parametrize(("fighter", "way"), WAYS, ids=[f"{each}: {way[0]}" for each, way in WAYS])
def test_the_manager_pauses_who_fights_and_changes_no_more(
    accounts: ControlPlane, governed: str, fighter: Fighter, way: Way
) -> None:
    """Wherever it stands; the reactor touches none."""
    reactor, manager = (
        accounts.api(accounts.service_account(OPERATOR, f"killswitch-{each}"))
        for each in ("reactor", "manager")
    )
    admin, resource, body = accounts.api(), fighter.resource, _fighter(fighter)
    assert resource is not None
    where = resource.path(f"wild-{governed}", "f")
    admin.create("/api/v1/namespaces", {"metadata": {"name": f"wild-{governed}"}})
    assert admin.create(resource.path(f"wild-{governed}"), body).status == 201
    pause = kinds.patch((each.path, each.rest) for each in way)
    assert refused(reactor.patch(where, pause), "the reactor pauses nobody")
    assert reactor.patch(where, pause, dry_run=True).status == 200
    assert manager.patch(where, pause).status == 200
    for change in (
        *ELSE.values(),
        {"spec": {"source": {"path": "b"}}},
        {"spec": {"syncPolicy": {"retry": {"limit": 9}}}},
    ):
        answer = manager.patch(where, change)
        assert refused(answer, "the manager changes nothing but"), (change, answer)
    back = kinds.patch((each.path, each.read(body)) for each in way)
    if any(each.rest is None for each in way):
        back = {"spec": {"syncPolicy": {"automated": {"prune": True}}}}
    assert manager.patch(where, back).status == 200


def test_the_manager_rewrites_no_automated_sync_of_argo_cd(
    accounts: ControlPlane, governed: str, manager: Api
) -> None:
    """It switches it off and on, or takes it away and puts it back; how it prunes is not its to say."""
    assert fighters.ARGO_CD.resource is not None
    where = fighters.ARGO_CD.resource.path(governed)
    assert accounts.api().create(where, _fighter(fighters.ARGO_CD)).status == 201
    for automated in ({"prune": False}, {"prune": None, "enabled": False}, {"selfHeal": True}):
        change = {"spec": {"syncPolicy": {"automated": automated}}}
        answer = manager.patch(f"{where}/f", change)
        assert refused(answer, "the manager changes nothing but"), answer


def test_the_manager_starts_no_sync_of_argo_cd(
    accounts: ControlPlane, governed: str, manager: Api
) -> None:
    """That is a field beside `spec`: who may set it deploys with Argo CD's own rights."""
    resource = fighters.ARGO_CD.resource
    assert resource is not None
    definition = crds.open_definition(resource)
    version = definition["spec"]["versions"][0]
    whole = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version["schema"]["openAPIV3Schema"]["properties"]["operation"] = whole
    crds.install(accounts, [definition])
    body: Json = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": "f"},
        "spec": {"source": {}},
        "operation": {"sync": {}},
    }
    admin, where = accounts.api(), resource.path(governed)
    deadline = time.monotonic() + 20
    while "operation" not in admin.create(where, body, dry_run=True).body:
        assert time.monotonic() < deadline, "the field is not served"
        time.sleep(0.1)
    del body["operation"]
    assert admin.create(where, body).status == 201
    answer = manager.patch(f"{where}/f", {"operation": {"sync": {"revision": "main"}}})
    assert refused(answer, "the manager changes nothing but"), answer


def test_the_manager_makes_bare_pods_in_governed_namespaces(
    accounts: ControlPlane, governed: str, reactor: Api, manager: Api
) -> None:
    """As the restore makes them: without an owner and a node. The reactor makes none."""
    other = f"wild-{governed}"
    accounts.api().create("/api/v1/namespaces", {"metadata": {"name": other}})
    deadline = time.monotonic() + 10
    for place in (governed, other):
        while accounts.api().create(pods(place), pod("p"), dry_run=True).status != 201:
            assert time.monotonic() < deadline, "no service account"
            time.sleep(0.05)
    assert refused(manager.create(pods(other), pod("p")), "governed namespaces only")
    placed = pod("p")
    placed["spec"]["nodeName"] = "gpu-0"
    mine = pod("p", owner={"kind": "ReplicaSet", "name": "r", "uid": "u"})
    for body in (placed, mine):
        assert refused(manager.create(pods(governed), body), "the operator creates no pod but")
    assert refused(reactor.create(pods(governed), pod("p")), "the operator creates no pod but")
    assert reactor.create(pods(other), pod("p"), dry_run=True).status == 201
    assert manager.create(pods(governed), pod("p")).status == 201


STOPPED = {"key": "killswitch.dev/stopped", "value": "s", "effect": "NoExecute"}
KEPT = {"key": "killswitch.dev/quarantine", "value": "s", "effect": "NoSchedule"}
THEIRS = {"key": "example.com/gpu", "effect": "NoSchedule"}
FENCE = "killswitch.dev/fence-requested"


def _node(*taints: Json, label: str | None = "true", fence: str | None = None) -> Json:
    return {
        "metadata": {"labels": {"killswitch.dev/governed": label}, "annotations": {FENCE: fence}},
        "spec": {"unschedulable": label == "true" or None, "taints": list(taints)},
    }


@pytest.fixture
def node(accounts: ControlPlane) -> str:
    """The path of a node that somebody tainted."""
    (name,) = accounts.add_gpu_nodes(1, prefix=f"account-{time.monotonic_ns()}")
    path = f"/api/v1/nodes/{name}"
    assert accounts.api().patch(path, {"spec": {"taints": [THEIRS]}}).status == 200
    return path


def test_the_reactor_stops_a_node_and_the_manager_undoes_it(
    node: str, reactor: Api, manager: Api
) -> None:
    """Cordon, taints and the wish for a fence come by the one and go by the other."""
    for change in (_node(THEIRS), _node(THEIRS, STOPPED), _node(THEIRS, STOPPED, KEPT, fence="s")):
        answer = reactor.patch(node, change)
        assert answer.status == 200, answer.message
    for change in (
        _node(THEIRS, STOPPED, fence="s"),
        _node(THEIRS, STOPPED, KEPT),
        _node(THEIRS, STOPPED, KEPT, label=None, fence="s"),
    ):
        assert refused(reactor.patch(node, change), "undoes none of it"), change
        assert reactor.patch(node, change, dry_run=True).status == 200
    assert manager.patch(node, _node(THEIRS, label=None)).status == 200
    for change in (_node(THEIRS, STOPPED, label=None), _node(THEIRS, label=None, fence="s")):
        assert refused(manager.patch(node, change), "adds nothing"), change


@pytest.mark.parametrize(
    "change",
    [
        _node(),
        _node(THEIRS, {"key": "example.com/other", "effect": "NoExecute"}),
        {"metadata": {"annotations": {"other": "x"}}, "spec": {"unschedulable": True}},
        {"metadata": {"labels": {"other": "x"}}, "spec": {"unschedulable": True}},
        {"metadata": {"finalizers": ["example.com/mine"]}, "spec": {"unschedulable": True}},
        {"spec": {"unschedulable": True, "providerID": "other://x"}},
    ],
)
def test_nothing_else_of_a_node_is_the_operators(
    node: str, reactor: Api, manager: Api, change: Json
) -> None:
    """Nor the taints of others."""
    for api in (reactor, manager):
        answer = api.patch(node, change)
        assert answer.status == 403, answer
