import pytest

from killswitch.core import kinds
from killswitch.core.kinds import Resource


@pytest.mark.parametrize(
    ("resource", "arguments", "expected"),
    [
        (kinds.PODS, (), "/api/v1/pods"),
        (kinds.PODS, ("prod", "p"), "/api/v1/namespaces/prod/pods/p"),
        (kinds.NODES, ("ignored", "n"), "/api/v1/nodes/n"),
        (
            kinds.DEPLOYMENTS,
            ("prod", "d", "scale"),
            "/apis/apps/v1/namespaces/prod/deployments/d/scale",
        ),
        (
            kinds.SHUTDOWNS,
            ("prod", "s", "status"),
            "/apis/killswitch.dev/v1alpha1/namespaces/prod/shutdowns/s/status",
        ),
    ],
)
def test_path(resource: Resource, arguments: tuple[str, ...], expected: str) -> None:
    """Collections, objects and subresources of core, grouped and cluster-wide kinds."""
    assert expected == resource.path(*arguments)


def test_names() -> None:
    """The core group has neither a slash nor a dot."""
    assert (kinds.PODS.api_version, kinds.PODS.key) == ("v1", "pods")
    assert (kinds.DEPLOYMENTS.api_version, kinds.DEPLOYMENTS.key) == ("apps/v1", "deployments.apps")


def test_workloads_are_known_by_their_kind() -> None:
    """What a policy names is found in one table."""
    assert {"Deployment", "StatefulSet"} == set(kinds.WORKLOADS)
    assert all(kind == each.kind and each.namespaced for kind, each in kinds.WORKLOADS.items())
