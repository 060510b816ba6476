"""The lock on every kind of the table: at rest it stays at rest, whoever writes, however."""

from collections.abc import Callable, Iterator

import pytest

from killswitch.core import kinds
from killswitch.core.kinds import Kind, Scalar, Verb
from killswitch.core.resources import JOBS
from tests.cluster import crds
from tests.cluster.api import Answer, Api
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import (
    Json,
    approval,
    cluster_shutdown,
    cluster_shutdowns,
    deployment,
    deployments,
    pods,
)
from tests.kernel.test_lock import engage, eventually_denied
from tests.kernel.workloads import HELD, merged, owned, pod_of, resting, running, workload

pytestmark = pytest.mark.cluster
LABEL = {"metadata": {"labels": {"seen": "yes"}}}
each_kind = pytest.mark.parametrize("kind", HELD, ids=str)


@pytest.fixture(scope="module")
def served(kernel: ControlPlane) -> ControlPlane:
    """A control plane that serves every kind of the table."""
    crds.install(kernel)
    return kernel


def path(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    """Where an object of this kind is."""
    return kind.resource.path(namespace, name, subresource)


def denied(answer: Answer) -> bool:
    """By the lock."""
    return answer.status == 403 and "held down by" in answer.message


def start(kind: Kind) -> Json:
    """The merge patch that undoes a stop."""
    return kinds.patch(running(kind).items())


def rest(kind: Kind) -> Json:
    """The merge patch that brings to rest."""
    return kinds.patch(resting(kind).items())


def put(api: Api, kind: Kind, namespace: str, body: Json) -> Json:
    """Create it, and read what the API server made of it."""
    answer = api.create(path(kind, namespace), body)
    assert answer.status == 201, answer.message
    return dict(answer.body)


def ways(kind: Kind) -> dict[str, Callable[[Api, str], Answer]]:
    """How a stop could be undone on the object itself and beside it."""

    def update(api: Api, where: str) -> Answer:
        while (answer := api.update(where, merged(api.get(where).body, start(kind)))).status == 409:
            pass  # its controller has written its status meanwhile
        return answer

    def apply(api: Api, where: str) -> Answer:
        body = workload(kind, "held", running(kind))
        return api.patch(where, body, kind="apply", fieldManager="gitops", force="true")

    def without(api: Api, where: str) -> Answer:
        return api.patch(where, kinds.patch((each.path, None) for each in kind.settings))

    found: dict[str, Callable[[Api, str], Answer]] = {
        "merge patch": lambda api, where: api.patch(where, start(kind)),
        "update": update,
        "server-side apply": apply,
        "without the fields": without,
    }
    if kind.verb is Verb.SCALE:
        found["/scale"] = lambda api, where: api.patch(f"{where}/scale", {"spec": {"replicas": 3}})
    return found


@each_kind
def test_what_is_held_comes_to_rest_and_stays_there(
    served: ControlPlane, governed: str, kind: Kind
) -> None:
    """An object that lacks the fields too; its metadata stays free, and so does its neighbour."""
    api = served.api()
    for name, values in {"held": None, "bare": None, "free": resting(kind)}.items():
        put(api, kind, governed, workload(kind, name, values))
    names = {f"{kind.resource.key}/{name}": "" for name in ("held", "bare", "later")}
    engage(served, governed, locks=names)
    later = workload(kind, "later", running(kind))
    answer = eventually_denied(lambda: api.create(path(kind, governed), later, dry_run=True))
    assert denied(answer), answer.message
    assert api.create(path(kind, governed), workload(kind, "later", resting(kind))).status == 201
    held = path(kind, governed, "held")
    for change in (LABEL, rest(kind), LABEL, rest(kind)):
        answer = api.patch(held, change)
        assert answer.status == 200, answer.message
    for way, attempt in ways(kind).items():
        assert denied(attempt(api, held)), way
    assert api.patch(path(kind, governed, "bare"), LABEL).status == 200
    free = path(kind, governed, "free")
    assert api.patch(free, start(kind)).status == 200
    assert api.create(path(kind, governed), workload(kind, "new", running(kind))).status == 201


@each_kind
def test_nothing_is_made_below_what_is_held_nor_taken_from_below_it(
    served: ControlPlane, governed: str, kind: Kind
) -> None:
    """Not even at rest: a Scale tells nothing of owners, and what is new is in no lock.

    By the owner's uid or its name; only what is held by its own name too may be made again.
    """
    api, made = served.api(), path(kind, governed)
    owner = kinds.TABLE["RayService"]
    # One that is there: the garbage collector takes what a missing owner leaves.
    real = put(api, owner, governed, workload(owner, "serve", resting(owner)))["metadata"]["uid"]
    mine = [owned(owner, "serve", real)]
    below = {
        name: put(api, kind, governed, workload(kind, name, resting(kind), ownerReferences=mine))
        for name in ("child", "later")
    }
    uid = below["child"]["metadata"]["uid"]
    names = (f"uid/{real}", f"uid/{uid}", "rayclusters.ray.io/c", f"{kind.resource.key}/again")
    engage(served, governed, locks=dict.fromkeys(names, ""))

    def new(
        values: dict[tuple[str, ...], Scalar], references: list[Json], name: str = "new"
    ) -> Answer:
        body = workload(kind, name, values, ownerReferences=references)
        return api.create(made, body, dry_run=True)

    answer = eventually_denied(lambda: new(running(kind), mine))
    assert denied(answer), answer.message
    by_name = [owned(kinds.TABLE["RayCluster"], "c", "u-9")]
    for values in (running(kind), resting(kind)):
        assert denied(new(values, mine))
        assert denied(new(values, by_name))
        assert new(values, [owned(owner, "stranger", "u-2")]).status == 201
    assert denied(new(running(kind), mine, "again"))
    assert new(resting(kind), mine, "again").status == 201
    free = {"metadata": {"ownerReferences": None}}
    others = {
        "metadata": {"ownerReferences": [*mine, owned(owner, "s", "u-3") | {"controller": False}]}
    }
    for name in below:  # the one is in the lock itself, the other through its owner alone
        for change in (start(kind), free, merged(start(kind), free)):
            assert denied(api.patch(f"{made}/{name}", change, dry_run=True)), (name, change)
        for change in (LABEL, rest(kind), others):
            answer = api.patch(f"{made}/{name}", change, dry_run=True)
            assert answer.status == 200, answer.message
    if kind.verb is Verb.SCALE:
        answer = api.patch(f"{made}/child/scale", {"spec": {"replicas": 3}})
        assert denied(answer), "by its uid, which a Scale carries"


@pytest.mark.parametrize("kind", kinds.TABLE.values(), ids=str)
def test_pods_of_what_is_held_are_refused(served: ControlPlane, governed: str, kind: Kind) -> None:
    """Of every kind, known by its name alone."""
    api = served.api()
    engage(served, governed, locks={f"{kind.resource.key}/held": ""})
    if kind.verb is Verb.RECREATE:
        again = {
            "metadata": {"name": "held"},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
        answer = eventually_denied(lambda: api.create(pods(governed), again, dry_run=True))
        assert denied(answer), answer.message
        return
    held, free = (pod_of(kind, name, f"u-{name}") for name in ("held", "free"))
    answer = eventually_denied(lambda: api.create(pods(governed), held, dry_run=True))
    assert denied(answer), answer.message
    assert api.create(pods(governed), free, dry_run=True).status == 201


def test_a_kind_without_a_field_to_stop_it_is_not_made_anew(
    served: ControlPlane, governed: str
) -> None:
    """Nor any revision of it: a new one has a uid that no lock knows. Edits of it are free."""
    api, knative = served.api(), kinds.TABLE["Service.serving.knative.dev"]
    uid = put(api, knative, governed, workload(knative, "held"))["metadata"]["uid"]
    engage(served, governed, locks={f"{knative.resource.key}/held": "", f"uid/{uid}": ""})
    where = path(knative, governed)
    again = workload(knative, "held")
    answer = eventually_denied(lambda: api.create(where, again, dry_run=True))
    assert denied(answer), answer.message
    for link in kinds.LINKS:
        for name, status in {"held": 403, "free": 201}.items():
            owner = owned(knative, name, uid if name == "held" else "u-2")
            body = {
                "apiVersion": link.api_version,
                "kind": link.kind,
                "metadata": {"name": "new", "ownerReferences": [owner]},
                "spec": {},
            }
            answer = api.create(link.path(governed), body, dry_run=True)
            assert answer.status == status, answer.message
    assert api.patch(f"{where}/held", LABEL).status == 200
    assert api.patch(f"{where}/held", {"spec": {"template": {"a": "b"}}}).status == 200
    assert api.delete(f"{where}/held").status == 200
    assert denied(api.create(where, again))


def test_a_label_scope_is_of_pods_and_jobs(served: ControlPlane, governed: str) -> None:
    """Other kinds may run under it: it is their pods that it refuses. A Job is what it starts."""
    api, labels = served.api(), {"model": "m1"}
    job = kinds.TABLE["Job"]
    put(api, job, governed, workload(job, "asleep", resting(job), labels=labels))
    engage(served, governed, scope={"podLabels": labels})
    for kind in HELD:
        body = workload(kind, "copy", running(kind), labels=labels)
        attempt = path(kind, governed)
        if kind.resource.key == JOBS.key:
            answer = eventually_denied(lambda to=attempt, b=body: api.create(to, b, dry_run=True))  # type: ignore[misc]
            assert denied(answer)
        else:
            assert api.create(attempt, body, dry_run=True).status == 201, kind
    assert denied(api.patch(path(job, governed, "asleep"), start(job)))
    idle = workload(job, "idle", resting(job), labels=labels)
    assert api.create(path(job, governed), idle).status == 201


@pytest.fixture(scope="module")
def whole(served: ControlPlane) -> Iterator[str]:
    """A namespace with a resting object of every kind, which a ClusterShutdown holds as a whole."""
    name, api = "held-as-a-whole", served.api()
    body = {"metadata": {"name": name, "labels": {"killswitch.dev/governed": "true"}}}
    assert api.create("/api/v1/namespaces", body).status == 201
    for kind in HELD:
        put(api, kind, name, workload(kind, "held", resting(kind)))
    stop = cluster_shutdown(name, "admin", approvals=1, namespaces={name: ""})
    assert api.create(cluster_shutdowns(), stop).status == 201
    eventually_denied(lambda: api.create(deployments(name), deployment("d", 1), dry_run=True))
    yield name
    for role in ("test-releaser", "test-responder"):
        served.kubectl(
            "create", "clusterrolebinding", f"whole-{role}", f"--clusterrole={role}", "--user=bob"
        )
    bob = served.api(served.user("bob"))
    assert bob.patch(cluster_shutdowns(name), approval("bob")).status == 200
    off = {"metadata": {"labels": {"killswitch.dev/engaged": "false"}}}
    assert bob.patch(cluster_shutdowns(name), off).status == 200
    served.kubectl("delete", "clusterrolebinding", "whole-test-releaser", "whole-test-responder")


@each_kind
def test_a_cluster_shutdown_holds_every_kind(served: ControlPlane, whole: str, kind: Kind) -> None:
    """No object of it is started or made running there; at rest it may be made and labelled."""
    api = served.api()
    for way, attempt in ways(kind).items():
        assert denied(attempt(api, path(kind, whole, "held"))), way
    made = path(kind, whole)
    assert denied(api.create(made, workload(kind, "new", running(kind))))
    assert api.create(made, workload(kind, "new", resting(kind)), dry_run=True).status == 201
    assert api.patch(f"{made}/held", LABEL).status == 200
    assert api.patch(f"{made}/held", rest(kind)).status == 200
