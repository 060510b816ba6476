"""An API server that audits as docs/attempts.md says: to a file, and by webhook to a receiver with TLS."""

import json
import re
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.processes import free_port

_PAGE = Path(__file__).parents[2] / "docs" / "attempts.md"
TOKEN = "the-token-of-the-api-server"


@dataclass(frozen=True)
class Auditing:
    """Files of an API server that audits; made before it starts."""

    directory: Path
    port: int
    """Where the receiver is to listen."""

    @classmethod
    def within(cls, directory: Path) -> "Auditing":
        """Policy, certificate, keys and the webhook's configuration, in this folder."""
        made = cls(directory, free_port())
        policy, config = re.findall(r"   ```yaml\n(.*?)   ```", _PAGE.read_text(), re.DOTALL)
        made.policy.write_text(textwrap.dedent(policy))
        made.keys.write_text(json.dumps({"audit": [TOKEN]}))
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=manager", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", str(made.key), "-out", str(made.certificate)),
            ],
            check=True,
            capture_output=True,
        )
        address = f"127.0.0.1:{made.port}"
        for word, meant in (("ADDRESS:8444", address), ("CA.crt", "tls.crt"), ("TOKEN", TOKEN)):
            config = config.replace(word, meant)
        made._config.write_text(textwrap.dedent(config))
        return made

    @property
    def policy(self) -> Path:
        """The audit policy."""
        return self.directory / "policy.yaml"

    @property
    def log(self) -> Path:
        """The audit log."""
        return self.directory / "audit.log"

    @property
    def keys(self) -> Path:
        """The receiver's file of keys."""
        return self.directory / "keys.json"

    @property
    def certificate(self) -> Path:
        """The receiver's certificate."""
        return self.directory / "tls.crt"

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.directory / "tls.key"

    @property
    def flags(self) -> tuple[str, ...]:
        """Of the API server."""
        return (
            f"--audit-policy-file={self.policy}",
            f"--audit-log-path={self.log}",
            f"--audit-webhook-config-file={self._config}",
            "--audit-webhook-batch-max-wait=200ms",
        )

    @property
    def _config(self) -> Path:
        return self.directory / "webhook.kubeconfig"
