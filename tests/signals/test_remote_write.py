"""The decoder against requests written by an independent encoder, and against rubbish."""

import math
import random
import struct
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.core.errors import UnacceptableError
from killswitch.signals.remote_write import Decoder, Limits, check_headers
from killswitch.signals.series import ENDED, Samples, fresh
from tests.signals import encoding
from tests.signals.encoding import HEADERS, STALE, block, label, sample, snappy

NOW = 1_800_000_000_000
UP = {"__name__": "up", "job": "models"}
NAME = label("__name__", "up")

Content = Sequence[tuple[dict[str, str], Sequence[tuple[float, int]]]]
Row = tuple[str, tuple[tuple[str, str], ...], str, int]


def rows(samples: Samples) -> list[Row]:
    """What was decoded, so that NaN equals NaN and ENDED does not."""
    return [
        (series.name, series.labels, "ENDED" if value is ENDED else repr(value), timestamp)
        for series, value, timestamp in samples
    ]


def expected(content: Content) -> list[Row]:
    """What must come out of a request."""
    return [
        (
            labels["__name__"],
            tuple(sorted((k, v) for k, v in labels.items() if k != "__name__" and v)),
            "ENDED" if struct.pack("<d", value) == struct.pack("<d", STALE) else repr(value + 0.0),
            timestamp,
        )
        for labels, samples in content
        for value, timestamp in samples
    ]


def decode(message: bytes, decoder: Decoder | None = None) -> Samples:
    """All samples of a message that still has to be compressed."""
    return (decoder or Decoder()).decode(snappy(message))


def refusal(message: bytes) -> UnacceptableError:
    """How the message is refused, by a decoder that knows `up` and by one that knows nothing."""
    knowing = Decoder()
    decode(encoding.request([(UP, [(1.0, NOW)])]), knowing)
    errors = []
    for decoder in (Decoder(), knowing):
        with pytest.raises(UnacceptableError) as raised:
            decode(message, decoder)
        errors.append(raised.value)
    assert str(errors[0]) == str(errors[1])
    return errors[0]


def scrape(count: int, at: int, values: Sequence[float] = ()) -> Content:
    """One sample for each of `count` series; those without a value given have their number."""
    given_values = dict(enumerate(values))
    return [
        ({"__name__": f"m_{n % 7}", "pod": f"pod-{n}"}, [(given_values.get(n, n + 0.5), at)])
        for n in range(count)
    ]


def test_a_request_is_decoded() -> None:
    """Names, labels, values and timestamps, in the order of the request."""
    content = [(UP, [(1.0, NOW), (0.0, NOW + 1)]), ({"__name__": "x"}, [(math.inf, -5), (-0.5, 0)])]
    found = decode(encoding.request(content))
    assert expected(content) == rows(found)
    assert not found.ends
    assert str(found.series[0]) == 'up{job="models"}'
    assert str(found.series[2]) == "x"


def test_a_known_series_is_the_same_object_and_is_not_parsed_again() -> None:
    """Whoever keeps state for a series finds it by identity."""
    decoder = Decoder()
    first = decode(encoding.request(scrape(30, NOW)), decoder).series
    second = decode(encoding.request(scrape(30, NOW + 1)), decoder).series
    assert all(one is other for one, other in zip(first, second, strict=True))
    assert decoder.statistics.parsed == 30


def test_successive_scrapes_are_read_in_runs() -> None:
    """From the fourth on nearly everything, with values and timestamps of that scrape."""
    decoder = Decoder()
    for number in range(4):
        content = scrape(500, NOW + number, [0.0, 7.0 + number, 0.0, math.nan])
        assert expected(content) == rows(decode(encoding.request(content), decoder))
    assert decoder.statistics.in_runs > 450


def test_runs_survive_requests_cut_elsewhere_and_changes_in_the_middle() -> None:
    """Whatever comes, goes, turns 0 or has a time of its own, the samples are the request's."""
    rng, decoder, at = random.Random(3), Decoder(), 0
    stream: list[tuple[dict[str, str], Sequence[tuple[float, int]]]] = []
    for scrape_number in range(60):
        for labels, [(value, stamp)] in scrape(300, NOW + scrape_number):
            lot = rng.random()
            if lot < 0.01:
                continue
            if lot < 0.02:
                stream.append((labels, [(rng.choice([0.0, math.nan, STALE, -0.0, 1e-300]), stamp)]))
            elif lot > 0.99:
                stream.append((labels, [(value, stamp + rng.choice([-5, 10**13, -(10**13)]))]))
            else:
                stream.append((labels, [(value, stamp)]))
    while at < len(stream):
        size = rng.randint(100, 400)
        content = stream[at : at + size]
        assert expected(content) == rows(decode(encoding.request(content), decoder))
        at += size
    assert decoder.statistics.in_runs > 1000
    assert decoder.statistics.parsed == 300


def test_a_series_that_comes_and_goes_from_zero_stops_breaking_runs() -> None:
    """It is walked alone, its neighbours in runs."""
    decoder, rng = Decoder(), random.Random(1)
    for number in range(40):
        before = decoder.statistics.in_runs
        values = [0.0 if n % 50 == 3 and rng.random() < 0.5 else 1.0 for n in range(400)]
        content = scrape(400, NOW + number, values)
        assert expected(content) == rows(decode(encoding.request(content), decoder))
    assert decoder.statistics.in_runs - before > 300


def test_names_nobody_asked_for_are_skipped() -> None:
    """Without decoding their labels, which may be rubbish beyond the name, in runs and outside."""
    odd = label("__name__", "m_other") + label("pod", b"\xff\xfe")
    noise = b"".join(block(1, odd + label("z", str(n)) + sample(1.5, NOW)) for n in range(40))
    decoder = Decoder({"m_1", "m_2"})
    for number in range(4):
        content = scrape(200, NOW + number)
        found = decode(noise + encoding.request(content), decoder)
        wanted = [each for each in content if each[0]["__name__"] in {"m_1", "m_2"}]
        assert expected(wanted) == rows(found)
    assert decoder.statistics.parsed == len(wanted)
    assert decoder.statistics.in_runs > 0
    decoder.want({"m_3"})
    assert {"m_3"} == {s.name for s in decode(encoding.request(scrape(50, NOW)), decoder).series}


def test_a_stale_marker_is_the_end_of_the_series_and_another_nan_is_not() -> None:
    """Told by its bits, on the walk, in runs and where a series has two samples."""
    decoder = Decoder()
    for number in range(4):
        content = scrape(100, NOW + number, [math.nan, STALE, 0.0, STALE])
        found = decode(encoding.request(content), decoder)
        assert found.ends
        assert [place for place, value in enumerate(found.values) if value is ENDED] == [1, 3]
        assert math.isnan(found.values[0])
    found = decode(encoding.request([(UP, [(STALE, NOW), (1.0, NOW + 1)])]), decoder)
    assert expected([(UP, [(STALE, NOW), (1.0, NOW + 1)])]) == rows(found)


@pytest.mark.parametrize(
    ("timestamp", "now", "max_age", "is_fresh"),
    [
        (10_000, 10.0, 1.0, True),
        (10_000, 11.0, 1.0, True),
        (10_000, 11.01, 1.0, False),
        (10_000, 3610.0, 5.0, False),  # replayed an hour later
        (10_000, 8.5, 1.0, False),  # from the future
        (10_000, math.nan, 1.0, False),
        (10_000, 10.0, math.nan, False),
    ],
)
def test_only_a_fresh_sample_may_be_acted_upon(
    timestamp: int, now: float, max_age: float, is_fresh: bool
) -> None:
    """A replay keeps its own timestamps, and these are too old; unknown is not fresh."""
    assert is_fresh is fresh(timestamp, now, max_age)


def test_the_cache_is_bounded_and_keeps_what_is_in_use() -> None:
    """Churn is dropped; series seen since the last time stay the same objects."""
    decoder = Decoder(cache_bytes=300_000)
    steady = encoding.request(scrape(64, NOW))
    for _ in range(3):
        decode(steady, decoder)
    kept = decode(steady, decoder).series
    for number in range(200):
        labels = [{"__name__": "churn", "pod": f"{number}-{n}"} for n in range(20)]
        decode(steady + encoding.request([(each, [(1.5, NOW)]) for each in labels]), decoder)
        assert decoder._held <= 300_000
    assert decoder.statistics.evictions > 3
    again = decode(steady, decoder).series
    assert all(one is other for one, other in zip(kept, again, strict=True))


def test_a_working_set_beyond_the_cache_still_decodes() -> None:
    """Nothing is wrong but the speed: series are parsed again, their keys stay equal."""
    decoder = Decoder(cache_bytes=20_000)
    for number in range(3):
        content = scrape(100, NOW + number)
        assert expected(content) == rows(decode(encoding.request(content), decoder))
        assert decoder._held <= 20_000
    assert decoder.statistics.parsed > 200


VALUE, STAMP = b"\x09" + struct.pack("<d", 1.5), b"\x10" + encoding.varint(NOW)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(block(1, sample(1.0, NOW)), id="no labels"),
        pytest.param(block(1, label("job", "a") + sample(1.0, NOW)), id="no name"),
        pytest.param(block(1, label("__name__", "") + sample(1.0, NOW)), id="empty name"),
        pytest.param(block(1, NAME + label("", "x")), id="label without a name"),
        pytest.param(block(1, NAME + label("b", "1") + label("a", "1")), id="unsorted"),
        pytest.param(block(1, NAME + label("a", "1") + label("a", "1")), id="duplicate"),
        pytest.param(block(1, NAME + NAME + sample(1.0, NOW)), id="two names"),
        pytest.param(block(1, NAME + label("a", b"\xff")), id="value not UTF-8"),
        pytest.param(block(1, NAME + label(b"\xff", "a")), id="name not UTF-8"),
        pytest.param(block(1, label("__name__", b"\xc3")), id="metric not UTF-8"),
        pytest.param(b"\x08\x01", id="series is a number"),
        pytest.param(b"\x18\x01", id="metadata is a number"),
        pytest.param(b"\x0b", id="group"),
        pytest.param(b"\x37", id="wire type 7"),
        pytest.param(b"\x02\x00", id="field 0"),
        pytest.param(block(1, NAME + b"\x08\x01"), id="labels are a number"),
        pytest.param(block(1, NAME + b"\x10\x01"), id="samples are a number"),
        pytest.param(block(1, NAME + b"\x18\x01"), id="exemplars are a number"),
        pytest.param(block(1, NAME + block(2, VALUE[:-1])), id="value cut short"),
        pytest.param(block(1, NAME + block(2, b"\x08\x01")), id="value is an integer"),
        pytest.param(block(1, NAME + block(2, b"\x11" + bytes(8))), id="timestamp is a double"),
        pytest.param(block(1, NAME + block(2, VALUE + b"\x10" + b"\x80" * 10 + b"\1")), id="11"),
        pytest.param(block(1, NAME + block(2, VALUE + b"\x10" + b"\xff" * 9 + b"\2")), id="2^64"),
        pytest.param(block(1, NAME + block(2, VALUE + b"\x10\xb2\x83")), id="timestamp cut short"),
        pytest.param(block(1, block(1, b"\x08\x01")), id="label name is a number"),
        pytest.param(block(1, b"\x0a\x05\x0a\x01a"), id="label longer than its series"),
        pytest.param(b"\x0a" + encoding.varint(-1) + bytes(40), id="negative length"),
        pytest.param(b"\x0a\xff\xff\xff\xff\x0f" + bytes(40), id="length 4 GiB"),
        pytest.param(b"\x0a\x64" + bytes(40), id="length beyond the body"),
        pytest.param(b"\x29\x00", id="unknown field cut short"),
        pytest.param(b"\x80" * 11 + bytes(40), id="tag longer than 10 bytes"),
    ],
)
def test_what_is_malformed_is_refused(message: bytes) -> None:
    """With 400 and a sentence, whatever good series stand before it."""
    good = encoding.request([(UP, [(1.0, NOW)])])
    for each in (message, good + message):
        error = refusal(each)
        assert error.status in {400, 415}
        assert str(error)


def test_a_body_of_the_second_version_is_refused() -> None:
    """Even under headers of the first: its fields would be unknown and its samples lost."""
    assert refusal(block(4, b"") + block(4, b"__name__")).status == 415
    assert refusal(block(5, b"\x08\x01")).status == 415


def test_unknown_fields_are_passed_over() -> None:
    """Metadata, exemplars, histograms and whatever a later sender adds."""
    others = block(3, b"\x08\x01") + b"\x78\x05" + b"\x79" + bytes(8) + b"\x7d" + bytes(4)
    odd = block(1, block(1, b"__name__") + block(2, b"up") + b"\x78\x05")
    frame = odd + block(3, b"x") + block(2, VALUE + STAMP + b"\x78\x01") + block(4, b"y")
    found = decode(others + block(1, frame + b"\x78\x01") + others)
    assert rows(found) == [("up", (), "1.5", NOW)]


def test_fields_in_another_order_and_zeros_written_out_are_the_same_series() -> None:
    """The order of fields means nothing in protobuf."""
    tail = label("job", "models")
    variants = [
        NAME + tail + sample(0.0, NOW, elide=False),
        sample(0.0, NOW) + NAME + tail,
        NAME + sample(0.0, NOW) + tail,
        NAME + tail + block(2, STAMP + b"\x09" + bytes(8)),
        NAME + tail + sample(0.0, NOW),
    ]
    found = decode(b"".join(block(1, each) for each in variants))
    assert rows(found) == [("up", (("job", "models"),), "0.0", NOW)] * 5
    assert len(set(map(id, found.series))) == 1


def test_an_empty_request_is_taken() -> None:
    """It says nothing, and nothing is wrong with it."""
    assert rows(decode(b"")) == []


@pytest.mark.parametrize("body", [b"", b"\xff" * 12, b"abc", b"PK\x03\x04" * 9, b"\x80\x80"])
def test_what_is_not_snappy_is_refused(body: bytes) -> None:
    """With 400."""
    with pytest.raises(UnacceptableError) as raised:
        Decoder().decode(body)
    assert raised.value.status == 400


def test_sizes_are_checked_before_room_is_made() -> None:
    """By the compressed length, by the length the header claims, by what snappy can hold."""
    limits = Limits(compressed=1000, decompressed=5000, samples=10)
    decoder = Decoder(limits=limits)
    for body, status in (
        (bytes(1001), 413),
        (encoding.varint(5001) + bytes(20), 413),
        (b"\xff\xff\xff\xff\x0f" + bytes(20), 413),
        (encoding.varint(4000) + bytes(20), 400),
        (snappy(encoding.request(scrape(11, NOW))), 413),
        (snappy(encoding.request([(UP, [(1.0, n) for n in range(1, 12)])])), 413),
        (snappy(b"\x78\x01" * 11), 413),
        (snappy(encoding.request([(UP, [(1.0, n) for n in (1, 2, 3)])] * 4)), 413),
    ):
        with pytest.raises(UnacceptableError) as raised:
            decoder.decode(body)
        assert (body[:8], status) == (body[:8], raised.value.status)
    assert len(decode(encoding.request(scrape(10, NOW)), decoder)) == 10


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, None),
        ({"Content-Type": "application/x-protobuf;proto=prometheus.WriteRequest"}, None),
        ({"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}, 415),
        ({"X-Prometheus-Remote-Write-Version": "2.0.0"}, 415),
        ({"X-Prometheus-Remote-Write-Version": "nonsense"}, 400),
        ({"X-Prometheus-Remote-Write-Version": None}, 400),
        ({"Content-Type": None}, 415),
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Encoding": None}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Encoding": "snappy, gzip"}, 415),
    ],
)
def test_headers_must_say_remote_write_1(
    changes: dict[str, str | None], status: int | None
) -> None:
    """415 for another format, 400 where the version is missing."""
    merged: dict[str, str | None] = {**HEADERS, **changes}
    headers = {name: value for name, value in merged.items() if value is not None}
    if status is None:
        check_headers(headers)
        return
    with pytest.raises(UnacceptableError) as raised:
        check_headers(headers)
    assert status == raised.value.status


def test_truncation_at_every_byte_is_refused_or_yields_whole_series() -> None:
    """A message cut between two series is a shorter message; no other cut is one."""
    content = [*scrape(20, NOW, [0.0, STALE]), (UP, [(1.0, NOW), (2.0, NOW + 1)])]
    frames = [encoding.request([each]) for each in content]
    ends = [sum(map(len, frames[:count])) for count in range(len(frames) + 1)]
    message = b"".join(frames)
    for knowing in (False, True):
        decoder = Decoder()
        for _ in range(4 * knowing):
            decode(message, decoder)
        for cut in range(len(message) + 1):
            if cut in ends:
                found = decoder.decode_message(message[:cut])
                assert expected(content[: ends.index(cut)]) == rows(found)
            else:
                with pytest.raises(UnacceptableError):
                    decoder.decode_message(message[:cut])
    body = snappy(message)
    for cut in range(len(body)):
        with pytest.raises(UnacceptableError):
            Decoder().decode(body[:cut])


def test_a_refused_request_leaves_nothing_behind_that_matters() -> None:
    """The next good one is read as if the bad one had never come."""
    decoder = Decoder()
    good = scrape(100, NOW)
    with pytest.raises(UnacceptableError):
        decode(encoding.request(good) + b"\x0b", decoder)
    for _ in range(4):
        assert expected(good) == rows(decode(encoding.request(good), decoder))


NAMES = st.sampled_from(["a", "pod", "zone", "ü", "A", "__x__"])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20) | st.text(
    "x", min_size=120, max_size=300
)
VALUES = st.floats(allow_nan=True) | st.sampled_from([0.0, STALE, math.inf])
STAMPS = st.integers(NOW, NOW + 2) | st.integers(-(1 << 63), (1 << 63) - 1)
SERIES = st.tuples(
    st.builds(
        lambda name, labels: {**labels, "__name__": name},
        TEXTS.filter(bool),
        st.dictionaries(NAMES, TEXTS, max_size=4),
    ),
    st.lists(st.tuples(VALUES, STAMPS), min_size=1, max_size=2)
    | st.lists(st.tuples(VALUES, STAMPS), min_size=1, max_size=1),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(SERIES, max_size=12), min_size=1, max_size=3))
def test_round_trip(requests: list[Content]) -> None:
    """Whatever the encoder wrote comes back, the first time and when everything is known."""
    decoder = Decoder()
    for _ in range(3):
        for content in requests:
            assert expected(content) == rows(decode(encoding.request(content), decoder))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_else(body: bytes) -> None:
    """As a body and as a message."""
    decoder = Decoder()
    for read in (decoder.decode, decoder.decode_message):
        with suppress(UnacceptableError):
            read(body)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_requests_are_read_alike_by_every_road(data: st.DataObject) -> None:
    """A decoder that knows runs, one that knows series and one that knows nothing agree."""
    message = bytearray(encoding.request(scrape(20, NOW, [0.0, STALE, math.nan])))
    knowing, acquainted = Decoder(), Decoder()
    for _ in range(3):
        knowing.decode_message(bytes(message))
    acquainted.decode_message(bytes(message))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(message) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                message[place] = data.draw(st.integers(0, 255))
            case 1:
                del message[place : place + data.draw(st.integers(1, 30))]
            case _:
                message[place:place] = data.draw(st.binary(max_size=20))
        if not message:
            break
    outcomes: list[object] = []
    for decoder in (knowing, acquainted, Decoder()):
        try:
            outcomes.append(rows(decoder.decode_message(bytes(message))))
        except UnacceptableError as error:
            outcomes.append(str(error))
    assert all(one == other for one, other in pairwise(outcomes))
