"""Which signals take the samples of a series, found in a time that other policies do not lengthen.

Signals that name the same metric are kept by the names of their labels, and below that by their
values: a series asks one question for each set of label names in use, however many policies there
are. What it found is remembered for the series itself, with the values between which no threshold
of its takers lies: for most samples, two comparisons are all that is done.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from killswitch.api.compiled import CompiledSignal, Metric
from killswitch.reactor.watched import Watched
from killswitch.signals.series import Series

_MOST = 500_000
"""Series of one metric whose route is remembered; one costs about 100 bytes."""

Names = tuple[str, ...]
Values = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Taker:
    """A signal of a policy under watch that names a metric."""

    watched: Watched
    signal: CompiledSignal


@dataclass(frozen=True, slots=True)
class Route:
    """Who takes a series' samples. A value from `low` to `high` trips none of them."""

    takers: tuple[Taker, ...]
    low: float
    high: float


NOBODY = Route((), -math.inf, math.inf)


class Routes:
    """From series to the signals that take them."""

    def __init__(
        self, taken: Callable[[CompiledSignal], Metric | None] = lambda signal: signal.metric
    ) -> None:
        """Nobody takes anything. `taken` says what a signal takes; None is nothing."""
        self._taken = taken
        self._by_name: dict[str, dict[Names, dict[Values, list[Taker]]]] = {}
        self._known: dict[str, dict[Series, Route]] = {}

    @property
    def metrics(self) -> frozenset[str]:
        """Names of the metrics that somebody takes."""
        return frozenset(self._by_name)

    def add(self, taker: Taker) -> None:
        """From now on this signal takes the series that its metric names."""
        metric = self._taken(taker.signal)
        if metric is None:
            return
        names, values = _split(metric.labels)
        by_names = self._by_name.setdefault(metric.name, {})
        by_names.setdefault(names, {}).setdefault(values, []).append(taker)
        self._known.pop(metric.name, None)

    def remove(self, watched: Watched) -> None:
        """No signal of this policy takes anything any more."""
        for signal in watched.policy.signals:
            if (metric := self._taken(signal)) is not None:
                self._drop(watched, metric)
                self._known.pop(metric.name, None)

    def of(self, series: Series) -> Route:
        """Who takes samples of this series. The same object is answered from memory."""
        routes = self._known.get(series.name)
        if routes is None:
            routes = self._known[series.name] = {}
        found = routes.get(series)
        if found is None:
            if len(routes) >= _MOST:  # series that are long gone, for the most part
                routes.clear()
            found = routes[series] = self._find(series)
        return found

    def takers(self, name: str, labels: dict[str, str]) -> tuple[Taker, ...]:
        """Who takes what has this name and these labels; nothing is remembered."""
        return tuple(_takers(self._by_name.get(name, {}), labels))

    def _drop(self, watched: Watched, metric: Metric) -> None:
        names, values = _split(metric.labels)
        by_names = self._by_name.get(metric.name, {})
        by_values = by_names.get(names, {})
        left = [each for each in by_values.pop(values, ()) if each.watched is not watched]
        if left:
            by_values[values] = left
        elif not by_values and by_names.pop(names, None) is not None and not by_names:
            del self._by_name[metric.name]

    def _find(self, series: Series) -> Route:
        by_names = self._by_name.get(series.name)
        if by_names is None:
            return NOBODY
        return _route(_takers(by_names, dict(series.labels)))


def _takers(
    by_names: dict[Names, dict[Values, list[Taker]]], labels: dict[str, str]
) -> Iterator[Taker]:
    for names, by_values in by_names.items():
        # An empty value asks for a label that is not there, as in PromQL.
        yield from by_values.get(tuple(labels.get(name, "") for name in names), ())


def _route(found: Iterable[Taker]) -> Route:
    takers = tuple(found)
    if not takers:
        return NOBODY
    if any(each.signal.detector is not None for each in takers):
        return Route(takers, math.inf, -math.inf)  # it learns from every sample
    limits = [each.signal.threshold for each in takers]
    low = max((each.below for each in limits if each.below is not None), default=-math.inf)
    high = min((each.above for each in limits if each.above is not None), default=math.inf)
    return Route(takers, low, high)


def _split(labels: tuple[tuple[str, str], ...]) -> tuple[Names, Values]:
    return tuple(name for name, _ in labels), tuple(value for _, value in labels)
