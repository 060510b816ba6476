"""Settings: every error names its variable and the cure."""

from pathlib import Path

import pytest

from killswitch.node import settings
from killswitch.node.settings import SettingsError


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What the chart gives."""
    (tmp_path / "token").touch()
    (tmp_path / "ca.crt").touch()
    return {
        "NODE_NAME": "n1",
        "POD_UID": "u",
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "KUBERNETES_SERVICE_PORT": "6443",
        "KILLSWITCH_TOKEN_FILE": str(tmp_path / "token"),
        "KILLSWITCH_CA_FILE": str(tmp_path / "ca.crt"),
    }


def test_what_the_chart_gives_is_enough(environment: dict[str, str]) -> None:
    """The rest has its usual place."""
    found = settings.read(environment)
    assert (found.node, found.own_pod, found.server) == ("n1", "u", "https://10.0.0.1:6443")
    assert (str(found.state), str(found.cgroups)) == ("/var/lib/killswitch", "/sys/fs/cgroup")
    assert found.cgroup_root == "/"
    assert "kube-system" in found.protected


def test_protected_namespaces_are_added_to_the_built_in(environment: dict[str, str]) -> None:
    """They cannot be taken away."""
    found = settings.read({**environment, "KILLSWITCH_PROTECTED_NAMESPACES": "a, b,"})
    assert found.protected >= {"a", "b", "kube-system"}
    assert "" not in found.protected


def test_a_v6_address_is_bracketed(environment: dict[str, str]) -> None:
    """As URLs want it."""
    found = settings.read({**environment, "KUBERNETES_SERVICE_HOST": "fd00::1"})
    assert found.server == "https://[fd00::1]:6443"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"NODE_NAME": ""}, "NODE_NAME is not set: give it spec.nodeName"),
        ({"KUBERNETES_SERVICE_HOST": ""}, "set KILLSWITCH_API_SERVER to https://host:port"),
        ({"KILLSWITCH_API_SERVER": "http://h:1"}, "write https://host:port, no path"),
        ({"KILLSWITCH_API_SERVER": "https://h:1/x"}, "write https://host:port, no path"),
        ({"KILLSWITCH_TOKEN_FILE": "/missing"}, "KILLSWITCH_TOKEN_FILE: /missing is not there"),
        ({"KILLSWITCH_CA_FILE": "/missing"}, "KILLSWITCH_CA_FILE: /missing is not there"),
        ({"KILLSWITCH_STATE_DIR": "state"}, "KILLSWITCH_STATE_DIR is 'state': write an absolute"),
        ({"KILLSWITCH_CGROUPS": "cg"}, "KILLSWITCH_CGROUPS is 'cg': write an absolute path"),
    ],
)
def test_what_is_wrong_is_named(
    environment: dict[str, str], change: dict[str, str], expected: str
) -> None:
    """Before anything is started."""
    with pytest.raises(SettingsError, match=expected):
        settings.read({**environment, **change})
