"""Protobuf's wire format, read strictly: what remote write needs and nothing more.

The slow road of `remote_write`, taken once per series and for every unusual shape. Each function
stays inside the given end, and raises UnacceptableError for whatever it cannot read.
"""

from functools import lru_cache
from struct import Struct

from killswitch.core.errors import UnacceptableError
from killswitch.signals.series import ENDED, Labels

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
STALE = b"\x02\x00\x00\x00\x00\x00\xf0\x7f"
"""The NaN that marks the end of a series, as it lies on the wire."""

_DOUBLE = Struct("<d")
_LABEL, _SAMPLE, _EXEMPLAR, _HISTOGRAM = (number << 3 | BYTES for number in (1, 2, 3, 4))
_NAME = b"__name__"


def varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    """The unsigned number at `at`, and where it ends."""
    if at < end and body[at] < 0x80:
        return body[at], at + 1
    result = shift = 0
    while at < end:
        byte = body[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            if result >= 1 << 64:
                raise UnacceptableError(f"the number before byte {at} exceeds 64 bits")
            return result, at
        shift += 7
        if shift > 63:
            raise UnacceptableError(f"the number before byte {at} is longer than 10 bytes")
    raise UnacceptableError(f"the body ends inside a number at byte {at}")


def span(body: bytes, at: int, end: int) -> tuple[int, int]:
    """Start and end of the length-delimited content whose length is at `at`."""
    length, at = varint(body, at, end)
    if length > end - at:
        # A negative length arrives here as well: unsigned it is larger than any body.
        raise UnacceptableError(f"{length} bytes are announced at byte {at}, {end - at} are there")
    return at, at + length


def skip(body: bytes, tag: int, at: int, end: int) -> int:
    """Where the unknown field with this tag ends; its content starts at `at`."""
    kind = tag & 7
    if tag < 8:
        raise UnacceptableError(f"field number 0 before byte {at}")
    if kind == VARINT:
        return varint(body, at, end)[1]
    if kind == BYTES:
        return span(body, at, end)[1]
    if kind in (FIXED64, FIXED32):
        after = at + (8 if kind == FIXED64 else 4)
        if after <= end:
            return after
        raise UnacceptableError(f"the body ends inside a field at byte {at}")
    raise UnacceptableError(f"wire type {kind} before byte {at} is not in use")


def time_series(body: bytes, at: int, end: int, most: int) -> tuple[bytes, list[tuple[float, int]]]:
    """The raw label fields of a TimeSeries of at most so many fields, and its samples.

    Exemplars and native histograms are passed over.
    """
    labels: list[bytes] = []
    samples: list[tuple[float, int]] = []
    fields = 0
    while at < end:
        fields += 1
        if fields > most:
            raise UnacceptableError(f"a series has more than {most} fields", 413)
        field = at
        tag, at = varint(body, at, end)
        if tag == _LABEL:
            _, at = span(body, at, end)
            labels.append(body[field:at])
        elif tag == _SAMPLE:
            first, at = span(body, at, end)
            samples.append(_sample(body, first, at))
        elif tag >> 3 in (1, 2, 3, 4) and tag not in (_EXEMPLAR, _HISTOGRAM):
            raise UnacceptableError(f"a series' field has wire type {tag & 7} at byte {field}")
        else:
            at = skip(body, tag, at, end)
    return b"".join(labels), samples


def _sample(body: bytes, at: int, end: int) -> tuple[float, int]:
    """Value and timestamp of a Sample; proto3 leaves out what is zero."""
    value, timestamp = 0.0, 0
    while at < end:
        tag, at = varint(body, at, end)
        if tag == (1 << 3 | FIXED64):
            if end - at < 8:
                raise UnacceptableError(f"a value is cut short at byte {at}")
            stale = body.startswith(STALE, at)
            value = ENDED if stale else _DOUBLE.unpack_from(body, at)[0]
            at += 8
        elif tag == (2 << 3 | VARINT):
            timestamp, at = varint(body, at, end)
        elif tag >> 3 in (1, 2):
            raise UnacceptableError(f"a sample's field has wire type {tag & 7} before byte {at}")
        else:
            at = skip(body, tag, at, end)
    return value, timestamp - (1 << 64) if timestamp >> 63 else timestamp


def metric_name(raw: bytes) -> bytes:
    """The value of `__name__` among raw label fields; nothing else of them is decoded."""
    at, end = 0, len(raw)
    while at < end:
        name, value, at = _label(raw, at, end)
        if name == _NAME:
            if value:
                return value
            break
    raise UnacceptableError("a series has no metric name")


def labels(raw: bytes) -> tuple[str, Labels]:
    """Metric name and the other labels; an empty value is the same as no label."""
    found: list[tuple[str, str]] = []
    at, end = 0, len(raw)
    last, metric = b"", ""
    while at < end:
        name, value, at = _label(raw, at, end)
        if name <= last:
            fault = "a label without a name" if not name else f"label {name!r} after {last!r}"
            raise UnacceptableError(f"labels must be sorted and unique, found {fault}")
        last = name
        try:
            key, text = _text(name), _text(value)
        except UnicodeDecodeError:
            raise UnacceptableError(f"label {name!r} is not UTF-8") from None
        if name == _NAME:
            metric = text
        elif text:
            found.append(_pair(key, text))
    if not metric:
        raise UnacceptableError("a series has no metric name")
    return metric, tuple(found)


def _text(raw: bytes) -> str:
    """The text; the same object for the same short bytes, as most values recur in many series."""
    return _shared(raw) if len(raw) <= 128 else raw.decode()


@lru_cache(maxsize=8192)
def _shared(raw: bytes) -> str:
    return raw.decode()


@lru_cache(maxsize=8192)
def _pair(name: str, value: str) -> tuple[str, str]:
    """The same object for the same label: `job` and `namespace` recur in thousands of series."""
    return name, value


def _label(raw: bytes, at: int, end: int) -> tuple[bytes, bytes, int]:
    """Name, value and end of the label field at `at`."""
    if end - at > 5:
        # As nearly every label is written: name, then value, each shorter than 128 bytes.
        middle = at + 4 + raw[at + 3]
        if raw[at] == 0x0A == raw[at + 2] and middle + 1 < end and raw[middle] == 0x12:
            stop = middle + 2 + raw[middle + 1]
            if stop - at - 2 == raw[at + 1] < 0x80 and stop <= end:
                return raw[at + 4 : middle], raw[middle + 2 : stop], stop
    _, at = varint(raw, at, end)
    at, end = span(raw, at, end)
    name = value = b""
    while at < end:
        tag, at = varint(raw, at, end)
        if tag >> 3 in (1, 2):
            if tag & 7 != BYTES:
                raise UnacceptableError(f"a label's field has wire type {tag & 7}")
            first, at = span(raw, at, end)
            if tag >> 3 == 1:
                name = raw[first:at]
            else:
                value = raw[first:at]
        else:
            at = skip(raw, tag, at, end)
    return name, value, end
