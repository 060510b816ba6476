"""Records as they are written: bounded, and as their schema has them."""

import json

from killswitch.api import recording
from killswitch.api.recording import Touched
from killswitch.api.records import ShutdownRecordSpec
from killswitch.core.manifests import BarePod
from tests.core.builders import pod, workload


def test_no_record_grows_beyond_what_etcd_takes() -> None:
    """Manifests of bare pods count with their quotes escaped; all is there once, in its order."""
    bare = [BarePod(pod(f"p{number}"), '{"a":"b"}' * 7000) for number in range(60)]
    counted = [workload(f"w{number}") for number in range(700)]
    shutdown = {"kind": "Shutdown", "metadata": {"name": "s", "uid": "0123456789"}}
    items: list[Touched] = [*counted, *bare]
    records = recording.of_targets(shutdown, items, "prod", first=3)
    sizes = [len(json.dumps(each)) for each in records]
    assert max(sizes) < 1_200_000
    assert max(len(each["spec"]["targets"]) for each in records) == recording.CHUNK
    names = [target["name"] for each in records for target in each["spec"]["targets"]]
    assert names == [each.name for each in counted] + [each.pod.name for each in bare]
    assert records[0]["metadata"]["name"] == "s-01234567-targets-3"


def test_records_of_settings_and_of_pods_are_as_the_schema_has_them() -> None:
    """Absent is a value; what stood there is JSON."""
    shutdown = {"kind": "Shutdown", "metadata": {"name": "s", "uid": "0123456789"}}
    items: list[Touched] = [
        workload("j", kind="Job", values=(False,)),
        BarePod(pod("p"), "{}"),
        workload("d"),
    ]
    (record,) = recording.of_targets(shutdown, items, "prod")
    stored = ShutdownRecordSpec.model_validate(record["spec"]).targets or []
    assert [each.settings and each.settings[0].was for each in stored] == ["false", None, None]
    assert [each.manifest for each in stored] == [None, "{}", None]
    assert [each.replicas for each in stored] == [None, None, 1]
