"""The CRDs that stand in for those of kinds whose controllers cannot run here."""

from collections.abc import Iterator

import pytest

from killswitch.core import kinds
from killswitch.core.kinds import Verb
from killswitch.core.resources import Resource
from tests.cluster import crds
from tests.cluster.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def served() -> Iterator[ControlPlane]:
    """An API server with all of them."""
    with ControlPlane(controllers=False, scheduler=False, kwok=False) as running:
        crds.install(running)
        yield running


def test_what_a_stop_writes_is_kept_by_every_kind(served: ControlPlane) -> None:
    """Each object is accepted at rest, with each setting as it was written."""
    for kind in crds.own():
        body = kinds.patch(
            [(("metadata", "name"), "one"), *((s.path, s.rest) for s in kind.settings)]
        )
        body |= {"apiVersion": kind.resource.api_version, "kind": kind.resource.kind}
        made = served.api().create(kind.resource.path("default"), body)
        assert made.status == 201, made.message
        for setting in kind.settings:
            assert setting.read(made.body) == setting.rest, f"{kind}: {setting}"


def test_counted_kinds_scale_where_their_count_stands(served: ControlPlane) -> None:
    """Through `/scale`, as autoscalers do."""
    for kind in crds.own():
        if kind.verb is not Verb.SCALE:
            continue
        path = kind.resource.path("default", "two")
        body = kinds.patch([(("metadata", "name"), "two"), (kind.settings[0].path, 3)])
        body |= {"apiVersion": kind.resource.api_version, "kind": kind.resource.kind}
        assert served.api().create(kind.resource.path("default"), body).status == 201
        assert served.api().patch(f"{path}/scale", {"spec": {"replicas": 1}}).status == 200
        assert kind.settings[0].read(served.api().get(path).body) == 1


def test_an_older_version_drops_the_field_without_a_word(served: ControlPlane) -> None:
    """As a cluster does whose CRD is older than the field."""
    name = "RayService"
    resource = Resource("older.example.com", "v1", "rayservices", name)
    older = crds.definition(kinds.Kind(resource, Verb.SET, kinds.TABLE[name].settings), older=True)
    crds.install(served, [older])
    body: dict[str, object] = {"apiVersion": resource.api_version, "kind": name}
    body["metadata"] = {"name": "one"}
    made = served.api().create(resource.path("default"), body)
    assert made.status == 201, made.message
    after = served.api().patch(resource.path("default", "one"), {"spec": {"suspend": True}})
    assert after.status == 200
    assert "suspend" not in after.body.get("spec", {})
