"""The parser of our own scrapes against the official client's, and against rubbish."""

import math
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_of
from prometheus_client.parser import text_string_to_metric_families as families_of

from killswitch.core.errors import UnacceptableError
from killswitch.signals.exposition import Limits, Parser
from killswitch.signals.series import Samples

AT = 1_800_000_000_000
Row = tuple[str, tuple[tuple[str, str], ...], str, int]


def rows(samples: Samples) -> list[Row]:
    """What was parsed, in an order and a form that can be compared."""
    return sorted((s.name, s.labels, repr(value), at) for s, value, at in samples)


def official(
    body: bytes, names: set[str], parse: Callable[[str], object] = families_of
) -> list[Row]:
    """What prometheus_client reads of these metrics."""
    found: list[Row] = []
    for family in parse(body.decode()):  # type: ignore[attr-defined]  # it ships no useful types
        for sample in family.samples:
            if sample.name in names:
                labels = tuple(sorted((k, v) for k, v in sample.labels.items() if v))
                at = AT if sample.timestamp is None else round(float(sample.timestamp) * 1000)
                found.append((sample.name, labels, repr(float(sample.value)), at))
    return sorted(found)


def parsed(text: str, *names: str, openmetrics: bool = False) -> list[Row]:
    """What ours reads, asserted to be the same when every series is known."""
    parser = Parser(names or ("up",))
    first = rows(parser.parse(text.encode(), AT, openmetrics=openmetrics))
    assert first == rows(parser.parse(text.encode(), AT, openmetrics=openmetrics))
    return first


def registry() -> CollectorRegistry:
    """A small server's metrics, every type and every escape."""
    found = CollectorRegistry()
    waiting = Gauge("waiting", 'Says waiting 7 and "quotes"', ["model", "path"], registry=found)
    waiting.labels('say "hi"', "C:\\temp\nnext").set(3)
    waiting.labels("ünï", "").set(math.inf)
    waiting.labels("{},= #", "x 5").set(math.nan)
    Counter("tokens", "waiting tokens", registry=found).inc(12)
    Counter("tokens_extra", "has the name before it", registry=found).inc(1)
    Histogram("latency", "seconds", registry=found).observe(0.3, exemplar={"trace": "# 1"})
    return found


NAMES = {"waiting", "tokens_total", "latency_bucket", "latency_sum", "absent"}


def test_the_official_clients_text_is_read_like_the_official_parser_does() -> None:
    """Names inside other names, in comments and in label values are not samples."""
    body = generate_latest(registry())
    expected = official(body, NAMES)
    assert len(expected) > 15
    for text in (body, body.replace(b"\n", b"\r\n")):
        assert expected == rows(Parser(NAMES).parse(text, AT))


def test_openmetrics_is_read_like_the_official_parser_does() -> None:
    """With exemplars, and the end that proves nothing is missing."""
    body: bytes = generate_openmetrics(registry())  # type: ignore[no-untyped-call]  # theirs
    expected = official(body, NAMES, openmetrics_of)
    assert len(expected) > 15
    assert expected == rows(Parser(NAMES).parse(body, AT, openmetrics=True))
    assert expected == rows(Parser(NAMES).parse(body[:-1] + b"\r\n", AT, openmetrics=True))
    for cut in range(len(body) - 1):
        with pytest.raises(UnacceptableError):
            Parser(NAMES).parse(body[:cut], AT, openmetrics=True)


def test_a_known_series_is_the_same_object() -> None:
    """Scrape after scrape, until the cache is emptied."""
    parser, body = Parser(NAMES, cache_lines=40), generate_latest(registry())
    first, second = (parser.parse(body, at).series for at in (AT, AT + 1))
    assert all(one is other for one, other in zip(first, second, strict=True))
    small = Parser({"a"}, cache_lines=10)
    for number in range(50):
        assert len(small.parse(f'a{{b="{number}"}} 1\n'.encode(), AT)) == 1
        assert len(small._known) <= 10


@pytest.mark.parametrize(
    ("text", "value", "at"),
    [
        ("up 1\n", "1.0", AT),
        ("up\t1\n", "1.0", AT),
        ("  up 1  \n", "1.0", AT),
        ("up{} 1\n", "1.0", AT),
        ("up { } -1.5e3 \n", "-1500.0", AT),
        ("up 1 1700000000123\n", "1.0", 1_700_000_000_123),
        ("up 1\t-5\r\n", "1.0", -5),
        ("up +Inf\n", "inf", AT),
        ("up -Inf\n", "-inf", AT),
        ("up NaN\n", "nan", AT),
        ("up .5\n", "0.5", AT),
        ("up 5.\n", "5.0", AT),
        ("# HELP up up 7\n# TYPE up gauge\n#up 3\nupper 8\nxup 9\nup 1\n", "1.0", AT),
    ],
)
def test_a_line(text: str, value: str, at: int) -> None:
    """Blanks, signs, infinities, timestamps and comments."""
    assert [("up", (), value, at)] == parsed(text)


def test_labels_are_sorted_and_empty_ones_dropped() -> None:
    """Blanks and a trailing comma are allowed; escapes that mean nothing stay as they are."""
    text = 'up{ z = "1" , a="\\\\n\\n\\"\\q", empty="",} 1\n'
    assert parsed(text) == [("up", (("a", '\\n\n"\\q'), ("z", "1")), "1.0", AT)]


def test_openmetrics_timestamps_are_seconds() -> None:
    """Where the text format counts milliseconds."""
    text = 'up{a=" # "} 1 1700000000.25 # {trace="x"} 1 2\n# EOF\n'
    assert parsed(text, openmetrics=True) == [("up", (("a", " # "),), "1.0", 1_700_000_000_250)]


def test_a_known_line_may_gain_a_timestamp() -> None:
    """It is then read anew, not as a series whose name holds the value."""
    parser = Parser({"up"})
    for text, expected in (
        (b"up 1\n", (1.0, AT)),
        (b"up 2 3\n", (2.0, 3)),
        (b"up 2\t4\n", (2.0, 4)),
        (b"up 2 3\n", (2.0, 3)),
        (b"up  7\n", (7.0, AT)),
    ):
        [(_, value, at)] = parser.parse(text, AT)
        assert expected == (value, at)


@pytest.mark.parametrize(
    "text",
    [
        "up 1",
        "up\n",
        "up \n",
        "up one\n",
        "up 1_000\n",
        "up 0x10\n",
        "up 1e999\n",
        "up 1 2 3\n",
        "up 1 2.5\n",
        "up 1 x\n",
        "up{ 1\n",
        'up{a="b" 1\n',
        'up{a="b} 1\n',
        "up{a=b} 1\n",
        'up{a="1",a="2"} 1\n',
        'up{a="1"b="2"} 1\n',
        'up{"a"="1"} 1\n',
        'up{1a="1"} 1\n',
        'up{__name__="x"} 1\n',
        'up{a="1"} {b="2"} 1\n',
    ],
)
def test_a_malformed_line_is_refused(text: str) -> None:
    """With 400 and a sentence, and the whole scrape with it."""
    parser = Parser({"up"})
    for body in (text, "up 1\n" + text):
        with pytest.raises(UnacceptableError) as raised:
            parser.parse(body.encode(), AT)
        assert raised.value.status == 400
        assert str(raised.value)


def test_what_is_not_utf_8_is_refused() -> None:
    """But only where somebody asked."""
    with pytest.raises(UnacceptableError):
        Parser({"up"}).parse(b'up{a="\xff"} 1\n', AT)
    assert len(Parser({"up"}).parse(b'x{a="\xff"} 1\nup 1\n', AT)) == 1


def test_limits() -> None:
    """On the body, a line and the number of samples."""
    parser = Parser({"up"}, limits=Limits(body=100, line=30, samples=3))
    for body in (bytes(101), b'up{a="' + b"x" * 30 + b'"} 1\n', b"up 1\n" * 4):
        with pytest.raises(UnacceptableError) as raised:
            parser.parse(body, AT)
        assert raised.value.status == 413
    assert len(parser.parse(b"up 1\n" * 3, AT)) == 3


def test_only_classic_names_can_be_asked_for() -> None:
    """Another one would never be found, which looks like health."""
    for name in ("", "a.b", "1a", "a b", "ü"):
        with pytest.raises(ValueError, match="classic"):
            Parser({name})


def test_truncation_inside_a_line_is_refused() -> None:
    """Half a number is another number."""
    body = generate_latest(registry())
    parser = Parser(NAMES)
    parser.parse(body, AT)
    for cut in range(1, len(body)):
        if body[cut - 1 : cut] != b"\n":
            with pytest.raises(UnacceptableError):
                parser.parse(body[:cut], AT)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["waiting", "running", "waiting_other"]),
            st.tuples(TEXTS, TEXTS),
            st.floats(),
        ),
        max_size=8,
        unique_by=lambda row: row[:2],
    )
)
def test_whatever_the_client_writes_is_read_alike(
    values: list[tuple[str, tuple[str, str], float]],
) -> None:
    """Property: ours and the official parser agree on the official client's text."""
    found = CollectorRegistry()
    gauges = {
        name: Gauge(name, f"{name} 1", ["a", "b"], registry=found)
        for name in ("waiting", "running", "waiting_other")
    }
    for name, labels, value in values:
        gauges[name].labels(*labels).set(value)
    body = generate_latest(found)
    names = {"waiting", "running"}
    parser = Parser(names)
    expected = sorted(
        (name, tuple((k, v) for k, v in zip("ab", labels, strict=True) if v), repr(value), AT)
        for name, labels, value in values
        if name in names
    )
    assert expected == rows(parser.parse(body, AT)) == rows(parser.parse(body, AT))
    if not any(character in body.decode() for character in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"):
        # The official parser also splits and strips at these, which the format does not.
        assert expected == official(body, names)


LINES = st.lists(
    st.text(st.sampled_from('up{}="\\ \t\r#\n1.5+-eInfNa,b_'), max_size=20).map(str.encode)
    | st.binary(max_size=20),
    max_size=6,
).map(lambda parts: b"up" + b"\nup".join(parts) + b"\n")


@settings(max_examples=400, deadline=None)
@given(LINES | st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_raise_nothing_else(body: bytes, openmetrics: bool) -> None:
    """And a parser that knows series reads them like one that knows nothing."""
    knowing, fresh = Parser({"up"}), Parser({"up"})
    outcomes: list[object] = []
    with suppress(UnacceptableError):
        knowing.parse(b'up 1\nup{} 1\nup{a="b"} 1\nup\t1\n', AT)
        knowing.parse(body, AT, openmetrics=openmetrics)
    for parser in (knowing, fresh):
        try:
            outcomes.append(rows(parser.parse(body, AT, openmetrics=openmetrics)))
        except UnacceptableError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
