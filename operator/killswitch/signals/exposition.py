"""The Prometheus text format (0.0.4) and OpenMetrics: of one scrape, the metrics that are needed.

An exporter writes thousands of lines where a policy needs a few, so the names are searched for as
bytes and nothing else is parsed. What stands before the value of a line is the key of a cache of
series: a known line costs one look-up and one `float`.

A body is taken whole or refused whole, with UnacceptableError. It must end with a line feed, and
as OpenMetrics with `# EOF`: a body that was cut inside a number would otherwise lie about it.
Lines of other metrics are not judged. Label values with a raw line feed are not read as such; the
format escapes them.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from math import isfinite, isinf

from killswitch.core.errors import UnacceptableError
from killswitch.signals.series import Labels, Samples, Series

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABEL = re.compile(rb'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*')
_ESCAPE = re.compile(rb"\\(.)")
_ESCAPED = {b"n": b"\n", b'"': b'"', b"\\": b"\\"}
_NUMBER = re.compile(
    rb"[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)\Z"
)
_WORDS = {b"inf", b"+inf", b"-inf", b"infinity", b"+infinity", b"-infinity", b"nan"}
_MILLISECONDS = re.compile(rb"-?[0-9]{1,18}\Z")
_EOF = re.compile(rb"(?:\A|\n)# EOF\r?\n?\Z")
_BLANKS = b" \t"
_AFTER_NAME = frozenset((b"{", b" ", b"\t", b"\r", b"\n"))


@dataclass(frozen=True, slots=True)
class Limits:
    """What one scrape may bring; beyond it is 413."""

    body: int = 16 << 20
    line: int = 64 << 10
    samples: int = 50_000


class Parser:
    """Reads scrapes of one target; keeps its cache of series between them. Not thread-safe.

    The cache is emptied when it holds `cache_lines` lines; series become new objects then.
    """

    def __init__(
        self, names: Collection[str], *, limits: Limits | None = None, cache_lines: int = 100_000
    ) -> None:
        """Ask for metrics by the names that samples bear: `x_total`, `y_bucket`.

        ValueError for a name that the classic format cannot write.
        """
        for name in names:
            if not _METRIC.match(name):
                raise ValueError(f"{name!r} is not a classic metric name")
        self._names = tuple(name.encode() for name in names)
        self._limits = limits or Limits()
        self._cache_lines = cache_lines
        self._known: dict[bytes, Series] = {}

    def parse(self, body: bytes, scraped_at: int, *, openmetrics: bool = False) -> Samples:
        """All samples of the asked-for metrics, metric by metric.

        Those without a timestamp of their own bear `scraped_at` (ms).
        """
        limits = self._limits
        if len(body) > limits.body:
            raise UnacceptableError(f"{len(body)} bytes exceed {limits.body}", 413)
        if openmetrics and not _EOF.search(body[-8:]):
            raise UnacceptableError("the body does not end with # EOF")
        if body and not openmetrics and not body.endswith(b"\n"):
            raise UnacceptableError("the body ends inside a line")
        samples = Samples()
        for name in self._names:
            self._find(body, name, samples, scraped_at, openmetrics)
        return samples

    def _find(
        self, body: bytes, name: bytes, out: Samples, scraped_at: int, openmetrics: bool
    ) -> None:
        """Add the samples of one metric."""
        find, length = body.find, len(name)
        at = find(name)
        while at >= 0:
            after = at + length
            if body[after : after + 1] in _AFTER_NAME and (
                body[at - 1 : at] == b"\n" or _begins_line(body, at)
            ):
                stop = find(b"\n", after)
                stop = stop if stop >= 0 else len(body)
                if stop - at > self._limits.line:
                    raise UnacceptableError(f"a line of {name.decode()} is too long", 413)
                if len(out) >= self._limits.samples:
                    raise UnacceptableError(f"more than {self._limits.samples} samples", 413)
                self._line(body[at:stop], length, out, scraped_at, openmetrics)
                after = stop
            at = find(name, after)

    def _line(
        self, line: bytes, name_length: int, out: Samples, scraped_at: int, openmetrics: bool
    ) -> None:
        head, _, text = line.rpartition(b" ")
        series = self._known.get(head)
        if series is None or not _NUMBER.match(text) or isinf(number := float(text)):
            self._new_line(line.rstrip(b" \t\r"), name_length, out, scraped_at, openmetrics)
            return
        out.values.append(number)
        out.series.append(series)
        out.timestamps.append(scraped_at)

    def _new_line(
        self, line: bytes, name_length: int, out: Samples, scraped_at: int, openmetrics: bool
    ) -> None:
        """Read a line whose series is not known, or that carries more than a value."""
        labels, at = _labels(line, name_length)
        fields = line[at:]
        if openmetrics:
            fields = fields.partition(b" # ")[0]  # an exemplar
        value, *rest = fields.split() or [b""]
        number = _number(value)
        if len(rest) > 1:
            raise UnacceptableError(f"{_shown(line)} has more than a value and a timestamp")
        timestamp = _timestamp(rest[0], openmetrics) if rest else scraped_at
        head = line[:at]
        series = self._known.get(head)
        if series is None:
            if len(self._known) >= self._cache_lines:
                self._known.clear()
            series = self._known[head] = Series(line[:name_length].decode(), labels)
        out.values.append(number)
        out.series.append(series)
        out.timestamps.append(timestamp)


def _begins_line(body: bytes, at: int) -> bool:
    """Whether nothing but blanks stands between the line's start and `at`."""
    while at and body[at - 1] in _BLANKS:
        at -= 1
    return at == 0 or body[at - 1] == 0x0A


def _labels(line: bytes, at: int) -> tuple[Labels, int]:
    """The labels that start at `at` or after blanks, sorted; and where they end."""
    opening = at
    while line[opening : opening + 1] in (b" ", b"\t"):
        opening += 1
    if line[opening : opening + 1] != b"{":
        return (), at
    at = opening + 1
    found: dict[str, str] = {}
    while match := _LABEL.match(line, at):
        try:
            name, value = match[1].decode(), _unescaped(match[2]).decode()
        except UnicodeDecodeError:
            raise UnacceptableError(f"a label of {_shown(line)} is not UTF-8") from None
        if name in found or name == "__name__":
            raise UnacceptableError(f"{_shown(line)} has the label {name} twice")
        found[name] = value
        at = match.end()
        if line[at : at + 1] != b",":
            break
        at += 1
    closing = at + len(line[at:]) - len(line[at:].lstrip(_BLANKS))
    if line[closing : closing + 1] != b"}":
        raise UnacceptableError(f"the labels of {_shown(line)} cannot be read")
    return tuple(sorted((name, value) for name, value in found.items() if value)), closing + 1


def _unescaped(value: bytes) -> bytes:
    if b"\\" not in value:
        return value
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[0]), value)


def _number(text: bytes) -> float:
    """The value as the format writes it; Python alone would take `1_000` as well."""
    if text.lower() in _WORDS:
        return float(text)
    if _NUMBER.match(text) and isfinite(number := float(text)):
        return number
    raise UnacceptableError(f"{_shown(text)} is not a value")


def _timestamp(text: bytes, openmetrics: bool) -> int:
    """Milliseconds; OpenMetrics writes seconds."""
    if openmetrics:
        seconds = _number(text)
        if isfinite(seconds) and abs(seconds) < 1e15:
            return round(seconds * 1000)
    elif _MILLISECONDS.match(text):
        return int(text)
    raise UnacceptableError(f"{_shown(text)} is not a timestamp")


def _shown(text: bytes) -> str:
    """The beginning of foreign bytes, safe for a message."""
    return repr(text[:80].decode("utf-8", "backslashreplace"))
