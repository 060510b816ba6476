"""`freeze` and `thaw` on the real API server, with stand-ins that report as node guards do."""

import functools
import os
import re
import signal
import subprocess
import time
from typing import Any

import pytest

from killswitch.core import times
from tests.cli.conftest import PROGRAM, Stage, eventually, told
from tests.cli.guards import FREEZE, StandIn, guarded, order
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import GROUP, freeze, freezes
from tests.kernel.test_bypasses import ahead

_FROZEN = """\
Freeze deployment/vllm in NS: 1 workload with 2 pods and 0 GPUs
NAMESPACE  WHAT             REPLICAS  PODS  GPUS  RUNS ON
NS__deployment/vllm  2         2     0     cli-0 (2)
 T  ordered  Freeze NS/dave-TIME
 T  seen     2 of 2 pods are frozen; the slowest T from the order heard on cli-0
Frozen: 2 pods, until WHEN (for 5 min T), then they go on
End it: kubectl killswitch thaw dave-TIME -n NS --reason …
Prolong it: kubectl killswitch freeze -w deployment/vllm -n NS --for … --then thaw --reason …
For good: kubectl killswitch stop -w deployment/vllm -n NS --reason …
"""


def stored(stage: Stage) -> list[Any]:
    """The Freezes of the namespace."""
    found: list[Any] = stage.get(f"{GROUP} freezes")["items"]
    return found


def test_one_command_freezes_and_says_how_it_ends(frosty: Stage, guard: StandIn) -> None:
    """How long it took by the guards' own clock, until when, and the next commands."""
    frosty.deployment()
    done = frosty.run("freeze", "deployment/vllm", *FREEZE, by="dave")
    gap = max(len("NAMESPACE"), len(frosty.namespace)) - len(frosty.namespace) + 2
    expected = _FROZEN.replace("NS__", "NS" + " " * gap)
    assert (expected, "", 0) == (told(done.stdout, frosty.namespace), done.stderr, done.returncode)
    (made,) = stored(frosty)
    assert made["metadata"]["labels"] == {"killswitch.dev/engaged": "true"}
    assert (made["spec"]["onExpiry"], made["spec"]["requestedBy"]) == ("Thaw", "dave")
    assert "deployments.apps/vllm" in made["spec"]["locks"]


def test_its_end_is_counted_by_the_api_server(frosty: Stage, guard: StandIn) -> None:
    """From its creation there: a wrong clock of this machine must not prolong it."""
    frosty.deployment()
    order(frosty, "--all")
    (made,) = stored(frosty)
    length = times.seconds(made["spec"]["until"]) - times.seconds(
        made["metadata"]["creationTimestamp"]
    )
    assert 290 <= length <= 310


def test_json_says_what_the_guards_said(frosty: Stage, guard: StandIn) -> None:
    """Programs get the same facts as people."""
    frosty.deployment()
    answer = order(frosty, "-l", "app=vllm")
    assert (
        answer["frozen"], answer["pods"], answer["frozenPods"], answer["left"], answer["warnings"],
    ) == (True, 2, 2, [], [])  # fmt: skip
    assert answer["slowest"] == {"node": "cli-0", "seconds": 0.0031}


def test_without_a_guard_it_is_refused_and_stop_is_named(frosty: Stage) -> None:
    """Nothing is ordered: a freeze that freezes nothing looks like containment."""
    frosty.deployment()
    done = frosty.run("freeze", "deployment/vllm", *FREEZE, by="dave")
    assert (done.returncode, stored(frosty)) == (1, [])
    assert "no live node guard where its pods run" in done.stderr
    assert "cli-0 (2)" in done.stderr
    assert f"kubectl killswitch stop -w deployment/vllm -n {frosty.namespace}" in done.stderr


def test_a_silent_guard_is_none(frosty: Stage, guard: StandIn) -> None:
    """Its node is named with how long it has said nothing."""
    frosty.deployment()
    guard.tell(renewed=time.time() - 300)
    done = frosty.run("freeze", "--all", *FREEZE, by="dave")
    assert done.returncode == 1
    assert "cli-0 (2, its guard silent for 5m)" in done.stderr


def test_without_a_guard_it_may_be_ordered_all_the_same(frosty: Stage) -> None:
    """Exit 4: what runs on is named."""
    frosty.deployment(replicas=1)
    done = frosty.run("freeze", "--all", *FREEZE, "--unguarded", by="dave")
    assert done.returncode == 4
    assert "Not frozen: 1 pod of 1" in done.stdout
    assert "on cli-0: no live node guard" in done.stdout


def test_what_is_on_a_node_without_guard_is_warned_of_and_named(
    frosty: Stage, guard: StandIn
) -> None:
    """The rest is frozen; exit 4."""
    frosty.deployment("vllm")
    frosty.deployment("embed", replicas=1, node="cli-1")
    done = frosty.run("freeze", "--all", *FREEZE, by="dave")
    assert done.returncode == 4
    assert "Not frozen: what runs where no live node guard is: cli-1 (1)" in done.stdout
    assert "2 of 3 pods are frozen" in done.stdout
    assert re.search(r"pod \S+/embed-\S+ on cli-1: no live node guard", done.stdout)


def test_a_guard_that_fails_is_told_in_its_words(frosty: Stage, guard: StandIn) -> None:
    """Exit 4: never called frozen."""
    frosty.deployment(replicas=1)
    guard.failing = "cgroup.freeze: Permission denied"
    answer = order(frosty, "--all", code=4)
    assert (answer["frozen"], answer["frozenPods"]) == (False, 0)
    (left,) = answer["left"]
    assert left["why"] == "its guard failed: cgroup.freeze: Permission denied"


def test_longer_than_the_liveness_probe_allows_is_refused(frosty: Stage, guard: StandIn) -> None:
    """The kubelet would restart the container, and its memory would be lost."""
    probe = {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 10}
    frosty.deployment(probe=probe)
    done = frosty.run("freeze", "deployment/vllm", *FREEZE, by="dave")
    assert (done.returncode, stored(frosty)) == (1, [])
    assert "container server of deployment/vllm" in done.stderr
    assert "--past-liveness" in done.stderr
    short = ("--for", "10s", "--then", "thaw", "--reason", "r")
    assert frosty.run("freeze", "deployment/vllm", *short, by="dave").returncode == 0
    done = frosty.run("freeze", "deployment/vllm", *FREEZE, "--past-liveness", by="dave")
    assert (done.returncode, "Restarts: " in done.stdout) == (0, True)


def test_a_part_of_a_group_of_ranks_is_warned_of(frosty: Stage, guard: StandIn) -> None:
    """In `freeze` and in `plan`: the others wait and give up."""
    group = {"leaderworkerset.sigs.k8s.io/name": "llama"}
    frosty.deployment("vllm", replicas=1, labels=group)
    frosty.deployment("rest", replicas=1, labels=group)
    words = "Parted: 1 of 2 ranks of LeaderWorkerSet llama only"
    assert words in frosty.run("freeze", "deployment/vllm", *FREEZE, by="dave").stdout
    assert words in frosty.run("plan", "-w", "deployment/vllm", by="dave").stdout
    assert words not in frosty.run("plan", "--all", by="dave").stdout


def test_dry_run_orders_nothing(frosty: Stage, guard: StandIn) -> None:
    """The plan, the warnings, or the refusal."""
    frosty.deployment(replicas=1)
    answer = order(frosty, "--all", "--dry-run")
    assert (answer["nodeGuards"]["milliseconds"], stored(frosty)) == ({"cli-0": 1}, [])


def test_who_may_not_read_guards_believes_the_operator(frosty: Stage, guard: StandIn) -> None:
    """The reports are hidden from alice: what the manager made of them stands on the Freeze."""
    frosty.deployment(replicas=1)
    process = _begin(frosty, "freeze", "--all", *FREEZE, by="alice")
    eventually(lambda: stored(frosty))
    condition = {
        "type": "Frozen", "status": "True", "reason": "AllFrozen", "message": "1 of 1",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    _report(frosty, {"conditions": [condition], "pods": 1, "frozen": 1, "observedGeneration": 1})
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Node guards: not known: nodeguards are hidden from you" in out
    assert "Frozen: 1 pod, until" in out


def test_pods_that_cannot_be_listed_are_frozen_by_the_namespace(open_stage: Stage) -> None:
    """Who may only freeze is told what the operator says; never that nothing is left."""
    open_stage.govern()
    rule = {"apiGroups": ["killswitch.dev"], "resources": ["freezes"], "verbs": ["create", "get"]}
    open_stage.grant("freezers", [rule], "carol")
    done = open_stage.run("freeze", "--all", *FREEZE, by="carol")
    assert (done.returncode, "no pod was seen frozen" in done.stdout) == (4, True)
    assert len(stored(open_stage)) == 1


def test_who_may_not_freeze_is_refused_with_the_cure(frosty: Stage, guard: StandIn) -> None:
    """Exit 3: what to check, and what else can be done."""
    frosty.deployment(replicas=1)
    look = [
        {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    frosty.grant("lookers", look, "mallory")
    done = frosty.run("freeze", "--all", *FREEZE, by="mallory")
    assert (done.returncode, stored(frosty)) == (3, [])
    assert "kubectl auth can-i create freezes.killswitch.dev" in done.stderr
    assert "kubectl killswitch stop --all" in done.stderr


def test_what_cannot_be_seen_is_not_frozen_blindly(frosty: Stage) -> None:
    """By its name alone `stop` can lock it; a freeze needs to know what it freezes."""
    frosty.deployment(replicas=1)
    done = frosty.run("freeze", "deployment/vllm", *FREEZE, by="mallory")
    assert (done.returncode, "kubectl killswitch stop -w deployment/vllm" in done.stderr) == (
        3,
        True,
    )


def test_nothing_that_runs_is_nothing_to_freeze(frosty: Stage) -> None:
    """With the command that keeps it from starting; and nothing of that name."""
    frosty.deployment(replicas=0)
    done = frosty.run("freeze", "deployment/vllm", *FREEZE, by="dave")
    assert (done.returncode, "no pod of it runs" in done.stderr) == (1, True)
    done = frosty.run("freeze", "deployment/gone", *FREEZE, by="dave")
    assert (done.returncode, "Deployment gone" in done.stderr) == (1, True)


def test_it_governs_the_namespace_first(open_stage: Stage) -> None:
    """As `stop` does: one command is enough."""
    open_stage.deployment(replicas=1)
    admin = open_stage.control_plane.admin
    with guarded(open_stage.control_plane, open_stage.namespace, "cli-0"):
        done = open_stage.run("freeze", "--all", *FREEZE, by=admin)
    assert done.returncode == 0, done.stderr
    assert "Governed first: namespace" in done.stdout


def test_an_interrupt_says_what_is_in_force(frosty: Stage, guard: StandIn) -> None:
    """Ctrl-C ends the looking, not the Freeze."""
    frosty.deployment(replicas=1)
    guard.late = 60.0  # so that there is something to look for
    process = _begin(frosty, "freeze", "--all", *FREEZE, by="alice")
    eventually(lambda: stored(frosty))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    (made,) = stored(frosty)
    assert process.returncode == 130
    assert f"/{made['metadata']['name']} is in force until {made['spec']['until']}" in errors


def test_a_mistake_is_thawed_by_whoever_made_it(frosty: Stage, guard: StandIn) -> None:
    """And seen to go on; a second time it says so."""
    frosty.deployment()
    name = order(frosty, "--all")["name"]
    done = frosty.run("thaw", name, "--reason", "false alarm", by="dave")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Thaw ordered for Freeze {frosty.namespace}/{name} by dave." in done.stdout
    assert "Thawed: nothing is frozen by" in done.stdout
    assert stored(frosty)[0]["spec"]["thaw"] == {"by": "dave", "reason": "false alarm"}
    again = frosty.json("thaw", name, "--reason", "again", by="dave")
    assert (again["thawed"], again["thaw"]["reason"]) == (True, "false alarm")


def test_a_thaw_waits_for_the_guards_word(frosty: Stage, guard: StandIn) -> None:
    """The manager writes the end at once; guards report what they did up to a second later."""
    frosty.deployment()
    name = order(frosty, "--all")["name"]
    guard.late = 1.5
    process = _begin(frosty, "thaw", name, "--reason", "false alarm", by="dave")
    eventually(lambda: "thaw" in stored(frosty)[0]["spec"])
    _write_end(frosty, name)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "Thawed: nothing is frozen by" in out


def test_a_freeze_that_ended_in_a_stop_names_it(frosty: Stage, guard: StandIn) -> None:
    """Its policy's own stop has another name than the one at its end."""
    frosty.deployment(replicas=1)
    name = order(frosty, "--all")["name"]
    words = "its policy has stopped its targets: Shutdown p-1"
    _write_end(frosty, name, reason="ShutdownMade", message=words)
    done = frosty.run("thaw", name, "--reason", "r", by="dave")
    assert done.returncode == 1
    assert f"kubectl killswitch approve p-1 -n {frosty.namespace}" in done.stderr


def _write_end(
    stage: Stage, name: str, *, reason: str = "Thawed", message: str = "by dave"
) -> None:
    """What reactor and manager do."""
    ended = {"type": "Ended", "status": "True", "reason": reason, "message": message}
    ended |= {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    path = f"{freezes(stage.namespace, name)}/status"
    answer = stage.control_plane.api().patch(path, {"status": {"conditions": [ended]}})
    assert answer.status == 200, answer.message


def test_others_need_the_verb_thaw(frosty: Stage, guard: StandIn) -> None:
    """Alice is told which verb she lacks; bob has it, and may not read what the guards say."""
    frosty.deployment(replicas=1)
    name = order(frosty, "--all")["name"]
    done = frosty.run("thaw", name, "--reason", "r", by="alice")
    assert (done.returncode, "you (alice) lack the verb thaw on freezes" in done.stderr) == (
        3,
        True,
    )
    assert f"kubectl auth can-i thaw freezes.killswitch.dev -n {frosty.namespace}" in done.stderr
    done = frosty.run("thaw", name, "--reason", "r", by="bob")
    assert (done.returncode, "Thaw ordered" in done.stdout) == (4, True)
    assert "whether its pods go on could not be seen" in done.stdout
    assert frosty.run("thaw", name, "--reason", "r", by="dave").returncode == 0


def test_an_unknown_name_is_answered_with_those_in_force(frosty: Stage) -> None:
    """With when they end; and plainly where there is none."""
    done = frosty.run("thaw", "gone", "--reason", "r", by="dave")
    assert (done.returncode, "no Freeze is in force there" in done.stderr) == (1, True)
    until = _made(frosty)
    done = frosty.run("thaw", "gone", "--reason", "r", by="dave")
    assert (done.returncode, f"in force there: f (until {until})" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("reason", "cure"),
    [("Thawed", "nothing is left to thaw"), ("ShutdownMade", "approve f-expired -n ")],
)
def test_what_has_ended_is_not_thawed(frosty: Stage, reason: str, cure: str) -> None:
    """And where it became a stop, that is what people release."""
    _made(frosty)
    condition = {
        "type": "Ended", "status": "True", "reason": reason, "message": "it is over",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    _report(frosty, {"conditions": [condition]})
    done = frosty.run("thaw", "f", "--reason", "r", by="dave")
    assert (done.returncode, cure in done.stderr) == (1, True)
    assert "it has ended: it is over" in done.stderr


def test_what_else_holds_the_pods_is_named(frosty: Stage, guard: StandIn) -> None:
    """A second Freeze of the same keeps them frozen."""
    frosty.deployment(replicas=1)
    first, second = (order(frosty, *flags)["name"] for flags in (("--all",), ("-l", "app=vllm")))
    done = frosty.run("thaw", first, "--reason", "r", by="dave")
    assert done.returncode == 0
    assert f"Still held: by Freeze {second}: kubectl killswitch thaw {second}" in done.stdout


def test_one_that_ends_in_a_stop_is_not_prolonged_by_another(frosty: Stage, guard: StandIn) -> None:
    """The stronger order wins at its own end: the person is told which one to thaw."""
    frosty.deployment(replicas=1)
    stop = ("--for", "1h", "--then", "stop", "--reason", "r")
    first = frosty.json("freeze", "--all", *stop, by="dave")
    assert (first["onExpiry"], first["stoppedBy"]) == ("Stop", [])
    done = frosty.run("freeze", "--all", *FREEZE, by="dave")
    assert f"Ends in a stop: Freeze {first['name']} stops them at " in done.stdout
    assert f"if not meant: kubectl killswitch thaw {first['name']}" in done.stdout
    assert order(frosty, "--all")["stoppedBy"] == [first["name"]]


def test_a_guard_that_goes_silent_leaves_a_thaw_unseen(frosty: Stage) -> None:
    """Exit 4: pods whose guard died stay frozen, and are named."""
    frosty.deployment(replicas=1)
    with guarded(frosty.control_plane, frosty.namespace, "cli-0") as (found,):
        name = order(frosty, "--all")["name"]
        found._over.set()
        found._thread.join()
        done = frosty.run("thaw", name, "--reason", "r", by="dave")
    assert (done.returncode, "1 pod is still frozen by it" in done.stdout) == (4, True)


def _made(stage: Stage) -> str:
    """A Freeze f of the administrator's; its end."""
    until = ahead(hours=1)
    answer = stage.control_plane.api().create(
        freezes(stage.namespace), freeze("f", "admin", until=until)
    )
    assert answer.status == 201, answer.message
    return until


def _report(stage: Stage, status: Any) -> None:
    """Write a Freeze's status as the manager would."""
    name = stored(stage)[0]["metadata"]["name"]
    path = f"{freezes(stage.namespace, name)}/status"
    answer = stage.control_plane.api().patch(path, {"status": status})
    assert answer.status == 200, answer.message


def _begin(stage: Stage, *arguments: str, by: str) -> "subprocess.Popen[str]":
    """The command, running."""
    plane: ControlPlane = stage.control_plane
    return subprocess.Popen(
        [str(PROGRAM), *arguments, "-n", stage.namespace],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KUBECONFIG": str(plane.user(by).kubeconfig), "COLUMNS": "200"},
        # A shell that starts the tests in the background has it ignored, and so would this.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
