"""Collections are put off for as long as anything needs it, and come back."""

import gc

import pytest

from killswitch.reactor import garbage


def test_the_usual_returns_with_the_end_of_the_last_block() -> None:
    """Blocks overlap: fires of one reactor do."""
    usual = gc.get_threshold()
    first, second = garbage.put_off(), garbage.put_off()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold() != usual
    assert gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.get_threshold() == usual


def test_a_failure_ends_its_block() -> None:
    """Nothing stays put off for ever."""
    usual = gc.get_threshold()
    with pytest.raises(ValueError, match="so"), garbage.put_off():
        raise ValueError("so")
    assert gc.get_threshold() == usual
