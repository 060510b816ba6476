"""How often each query is polled, and how long a scrape may take: rules that acts and promises share."""

import math

MOST_PER_SECOND = 1500.0
"""Queries asked a second at most: of different text; they cost 17 % of a core (measured)."""


def turns(queries: int, *, interval: float, most_per_second: float = MOST_PER_SECOND) -> int:
    """In how many turns the queries are asked: each is polled every `interval` × turns seconds."""
    return math.ceil(queries / max(1.0, most_per_second * interval)) or 1


def scrape_deadline(interval: float) -> float:
    """Seconds within which a pod that is scraped every `interval` seconds has to answer."""
    return min(max(1.0, interval), 10.0)
