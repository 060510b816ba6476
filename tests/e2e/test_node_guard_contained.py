"""The node guard itself in the chart's own pod, on a real kubelet: nothing that it needs is missing.

Its image is this machine's Python, mounted read-only; all else is as rendered.
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.cluster import cgroups, images
from tests.cluster.control_plane import ControlPlane
from tests.cluster.node import NAME, RealNode
from tests.e2e.chart import ROOT, Helm, Json, named, until
from tests.e2e.conftest import SYSTEM
from tests.kernel.objects import GROUP, freeze, freezes, pods, shutdown, shutdowns

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

BASE = "killswitch.test/hands:1"
SOMEBODY = 65532
PYTHON = Path(sys.base_prefix).resolve()
READ_ONLY = (PYTHON, ROOT / "operator", Path("/lib"), Path("/lib64"), Path("/usr/lib"))
VERSION = 2 if cgroups.unified() else 1


@pytest.fixture
def guard(real_node: RealNode, kernel: ControlPlane, offline: Helm) -> Iterator[str]:
    """The path of its running pod."""
    real_node.import_image(BASE, images.static_program(Path(__file__).parent / "hands"), [])
    objects = offline.template({"nodeGuard": {"enabled": True, "cgroupVersion": VERSION}})
    account = [each for each in objects if each["metadata"]["name"] == "killswitch-node"]
    rights = yaml.safe_dump_all(each for each in account if each["kind"] != "DaemonSet")
    api = kernel.api()
    api.create("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
    kernel.kubectl("apply", "-f", "-", stdin=rights)
    template = named(objects, "DaemonSet", "killswitch-node")["spec"]["template"]
    _take_this_machines_python(template["spec"], real_node, kernel)
    body = {"metadata": {"name": "guard", "labels": template["metadata"]["labels"]}}
    answer = api.create(pods(SYSTEM), {**body, "spec": template["spec"]})
    assert answer.status == 201, answer.message
    path = pods(SYSTEM, "guard")
    yield path
    api.delete(path)
    until(lambda: api.get(path).status == 404, "the guard has left")


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
    state["hostPath"]["path"] = str(node.directory / "state")
    # This node has no network for pods, and is not for everybody.
    spec["hostNetwork"] = True
    spec["nodeSelector"]["kubernetes.io/hostname"] = NAME


def test_it_freezes_thaws_and_kills(
    real_node: RealNode, kernel: ControlPlane, governed: str, guard: str
) -> None:
    """A server of another user; each as the kernel says and as its report says."""
    api = kernel.api()
    spec = {**real_node.pod_spec(), "securityContext": {"runAsUser": SOMEBODY}}
    labels = {"app": "victim"}
    body = {"metadata": {"name": "victim", "labels": labels}, "spec": spec}
    uid = str(api.create(pods(governed), body).body["metadata"]["uid"])
    until(lambda: len(real_node.processes(uid)) > 1, "the victim runs")

    scope = {"podLabels": labels}
    end = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    order = freeze("f", "admin", until=end, scope=scope)
    order["spec"].pop("locks", None)
    assert api.create(freezes(governed), order).status == 201
    _until_reported(kernel, uid, "Frozen")
    assert _frozen(real_node, uid)

    thaw = {"spec": {"thaw": {"by": "admin", "reason": "seen enough"}}}
    assert api.patch(freezes(governed, "f"), thaw).status == 200
    _until_reported(kernel, uid, "Thawed")
    assert not _frozen(real_node, uid)
    assert len(real_node.processes(uid)) > 1

    answer = api.create(shutdowns(governed), shutdown("s", "admin", scope=scope))
    assert answer.status == 201, answer.message
    _until_reported(kernel, uid, "Dead")
    assert real_node.processes(uid) == []
    api.delete(pods(governed, "victim"), {"gracePeriodSeconds": 1})


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
