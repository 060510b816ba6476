"""A real node: kubelet, containerd and runc on this machine, for proof that *processes* die.

Optional: needs root, containerd and runc (`RealNode.unavailable` says what is missing). Everything
lives in a process and mount namespace of its own: whatever the kubelet or containerd write to
/run, /var/lib and /var/log lands in the node's folder, and when this process ends, even by
SIGKILL, the kernel ends shims and containers too. Pods need `hostNetwork: true` and an image that
was imported. Used by tests and benchmarks of what a stop does to processes.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import binaries, cgroups, images
from tests.cluster.control_plane import NODE, ControlPlane
from tests.cluster.processes import Daemon, free_port

NAME = NODE.rpartition(":")[2]
SERVER_IMAGE = "killswitch.test/server:1"
_PAUSE_IMAGE = "killswitch.test/pause:1"
_TAINT = "killswitch.dev/real-node"
_TOOLS = ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "unshare", "nsenter")
_SOCKET, _ROOT = "/run/containerd.sock", "/run/kubelet"
"""As its namespace has them: paths of sockets must be short, and those of temporary folders are not."""
_NAMESPACES = ("--mount", "--propagation=private", "--pid", "--fork", "--kill-child")


@dataclass
class RealNode:
    """The node `real-0` of a control plane. A context manager, or `start` and `stop`."""

    control_plane: ControlPlane
    gpus: int = 8
    cgroup: cgroups.Tree = field(default_factory=cgroups.Tree)
    _containerd: Daemon | None = None
    _kubelet: Daemon | None = None

    @staticmethod
    def unavailable() -> str | None:
        """Why there can be no real node on this machine; None when there can."""
        if sys.platform != "linux" or os.geteuid() != 0:
            return "a real node needs Linux and root"
        missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
        if missing:
            return f"a real node needs {', '.join(missing)}: install containerd and runc"
        if _address() is None:
            return "a real node needs a network address other than loopback"
        trial = ["unshare", *_NAMESPACES, "mount", "-t", "proc", "proc", "/proc"]
        if subprocess.run(trial, capture_output=True, check=False).returncode != 0:
            return "a real node needs namespaces of its own, and `unshare` is refused here"
        try:
            tree = cgroups.Tree()
            tree.create()
            tree.remove()
        except OSError as error:
            return f"a real node needs a cgroup of its own: {error}"
        return None

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
        """Stop it."""
        self.stop()

    @property
    def directory(self) -> Path:
        """Everything it writes, in the control plane's folder."""
        return self.control_plane.directory / "node"

    def start(self) -> None:
        """Return when the node is Ready and has its GPUs."""
        kubelet = binaries.locate(["kubelet"], self.control_plane.report)["kubelet"]
        program = images.server_program(self.control_plane.report)
        for name in ("run", "var-lib", "var-log", "cni", "manifests"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        cgroups.remove_left_behind()
        self.cgroup.create()
        self._start_containerd()
        self.import_image(_PAUSE_IMAGE, program, ["pause"])
        self.import_image(SERVER_IMAGE, program, ["serve"])
        self._start_kubelet(kubelet)

    def stop(self) -> None:
        """End its pods, then the kubelet, then containerd with all that is left."""
        shutil.rmtree(self._manifests, ignore_errors=True)
        self._delete_pods()
        self.cgroup.thaw()
        _wait_for_none(self.cgroup, within=10)
        if self._kubelet is not None:
            self._kubelet.stop(kill=True)
        if self._containerd is not None and self._containerd.running:
            # The first process of the namespace: the kernel ends all others before it is gone.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init(), signal.SIGKILL)
            self._containerd.stop()
        self._kubelet = self._containerd = None
        self.cgroup.remove()
        with contextlib.suppress(OSError):
            self.control_plane.api().delete(f"/api/v1/nodes/{NAME}")
        shutil.rmtree(self.directory, ignore_errors=True)

    def restart_kubelet(self) -> None:
        """Kill the kubelet and start it again; containers run on meanwhile."""
        assert self._kubelet is not None
        self._kubelet.restart(kill=True)

    def stop_kubelet(self) -> None:
        """Kill the kubelet: the node is cut off, and its containers run on."""
        assert self._kubelet is not None
        self._kubelet.stop(kill=True)

    def start_kubelet(self) -> None:
        """Start it again after `stop_kubelet`."""
        assert self._kubelet is not None
        self._kubelet.start()

    def import_image(self, reference: str, program: Path, arguments: Sequence[str]) -> None:
        """Make an image of one static program; pods use it with `imagePullPolicy: Never`."""
        archive = self.directory / "image.tar"
        images.write_image(archive, reference, program, arguments)
        self._ctr("images", "import", "--snapshotter=native", str(archive))
        archive.unlink()

    def processes(self, pod_uid: str) -> list[int]:
        """Process ids of a pod, its sandbox's included, as this process sees them."""
        return self.cgroup.processes(pod_uid)

    def processes_of_all(self) -> list[int]:
        """Process ids of every pod of this node."""
        return self.cgroup.processes()

    def pod_spec(
        self, *, port: int = 0, grace: int = 30, flags: Sequence[str] = (), **container: Any
    ) -> dict[str, Any]:
        """A pod's spec with the stand-in server, to be scheduled here; port 0 is any free one.

        `flags` are more of the server's, such as -children=2; `container` more fields, as probes.
        """
        return {
            "hostNetwork": True,
            "dnsPolicy": "Default",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": grace,
            "nodeSelector": {"kubernetes.io/hostname": NAME},
            "tolerations": [{"key": _TAINT, "operator": "Exists"}],
            "containers": [{**server("server", port, flags), **container}],
        }

    def run_static(self, name: str, manifest: dict[str, Any]) -> None:
        """Give the kubelet a pod of its own, which no API can end."""
        (self._manifests / f"{name}.json").write_text(json.dumps(manifest))

    def remove_static(self, name: str) -> None:
        """Take it away again."""
        (self._manifests / f"{name}.json").unlink(missing_ok=True)

    @property
    def _manifests(self) -> Path:
        return self.directory / "manifests"

    def pids(self) -> list[int]:
        """Process ids of its daemons' outermost processes."""
        daemons = (self._containerd, self._kubelet)
        return [each.pid for each in daemons if each is not None and each.running]

    def _start_containerd(self) -> None:
        (self.directory / "containerd.toml").write_text(self._containerd_config())
        (self.directory / "cni" / "10-none.conflist").write_text(
            json.dumps({"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "ptp"}]})
        )
        command = ["unshare", *_NAMESPACES, "sh", "-ec", self._first_process()]
        self._containerd = Daemon("containerd", command, self.directory / "containerd.log")
        self._containerd.start()
        self._containerd.wait_ready(self._containerd_answers)

    def _first_process(self) -> str:
        # As process 1 it must reap orphans: the shell's `wait` does, containerd would not.
        kubelet = "/var/lib/kubelet" if Path("/var/lib/kubelet").exists() else "/var/lib"
        return f"""
            cd '{self.directory}'
            mount --bind run /run
            mount --bind var-log /var/log
            mount --bind var-lib {kubelet}
            mount -t proc proc /proc
            containerd --config containerd.toml &
            wait
        """

    def _init(self) -> int:
        """The namespace's first process, as this process sees it."""
        assert self._containerd is not None
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[1]) == self._containerd.pid:
                    return int(stat.parent.name)
        raise ProcessLookupError("the first process of the namespace is gone")

    def _containerd_answers(self) -> bool:
        there = (self.directory / "run" / Path(_SOCKET).name).exists()
        return there and self._ctr("version", check=False).returncode == 0

    def _ctr(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        inside = ["nsenter", f"--target={self._init()}", "--mount"]
        command = [*inside, "ctr", f"--address={_SOCKET}", "--namespace=k8s.io", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: {result.stderr}")
        return result

    def _start_kubelet(self, program: Path) -> None:
        config = self.directory / "kubelet.json"
        config.write_text(json.dumps(self._kubelet_config(), indent=1))
        (self.directory / "resolv.conf").touch()
        self._kubelet = Daemon(
            "kubelet",
            [
                "nsenter",
                f"--target={self._init()}",
                "--mount",
                "--pid",
                str(program),
                f"--config={config}",
                f"--kubeconfig={self.control_plane.user(NODE).kubeconfig}",
                f"--hostname-override={NAME}",
                f"--node-ip={_address()}",
                f"--root-dir={_ROOT}",
                f"--cert-dir={_ROOT}/pki",
            ],
            self.directory / "kubelet.log",
        )
        self._kubelet.start()
        self._kubelet.wait_ready(self.ready)
        self._give_gpus()

    def ready(self) -> bool:
        """Whether the API server reads it as Ready."""
        answer = self.control_plane.api().get(f"/api/v1/nodes/{NAME}")
        if answer.status != 200:
            return False
        conditions = answer.body["status"].get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def _give_gpus(self) -> None:
        # No device plugin here: a patched extended resource stays, and the scheduler counts it.
        resources = {"nvidia.com/gpu": str(self.gpus)}
        body = {"status": {"capacity": resources, "allocatable": resources}}
        answer = self.control_plane.api().patch(f"/api/v1/nodes/{NAME}/status", body)
        assert answer.status == 200, answer.message

    def _delete_pods(self) -> None:
        api = self.control_plane.api()
        with contextlib.suppress(OSError, binaries.CannotBuildError):
            found = api.get("/api/v1/pods", fieldSelector=f"spec.nodeName={NAME}").body
            for pod in found.get("items", []):
                meta = pod["metadata"]
                path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
                api.delete(path, {"gracePeriodSeconds": 1})

    def _containerd_config(self) -> str:
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        return f"""version = 2
root = "{self.directory}/containerd-root"
state = "{self.directory}/containerd-state"
# It would make /opt/containerd.
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{_SOCKET}"
[{cri}]
sandbox_image = "{_PAUSE_IMAGE}"
# Without CAP_SYS_RESOURCE no process may be given a lower score than its parent's.
restrict_oom_score_adj = true
[{cri}.containerd]
snapshotter = "native"
default_runtime_name = "runc"
[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{cri}.cni]
conf_dir = "{self.directory}/cni"
"""

    def _kubelet_config(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{_SOCKET}",
            "cgroupRoot": f"/{self.cgroup.name}",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": False,
            "failSwapOn": False,
            "address": "127.0.0.1",
            "port": free_port(),
            "readOnlyPort": 0,
            "healthzPort": free_port(),
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}},
            "authorization": {"mode": "Webhook"},
            "resolvConf": str(self.directory / "resolv.conf"),
            "staticPodPath": str(self._manifests),
            "fileCheckFrequency": "1s",
            # A full disk of this machine is no reason to evict, and images cannot be pulled again.
            "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "nodeStatusUpdateFrequency": "1s",
            "registerWithTaints": [{"key": _TAINT, "value": "true", "effect": "NoSchedule"}],
        }


def server(name: str, port: int = 0, flags: Sequence[str] = ()) -> dict[str, Any]:
    """A container with the stand-in server."""
    return {
        "name": name,
        "image": SERVER_IMAGE,
        "imagePullPolicy": "Never",
        "args": [f"-listen=127.0.0.1:{port}", *flags],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }


def _address() -> str | None:
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # TEST-NET-2: nobody
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _wait_for_none(tree: cgroups.Tree, within: float) -> None:
    deadline = time.monotonic() + within
    while tree.processes() and time.monotonic() < deadline:
        time.sleep(0.05)
