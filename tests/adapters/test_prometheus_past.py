"""Whose values an answer holds, and what would have been answered before: for detectors."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from killswitch.adapters import promql
from killswitch.adapters.prometheus import PrometheusSource
from killswitch.core.readings import Answer, Blindness, NoAnswer
from killswitch.ports import SignalSource
from tests.adapters.foreign_server import serving
from tests.adapters.test_prometheus_source import answered
from tests.cluster.processes import free_port
from tests.cluster.prometheus import Exporter, Prometheus
from tests.fakes.signal_source import FakeSignalSource


@pytest.fixture
async def source(prometheus: Prometheus) -> AsyncIterator[PrometheusSource]:
    """The adapter on the real Prometheus."""
    running = PrometheusSource(prometheus.url, timeout=2.0)
    yield running
    running.close()


async def recalled(source: SignalSource, query: str, count: int) -> list[Answer]:
    """The last half minute once it holds so many answers with a value."""
    deadline = time.monotonic() + 20
    while True:
        found = await source.recall(query, 30, 1)
        assert not isinstance(found, NoAnswer), found
        whole = [each for each in found if each.values]
        if len(whole) >= count:
            return whole
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.2)


async def test_an_answer_names_its_series(source: PrometheusSource, exporter: Exporter) -> None:
    """With all labels but ours, in the order of the values."""
    exporter.set("named", 1.0, model="a", pod="p-1")
    exporter.set("named", 2.0, model="a", pod="p-2")
    found = await answered(source, 'named{model="a"}', 2)
    by_pod = {
        dict(labels)["pod"]: value for labels, value in zip(found.series, found.values, strict=True)
    }
    assert by_pod == {"p-1": 1.0, "p-2": 2.0}
    first = dict(found.series[0])
    assert {"__name__", "model", "pod", "instance", "job"} <= first.keys()
    assert promql.KIND not in first
    total = await answered(source, "sum(named)")
    assert total.series == ((),)


async def test_a_sample_has_one_time_however_often_it_is_asked_for(
    source: PrometheusSource, exporter: Exporter
) -> None:
    """That of the sample itself, to the millisecond: what is learned once is not learned again."""
    stamp = round(time.time(), 3)
    exporter.set("stamped", 1.0, at=stamp)
    await answered(source, "stamped")
    for _ in range(5):
        found = await source.measure("stamped")
        assert isinstance(found, Answer)
        assert found.sampled_at == stamp
        await asyncio.sleep(0.05)


async def test_the_past_is_what_would_have_been_answered(
    source: PrometheusSource, exporter: Exporter
) -> None:
    """Value, series and age at each step, oldest first, each believed as far as it was whole."""
    exporter.set("before", 1.0, model="a")
    await answered(source, "before")
    found = await recalled(source, "sum by (model) (before)", 3)
    assert {each.values for each in found} == {(1.0,)}
    assert {each.series for each in found} == {((("model", "a"),),)}
    moments = [each.at or 0.0 for each in found]
    assert moments == sorted(set(moments))
    for each in found:
        assert each.warnings == ()
        assert each.oldest_age is not None
        assert 0 <= each.oldest_age < 5
    either = await recalled(source, "before or never_there", 1)
    assert either[-1].warnings == ("no series of never_there",)


@pytest.mark.parametrize("query", ["sum(", "a == 1"])
async def test_a_bad_query_has_no_past(source: PrometheusSource, query: str) -> None:
    """Refused before it is sent."""
    found = await source.recall(query, 30, 1)
    assert isinstance(found, NoAnswer)
    assert found.reason is Blindness.REJECTED


async def test_what_never_was_has_an_empty_past(source: PrometheusSource) -> None:
    """Which is no fault; the fake says the same."""
    for each in (source, FakeSignalSource()):
        assert len(list(await each.recall("never_there", 30, 1))) == 0  # type: ignore[arg-type]


async def test_nobody_there_has_no_past() -> None:
    """As for a measurement."""
    source = PrometheusSource(f"http://127.0.0.1:{free_port()}", timeout=1.0)
    found = await source.recall("a", 30, 1)
    source.close()
    assert isinstance(found, NoAnswer)
    assert found.reason is Blindness.UNREACHABLE
    late = await source.recall("a", 30, 1)
    assert late == NoAnswer(Blindness.UNREACHABLE, "the source is closed")


async def test_a_past_that_is_too_large_is_not_read_into_memory() -> None:
    """Told as what it is: the detector warms up live."""
    with serving() as server:
        server.answer(200, b"[" + b" " * 5_000_000)
        source = PrometheusSource(server.url, timeout=1.0)
        found = await source.recall("a", 30, 1)
        source.close()
    assert found == NoAnswer(Blindness.FAILED, "more than 4 MB; aggregate")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        {"status": "success", "data": {"resultType": "vector", "result": []}},
        {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}}]}},
        {
            "status": "success",
            "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "2"]]}]},
        },
        {
            "status": "success",
            "data": {
                "resultType": "matrix",
                "result": [{"metric": {promql.KIND: "x"}, "values": [[1, "2"]]}],
            },
        },
    ],
    ids=range(5),
)
async def test_a_past_of_another_shape_is_bad_or_empty(body: bytes | dict[str, object]) -> None:
    """A 200 is not believed by its status, and nothing escapes as an exception."""
    with serving() as server:
        server.answer(200, body)
        source = PrometheusSource(server.url, timeout=1.0)
        found = await source.recall("a", 30, 1)
        source.close()
    if isinstance(found, NoAnswer):
        assert found.reason is Blindness.BAD_ANSWER
    else:
        assert list(found) == []
