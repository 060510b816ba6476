"""Why a request was refused: one reason each, with its HTTP status, counted by path and reason.

Nothing here says which key, source or part of a signature was wrong.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Each is explained with its cure in docs/events.md."""

    TOO_LARGE = "TooLarge"
    TOO_SLOW = "TooSlow"
    TOO_MANY_IN_FLIGHT = "TooManyInFlight"
    ENCODED = "Encoded"
    NO_CREDENTIALS = "NoCredentials"
    BAD_CREDENTIALS = "BadCredentials"
    BAD_ID = "BadId"
    BAD_TIMESTAMP = "BadTimestamp"
    TOO_OLD = "TooOld"
    TOO_NEW = "TooNew"
    MALFORMED = "Malformed"
    WRONG_SOURCE = "WrongSource"
    ID_MISMATCH = "IdMismatch"
    RATE_LIMITED = "RateLimited"
    REPLAYED = "Replayed"
    NONCES_FULL = "NoncesFull"
    FAILED = "Failed"


STATUS = {
    Reason.TOO_LARGE: 413,
    Reason.TOO_SLOW: 408,
    Reason.TOO_MANY_IN_FLIGHT: 503,
    Reason.ENCODED: 415,
    Reason.NO_CREDENTIALS: 401,
    Reason.BAD_CREDENTIALS: 401,
    Reason.BAD_ID: 400,
    Reason.BAD_TIMESTAMP: 400,
    Reason.TOO_OLD: 403,
    Reason.TOO_NEW: 403,
    Reason.MALFORMED: 400,
    Reason.WRONG_SOURCE: 403,
    Reason.ID_MISMATCH: 400,
    Reason.RATE_LIMITED: 429,
    Reason.REPLAYED: 409,
    Reason.NONCES_FULL: 503,
    Reason.FAILED: 500,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that changes nothing."""

    reason: Reason
    message: str
    retry_after: float | None = None
    """Seconds after which the same may succeed."""

    @property
    def status(self) -> int:
        """Its HTTP status."""
        return STATUS[self.reason]
