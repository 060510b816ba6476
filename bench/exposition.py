"""What an own scrape costs after the bytes are there, beside prometheus_client's parser.

Ours is asked for one metric and for five of the text of a busy model server; the official parser
has no other choice than to read all of it.
"""

import time
from collections.abc import Callable, Iterator

from prometheus_client.parser import text_string_to_metric_families

from bench import exporter
from bench.figures import Figure, figure, median
from bench.setting import Setting
from killswitch.signals.exposition import Parser

_ROUNDS = 40
_FEW, _MANY = 500, 10_000


def measure(_setting: Setting) -> Iterator[Figure]:
    """Figures named exposition_*. The control plane is not asked."""
    for lines in (_FEW, _MANY):
        body = exporter.lines(lines, ',le="+Inf"')
        names = {f"server_metric_{number:04}" for number in range(5)}
        one, five = Parser({"server_metric_0003"}), Parser(names)

        def official(body: bytes = body, names: set[str] = names) -> int:
            families = text_string_to_metric_families(body.decode())
            return sum(s.name in names for family in families for s in family.samples)

        def ours(parser: Parser, body: bytes = body) -> Callable[[], int]:
            return lambda: len(parser.parse(body, 0))

        single, several, reference = _milliseconds(ours(one), ours(five), official)
        for count, took in (("one", single), ("five", several)):
            yield figure(
                f"exposition_{count}_of_{lines}",
                took,
                "ms",
                baseline=reference,
                baseline_is="prometheus_client.parser",
                aim="<= 0.02 x",
                met=took <= 0.02 * reference,
                bytes=len(body),
            )


def _milliseconds(*reads: Callable[[], int]) -> list[float]:
    """Of CPU time for one reading by each, median of the rounds."""
    found: list[list[float]] = [[] for _ in reads]
    for _ in range(_ROUNDS):
        for read, times in zip(reads, found, strict=True):
            started = time.process_time()
            assert read() > 0
            times.append((time.process_time() - started) * 1000)
    return [median(times[1:]) for times in found]
