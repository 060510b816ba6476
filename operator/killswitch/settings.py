"""All settings, read once from `KILLSWITCH_*` environment variables and passed in, frozen.

The chart sets them; helm/killswitch/values.yaml explains each of its values.
"""

from typing import Self

from pydantic import Field, model_validator
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
    def protected(self) -> frozenset[str]:
        """Every protected namespace."""
        return frozenset({*self.protected_namespaces, self.namespace})
