import pytest

from killswitch.core.pacing import MOST_PER_SECOND, turns


@pytest.mark.parametrize(
    ("queries", "interval", "expected"),
    [(0, 1.0, 1), (1500, 1.0, 1), (1501, 1.0, 2), (1500, 0.1, 10), (15_000, 10.0, 1), (3, 1e-9, 3)],
)
def test_turns(queries: int, interval: float, expected: int) -> None:
    """As many as keep the questions of a second within the bound; at least one query a turn."""
    assert MOST_PER_SECOND == 1500.0
    assert turns(queries, interval=interval) == expected
