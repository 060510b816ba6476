"""Spans as a real OTLP receiver gets them."""

import sys
import uuid

import pytest

from killswitch.telemetry.traces import traces
from tests.telemetry.otlp import Receiver

UID = "0f3c1a52-9d1e-4a7b-8c55-1c2d3e4f5a6b"
T0 = 1_800_000_000.0
STAGES = {
    "sampled": T0 - 0.5,
    "read": T0 - 0.001,
    "decided": T0,
    "locked": T0 + 0.004,
    "deleted": T0 + 0.010,
    "recorded": T0 + 0.014,
    "scaled": T0 + 0.020,
    "proven": T0 + 0.025,
    "stopped": T0 + 2.1,
}


@pytest.fixture(autouse=True)
def _no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine's own environment names is left alone."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def test_a_span_for_each_part_of_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the recorded times, below one root; the trace is found by the Shutdown's uid."""
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        found = traces("killswitch-reactor", "reactor-0")
        assert found is not None
        found.stop(UID, STAGES, {"killswitch.shutdown": "heat-1"})
        found.close()
        assert receiver.services == {"killswitch-reactor"}
        root = receiver.named("stop")
        names = [each.name for each in receiver.spans if each.parent_span_id == root.span_id]
        assert names == [
            *("sample", "decision", "lock", "delete", "record", "scale", "prove", "sweep")
        ]
        assert {each.trace_id for each in receiver.spans} == {uuid.UUID(UID).bytes}
        lock = receiver.named("lock")
        assert (lock.start_time_unix_nano, lock.end_time_unix_nano) == (
            round(T0 * 1e9),
            round((T0 + 0.004) * 1e9),
        )
        assert root.start_time_unix_nano == round((T0 - 0.5) * 1e9)
        assert root.end_time_unix_nano == round((T0 + 2.1) * 1e9)


def test_reactor_and_manager_write_one_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though they share nothing but the Shutdown."""
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
        reactor, manager = traces("reactor", "a"), traces("manager", "b")
        assert reactor is not None
        assert manager is not None
        manager.verification(UID, {"decided": T0, "verified": T0 + 2.2}, {})
        reactor.stop(UID, STAGES, {})
        manager.close()
        reactor.close()
        assert receiver.named("verify").parent_span_id == receiver.named("stop").span_id
        assert receiver.named("verify").trace_id == receiver.named("stop").trace_id


def test_two_stops_are_two_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a uid looks like; a part with an unknown end has no span."""
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        found = traces("reactor", "a")
        assert found is not None
        found.stop(UID, {"decided": T0, "locked": T0 + 1}, {})
        found.stop("no uuid", {"decided": T0, "locked": T0 - 1}, {})
        found.stop("nothing known", {}, {})
        found.close()
        assert sorted(each.name for each in receiver.spans) == ["lock", "lock", "stop", "stop"]
        assert len({each.trace_id for each in receiver.spans}) == 2
        for each in receiver.spans:
            assert each.end_time_unix_nano >= each.start_time_unix_nano


def test_without_an_endpoint_there_are_none() -> None:
    """The default; OpenTelemetry need not even be installed."""
    assert traces("reactor", "a") is None


def test_without_the_extra_it_is_said_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing library keeps no reactor from stopping anything."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delitem(sys.modules, "killswitch.telemetry.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert traces("reactor", "a") is None
