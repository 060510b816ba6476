"""`latency`: figures from what is stored, and nothing that is not."""

from typing import Any

from killswitch.cli.latency import Took, summary, took
from killswitch.core import evidence
from tests.cli.conftest import STOPPING, Stage, told, without

Json = dict[str, Any]
_GROUP = "/apis/killswitch.dev/v1alpha1"
_TYPE = {"apiVersion": "killswitch.dev/v1alpha1"}
_STATEMENT = {
    "decidedAt": "2026-01-01T00:00:00.000000Z",
    "decidedBy": "reactor-0",
    "quorum": "1 of 1 tripped, 1 required",
    "signals": [
        {
            "name": "tokens",
            "verdict": "Tripped",
            "counted": True,
            "path": "remote_write",
            "sampledAt": "2025-12-31T23:59:59.750000Z",
            "readAt": "2025-12-31T23:59:59.999000Z",
        }
    ],
}
_STAGES = {
    "decided": "2026-01-01T00:00:00.000000Z",
    "locked": "2026-01-01T00:00:00.004000Z",
    "deleted": "2026-01-01T00:00:00.010000Z",
    "stopped": "2026-01-01T00:00:02.300000Z",
}


def _verified(message: str = "no pod left, 2.4 s after the decision") -> Json:
    return {
        "type": "Verified",
        "status": "True",
        "reason": "NoPodsLeft",
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:02.400000Z",
    }


def _shutdown(stages: Json, *conditions: Json, policy: bool = True) -> Json:
    return {
        "kind": "Shutdown",
        "metadata": {"name": "tokens-1", "namespace": "prod", "uid": "u"},
        "spec": {"policy": {"name": "tokens"}} if policy else {},
        "status": {"stages": stages, "conditions": list(conditions)},
    }


def _stored(stage: Stage, name: str = "tokens-1") -> None:
    """A policy's stop as reactor and manager (here: the administrator) leave it."""
    made = stage.create(
        _GROUP,
        "shutdowns",
        {
            **_TYPE,
            "kind": "Shutdown",
            "metadata": {"name": name, "labels": {"killswitch.dev/engaged": "true"}},
            "spec": {
                "requestedBy": "admin",
                "reason": "too many tokens",
                "requiredApprovals": 2,
                "policy": {
                    "kind": "KillSwitchPolicy",
                    "name": "tokens",
                    "uid": "u",
                    "generation": 3,
                    "episode": 1,
                },
                "evidenceDigest": evidence.digest(_STATEMENT),
                "scope": {"wholeNamespace": True},
            },
        },
    )
    uid = made["metadata"]["uid"]
    stage.create(
        _GROUP,
        "shutdownrecords",
        {
            **_TYPE,
            "kind": "ShutdownRecord",
            "metadata": {"name": f"{name}-evidence", "labels": {"killswitch.dev/shutdown": uid}},
            "spec": {"shutdown": name, "shutdownUid": uid, "evidence": _STATEMENT},
        },
    )
    stage.report(name, {"stages": _STAGES, "conditions": [_verified()]})


_FIGURES = """\
STAGE     STOPS  P50 P90 P99 MAX P50 TO MAX, LOG MEASURED
sample    1 T T T T ██████████ sample taken → read
decision  1 T T T T ███ read → decided
lock      1 T T T T █████ decided → the Shutdown was accepted
delete    1 T T T T ██████ decided → the last pod DELETE was accepted
stop      1 T T T T █████████████ decided → the reactor saw no pod left
verified  1 T T T T ██████████████ decided → the manager saw no pod left

DECIDED SHUTDOWN PATH SAMPLE DECISION LOCK DELETE STOP VERIFIED
WHEN Shutdown NS/tokens-1 remote_write T T T T T T ████████████████████
"""


def _squeezed(text: str, namespace: str) -> list[list[str]]:
    return [line.split() for line in told(text, namespace).splitlines()]


def test_of_a_policys_stop(stage: Stage) -> None:
    """Every stage that is stored, from the sample to the manager's look; none that is not."""
    _stored(stage)
    done = stage.run("latency", by="bob")
    assert (done.returncode, done.stderr.count("Why")) == (0, 0), done.stderr
    shown = [line for line in done.stdout.splitlines() if not line.startswith("Hidden")]
    assert _squeezed("\n".join(shown), stage.namespace) == [
        line.split() for line in _FIGURES.splitlines()
    ]
    (stop,) = stage.json("latency")["stops"]
    assert stop["seconds"] == {
        "sample": 0.249,
        "decision": 0.001,
        "lock": 0.004,
        "delete": 0.01,
        "stop": 2.3,
        "verified": 2.4,
    }


def test_of_a_persons_stop_and_of_one_that_nobody_measured(stage: Stage) -> None:
    """A person has no signal; what has no recorded decision is counted and not guessed."""
    by_hand = {
        **_TYPE,
        "kind": "Shutdown",
        "metadata": {"name": "by-hand", "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {
            "requestedBy": "admin",
            "reason": "kubectl create",
            "requiredApprovals": 1,
            "scope": {"podLabels": {"app": "none"}},
        },
    }
    stage.create(_GROUP, "shutdowns", by_hand)
    nothing = stage.run("latency")
    assert nothing.returncode == 0
    assert "Nothing to show: no stop here has a recorded decision." in nothing.stdout
    assert "1 without a recorded decision: nobody knows how long they took." in nothing.stdout
    name = stage.stop("--labels", "app=vllm", by="alice")
    stage.report(name, {"stages": {**_STAGES}})
    answer = stage.json("latency")
    assert (answer["measured"], answer["unmeasured"]) == (1, 1)
    (stop,) = answer["stops"]
    assert (stop["path"], "sample" in stop["seconds"]) == ("person", False)
    assert stage.run("latency", "--last", "0").stdout.count("person") == 0


def test_where_nothing_was_ever_stopped(stage: Stage) -> None:
    """It says so, and is no failure."""
    done = stage.run("latency")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing to show: no stop is stored here." in done.stdout
    answer = stage.json("latency")
    assert (answer["stops"], answer["stages"]["lock"]) == ([], {"stops": 0})


def test_what_the_user_may_not_see_is_named(open_stage: Stage) -> None:
    """Without the records the signal's part is missing, and it is said why."""
    open_stage.govern()
    open_stage.grant("some", without("list", of="shutdownrecords"), "dave")
    _stored(open_stage)
    done = open_stage.run("latency", by="dave")
    assert done.returncode != 0
    open_stage.grant(
        "shutdowns", [{**STOPPING[0], "resources": ["shutdowns"], "verbs": ["list"]}], "dave"
    )
    done = open_stage.run("latency", by="dave")
    assert done.returncode == 0, done.stderr
    assert "Hidden from you: shutdownrecords: " in done.stdout
    assert "sample taken" not in done.stdout


def test_a_stop_that_was_verified_again_has_no_time_of_its_first() -> None:
    """What came back and went was verified at another moment."""
    again = _verified("no pod left again, 9.0 s after the decision")
    first, second = (took(_shutdown(_STAGES, each), None) for each in (_verified(), again))
    assert first is not None
    assert second is not None
    assert ("verified" in first.seconds, "verified" in second.seconds) == (True, False)


def test_a_clock_that_stepped_back_takes_no_negative_time() -> None:
    """The stages are wall times."""
    stages = {**_STAGES, "locked": "2025-12-31T23:59:58.000000Z"}
    found = took(_shutdown(stages), None)
    assert found is not None
    assert found.seconds["lock"] == 0.0


def test_percentiles_are_values_that_were_measured() -> None:
    """Nearest rank: nothing is interpolated between two stops."""
    stops = [Took("s", "s", 0.0, "poll", {"lock": number / 1000}) for number in range(1, 101)]
    assert summary(stops)["lock"] == {
        "stops": 100, "p50": 0.05, "p90": 0.09, "p99": 0.099, "max": 0.1,
    }  # fmt: skip
    assert summary(stops[:1])["lock"]["p99"] == 0.001
    assert summary([])["lock"] == {"stops": 0}
