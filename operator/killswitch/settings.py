"""All settings, read once from `KILLSWITCH_*` environment variables and passed in, frozen.

The chart sets them; helm/killswitch/values.yaml explains each of its values.
"""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One value for all processes; each reads what concerns it."""

    model_config = SettingsConfigDict(env_prefix="KILLSWITCH_", frozen=True, extra="ignore")

    namespace: str = Field(
        default="killswitch-system", description="Namespace of the operator; protected."
    )
    protected_namespaces: tuple[str, ...] = Field(
        default=("kube-system", "kube-public", "kube-node-lease"),
        description="Namespaces that are never governed nor stopped, beside the operator's own.",
    )
    prometheus_url: str = Field(
        default="http://prometheus-operated.monitoring.svc:9090",
        description="Prometheus (or Thanos, Mimir) that policies' queries are sent to.",
    )
    prometheus_timeout: float = Field(
        default=2.0, gt=0, description="Seconds to wait for an answer; then the signal is Unknown."
    )
    poll_interval: float = Field(
        default=1.0, ge=0.05, description="Seconds between two polls of the same query."
    )
    connections: int = Field(default=64, ge=1, le=512, description="Most API requests in flight.")
    api_servers: tuple[str, ...] = Field(
        default=(),
        description="URLs of single API servers, e.g. https://10.0.0.1:6443, asked in this order "
        "before the usual one. Locked and Armed are proven on each that answers.",
    )
    govern_automatically: bool = Field(
        default=True, description="Govern a namespace with its first accepted policy."
    )
    governed_namespaces: tuple[str, ...] = Field(
        default=(), description="Namespaces that the manager governs by itself, policy or not."
    )
    canary_namespace: str = Field(
        default="killswitch-canary",
        description="Namespace with an engaged canary Shutdown, where the lock is proven.",
    )
    armed_interval: float = Field(
        default=60.0, gt=0, description="Seconds between two proofs that the lock denies."
    )
    verify_interval: float = Field(
        default=30.0, gt=0, description="Seconds between two looks at a stop that is verified."
    )

    cap_targets: int = Field(
        default=0,
        ge=0,
        description="Most workloads, and most nodes, that all policies together may stop within"
        " cap_window; 0: no such cap. What people do is never capped.",
    )
    cap_percent: int = Field(
        default=0,
        ge=0,
        le=100,
        description="The same in percent of all workloads of governed namespaces, or of all nodes.",
    )
    cap_window: float = Field(
        default=3600.0, gt=0, description="Seconds for which a stop counts towards the caps."
    )

    scrape_targets: int = Field(
        default=256, ge=1, le=2048, description="Most pods that a reactor scrapes by itself."
    )
    scrape_targets_per_service: int = Field(
        default=64, ge=1, le=2048, description="Most of them behind one Service."
    )
    scrape_token_file: str = Field(
        default="",
        description="File with a bearer token for the pods that are scraped. It is sent by https with"
        " a checked certificate only; empty: none is sent.",
    )
    scrape_ca_file: str = Field(
        default="", description="CA certificates (PEM) of scraped pods; empty: those of the system."
    )
    scrape_loopback: bool = Field(
        default=False, description="Scrape pods with loopback addresses too; for tests alone."
    )

    listen: str = Field(
        default="",
        description="host:port where the reactor receives samples, alerts and events, e.g. "
        "0.0.0.0:8443. Empty: it receives none.",
    )
    audit_listen: str = Field(
        default="",
        description="host:port where the manager receives the API server's audit events, which only "
        "count who tried to undo a stop. Empty: it receives none.",
    )
    event_keys_file: str = Field(
        default="",
        description="JSON or YAML file: source to list of whsec_ keys and bearer tokens. Required "
        "to listen; read again when it changes.",
    )
    tls_cert_file: str = Field(default="", description="Certificate (PEM) to listen with.")
    tls_key_file: str = Field(default="", description="Its private key (PEM).")
    allow_plain_http: bool = Field(
        default=False,
        description="Listen beyond loopback without TLS; only behind something that adds it.",
    )

    expected_paths: tuple[Literal["alert", "remote_write"], ...] = Field(
        default=(),
        description="Paths that must be heard of although they never were; others are expected once "
        "they were heard of.",
    )
    remote_write_tolerance: float = Field(
        default=60.0,
        gt=0,
        description="Seconds without recent samples after which remote write is silent: some scrape "
        "intervals.",
    )

    metrics_listen: str = Field(
        default="",
        description="host:port for GET /metrics, /healthz and /readyz, plain HTTP without secrets, "
        "e.g. 127.0.0.1:9464. Empty: none.",
    )

    @field_validator("api_servers")
    @classmethod
    def _are_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme != "https" or not parts.hostname or parts.path or parts.query:
                raise ValueError(
                    f"api_servers names {url!r}, which is no https://host:port without a path"
                )
        return urls

    @model_validator(mode="after")
    def _listens_soundly(self) -> Self:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("tls_cert_file and tls_key_file go together")
        for field, address in (
            ("listen", self.listen and self.listen_address),
            ("audit_listen", self.audit_address),
        ):
            if address:
                self._is_safe(field, *address)
        return self

    def _is_safe(self, field: str, host: str, port: int) -> None:
        """ValueError where nobody could be let in, or keys would cross a network in the clear."""
        if not self.event_keys_file:
            raise ValueError(f"{field} needs event_keys_file: nobody could be let in without it")
        plain = not (self.tls_cert_file or self.allow_plain_http)
        if plain and host not in {"127.0.0.1", "::1", "localhost"}:
            raise ValueError(
                f"{field} is {host}:{port} without TLS: give tls_cert_file and tls_key_file, listen"
                " on 127.0.0.1, or set allow_plain_http"
            )

    @model_validator(mode="after")
    def _measures_soundly(self) -> Self:
        for field, address in (
            ("listen", self.listen and self.listen_address),
            ("audit_listen", self.audit_address),
        ):
            if self.metrics_listen and self.metrics_address == address:
                words = f"metrics_listen is {self.metrics_listen}, as {field}: give it another"
                raise ValueError(words)
        return self

    @model_validator(mode="after")
    def _governs_nothing_protected(self) -> Self:
        wrong = sorted({*self.governed_namespaces} & self.protected)
        if wrong:
            raise ValueError(
                f"governed_namespaces names {', '.join(wrong)}, which is protected:"
                " nothing is governed or stopped there"
            )
        return self

    @property
    def listen_address(self) -> tuple[str, int]:
        """Host and port of `listen`; ValueError where it is neither."""
        return _address("listen", self.listen, "0.0.0.0:8443")

    @property
    def audit_address(self) -> tuple[str, int] | None:
        """Host and port of `audit_listen`, None where it is empty; ValueError where it is neither."""
        if not self.audit_listen:
            return None
        return _address("audit_listen", self.audit_listen, "0.0.0.0:8444")

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of `metrics_listen`, None where it is empty; ValueError where it is neither."""
        if not self.metrics_listen:
            return None
        return _address("metrics_listen", self.metrics_listen, "0.0.0.0:9464")

    @property
    def protected(self) -> frozenset[str]:
        """Every protected namespace."""
        return frozenset({*self.protected_namespaces, self.namespace})


def _address(field: str, text: str, example: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{field} is {text!r}, not host:port such as {example}")
    return host.strip("[]"), int(port)
