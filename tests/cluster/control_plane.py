"""A real Kubernetes control plane on free loopback ports in a folder of its own.

etcd, kube-apiserver, kube-controller-manager with its default client limits, kube-scheduler and
kwok for nodes whose pods behave. The API server answers after about two and a half seconds,
everything runs after about eight: the controller manager fetches the credentials of its
controllers at its default limit of 20 requests a second. Ends with whoever started it. Used by
the tests, `make cluster`, the demo and the benchmarks.
"""

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import binaries
from tests.cluster.api import Api
from tests.cluster.processes import Daemon, free_port

NAMES = ("alice", "bob", "carol", "dave", "mallory", "viewer")
"""People with a token and no rights until a test gives them some."""
NODE = "system:node:real-0"
"""The kubelet of tests/cluster/node.py, in the group that the Node authorizer knows."""
QUICK = ("--kube-api-qps=500", "--kube-api-burst=1000")
"""Controller manager flags for tests that measure nothing: everything runs after four seconds."""
_STAGES = Path(__file__).parent / "kwok" / "stages.yaml"


@dataclass(frozen=True)
class User:
    """Someone who can authenticate."""

    name: str
    token: str
    kubeconfig: Path


@dataclass(eq=False)
class ControlPlane:
    """One control plane. Use as a context manager, or `start` and `stop`."""

    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="killswitch-")))
    api_server_flags: Sequence[str] = ()
    controller_manager_flags: Sequence[str] = ()
    controllers: bool = True
    scheduler: bool = True
    kwok: bool = True
    report: Callable[[str], None] = field(default=lambda _line: None)
    _daemons: dict[str, Daemon] = field(default_factory=dict)
    _users: dict[str, User] = field(default_factory=dict)
    _apis: dict[str, Api] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it and remove its folder."""
        self.stop()

    def start(self) -> None:
        """Return when the API server answers `ok` and the controllers run."""
        wanted = ["etcd", "kube-apiserver", "kubectl"]
        wanted += ["kube-controller-manager"] if self.controllers else []
        wanted += ["kube-scheduler"] if self.scheduler else []
        wanted += ["kwok"] if self.kwok else []
        self._programs = binaries.locate(wanted, self.report)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        self._make_keys()
        self._make_tokens()
        self._start_etcd()
        self._start_api_server()
        if self.controllers:
            self._start_controller_manager()
        if self.scheduler:
            self._start_scheduler()
        if self.kwok:
            self._start_kwok()

    def stop(self) -> None:
        """End every process in reverse order; remove the folder."""
        for api in self._apis.values():
            api.close()
        self._apis.clear()
        for daemon in reversed(self._daemons.values()):
            daemon.stop(kill=True)
        self._daemons.clear()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def ca_file(self) -> Path:
        """Certificate to trust."""
        return self.directory / "certs" / "apiserver.crt"

    @property
    def admin(self) -> User:
        """Someone in system:masters."""
        return self._users["admin"]

    def user(self, name: str) -> User:
        """One of NAMES or NODE; KeyError for anybody else."""
        return self._users[name]

    def api(self, user: User | None = None) -> Api:
        """Raw calls as this user, by default the administrator."""
        token = (user or self.admin).token
        if token not in self._apis:
            self._apis[token] = Api(self.server, self.ca_file, token)
        return self._apis[token]

    def service_account(self, namespace: str, name: str, node: str = "") -> User:
        """A service account's token, valid for an hour; the account is created if absent.

        With a node it is bound to a pod there, created if absent, as a kubelet would get it.
        """
        username = f"system:serviceaccount:{namespace}:{name}"
        key = f"{username}@{node}" if node else username
        if key not in self._users:
            api = self.api()
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
            api.create(path, {"metadata": {"name": name}})
            request: dict[str, Any] = {"expirationSeconds": 3600}
            if node:
                request["boundObjectRef"] = self._pod_on(namespace, name, node)
            answer = api.create(f"{path}/{name}/token", {"spec": request})
            assert answer.status == 201, answer.message
            file = f"{namespace}.{name}.{node}" if node else f"{namespace}.{name}"
            self._users[key] = self._user(username, answer.body["status"]["token"], file)
        return self._users[key]

    def _pod_on(self, namespace: str, account: str, node: str) -> dict[str, str]:
        """A reference to a pod of this account on this node."""
        spec = {
            "serviceAccountName": account,
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": "i"}],
        }
        path, name = f"/api/v1/namespaces/{namespace}/pods", f"{account}-{node}"
        self.api().create(path, {"metadata": {"name": name}, "spec": spec})
        found = self.api().get(f"{path}/{name}").body["metadata"]
        return {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": found["uid"]}

    def kubectl(
        self, *arguments: str, user: User | None = None, stdin: str = "", check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Real kubectl as this user; with `check` a failure raises with its error text."""
        result = subprocess.run(
            [str(self._programs["kubectl"]), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "KUBECONFIG": str((user or self.admin).kubeconfig)},
        )
        if check and result.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {result.stderr}")
        return result

    @property
    def kubectl_path(self) -> Path:
        """The kubectl binary."""
        return self._programs["kubectl"]

    def restart_api_server(self) -> None:
        """Kill the API server and start it again on the same port; return when it is ready."""
        self._daemons["kube-apiserver"].stop(kill=True)
        self._start_api_server()

    def stop_api_server(self) -> None:
        """Kill the API server and leave it down."""
        self._daemons["kube-apiserver"].stop(kill=True)

    def start_api_server(self) -> None:
        """Start it again after `stop_api_server`."""
        self._start_api_server()

    def add_api_server(self, *flags: str) -> str:
        """Start a second one on the same etcd, with these flags too; its URL once it is ready."""
        port = free_port()
        name = f"kube-apiserver-{port}"
        api = Api(f"https://127.0.0.1:{port}", self.ca_file, self.admin.token)
        daemon = Daemon(
            name,
            [str(self._programs["kube-apiserver"]), *self._api_server_flags(port), *flags],
            self.directory / f"{name}.log",
        )
        self._daemons[name] = daemon
        daemon.start()
        daemon.wait_ready(lambda: _answers_ok(lambda: api))
        api.close()
        return f"https://127.0.0.1:{port}"

    def stop_api_server_at(self, url: str) -> None:
        """Kill one of `add_api_server`."""
        self._daemons.pop(f"kube-apiserver-{url.rpartition(':')[2]}").stop(kill=True)

    def restart_controller_manager(self, *flags: str) -> None:
        """Run the controller manager with these flags instead; none means its defaults."""
        self._daemons.pop("kube-controller-manager").stop(kill=True)
        self.controller_manager_flags = flags
        self._start_controller_manager()

    def pids(self) -> list[int]:
        """Process ids of everything that runs."""
        return [daemon.pid for daemon in self._daemons.values()]

    def pid(self, name: str) -> int:
        """Process id of one program, such as kube-apiserver."""
        return self._daemons[name].pid

    def add_gpu_nodes(self, count: int, *, gpus: int = 8, prefix: str = "gpu") -> list[str]:
        """Nodes that kwok keeps Ready, each with this many GPUs; return when all are Ready."""
        names = [f"{prefix}-{number}" for number in range(count)]
        api = self.api()
        for name in names:
            api.create("/api/v1/nodes", gpu_node(name, gpus))
        _wait(lambda: all(self._node_ready(api, name) for name in names), "nodes are Ready")
        return names

    @staticmethod
    def _node_ready(api: Api, name: str) -> bool:
        conditions = api.get(f"/api/v1/nodes/{name}").body.get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def _make_keys(self) -> None:
        if shutil.which("openssl") is None:
            raise binaries.CannotBuildError("openssl is missing: install it (it makes one key)")
        key = self.directory / "sa.key"
        subprocess.run(
            ["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True
        )

    def _make_tokens(self) -> None:
        groups = {"admin": ',"system:masters"', NODE: ',"system:nodes"'}
        lines = []
        for number, name in enumerate(("admin", *NAMES, NODE)):
            token = secrets.token_hex(16)
            lines.append(f"{token},{name},{number}{groups.get(name, '')}")
            self._users[name] = self._user(name, token, name.replace(":", "."))
        (self.directory / "tokens.csv").write_text("\n".join(lines) + "\n")

    def _user(self, name: str, token: str, file: str) -> User:
        path = self.directory / f"{file}.kubeconfig"
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "local",
                    "cluster": {"server": self.server, "certificate-authority": str(self.ca_file)},
                }
            ],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": name}}],
            "current-context": "local",
        }
        path.write_text(json.dumps(config, indent=1))
        path.chmod(0o600)
        return User(name, token, path)

    def _daemon(self, name: str, *flags: str) -> Daemon:
        daemon = self._daemons.get(name)
        if daemon is None:
            command = [str(self._programs[name]), *flags]
            daemon = Daemon(name, command, self.directory / f"{name}.log")
            self._daemons[name] = daemon
        daemon.start()
        return daemon

    def _start_etcd(self) -> None:
        self._etcd = f"http://127.0.0.1:{free_port()}"
        peer = f"http://127.0.0.1:{free_port()}"
        self._daemon(
            "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={self._etcd}",
            f"--advertise-client-urls={self._etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=error",
        )

    def _start_api_server(self) -> None:
        daemon = self._daemon("kube-apiserver", *self._api_server_flags(self._port))
        daemon.wait_ready(lambda: _answers_ok(self.api))

    def _api_server_flags(self, port: int) -> list[str]:
        key = self.directory / "sa.key"
        return [
            f"--etcd-servers={self._etcd}",
            f"--cert-dir={self.directory / 'certs'}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            *self.api_server_flags,
        ]

    def _start_controller_manager(self) -> None:
        daemon = self._daemon(
            "kube-controller-manager",
            f"--kubeconfig={self.admin.kubeconfig}",
            f"--service-account-private-key-file={self.directory / 'sa.key'}",
            f"--root-ca-file={self.ca_file}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            f"--secure-port={free_port()}",
            "--bind-address=127.0.0.1",
            *self.controller_manager_flags,
        )
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        daemon.wait_ready(lambda: self.api().get(path).status == 200)

    def _start_scheduler(self) -> None:
        self._daemon(
            "kube-scheduler",
            f"--kubeconfig={self.admin.kubeconfig}",
            "--leader-elect=false",
            f"--secure-port={free_port()}",
            "--bind-address=127.0.0.1",
        )

    def _start_kwok(self) -> None:
        self._daemon(
            "kwok",
            f"--kubeconfig={self.admin.kubeconfig}",
            "--manage-all-nodes=false",
            "--manage-nodes-with-label-selector=type=kwok",
            "--node-lease-duration-seconds=40",
            f"--config={_STAGES}",
            f"--server-address=127.0.0.1:{free_port()}",
        )


def gpu_node(name: str, gpus: int) -> dict[str, Any]:
    """A node that kwok keeps Ready, with this many GPUs."""
    capacity = {"cpu": "128", "memory": "1Ti", "pods": "2000", "nvidia.com/gpu": str(gpus)}
    labels = {"type": "kwok", "kubernetes.io/hostname": name, "accelerator": "nvidia"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def _answers_ok(api: Callable[[], Api]) -> bool:
    try:  # its certificate is not there at first
        return api().request("GET", "/readyz").status == 200
    except OSError:
        return False


def _wait(true: Callable[[], bool], what: str, within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within:g} s")
        time.sleep(0.05)
