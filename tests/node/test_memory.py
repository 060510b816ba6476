"""The state file: whole or not at all."""

import dataclasses
from pathlib import Path

import pytest

from killswitch.core.containment import Want
from killswitch.node import memory
from killswitch.node.holds import Cause
from killswitch.node.memory import DamagedError, Held, Keeper, Memory
from tests.node.objects import freeze, pod

CAUSE = Cause("Freeze", "hold", ("f", "g"), 12.5, Want.KILL)
HELD = Held("u", 2, CAUSE, 1.5, None, 3, "77", True)
FULL = Memory(
    "this",
    orders=(freeze(),),
    pods=(pod("a", "u"),),
    ghosts=(pod("b", "v"),),
    held=(HELD,),
    deadlines={"f": 12.5},
    jitter=0.07,
    silence=31.0,
    looked=99.5,
    limits={"u": "77"},
    history=({"state": "Dead"},),
    isolation={"since": "2026-01-01T00:00:00Z", "action": "Kill", "pods": 1},
)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    """All of it; nothing else is left in the folder."""
    memory.save(tmp_path, FULL)
    assert memory.load(tmp_path, "this") == FULL
    assert [each.name for each in tmp_path.iterdir()] == [memory.FILE]
    assert (tmp_path / memory.FILE).stat().st_mode & 0o077 == 0


def test_another_boot_has_another_clock(tmp_path: Path) -> None:
    """Ends and silence of an earlier boot mean nothing; orders and pods do."""
    memory.save(tmp_path, FULL)
    found = memory.load(tmp_path, "next")
    held = dataclasses.replace(HELD, cause=dataclasses.replace(CAUSE, ends=None))
    assert found == dataclasses.replace(
        FULL, boot_id="next", held=(held,), deadlines={}, silence=0.0, looked=None
    )


def test_nothing_kept_is_nothing_known(tmp_path: Path) -> None:
    """A new node."""
    assert memory.load(tmp_path, "this") is None


def test_a_file_damaged_at_any_byte_is_never_trusted() -> None:
    """Flipped, cut short, or added to."""
    raw = memory.encode(FULL)
    for position in range(len(raw) - 1):
        wrong = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        with pytest.raises(DamagedError):
            memory.decode(wrong, "this")
        with pytest.raises(DamagedError):
            memory.decode(raw[:position], "this")
    with pytest.raises(DamagedError):
        memory.decode(raw + b"{}", "this")


def test_a_file_of_another_version_is_ignored() -> None:
    """Sound, and not understood."""
    import hashlib

    for text in ('{"boot_id":"this"}', "[]", '{"orders":1}'):
        digest = hashlib.sha256(text.encode()).hexdigest()
        with pytest.raises(DamagedError, match="another version"):
            memory.decode(f"{digest}\n{text}\n".encode(), "this")


def test_a_file_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    """Whatever stands in its place."""
    (tmp_path / memory.FILE).mkdir()
    with pytest.raises(DamagedError, match="cannot be read"):
        memory.load(tmp_path, "this")


def test_a_folder_that_cannot_be_written_is_a_problem_until_it_can(tmp_path: Path) -> None:
    """The guard goes on, and says so in its report."""
    keeper = Keeper(tmp_path / "missing")
    keeper.remember(FULL)
    keeper.flush()
    assert "cannot write" in keeper.problem
    (tmp_path / "missing").mkdir()
    keeper.remember(FULL)
    keeper.flush()
    assert keeper.problem == ""
    assert memory.load(tmp_path / "missing", "this") == FULL


def test_only_the_latest_is_written(tmp_path: Path) -> None:
    """And nothing where nothing is new."""
    keeper = Keeper(tmp_path)
    keeper.remember(Memory("old"))
    keeper.remember(FULL)
    keeper.flush()
    (tmp_path / memory.FILE).unlink()
    keeper.flush()
    assert memory.load(tmp_path, "this") is None
