"""`why`: the story from stored facts, whole outputs."""

from killswitch.core import evidence
from tests.cli.conftest import Stage, eventually, told

_GROUP = "/apis/killswitch.dev/v1alpha1"
_STORY = """\
Shutdown NS/tokens-1  HELD
Decided by KillSwitchPolicy tokens generation 3, firing 1, at WHEN: too many tokens
Evidence: 1 of 2 tripped, 1 required; decided at WHEN by reactor-0
SIGNAL  VERDICT  VALUE  TRIPS   COUNTED  PATH          IN WORDS
tokens  Tripped  9000   > 5000  yes      remote_write  9000 is > 5000
errors  Unknown  -      > 1     no       -             Stale
Stages: decided WHEN, locked + T, deleted + T, stopped + T
Verified: True: no pod left, T
Node guards: what they did is not known: nodeguards are hidden from you
Now: no pod of it runs
Approved by bob: looked
Approvals: 1/2, 1 more needed, not admin's
Next: let go: kubectl killswitch approve tokens-1 -n NS --reason …
"""


def test_of_a_policys_stop(stage: Stage) -> None:
    """Policy, votes with values and thresholds, stages, people, the next command."""
    _fired(stage)
    assert stage.run("approve", "tokens-1", "--reason", "looked", by="bob").returncode == 0
    done = stage.run("why", "tokens-1", by="bob")
    assert (told(done.stdout, stage.namespace), done.stderr, done.returncode) == (_STORY, "", 0)


def test_of_a_persons_stop_names_who_ran_against_the_lock(stage: Stage) -> None:
    """Controllers that were denied, as far as they wrote events about it."""
    stage.deployment()
    name = stage.stop("--labels", "app=vllm")
    path = f"/apis/apps/v1/namespaces/{stage.namespace}/replicasets"
    body = {
        "metadata": {"name": "copy"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "vllm", "copy": "yes"}},
            "template": {
                "metadata": {"labels": {"app": "vllm", "copy": "yes"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    }
    assert stage.control_plane.api().create(path, body).status == 201
    fighter = "Denied by the lock: replicaset-controller for ReplicaSet copy, "
    eventually(lambda: fighter in stage.run("why", name).stdout, 40)
    shown = stage.run("why", name).stdout
    assert "Decided by alice at " in shown


def test_of_a_workload_names_its_holders(stage: Stage) -> None:
    """By lock and by label; and plainly when nothing holds it."""
    stage.deployment()
    stage.deployment("free", replicas=1)
    name = stage.stop("-w", "deployment/vllm")
    held = stage.run("why", "deployment/vllm")
    free = stage.run("why", "deploy/free")
    assert f"Held by Shutdown {stage.namespace}/{name}, approvals 0/2: test" in held.stdout
    assert f"approve {name} -n {stage.namespace}" in held.stdout
    assert "No engaged Shutdown holds it" in free.stdout


def test_of_a_policy_tells_why_it_is_not_armed(stage: Stage) -> None:
    """Standing, signals, and what it would stop."""
    stage.policy("tokens")
    done = stage.run("why", "policy/tokens")
    assert "NOT SEEN: no operator has looked at it" in done.stdout
    assert "never read" in done.stdout
    assert f"plan --policy tokens -n {stage.namespace}" in done.stdout
    assert "Reaction: not reckoned yet" in done.stdout


def test_of_a_policy_tells_how_fast_it_is(stage: Stage) -> None:
    """The time, its parts, and each path."""
    path = "poll: 18.0 s = 15.0 s scrape of job models + 3.0 s poll"
    signals = [{"name": "load", "worst": "18.0 s", "paths": [path]}]
    known = {"worst": "18.0 s", "message": "at most 18.0 s, signal load", "signals": signals}
    stage.policy("tokens", {"reaction": known})
    done = stage.run("why", "policy/tokens")
    assert "Reaction: at most 18.0 s, signal load\n" in done.stdout
    assert f"  load by {path}\n" in done.stdout


def test_json_of_a_story(stage: Stage) -> None:
    """Programs get the evidence whole."""
    _fired(stage)
    answer = stage.json("why", "tokens-1")
    assert (
        len(answer["evidence"]["signals"]), answer["podsNow"], answer["standing"],
    ) == (2, [], "HELD")  # fmt: skip


def _fired(stage: Stage) -> None:
    """A Shutdown with evidence, as a reactor (here: the administrator) leaves it."""
    made = stage.create(_GROUP, "shutdowns", _shutdown(evidence.digest(_STATEMENT)))
    record = {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "ShutdownRecord",
        "metadata": {
            "name": "tokens-1-evidence",
            "labels": {"killswitch.dev/shutdown": made["metadata"]["uid"]},
        },
        "spec": {
            "shutdown": "tokens-1",
            "shutdownUid": made["metadata"]["uid"],
            "evidence": _STATEMENT,
        },
    }
    stage.create(_GROUP, "shutdownrecords", record)
    stage.report("tokens-1", _STATUS)


def _shutdown(digest: str) -> dict[str, object]:
    reference = {
        "kind": "KillSwitchPolicy",
        "name": "tokens",
        "uid": "u",
        "generation": 3,
        "episode": 1,
    }
    return {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "Shutdown",
        "metadata": {"name": "tokens-1", "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {
            "requestedBy": "admin",
            "reason": "too many tokens",
            "requiredApprovals": 2,
            "policy": reference,
            "evidenceDigest": digest,
            "scope": {"wholeNamespace": True},
        },
    }


def _vote(
    name: str, verdict: str, value: str, threshold: str, message: str, *, counted: bool
) -> dict[str, object]:
    return {
        "name": name,
        "verdict": verdict,
        "value": value,
        "threshold": threshold,
        "message": message,
        "counted": counted,
    }


_STATEMENT = {
    "decidedAt": "2026-01-01T00:00:00Z",
    "decidedBy": "reactor-0",
    "quorum": "1 of 2 tripped, 1 required",
    "signals": [
        {
            **_vote("tokens", "Tripped", "9000", "> 5000", "9000 is > 5000", counted=True),
            "path": "remote_write",
        },
        _vote("errors", "Unknown", "", "> 1", "Stale", counted=False),
    ],
}
_STATUS = {
    "conditions": [
        {
            "type": "Verified",
            "status": "True",
            "reason": "NoPodsLeft",
            "message": "no pod left",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:03Z",
        }
    ],
    "stages": {
        "decided": "2026-01-01T00:00:00.000Z",
        "locked": "2026-01-01T00:00:00.004Z",
        "deleted": "2026-01-01T00:00:00.010Z",
        "stopped": "2026-01-01T00:00:02.300Z",
    },
    "elapsed": "2.3 s",
}
