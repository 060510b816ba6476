"""Points in time as Kubernetes writes them: RFC 3339, UTC."""

from datetime import UTC, datetime


def text(seconds: float) -> str:
    """`2026-11-24T15:00:00.123456Z` of seconds since the epoch."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(text_: str) -> float:
    """Seconds since the epoch of an RFC 3339 text; ValueError for anything else."""
    moment = datetime.fromisoformat(text_)
    if moment.tzinfo is None:
        raise ValueError(f"{text_!r} has no time zone")
    return moment.timestamp()
