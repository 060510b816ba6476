"""How often and for how long what is asked is asked: the rules that askers and promises share."""

import math

MOST_PER_SECOND = 1500.0
"""Queries asked a second at most: of different text; they cost 17 % of a core (measured)."""
_HASTY, _ENDLESS = 1.0, 10.0
"""Seconds within which the deadline of a scrape lies."""


def turns(queries: int, *, interval: float, most_per_second: float = MOST_PER_SECOND) -> int:
    """In how many turns the queries are asked: each is polled every `interval` × turns seconds."""
    return math.ceil(queries / max(1.0, most_per_second * interval)) or 1


def scrape_deadline(interval: float) -> float:
    """Seconds that one own scrape may take: its interval, but neither hasty nor endless."""
    return min(max(_HASTY, interval), _ENDLESS)
