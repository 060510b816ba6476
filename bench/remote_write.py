"""What a core decodes of Prometheus remote write, beside the protobuf package on the same bytes.

Every figure starts from the compressed body. The protobuf package (upb, in C) is timed twice:
until each sample is known as (series, value, timestamp), which is what our decoder answers, and
for parsing alone, with not one field read. Both sides take turns.
"""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from bench.figures import Figure, figure, median
from bench.setting import Setting
from killswitch.signals.remote_write import Decoder

SERIES = 2000
"""Per request: Prometheus' default `max_samples_per_send`."""
_REQUESTS, _ROUNDS = 40, 7
_ZEROS, _FLAPPING = 0.3, 0.1
"""Share of series that are 0, and of gauges that are 0 in every other scrape or so."""
_START = 1_800_000_000_000

Body = bytes
Read = Callable[[Body], int]


def message_class() -> Any:
    """prometheus.WriteRequest, from a descriptor made here instead of by protoc."""
    file = descriptor_pb2.FileDescriptorProto(
        name="remote.proto", package="prometheus", syntax="proto3"
    )
    fields = {
        "Label": [("name", 1, 9, ""), ("value", 2, 9, "")],
        "Sample": [("value", 1, 1, ""), ("timestamp", 2, 3, "")],
        "TimeSeries": [("labels", 1, 11, "Label"), ("samples", 2, 11, "Sample")],
        "WriteRequest": [("timeseries", 1, 11, "TimeSeries")],
    }
    for message, members in fields.items():
        described = file.message_type.add(name=message)
        for name, number, kind, other in members:
            described.field.add(
                name=name,
                number=number,
                type=kind,
                label=3 if other else 1,
                type_name=f".prometheus.{other}" if other else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


def measure(_setting: Setting) -> Iterator[Figure]:
    """Figures named remote_write_*. The control plane is not asked."""
    request = message_class()
    steady = _bodies(request)
    yield from _compared(request, "steady", steady)
    yield from _compared(request, "gauges", _bodies(request, flapping=_FLAPPING, moved=137))
    yield from _compared(request, "shuffled", _bodies(request, shuffled=True))
    yield from _alone(steady)


def _compared(request: Any, shape: str, bodies: list[Body]) -> Iterator[Figure]:
    decoder = Decoder()
    ours, read, parsed = _speeds(
        bodies, lambda body: len(decoder.decode(body)), _reader(request), _parser(request)
    )
    statistics = decoder.statistics
    yield figure(
        f"remote_write_{shape}",
        ours / 1e6,
        "M samples/s",
        baseline=read / 1e6,
        baseline_is="protobuf (upb), each sample read",
        aim=">= 1 M samples/s and >= 3 x",
        met=ours >= 1e6 and ours >= 3 * read,
        parsed_only=round(parsed / 1e6, 3),
        ratio_to_parsed_only=round(ours / parsed, 2),
        series=SERIES,
        in_runs=round(statistics.in_runs / (SERIES * _REQUESTS * (_ROUNDS + 1)), 3),
    )


def _alone(bodies: list[Body]) -> Iterator[Figure]:
    """Without what runs save, with a filter, and with a reader that looks at each sample."""

    def cold(body: Body) -> int:
        return len(Decoder().decode(body))

    filtered, looked = Decoder({"metric_1"}), Decoder()

    def few(body: Body) -> int:
        filtered.decode(body)
        return SERIES

    def look(body: Body) -> int:
        over = 0
        for _series, value, _timestamp in looked.decode(body):
            if value > 1e12:
                over += 1
        return SERIES + over

    first, asked, each = _speeds(bodies, cold, few, look)
    for name, speed in (("cold", first), ("filtered", asked), ("each_sample_compared", each)):
        yield figure(f"remote_write_{name}", speed / 1e6, "M samples/s", series=SERIES)


def _reader(request: Any) -> Read:
    """The protobuf package as one would use it, its series cached by their labels."""
    known: dict[Any, object] = {}

    def read(body: Body) -> int:
        message = request()
        message.ParseFromString(bytes(cramjam.snappy.decompress_raw(body)))
        samples: list[tuple[Any, float, int]] = []
        for one in message.timeseries:
            key = tuple((label.name, label.value) for label in one.labels)
            series = known.setdefault(key, key)
            samples.extend((series, sample.value, sample.timestamp) for sample in one.samples)
        return len(samples)

    return read


def _parser(request: Any) -> Read:
    def parse(body: Body) -> int:
        message = request()
        message.ParseFromString(bytes(cramjam.snappy.decompress_raw(body)))
        return len(message.timeseries)

    return parse


def _speeds(bodies: list[Body], *reads: Read) -> list[float]:
    """Samples a second of each, median of the rounds; the first round warms up."""
    found: list[list[float]] = [[] for _ in reads]
    for _ in range(_ROUNDS + 1):
        for read, speeds in zip(reads, found, strict=True):
            started = time.process_time()
            count = sum(map(read, bodies))
            speeds.append(count / (time.process_time() - started))
    return [median(speeds[1:]) for speeds in found]


def _bodies(
    request: Any, *, flapping: float = 0.0, moved: int = 0, shuffled: bool = False
) -> list[Body]:
    """Successive scrapes of the same series, cut into requests `moved` series further each time.

    `flapping` is the share of gauges that come and go from 0; `shuffled` denies every scrape the
    order of the one before, which no Prometheus does: only the walk from series to series is left.
    """
    rng = random.Random(7)
    every = [(_labels(number), rng.random()) for number in range(SERIES)]
    stream: list[Any] = []
    for scrape in range(_REQUESTS + 1):
        for labels, lot in every:
            zero = lot < _ZEROS or (lot > 1 - flapping and rng.random() < 0.5)
            stream.append((labels, 0.0 if zero else rng.random() * 1e6, _START + 1000 * scrape))
        if shuffled:
            rng.shuffle(every)
    bodies = []
    for number in range(_REQUESTS):
        start = number * SERIES + (number * moved) % SERIES
        message = request()
        for labels, value, timestamp in stream[start : start + SERIES]:
            one = message.timeseries.add()
            for name, text in labels:
                one.labels.add(name=name, value=text)
            one.samples.add(value=value, timestamp=timestamp)
        bodies.append(bytes(cramjam.snappy.compress_raw(message.SerializeToString())))
    return bodies


def _labels(number: int) -> list[tuple[str, str]]:
    """As a scraped model server's look: 8 labels, about 200 bytes."""
    return [
        ("__name__", f"metric_{number % 40}"),
        ("container", "server"),
        ("engine", str(number % 4)),
        ("instance", f"10.0.{number % 8}.{number // 40}:8000"),
        ("job", "models"),
        ("model_name", "meta-llama/Llama-3.1-70B-Instruct"),
        ("namespace", f"team-{number % 5}"),
        ("pod", f"llama-7c9d8b6f5-{number // 40:05d}"),
    ]
