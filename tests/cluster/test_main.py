"""`make cluster` and how it ends."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.test_processes import alive, children, until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.cluster]


def start(*arguments: str) -> "subprocess.Popen[str]":
    """Run it with its output in a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cluster", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kubeconfig(process: "subprocess.Popen[str]") -> Path:
    """Read until the line with the KUBECONFIG; a usage that ends earlier fails the test."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"export KUBECONFIG=(\S+)", line):
            return Path(found.group(1))
    raise AssertionError(f"no KUBECONFIG in: {said}")


def run(config: Path, *arguments: str) -> str:
    """What the kubectl of the cache answers."""
    from tests.cluster import binaries

    program = binaries.locate(["kubectl"])["kubectl"]
    return subprocess.run(
        [str(program), *arguments],
        env={**os.environ, "KUBECONFIG": str(config)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("ending", [None, signal.SIGINT, signal.SIGTERM])
def test_it_stays_up_and_leaves_nothing_behind(ending: signal.Signals | None) -> None:
    """Four GPU nodes by the printed KUBECONFIG; then no process, no folder, exit status 0."""
    with start(*(() if ending else ("--for", "5"))) as process:
        config = kubeconfig(process)
        daemons = children(process.pid)
        assert len(daemons) == 6
        assert run(config, "get", "nodes", "-o", "name").split() == [
            f"node/gpu-{number}" for number in range(4)
        ]
        if ending:
            process.send_signal(ending)
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert [pid for pid in daemons if alive(pid)] == []
    assert not config.parent.exists()


def test_the_operator_is_installed_and_runs_there() -> None:
    """The commands of the README find all they need: helm, the plugin, the kinds, people."""
    with start("--operator") as process:
        config = kubeconfig(process)
        assert process.stdout is not None
        path = process.stdout.readline().strip().removeprefix("export PATH=").removesuffix(":$PATH")
        daemons = children(process.pid)
        assert len(daemons) == 6 + 3
        for program in ("kubectl", "helm", "kubectl-killswitch"):
            assert shutil.which(program, path=path), f"{program} is not on {path}"
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        policy = ROOT / "policies" / "vllm-runaway-tokens.yaml"
        run(config, "apply", "-f", str(policy))
        run(config, "wait", "ksp", "--all", "-n", "model-serving", "--for=condition=Ready")
        carol = re.search(r"carol: KUBECONFIG=(\S+)", said)
        assert carol
        asked = ("auth", "can-i", "release", "shutdowns.killswitch.dev", "-n", "model-serving")
        assert run(Path(carol.group(1)), *asked).strip() == "yes"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert [pid for pid in daemons if alive(pid)] == []
    assert not config.parent.exists()


def test_a_second_ctrl_c_does_not_disturb_the_cleaning_up() -> None:
    """An impatient user gets the same clean end."""
    with start("--nodes", "1") as process:
        config = kubeconfig(process)
        daemons = children(process.pid)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert [pid for pid in daemons if alive(pid)] == []
    assert not config.parent.exists()


def test_files_are_applied_before_it_says_ready(tmp_path: Path) -> None:
    """Whatever is given with --apply is there."""
    file = tmp_path / "thing.yaml"
    file.write_text(
        "{apiVersion: v1, kind: Namespace, metadata: {name: applied}}\n",
    )
    with start("--for", "0", "--nodes", "0", "--apply", str(file)) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.index("namespace/applied serverside-applied") < said.index("ready after")


def test_a_file_that_cannot_be_applied_ends_it_with_the_reason(tmp_path: Path) -> None:
    """No cluster stays up that is not what was asked for."""
    with start("--nodes", "0", "--apply", str(tmp_path / "missing.yaml")) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "missing.yaml" in said
    assert until(lambda: not alive(process.pid))
