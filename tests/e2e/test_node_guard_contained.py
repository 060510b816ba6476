"""The node guard itself in the chart's own pod, on a real kubelet: nothing that it needs is missing.

Its image is this machine's Python, mounted read-only; all else is as rendered.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.cluster import cgroups, images
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.cluster.node import NAME, RealNode
from tests.e2e.chart import ROOT, Helm, Json, named, until
from tests.e2e.conftest import SYSTEM
from tests.kernel.objects import GROUP, freeze, freezes, pods, shutdown, shutdowns

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

BASE = "killswitch.test/hands:1"
SOMEBODY = 65532
LABELS = {"app": "victim"}
PYTHON = Path(sys.base_prefix).resolve()
READ_ONLY = (PYTHON, ROOT / "operator", Path("/lib"), Path("/lib64"), Path("/usr/lib"))
VERSION = 2 if cgroups.unified() else 1


@dataclass
class Guards:
    """Pods of the chart's DaemonSet, as its controller would make them."""

    api: Api
    template: Json

    def start(self, name: str) -> None:
        """Return when its container runs."""
        body = {"metadata": {"name": name, "labels": self.template["metadata"]["labels"]}}
        answer = self.api.create(pods(SYSTEM), {**body, "spec": self.template["spec"]})
        assert answer.status == 201, answer.message
        path = pods(SYSTEM, name)
        until(lambda: self.api.get(path).body["status"]["phase"] == "Running", f"{name} runs")

    def end(self, name: str) -> None:
        """Return when it has ended, with the grace that the chart gives it."""
        path = pods(SYSTEM, name)
        self.api.delete(path)
        until(lambda: self.api.get(path).status == 404, f"{name} has ended")


@pytest.fixture
def guards(real_node: RealNode, kernel: ControlPlane, offline: Helm) -> Iterator[Guards]:
    """The chart's account and rights, and its pods; those still there end with the test."""
    real_node.import_image(BASE, images.static_program(Path(__file__).parent / "hands"), [])
    objects = offline.template({"nodeGuard": {"enabled": True, "cgroupVersion": VERSION}})
    account = [each for each in objects if each["metadata"]["name"] == "killswitch-node"]
    rights = yaml.safe_dump_all(each for each in account if each["kind"] != "DaemonSet")
    api = kernel.api()
    api.create("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
    kernel.kubectl("apply", "-f", "-", stdin=rights)
    template = named(objects, "DaemonSet", "killswitch-node")["spec"]["template"]
    _take_this_machines_python(template["spec"], real_node, kernel)
    found = Guards(api, template)
    yield found
    for name in ("guard", "next"):
        found.end(name)


def _take_this_machines_python(spec: Json, node: RealNode, plane: ControlPlane) -> None:
    (container,) = spec["containers"]
    python = PYTHON / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    container.update(image=BASE, imagePullPolicy="Never")
    container["command"][0] = str(python)
    changed = {
        "KILLSWITCH_API_SERVER": plane.server,
        "KILLSWITCH_CGROUP_ROOT": f"/{node.cgroup.name}",
        "PYTHONPATH": str(ROOT / "operator"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    kept = [each for each in container["env"] if each["name"] not in changed]
    container["env"] = kept + [{"name": n, "value": v} for n, v in changed.items()]
    for number, path in enumerate(each for each in READ_ONLY if each.exists()):
        name = f"python-{number}"
        spec["volumes"].append({"name": name, "hostPath": {"path": str(path)}})
        mount = {"name": name, "mountPath": str(path), "readOnly": True}
        container["volumeMounts"].append(mount)
    (state,) = [each for each in spec["volumes"] if each["name"] == "state"]
    state["hostPath"]["path"] = str(_state(node))
    # This node has no network for pods, and is not for everybody.
    spec["hostNetwork"] = True
    spec["nodeSelector"]["kubernetes.io/hostname"] = NAME


@pytest.fixture
def victim(real_node: RealNode, kernel: ControlPlane, governed: str) -> Iterator[str]:
    """The uid of a running server of another user."""
    api = kernel.api()
    spec = {**real_node.pod_spec(), "securityContext": {"runAsUser": SOMEBODY}}
    body = {"metadata": {"name": "victim", "labels": LABELS}, "spec": spec}
    uid = str(api.create(pods(governed), body).body["metadata"]["uid"])
    until(lambda: len(real_node.processes(uid)) > 1, "the victim runs")
    yield uid
    real_node.cgroup.thaw()
    api.delete(pods(governed, "victim"), {"gracePeriodSeconds": 1})
    until(lambda: real_node.processes(uid) == [], "the victim is gone")


def test_it_freezes_thaws_and_kills(
    real_node: RealNode, kernel: ControlPlane, governed: str, guards: Guards, victim: str
) -> None:
    """Each as the kernel says and as its report says."""
    api = kernel.api()
    guards.start("guard")
    _freeze(api, governed)
    _until_reported(kernel, victim, "Frozen")
    assert _frozen(real_node, victim)

    thaw = {"spec": {"thaw": {"by": "admin", "reason": "seen enough"}}}
    assert api.patch(freezes(governed, "f"), thaw).status == 200
    _until_reported(kernel, victim, "Thawed")
    assert not _frozen(real_node, victim)
    assert len(real_node.processes(victim)) > 1

    order = shutdown("s", "admin", scope={"podLabels": LABELS})
    answer = api.create(shutdowns(governed), order)
    assert answer.status == 201, answer.message
    _until_reported(kernel, victim, "Dead")
    assert real_node.processes(victim) == []


def test_an_upgrade_hands_over_and_an_uninstall_lets_go(
    real_node: RealNode, kernel: ControlPlane, governed: str, guards: Guards, victim: str
) -> None:
    """Beside its successor a guard leaves what is frozen as it is; the last one thaws it."""
    guards.start("guard")
    _freeze(kernel.api(), governed)
    _until_reported(kernel, victim, "Frozen")
    guards.start("next")
    until(lambda: len(list((_state(real_node) / "alive").iterdir())) == 2, "both say they live")
    guards.end("guard")
    assert _frozen(real_node, victim)
    guards.end("next")
    assert not _frozen(real_node, victim)
    assert len(real_node.processes(victim)) > 1


def _freeze(api: Api, namespace: str) -> None:
    end = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    order = freeze("f", "admin", until=end, scope={"podLabels": LABELS})
    order["spec"].pop("locks", None)
    answer = api.create(freezes(namespace), order)
    assert answer.status == 201, answer.message


def _state(node: RealNode) -> Path:
    return node.directory / "state"


def _until_reported(plane: ControlPlane, uid: str, state: str) -> None:
    """The NodeGuard says so of this pod; fails with the guard's log."""

    def reported() -> bool:
        report = plane.api().get(f"{GROUP}/nodeguards/{NAME}").body.get("status", {})
        entries = report.get("pods", ()) if isinstance(report, dict) else ()
        return any((each["uid"], each["state"]) == (uid, state) for each in entries)

    try:
        until(reported, f"{state} is reported")
    except AssertionError as error:
        shown = plane.kubectl("logs", "-n", SYSTEM, "guard", "--tail=20", check=False)
        raise AssertionError(f"{error}: {shown.stdout}{shown.stderr}") from error


def _frozen(node: RealNode, uid: str) -> bool:
    folder = node.cgroup.pod(uid)
    assert folder is not None
    file, word = ("cgroup.events", "frozen 1") if VERSION == 2 else ("freezer.state", "FROZEN")
    return word in (folder / file).read_text().splitlines()
