"""What is read off a recorded workload: readiness as its controller tells it, and who has changed it."""

from typing import Any

import pytest

from killswitch.core import kinds
from killswitch.core.kinds import TABLE, Kind
from killswitch.core.resources import Resource
from killswitch.core.undoing import Field
from killswitch.manager.claims import Target
from killswitch.manager.present import Present
from killswitch.ports import Json

GENERIC = kinds.scaled(Resource("x.example", "v1", "engines", "Engine"), qualified=True)
READY: dict[str, tuple[Kind, Json, int | None]] = {
    "a Deployment that says nothing has none": (TABLE["Deployment"], {"replicas": 1}, 0),
    "a Deployment": (TABLE["Deployment"], {"readyReplicas": 2}, 2),
    "a Rollout that nobody reports on": (TABLE["Rollout"], {}, None),
    "a Rollout whose controller has none ready": (TABLE["Rollout"], {"phase": "x"}, 0),
    "any kind that counts ready ones": (GENERIC, {"readyReplicas": 1, "replicas": 3}, 1),
    "any kind that counts available ones": (GENERIC, {"availableReplicas": 2, "replicas": 3}, 2),
    "any kind that counts replicas": (GENERIC, {"replicas": 3}, 3),
    "a kind without a status": (GENERIC, {}, None),
}


def present(kind: Kind, status: Json, spec: Json | None = None, **record: Any) -> Present:
    """A recorded workload of this kind."""
    entry = {"kind": kind.name, "name": "vllm", "uid": "u", **record}
    metadata = {"name": "vllm", "namespace": "prod", "uid": "u", "generation": 2}
    body = {"metadata": metadata, "spec": spec or {}, "status": status}
    return Present(Target("prod", entry, "h", body, served=kind), body)


@pytest.mark.parametrize("case", READY)
def test_how_many_are_ready(case: str) -> None:
    """None: nobody says, and a restore does not wait for it."""
    kind, status, expected = READY[case]
    assert expected == present(kind, status).ready


SETTLED: dict[str, tuple[str, Json, bool]] = {
    "a DaemonSet that is all there": (
        "DaemonSet",
        {"observedGeneration": 2, "numberReady": 2, "desiredNumberScheduled": 2},
        True,
    ),
    "one that waits for a pod": (
        "DaemonSet",
        {"observedGeneration": 2, "numberReady": 1, "desiredNumberScheduled": 2},
        False,
    ),
    "one that has not seen the change": (
        "DaemonSet",
        {"observedGeneration": 1, "numberReady": 0, "desiredNumberScheduled": 0},
        False,
    ),
    "one that says Ready": (
        "InferenceService",
        {"conditions": [{"type": "Ready", "status": "True"}]},
        True,
    ),
    "one that says it is not": (
        "InferenceService",
        {"conditions": [{"type": "Ready", "status": "False"}]},
        False,
    ),
    "one that says nothing": ("Job", {}, True),
}


@pytest.mark.parametrize("case", SETTLED)
def test_whether_a_kind_without_a_count_has_followed(case: str) -> None:
    """As far as its controller says."""
    name, status, expected = SETTLED[case]
    assert expected == present(TABLE[name], status).settled


def test_an_autoscaler_that_allows_none_brings_nothing_back() -> None:
    """What it allows is the most, whatever was there; and it is named."""
    found = present(TABLE["Deployment"], {}, {"replicas": 2}, replicas=5)
    assert found.wanted == 5
    found.ceiling, found.ceiling_of = 2, "HorizontalPodAutoscaler prod/vllm"
    assert found.wanted == 2
    assert found.differs() == (
        "Deployment prod/vllm stands at 2, its HorizontalPodAutoscaler prod/vllm allows no more,"
        " recorded 5"
    )


def test_a_kind_that_cannot_rest_has_nothing_to_drift() -> None:
    """Nothing was written, so nothing is written back."""
    kind = kinds.unsupported(Resource("x.example", "v1", "things", "Thing"))
    assert present(kind, {}, templateDigest="other").drift() is None


def test_a_field_that_stands_as_the_stop_wrote_it_is_down() -> None:
    """One that was so before is not."""
    found = present(TABLE["Job"], {}, {"suspend": True})
    found.fields = [Field(("spec", "suspend"), was=False, wrote=True)]
    assert found.down
    found.fields = [Field(("spec", "suspend"), was=True, wrote=True)]
    assert not found.down
