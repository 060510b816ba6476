"""People, GitOps and a controller push against a stop of a real API server that audits: all are named.

The log is read by `why --audit`; its webhook backend posts to a manager process of its own.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.conftest import eventually
from tests.cluster.auditing import Auditing
from tests.cluster.control_plane import QUICK, ControlPlane
from tests.cluster.processes import Daemon, free_port
from tests.kernel.fixtures import install
from tests.kernel.objects import deployment, shutdown, shutdowns

pytestmark = pytest.mark.cluster
Json = dict[str, Any]
NAMESPACE = "prod"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
ALICE = ("alice", "kubectl", "Deployment vllm")
GITOPS = ("argocd/argocd-application-controller", "argocd-controller", "Deployment vllm")
CONTROLLER = ("kube-system/replicaset-controller", "kube-controller-manager")


@dataclass
class Audited:
    """A control plane that audits."""

    plane: ControlPlane
    auditing: Auditing

    def killswitch(self, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[str]":
        """The command, as the administrator."""
        done = subprocess.run(
            [sys.executable, "-m", "killswitch", *arguments, "-n", NAMESPACE],
            input=stdin,
            capture_output=True,
            check=False,
            env={**os.environ, "KUBECONFIG": str(self.plane.admin.kubeconfig)},
        )
        texts = (done.stdout.decode(), done.stderr.decode())
        return subprocess.CompletedProcess(done.args, done.returncode, *texts)

    def push(self) -> None:
        """Stop, and have everybody push against it: alice twice, GitOps three times."""
        api = self.plane.api()
        label = {"killswitch.dev/governed": "true"}
        api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": label}})
        assert api.create(DEPLOYMENTS, deployment("vllm", 1)).status == 201
        eventually(lambda: len(self.pods()) == 1)
        body = shutdown("stop", "admin", scope={"wholeNamespace": True})
        assert api.create(shutdowns(NAMESPACE), body).status == 201
        eventually(lambda: api.create(PODS, _pod("probe"), dry_run=True).status == 403)
        for name in self.pods():
            api.delete(f"{PODS}/{name}", gracePeriodSeconds="0")
        for _ in range(2):
            self._refused("scale", "deployment/vllm", "--replicas=3", by="alice")
        body = {"apiVersion": "apps/v1", "kind": "Deployment", **deployment("vllm", 4)}
        for _ in range(3):
            self._refused(
                *("apply", "--server-side", "--force-conflicts", "-f", "-"),
                "--field-manager=argocd-controller",
                by="argocd",
                stdin=json.dumps(body),
            )
        # The lock's own proofs, and whoever only asks, are no attempts.
        self._refused("scale", "deployment/vllm", "--replicas=3", "--dry-run=server", by="alice")

    def _refused(self, *arguments: str, by: str, stdin: str = "") -> None:
        user = (
            self.plane.user(by)
            if by == "alice"
            else self.plane.service_account("argocd", "argocd-application-controller")
        )
        done = self.plane.kubectl(*arguments, "-n", NAMESPACE, user=user, stdin=stdin, check=False)
        assert "held down by Shutdown prod/stop" in done.stderr

    def pods(self) -> list[str]:
        """Names."""
        return [each["metadata"]["name"] for each in self.plane.api().get(PODS).body["items"]]

    def by_the_log(self) -> int:
        """How often the ReplicaSet's controller was refused, counted in another way."""
        requests = (json.loads(line) for line in self.auditing.log.read_text().splitlines())
        return sum(
            each["user"]["username"].endswith(":replicaset-controller")
            and each.get("responseStatus", {}).get("code") == 403
            for each in requests
        )

    @property
    def attempts(self) -> list[Json]:
        """Of the status."""
        found = self.plane.api().get(shutdowns(NAMESPACE, "stop")).body
        denied = found.get("status", {}).get("attempts") or []
        return [each for each in denied if each["outcome"] == "Denied"]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    """The kernel is installed, and alice and GitOps may do everything."""
    auditing = Auditing.within(tmp_path_factory.mktemp("audit"))
    with ControlPlane(api_server_flags=auditing.flags, controller_manager_flags=QUICK) as plane:
        plane.add_gpu_nodes(1)
        install(plane)
        for namespace in ("argocd", "killswitch-system"):
            plane.api().create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        account = "argocd:argocd-application-controller"
        subjects = ("--user=alice", f"--serviceaccount={account}")
        plane.kubectl(
            "create", "clusterrolebinding", "all", "--clusterrole=cluster-admin", *subjects
        )
        yield Audited(plane, auditing)


@pytest.fixture(scope="module")
def metrics(audited: Audited, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a manager process that hears of audit events tells its metrics; then all push."""
    directory, auditing, port = tmp_path_factory.mktemp("manager"), audited.auditing, free_port()
    environment = {
        "KUBECONFIG": str(audited.plane.admin.kubeconfig),
        "KILLSWITCH_AUDIT_LISTEN": f"127.0.0.1:{auditing.port}",
        "KILLSWITCH_EVENT_KEYS_FILE": str(auditing.keys),
        "KILLSWITCH_TLS_CERT_FILE": str(auditing.certificate),
        "KILLSWITCH_TLS_KEY_FILE": str(auditing.key),
        "KILLSWITCH_METRICS_LISTEN": f"127.0.0.1:{port}",
        "KILLSWITCH_VERIFY_INTERVAL": "0.5",
    }
    command = [sys.executable, "-m", "killswitch", "manager"]
    manager = Daemon("manager", command, directory / "manager.log", environment)
    manager.start()
    try:
        manager.wait_ready(lambda: _answers(f"http://127.0.0.1:{port}/readyz"))
        audited.push()
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        manager.stop()


def test_the_status_the_story_and_the_metric_name_who_pushes(
    audited: Audited, metrics: str
) -> None:
    """By the webhook backend; the controller, which writes Events as well, counts once."""

    def told() -> bool:
        counts = {_key(each): each["count"] for each in audited.attempts}
        controller = sum(count for key, count in counts.items() if key[:2] == CONTROLLER)
        others = {key: count for key, count in counts.items() if key[:2] != CONTROLLER}
        return (others, controller) == ({ALICE: 2, GITOPS: 3}, audited.by_the_log())

    eventually(told)
    shown = audited.killswitch("why", "stop").stdout
    assert "Denied by the lock: alice (kubectl) for Deployment vllm, 2 times, last " in shown
    words = "argocd/argocd-application-controller (argocd-controller) for Deployment vllm, 3 times"
    assert f"Denied by the lock: {words}" in shown
    measured = _samples(metrics, "killswitch_denied_attempts_total", "controller")
    assert (measured["alice"], measured["argocd-application-controller"]) == (2, 3)
    assert measured["replicaset-controller"] >= 1
    assert _samples(metrics, "killswitch_requests_total", "outcome").keys() == {"Accepted"}


def test_an_exported_log_tells_it_too(audited: Audited, metrics: str) -> None:
    """From a file, from standard input, and as a list; the same log twice counts once."""
    assert metrics  # all have pushed
    log = audited.auditing.log.read_bytes()
    events = [json.loads(line) for line in log.splitlines()]
    listed = json.dumps({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": events})
    file = audited.auditing.log.with_name("exported")
    file.write_bytes(log + b"\n" + log)
    answers = []
    for path, stdin in ((str(file), b""), ("-", log), ("-", listed.encode())):
        done = audited.killswitch("why", "stop", "--audit", path, "-o", "json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout)["audit"])
    assert answers[0] == answers[1] == answers[2]
    counts = Counter({_key(each): each["count"] for each in answers[0]})
    assert (counts[ALICE], counts[GITOPS]) == (2, 3)
    (made,) = [key for key in counts if key[:2] == CONTROLLER]
    assert (made[2].startswith("Pod vllm-"), made[2][-2:]) == (True, "-*")
    assert counts[made] == sum(
        each["user"]["username"].endswith(":replicaset-controller")
        and each.get("responseStatus", {}).get("code") == 403
        for each in events
    )
    shown = audited.killswitch("why", "stop", "--audit", str(file)).stdout
    assert f"Audit log: {counts.total()} attempts to undo it were refused" in shown
    (line,) = [each for each in shown.splitlines() if each.startswith("alice ")]
    assert line.split()[:5] == ["alice", "kubectl", "Deployment", "vllm", "2"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (b'{"kind": "Ev\n', "it is not JSON"),
        (b'{"level": "info"}\n', "this is None of None, not Event of audit.k8s.io/v1"),
    ],
)
def test_a_line_that_is_no_audit_event_is_named(
    audited: Audited, metrics: str, more: bytes, words: str
) -> None:
    """Silence about it could be taken for peace."""
    assert metrics
    first = audited.auditing.log.read_bytes().splitlines(keepends=True)[0]
    done = audited.killswitch("why", "stop", "--audit", "-", stdin=first + b"\n" + more)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Not possible: read line 3 of -.\nWhy: " + words)


def test_a_log_that_is_not_there_is_said_to_be_so(audited: Audited, metrics: str) -> None:
    """And one that is given beside something else is refused."""
    assert metrics
    done = audited.killswitch("why", "stop", "--audit", "/nowhere")
    assert (done.returncode, "Not possible: read /nowhere" in done.stderr) == (1, True)
    done = audited.killswitch("why", "deploy/vllm", "--audit", "/nowhere")
    assert (done.returncode, "name a Shutdown" in done.stderr) == (2, True)


def _pod(name: str) -> Json:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def _key(attempt: Json) -> tuple[str, str, str]:
    return attempt["who"], attempt.get("fieldManager", ""), attempt["object"]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _samples(url: str, name: str, label: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            each.labels[label]: each.value
            for family in families
            for each in family.samples
            if each.name == name
        }
