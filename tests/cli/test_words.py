"""The small pure parts: names, references, ages, standings."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from killswitch.cli import board, freezing, guards, hopeless
from killswitch.cli.connect import Session
from killswitch.cli.creating import object_name
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import Problem, explained
from killswitch.cli.references import parse, workload
from killswitch.cli.scope import Named, Scope, of_order, read
from killswitch.cli.screen import Screen
from killswitch.cli.stop import Request, stop
from killswitch.core import errors, kinds, times
from killswitch.core.catalogue import Served
from killswitch.core.errors import KillSwitchError, UnavailableError
from killswitch.core.kinds import Kind
from killswitch.core.reports import Report
from killswitch.core.resources import CLUSTER_SHUTDOWNS, SHUTDOWNS, Resource
from killswitch.ports import Cluster, Page
from tests.cli.conftest import LeapingClock


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("alice", "alice-20260102t030405-678"),
        ("Alice.B@example.org", "alice-b-20260102t030405-678"),
        ("system:serviceaccount:prod:op_1", "op-1-20260102t030405-678"),
        ("oidc:" + "x" * 80, "x" * 30 + "-20260102t030405-678"),
        ("€", "person-20260102t030405-678"),
    ],
)
def test_shutdowns_of_people_are_named_after_them(user: str, expected: str) -> None:
    """A label value, whatever the username looks like."""
    assert object_name(user, 1767323045.678) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3660, "1h1m"), (90000, "1d1h")],
)
def test_ages_are_short(seconds: float, expected: str) -> None:
    """As kubectl writes them."""
    assert board.age("1970-01-01T00:00:00Z", seconds) == expected


@pytest.mark.parametrize(
    ("renewed", "words"),
    [
        (None, "has never reported"),
        (1_000_300.0, "has a clock that is ahead"),
        (999_700.0, "silent for 5m"),
    ],
)
def test_a_guard_that_counts_as_absent_is_told_with_the_reason(
    renewed: float | None, words: str
) -> None:
    """A time that lies ahead is no age."""
    assert guards.silence(Report("gpu-1", renewed=renewed), 1_000_000.0) == words


def test_what_kubectl_prints_can_be_pasted() -> None:
    """`kubectl get -o name` gives the group along."""
    found = parse("shutdown.killswitch.dev/x", allowed=(SHUTDOWNS, CLUSTER_SHUTDOWNS))
    assert (found.resource, found.name) == (SHUTDOWNS, "x")


def test_kinds_that_a_command_does_not_know_are_refused() -> None:
    """With the kinds it does know."""
    with pytest.raises(Problem, match="not a kind meant here") as caught:
        parse("pod/x", allowed=(SHUTDOWNS,))
    assert (caught.value.cure, caught.value.code) == ("write shutdown/NAME", ExitCode.USAGE)


@pytest.mark.parametrize("kind", kinds.TABLE.values(), ids=str)
def test_every_kind_is_read_as_kubectl_and_we_write_it(kind: Kind) -> None:
    """Our own word, kubectl's `kind.group/name` and `plural.group/name`, in any case."""
    group = f".{kind.resource.group}" if kind.resource.group else ""
    for word in (kind.word, f"{kind.resource.kind}{group}", f"{kind.resource.plural}{group}"):
        assert workload(f"{word}/x") == (kind.name, "x")


def test_short_names_are_those_of_the_kinds_own_definitions() -> None:
    """What people type at kubectl."""
    named = {
        "deploy": "Deployment",
        "isvc": "InferenceService",
        "ksvc": "Service.serving.knative.dev",
    }
    assert {short: workload(f"{short}/x")[0] for short in named} == named


def test_the_next_command_names_every_kind_so_that_it_is_read_back() -> None:
    """From the flags, and from what a Shutdown holds: what is below another is not named by itself."""
    words = [f"{kind.word}/x" for kind in kinds.TABLE.values()]
    scope = read([*words, "engines.example.com/y"], None, None, whole=False)
    flags = scope.flags.replace("-w ", "").split()
    assert read(flags, None, None, whole=False) == scope
    image = read(None, None, None, whole=False, image="llm*:1", everywhere=True)
    assert image.flags == "--image 'llm*:1' --everywhere"
    locks = {
        "inferenceservices.serving.kserve.io/llm": "InferenceService/llm",
        "deployments.apps/llm-predictor": "InferenceService/llm",
        "uid/1": "InferenceService/llm",
        "engines.example.com/y": "Engine.example.com/y",
        "deployments.apps/by-hand": "",
        "pods/alone": "Pod/alone",
    }
    assert of_order({"locks": locks}).flags.split(" -w ") == [
        "-w deployment/by-hand", "engines.example.com/y", "inferenceservice/llm", "pod/alone",
    ]  # fmt: skip


def test_every_error_has_words_and_a_next_command() -> None:
    """No bare status code and no traceback for any error of the tree."""
    found = [
        errors.RefusedError("no", 401),
        errors.RefusedError("no"),
        errors.ConflictError("taken"),
        errors.NotFoundError("gone"),
        errors.NotFoundError("the server could not find the requested resource"),
        errors.ExpiredError("old"),
        errors.OverloadedError("busy", 2),
        errors.UnavailableError("no answer"),
        errors.ServerError("500: failed calling webhook"),
        errors.UnacceptableError("bad"),
        errors.MalformedError("not snappy"),
        errors.InvalidPolicyError("spec.x", "bad", "write y"),
        errors.TransitionError("bug"),
        errors.CgroupError("refused", "do this"),
    ]
    # A node guard's own stay in its process.
    tree = {each for each in KillSwitchError.__subclasses__() if each.__module__ == errors.__name__}
    assert {type(each) for each in found} == tree
    assert all(explained("act", each, "prod").cure for each in found)
    assert explained("act", UnavailableError("x")).code is ExitCode.UNREACHABLE


def test_an_answered_error_is_told_in_the_servers_words() -> None:
    """The way to the API server is fine: nobody is sent to look at it."""
    found = explained("stop", errors.ServerError('500: failed calling webhook "w.example"'), "prod")
    assert found.code is ExitCode.REFUSED
    assert 'failed calling webhook "w.example"' in found.why
    assert "cluster-info" not in found.cure


def test_not_found_names_where_it_was_looked_for() -> None:
    """And the way to look elsewhere."""
    found = explained("why x", errors.NotFoundError('"x" not found'), "prod")
    assert ("namespace prod" in found.why, "-A" in found.cure, "-n" in found.cure) == (True,) * 3


@pytest.mark.parametrize(
    ("scope", "cure"),
    [
        (Scope(whole=True), "kubectl killswitch break-glass --bare -n prod"),
        (Scope(workloads=(Named("Deployment", "vllm"),)), "break-glass --bare -n prod"),
        (Scope(nodes=("gpu-1", "gpu-2")), "kubectl cordon gpu-1 gpu-2"),
    ],
)
def test_a_stop_that_the_server_failed_at_has_a_way_without_it(scope: Scope, cure: str) -> None:
    """The server's words, that nothing is locked as far as known, and plain kubectl."""
    found = hopeless.failed(scope, "prod", errors.ServerError("500: failed calling webhook"))
    assert (found.code, cure in found.cure) == (ExitCode.REFUSED, True)
    assert "500: failed calling webhook" in found.why
    assert "As far as known nothing was locked" in found.why


def test_a_5xx_at_the_shutdown_is_asked_again_and_then_told() -> None:
    """A webhook that fails for a moment stops no stop; one that goes on failing is named."""
    asked: list[str] = []

    async def create(resource: Resource, *_: object) -> None:
        asked.append(resource.kind)
        raise errors.ServerError("500: failed calling webhook")

    async def get(resource: Resource, *_: object) -> object:
        labels = {"killswitch.dev/governed": "true"}
        return {"metadata": {"labels": labels}, "resources": [{"name": "shutdowns"}]}

    async def rows(*_: object) -> Page:
        return Page([], "1")

    async def whoami() -> str:
        return "alice"

    async def served() -> list[Served]:
        return []

    cluster = SimpleNamespace(create=create, get=get, list=rows, whoami=whoami, served=served)
    session = Session(cast("Cluster", cluster), LeapingClock(), "prod")
    request = Request(Scope(whole=True), "r", 2, "1m")
    with pytest.raises(Problem, match="failed calling webhook") as caught:
        asyncio.run(stop(session, Screen(), request))
    assert (caught.value.code, len(asked) > 1) == (ExitCode.REFUSED, True)
    assert "break-glass --bare -n prod" in caught.value.cure


@pytest.mark.parametrize(
    ("offset", "ahead"), [(600.0, 600.0), (-600.0, -600.0), (0.0, 0.0), (-0.9, 0.0), (None, 0.0)]
)
def test_the_end_of_a_freeze_is_counted_by_the_servers_clock(
    offset: float | None, ahead: float
) -> None:
    """A wrong clock of this machine neither prolongs it nor has it refused."""
    clock = LeapingClock()
    stamp = {} if offset is None else {"creationTimestamp": times.text(clock.now() + offset)}

    async def create(*_: object) -> object:
        return {"metadata": stamp, "status": {"userInfo": {"username": "alice"}}}

    session = Session(cast("Cluster", SimpleNamespace(create=create)), clock, "prod")
    who = asyncio.run(freezing.asker(session))
    assert (who.name, who.now(session) - clock.now()) == ("alice", ahead)
