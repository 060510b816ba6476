"""A node of the real API server whose pods are real processes below a cgroup of our own, guarded.

kwok says that its pods run; what runs are this scene's processes, in cgroups named by those pods'
uids. The guard is the real process, with a token bound to its own pod on that node.
"""

import itertools
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from killswitch.core import times
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import Daemon
from tests.node.scene import COUNT, ROOT, Scene

Json = dict[str, Any]
SYSTEM = "killswitch-system"
GROUP = "/apis/killswitch.dev/v1alpha1"
ACCOUNT = "killswitch-node"
ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "test-node-guard"},
    "rules": [
        {
            "apiGroups": ["killswitch.dev"],
            "resources": ["shutdowns", "clustershutdowns", "freezes", "standingorders"],
            "verbs": ["list", "watch"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["killswitch.dev"], "resources": ["nodeguards"], "verbs": ["create"]},
        {"apiGroups": ["killswitch.dev"], "resources": ["nodeguards/status"], "verbs": ["patch"]},
    ],
}
_NUMBERS = itertools.count(1)
# A guard that kills itself at a named step, as often as told: a crash with no chance to tidy up.
_CRASHING = """
import os, signal, sys
from pathlib import Path
from killswitch.node.run import main
at, left = sys.argv[1], Path(sys.argv[2])
def step(name, uid):
    if name == at and int(left.read_text()):
        left.write_text(str(int(left.read_text()) - 1))
        os.kill(os.getpid(), signal.SIGKILL)
sys.exit(main(step=step))
"""


def eventually(true: Any, what: str, within: float = 30.0) -> Any:
    """What `true` returns once that is true; fails with `what`."""
    deadline = time.monotonic() + within
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(0.02)
    return found


@dataclass
class Model:
    """A pod that counts as long as it runs."""

    namespace: str
    name: str
    uid: str
    cgroup: str
    shown: Path
    scene: Scene

    @property
    def pids(self) -> set[int]:
        """Its processes."""
        return self.scene.processes(self.scene.folder(self.cgroup))

    @property
    def frozen(self) -> bool:
        """Whether it is there and stands still."""
        return bool(self.pids) and not self._counts()

    @property
    def running(self) -> bool:
        """Whether it counts."""
        return bool(self.pids) and self._counts()

    @property
    def count(self) -> int:
        """How far it has counted; 0 when it has not begun."""
        return int(self.shown.read_text() or 0) if self.shown.exists() else 0

    def _counts(self) -> bool:
        before = self.count
        time.sleep(0.05)
        return self.count > before

    @property
    def dead(self) -> bool:
        """Whether no process is left."""
        return not self.pids

    @property
    def limit(self) -> str:
        """How many processes it may have."""
        return (self.scene.pids / self.scene.folder(self.cgroup) / "pids.max").read_text().strip()


@dataclass
class GuardedNode:
    """One node: its pods, its guards."""

    control_plane: ControlPlane
    scene: Scene
    directory: Path
    server: str = ""
    name: str = ""
    namespace: str = ""
    guards: list[Daemon] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the node, the account, and a namespace for models."""
        self.api = self.control_plane.api()
        self.server = self.server or self.control_plane.server
        number = f"{next(_NUMBERS)}-{time.monotonic_ns() % 10**9}"
        self.name, self.namespace = f"guarded-{number}", f"models-{number}"
        node = {"metadata": {"name": self.name, "labels": {"type": "kwok"}}}
        assert self.api.create("/api/v1/nodes", node).status == 201
        self.api.create("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
        labels = {"killswitch.dev/governed": "true"}
        place = {"metadata": {"name": self.namespace, "labels": labels}}
        assert self.api.create("/api/v1/namespaces", place).status == 201
        # As its controller does; a control plane without one is quicker.
        account = {"metadata": {"name": "default"}}
        self.api.create(f"/api/v1/namespaces/{self.namespace}/serviceaccounts", account)
        self._grant()
        self.token = self.directory / "token"
        self.guard_uid = self._make_token()
        self.state = self.directory / "state"

    def pod(self, name: str, **more: Any) -> Json:
        """Create a pod on this node, as the API has it; nothing of it runs."""
        namespace = more.pop("namespace", self.namespace)
        metadata = {"name": name, "labels": {"app": name}, **more.pop("metadata", {})}
        containers = [{"name": "c", "image": "i"}]
        spec = {"nodeName": self.name, "containers": containers, **more}
        path = f"/api/v1/namespaces/{namespace}/pods"
        body = {"metadata": metadata, "spec": spec}
        answer = eventually(
            lambda: self._created(path, body), f"pod {name} in {namespace} is accepted"
        )
        return dict(answer)

    def model(self, name: str, *, cgroup: str = "", **more: Any) -> Model:
        """Create a pod and start it: one that counts, in a cgroup named by its uid."""
        body = self.pod(name, **more)
        namespace, uid = body["metadata"]["namespace"], body["metadata"]["uid"]
        found = Model(
            namespace, name, uid, cgroup or uid, self.directory / f"{uid}.count", self.scene
        )
        self.start(found)
        return found

    def start(self, model: Model, *, runs: bool = True) -> None:
        """Start its process, as a kubelet would; not `runs`: it stands still at once."""
        self.scene.pod(model.cgroup)
        container = self.scene.containers[0]
        self.scene.enter(self.scene.folder(model.cgroup, container), COUNT, model.shown, 1)
        eventually(lambda: model.pids, "it is in its cgroup")
        if runs:
            eventually(lambda: model.running, "it has begun to count")

    def guard(self, *, wait: bool = True, **environment: str) -> Daemon:
        """Start a guard, and wait for its first report unless told otherwise."""
        return self._run(["-m", "killswitch.node"], environment, wait=wait)

    def crashing_guard(self, step: str, times_: int = 1, *, wait: bool = True) -> Daemon:
        """A guard whose worker is killed as soon as it comes to this step."""
        left = self.directory / "crashes-left"
        left.write_text(str(times_))
        return self._run(["-c", _CRASHING, step, str(left)], {}, wait=wait)

    @property
    def crashes_left(self) -> int:
        """Of a crashing guard."""
        return int((self.directory / "crashes-left").read_text())

    def _run(self, arguments: list[str], environment: Mapping[str, str], *, wait: bool) -> Daemon:
        told = {
            "NODE_NAME": self.name,
            "POD_UID": self.guard_uid,
            "KILLSWITCH_API_SERVER": self.server,
            "KILLSWITCH_TOKEN_FILE": str(self.token),
            "KILLSWITCH_CA_FILE": str(self.control_plane.ca_file),
            "KILLSWITCH_STATE_DIR": str(self.state),
            "KILLSWITCH_CGROUPS": str(self.scene.top),
            "PYTHONPATH": str(ROOT / "operator"),
            **environment,
        }
        number = len(self.guards)
        daemon = Daemon(
            "guard", [sys.executable, *arguments], self.directory / f"guard-{number}.log", told
        )
        self.guards.append(daemon)
        daemon.start()
        if wait:
            before = self.status().get("renewedAt", "")
            eventually(
                lambda: self.status().get("renewedAt", "") > before, f"it reports: {daemon.log}"
            )
        return daemon

    def log(self, event: str) -> list[Json]:
        """Log lines of all guards with this event."""
        lines = [line for guard in self.guards for line in guard.log.read_text().splitlines()]
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [each for each in found if each["event"] == event]

    def status(self) -> Json:
        """What the node's NodeGuard says."""
        answer = self.api.get(f"{GROUP}/nodeguards/{self.name}")
        return dict(answer.body.get("status", {})) if answer.status == 200 else {}

    def reported(self, model: Model, state: str) -> Json:
        """Its entry, once it says so."""

        def entry() -> Json | None:
            pods = self.status().get("pods", [])
            found = [each for each in pods if each["uid"] == model.uid]
            return next((each for each in found if each["state"] == state), None)

        return dict(eventually(entry, f"{model.name} is reported {state}"))

    def problem(self, part: str) -> str:
        """A problem with these words, once it is told."""

        def entry() -> str | None:
            found = self.status().get("problems", [])
            return next((each for each in found if part in each), None)

        return str(eventually(entry, f"it tells of {part}"))

    def shutdown(self, name: str = "stop", namespace: str = "", **spec: Any) -> Json:
        """Engage one; it holds the namespace unless told otherwise."""
        return self._order("Shutdown", "shutdowns", name, namespace, spec)

    def freeze(
        self, name: str = "hold", seconds: float = 600, then: str = "Thaw", **spec: Any
    ) -> Json:
        """Engage one; it holds the namespace unless told otherwise."""
        until = times.text(time.time() + seconds)
        return self._order(
            "Freeze", "freezes", name, "", {"until": until, "onExpiry": then, **spec}
        )

    def standing(self, name: str = "p", then: str = "Freeze", after: str = "30s") -> Json:
        """Leave one, as the manager does."""
        policy = {"kind": "KillSwitchPolicy", "name": name, "uid": "u"}
        spec = {"policy": policy, "onIsolation": then, "after": after}
        body = {
            "apiVersion": "killswitch.dev/v1alpha1",
            "kind": "StandingOrder",
            "metadata": {"name": name},
            "spec": {**spec, "scope": {"wholeNamespace": True}},
        }
        path = f"{GROUP}/namespaces/{self.namespace}/standingorders"
        account = self.control_plane.service_account(SYSTEM, "killswitch-manager")
        self._bind("cluster-admin", "killswitch-manager")
        answer = self.control_plane.api(account).create(path, body)
        assert answer.status == 201, answer.message
        return answer.body

    def release(self, name: str = "stop") -> None:
        """As a person does."""
        path = f"{GROUP}/namespaces/{self.namespace}/shutdowns/{name}"
        body = {"spec": {"approvals": {"alice": {"reason": "looked at it"}}}}
        answer = self.control_plane.api(self._person("alice")).patch(path, body)
        assert answer.status == 200, answer.message

    def thaw(self, name: str = "hold") -> None:
        """As a person does."""
        path = f"{GROUP}/namespaces/{self.namespace}/freezes/{name}"
        body = {"spec": {"thaw": {"by": "alice", "reason": "a false alarm"}}}
        answer = self.control_plane.api(self._person("alice")).patch(path, body)
        assert answer.status == 200, answer.message

    def close(self) -> None:
        """End the guards."""
        for each in self.guards:
            if each.running:
                each.stop(kill=True)

    def _order(self, kind: str, plural: str, name: str, namespace: str, spec: Json) -> Json:
        held = {} if {"locks", "scope"} & spec.keys() else {"scope": {"wholeNamespace": True}}
        terms = {"requestedBy": "admin", "reason": "it leaks", "requiredApprovals": 1}
        body = {
            "apiVersion": "killswitch.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "labels": {"killswitch.dev/engaged": "true"}},
            "spec": {**terms, **held, **spec},
        }
        answer = self.api.create(f"{GROUP}/namespaces/{namespace or self.namespace}/{plural}", body)
        assert answer.status == 201, answer.message
        return answer.body

    def _person(self, name: str) -> Any:
        self.api.create(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            {
                "metadata": {"name": f"test-{name}-admin"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "cluster-admin",
                },
                "subjects": [{"kind": "User", "name": name}],
            },
        )
        user = self.control_plane.user(name)
        path = f"{GROUP}/namespaces/{self.namespace}/shutdowns"
        eventually(
            lambda: self.control_plane.api(user).get(path).status == 200, f"{name} may do that"
        )
        return user

    def _created(self, path: str, body: Json) -> Json | None:
        answer = self.api.create(path, body)
        # The namespace's account is made by a controller; refusals of a new API server pass.
        return answer.body if answer.status == 201 else None

    def _grant(self) -> None:
        self.api.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", ROLE)
        self._bind("test-node-guard", ACCOUNT)

    def _bind(self, role: str, account: str) -> None:
        self.api.create(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            {
                "metadata": {"name": f"test-{account}"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": role,
                },
                "subjects": [{"kind": "ServiceAccount", "namespace": SYSTEM, "name": account}],
            },
        )

    def _make_token(self) -> str:
        """A token bound to the guard's pod, as a kubelet asks for; returns that pod's uid."""
        path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts"
        self.api.create(path, {"metadata": {"name": ACCOUNT}})
        body = self.pod(self.name, namespace=SYSTEM, serviceAccountName=ACCOUNT)
        bound = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": self.name,
            "uid": body["metadata"]["uid"],
        }
        spec = {"expirationSeconds": 3600, "boundObjectRef": bound}
        answer = self.api.create(f"{path}/{ACCOUNT}/token", {"spec": spec})
        assert answer.status == 201, answer.message
        self.token.write_text(answer.body["status"]["token"])
        return str(body["metadata"]["uid"])
