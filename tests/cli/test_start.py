"""What can be said without a cluster: help, usage, start-up."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from killswitch import __version__
from killswitch.cli.main import app
from tests.cluster.control_plane import ControlPlane

_HEAVY = {
    "kubernetes",
    "aiohttp",
    "kopf",
    "pydantic",
    "rich",
    "yaml",
    "orjson",
    "prometheus_client",
}
_PROGRAM = Path(sys.executable).with_name("killswitch")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    """A person in a hurry does not wait for libraries that help does not need.

    A command's own parameters are not in the list: typer itself reads them with pydantic.
    """
    code = (
        "import sys\n"
        "from killswitch.cli.main import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit: pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set() == _HEAVY & set(done.stderr.split())


def test_start_time_is_printed() -> None:
    """The start is measured, not asserted: it depends on the machine."""
    times = []
    for _ in range(3):
        before = time.perf_counter()
        subprocess.run([str(_PROGRAM), "--version"], capture_output=True, check=True)
        times.append(time.perf_counter() - before)
    print(f"killswitch --version: {min(times) * 1000:.0f} ms")


def test_every_command_stands_in_the_help() -> None:
    """The help names every command of the surface."""
    text = CliRunner().invoke(app, ["--help"]).output
    commands = (
        "stop", "plan", "status", "why", "approve", "restore", "govern", "bypass",
        "break-glass", "version", "reactor", "rules", "freeze", "thaw", "manager", "node",
    )  # fmt: skip
    assert [each for each in commands if f"\n  {each} " not in text] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stop", "-r", "x"], "nothing is named"),
        (["stop", "-r", "x", "--all", "--node", "n"], "go with nothing else"),
        (["stop", "-r", "x", "-w", "vllm"], "write deployment/vllm or statefulset/vllm"),
        (["stop", "-r", "x", "-w", "deployment/"], "its name is missing"),
        (["stop", "-r", "x", "-w", "secret/vllm"], "with its group: KIND.GROUP/NAME"),
        (["stop", "-r", "x", "-w", "model/iris"], "write model.mlops.seldon.io/NAME"),
        (["stop", "-r", "x", "-w", "deploy/a", "--image", "vllm"], "go with nothing else"),
        (["stop", "-r", "x", "--all", "--everywhere"], "it goes with --image"),
        (["stop", "-r", "x", "--all", "--drain", "5s"], "add --graceful, or leave --drain out"),
        (["stop", "-r", "x", "--all", "--graceful", "--drain", "2h"], "from 0s to 1h"),
        (["stop", "-r", "x", "--all", "--graceful", "--terminate", "0s"], "from 1s to 1h"),
        (["stop", "-r", "x", "--all", "--graceful", "--drain", "soon"], "write e.g. 90s"),
        (["stop", "-r", "x", "--all", "--quiet", "hpa"], "some of keda,argocd,flux, or none"),
        (["stop", "-r", "x", "-l", "app"], "write a=b,c=d"),
        (["stop", "-r", " ", "--all"], "it is empty"),
        (["stop", "-r", "x", "--all", "--deadline", "soon"], "write e.g. 90s"),
        (["stop", "--all"], "--reason"),
        (["stop", "-r", "x", "--all", "--approvals", "9"], "--approvals"),
        (["freeze", "-r", "x", "--for", "5m", "--then", "thaw"], "nothing is named"),
        (["freeze", "deploy/a", "-r", "x", "--for", "soon", "--then", "thaw"], "write e.g. 90s"),
        (["freeze", "deploy/a", "-r", "x", "--for", "25h", "--then", "thaw"], "from 1 s to 24 h"),
        (["freeze", "deploy/a", "-r", "x", "--for", "0s", "--then", "thaw"], "from 1 s to 24 h"),
        (["freeze", "deploy/a", "-r", "x", "--for", "5m", "--then", "wait"], "'thaw', 'stop'"),
        (["freeze", "deploy/a", "-r", "x", "--for", "5m"], "--then"),
        (["freeze", "vllm", "-r", "x", "--for", "5m", "--then", "thaw"], "write deployment/vllm"),
        (
            ["freeze", "-r", "x", "--all", "-l", "a=b", "--for", "5m", "--then", "thaw"],
            "--all and --image go with nothing else",
        ),
        (["freeze", "-r", " ", "--all", "--for", "5m", "--then", "thaw"], "it is empty"),
        (["thaw", "x"], "--reason"),
        (["thaw", "x", "-r", " "], "it is empty"),
        (["plan"], "one thing must be named"),
        (["plan", "--policy", "p", "--all"], "one thing must be named"),
        (["approve", "x"], "--reason"),
        (["release", "x", "-n", "prod"], "approve x -n prod"),
        (["break-glass", "-n", "$(reboot)"], "it cannot exist"),
    ],
)
def test_wrong_usage_exits_2_and_says_the_cure(arguments: list[str], said: str) -> None:
    """Nothing is asked of the API server, and the cure is named."""
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, said in result.output) == (2, True)


def test_without_kubeconfig_the_cure_is_named(tmp_path: Path) -> None:
    """Exit 1: nothing was asked of any API server."""
    result = CliRunner().invoke(app, ["status", "--kubeconfig", str(tmp_path / "absent")])
    assert (result.exit_code, "Set KUBECONFIG" in result.output) == (1, True)


def test_node_becomes_the_guard_of_its_own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line leaves no module of its own behind; the DaemonSet may use either name."""
    asked: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda program, words: asked.append((program, words)))
    result = CliRunner().invoke(app, ["node"])
    expected = (sys.executable, [sys.executable, "-m", "killswitch.node"])
    assert (result.exit_code, asked) == (0, [expected])


def test_help_of_a_freeze_says_what_it_is_not() -> None:
    """And how to prolong or to end it."""
    text = " ".join(CliRunner().invoke(app, ["freeze", "--help"]).output.split())
    for said in ("is no stop", "Earlier: `thaw`", "Longer: `freeze` the same again"):
        assert said in text


def test_kubectl_finds_the_plugin(control_plane: ControlPlane) -> None:
    """`kubectl killswitch …` is the same program, exit codes included."""
    environment = {**os.environ, "PATH": f"{_PROGRAM.parent}:{os.environ['PATH']}"}
    kubectl = str(control_plane.kubectl_path)
    shown = subprocess.run(
        [kubectl, "killswitch", "version"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    wrong = subprocess.run(
        [kubectl, "killswitch", "stop", "--reason", "r"],
        capture_output=True,
        check=False,
        env=environment,
    )
    assert (shown.stdout, wrong.returncode) == (f"killswitch {__version__}\n", 2)
