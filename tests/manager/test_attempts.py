"""Who tried to start what is held: counted from Events of both shapes, and from managedFields."""

from typing import Any

import pytest

from killswitch.core.inventory import Inventory
from killswitch.core.kinds import TABLE
from killswitch.core.projections import workload as projected
from killswitch.core.resources import DEPLOYMENTS, SHUTDOWNS
from killswitch.manager import attempts
from killswitch.manager.attempts import Attempts
from killswitch.manager.held import Held
from killswitch.manager.numbers import Numbers
from killswitch.ports import Json, Page
from tests.manager.harness import Scene
from tests.manager.test_restore_kinds import TERMS
from tests.reactor.harness import eventually

MESSAGE = 'pods "x" is forbidden: held down by Shutdown prod/stop (it leaks); people release it'
STOP: Json = {
    "kind": "Shutdown",
    "metadata": {
        "name": "stop",
        "namespace": "prod",
        "uid": "s",
        "creationTimestamp": "2026-01-01T10:00:00Z",
    },
    "spec": {},
}


def event(uid: str = "e", message: str = MESSAGE, **more: Any) -> Json:
    """An Event as core/v1 writes it."""
    return {
        "metadata": {"uid": uid, "creationTimestamp": "2026-01-01T10:00:01Z"},
        "involvedObject": {"kind": "ReplicaSet", "name": "vllm-6c5f"},
        "source": {"component": "replicaset-controller"},
        "message": message,
        "count": 3,
        "lastTimestamp": "2026-01-01T10:00:05Z",
        **more,
    }


SERIES = {"count": 9, "lastObservedTime": "2026-01-01T10:00:09.5Z"}
SHAPES: dict[str, tuple[Json, tuple[str, str, int, str]]] = {
    "core/v1": (
        event(),
        ("replicaset-controller", "ReplicaSet vllm-6c5f", 3, "2026-01-01T10:00:05.000000Z"),
    ),
    "events.k8s.io/v1, as core/v1 shows it": (
        event(
            reportingComponent="keda-operator",
            source={},
            count=None,
            lastTimestamp=None,
            eventTime="2026-01-01T10:00:02.5Z",
            series=SERIES,
        ),
        ("keda-operator", "ReplicaSet vllm-6c5f", 9, "2026-01-01T10:00:09.500000Z"),
    ),
    "events.k8s.io/v1": (
        {
            "metadata": {"uid": "e", "creationTimestamp": "2026-01-01T10:00:01Z"},
            "regarding": {"kind": "Job", "name": "train"},
            "reportingController": "job-controller",
            "note": MESSAGE,
            "eventTime": "2026-01-01T10:00:02.5Z",
        },
        ("job-controller", "Job train", 1, "2026-01-01T10:00:02.500000Z"),
    ),
    "without a count or a reporter": (
        event(count=None, lastTimestamp=None, source={}),
        ("unknown", "ReplicaSet vllm-6c5f", 1, "2026-01-01T10:00:01.000000Z"),
    ),
}


@pytest.mark.parametrize("case", SHAPES)
def test_events_are_read_in_every_shape(case: str) -> None:
    """Who, on what, how often, and when last."""
    body, expected = SHAPES[case]
    (found,) = attempts.refusals([body], STOP)
    assert expected == (found.who, found.object, found.count, found.last)


def test_what_another_shutdown_has_refused_is_not_counted() -> None:
    """Nor what failed for another reason, nor one whose name begins alike."""
    others = [
        event(message="Error creating: quota exceeded"),
        event(message="held down by Shutdown prod/stop-2 (it leaks)"),
        event(message="held down by ClusterShutdown stop (it leaks)"),
    ]
    assert attempts.refusals(others, STOP) == []


class Events:
    """A cluster with these Events."""

    def __init__(self, *events: Json) -> None:
        self.events = list(events)

    async def list(self, *_: Any, **__: Any) -> Page:
        """All."""
        return Page(self.events, "1")


NOTHING = Held(Inventory())


async def looked(flow: Attempts, stop: Json) -> int:
    """The count after a look, written to the status as the flow would."""
    stop["status"] = {"attempts": await flow.look(stop, NOTHING)}
    return sum(each["count"] for each in stop["status"]["attempts"])


async def test_what_was_counted_stays_counted() -> None:
    """Events end after an hour, and a process at any time: no attempt is lost or counted twice."""
    cluster, stop, numbers = Events(event(count=3)), {**STOP}, Numbers()
    flow = Attempts(cluster, numbers)  # type: ignore[arg-type]
    assert await looked(flow, stop) == 3
    cluster.events = [event(count=5), event("f", count=1)]
    assert await looked(flow, stop) == 6
    cluster.events = [event("f", count=2)]
    assert await looked(flow, stop) == 7
    another = Attempts(cluster, Numbers())  # type: ignore[arg-type]
    assert await looked(another, stop) == 7
    cluster.events = [event("f", count=4)]
    assert await looked(another, stop) == 9
    sample = "killswitch_denied_attempts_total"
    labels = {"controller": "replicaset-controller"}
    assert numbers.registry.get_sample_value(sample, labels) == 7


async def test_the_newest_are_kept() -> None:
    """Fifty of them."""
    many = [
        event(
            f"e{number}",
            involvedObject={"kind": "ReplicaSet", "name": f"r{number}"},
            lastTimestamp=f"2026-01-01T10:01:{number:02}Z",
        )
        for number in range(60)
    ]
    flow = Attempts(Events(*many), Numbers())  # type: ignore[arg-type]
    found = await flow.look({**STOP}, NOTHING)
    assert len(found) == 50
    assert found[0]["object"] == "ReplicaSet r59"


def test_who_wrote_to_a_held_object_is_named() -> None:
    """Since the stop, and neither the stop itself nor what only keeps books."""

    def entry(manager: str, at: str, **more: str) -> Json:
        return {"manager": manager, "time": f"2026-01-01T{at}Z", **more}

    body: Json = {
        "metadata": {
            "name": "vllm",
            "namespace": "prod",
            "uid": "t",
            "managedFields": [
                entry("helm", "09:00:00"),
                entry("killswitch", "10:00:01"),
                entry("kube-controller-manager", "10:00:01", subresource="status"),
                entry("kube-controller-manager", "10:00:02"),
                entry("keda", "10:00:04", subresource="status"),
                entry("kubectl-label", "10:00:03"),
            ],
        },
        "spec": {},
    }
    target: Any = projected(TABLE["Deployment"], body)
    held = Held(Inventory(), (target,), {"t": body})
    (found,) = attempts.changes(STOP, held)
    assert (found["who"], found["object"]) == ("kubectl-label", "Deployment vllm")
    assert found["outcome"] == "Changed"


@pytest.mark.cluster
async def test_a_real_controller_that_is_refused_is_counted(scene: Scene) -> None:
    """Its own Events tell of it; and a label that somebody takes off is seen."""
    await scene.bench.deployment("vllm", 1)

    async def told() -> dict[str, str] | None:
        found = await scene.bench.cluster.get(SHUTDOWNS, "stop", scene.namespace)
        seen = {
            each["who"]: each["outcome"]
            for each in found.get("status", {}).get("attempts") or ()
            if each["object"].partition(" ")[0] in {"ReplicaSet", "Deployment"}
        }
        return seen if len(seen) == 2 else None

    async with scene.manager(verify_interval=0.5):
        # Held by a scope, with nothing brought to rest: its ReplicaSet goes on trying.
        await scene.stopped(scope={"podLabels": {"app": "vllm"}}, restorePolicy=TERMS)
        await scene.bench.cluster.apply(
            DEPLOYMENTS,
            "vllm",
            {"metadata": {"labels": {"team": "b"}}, "spec": {"replicas": 2}},
            scene.namespace,
            manager="somebody",
        )
        found = await eventually(told)
    assert found == {"replicaset-controller": "Denied", "somebody": "Changed"}
