"""The real command in a process of its own, as alice, bob, carol or mallory, on the real API server.

alice, bob and carol may stop, release and restore in the test's namespace; mallory may do nothing.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import ControlPlane, User
from tests.fakes.clock import FakeClock

Json = dict[str, Any]
PROGRAM = Path(sys.executable).with_name("killswitch")
_GROUP = "/apis/killswitch.dev/v1alpha1"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
STOPPING = [
    {
        "apiGroups": ["killswitch.dev"],
        "resources": ["shutdowns", "shutdownrecords", "killswitchpolicies", "bypasses"],
        "verbs": ["get", "list", "create", "patch", "delete"],
    },
    {
        "apiGroups": ["killswitch.dev"],
        "resources": ["freezes"],
        "verbs": ["get", "list", "create", "patch"],
    },
    {"apiGroups": ["killswitch.dev"], "resources": ["shutdowns"], "verbs": ["release", "restore"]},
    {"apiGroups": ["killswitch.dev"], "resources": ["killswitchpolicies"], "verbs": ["bypass"]},
    {
        "apiGroups": ["apps"],
        "resources": ["deployments", "statefulsets", "replicasets", "daemonsets"],
        "verbs": ["get", "list"],
    },
    {"apiGroups": ["batch"], "resources": ["jobs", "cronjobs"], "verbs": ["get", "list", "patch"]},
    {
        "apiGroups": ["apps"],
        "resources": ["deployments/scale", "statefulsets/scale"],
        "verbs": ["patch"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "create", "delete"]},
    {
        "apiGroups": [""],
        "resources": ["replicationcontrollers", "services"],
        "verbs": ["get", "list"],
    },
    {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": ["get", "list"]},
    {
        "apiGroups": ["autoscaling"],
        "resources": ["horizontalpodautoscalers"],
        "verbs": ["get", "list"],
    },
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
]
"""Rules of someone who may stop, release and restore in a namespace."""


_READERS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-guards-reader}
rules:
- apiGroups: [killswitch.dev]
  resources: [nodeguards]
  verbs: [get, list]
- apiGroups: [""]
  resources: [nodes]
  verbs: [list]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-guards-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-guards-reader}
subjects:
- {kind: User, name: dave}
"""


def without(*verbs: str, of: str) -> list[Json]:
    """The rules above without these verbs on one resource."""
    return [
        {
            **rule,
            "verbs": [v for v in rule["verbs"] if v not in verbs or of not in rule["resources"]],
        }
        for rule in STOPPING
    ]


class LeapingClock(FakeClock):
    """Sleeping is how its time passes."""

    async def sleep(self, seconds: float) -> None:
        """Return at once, that many seconds later."""
        self._passed += seconds


@dataclass
class Stage:
    """One namespace, the people who act in it, and the command."""

    control_plane: ControlPlane
    namespace: str

    def run(self, *arguments: str, by: str | User = "alice", **env: str) -> Any:
        """`killswitch …` as this person, with the namespace given; never raises."""
        return self.raw(*arguments, "-n", self.namespace, by=by, **env)

    def raw(self, *arguments: str, by: str | User = "alice", **env: str) -> Any:
        """`killswitch …` with exactly these arguments."""
        user = self.control_plane.user(by) if isinstance(by, str) else by
        return subprocess.run(
            [str(PROGRAM), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
            env={**os.environ, "KUBECONFIG": str(user.kubeconfig), "COLUMNS": "200", **env},
        )

    def json(self, *arguments: str, by: str | User = "alice", code: int = 0) -> Json:
        """The command's JSON answer."""
        done = self.run(*arguments, "-o", "json", by=by)
        assert done.returncode == code, done.stderr
        found: Json = json.loads(done.stdout)
        return found

    def stop(self, *arguments: str, by: str = "alice", code: int = 0) -> str:
        """Stop as this person and give the Shutdown's name."""
        flags = arguments or ("--all",)
        return str(self.json("stop", *flags, "--reason", "test", by=by, code=code)["name"])

    def get(self, path: str) -> Json:
        """An object or list of the namespace, as the administrator; path like `apps/v1/…`."""
        group, _, rest = path.partition(" ")
        answer = self.control_plane.api().get(f"{group}/namespaces/{self.namespace}/{rest}")
        return answer.body

    def shutdown(self, name: str) -> Json:
        """One Shutdown as stored."""
        return self.get(f"{_GROUP} shutdowns/{name}")

    def pods(self) -> list[str]:
        """Names of the namespace's pods."""
        return [each["metadata"]["name"] for each in self.get("/api/v1 pods")["items"]]

    def replicas(self, name: str) -> int:
        """`spec.replicas` of a Deployment."""
        return int(self.get(f"/apis/apps/v1 deployments/{name}")["spec"]["replicas"])

    def deployment(
        self,
        name: str = "vllm",
        replicas: int = 2,
        gpus: int = 0,
        *,
        node: str = "cli-0",
        labels: Json | None = None,
        probe: Json | None = None,
    ) -> None:
        """A Deployment whose pods have appeared, all of them on one node."""
        body = _deployment(name, replicas, gpus, node)
        template = body["spec"]["template"]
        template["metadata"]["labels"] |= labels or {}
        if probe is not None:
            template["spec"]["containers"][0]["livenessProbe"] = probe
        self.create("/apis/apps/v1", "deployments", body)
        eventually(lambda: sum(pod.startswith(f"{name}-") for pod in self.pods()) == replicas)
        self.placed(len(self.pods()))

    def placed(self, count: int) -> None:
        """Return when this many pods have a node."""
        eventually(
            lambda: sum("nodeName" in p["spec"] for p in self.get("/api/v1 pods")["items"]) == count
        )

    def create(self, root: str, plural: str, body: Json) -> Json:
        """Create as the administrator."""
        answer = self.control_plane.api().create(
            f"{root}/namespaces/{self.namespace}/{plural}", body
        )
        assert answer.status == 201, answer.message
        return answer.body

    def policy(self, name: str, status: Json | None = None, **spec: Any) -> Json:
        """A KillSwitchPolicy on deployment vllm, with this status."""
        made = self.create(_GROUP, "killswitchpolicies", _policy(name, spec))
        if status is not None:
            path = f"{_GROUP}/namespaces/{self.namespace}/killswitchpolicies/{name}/status"
            answer = self.control_plane.api().patch(path, {"status": status})
            assert answer.status == 200, answer.message
        return made

    def report(self, name: str, status: Json) -> None:
        """Write a Shutdown's status as an operator would."""
        path = f"{_GROUP}/namespaces/{self.namespace}/shutdowns/{name}/status"
        answer = self.control_plane.api().patch(path, {"status": status})
        assert answer.status == 200, answer.message

    def govern(self) -> None:
        """Let the lock apply here."""
        change = {"metadata": {"labels": {"killswitch.dev/governed": "true"}}}
        path = f"/api/v1/namespaces/{self.namespace}"
        assert self.control_plane.api().patch(path, change).status == 200

    def grant(self, name: str, rules: list[Json], *people: str) -> None:
        """A Role with these rules, bound to these people."""
        root = f"{_RBAC}/namespaces/{self.namespace}"
        api = self.control_plane.api()
        role = {"metadata": {"name": name}, "rules": rules}
        assert api.create(f"{root}/roles", role).status == 201
        group = "rbac.authorization.k8s.io"
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": each} for each in people],
        }
        assert api.create(f"{root}/rolebindings", binding).status == 201


@pytest.fixture(scope="module")
def _nodes(control_plane: ControlPlane) -> None:
    """Nodes of these tests' own: GPUs stay taken where a test leaves something engaged."""
    control_plane.add_gpu_nodes(2, gpus=64, prefix="cli")


@pytest.fixture
def open_stage(_nodes: None, kernel: ControlPlane, namespace: str) -> Stage:
    """A fresh ungoverned namespace where nobody has any right."""
    return Stage(kernel, namespace)


@pytest.fixture
def stage(open_stage: Stage) -> Stage:
    """A fresh governed namespace where alice, bob and carol may stop, release and restore."""
    open_stage.govern()
    open_stage.grant("people", STOPPING, "alice", "bob", "carol")
    return open_stage


@pytest.fixture
def frosty(stage: Stage) -> Stage:
    """A stage where dave, who may read the guards, freezes too and bob thaws."""
    stage.control_plane.kubectl("apply", "-f", "-", stdin=_READERS)
    stage.grant("freezers", STOPPING, "dave")
    thaws = {"apiGroups": ["killswitch.dev"], "resources": ["freezes"], "verbs": ["thaw"]}
    stage.grant("thawers", [thaws], "bob")
    return stage


@pytest.fixture
def guard(frosty: Stage) -> Iterator[Any]:
    """A guard of node cli-0 (tests/cli/guards.py)."""
    from tests.cli.guards import guarded

    with guarded(frosty.control_plane, frosty.namespace, "cli-0") as (found,):
        yield found


def eventually(look: Callable[[], object], seconds: float = 30.0) -> None:
    """Return once `look` is true; fail when it is not in time."""
    until = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.05)


def told(text: str, namespace: str) -> str:
    """Output without what differs from run to run: names, times, the test's namespace."""
    text = re.sub(r"\d{8}t\d{6}-\d{3}", "TIME", text).replace(namespace, "NS")
    text = re.sub(r" *\d+(\.\d+)? m?s\b", " T", text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "WHEN", text)


def _deployment(name: str, replicas: int, gpus: int, node: str) -> Json:
    limits = {"limits": {"nvidia.com/gpu": gpus}}
    pod = {
        "nodeSelector": {"kubernetes.io/hostname": node},
        "terminationGracePeriodSeconds": 30,
        "containers": [{"name": "server", "image": "example.invalid/vllm", "resources": limits}],
    }
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }


def _policy(name: str, spec: Json) -> Json:
    signal = {
        "name": "tokens",
        "prometheus": {"query": "sum(tokens)", "above": "5000"},
        "onNoData": "Hold",
    }
    return {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "KillSwitchPolicy",
        "metadata": {"name": name},
        "spec": {
            "mode": "Enforce",
            "targets": [{"kind": "Deployment", "name": "vllm"}],
            "signals": [signal],
            "owner": "team-a",
            "backup": "team-b",
            **spec,
        },
    }
