"""`govern` and `stop` where the kernel is not, or only in part: nothing is promised or changed."""

from collections.abc import Iterator

import pytest

from tests.cli.conftest import Stage
from tests.cluster import kernel
from tests.cluster.control_plane import ControlPlane

_BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"


@pytest.fixture(scope="module")
def bare() -> Iterator[ControlPlane]:
    """A control plane that knows nothing of killswitch."""
    with ControlPlane(controllers=False, scheduler=False, kwok=False) as running:
        yield running


@pytest.fixture
def place(bare: ControlPlane, request: pytest.FixtureRequest) -> Stage:
    """A namespace of the test's own there."""
    name = request.node.name.replace("_", "-")[:60].rstrip("-")
    created = bare.api().create("/api/v1/namespaces", {"metadata": {"name": name}})
    assert created.status == 201
    return Stage(bare, name)


def _labelled(place: Stage) -> bool:
    body = place.control_plane.api().get(f"/api/v1/namespaces/{place.namespace}").body
    return "killswitch.dev/governed" in body["metadata"]["labels"]


def test_govern_without_the_kernel(place: Stage) -> None:
    """The label would promise a lock that does not apply."""
    done = place.raw("govern", place.namespace, by=place.control_plane.admin)
    assert (done.returncode, done.stdout, _labelled(place)) == (1, "", False)
    assert "killswitch is not installed in this cluster" in done.stderr
    assert "Next: install killswitch" in done.stderr


def test_stop_without_the_kernel(place: Stage) -> None:
    """The cure works there: break-glass. No label stays behind."""
    done = place.run("stop", "--all", "--reason", "r", by=place.control_plane.admin)
    assert (done.returncode, _labelled(place)) == (1, False)
    assert "Nothing was changed" in done.stderr
    assert f"break-glass --bare -n {place.namespace}" in done.stderr


def test_stop_of_a_node_without_the_kernel(place: Stage) -> None:
    """For a node the cure is to cordon it."""
    done = place.run("stop", "--node", "n1", "--reason", "r", by=place.control_plane.admin)
    assert (done.returncode, "kubectl cordon n1" in done.stderr) == (1, True)


def test_without_the_binding_nothing_is_labelled(place: Stage) -> None:
    """The kinds alone hold nothing. Last here: it installs them."""
    plane = place.control_plane
    kernel.apply(plane)
    for path in ("killswitch-lock", "killswitch-governing"):
        plane.api().delete(f"{_BINDINGS}/{path}")
    governed = place.raw("govern", place.namespace, by=plane.admin)
    stopped = place.run("stop", "--all", "--reason", "r", by=plane.admin)
    assert (governed.returncode, stopped.returncode, _labelled(place)) == (1, 1, False)
    assert "no binding killswitch-lock" in governed.stderr
    assert "no binding killswitch-lock" in stopped.stderr
