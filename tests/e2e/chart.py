"""The chart under real Helm: rendering and installing it. Used by the tests of this folder.

`python -m tests.e2e.chart` prints the rights that the chart grants, which is what
tests/e2e/golden/rbac.yaml holds.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.cluster import binaries

Json = dict[str, Any]
T = TypeVar("T")
ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "killswitch"
POLICIES = ROOT / "policies"
GOLDEN = Path(__file__).parent / "golden" / "rbac.yaml"
RELEASE = "killswitch"
EVERYTHING: Json = {
    "nodeGuard": {"enabled": True},
    "kinds": {
        "aggregate": True,
        "recreatePods": True,
        "extra": [{"group": "example.com", "resource": "models"}],
    },
}
"""Values that switch on whatever is off by default and needs rights."""
KUBERNETES = "1.36.3"
"""What `helm template` assumes; an installation asks the API server."""


class HelmError(Exception):
    """Helm refused; the text is what it said."""


@dataclass(frozen=True)
class Helm:
    """The Helm program with its own folders: a developer's settings are neither read nor written."""

    home: Path
    kubeconfig: Path | None = None

    def run(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """What it prints; HelmError with what it complains about when it fails."""
        command = [str(binaries.locate(["helm"])["helm"]), *arguments]
        if values is not None:
            command += ["--values", "-"]
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig or self.home / "none"),
            "HELM_CACHE_HOME": str(self.home / "cache"),
            "HELM_CONFIG_HOME": str(self.home / "config"),
            "HELM_DATA_HOME": str(self.home / "data"),
        }
        result = subprocess.run(
            command,
            input=yaml.safe_dump(dict(values)) if values is not None else "",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=environment,
        )
        if result.returncode != 0:
            raise HelmError(result.stderr)
        return result.stdout

    def template(
        self, values: Mapping[str, Any] | None = None, namespace: str = "killswitch-system"
    ) -> list[Json]:
        """The objects that an installation with these values would create."""
        where = ("--namespace", namespace, "--kube-version", KUBERNETES)
        text = self.run("template", RELEASE, str(CHART), *where, values=values)
        return [each for each in yaml.safe_load_all(text) if each]

    def install(self, namespace: str, values: Mapping[str, Any] | None = None) -> str:
        """Install the release, or bring it to exactly these values; what NOTES.txt says."""
        where = ("--namespace", namespace, "--create-namespace", "--reset-values")
        return self.run("upgrade", "--install", RELEASE, str(CHART), *where, values=values)

    def uninstall(self, namespace: str) -> str:
        """Uninstall the release and wait until what it removes is gone."""
        return self.run("uninstall", RELEASE, "--namespace", namespace, "--wait")


def of_kind(objects: list[Json], *kinds: str) -> Iterator[Json]:
    """The objects of these kinds, in order."""
    return (each for each in objects if each["kind"] in kinds)


def named(objects: list[Json], kind: str, name: str) -> Json:
    """The only object of that kind and name."""
    (found,) = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


def rights(objects: list[Json]) -> str:
    """Who may do what: all roles and bindings without their labels, as YAML."""
    found: Json = {}
    for each in of_kind(objects, "ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding"):
        metadata = each["metadata"]
        place = f" in {metadata['namespace']}" if "namespace" in metadata else ""
        content: Any = each.get("rules")
        if content is None:
            subjects = [f"{s['kind']} {s['namespace']}/{s['name']}" for s in each["subjects"]]
            content = {"role": each["roleRef"]["name"], "subjects": subjects}
        found[f"{each['kind']} {metadata['name']}{place}"] = content
    header = "# Every right that the chart grants. Written by `python -m tests.e2e.chart`.\n"
    return header + yaml.safe_dump(found, width=100, default_flow_style=None)


def until(true: Callable[[], T], what: str, within: float = 60.0) -> T:
    """What `true` returns once that is true; fails with `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(0.05)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(rights(Helm(Path(folder)).template(EVERYTHING)), end="")
