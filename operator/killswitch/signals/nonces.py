"""Which events were seen: bounded in time and in number, so that none counts twice.

A nonce is kept for as long as its timestamp could pass, and that time again, since a wall clock
may step back. When a source's share is full, its *new* events are refused: dropping old nonces
instead would let whoever sends many replay one. Shares are apart, so a source fills only its own.

It lives in one process: another replica, or this one after a restart, accepts a repeated event
within the window of its timestamp. It is the same event with the same id.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum


class Seen(StrEnum):
    """What the cache says of a nonce."""

    NEW = "New"
    REPEATED = "Repeated"
    FULL = "Full"


@dataclass(slots=True)
class _Share:
    nonces: set[str] = field(default_factory=set)
    order: deque[tuple[float, str]] = field(default_factory=deque)
    """(When it may be forgotten, nonce) in order of arrival."""


class Nonces:
    """Nonces of authenticated events alone: only who has a key can fill it."""

    def __init__(self, *, window: float, per_source: int = 4096) -> None:
        """`window`: seconds by which a timestamp may be off, both ways."""
        self._keep = 4.0 * window
        self._per_source = per_source
        self._shares: dict[str, _Share] = {}

    def add(self, source: str, nonce: str, now: float) -> Seen:
        """Remember a nonce whose timestamp has passed; only NEW changes anything."""
        share = self._shares.setdefault(source, _Share())
        while share.order and share.order[0][0] <= now:
            share.nonces.discard(share.order.popleft()[1])
        if nonce in share.nonces:
            return Seen.REPEATED
        if len(share.nonces) >= self._per_source:
            return Seen.FULL
        share.nonces.add(nonce)
        share.order.append((now + self._keep, nonce))
        return Seen.NEW

    def knows(self, source: str, nonce: str) -> bool:
        """Whether it was seen; changes nothing."""
        share = self._shares.get(source)
        return share is not None and nonce in share.nonces

    def take_back(self, source: str, nonce: str) -> None:
        """The event could not be delivered after all: its sender may repeat it."""
        share = self._shares.get(source)
        if share is not None and nonce in share.nonces:
            share.nonces.discard(nonce)
            share.order = deque(each for each in share.order if each[1] != nonce)

    def __len__(self) -> int:
        """How many are remembered, of all sources."""
        return sum(len(share.nonces) for share in self._shares.values())
