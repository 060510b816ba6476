"""`status`, `why` and `plan` about Freezes and node guards, whose reports stand-ins write."""

import json
import re
import time
from typing import Any

import pytest

from killswitch.core import times
from tests.cli.conftest import Stage, eventually, told
from tests.cli.guards import StandIn, guarded, order
from tests.kernel.objects import GROUP
from tests.kernel.test_guards import mirror

_STORY = """\
Freeze NS/dave-TIME NOT FROZEN: no operator has reported on it; guards act without
Decided by dave at WHEN: it may leak
Ends: WHEN, then thaw (T, then thaw)
POD NODE STATE TOOK IN WORDS
vllm cli-0 Frozen T
Next: let go: kubectl killswitch thaw dave-TIME -n NS --reason …; or for good: kubectl killswitch \
stop --all -n NS --reason …
"""


def test_a_plan_says_what_stops_in_milliseconds(frosty: Stage, guard: StandIn) -> None:
    """And what in seconds, by node, with why its guard does not count."""
    frosty.deployment("vllm")
    frosty.deployment("embed", replicas=1, node="cli-1")
    done = frosty.run("plan", "--all", by="dave")
    assert "Node guards: 2 pods stop in milliseconds: cli-0 (2)\n" in done.stdout
    assert "No live node guard: 1 pod stops in seconds: cli-1 (1)\n" in done.stdout
    found = frosty.json("plan", "--all", by="dave")["nodeGuards"]
    assert (found["milliseconds"], found["seconds"]) == ({"cli-0": 2}, {"cli-1": 1})
    dry = frosty.run("stop", "--all", "--reason", "r", "--dry-run", by="dave")
    assert dry.stdout == done.stdout


def test_a_plan_without_guards_says_seconds(frosty: Stage) -> None:
    """An absence is known; what is hidden from alice is not."""
    frosty.deployment()
    done = frosty.run("plan", "--all", by="dave")
    assert "No live node guard: 2 pods stop in seconds: cli-0 (2)\n" in done.stdout
    found = frosty.json("plan", "--all", by="alice")["nodeGuards"]
    assert (found["known"], found["milliseconds"], found["seconds"]) == (False, None, None)


def test_a_policys_plan_says_so_too(frosty: Stage, guard: StandIn) -> None:
    """What fires by itself stops as fast."""
    frosty.deployment()
    frosty.policy("tokens")
    found = frosty.json("plan", "--policy", "tokens", by="dave")["nodeGuards"]
    assert found["milliseconds"] == {"cli-0": 2}


def test_status_shows_what_is_frozen(frosty: Stage, guard: StandIn) -> None:
    """By whom, how much of it, for how long still and what then; as guards and manager say."""
    frosty.deployment()
    name = order(frosty, "--all")["name"]
    done = frosty.run("status", by="dave")
    (line,) = [each for each in done.stdout.splitlines() if name in each]
    assert re.search(r"NOT FROZEN +2/\? +\d.*, then thaw +dave +it may leak", line)
    condition = {
        "type": "Frozen", "status": "True", "reason": "AllFrozen", "message": "all",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    seen = {"conditions": [condition], "pods": 2, "frozen": 2, "observedGeneration": 1}
    _report(frosty, name, seen)
    (found,) = frosty.json("status", by="alice")["freezes"]
    assert (found["name"], found["standing"], found["frozen"], found["pods"]) == (
        name,
        "FROZEN",
        2,
        2,
    )
    assert (found["onExpiry"], 0 < found["secondsLeft"] <= 300) == ("Thaw", True)
    frosty.run("thaw", name, "--reason", "r", by="dave")
    (found,) = frosty.json("status", by="dave")["freezes"]
    assert (found["standing"], found["why"]) == ("THAWING", "by dave: r")
    _report(frosty, name, {"conditions": [{**condition, "type": "Ended", "reason": "Thawed"}]})
    assert frosty.json("status", by="dave")["freezes"] == []


def test_status_shows_the_node_guards(frosty: Stage) -> None:
    """How many nodes have one, which are silent, their problems, and the last isolation."""
    isolation = {
        "since": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:10:00Z",
        "action": "Freeze", "pods": 2,
    }  # fmt: skip
    with guarded(frosty.control_plane, frosty.namespace, "cli-0", "cli-1") as (first, second):
        first.tell(problems=["no cgroup v2"], isolation=isolation)
        second.tell(renewed=time.time() - 300)
        shown = frosty.run("status", by="dave").stdout
        found = frosty.json("status", by="dave")["nodeGuards"]
        hidden = frosty.json("status", by="alice")
    assert re.search(r"^Node guards: 1 of \d+ nodes$", shown, re.MULTILINE)
    assert "  cli-1: silent for 5m\n  cli-0: no cgroup v2\n" in shown
    assert (
        "last isolation: cli-0 from 2026-01-01T00:00:00Z until 2026-01-01T00:10:00Z: Freeze of 2 pods"
        in shown
    )
    assert (found["live"], found["silent"]) == (["cli-0"], ["cli-1"])
    assert (found["known"], hidden["nodeGuards"]["known"]) == (True, False)
    assert any(each.startswith("nodeguards: ") for each in hidden["hidden"])


def test_status_says_where_nothing_can_be_frozen(frosty: Stage) -> None:
    """No guard at all is a fact worth knowing before it is needed."""
    assert "stops take seconds, and nothing can be frozen" in frosty.run("status", by="dave").stdout


def test_why_tells_the_story_of_a_freeze(frosty: Stage, guard: StandIn) -> None:
    """Who, until when, pod by pod, and the ways out."""
    frosty.deployment(replicas=1)
    name = order(frosty, "--all")["name"]
    by_name = frosty.run("why", name, by="dave")
    by_kind = frosty.run("why", f"freeze/{name}", by="dave")
    text = re.sub(r"vllm-\w+-\w+", "vllm", told(by_name.stdout, frosty.namespace))
    text = re.sub(r"\(\d min T, then", "(T, then", re.sub(" +", " ", text))
    assert (_STORY, by_name.returncode, by_kind.returncode) == (text, 0, 0)
    answer = frosty.json("why", name, by="dave")
    assert [(each["state"], each["frozen"]) for each in answer["podsNow"]] == [("Frozen", True)]


def test_why_of_a_workload_names_the_freeze(frosty: Stage, guard: StandIn) -> None:
    """With how many of its pods, and the time left."""
    frosty.deployment()
    frosty.deployment("free", replicas=1)
    name = order(frosty, "deployment/vllm")["name"]
    done = frosty.run("why", "deployment/vllm", by="dave")
    assert f"Frozen by Freeze {frosty.namespace}/{name}: 2 of 2 pods; ends in " in done.stdout
    assert "does not keep it from running" not in done.stdout
    (found,) = frosty.json("why", "deployment/vllm", by="alice")["freezes"]
    assert (found["podsOfIt"], found["frozenOfIt"]) == (2, None)
    free = frosty.run("why", "deployment/free", by="dave")
    assert "killswitch does not keep it from running" in free.stdout


def test_why_of_a_stop_tells_what_the_guards_did(frosty: Stage, guard: StandIn) -> None:
    """Pods dead on which node, and the slowest from the order heard until proven."""
    frosty.deployment()
    made = {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "Shutdown",
        "metadata": {"name": "s", "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {
            "requestedBy": "admin",
            "reason": "r",
            "requiredApprovals": 1,
            "scope": {"wholeNamespace": True},
        },
    }
    frosty.create(GROUP, "shutdowns", made)
    eventually(lambda: len(frosty.json("why", "s", by="dave")["nodeGuards"]) == 1)
    (found,) = frosty.json("why", "s", by="dave")["nodeGuards"]
    slowest = pytest.approx(0.0031, abs=1e-6)
    assert (found["node"], found["dead"], found["slowestSeconds"]) == ("cli-0", 2, slowest)
    shown = frosty.run("why", "s", by="dave").stdout
    assert (
        "Node guards: 2 pods dead on 1 node, the slowest 3.1 ms from the order heard, on cli-0"
        in shown
    )


def test_why_of_a_stop_does_not_believe_an_older_namesake(frosty: Stage, guard: StandIn) -> None:
    """What a deleted Shutdown of the same name killed is another story."""
    frosty.deployment(replicas=1)
    (uid,) = [each["metadata"]["uid"] for each in frosty.get("/api/v1 pods")["items"]]
    old = times.text(time.time() - 3600)
    guard.tell(
        pods=[
            {
                "namespace": frosty.namespace, "pod": "p", "uid": uid, "state": "Dead",
                "orderKind": "Shutdown", "orderName": "s", "seenAt": old, "doneAt": old,
            }
        ]
    )  # fmt: skip
    spec: dict[str, Any] = {"scope": {"podLabels": {"app": "nobody"}}, "requiredApprovals": 1}
    body = {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "Shutdown",
        "metadata": {"name": "s", "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {"requestedBy": "admin", "reason": "r", **spec},
    }
    frosty.create(GROUP, "shutdowns", body)
    assert frosty.json("why", "s", by="dave")["nodeGuards"] == []


def test_static_pods_are_told_apart(frosty: Stage) -> None:
    """No DELETE ends them: only a guard's word does, and nobody is sent to delete them."""
    _static(frosty, "static")
    flags = ("stop", "--all", "--reason", "r", "--deadline", "2s")
    stopped = frosty.run(*flags, by="dave")
    assert (stopped.returncode, "kubectl delete pod" in stopped.stdout) == (4, False)
    assert "deleting it stops nothing" in stopped.stdout
    (name,) = [each["metadata"]["name"] for each in frosty.get(f"{GROUP} shutdowns")["items"]]
    where = f"Static pod {frosty.namespace}/static on cli-0: "
    assert f"{where}no node guard says that it is dead" in frosty.run("why", name, by="dave").stdout
    with guarded(frosty.control_plane, frosty.namespace, "cli-0"):
        dead = f"{where}dead, by its node guard"
        eventually(lambda: dead in frosty.run("why", name, by="dave").stdout)


def _static(stage: Stage, name: str) -> None:
    """A static pod's image in the API, as its kubelet makes it."""
    plane = stage.control_plane
    uid = plane.api().get("/api/v1/nodes/cli-0").body["metadata"]["uid"]
    body = {"apiVersion": "v1", "kind": "Pod", **mirror(name, "cli-0", uid)}
    kubelet = ("--as=system:node:cli-0", "--as-group=system:masters")
    plane.kubectl("create", "-n", stage.namespace, "-f", "-", *kubelet, stdin=json.dumps(body))


def _report(stage: Stage, name: str, status: dict[str, Any]) -> None:
    """Write a Freeze's status as the manager would."""
    path = f"{GROUP}/namespaces/{stage.namespace}/freezes/{name}/status"
    answer = stage.control_plane.api().patch(path, {"status": status})
    assert answer.status == 200, answer.message
