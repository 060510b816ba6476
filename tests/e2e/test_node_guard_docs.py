"""docs/node-guard.md: its commands work and its examples are accepted, by real Helm and API server."""

import functools
import re
import shlex
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from tests.cluster.control_plane import ControlPlane
from tests.e2e.chart import CHART, ROOT, Helm, Json, until
from tests.e2e.conftest import SYSTEM

pytestmark = pytest.mark.cluster

TEXT = (ROOT / "docs" / "node-guard.md").read_text()
MODELS = "model-serving"


def blocks(language: str) -> list[str]:
    """The document's blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


EXAMPLES: list[Json] = [yaml.safe_load(block) for block in blocks("yaml")]


@pytest.fixture(scope="module", autouse=True)
def installed(bare: ControlPlane, helm: Helm) -> None:
    """Installed by the document's own commands, and nothing beside them."""
    (commands,) = blocks("sh")
    for line in commands.splitlines():
        program, *arguments = shlex.split(line)
        if program == "kubectl":
            bare.kubectl(*arguments)
        else:
            assert program == "helm"
            helm.run(*(str(CHART) if each == "helm/killswitch" else each for each in arguments))
    governed = {"killswitch.dev/governed": "true"}
    namespace = {"metadata": {"name": MODELS, "labels": governed}}
    assert bare.api().create("/api/v1/namespaces", namespace).status == 201
    bare.kubectl(
        "create", "clusterrolebinding", "alice", "--clusterrole=cluster-admin", "--user=alice"
    )
    for kind in ("killswitchpolicies", "freezes"):
        # The API server answers 429 while it prepares a fresh kind.
        until(functools.partial(_served, bare, kind), f"{kind} are served")


def _served(plane: ControlPlane, kind: str) -> bool:
    return plane.api().get(f"/apis/killswitch.dev/v1alpha1/{kind}").status == 200


def test_the_guard_is_installed(bare: ControlPlane) -> None:
    """The DaemonSet that the next commands of the document wait for."""
    path = f"/apis/apps/v1/namespaces/{SYSTEM}/daemonsets/killswitch-node"
    assert bare.api().get(path).status == 200


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: str(each["metadata"]["name"]))
def test_examples_are_accepted(bare: ControlPlane, example: Json) -> None:
    """By the API server with all admission policies; a Freeze in the name of whom it names."""
    if example["kind"] == "Freeze":
        in_a_while = datetime.now(UTC) + timedelta(minutes=5)
        example["spec"]["until"] = in_a_while.strftime("%Y-%m-%dT%H:%M:%SZ")
    user = bare.user(example["spec"].get("requestedBy", "alice"))
    text = yaml.safe_dump(example)
    bare.kubectl("apply", "--dry-run=server", "-f", "-", stdin=text, user=user)


def test_every_value_of_the_guard_is_explained() -> None:
    """The table of values names all that values.yaml has."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())["nodeGuard"]
    for name in values.keys() - {"enabled", "podAnnotations", "affinity"}:
        assert f"`nodeGuard.{name}`" in TEXT
