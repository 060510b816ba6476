"""Who tried to start what is held: counted from Events of both shapes, and from managedFields."""

from typing import Any

import pytest

from killswitch.api.shutdowns import Attempt
from killswitch.core import times
from killswitch.core.audit import Key, Tally
from killswitch.core.audit import Refusal as Refused
from killswitch.core.errors import RefusedError, UnavailableError
from killswitch.core.inventory import Inventory
from killswitch.core.kinds import TABLE
from killswitch.core.projections import workload as projected
from killswitch.core.resources import DEPLOYMENTS, SHUTDOWNS
from killswitch.manager import attempts
from killswitch.manager.attempts import Attempts
from killswitch.manager.fighters import Fighters
from killswitch.manager.held import Held
from killswitch.manager.numbers import Numbers
from killswitch.ports import Json, Page
from tests.fakes.clock import FakeClock
from tests.manager.harness import Scene
from tests.manager.test_restore_kinds import TERMS
from tests.reactor.harness import eventually

NOW = times.seconds("2026-01-01T11:00:00Z")


class Rounds(FakeClock):
    """An hour after the stop; each look is of another round."""

    def __init__(self) -> None:
        super().__init__(NOW)

    def monotonic(self) -> float:
        """Later than whatever was asked for before."""
        self._passed += 10.0
        return self._passed


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
    (found,) = attempts.refusals([body], STOP, NOW)
    assert expected == (found.who, found.object, found.count, found.last)


def test_what_another_shutdown_has_refused_is_not_counted() -> None:
    """Nor what failed for another reason, nor one whose name begins alike."""
    others = [
        event(message="Error creating: quota exceeded"),
        event(message="held down by Shutdown prod/stop-2 (it leaks)"),
        event(message="held down by ClusterShutdown stop (it leaks)"),
    ]
    assert attempts.refusals(others, STOP, NOW) == []


class Events:
    """A cluster with these Events, while it answers."""

    away = False
    refused = False

    def __init__(self, *events: Json) -> None:
        self.events = list(events)
        self.asked = 0

    async def list(self, *_: Any, **__: Any) -> Page:
        """All."""
        if self.away:
            raise UnavailableError("away")
        if self.refused:
            raise RefusedError("no right")
        self.asked += 1
        return Page(self.events, "1")


NOTHING = Held(Inventory())


async def looked(flow: Attempts, stop: Json) -> int:
    """The count after a look, written to the status as the flow would."""
    stop["status"] = {"attempts": await flow.look(stop, NOTHING)}
    return sum(each["count"] for each in stop["status"]["attempts"])


async def test_what_was_counted_stays_counted() -> None:
    """Events end after an hour, and a process at any time: no attempt is lost or counted twice."""
    cluster, stop, numbers = Events(event(count=3)), {**STOP}, Numbers()
    flow = Attempts(cluster, numbers, Tally(), Rounds())  # type: ignore[arg-type]
    assert await looked(flow, stop) == 3
    cluster.events = [event(count=5), event("f", count=1)]
    assert await looked(flow, stop) == 6
    cluster.events = [event("f", count=2)]
    assert await looked(flow, stop) == 7
    another = Attempts(cluster, Numbers(), Tally(), Rounds())  # type: ignore[arg-type]
    assert await looked(another, stop) == 7
    cluster.events = [event("f", count=4)]
    assert await looked(another, stop) == 9
    sample = "killswitch_denied_attempts_total"
    labels = {"controller": "replicaset-controller"}
    assert numbers.registry.get_sample_value(sample, labels) == 7


ACCOUNT = Key("kube-system/replicaset-controller", "kube-controller-manager", "Pod vllm-*")
ALICE = Key("alice", "kubectl", "Deployment vllm")
SAMPLE = "killswitch_denied_attempts_total"


def audited(key: Key, number: int, at: str = "10:00:07") -> Refused:
    """A refusal that an audit event tells of."""
    moment = times.seconds(f"2026-01-01T{at}Z")
    return Refused(f"{key} {number}", ("Shutdown prod/stop",), key, moment)


def counts(stop: Json) -> dict[str, int]:
    """Who, with what, how often, by the status."""
    return {
        f"{each['who']} ({each.get('fieldManager', 'Event')})": each["count"]
        for each in stop["status"]["attempts"]
    }


def measured(numbers: Numbers, name: str) -> float | None:
    """What the metric says of one."""
    return numbers.registry.get_sample_value(SAMPLE, {"controller": name})


async def test_who_is_told_of_by_both_counts_once() -> None:
    """By the one that tells of more; who writes Events alone is counted by them."""
    keda = event("k", source={"component": "keda-operator"}, count=4)
    daemon = event("d", source={"component": "daemonset-controller"}, count=2)
    cluster, stop, numbers, tally = (
        Events(event(count=3), keda, daemon),
        {**STOP},
        Numbers(),
        Tally(),
    )
    flow = Attempts(cluster, numbers, tally, Rounds())  # type: ignore[arg-type]
    await looked(flow, stop)
    for number in range(5):
        tally.add(audited(ACCOUNT, number))
        tally.add(audited(ACCOUNT, number))  # sent again
    tally.add(audited(Key("kube-system/daemon-set-controller", "kcm", "Pod d-*"), 0))
    tally.add(audited(ALICE, 0))
    cluster.events = [event(count=5), keda, daemon]
    await looked(flow, stop)
    expected = {
        "kube-system/replicaset-controller (kube-controller-manager)": 5,
        "kube-system/daemon-set-controller (kcm)": 1,
        "daemonset-controller (Event)": 2,  # one was posted, the other one is to come, or lost
        "alice (kubectl)": 1,
        "keda-operator (Event)": 4,
    }
    assert counts(stop) == expected
    assert measured(numbers, "replicaset-controller") == 5
    assert measured(numbers, "keda-operator") == 4
    assert measured(numbers, "alice") == 1
    assert (
        measured(numbers, "daemonset-controller"),
        measured(numbers, "daemon-set-controller"),
    ) == (
        2,
        None,
    )


async def test_people_are_measured_apart() -> None:
    """However alike their names are."""
    numbers, tally = Numbers(), Tally()
    flow = Attempts(Events(), numbers, tally, Rounds())  # type: ignore[arg-type]
    people = ("al.ice", "alice", "https://a.example/alice", "https://b.example/alice")
    for who in people:
        tally.add(audited(Key(who, "kubectl", "Deployment vllm"), 0))
    await looked(flow, {**STOP})
    assert [measured(numbers, who) for who in people] == [1, 1, 1, 1]


async def test_a_look_that_fails_counts_nothing_twice() -> None:
    """The API server is away as a manager starts: what stands in the status was counted before."""
    cluster, stop = Events(event(count=3)), {**STOP}
    await looked(Attempts(cluster, Numbers(), Tally(), Rounds()), stop)  # type: ignore[arg-type]
    another = Attempts(cluster, Numbers(), Tally(), Rounds())  # type: ignore[arg-type]
    cluster.away = True
    with pytest.raises(UnavailableError):
        await looked(another, stop)
    cluster.away = False
    assert await looked(another, stop) == 3


async def test_what_stops_to_be_posted_is_told_by_events_beside_it() -> None:
    """A token that was renewed, or an API server that posts nothing: too few is not shown for all.

    What audit events told stays, and is what the metric counts.
    """
    cluster, stop, numbers, tally = Events(event(count=3)), {**STOP}, Numbers(), Tally()
    flow = Attempts(cluster, numbers, tally, Rounds())  # type: ignore[arg-type]
    for number in range(4):
        tally.add(audited(ACCOUNT, number))
    assert await looked(flow, stop) == 4
    cluster.events = [event(count=9)]
    await looked(flow, stop)
    assert counts(stop) == {
        "kube-system/replicaset-controller (kube-controller-manager)": 4,
        "replicaset-controller (Event)": 9,
    }
    assert measured(numbers, "replicaset-controller") == 4


async def test_what_audit_events_told_stays_counted() -> None:
    """In the status: a manager that starts goes on from there, and measures only what is new."""
    stop, tally = {**STOP}, Tally()
    flow = Attempts(Events(), Numbers(), tally, Rounds())  # type: ignore[arg-type]
    for number in range(3):
        tally.add(audited(ALICE, number))
    assert await looked(flow, stop) == 3
    assert await looked(flow, stop) == 3
    numbers, fresh = Numbers(), Tally()
    another = Attempts(Events(), numbers, fresh, Rounds())  # type: ignore[arg-type]
    assert await looked(another, stop) == 3
    fresh.add(audited(ALICE, 3, "10:00:09"))
    assert await looked(another, stop) == 4
    assert stop["status"]["attempts"][0]["last"] == "2026-01-01T10:00:09.000000Z"
    assert measured(numbers, "alice") == 1


async def test_a_tally_that_forgot_takes_nothing_away() -> None:
    """Its memory is bounded: what comes after that is new."""
    stop, tally = {**STOP}, Tally()
    flow = Attempts(Events(), Numbers(), tally, Rounds())  # type: ignore[arg-type]
    for number in range(3):
        tally.add(audited(ALICE, number))
    assert await looked(flow, stop) == 3
    tally.forget("Shutdown prod/stop")
    tally.add(audited(ALICE, 3))
    assert await looked(flow, stop) == 4


async def test_nothing_is_told_of_an_earlier_stop_of_that_name() -> None:
    """Nor of one that was let go meanwhile."""
    stop, tally = {**STOP}, Tally()
    flow = Attempts(Events(), Numbers(), tally, Rounds())  # type: ignore[arg-type]
    tally.add(audited(ALICE, 0, "09:59:59"))
    assert await looked(flow, stop) == 0
    tally.add(audited(ALICE, 1))
    flow.forget("s", "Shutdown prod/stop")
    assert await looked(flow, stop) == 0


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
    flow = Attempts(Events(*many), Numbers(), Tally(), Rounds())  # type: ignore[arg-type]
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
    (found,) = attempts.changes(STOP, held, NOW)
    assert (found["who"], found["object"]) == ("kubectl-label", "Deployment vllm")
    assert found["outcome"] == "Changed"


NONSENSE: dict[str, Json] = {
    "a year that is none": {"lastTimestamp": "0000-01-01T00:00:00Z"},
    "a year before all calendars' patterns": {"lastTimestamp": "0001-01-02T00:00:00Z"},
    "a year to come": {"lastTimestamp": "9999-12-31T23:59:59Z"},
    "a year of five digits": {"eventTime": "10000-01-01T00:00:00.0Z", "lastTimestamp": None},
    "a count below nothing": {"count": -5},
    "a huge count": {"count": 2**31 - 1},
    "a text for a count": {"count": "x"},
    "a series that is none": {"series": "x"},
    "a name that is none": {"source": {"component": "\x1b[2J alice@example.com"}},
}


@pytest.mark.parametrize("case", NONSENSE)
async def test_an_event_of_nonsense_hides_no_other(case: str) -> None:
    """Whoever may create Events writes in them what he likes; what he wrote stays within bounds."""
    cluster = Events(event("bad", **NONSENSE[case]), event("good", source={"component": "keda"}))
    flow = Attempts(cluster, Numbers(), Tally(), Rounds())  # type: ignore[arg-type]
    found = await flow.look({**STOP}, NOTHING)
    assert "keda" in {each["who"] for each in found}
    for each in found:
        Attempt.model_validate(each)
        assert 1 <= each["count"] <= 1_000_000
        assert NOW - 3600 <= times.seconds(each["last"]) <= NOW
        assert each["who"] in {"keda", "unknown", "replicaset-controller"}


async def test_events_neither_erase_nor_forge_what_is_authenticated() -> None:
    """However much they claim, and however late: of people nothing, of accounts a line beside."""
    bot = Key("prod/ci-bot", "curl", "Deployment vllm")
    stop, numbers, tally = {**STOP}, Numbers(), Tally()
    for number in range(40):
        tally.add(audited(ALICE, number))
        tally.add(audited(bot, number))
    forged = [
        event(f"{who} {number}", source={"component": who}, count=99, involvedObject=about)
        for number in range(60)
        for who in ("alice", "ci-bot")
        for about in [{"kind": "Pod", "name": f"p{number}"}]
    ]
    flow = Attempts(Events(*forged), numbers, tally, Rounds())  # type: ignore[arg-type]
    await looked(flow, stop)
    found = stop["status"]["attempts"]
    proven = {each["who"]: each["count"] for each in found if each.get("fieldManager")}
    assert proven == {"alice": 40, "prod/ci-bot": 40}
    assert "alice" not in {each["who"] for each in found if not each.get("fieldManager")}
    assert measured(numbers, "alice") == measured(numbers, "ci-bot") == 40


async def test_events_to_come_pin_nobody_out_of_the_list() -> None:
    """Fifty rows by audit events leave none to rows that anybody may write."""
    stop, tally = {**STOP}, Tally()
    for number in range(50):
        tally.add(audited(Key("alice", "kubectl", f"Deployment d{number}"), 0))
    late = [
        event(
            f"e{number}", lastTimestamp="2027-01-01T00:00:00Z", source={"component": f"c{number}"}
        )
        for number in range(60)
    ]
    flow = Attempts(Events(*late), Numbers(), tally, Rounds())  # type: ignore[arg-type]
    await looked(flow, stop)
    assert {each["who"] for each in stop["status"]["attempts"]} == {"alice"}


async def test_a_flood_of_events_fills_neither_memory_nor_the_metric() -> None:
    """What is not kept apart is counted as others, once."""
    cluster, stop, numbers = Events(), {**STOP}, Numbers()
    flow = Attempts(cluster, numbers, Tally(), Rounds())  # type: ignore[arg-type]
    for turn in range(3):
        cluster.events = [
            event(f"{turn} {number}", source={"component": f"c{turn}-{number}"}, count=1)
            for number in range(200)
        ]
        assert await looked(flow, stop) == 200 * (turn + 1)
        assert await looked(flow, stop) == 200 * (turn + 1)
    series = [
        each
        for metric in numbers.registry.collect()
        for each in metric.samples
        if each.name == SAMPLE
    ]
    assert len(series) == 51
    assert sum(each.value for each in series) == 600
    assert len(stop["status"]["attempts"]) == 50
    another = Attempts(cluster, Numbers(), Tally(), Rounds())  # type: ignore[arg-type]
    assert await looked(another, stop) == 600


async def test_the_events_of_a_namespace_are_listed_once_for_all_its_stops() -> None:
    """Within one round."""
    cluster, clock = Events(event()), FakeClock(NOW)
    flow = Attempts(cluster, Numbers(), Tally(), clock)  # type: ignore[arg-type]
    for name in ("a", "b", "c"):
        metadata = {**STOP["metadata"], "name": name, "uid": name}
        await flow.look({**STOP, "metadata": metadata}, NOTHING)
    assert cluster.asked == 1


async def test_events_that_may_not_be_seen_for_a_while_are_not_news_after_it() -> None:
    """Nothing is counted twice."""
    cluster, stop = Events(event(count=3)), {**STOP}
    flow = Attempts(cluster, Numbers(), Tally(), Rounds())  # type: ignore[arg-type]
    assert await looked(flow, stop) == 3
    cluster.refused = True
    assert await looked(flow, stop) == 3
    cluster.refused = False
    assert await looked(flow, stop) == 3


def test_a_writer_who_calls_himself_like_us_is_told_all_the_same() -> None:
    """Only our own name is ours; and a time that cannot be hides no other writer."""

    def entry(manager: str, at: str) -> Json:
        return {"manager": manager, "time": at}

    body: Json = {
        "metadata": {
            "name": "vllm",
            "namespace": "prod",
            "uid": "t",
            "managedFields": [
                entry("killswitch", "2026-01-01T10:00:01Z"),
                entry("killswitch-foo", "2026-01-01T10:00:02Z"),
                entry("null", "0000-02-01T00:00:00Z"),
                entry("future", "9999-02-01T00:00:00Z"),
            ],
        },
        "spec": {},
    }
    target: Any = projected(TABLE["Deployment"], body)
    found = attempts.changes(STOP, Held(Inventory(), (target,), {"t": body}), NOW)
    assert {each["who"]: each["last"] for each in found} == {
        "killswitch-foo": "2026-01-01T10:00:02.000000Z",
        "future": times.text(NOW),
    }


@pytest.mark.cluster
@pytest.mark.parametrize("broken", ["raises", "writes what may not stand there"])
async def test_no_failure_of_what_is_only_told_keeps_a_stop_from_being_verified(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Attempts and fighters are best effort; the judgement is not."""

    async def look(*_: Any, **__: Any) -> list[Json]:
        if broken == "raises":
            raise ValueError("of all things")
        return [{"who": "x", "object": "y", "count": 0, "last": "0001", "name": 1}]

    monkeypatch.setattr(Attempts, "look", look)
    monkeypatch.setattr(Fighters, "look", look if broken == "raises" else _none)
    await scene.bench.deployment("vllm", 1)
    async with scene.manager(verify_interval=0.2):
        await scene.stopped(locks={"deployments.apps/vllm": ""}, restorePolicy=TERMS)
        await scene.condition("stop", "Verified", "True", "NoPodsLeft")
        # Looked at again and again, each time with the failure.
        await scene.bench.cluster.patch(
            SHUTDOWNS,
            "stop",
            {"status": {"conditions": None}},
            scene.namespace,
            subresource="status",
        )
        await scene.condition("stop", "Verified", "True", "NoPodsLeft")


async def _none(*_: Any, **__: Any) -> list[Json]:
    return []


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
