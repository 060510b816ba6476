"""What a stop loses for good is said in the plan's words, and agreed to or not done."""

import os
import pty
import re
import subprocess
from typing import Any

from tests.cli.conftest import PROGRAM, Stage, eventually

Json = dict[str, Any]
_LOST = "the work of its pods since their last checkpoint (Job train)"


def job(stage: Stage, name: str = "train") -> None:
    """A Job whose pod has a node."""
    spec = {
        "containers": [{"name": "c", "image": "example.invalid/train"}],
        "restartPolicy": "Never",
    }
    labels = {"example.com/long-running": "true"}  # else kwok completes it at once
    template = {"metadata": {"labels": labels}, "spec": spec}
    body = {"metadata": {"name": name}, "spec": {"template": template}}
    stage.create("/apis/batch/v1", "jobs", body)
    eventually(lambda: any(pod.startswith(name) for pod in stage.pods()))


def suspended(stage: Stage, name: str = "train") -> bool:
    """Whether the Job is at rest."""
    return bool(stage.get(f"/apis/batch/v1 jobs/{name}")["spec"].get("suspend"))


def test_the_plan_says_what_would_be_lost(stage: Stage) -> None:
    """For people and programs."""
    job(stage)
    assert f"Lost for good: {_LOST}" in stage.run("plan", "-w", "job/train").stdout
    (lost,) = stage.json("plan", "-w", "job/train")["blastRadius"]["lost"]
    assert lost["workloads"] == ["Job train"]


def test_unasked_it_is_refused_and_nothing_is_changed(stage: Stage) -> None:
    """Where nobody can be asked, as in a script: exit 1 with the option that accepts it."""
    job(stage)
    done = stage.run("stop", "-w", "job/train", "--reason", "r")
    assert (done.returncode, f"it would lose for good: {_LOST}" in done.stderr) == (1, True)
    assert "add --accept-loss" in done.stderr
    assert stage.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"] == []
    assert (len(stage.pods()), suspended(stage)) == (1, False)


def test_accepted_it_is_stopped(stage: Stage) -> None:
    """At rest by `suspend`, and no pod left."""
    job(stage)
    done = stage.run("stop", "-w", "job/train", "--accept-loss", "--reason", "r")
    assert (done.returncode, stage.pods(), suspended(stage)) == (0, [], True), done.stdout


def test_a_person_is_asked_after_the_whole_plan(stage: Stage) -> None:
    """No is no, yes is yes, and who leads to it is shown before."""
    job(stage)
    service = {
        "metadata": {"name": "front"},
        "spec": {"selector": {"job-name": "train"}, "ports": [{"port": 80}]},
    }
    stage.create("/api/v1", "services", service)
    refused = _asked(stage, "n")
    assert "Leads to it: Service front: no pod is left behind it" in refused
    assert "you did not agree to what would be lost" in refused
    assert not suspended(stage)
    assert "Verified: no pod left" in _asked(stage, "y")
    assert suspended(stage)


def _asked(stage: Stage, answer: str) -> str:
    """What a terminal shows of the stop, the question answered so."""
    ours, theirs = pty.openpty()
    user = stage.control_plane.user("alice")
    environment = {**os.environ, "KUBECONFIG": str(user.kubeconfig), "COLUMNS": "200"}
    arguments = ["stop", "-w", "job/train", "--reason", "r", "-n", stage.namespace]
    process = subprocess.Popen(
        [str(PROGRAM), *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    shown = bytearray()
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed: Linux says so by an error
            break
        if not piece:
            break
        shown += piece
    process.wait(60)
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
