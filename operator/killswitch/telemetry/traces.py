"""A trace per stop where OpenTelemetry's own environment variables name an endpoint; else none.

Nothing of OpenTelemetry is imported without one: it is an extra of the package.
"""

import os
from collections.abc import Mapping
from typing import Protocol

import structlog

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_LOG = structlog.get_logger(__name__)

Moments = Mapping[str, float]
"""Seconds since the epoch by name: sampled, read, and the stages of a stop."""
Attributes = Mapping[str, str | int]


class Traces(Protocol):
    """Writes spans from recorded times, after the fact."""

    def stop(self, uid: str, moments: Moments, attributes: Attributes) -> None:
        """The whole of a stop, and a span for each of its parts."""
        ...

    def verification(self, uid: str, moments: Moments, attributes: Attributes) -> None:
        """The manager's part: from the decision until nothing was left."""
        ...

    def close(self) -> None:
        """Send what is left and stop; blocks for some seconds where nobody answers."""
        ...


def traces(service: str, instance: str) -> Traces | None:
    """Traces of this process, or None where no endpoint is named or the extra is missing."""
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        from killswitch.telemetry.spans import Spans
    except ImportError as error:
        _LOG.warning("no traces", error=str(error), cure="pip install 'killswitch[otel]'")
        return None
    return Spans(os.environ.get("OTEL_SERVICE_NAME") or service, instance)
