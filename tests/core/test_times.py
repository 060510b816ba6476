import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.core import times


def test_text() -> None:
    """RFC 3339 with microseconds, as metav1.MicroTime writes them."""
    assert times.text(1_795_536_988.25) == "2026-11-24T16:16:28.250000Z"


@pytest.mark.parametrize(
    "text", ["2026-11-24T16:16:28Z", "2026-11-24T16:16:28.000000Z", "2026-11-24T17:16:28+01:00"]
)
def test_seconds_of_every_form_the_api_server_writes(text: str) -> None:
    """With and without fraction or offset."""
    assert times.seconds(text) == 1_795_536_988.0


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-24", "2026-11-24T16:16:28"])
def test_a_text_that_is_no_point_in_time_is_refused(text: str) -> None:
    """A time without a zone could be any of many."""
    with pytest.raises(ValueError, match=r"."):
        times.seconds(text)


@given(st.floats(0, 4e9))
def test_what_is_written_is_read_back(seconds: float) -> None:
    """To the microsecond."""
    assert seconds == pytest.approx(times.seconds(times.text(seconds)), abs=1e-6)
