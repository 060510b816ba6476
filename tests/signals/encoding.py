"""Remote write as it is specified, written out independently of the decoder."""

import struct
from collections.abc import Iterable, Mapping

import cramjam

Sample = tuple[float, int]
STALE: float = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


def varint(number: int) -> bytes:
    """A base-128 number, the lowest seven bits first; negative ones as 64-bit two's complement."""
    rest, out = number % (1 << 64), bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def block(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def label(name: str | bytes, value: str | bytes) -> bytes:
    """A label field of a series."""
    raw = [text.encode() if isinstance(text, str) else text for text in (name, value)]
    return block(1, block(1, raw[0]) + block(2, raw[1]))


def sample(value: float, timestamp: int, *, elide: bool = True) -> bytes:
    """A sample field of a series; a zero is left out, as Prometheus does."""
    content = b"" if elide and value == 0 else b"\x09" + struct.pack("<d", value)
    if timestamp or not elide:
        content += b"\x10" + varint(timestamp)
    return block(2, content)


def series(labels: Mapping[str, str], samples: Iterable[Sample]) -> bytes:
    """A series field of a request, its labels sorted."""
    head = b"".join(label(*each) for each in sorted(labels.items()))
    return block(1, head + b"".join(sample(*each) for each in samples))


def request(content: Iterable[tuple[Mapping[str, str], Iterable[Sample]]]) -> bytes:
    """A WriteRequest."""
    return b"".join(series(*each) for each in content)


def snappy(message: bytes) -> bytes:
    """The message as it travels."""
    return bytes(cramjam.snappy.compress_raw(message))
