"""Both bundles are run as printed, by real bash and real kubectl, with none of our processes."""

import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from killswitch.cli import glass
from killswitch.cli.main import app
from tests.cli.conftest import Stage, eventually


def _printed(*flags: str) -> str:
    result = CliRunner().invoke(app, ["break-glass", *flags])
    assert result.exit_code == 0
    return result.output


def _bash(stage: Stage, script: str, directory: Path, *arguments: str, by: str = "admin") -> Any:
    plane = stage.control_plane
    user = plane.admin if by == "admin" else plane.user(by)
    path = f"{plane.kubectl_path.parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-s", *arguments],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd=directory,
        env={**os.environ, "PATH": path, "KUBECONFIG": str(user.kubeconfig)},
    )


def test_installed_bundle_stops_locks_and_may_run_again(stage: Stage, tmp_path: Path) -> None:
    """The lock holds afterwards; a second run finds it and adds nothing."""
    stage.deployment()
    script = _printed("--installed", "-n", stage.namespace)
    first = _bash(stage, script, tmp_path, by="alice")
    assert first.returncode == 0, first.stdout + first.stderr
    assert f"Stopped and locked: no pod is left in {stage.namespace}." in first.stdout
    second = _bash(stage, script, tmp_path, by="alice")
    assert (second.returncode, "The lock holds already." in second.stdout) == (0, True)
    time.sleep(2)
    made = stage.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"]
    assert ([each["spec"]["requestedBy"] for each in made], stage.pods()) == (["alice"], [])


def test_installed_bundle_governs_the_namespace(open_stage: Stage, tmp_path: Path) -> None:
    """From a namespace that nobody has governed, with an administrator's rights."""
    open_stage.deployment()
    done = _bash(open_stage, _printed(), tmp_path, open_stage.namespace)
    assert done.returncode == 0, done.stdout + done.stderr
    assert open_stage.pods() == []


def test_installed_bundle_locks_again_after_a_release(stage: Stage, tmp_path: Path) -> None:
    """The day's name is taken by a released Shutdown: another one is made."""
    script = _printed("-n", stage.namespace)
    undo = _printed("--undo", "-n", stage.namespace)
    assert _bash(stage, script, tmp_path, by="alice").returncode == 0
    for person in ("bob", "carol"):
        done = _bash(stage, undo, tmp_path, by=person)
        assert done.returncode == 0, done.stderr
    stage.deployment(replicas=1)
    again = _bash(stage, script, tmp_path, by="alice")
    assert (again.returncode, stage.pods()) == (0, []), again.stdout + again.stderr


def test_installed_undo_is_refused_to_the_requester(stage: Stage, tmp_path: Path) -> None:
    """The API server counts, not the script."""
    assert _bash(stage, _printed("-n", stage.namespace), tmp_path, by="alice").returncode == 0
    done = _bash(stage, _printed("--undo", "-n", stage.namespace), tmp_path, by="alice")
    assert done.returncode == 1


def test_installed_bundle_is_honest_without_rights(stage: Stage, tmp_path: Path) -> None:
    """Nothing is claimed by someone who could do nothing."""
    stage.deployment()
    done = _bash(stage, _printed("-n", stage.namespace), tmp_path, by="mallory")
    assert (done.returncode, "NOT VERIFIED" in done.stdout) == (1, True)
    assert len(stage.pods()) == 2


def test_bare_bundle_stops_and_comes_back(open_stage: Stage, tmp_path: Path) -> None:
    """Quota, delete, counts, scale; twice; and the way back with the counts of the first run."""
    stage = open_stage
    stage.deployment(replicas=3)
    _stateful(stage, "keeps", "Retain")
    _stateful(stage, "loses", "Delete")
    eventually(lambda: len(stage.pods()) == 5)
    script = _printed("--bare", "-n", stage.namespace)
    first = _bash(stage, script, tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    again = _bash(stage, script, tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    time.sleep(2)
    assert (stage.pods(), stage.replicas("vllm")) == ([], 0)
    assert (_replicas(stage, "keeps"), _replicas(stage, "loses")) == (0, 1)
    undo = _bash(stage, _printed("--bare", "--undo", "-n", stage.namespace), tmp_path)
    assert undo.returncode == 0, undo.stdout + undo.stderr
    eventually(lambda: len(stage.pods()) == 5, 60)
    assert stage.replicas("vllm") == 3


@pytest.mark.parametrize("flags", [(), ("--bare",), ("--undo",), ("--bare", "--undo")])
def test_scripts_are_valid_bash_and_ask_for_a_namespace(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    """Printed without a namespace they take one as their argument, and refuse without."""
    script = _printed(*flags)
    checked = subprocess.run(["bash", "-n"], input=script, text=True, check=False)
    asked = subprocess.run(
        ["bash", "-s"], input=script, text=True, capture_output=True, check=False, cwd=tmp_path
    )
    bundle = glass.choose(bare="--bare" in flags, undo="--undo" in flags)
    said = f"name the namespace: bash {bundle.value} NAMESPACE"
    assert (checked.returncode, said in asked.stderr) == (0, True)


_AWKWARD = "it's \"bad\": {a: 'b'} \\ #\n- second\tline"


def test_any_reason_is_stored_as_it_was_written(stage: Stage, tmp_path: Path) -> None:
    """Quotes, backslashes and newlines break neither the YAML nor the JSON."""
    reason = f"REASON={shlex.quote(_AWKWARD)}\n"
    script = reason + _printed("--installed", "-n", stage.namespace)
    done = _bash(stage, script, tmp_path, by="alice")
    assert done.returncode == 0, done.stdout + done.stderr
    undo = reason + _printed("--undo", "-n", stage.namespace)
    assert _bash(stage, undo, tmp_path, by="bob").returncode == 0
    (made,) = stage.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"]
    assert made["spec"]["reason"] == _AWKWARD
    assert made["spec"]["approvals"] == {"bob": {"reason": _AWKWARD}}


def _stateful(stage: Stage, name: str, when_scaled: str) -> None:
    pod = {"containers": [{"name": "c", "image": "i"}]}
    spec = {
        "replicas": 1,
        "serviceName": name,
        "selector": {"matchLabels": {"app": name}},
        "persistentVolumeClaimRetentionPolicy": {"whenScaled": when_scaled},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
    }
    stage.create("/apis/apps/v1", "statefulsets", {"metadata": {"name": name}, "spec": spec})


def _replicas(stage: Stage, name: str) -> int:
    return int(stage.get(f"/apis/apps/v1 statefulsets/{name}")["spec"]["replicas"])
