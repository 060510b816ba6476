"""How to reach and authenticate to an API server, read with the `kubernetes` package.

That package knows kubeconfig files, contexts, exec plugins, client certificates and in-cluster
tokens; its HTTP client is not used (see docs/decisions). It is imported late: the command line
starts without it.
"""

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NoClusterError(Exception):
    """No usable kubeconfig and not inside a cluster; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An API server with what is needed to talk to it."""

    server: str
    tls: ssl.SSLContext | None
    authorization: Callable[[], str]
    """The Authorization header, refreshed as needed; empty when the certificate says it all."""
    namespace: str = "default"
    preferred: tuple[str, ...] = ()
    """URLs of single API servers, asked before `server`, which may stand for any of them."""

    @property
    def servers(self) -> tuple[str, ...]:
        """Every URL, in the order in which they are tried."""
        return (*self.preferred, self.server)


def load(kubeconfig: str | None = None, context: str | None = None) -> Credentials:
    """Credentials from a kubeconfig, or from the pod's service account inside a cluster."""
    inside = "KUBERNETES_SERVICE_HOST" in os.environ and _SERVICE_ACCOUNT.exists()
    if inside and kubeconfig is None and context is None and "KUBECONFIG" not in os.environ:
        return _in_cluster()
    return _from_kubeconfig(kubeconfig, context)


def _in_cluster() -> Credentials:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    where = f"[{host}]" if ":" in host else host
    tls = ssl.create_default_context(cafile=str(_SERVICE_ACCOUNT / "ca.crt"))
    namespace = (_SERVICE_ACCOUNT / "namespace").read_text().strip()
    token = FileToken(_SERVICE_ACCOUNT / "token")
    return Credentials(f"https://{where}:{port}", tls, token, namespace)


class FileToken:
    """A bearer token from a file that is rotated: what stands there now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header = ""
        self._seen: tuple[int, ...] = ()

    def __call__(self) -> str:
        """The Authorization header."""
        found = self._path.stat()  # about a microsecond
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if version != self._seen:
            self._header = f"Bearer {self._path.read_text().strip()}"
            self._seen = version
        return self._header


def _from_kubeconfig(kubeconfig: str | None, context: str | None) -> Credentials:
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    configuration = client.Configuration()
    try:
        config.load_kube_config(
            config_file=kubeconfig, context=context, client_configuration=configuration
        )
        _, active = config.list_kube_config_contexts(config_file=kubeconfig)
    except ConfigException as error:
        raise NoClusterError(
            f"{error}. Set KUBECONFIG, or name a file with --kubeconfig and a --context"
        ) from error
    chosen = active
    if context is not None:
        contexts, _ = config.list_kube_config_contexts(config_file=kubeconfig)
        chosen = next(each for each in contexts if each["name"] == context)
    namespace = chosen["context"].get("namespace", "default")

    def authorization() -> str:
        # Runs the refresh hook: exec plugins and expiring tokens are renewed here.
        return str(configuration.get_api_key_with_prefix("BearerToken") or "")

    return Credentials(configuration.host, _tls(configuration), authorization, namespace)


def _tls(configuration: object) -> ssl.SSLContext | None:
    host = getattr(configuration, "host", "")
    if not str(host).startswith("https"):
        return None
    if not getattr(configuration, "verify_ssl", True):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context = ssl.create_default_context(cafile=getattr(configuration, "ssl_ca_cert", None))
    certificate = getattr(configuration, "cert_file", None)
    if certificate:
        context.load_cert_chain(certificate, getattr(configuration, "key_file", None))
    return context
