"""The Dockerfile fits the repository and the chart. No test here can build it: Docker is absent."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
POD = (ROOT / "helm" / "killswitch" / "templates" / "_helpers.tpl").read_text()


def _instructions(name: str) -> list[str]:
    """The arguments of every instruction of this name, in order."""
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, re.MULTILINE)


def _copied() -> list[str]:
    """Every path that is copied from the repository."""
    lines = [line.split() for line in _instructions("COPY") if not line.startswith("--from")]
    return [path for line in lines for path in line[:-1]]


def test_what_it_copies_is_there_and_reaches_the_build() -> None:
    """.dockerignore leaves out everything that it does not let through by name."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for path in _copied():
        assert (ROOT / path).exists()
        assert f"!{path}" in ignored


def test_it_copies_what_a_build_of_the_package_reads() -> None:
    """The readme and the sources that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {"pyproject.toml", project["project"]["readme"], *(p.split("/")[0] for p in packages)}
    assert needed <= {*_copied()}


def test_it_starts_what_the_chart_starts() -> None:
    """The chart's command is a console script of the package, and the image's own entry point."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (command,) = re.findall(r'^ *command: \["([^"]+)"', POD, re.MULTILINE)
    assert command in scripts
    assert _instructions("ENTRYPOINT") == [f'["{command}"]']


def test_it_runs_as_the_user_of_the_chart() -> None:
    """By number and not as root."""
    (user,), (group,) = re.findall(r"runAsUser: (\d+)", POD), re.findall(r"runAsGroup: (\d+)", POD)
    assert _instructions("USER") == [f"{user}:{group}"]
    assert int(user) > 0


def test_its_base_is_one_version_that_the_package_runs_on() -> None:
    """No tag that means another Python tomorrow; every stage starts from it."""
    (base,) = _instructions("ARG")
    major, minor = re.fullmatch(r"BASE=python:(\d+)\.(\d+)-slim-\w+", base).groups()  # type: ignore[union-attr]
    assert (int(major), int(minor)) >= (3, 11)
    assert {line.split()[0] for line in _instructions("FROM")} == {"${BASE}"}
