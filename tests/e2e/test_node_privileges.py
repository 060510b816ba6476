"""Every privilege of the guard's pod is needed, and they are enough: tried in a real container.

The pod is the chart's own, on a real kubelet with containerd; in it a small program does to one
cgroup what the guard does. This machine has cgroup v1, v2 or both: what it lacks is skipped.
"""

import contextlib
import functools
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.cluster import images
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.cluster.node import NAME, RealNode
from tests.e2e.chart import Helm, Json, named, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

IMAGE = "killswitch.test/hands:1"
SOMEBODY = 65532
TOP = Path("/sys/fs/cgroup")
Change = Callable[[Json], None]


class Victim:
    """A process of another user in a cgroup of its own. A context manager, which ends both."""

    def __init__(self, node: RealNode, *hierarchies: Path) -> None:
        # In the node's own pid namespace, which `hostPID` lets a pod see.
        self._command = ["nsenter", f"--target={node._init()}", "--pid"]
        self._command += ["setpriv", f"--reuid={SOMEBODY}", "--clear-groups", "sleep", "300"]
        name = f"killswitch-{os.getpid()}-{secrets.token_hex(3)}"
        self.folders = [each / name for each in hierarchies]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(self._command)
        pid = until(self._sleeping, "it sleeps")
        for folder in self.folders:
            folder.mkdir()
            (folder / "cgroup.procs").write_text(pid)
        return self

    def _sleeping(self) -> str:
        """Its process id, once it is the program that it shall be."""
        assert self._process is not None
        pid = self._process.pid
        child = Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()
        return child if child and Path(f"/proc/{child}/comm").read_text() == "sleep\n" else ""

    def __exit__(self, *_: object) -> None:
        """End it and take its cgroups away."""
        assert self._process is not None
        for folder in self.folders:
            for file, text in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if (folder / file).exists():
                    (folder / file).write_text(text)
        if self.alive and (child := self._sleeping()):
            os.kill(int(child), signal.SIGKILL)
        self._process.wait()
        for folder in self.folders:
            _remove(folder)

    @property
    def alive(self) -> bool:
        """Whether it still runs; a signal needs a moment."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        return self._process.returncode is None


def _remove(folder: Path) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.02)
    folder.rmdir()


@pytest.fixture
def v1(real_node: RealNode) -> Iterator[Victim]:
    """A victim in the hierarchies of cgroup v1 that the guard uses."""
    if not (TOP / "freezer" / "cgroup.procs").exists():
        pytest.skip("this machine has no cgroup v1")
    with Victim(real_node, TOP / "freezer", TOP / "pids") as victim:
        yield victim


@pytest.fixture
def v2(real_node: RealNode) -> Iterator[Victim]:
    """A victim in the unified hierarchy."""
    found = [each for each in (TOP, TOP / "unified") if (each / "cgroup.controllers").exists()]
    if not found:
        pytest.skip("this machine has no cgroup v2")
    with Victim(real_node, found[0]) as victim:
        yield victim


Contained = Callable[[Json, list[Path]], Json]


@pytest.fixture
def contained(real_node: RealNode, control_plane: ControlPlane, namespace: str) -> Contained:
    """Runs such a pod to its end; what each step said."""
    real_node.import_image(IMAGE, images.static_program(Path(__file__).parent / "hands"), [])
    return functools.partial(_run, real_node, control_plane.api(), namespace)


def _run(node: RealNode, api: Api, namespace: str, spec: Json, folders: list[Path]) -> Json:
    (container,) = spec["containers"]
    container.pop("command")
    version = "2" if len(folders) == 1 else "1"
    arguments = [version, *map(str, folders)]
    container.update(image=IMAGE, imagePullPolicy="Never", args=arguments)
    (state,) = [each for each in spec["volumes"] if each["name"] == "state"]
    state["hostPath"]["path"] = str(node.directory / f"state-{namespace}")
    # Beside the chart: this node has no network for pods, and is not for everybody.
    spec.update(hostNetwork=True, restartPolicy="Never")
    spec["nodeSelector"]["kubernetes.io/hostname"] = NAME
    place = f"/api/v1/namespaces/{namespace}"
    api.create(f"{place}/serviceaccounts", {"metadata": {"name": "killswitch-node"}})
    answer = api.create(f"{place}/pods", {"metadata": {"name": "guard"}, "spec": spec})
    assert answer.status == 201, answer.message

    def ended() -> Json | None:
        status = api.get(f"{place}/pods/guard").body["status"]
        states = [each["state"] for each in status.get("containerStatuses", ())]
        return next((each["terminated"] for each in states if "terminated" in each), None)

    said = until(ended, "the container has ended")
    assert said is not None
    api.delete(f"{place}/pods/guard", {"gracePeriodSeconds": 0})
    return dict(line.split(": ", 1) for line in said["message"].splitlines())


def pod(offline: Helm, version: int) -> Json:
    """The spec of the chart's pod."""
    objects = offline.template({"nodeGuard": {"enabled": True, "cgroupVersion": version}})
    return dict(named(objects, "DaemonSet", "killswitch-node")["spec"]["template"]["spec"])


def _another_user(spec: Json) -> None:
    spec["securityContext"].update(runAsUser=SOMEBODY, runAsGroup=SOMEBODY)


def _no_mount(spec: Json) -> None:
    (container,) = spec["containers"]
    container["volumeMounts"] = [e for e in container["volumeMounts"] if e["name"] != "cgroups"]


def _no_capability(spec: Json) -> None:
    del spec["containers"][0]["securityContext"]["capabilities"]["add"]


def _own_processes(spec: Json) -> None:
    del spec["hostPID"]


def test_with_cgroup_v2_no_capability_is_needed(
    contained: Contained, offline: Helm, v2: Victim
) -> None:
    """As rendered it freezes, kills and proves, and can write nowhere else."""
    said = contained(pod(offline, 2), v2.folders)
    assert said.pop("root") == "read-only file system"
    assert said == dict.fromkeys(["freeze", "frozen", "kill", "thaw", "prove", "state"], "ok")
    assert not v2.alive


def test_with_cgroup_v1_it_sees_and_signals(
    contained: Contained, offline: Helm, v1: Victim
) -> None:
    """The same with hostPID and KILL."""
    said = contained(pod(offline, 1), v1.folders)
    assert said.pop("root") == "read-only file system"
    steps = ["close", "freeze", "frozen", "signal", "thaw", "state"]
    assert said == dict.fromkeys(steps, "ok")
    assert not v1.alive


@pytest.mark.parametrize(
    ("without", "lost"),
    [
        (_another_user, {"freeze": "permission denied", "kill": "permission denied"}),
        (_no_mount, {"freeze": "no such file or directory"}),
    ],
)
def test_nothing_less_does_with_cgroup_v2(
    contained: Contained, offline: Helm, v2: Victim, without: Change, lost: dict[str, str]
) -> None:
    """What is taken away costs these steps, and the victim lives."""
    spec = pod(offline, 2)
    without(spec)
    assert lost.items() <= contained(spec, v2.folders).items()
    assert v2.alive


@pytest.mark.parametrize(
    ("without", "lost"),
    [
        (_no_capability, {"freeze": "ok", "signal": "operation not permitted"}),
        (_own_processes, {"freeze": "ok", "signal": "sees no process"}),
        (_another_user, {"close": "permission denied", "freeze": "permission denied"}),
    ],
)
def test_nothing_less_does_with_cgroup_v1(
    contained: Contained, offline: Helm, v1: Victim, without: Change, lost: dict[str, str]
) -> None:
    """The same; without the capability or the ids it could freeze and could not kill."""
    spec = pod(offline, 1)
    without(spec)
    assert lost.items() <= contained(spec, v1.folders).items()
