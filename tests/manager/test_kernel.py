"""The kernel is compared with what is generated: one rule that is gone disarms, and says which."""

from collections.abc import AsyncIterator, Iterator

import pytest

from killswitch.core.resources import POLICIES, Resource
from killswitch.manager import kernel
from killswitch.manager.kernel import ADMISSION_POLICIES, BINDINGS
from killswitch.ports import Json
from tests.cluster.control_plane import ControlPlane
from tests.e2e.chart import Helm, of_kind
from tests.kernel.fixtures import install
from tests.manager.harness import Scene
from tests.reactor.harness import bench

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def own() -> Iterator[ControlPlane]:
    """A control plane that may be broken: the session's own is everybody's."""
    with ControlPlane(scheduler=False, kwok=False) as running:
        install(running)
        for name in ("killswitch-system", "models"):
            assert (
                running.api().create("/api/v1/namespaces", {"metadata": {"name": name}}).status
                == 201
            )
        yield running


@pytest.fixture
async def broken(own: ControlPlane) -> AsyncIterator[Scene]:
    """A scene there."""
    async with bench(own.admin.kubeconfig, "models") as ready:
        yield Scene(own, ready)


async def test_a_deleted_binding_disarms_and_is_named(broken: Scene) -> None:
    """Not only the one that the canary tries: the rules of release are gone with this one."""
    name = "killswitch-shutdowns"
    cluster = broken.bench.cluster
    async with broken.manager():
        await broken.armed_policy("good")
        saved = await cluster.get(BINDINGS, name)
        await cluster.delete(BINDINGS, name)
        message = await broken.policy_condition("good", "Armed", "False", "LockNotProven")
        told = await broken.event("KillSwitchPolicy", "good", "LockNotProven", "Warning")
        fresh = {"name": name, "labels": saved["metadata"]["labels"]}
        await cluster.create(BINDINGS, {**saved, "metadata": fresh})
        await broken.policy_condition("good", "Armed", "True", "LockProven")
    assert message.startswith(f"ValidatingAdmissionPolicyBinding {name} is missing; ")
    assert name in told
    await cluster.delete(POLICIES, "good", "models")


ALTERED: dict[str, tuple[Resource, str, Json, Json]] = {
    "a binding that only audits": (
        BINDINGS,
        "killswitch-node-lock",
        {"validationActions": ["Audit"]},
        {"validationActions": ["Deny", "Audit"]},
    ),
    "a binding narrowed to one namespace": (
        BINDINGS,
        "killswitch-shutdownrecords",
        {"matchResources": {"namespaceSelector": {"matchLabels": {"a": "b"}}}},
        {"matchResources": None},
    ),
    "a policy that lets errors pass": (
        ADMISSION_POLICIES,
        "killswitch-bypasses",
        {"failurePolicy": "Ignore"},
        {"failurePolicy": "Fail"},
    ),
}


@pytest.mark.parametrize("case", ALTERED)
async def test_what_was_altered_is_named(broken: Scene, case: str) -> None:
    """Looser by one field is enough."""
    resource, name, change, back = ALTERED[case]
    cluster = broken.bench.cluster
    await cluster.patch(resource, name, {"spec": change})
    found = await kernel.fault(cluster, "killswitch-system", ())
    await cluster.patch(resource, name, {"spec": back})
    assert found.startswith(f"{resource.kind} {name} is altered: spec.{next(iter(change))} ")
    assert not await kernel.fault(cluster, "killswitch-system", ())


def test_what_is_compared_is_what_the_chart_renders(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """In another namespace and with more protected ones: both make the same replacements."""
    protected = ["kube-system", "kube-public", "kube-node-lease", "vault", "killswitch-system"]
    helm = Helm(tmp_path_factory.mktemp("helm"))
    objects = helm.template({"protectedNamespaces": protected}, namespace="safety")
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    rendered = {(e["kind"], e["metadata"]["name"]): e["spec"] for e in of_kind(objects, *kinds)}
    compared = {
        (each["kind"], each["metadata"]["name"]): each["spec"]
        for each in kernel.expected("safety", protected)
    }
    assert rendered == compared
