import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.core import durations

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0s", 0), ("500ms", 0.5), ("30s", 30), ("1h30m", 5400), ("1m1ms", 60.001), ("90m", 5400)],
)
def test_seconds(text: str, expected: float) -> None:
    """Every unit, alone and together."""
    assert expected == durations.seconds(text)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "1.5s", "-1s", "1 s", "1s ", "1d", "1S", "1s\n", "1sm", "٣s"]
)
def test_anything_else_is_refused(text: str) -> None:
    """The error repeats the text and shows good ones."""
    with pytest.raises(ValueError, match="is not a duration such as 500ms, 30s or 1h30m"):
        durations.seconds(text)
    assert re.search(durations.PATTERN.replace("$", r"\Z"), text) is None


parts = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(sorted(UNITS))), min_size=1)


@given(parts)
def test_parts_add_up(given_: list[tuple[int, str]]) -> None:
    """What the schema's pattern accepts is read, part by part."""
    text = "".join(f"{count}{unit}" for count, unit in given_)
    assert re.fullmatch(durations.PATTERN, text)
    total = sum(count * UNITS[unit] for count, unit in given_)
    assert total == pytest.approx(durations.seconds(text))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0042, "4.2 ms"),
        (0.042, "42 ms"),
        (0.9996, "1.0 s"),
        (2.34, "2.3 s"),
        (59.97, "1 min 0 s"),
        (192, "3 min 12 s"),
        (3600, "60 min 0 s"),
    ],
)
def test_text(seconds: float, expected: str) -> None:
    """Short enough for a message, exact enough to act upon."""
    assert expected == durations.text(seconds)
