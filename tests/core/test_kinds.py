import pytest

from killswitch.core import kinds, projections
from killswitch.core.inventory import Child, Workload
from killswitch.core.kinds import TABLE, Kind, Setting, Verb
from killswitch.core.resources import Resource


@pytest.mark.parametrize("kind", TABLE.values(), ids=str)
def test_every_kind_is_whole(kind: Kind) -> None:
    """Its name finds it, and what its verb needs is there."""
    assert TABLE[kind.name] is kind
    assert kinds.named(kind.resource.kind, kind.resource.group) == kind.name
    assert bool(kind.settings) is (kind.verb in {Verb.SCALE, Verb.SET})
    assert len(kind.settings) == 1 or not kind.counted
    assert kind.resource.namespaced


def test_names_of_kinds() -> None:
    """A bare kind is the table's; with another group it bears it, known or not."""
    assert kinds.named("Deployment") == kinds.named("Deployment", "apps") == "Deployment"
    assert kinds.named("Service", "serving.knative.dev") == "Service.serving.knative.dev"
    assert kinds.named("Service") == "Service"  # which is no kind that can be stopped
    assert kinds.named("Deployment", "example.com") == "Deployment.example.com"
    assert kinds.named("Engine", "example.com") == "Engine.example.com"


def test_what_a_record_names_is_a_kind() -> None:
    """One of the table, or one of which only the name is known."""
    assert kinds.recorded("Job") is TABLE["Job"]
    other = kinds.recorded("Engine.example.com")
    assert (other.name, other.verb) == ("Engine.example.com", Verb.NONE)


SUSPEND = Setting(("spec", "suspend"), rest=True)


@pytest.mark.parametrize(
    ("body", "value"),
    [({}, None), ({"spec": None}, None), ({"spec": {"suspend": False}}, False)],
)
def test_absent_is_a_value(body: dict[str, object], value: object) -> None:
    """A field that is not there reads as None."""
    assert SUSPEND.read(body) is value


def test_settings_as_people_and_records_name_them() -> None:
    """Dots for people, a JSON pointer with its escapes for records."""
    (stop,) = TABLE["InferenceService"].settings
    assert str(SUSPEND) == "spec.suspend: true"
    assert stop.pointer == "/metadata/annotations/serving.kserve.io~1stop"


def test_a_patch_writes_all_settings_at_once() -> None:
    """Also two of one parent; None takes away."""
    settings = TABLE["Model.mlops.seldon.io"].settings
    found = kinds.patch((each.path, each.rest) for each in settings)
    assert found == {"spec": {"minReplicas": 0, "replicas": 0}}
    assert kinds.patch([(SUSPEND.path, None)]) == {"spec": {"suspend": None}}


def body(kind: str, spec: dict[str, object], **metadata: object) -> dict[str, object]:
    """An object of a kind."""
    own = {"name": "a", "namespace": "prod", "uid": "u", **metadata}
    return {"kind": kind, "metadata": own, "spec": spec}


def project(kind: str, spec: dict[str, object], **metadata: object) -> Workload:
    """Its projection."""
    found = projections.workload(TABLE[kind], body(kind, spec, **metadata))
    assert isinstance(found, Workload)
    return found


def test_a_stopped_daemon_set_has_not_drifted() -> None:
    """What the stop itself writes into its template is no change of it; another key is."""
    running = project("DaemonSet", {"template": {"spec": {"containers": []}}})
    key = kinds.STOPPED_KEY
    stopped = project(
        "DaemonSet", {"template": {"spec": {"containers": [], "nodeSelector": {key: "true"}}}}
    )
    assert (running.at_rest, stopped.at_rest) == (False, True)
    assert running.template_digest == stopped.template_digest
    both = {key: "true", "gpu": "a100"}
    other = project("DaemonSet", {"template": {"spec": {"containers": [], "nodeSelector": both}}})
    assert other.template_digest != running.template_digest


def test_at_rest_is_as_a_stop_leaves_it() -> None:
    """A kind with no way to rest never is; replicas that are absent are 1."""
    assert project("Job", {"suspend": True}).at_rest
    assert not project("Job", {}).at_rest
    assert not project("Deployment", {"template": {}}).at_rest
    assert project("Deployment", {"template": {}, "replicas": 0}).at_rest
    assert not project("Service.serving.knative.dev", {}).at_rest


def test_a_replica_set_with_an_owner_is_no_workload() -> None:
    """Its owner is stopped; one without is stopped itself."""
    owner = {"uid": "d", "controller": True}
    owned = projections.workload(
        TABLE["ReplicaSet"], body("ReplicaSet", {"template": {}}, ownerReferences=[owner])
    )
    assert isinstance(owned, Child)
    assert owned.owner == "d"
    assert project("ReplicaSet", {"template": {}, "replicas": 2}).replicas == 2


def test_a_job_that_has_ended_runs_nothing() -> None:
    """Complete or Failed: not a target."""
    ended = body("Job", {}) | {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    assert projections.workload(TABLE["Job"], ended) is None


def test_a_count_elsewhere_is_read_there() -> None:
    """`specReplicasPath` of a custom kind."""
    engine = Resource("example.com", "v1", "engines", "Engine")
    kind = kinds.scaled(engine, path=("spec", "pool", "size"), qualified=True)
    found = projections.workload(kind, body("Engine", {"pool": {"size": 4}}))
    assert isinstance(found, Workload)
    assert (found.replicas, found.kind.name) == (4, "Engine.example.com")
