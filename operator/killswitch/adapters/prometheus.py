"""Port `SignalSource` over a Prometheus API.

The reactor's poller calls `measure` for each distinct query. One request asks for the value and
for the age of the samples behind it (`promql.Parsed.text`), and queries that are asked in the same
moment share a request, since a request costs more than its query. Every fault becomes a `NoAnswer`;
nothing here judges, retries or remembers an older answer.

What is whole: every selector of the query must have series. One without makes the answer partial
and is named among its warnings, so that a value beyond its threshold is believed and all-is-well
is not: in `a or b`, `b` may be what would have told. Only the right of `unless` may be empty,
since it can do nothing but remove series. The age is that of the oldest sample of any selector.

Nobody is blind by a neighbour: when a shared request fails, each of its queries is asked alone
within the same timeout, and one that fails then is asked alone for some minutes. A warning cannot
be told apart and counts for all that shared the request.
"""

import asyncio
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from killswitch.adapters import promql
from killswitch.adapters.prometheus_http import MOST_SERIES, Found, PrometheusHttp, Series, too_many
from killswitch.core.errors import InvalidPolicyError
from killswitch.core.readings import NO_SERIES, Answer, Blindness, Labels, NoAnswer

_GRACE = 0.25
"""Seconds a task waits beyond the timeout, so that the thread can name the fault."""
_RANGE = 10.0
"""Seconds for an answer about the past: nothing that kills waits for it."""
_DETAIL = 300
_TOGETHER = 25
_LONGEST = 6000
"""Queries, and characters of their texts, that share a request: it has to fit into a URL."""
_ALONE = 300.0
"""Seconds for which a query that failed is asked alone."""


@dataclass(slots=True)
class _Asked:
    """A query whose answer somebody waits for."""

    parsed: promql.Parsed
    answer: "asyncio.Future[Answer | NoAnswer]"

    def tell(self, answer: Answer | NoAnswer) -> None:
        """Unless the asker has gone."""
        if not self.answer.done():
            self.answer.set_result(answer)


class PrometheusSource:
    """One Prometheus, Thanos or Mimir, asked from `threads` threads of its own."""

    def __init__(
        self,
        url: str,
        timeout: float = 2.0,
        threads: int = 8,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Nothing is connected yet. `timeout` (seconds) bounds each measurement as a whole."""
        self._timeout = timeout
        self._http = PrometheusHttp(url, timeout, threads, headers)
        # Never the loop's default executor: whatever fills that must not blind us.
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="prometheus")
        self._waiting: list[_Asked] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._alone: dict[str, float] = {}
        """Until when (monotonic) a query shares no request."""

    async def measure(self, query: str) -> Answer | NoAnswer:
        """What the query yields now, or why that is not known, within the timeout."""
        try:
            parsed = promql.parsed(query)
        except InvalidPolicyError as error:
            return NoAnswer(Blindness.REJECTED, str(error)[:_DETAIL])
        loop = asyncio.get_running_loop()
        asked = _Asked(parsed, loop.create_future())
        if not self._waiting:
            loop.call_soon(self._send)  # after everything else that is asked in this moment
        self._waiting.append(asked)
        return await asked.answer

    async def recall(self, query: str, span: float, step: float) -> Sequence[Answer] | NoAnswer:
        """What `measure` would have said every `step` seconds of the last `span`, oldest first."""
        try:
            parsed = promql.parsed(query)
        except InvalidPolicyError as error:
            return NoAnswer(Blindness.REJECTED, str(error)[:_DETAIL])
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_RANGE + _GRACE):
                return await loop.run_in_executor(self._threads, self._recall, parsed, span, step)
        except TimeoutError:
            return NoAnswer(Blindness.TIMEOUT, f"no answer within {_RANGE:g} s")
        except RuntimeError:
            return _closed()

    def _recall(
        self, parsed: promql.Parsed, span: float, step: float
    ) -> tuple[Answer, ...] | NoAnswer:
        """In a thread: thousands of samples may have to be read."""
        end = math.floor(time.time())
        found = self._http.ask_range(parsed.text, end - math.ceil(span), end, step, _RANGE)
        if isinstance(found, NoAnswer):
            return found
        try:
            answers = [_answer(parsed, found[moment]) for moment in sorted(found)]
        except (ValueError, IndexError) as error:
            return _foreign(error)
        return tuple(each for each in answers if isinstance(each, Answer))

    def close(self) -> None:
        """Let go of threads and connections; requests under way end by their timeout."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        now = time.monotonic()
        self._alone = {query: until for query, until in self._alone.items() if until > now}
        alone = [each for each in waiting if each.parsed.query in self._alone]
        shared = [each for each in waiting if each.parsed.query not in self._alone]
        for group in [*([each] for each in alone), *_groups(shared)]:
            task = asyncio.ensure_future(self._answer_all(group))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer_all(self, group: Sequence[_Asked]) -> None:
        """Whatever happens, everybody who asked is told something."""
        try:
            await self._ask_together(group)
        except (ValueError, IndexError) as error:
            for each in group:
                each.tell(_foreign(error))
        finally:
            for each in group:
                each.tell(_closed())

    async def _ask_together(self, group: Sequence[_Asked]) -> None:
        until = time.monotonic() + self._timeout
        if len(group) > 1:
            text = " or ".join(each.parsed.tagged(f"{n}:") for n, each in enumerate(group))
            found = await self._ask(text, self._timeout / 2)
            if isinstance(found, Found) and len(found.series) <= MOST_SERIES:
                for each, series in zip(group, _apart(found, len(group)), strict=True):
                    each.tell(_answer(each.parsed, series))
                return
            if isinstance(found, NoAnswer) and found.reason is Blindness.UNREACHABLE:
                for each in group:
                    each.tell(found)
                return
        await asyncio.gather(*(self._ask_alone(each, until) for each in group))

    async def _ask_alone(self, asked: _Asked, until: float) -> None:
        found = await self._ask(asked.parsed.text, max(0.05, until - time.monotonic()))
        answer = _answer(asked.parsed, found) if isinstance(found, Found) else found
        if isinstance(answer, NoAnswer) and answer.reason is not Blindness.UNREACHABLE:
            self._alone[asked.parsed.query] = time.monotonic() + _ALONE
        asked.tell(answer)

    async def _ask(self, text: str, seconds: float) -> Found | NoAnswer:
        late = NoAnswer(Blindness.TIMEOUT, f"no answer within {self._timeout:g} s")
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(seconds + _GRACE):
                found = await loop.run_in_executor(self._threads, self._http.ask, text, seconds)
        except TimeoutError:
            return late
        except RuntimeError:
            return _closed()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return _closed()  # `close` dropped what had not been sent yet
        timed_out = isinstance(found, NoAnswer) and found.reason is Blindness.TIMEOUT
        return late if timed_out else found


def _groups(waiting: Sequence[_Asked]) -> Iterator[list[_Asked]]:
    """Queries that share a request, in order."""
    group: list[_Asked] = []
    length = 0
    for each in waiting:
        own = len(each.parsed.text)
        if group and (len(group) == _TOGETHER or length + own > _LONGEST):
            yield group
            group, length = [], 0
        group.append(each)
        length += own
    if group:
        yield group


def _apart(found: Found, count: int) -> list[Found]:
    """The series of a shared answer by query, tagged as if each had been asked alone."""
    series: list[list[Series]] = [[] for _ in range(count)]
    for each in found.series:
        number, _, kind = each.kind.partition(":")
        series[int(number)].append(replace(each, kind=kind))
    return [Found(part, found.warnings) for part in series]


def _answer(parsed: promql.Parsed, found: Found) -> Answer | NoAnswer:
    values, series, ages, at = [], [], {}, None
    for each in found.series:
        if each.kind == promql.VALUE and each.histogram:
            detail = "the query yields native histograms; use histogram_quantile"
            return NoAnswer(Blindness.FAILED, detail)
        if each.kind == promql.VALUE:
            values.append(each.value)
            series.append(_labels(each))
            at = each.at
        else:
            ages[int(each.kind)] = each.value
    if len(values) > MOST_SERIES:
        return too_many()
    missing = (parsed.selectors[number] for number in sorted(parsed.needed - ages.keys()))
    warnings = (*found.warnings, *(f"{NO_SERIES}{each}" for each in missing))
    return Answer(tuple(values), _oldest(ages.values()), warnings, tuple(series), at)


def _labels(series: Series) -> Labels:
    return tuple(sorted(each for each in series.labels.items() if each[0] != promql.KIND))


def _foreign(error: Exception) -> NoAnswer:
    """Tags that nobody of us wrote."""
    return NoAnswer(Blindness.BAD_ANSWER, f"not an answer of Prometheus: {error!r}")


def _closed() -> NoAnswer:
    return NoAnswer(Blindness.UNREACHABLE, "the source is closed")


def _oldest(ages: Iterable[float]) -> float | None:
    known = [age for age in ages if not math.isnan(age)]
    return max(known, default=None)
