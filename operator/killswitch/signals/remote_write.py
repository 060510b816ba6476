"""Prometheus remote write 1.0: the body of one request in, samples out.

A sender repeats the label bytes of a series in every request, so those bytes are the key of a
cache and a known series is never parsed again. One step further, series follow each other in the
same order scrape after scrape: `runs` recognises a known run of them as a whole and reads its
values in one C call. What is neither is read by `wire`, strictly. Every road validates every byte
that it skips, except labels of series nobody asked for, which are read up to the metric name.

A request is decoded whole or refused whole, with UnacceptableError. Nothing here looks at a clock:
a sender that catches up replays hours, and `series.fresh` tells those samples apart.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import repeat
from math import isnan
from struct import Struct

import cramjam

from killswitch.core.errors import UnacceptableError
from killswitch.signals import wire
from killswitch.signals.runs import LONGEST, NO_VALUE, ONE_SAMPLE, Edge, Known, Stamps, Trail
from killswitch.signals.series import ENDED, Samples, Series

CONTENT_TYPE = "application/x-protobuf"
SECOND_VERSION = "io.prometheus.write.v2.request"

_TIMESERIES, _METADATA = 1 << 3 | wire.BYTES, 3 << 3 | wire.BYTES
_DOUBLE = Struct("<d")
_value = _DOUBLE.unpack_from
_MOST_EXPANSION = 22
"""Snappy copies at most 64 bytes by 3: a header that claims more than this ratio lies."""
_ENTRY_COST = 700
"""About what a cached series occupies, beside three times its label bytes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for; beyond it is 413, before anything is allocated."""

    compressed: int = 2 << 20
    decompressed: int = 8 << 20
    samples: int = 20_000
    """Ten times what Prometheus sends at once by default; new series cost 15 µs each. Also bounds
    the fields that are passed over."""


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse what does not say it is remote write 1.0; `headers` finds names in any case."""
    encoding = headers.get("Content-Encoding", "")
    if encoding.strip().lower() != "snappy":
        raise UnacceptableError(f"the content encoding is {encoding!r}, not snappy", 415)
    kind, _, parameters = headers.get("Content-Type", "").lower().partition(";")
    if kind.strip() != CONTENT_TYPE:
        raise UnacceptableError(f"the content type is {kind!r}, not {CONTENT_TYPE}", 415)
    version = headers.get("X-Prometheus-Remote-Write-Version", "")
    if SECOND_VERSION in parameters or version.startswith("2."):
        raise UnacceptableError("remote write 2.0 is not spoken here, send 1.0", 415)
    if not version.startswith("0.1."):
        raise UnacceptableError(f"the remote write version is {version!r}, not 0.1.0")


def decompress(body: bytes, limits: Limits) -> bytes:
    """The protobuf message inside; its size is checked before room is made for it."""
    if len(body) > limits.compressed:
        raise UnacceptableError(f"{len(body)} bytes exceed {limits.compressed}", 413)
    size, _ = wire.varint(body, 0, min(5, len(body)))
    if size > limits.decompressed:
        raise UnacceptableError(f"{size} bytes unpacked exceed {limits.decompressed}", 413)
    if size > _MOST_EXPANSION * len(body):
        raise UnacceptableError(f"snappy cannot hold {size} bytes in {len(body)}")
    try:
        message = bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise UnacceptableError(f"the body is not snappy: {error}") from None
    if len(message) != size:
        raise UnacceptableError(f"{size} bytes were announced, {len(message)} came out")
    return message


@dataclass(slots=True)
class Statistics:
    """How requests were read, for metrics and the benchmark."""

    in_runs: int = 0
    """Samples of asked-for series that arrived in a known run."""
    parsed: int = 0
    """Series whose labels were parsed because they were not cached."""
    evictions: int = 0


class Decoder:
    """Decodes requests; keeps the cache of series between them. One per stream, not thread-safe.

    `wanted` are the metric names somebody asked for, None for all. The cache holds at most
    `cache_bytes` by a generous estimate, and what one request brings beside; when it is full, the
    half that was not seen for longest is dropped.
    """

    def __init__(
        self,
        wanted: Collection[str] | None = None,
        *,
        limits: Limits | None = None,
        cache_bytes: int = 256 << 20,
    ) -> None:
        self.statistics = Statistics()
        self._limits = limits or Limits()
        self._cache_bytes = cache_bytes
        self._stamps = Stamps()
        self._request = 0
        self._held = 0
        self._known: dict[bytes, Known] = {}
        self.want(wanted)

    def want(self, names: Collection[str] | None) -> None:
        """Ask for these metrics from now on. Series become new objects."""
        self._wanted = None if names is None else frozenset(name.encode() for name in names)
        self._forget()

    def decode(self, body: bytes) -> Samples:
        """All samples of a request body as it came over the network."""
        return self.decode_message(decompress(body, self._limits))

    def decode_message(self, message: bytes) -> Samples:
        """All samples of a WriteRequest after decompression."""
        self._request += 1
        samples = Samples()
        self._walk(message, samples)
        if len(samples) > self._limits.samples:
            raise _too_many(self._limits)
        if wire.STALE in message:
            _mark_ends(samples)
        if self._held > self._cache_bytes:
            self._evict()
        return samples

    def _walk(self, body: bytes, out: Samples) -> None:  # noqa: C901 - the hot loop: a call for each sample would halve its speed
        known, stamps, request = self._known, self._stamps, self._request
        trail = Trail(request)
        add_series, add_value = out.series.append, out.values.append
        add_timestamp, frames, add_frame = out.timestamps.append, trail.frames, trail.frames.append
        alone = Edge.ALONE
        at, end, unusual = 0, len(body), 0
        while at < end:
            start = at
            found = None
            # Less than a known series takes, or another field: the careful road.
            if body[at] == _TIMESERIES and end - at > 22:
                length = body[at + 1]
                at += 2
                if length >= 0x80:
                    length += (body[at] - 1) << 7
                    at += 1
                stop = at + length
                # A third length byte makes this 16384 or more; it is left to the careful road.
                if 20 < length < 1 << 14 and stop <= end:
                    if written := body.startswith(ONE_SAMPLE, stop - 18):
                        found = known.get(body[at : stop - 18])
                    elif body.startswith(NO_VALUE, stop - 9):
                        found = known.get(body[at : stop - 9])
            if found is None or (timestamp := stamps[body[stop - 7 : stop]]) is None:
                unusual += 1
                if unusual > self._limits.samples:
                    raise _too_many(self._limits)
                trail.end(body)
                at = self._careful(body, start, end, out)
                continue
            run = found.run
            if run is not None and (after := run.read(body, start, end, stamps, out)):
                run.seen = request
                self.statistics.in_runs += run.wanted
                trail.end(body)
                at = after
                continue
            found.seen = request
            if found.series is not None:
                add_series(found.series)
                add_value(_value(body, stop - 15)[0] if written else 0.0)
                add_timestamp(timestamp)
            if (edge := found.edge) or len(frames) >= LONGEST:
                trail.end(body)
            if edge is not alone:
                add_frame((found, start, stop, written))
            at = stop
        trail.end(body)
        self._held += trail.cost

    def _careful(self, body: bytes, start: int, end: int, out: Samples) -> int:
        """Read the field at `start` byte for byte; where it ends."""
        tag, at = wire.varint(body, start, end)
        if tag != _TIMESERIES:
            if tag >> 3 in (4, 5):
                raise UnacceptableError("the body is remote write 2.0, send 1.0", 415)
            if tag >> 3 in (1, 3) and tag != _METADATA:
                raise UnacceptableError(f"field {tag >> 3} has wire type {tag & 7}")
            return wire.skip(body, tag, at, end)
        at, stop = wire.span(body, at, end)
        raw, samples = wire.time_series(body, at, stop, self._limits.samples)
        found = self._known.get(raw) or self._learn(raw)
        found.seen = self._request
        if (series := found.series) is not None:
            if len(out) + len(samples) > self._limits.samples:
                raise _too_many(self._limits)
            out.series.extend(repeat(series, len(samples)))
            out.values.extend(value for value, _ in samples)
            out.timestamps.extend(timestamp for _, timestamp in samples)
        return stop

    def _learn(self, raw: bytes) -> Known:
        """The series with these label bytes, from now on known."""
        asked = self._wanted is None or wire.metric_name(raw) in self._wanted
        series = Series(*wire.labels(raw)) if asked else None
        self.statistics.parsed += asked
        self._held += _ENTRY_COST + 3 * len(raw)
        found = self._known[raw] = Known(raw, series, self._request)
        return found

    def _evict(self) -> None:
        """Keep the most recently seen series, as many as fill half of the room."""
        runs = [entry.run for entry in self._known.values() if entry.run is not None]
        for run in runs:
            for entry in run.entries:
                entry.seen = max(entry.seen, run.seen)
        newest = sorted(self._known.items(), key=lambda item: item[1].seen, reverse=True)
        self._forget()
        for raw, entry in newest:
            if self._held > self._cache_bytes // 2:
                # Runs of this time or before may hold series that are dropped here.
                self._forget_runs(entry.seen)
                break
            self._known[raw] = entry
            self._held += _ENTRY_COST + 3 * len(raw)
            self._held += entry.run.cost if entry.run is not None else 0
        self.statistics.evictions += 1

    def _forget_runs(self, until: int) -> None:
        for entry in self._known.values():
            if entry.run is not None and entry.run.seen <= until:
                self._held -= entry.run.cost
                entry.run = None

    def _forget(self) -> None:
        self._known = {}
        self._held = 0


def _mark_ends(samples: Samples) -> None:
    """Replace stale markers by `ENDED`. The bits of a NaN survive `struct` on 64-bit machines."""
    for place, value in enumerate(samples.values):
        if value is ENDED or (isnan(value) and _DOUBLE.pack(value) == wire.STALE):
            samples.values[place] = ENDED
            samples.ends = True


def _too_many(limits: Limits) -> UnacceptableError:
    return UnacceptableError(f"more than {limits.samples} samples in one request", 413)
