"""Spans of stops over OTLP (http/protobuf), built from recorded times: the kill path pays nothing.

The trace id is the Shutdown's uid without its dashes and the root span's id follows from it, so that
reactor and manager write one trace without passing anything on, and people find it by the object.
"""

import hashlib
import uuid
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from killswitch.telemetry.traces import Attributes, Moments


@dataclass(frozen=True, slots=True)
class Part:
    """A span between two moments; left out where one of them is not known."""

    name: str
    begins: str
    ends: str


_OF_STOP = (
    Part("sample", "sampled", "read"),
    Part("decision", "read", "decided"),
    Part("lock", "decided", "locked"),
    Part("delete", "locked", "deleted"),
    Part("record", "deleted", "recorded"),
    Part("scale", "recorded", "scaled"),
    Part("prove", "scaled", "proven"),
    Part("sweep", "scaled", "stopped"),
)
_VERIFY = Part("verify", "decided", "verified")


class Spans:
    """Port-like `telemetry.traces.Traces` on the OpenTelemetry SDK."""

    def __init__(self, service: str, instance: str) -> None:
        """Endpoint, headers and the rest come from OTEL_* variables, as the SDK reads them."""
        self._ids = _Ids()
        resource = Resource.create({"service.name": service, "service.instance.id": instance})
        self._provider = TracerProvider(
            resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("killswitch")

    def stop(self, uid: str, moments: Moments, attributes: Attributes) -> None:
        """The whole of a stop, and a span for each of its parts."""
        if not moments:
            return
        self._ids.trace_id, self._ids.root = _ids_of(uid)
        begin, end = min(moments.values()), max(moments.values())
        # An empty context: whatever else is traced in this process is not above a stop.
        root = self._tracer.start_span(
            "stop", Context(), start_time=_nanoseconds(begin), attributes=dict(attributes)
        )
        within = trace.set_span_in_context(root, Context())
        for part in _OF_STOP:
            self._part(part, moments, within)
        root.end(_nanoseconds(end))

    def verification(self, uid: str, moments: Moments, attributes: Attributes) -> None:
        """The manager's part, below the root that the reactor writes."""
        trace_id, span_id = _ids_of(uid)
        sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        root = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=sampled)
        within = trace.set_span_in_context(trace.NonRecordingSpan(root), Context())
        self._part(_VERIFY, moments, within, attributes)

    def close(self) -> None:
        """Send what is left and stop."""
        self._provider.shutdown()

    def _part(
        self, part: Part, moments: Moments, within: Context, attributes: Attributes | None = None
    ) -> None:
        if part.begins in moments and part.ends in moments:
            begin = moments[part.begins]
            end = max(begin, moments[part.ends])  # wall clocks step, also backwards
            span = self._tracer.start_span(
                part.name, within, start_time=_nanoseconds(begin), attributes=dict(attributes or {})
            )
            span.end(_nanoseconds(end))


class _Ids(RandomIdGenerator):
    """The ids of a stop for the root, random ones for what is below."""

    trace_id = 0
    root = 0

    def generate_trace_id(self) -> int:
        """That of the stop whose root begins now: only roots ask for one."""
        return self.trace_id or super().generate_trace_id()

    def generate_span_id(self) -> int:
        """That of the root, once."""
        root, self.root = self.root, 0
        return root or super().generate_span_id()


def _ids_of(uid: str) -> tuple[int, int]:
    """The ids of a stop's trace and root span; neither is 0."""
    digest = hashlib.sha256(uid.encode()).digest()
    try:
        trace_id = uuid.UUID(uid).int
    except ValueError:  # uids are UUIDs by custom only
        trace_id = int.from_bytes(digest[8:24])
    return trace_id or 1, int.from_bytes(digest[:8]) or 1


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
