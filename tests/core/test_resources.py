import pytest

from killswitch.core import resources
from killswitch.core.resources import Resource


@pytest.mark.parametrize(
    ("resource", "arguments", "expected"),
    [
        (resources.PODS, (), "/api/v1/pods"),
        (resources.PODS, ("prod", "p"), "/api/v1/namespaces/prod/pods/p"),
        (resources.NODES, ("ignored", "n"), "/api/v1/nodes/n"),
        (
            resources.DEPLOYMENTS,
            ("prod", "d", "scale"),
            "/apis/apps/v1/namespaces/prod/deployments/d/scale",
        ),
        (
            resources.SHUTDOWNS,
            ("prod", "s", "status"),
            "/apis/killswitch.dev/v1alpha1/namespaces/prod/shutdowns/s/status",
        ),
    ],
)
def test_path(resource: Resource, arguments: tuple[str, ...], expected: str) -> None:
    """Collections, objects and subresources of core, grouped and cluster-wide resources."""
    assert expected == resource.path(*arguments)


def test_names() -> None:
    """The core group has neither a slash nor a dot."""
    assert (resources.PODS.api_version, resources.PODS.key) == ("v1", "pods")
    assert (resources.DEPLOYMENTS.api_version, resources.DEPLOYMENTS.key) == (
        "apps/v1",
        "deployments.apps",
    )
