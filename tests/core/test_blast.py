"""The blast radius: what a plan touches beyond what was named."""

import time
from typing import Any

from killswitch.core import blast, plans
from killswitch.core.blast import Above, Around, Blast, Entrance, Owner, Tenant
from killswitch.core.inventory import Inventory, Workload
from killswitch.core.kinds import unsupported
from killswitch.core.queries import TargetQuery
from killswitch.core.resources import Resource
from tests.core.builders import BOUNDARIES, deployment, inventory, node, pod, replica_set, workload

Json = dict[str, Any]


def radius(
    held: Inventory,
    *queries: TargetQuery,
    around: Around | None = None,
    owners: dict[str, Owner] | None = None,
) -> Blast:
    """Of a plan with these targets."""
    plan = plans.for_policy(queries, held, BOUNDARIES)
    return blast.beside(blast.of(plan, held, queries, owners), plan, held, around or Around())


def named(kind: str, name: str) -> TargetQuery:
    """One workload of namespace prod."""
    return TargetQuery(kind, "prod", name)


def service(name: str, selector: Json, kind: str = "Service") -> Json:
    """A Service of namespace prod."""
    return {
        "kind": kind,
        "metadata": {"namespace": "prod", "name": name},
        "spec": {"selector": selector},
    }


def test_it_counts_what_would_stop() -> None:
    """Objects by kind, the replicas that were asked for, pods by node."""
    job = workload("train", kind="Job")
    held = inventory(
        *deployment("vllm", pods=2), job, pod("train-0", job, node="n2", gpus=4), pod("alone")
    )
    found = radius(held, TargetQuery("Namespace", "prod"))
    assert found.objects == {"Deployment": 1, "Job": 1, "Pod": 1}
    assert (found.replicas, found.pods, found.gpus) == (1, 4, 4)
    assert found.nodes == {"n1": 3, "n2": 1}


def test_of_nodes_it_counts_their_gpus() -> None:
    """The pods there are none of the stop's."""
    held = inventory(node("gpu-1", gpus=8), node("gpu-2", gpus=8))
    found = radius(held, TargetQuery("Node", name="gpu-1"))
    assert (found.objects, found.gpus, found.nodes) == ({"Node": 1}, 8, {"gpu-1": 0})


def test_what_is_above_a_named_workload_is_named() -> None:
    """More stops than was named: people must see that before."""
    top = workload("llm", kind="InferenceService")
    below = workload("llm-predictor", owner=top.uid)
    found = radius(inventory(top, below), named("Deployment", "llm-predictor"))
    assert [str(each) for each in found.above] == [
        "Deployment llm-predictor belongs to InferenceService llm: all of it stops"
    ]
    assert radius(inventory(top, below), named("InferenceService", "llm")).above == ()


def test_of_pods_the_rest_of_their_workload_is_named() -> None:
    """One canary of an image is a part of a Deployment that stops wholly."""
    owner = workload("vllm")
    child = replica_set(owner, "abc")
    pods = [pod(f"vllm-{n}", child, images=(f"vllm:{n}",)) for n in range(2)]
    held = inventory(owner, child, *pods)
    assert [each.below for each in radius(held, named("Pod", "vllm-0")).above] == ["Pod vllm-0"]
    part = radius(held, TargetQuery("Pod", "prod", image="vllm:1"))
    assert [each.below for each in part.above] == ["1 of 2 pods"]
    assert radius(held, TargetQuery("Pod", "prod", image="vllm")).above == ()


def test_an_owner_that_is_not_known_is_named_as_one_that_starts_it_again() -> None:
    """Unknown is said, in the direction of the fault: it may start what it owns."""
    held = inventory(workload("vllm", owner="engine-uid"))
    owners = {"engine-uid": Owner("Engine", "example.com", "x")}
    found = radius(held, named("Deployment", "vllm"), owners=owners)
    assert found.above == (Above("prod", "Deployment vllm", "Engine.example.com x", stopped=False),)
    assert "a release lets it start what it owns" in str(found.above[0])


def test_what_is_lost_for_good_is_said_in_the_tables_words() -> None:
    """Once for all workloads that lose the same."""
    held = inventory(*(workload(name, kind="Job") for name in ("a", "b")), workload("vllm"))
    (loss,) = radius(held, *(named("Job", name) for name in ("a", "b"))).losses
    assert (loss.names, "since their last checkpoint" in loss.lost) == (("Job a", "Job b"), True)
    assert radius(held, named("Deployment", "vllm")).losses == ()


def test_a_pod_that_nobody_owns_is_lost_itself() -> None:
    """It is made again, and is another; a static pod is not stopped by this at all."""
    held = inventory(pod("bare"), pod("static", mirror=True), *deployment("vllm"))
    (loss,) = radius(held, TargetQuery("Namespace", "prod")).losses
    assert (loss.names, "the pod itself" in loss.lost) == (("Pod bare",), True)


def test_what_has_no_state_of_rest_is_named() -> None:
    """A release lets its controller start it."""
    chart = unsupported(Resource("example.com", "v1", "charts", "Chart"))
    item = Workload(chart, "prod", "x", "chart-uid", 1, {}, "-")
    found = radius(inventory(item), TargetQuery("Chart.example.com", "prod", "x"))
    (words,) = found.restless
    assert words.startswith("Chart.example.com x: nothing is known of how it rests")


def test_kinds_that_only_newer_controllers_rest_are_named() -> None:
    """With the version."""
    found = radius(inventory(workload("s", kind="RayService")), named("RayService", "s"))
    assert found.gates == (("RayService", "KubeRay 1.7.0"),)


def test_services_are_told_apart_by_who_is_left_behind_them() -> None:
    """One that is shared goes on; one that is not answers nothing any more."""
    held = inventory(
        *_labelled("vllm", app="vllm", tier="gpu"), *_labelled("embed", app="embed", tier="gpu")
    )
    bodies = [
        service("own", {"app": "vllm"}),
        service("shared", {"tier": "gpu"}),
        service("other", {"app": "embed"}),
        service("headless", {}),
        service("pool", {"matchLabels": {"app": "vllm"}}, "InferencePool"),
    ]
    around = Around(selectors=[blast.selector(each) for each in bodies])
    found = radius(held, named("Deployment", "vllm"), around=around)
    assert found.entrances == (
        Entrance("Service", "prod", "own", 1, 1),
        Entrance("Service", "prod", "shared", 1, 2),
        Entrance("InferencePool", "prod", "pool", 1, 1),
    )
    assert [each.shared for each in found.entrances] == [False, True, False]


def test_routes_are_followed_to_the_services_that_stop() -> None:
    """Of each kind that leads traffic; and whether anything is left behind it."""
    held = inventory(*_labelled("vllm", app="vllm"), *_labelled("embed", app="embed"))
    selectors = [blast.selector(service(name, {"app": name})) for name in ("vllm", "embed")]
    bodies = [
        _route("HTTPRoute", {"hostnames": ["llm.example.com"], "rules": [
            {"backendRefs": [{"name": "vllm"}, {"name": "embed"}]}]}),
        _route("Ingress", {"defaultBackend": {"service": {"name": "embed"}}, "rules": [
            {"host": "a.example.com",
             "http": {"paths": [{"backend": {"service": {"name": "vllm"}}}]}}]}),
        _route("VirtualService", {"hosts": ["b.example.com"], "http": [
            {"route": [{"destination": {"host": "vllm.prod.svc.cluster.local"}}]}]}),
        _route("HTTPRoute", {"rules": [{"backendRefs": [{"name": "embed"}]}]}),
        _route("HTTPRoute", {"rules": [{"filters": []}]}),
    ]  # fmt: skip
    around = Around(selectors, [blast.route(each) for each in bodies])
    leads = radius(held, named("Deployment", "vllm"), around=around).leads
    assert [(lead.route.kind, lead.route.hosts, lead.through, lead.wholly) for lead in leads] == [
        ("HTTPRoute", ("llm.example.com",), ("vllm",), False),
        ("Ingress", ("a.example.com",), ("vllm",), False),
        ("VirtualService", ("b.example.com",), ("vllm",), True),
    ]


def test_models_of_the_same_server_stop_too() -> None:
    """Whoever named the server may not know of them."""
    server = workload("mlserver", kind="Server.mlops.seldon.io")
    bodies = [
        {
            "kind": "Model",
            "metadata": {"namespace": "prod", "name": name},
            "spec": {"server": where},
        }
        for name, where in (("iris", "mlserver"), ("cats", "triton"))
    ]
    found = [blast.tenant("models.mlops.seldon.io", body) for body in bodies]
    around = Around(tenants=[each for each in found if each is not None])
    tenants = radius(
        inventory(server), named("Server.mlops.seldon.io", "mlserver"), around=around
    ).tenants
    assert tenants == (Tenant("Model", "prod", "iris", ("Server.mlops.seldon.io", "mlserver")),)


def test_its_cost_grows_with_pods_and_services_not_with_their_product() -> None:
    """Printed, not asserted: it depends on the machine. Ten million comparisons would take minutes."""
    items = [each for n in range(5000) for each in _labelled(f"m{n}", app=f"m{n}")]
    held = inventory(*items)
    selectors = [blast.selector(service(f"m{n}", {"app": f"m{n}"})) for n in range(5000)]
    before = time.perf_counter()
    found = radius(held, TargetQuery("Namespace", "prod"), around=Around(selectors))
    print(f"blast radius of 5000 workloads: {(time.perf_counter() - before) * 1000:.0f} ms")
    assert (len(found.entrances), found.pods) == (5000, 5000)


def _labelled(name: str, **labels: str) -> list[Any]:
    owner = workload(name)
    child = replica_set(owner, "abc")
    return [owner, child, pod(f"{name}-0", child, labels=labels)]


def _route(kind: str, spec: Json) -> Json:
    return {"kind": kind, "metadata": {"namespace": "prod", "name": "r"}, "spec": spec}
