"""Who takes a series' samples: the same as asking every signal, and found without doing so."""

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.api.acceptance import accept
from killswitch.reactor.routes import NOBODY, Routes, Taker
from killswitch.reactor.watched import Watched
from killswitch.signals.series import Series
from tests.reactor.harness import policy

LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "1", "2"]), max_size=3)
SIDES = st.sampled_from([{"above": "10"}, {"above": "20"}, {"below": "5"}, {"below": "1"}])
SOURCES = st.builds(
    lambda name, labels, side: {"name": name, **({"labels": labels} if labels else {}), **side},
    st.sampled_from(["x", "y"]),
    LABELS,
    SIDES,
)


def watched(uid: str, *sources: dict[str, Any]) -> Watched:
    """A policy whose signals name these metrics."""
    signals = [
        {"name": f"s{number}", "metric": source, "onNoData": "Hold"}
        for number, source in enumerate(sources)
    ]
    body = policy("p", targets=[{"kind": "Deployment", "name": "vllm"}], signals=signals)
    body["metadata"] |= {"uid": uid, "namespace": "prod", "generation": 1}
    return Watched(accept(body, lambda _field, _query: {}), {})


def add(routes: Routes, each: Watched) -> None:
    """Let all its signals take what they name."""
    for signal in each.policy.signals:
        routes.add(Taker(each, signal))


@given(
    policies=st.lists(st.lists(SOURCES, min_size=1, max_size=3), min_size=1, max_size=4),
    removed=st.sets(st.integers(0, 3)),
    labels=LABELS,
    value=st.floats(0, 30),
)
@settings(deadline=None)
def test_the_takers_are_those_whose_metric_matches(
    policies: list[list[dict[str, Any]]], removed: set[int], labels: dict[str, str], value: float
) -> None:
    """Whatever was added and removed, before and after the series was first seen."""
    routes, there = Routes(), []
    series = Series("x", tuple(sorted((k, v) for k, v in labels.items() if v)))
    for number, sources in enumerate(policies):
        there.append(watched(str(number), *sources))
        add(routes, there[-1])
        routes.of(series)
    for number in removed & set(range(len(there))):
        routes.remove(there[number])
    kept = [each for number, each in enumerate(there) if number not in removed]
    expected = {
        (each.policy.uid, signal.name)
        for each in kept
        for signal in each.policy.signals
        if signal.metric and signal.metric.name == "x" and signal.metric.matches(series.labels)
    }
    found = routes.of(series)
    assert {(t.watched.policy.uid, t.signal.name) for t in found.takers} == expected
    assert routes.of(series) is found
    assert routes.metrics == {
        signal.metric.name for each in kept for signal in each.policy.signals if signal.metric
    }
    crossed = any(taker.signal.threshold.crossed(value) for taker in found.takers)
    assert crossed == (not found.low <= value <= found.high)


def test_a_series_that_nobody_takes() -> None:
    """No value of it is looked at, NaN aside, which trips nothing."""
    routes = Routes()
    add(routes, watched("u", {"name": "x", "above": "1"}))
    found = routes.of(Series("z", ()))
    assert found is NOBODY
    assert found.low <= math.inf <= found.high
