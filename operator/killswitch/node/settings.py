"""The guard's settings: read once from the environment, each error naming the variable and its cure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from killswitch.core.errors import KillSwitchError
from killswitch.core.names import PROTECTED_NAMESPACES

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class SettingsError(KillSwitchError):
    """A setting that is missing or wrong; the text names the variable and what to write."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a guard is told at its start."""

    node: str
    own_pod: str
    """Its own uid; empty where nobody said it, as in tests."""
    server: str
    token_file: Path
    ca_file: Path
    state: Path
    """The folder of what it remembers."""
    cgroups: Path
    cgroup_root: str
    protected: frozenset[str]
    """Namespaces whose pods are never touched."""


def read(environment: Mapping[str, str]) -> Settings:
    """The settings in these variables; SettingsError names the first that cannot be used."""
    node = environment.get("NODE_NAME", "")
    if not node:
        raise SettingsError("NODE_NAME is not set: give it spec.nodeName (fieldRef) of the pod")
    more = environment.get("KILLSWITCH_PROTECTED_NAMESPACES", "").split(",")
    return Settings(
        node=node,
        own_pod=environment.get("POD_UID", ""),
        server=_server(environment),
        token_file=_file(environment, "KILLSWITCH_TOKEN_FILE", f"{_ACCOUNT}/token"),
        ca_file=_file(environment, "KILLSWITCH_CA_FILE", f"{_ACCOUNT}/ca.crt"),
        state=_folder(environment, "KILLSWITCH_STATE_DIR", "/var/lib/killswitch"),
        cgroups=_folder(environment, "KILLSWITCH_CGROUPS", "/sys/fs/cgroup"),
        cgroup_root=environment.get("KILLSWITCH_CGROUP_ROOT", "/"),
        protected=frozenset(PROTECTED_NAMESPACES) | {each.strip() for each in more if each.strip()},
    )


def _server(environment: Mapping[str, str]) -> str:
    told = environment.get("KILLSWITCH_API_SERVER", "")
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    if not told and not host:
        raise SettingsError(
            "KUBERNETES_SERVICE_HOST is not set: run the guard in a pod, or set"
            " KILLSWITCH_API_SERVER to https://host:port"
        )
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    url = told or f"https://{_bracketed(host)}:{port}"
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
        raise SettingsError(f"KILLSWITCH_API_SERVER is {url!r}: write https://host:port, no path")
    return url


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _file(environment: Mapping[str, str], variable: str, default: str) -> Path:
    path = Path(environment.get(variable) or default)
    if not path.is_file():
        raise SettingsError(
            f"{variable}: {path} is not there: mount the service account's token"
            " (automountServiceAccountToken: true) or name another file"
        )
    return path


def _folder(environment: Mapping[str, str], variable: str, default: str) -> Path:
    path = Path(environment.get(variable) or default)
    if not path.is_absolute():
        raise SettingsError(f"{variable} is {str(path)!r}: write an absolute path")
    return path
