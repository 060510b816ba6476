"""A real Prometheus scrapes values that a test sets, and can be made to hang or to restart."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.prometheus import Exporter, Prometheus
from tests.cluster.test_processes import until


@pytest.fixture
def other() -> Iterator[Exporter]:
    """One more exporter."""
    running = Exporter()
    yield running
    running.close()


def test_the_exposition_carries_labels_and_timestamps(other: Exporter) -> None:
    """Text format as Prometheus reads it; a removed sample is gone."""
    other.set("tokens_total", 3, model="m", zone="a")
    other.set("old", 1.5, at=12.5)
    assert other.text() == 'tokens_total{model="m",zone="a"} 3\nold{} 1.5 12500\n'
    other.remove("old")
    other.remove("tokens_total", model="other")
    assert other.text() == 'tokens_total{model="m",zone="a"} 3\n'


def test_awkward_label_values_are_escaped(other: Exporter) -> None:
    """Quotes, backslashes and line ends do not break the format."""
    other.set("odd", 1, text='a"b\\c\nd')
    assert other.text() == 'odd{text="a\\"b\\\\c\\nd"} 1\n'


def test_it_is_prometheus_3(prometheus: Prometheus) -> None:
    """Quoted metric names are new in 3; an older one answers that it cannot parse them."""
    found = prometheus.query('absent({"no.such.metric"})')
    assert found[0]["value"][1] == "1"


def test_values_set_by_a_test_are_scraped(prometheus: Prometheus, exporter: Exporter) -> None:
    """First value, then another, then staleness."""
    query = 'test_prometheus_tokens{model_name="m"}'
    exporter.set("test_prometheus_tokens", 123.0, model_name="m")
    assert prometheus.wait_for_sample(query)[0]["value"][1] == "123"
    exporter.set("test_prometheus_tokens", 124.0, model_name="m")
    assert prometheus.wait_for_sample(f"{query} == 124")
    exporter.remove("test_prometheus_tokens", model_name="m")
    assert until(lambda: prometheus.query(query) == [])


def test_a_target_may_be_added_later(prometheus: Prometheus, other: Exporter) -> None:
    """With labels of its own."""
    other.set("test_prometheus_late", 1)
    prometheus.add_target(other.address, cluster="second")
    found = prometheus.wait_for_sample("test_prometheus_late")
    assert found[0]["metric"]["cluster"] == "second"


def test_a_paused_one_accepts_and_does_not_answer(prometheus: Prometheus) -> None:
    """Queries hang until it is resumed, as with a Prometheus out of memory."""
    prometheus.pause()
    try:
        with pytest.raises(TimeoutError):
            prometheus.query("vector(1)", timeout=0.5)
    finally:
        prometheus.resume()
    assert prometheus.query("vector(1)")[0]["value"][1] == "1"


def test_a_killed_one_comes_back_with_its_data(tmp_path: Path, other: Exporter) -> None:
    """Samples of its former life are still there, on the same address."""
    other.set("kept", 7)
    with Prometheus(tmp_path, {other.address: {}}) as running:
        running.wait_for_sample("kept")
        url = running.url
        other.remove("kept")
        until(lambda: running.query("kept") == [])
        running.restart()
        assert running.url == url
        assert running.query("last_over_time(kept[1m])")[0]["value"][1] == "7"


def test_waiting_for_a_sample_has_an_end(prometheus: Prometheus) -> None:
    """The error names the query."""
    started = time.monotonic()
    with pytest.raises(AssertionError, match=r"no sample of nothing within 0\.2 s"):
        prometheus.wait_for_sample("nothing", within=0.2)
    assert time.monotonic() - started < 5
