"""The real Prometheus for everything it can show, a foreign server for what it cannot."""

import asyncio
import itertools
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from killswitch.adapters import promql
from killswitch.adapters.prometheus import PrometheusSource
from killswitch.adapters.prometheus_http import Found
from killswitch.core.readings import Answer, Blindness, NoAnswer
from killswitch.ports import SignalSource
from tests.adapters.foreign_server import ForeignServer, serving
from tests.adapters.queries import GOOD
from tests.cluster.processes import free_port
from tests.cluster.prometheus import Exporter, Prometheus
from tests.fakes.signal_source import FakeSignalSource

Measured = Answer | NoAnswer
TIMEOUT = 0.5
NUMBERS = itertools.count()


@pytest.fixture
async def source(prometheus: Prometheus) -> AsyncIterator[PrometheusSource]:
    """The adapter on the real Prometheus."""
    running = PrometheusSource(prometheus.url, timeout=TIMEOUT)
    yield running
    running.close()


@pytest.fixture
def counted(
    source: PrometheusSource, monkeypatch: pytest.MonkeyPatch
) -> tuple[PrometheusSource, list[str]]:
    """The adapter, and the text of each request that it sends."""
    texts: list[str] = []
    ask = source._http.ask

    def counting(text: str, seconds: float) -> Found | NoAnswer:
        texts.append(text)
        return ask(text, seconds)

    monkeypatch.setattr(source._http, "ask", counting)
    return source, texts


@pytest.fixture
def server() -> Iterator[ForeignServer]:
    """Something that is not a Prometheus."""
    with serving() as running:
        yield running


async def ask(url: str, query: str = "a", **options: Any) -> Measured:
    """One measurement by a source of its own."""
    asking = PrometheusSource(url, **{"timeout": TIMEOUT, **options})
    try:
        return await asking.measure(query)
    finally:
        asking.close()


async def until(
    source: SignalSource, query: str, good: Callable[[Measured], bool], within: float = 20.0
) -> Measured:
    """The first measurement that is good."""
    deadline = time.monotonic() + within
    while not good(found := await source.measure(query)):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)
    return found


def has_values(count: int = 1) -> Callable[[Measured], bool]:
    """Whether it is an answer with that many series."""
    return lambda found: isinstance(found, Answer) and len(found.values) == count


def faulted(reason: Blindness) -> Callable[[Measured], bool]:
    """Whether it is no answer for that reason."""
    return lambda found: isinstance(found, NoAnswer) and found.reason is reason


async def answered(source: SignalSource, query: str, count: int = 1) -> Answer:
    """The answer once it has that many series."""
    found = await until(source, query, has_values(count))
    assert isinstance(found, Answer)
    return found


class Subject:
    """A source and a way to give it samples: one contract for the fake and the adapter."""

    def __init__(self, source: SignalSource, exporter: Exporter | None) -> None:
        self.source, self._exporter = source, exporter

    def expose(self, name: str, *values: float) -> None:
        """Let the metric have one series for each value."""
        if isinstance(self.source, FakeSignalSource):
            self.source.set(name, *values)
        elif self._exporter is not None:
            for number, value in enumerate(values):
                self._exporter.set(name, value, series=str(number))


@pytest.fixture(params=["fake", "prometheus"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Both implementations of the port."""
    if request.param == "fake":
        return Subject(FakeSignalSource(), None)
    return Subject(request.getfixturevalue("source"), request.getfixturevalue("exporter"))


@pytest.mark.parametrize(
    "values", [(1.5,), (0.0,), (-2.0, 3.0), (math.inf,), (-math.inf,), (1e300,)], ids=str
)
async def test_contract_values(subject: Subject, values: tuple[float, ...]) -> None:
    """One value for each series, fresh, without warnings."""
    name = f"contract_{next(NUMBERS)}"
    subject.expose(name, *values)
    found = await answered(subject.source, name, len(values))
    assert sorted(values) == sorted(found.values)
    assert found.warnings == ()
    assert found.oldest_age is not None
    assert 0 <= found.oldest_age < 5


async def test_contract_nan(subject: Subject) -> None:
    """NaN is a value; what it means is not the source's to say."""
    subject.expose("contract_nan", math.nan)
    found = await answered(subject.source, "contract_nan")
    assert math.isnan(found.values[0])


async def test_contract_empty(subject: Subject) -> None:
    """No series is an answer without values and without age, which names the selector."""
    expected = Answer((), None, ("no series of contract_empty",))
    assert expected == await subject.source.measure("contract_empty")


async def test_plus_inf(source: PrometheusSource, exporter: Exporter) -> None:
    """Prometheus writes numbers as texts; infinity is one of them."""
    exporter.set("infinite", math.inf)
    assert (await answered(source, "infinite")).values == (math.inf,)


async def test_nan_hides_no_series(source: PrometheusSource, exporter: Exporter) -> None:
    """A NaN series stays beside the others, so that the judge sees both."""
    exporter.set("half_nan", math.nan, pod="a")
    exporter.set("half_nan", 7.0, pod="b")
    values = (await answered(source, "half_nan", 2)).values
    assert [value for value in values if not math.isnan(value)] == [7.0]


async def test_stale(source: PrometheusSource, exporter: Exporter) -> None:
    """An exporter's own old timestamp shows as age, though Prometheus answers the value as new."""
    exporter.set("stale", 5.0, at=time.time() - 120)
    found = await answered(source, "stale")
    assert found.values == (5.0,)
    assert found.oldest_age == pytest.approx(120, abs=20)


async def test_the_oldest_sample_counts(source: PrometheusSource, exporter: Exporter) -> None:
    """Neither a fresh series of the same selector nor another selector hides an old one."""
    exporter.set("mixed", 1.0, pod="a")
    exporter.set("mixed", 2.0, at=time.time() - 120, pod="b")
    await answered(source, "mixed", 2)
    for query in ("max(mixed)", "exporter_up + on () sum(mixed)", 'exporter_up or mixed{pod="b"}'):
        found = await source.measure(query)
        assert isinstance(found, Answer)
        assert found.oldest_age == pytest.approx(120, abs=20), query


async def test_a_window_does_not_refresh_a_series_that_ended(
    source: PrometheusSource, exporter: Exporter
) -> None:
    """rate() still answers for a minute; the age is that of the bare selector, which is gone."""
    exporter.set("ended", 1.0)
    await answered(source, "rate(ended[1m])")
    exporter.remove("ended")

    def ageless(found: Measured) -> bool:
        return isinstance(found, Answer) and bool(found.values) and found.oldest_age is None

    found = await until(source, "rate(ended[1m])", ageless)
    assert isinstance(found, Answer)
    assert found.warnings == ("no series of ended",)


async def test_a_selector_without_series_is_not_hidden(source: PrometheusSource) -> None:
    """`a or b` answers with a alone, and says that b is missing."""
    found = await source.measure("exporter_up or gone{pod='x'}")
    assert isinstance(found, Answer)
    assert found.values == (1.0,)
    assert found.warnings == ('no series of gone{pod="x"}',)


async def test_the_right_of_unless_may_be_empty(source: PrometheusSource) -> None:
    """Without series it removes nothing: the answer is whole."""
    found = await source.measure("exporter_up unless on () gone")
    assert isinstance(found, Answer)
    assert (found.values, found.warnings) == ((1.0,), ())


async def test_scalars(source: PrometheusSource) -> None:
    """A scalar query answers like a vector of one; without data it is NaN without age."""
    found = await source.measure("scalar(exporter_up) * 3")
    assert isinstance(found, Answer)
    assert found.values == (3.0,)
    assert found.oldest_age is not None
    empty = await source.measure("scalar(gone)")
    assert isinstance(empty, Answer)
    assert math.isnan(empty.values[0])
    assert (empty.oldest_age, empty.warnings) == (None, ("no series of gone",))


async def test_with_warnings(source: PrometheusSource, exporter: Exporter) -> None:
    """What Prometheus warns of arrives with the value; the client package alone would drop it."""
    for bound in ("1", "+Inf"):
        exporter.set("warned_bucket", 4.0, le=bound)
    exporter.set("warned_bucket", 4.0, le="nonsense")
    found = await until(
        source,
        "histogram_quantile(0.5, warned_bucket)",
        lambda found: has_values()(found) and isinstance(found, Answer) and bool(found.warnings),
    )
    assert isinstance(found, Answer)
    assert 'bucket label "le"' in found.warnings[0]


async def test_rejected_query(source: PrometheusSource) -> None:
    """What our parser accepts and this server does not will never work."""
    found = await source.measure("mad_over_time(exporter_up[1m])")
    assert isinstance(found, NoAnswer)
    assert found.reason is Blindness.REJECTED
    assert "mad_over_time" in found.detail


@pytest.mark.parametrize("query", ["sum(", "a > 5", "vector(1)", "(" * 4000])
async def test_a_query_that_the_checker_refuses_is_not_sent(
    server: ForeignServer, query: str
) -> None:
    """It is rejected here, with the checker's words."""
    found = await ask(server.url, query)
    assert isinstance(found, NoAnswer)
    assert (found.reason, server.requests) == (Blindness.REJECTED, [])


async def test_failed_query(source: PrometheusSource, exporter: Exporter) -> None:
    """An error that depends on the data may be gone next time."""
    exporter.set("many_to_many", 1.0, pod="a")
    exporter.set("many_to_many", 1.0, pod="b")
    await answered(source, "many_to_many", 2)
    found = await source.measure("many_to_many * on () many_to_many")
    assert isinstance(found, NoAnswer)
    assert found.reason is Blindness.FAILED
    assert "many-to-many" in found.detail


async def test_too_many_series(source: PrometheusSource, exporter: Exporter) -> None:
    """A thousand are answered, more are a mistake of the query; aggregated they are fine."""
    for number in range(1001):
        exporter.set("crowd", 1.0, number=str(number))
    await until(source, "sum(crowd)", _sum)
    found = await source.measure("crowd")
    assert found == NoAnswer(Blindness.FAILED, "more than 1000 series; aggregate")
    exporter.remove("crowd", number="1000")
    await answered(source, "crowd", 1000)
    for number in range(1000):
        exporter.remove("crowd", number=str(number))


def _sum(found: Measured) -> bool:
    return isinstance(found, Answer) and found.values == (1001.0,)


@pytest.mark.parametrize("query", GOOD)
async def test_prometheus_understands_every_good_query(
    source: PrometheusSource, exporter: Exporter, query: str
) -> None:
    """Whatever the checker passes is answered by the real server, ages included."""
    exporter.set("a", 1.0, x="p", y="q")
    exporter.set("b", 1.0, x="p", y="q")
    await answered(source, "a")
    found = await source.measure(query)
    assert isinstance(found, Answer), found
    missing = [each for each in promql.selectors(query) if f"no series of {each}" in found.warnings]
    assert (len(missing) < len(promql.selectors(query))) == (found.oldest_age is not None)


async def test_down() -> None:
    """Nobody listens."""
    found = await ask(f"http://127.0.0.1:{free_port()}")
    assert isinstance(found, NoAnswer)
    assert found.reason is Blindness.UNREACHABLE
    assert found.detail.endswith("Connection refused")


@pytest.mark.parametrize(
    "url",
    ["http://no-such-host.invalid:9090", "ftp://127.0.0.1", "prometheus:9090", ""],
)
async def test_an_address_that_leads_nowhere_is_unreachable(url: str) -> None:
    """Names that do not resolve and URLs that are none."""
    assert faulted(Blindness.UNREACHABLE)(await ask(url, timeout=5.0))


async def test_tls_that_fails_is_unreachable(prometheus: Prometheus) -> None:
    """Plain HTTP behind an https address."""
    found = await ask(prometheus.url.replace("http:", "https:"))
    assert isinstance(found, NoAnswer)
    assert found.reason is Blindness.UNREACHABLE
    assert "SSL" in found.detail


async def test_frozen(prometheus: Prometheus, source: PrometheusSource) -> None:
    """A stopped process still accepts connections; the timeout ends the wait, every time."""
    assert isinstance(await source.measure("exporter_up"), Answer)
    prometheus.pause()
    try:
        started = time.monotonic()
        found = await asyncio.gather(*(source.measure("exporter_up") for _ in range(20)))
        took = time.monotonic() - started
    finally:
        prometheus.resume()
    expected = NoAnswer(Blindness.TIMEOUT, f"no answer within {TIMEOUT:g} s")
    assert [expected] * 20 == found
    assert took < TIMEOUT + 1
    await answered(source, "exporter_up")


async def test_restarted(prometheus: Prometheus, source: PrometheusSource) -> None:
    """Unreachable while it is down; then old values that show their age; then fresh ones."""
    await answered(source, "exporter_up")
    prometheus.stop(kill=True)
    stopped = time.monotonic()
    assert faulted(Blindness.UNREACHABLE)(await source.measure("exporter_up"))
    await asyncio.to_thread(prometheus.start)

    def aged(low: float, high: float) -> Callable[[Measured], bool]:
        return lambda found: isinstance(found, Answer) and low <= (found.oldest_age or 0) < high

    old = await answered(source, "exporter_up")
    assert old.oldest_age is not None
    assert old.oldest_age >= time.monotonic() - stopped - TIMEOUT
    # The first scrape follows after five seconds; until then the value stays and ages.
    await until(source, "exporter_up", aged(2, 10))
    await until(source, "exporter_up", aged(0, 0.5))


HTML = b"<html><body>Sign in</body></html>"


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500, 502, 503, 504])
async def test_html(server: ForeignServer, status: int) -> None:
    """A proxy's page, whatever its status, is not an answer of Prometheus."""
    server.answer(status, HTML, "text/html; charset=utf-8")
    found = await ask(server.url)
    detail = f"not an answer of Prometheus: status {status}, text/html; charset=utf-8"
    assert NoAnswer(Blindness.BAD_ANSWER, detail) == found


async def test_a_redirect_is_not_followed(server: ForeignServer) -> None:
    """It leads to a login page, or to someone who should not get our token."""
    server.answer(302, b"", "text/plain")
    server.headers["Location"] = f"{server.url}/login"
    assert faulted(Blindness.BAD_ANSWER)(await ask(server.url))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "error_type", "reason"),
    [
        (400, "bad_data", Blindness.REJECTED),
        (422, "execution", Blindness.FAILED),
        (503, "timeout", Blindness.FAILED),
        (503, "canceled", Blindness.FAILED),
        (500, "internal", Blindness.FAILED),
        (429, "too_many_requests", Blindness.FAILED),
        (404, "not_found", Blindness.BAD_ANSWER),
        (401, "unauthorized", Blindness.BAD_ANSWER),
    ],
)
async def test_the_errors_of_the_api(
    server: ForeignServer, status: int, error_type: str, reason: Blindness
) -> None:
    """Prometheus's own word decides, not the status code alone."""
    body = {"status": "error", "errorType": error_type, "error": "because"}
    server.answer(status, body)
    found = await ask(server.url)
    assert isinstance(found, NoAnswer)
    assert reason is found.reason
    if reason is not Blindness.BAD_ANSWER:
        assert found.detail == "because"


async def test_not_ready(server: ForeignServer) -> None:
    """While it replays its log Prometheus says so in plain text."""
    server.answer(503, b"Service Unavailable", "text/plain; charset=utf-8")
    expected = NoAnswer(Blindness.FAILED, "not ready: Service Unavailable")
    assert expected == await ask(server.url)


def success(*result: Any, kind: str = "vector", **more: Any) -> dict[str, Any]:
    """An answer of Prometheus."""
    data = {"resultType": kind, "result": list(result)}
    return {"status": "success", "data": data, **more}


def series(kind: str, value: Any) -> dict[str, Any]:
    """One series of a tagged answer."""
    return {"metric": {promql.KIND: kind}, "value": [1.0, value]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff\xfe",
        b'{"status":"success"}',
        {"status": "error", "errorType": "execution", "error": "with status 200"},
        success(1.0, "5", kind="scalar"),
        success({"metric": {}, "values": [[1.0, "5"]]}, kind="matrix"),
        success({"metric": {"pod": "a"}, "value": [1.0, "5"]}),
        success(series("v", "five")),
        success(series("v", None)),
        success({"metric": {promql.KIND: "v"}}),
        success(series("x", "5")),
        success("5"),
        {"status": "success", "data": {"resultType": "vector", "result": None}},
    ],
    ids=range(16),
)
async def test_an_answer_of_another_shape_is_bad(
    server: ForeignServer, body: bytes | dict[str, Any]
) -> None:
    """A 200 is not believed by its status."""
    server.answer(200, body)
    assert faulted(Blindness.BAD_ANSWER)(await ask(server.url))


async def test_partial_answers(server: ForeignServer) -> None:
    """What Thanos or Mimir warn of is kept with what they could answer; infos are not warnings."""
    partial = success(
        series("v", "5"), series("0", "1.5"), warnings=["store a is down"], infos=["not a counter"]
    )
    server.answer(200, partial)
    assert Answer((5.0,), 1.5, ("store a is down",)) == await ask(server.url)


async def test_warnings_do_not_outlive_their_answer(server: ForeignServer) -> None:
    """The next measurement of the same thread starts without them."""
    source = PrometheusSource(server.url, timeout=TIMEOUT, threads=1)
    whole = (series("v", "5"), series("0", "1.5"))
    try:
        server.answer(200, success(*whole, warnings=["once"]))
        assert Answer((5.0,), 1.5, ("once",)) == await source.measure("a")
        server.answer(200, success(*whole, warnings=None))
        assert Answer((5.0,), 1.5, ()) == await source.measure("a")
    finally:
        source.close()


async def test_native_histograms_are_refused(server: ForeignServer) -> None:
    """They have no single value to compare."""
    server.answer(200, success({"metric": {promql.KIND: "v"}, "histogram": [1.0, {}]}))
    found = await ask(server.url)
    assert isinstance(found, NoAnswer)
    assert (Blindness.FAILED, "histogram_quantile" in found.detail) == (found.reason, True)


async def test_an_age_that_is_no_number_is_none(server: ForeignServer) -> None:
    """NaN would compare as fresh."""
    server.answer(200, success(series("v", "5"), series("0", "NaN")))
    assert Answer((5.0,), None) == await ask(server.url)


async def test_an_endless_answer_is_cut_off(server: ForeignServer) -> None:
    """More bytes than a thousand series need are not read into memory."""
    server.answer(200, b"[" + b" " * 5_000_000)
    expected = NoAnswer(Blindness.FAILED, "more than 1000 series; aggregate")
    assert expected == await ask(server.url, timeout=5.0)


async def test_a_dripping_answer_is_cut_off(server: ForeignServer) -> None:
    """Each byte comes in time, the answer does not."""
    server.pause = 0.05
    server.answer(200, success(series("v", "5"), series("0", "1.5")))
    started = time.monotonic()
    expected = NoAnswer(Blindness.TIMEOUT, f"no answer within {TIMEOUT:g} s")
    assert expected == await ask(server.url)
    assert time.monotonic() - started < TIMEOUT + 1


async def test_an_answer_that_breaks_off_is_unreachable(server: ForeignServer) -> None:
    """Half an answer is none."""
    server.answer(200, success(series("v", "5"), series("0", "1.5")))
    server.short_by = 10
    assert faulted(Blindness.UNREACHABLE)(await ask(server.url))


async def test_a_socket_that_never_answers_is_a_timeout() -> None:
    """Connections are accepted by the kernel alone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = await ask(f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert found == NoAnswer(Blindness.TIMEOUT, f"no answer within {TIMEOUT:g} s")


async def test_the_request(server: ForeignServer) -> None:
    """One request: both questions, a time limit, a series limit, no compression, our headers."""
    server.answer(200, success(series("v", "5"), series("0", "1.5")))
    await ask(f"{server.url}/prom/", "rate(a[1m])", headers={"Authorization": "Bearer t"})
    (request,) = server.requests
    assert request["path"] == "/prom/api/v1/query"
    assert request["query"] == {
        "query": [promql.measurement("rate(a[1m])")],
        "timeout": ["450ms"],
        "limit": ["1100"],
    }
    assert request["headers"]["Authorization"] == "Bearer t"
    assert request["headers"]["Accept-Encoding"] == "identity"


async def test_the_environment_is_not_asked(
    server: ForeignServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy in the environment of the operator is not on the way to its Prometheus."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    server.answer(200, success(series("v", "5"), series("0", "1.5")))
    assert isinstance(await ask(server.url), Answer)


async def test_connections_are_kept(server: ForeignServer) -> None:
    """One for each thread at most, however many measurements, refusals among them."""
    source = PrometheusSource(server.url, timeout=5.0, threads=4)
    try:
        for status in (200, 422):
            body = {"status": "error", "errorType": "execution", "error": "x"}
            whole = success(series("v", "5"), series("0", "1.5"))
            server.answer(status, whole if status == 200 else body)
            await asyncio.gather(*(source.measure("a") for _ in range(40)))
    finally:
        source.close()
    assert len(server.requests) >= 40  # those that were refused together were asked alone
    assert len(server.clients) <= 4


async def test_what_is_asked_in_one_moment_shares_requests(
    prometheus: Prometheus, exporter: Exporter, counted: tuple[PrometheusSource, list[str]]
) -> None:
    """Sixty queries in three requests, each with its own value, age and warnings."""
    source, texts = counted
    exporter.set("shared_metric", 7)
    await answered(source, "shared_metric")
    texts.clear()
    queries = [f"shared_metric + {number}" for number in range(58)]
    *many, absent, twice = await asyncio.gather(
        *(source.measure(query) for query in (*queries, "no_such_metric", "shared_metric * 2"))
    )
    assert [answer.values for answer in many if isinstance(answer, Answer)] == [
        (7.0 + number,) for number in range(58)
    ]
    assert Answer((), None, ("no series of no_such_metric",)) == absent
    assert isinstance(twice, Answer)
    assert (twice.values, twice.warnings) == ((14.0,), ())
    assert twice.oldest_age is not None
    assert twice.oldest_age < 5
    assert len(texts) == 3


async def test_a_query_that_fails_blinds_no_neighbour(
    prometheus: Prometheus, exporter: Exporter, counted: tuple[PrometheusSource, list[str]]
) -> None:
    """Its neighbours are asked alone in the same call, and from then on it is the one that is."""
    source, texts = counted
    for number in range(2):
        exporter.set("many_to_many", 1, side=str(number))
        exporter.set("many_too", 1, side=str(number))
    await answered(source, "many_to_many", 2)
    await answered(source, "many_too", 2)
    bad, good = "many_to_many + on() many_too", "exporter_up"
    for requests in (3, 2):  # together and each alone; then one for the good ones, one for it
        texts.clear()
        found, healthy = await asyncio.gather(source.measure(bad), source.measure(good))
        assert faulted(Blindness.FAILED)(found)
        assert isinstance(healthy, Answer)
        assert (healthy.values, len(texts)) == ((1.0,), requests)


async def test_a_slow_query_blinds_no_neighbour(
    counted: tuple[PrometheusSource, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes a shared request late is told as late; the others have their answer in time."""
    source, _ = counted
    quick = source._http.ask

    def ask(text: str, seconds: float) -> Found | NoAnswer:
        if "slow_metric" in text:
            time.sleep(seconds)
            return NoAnswer(Blindness.TIMEOUT, "late")
        return quick(text, seconds)

    monkeypatch.setattr(source._http, "ask", ask)
    found, healthy = await asyncio.gather(
        source.measure("slow_metric"), source.measure("exporter_up")
    )
    assert faulted(Blindness.TIMEOUT)(found)
    assert isinstance(healthy, Answer)


async def test_a_full_default_executor_does_not_blind_it(server: ForeignServer) -> None:
    """The threads are its own."""
    server.answer(200, success(series("v", "5"), series("0", "1.5")))
    release = threading.Event()
    loop = asyncio.get_running_loop()
    blocked = [loop.run_in_executor(None, release.wait) for _ in range(64)]
    try:
        assert isinstance(await ask(server.url), Answer)
    finally:
        release.set()
        await asyncio.gather(*blocked)


async def test_after_close(server: ForeignServer) -> None:
    """What waits for a thread, and whatever comes later, learns that the source is closed."""
    server.pause = 0.02
    server.answer(200, success(series("v", "5"), series("0", "1.5")))
    source = PrometheusSource(server.url, timeout=TIMEOUT, threads=1)
    waiting = [asyncio.create_task(source.measure("a")) for _ in range(3)]
    while not server.requests:
        await asyncio.sleep(0.01)
    source.close()
    closed = NoAnswer(Blindness.UNREACHABLE, "the source is closed")
    found = await asyncio.gather(*waiting)
    assert [closed, closed] == found[1:]
    assert closed == await source.measure("a")


async def test_cancelling_the_caller_is_not_swallowed(server: ForeignServer) -> None:
    """Not knowing is an answer; being stopped is not."""
    server.pause = 0.05
    server.answer(200, success(series("v", "5"), series("0", "1.5")))
    source = PrometheusSource(server.url, timeout=TIMEOUT)
    task = asyncio.create_task(source.measure("a"))
    while not server.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    source.close()
