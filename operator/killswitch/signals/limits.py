"""Rate limits as token buckets: pure, with the time given."""

from dataclasses import dataclass

_MOST = 1024


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second on average, and so many at once after a pause."""

    per_second: float
    burst: int

    def __post_init__(self) -> None:
        """ValueError for a rate that would refuse everything."""
        if not (self.per_second > 0 and self.burst >= 1):
            raise ValueError("a rate needs per_second > 0 and burst >= 1")


@dataclass(slots=True)
class TokenBucket:
    """One sender's allowance. It starts full; time that goes backwards adds nothing."""

    rate: Rate
    tokens: float
    at: float

    @classmethod
    def full(cls, rate: Rate, now: float) -> "TokenBucket":
        """A bucket that nobody has taken from."""
        return cls(rate, float(rate.burst), now)

    def take(self, now: float) -> float:
        """0 and one token less, or the seconds until there is a token; then nothing changes."""
        self._refill(now)
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return 0.0
        return (1.0 - self.tokens) / self.rate.per_second

    def is_full(self, now: float) -> bool:
        """Whether it is as good as new."""
        self._refill(now)
        return self.tokens >= self.rate.burst

    def _refill(self, now: float) -> None:
        passed = max(0.0, now - self.at)
        self.tokens = min(float(self.rate.burst), self.tokens + passed * self.rate.per_second)
        self.at = now


class Limits:
    """A bucket for each source.

    Sources must be authenticated: a claimed name would let anybody use up another's allowance.
    """

    def __init__(self, rate: Rate, *, most: int = _MOST) -> None:
        """At most so many sources are remembered."""
        self._rate = rate
        self._most = most
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, source: str, now: float) -> float:
        """0 when the source may go on, else the seconds to wait."""
        bucket = self._buckets.get(source)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._forget_full(now)
            if len(self._buckets) >= self._most:
                return 1.0 / self._rate.per_second
            bucket = self._buckets[source] = TokenBucket.full(self._rate, now)
        return bucket.take(now)

    def _forget_full(self, now: float) -> None:
        full = [source for source, bucket in self._buckets.items() if bucket.is_full(now)]
        for source in full:
            del self._buckets[source]
